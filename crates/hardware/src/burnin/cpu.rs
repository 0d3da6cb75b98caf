//! Every core computes what is known, again and again, and says how fast.

use super::kernel::{self, Path, REFERENCES, SEEDS};
use super::{Expected, Faults, Limit};
use lindos_model::burnin::{Bound, TestResult, Verdict};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Cores of one machine differ by a few percent; one that is a fifth slower is throttled, or not
/// what it was sold as.
const SLOW: f64 = 0.8;
/// A core that others use too says little of its speed.
const SHARED: f64 = 0.9;

/// What one core came to.
#[derive(Clone, Debug)]
struct Core {
    number: usize,
    rounds: u64,
    wrong: u64,
    /// The first wrong round: its operands, and what came out.
    first_wrong: Option<(usize, u64)>,
    /// Time on the core, and by the clock.
    used: Duration,
    took: Duration,
}

impl Core {
    fn rounds_per_second(&self) -> f64 {
        self.rounds as f64 / self.used.as_secs_f64().max(1e-9)
    }
}

/// The cores that this process may use.
pub fn cores() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect(),
        Err(_) => Vec::new(),
    }
}

pub fn run(limit: Limit, expected: &Expected, faults: &dyn Faults) -> Vec<TestResult> {
    let path = Path::widest();
    let answers: Vec<(usize, Result<Core, String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = cores()
            .into_iter()
            .map(|core| (core, scope.spawn(move || on_core(core, path, limit, faults))))
            .collect();
        threads
            .into_iter()
            .map(|(core, thread)| {
                (core, thread.join().unwrap_or_else(|_| Err("it panicked".to_string())))
            })
            .collect()
    });
    if answers.is_empty() {
        let why = "the system does not say which cores may be used";
        return vec![TestResult::skipped("cpu.bits", why), TestResult::skipped("cpu.speed", why)];
    }
    let mut cores = Vec::new();
    let mut unusable = String::new();
    for (number, answer) in answers {
        match answer {
            Ok(core) => cores.push(core),
            Err(why) => {
                let _ = write!(unusable, "; core {number} could not be used: {why}");
            }
        }
    }
    vec![bits(&cores, path, &unusable), speed(&cores, expected)]
}

fn on_core(number: usize, path: Path, limit: Limit, faults: &dyn Faults) -> Result<Core, String> {
    let mut only = CpuSet::new();
    only.set(number);
    sched_setaffinity(None, &only).map_err(|error| error.to_string())?;
    let began = Instant::now();
    let used_before = time_on_core();
    let mut core = Core {
        number,
        rounds: 0,
        wrong: 0,
        first_wrong: None,
        used: Duration::ZERO,
        took: Duration::ZERO,
    };
    // At least once around, however short the time.
    while core.rounds < SEEDS as u64 || !limit.is_over() {
        let seed = (core.rounds % SEEDS as u64) as usize;
        let round = core.rounds;
        let digest =
            kernel::round(path, seed, &mut |product| faults.product(number, round, product));
        if digest != REFERENCES[seed] {
            core.wrong += 1;
            core.first_wrong = core.first_wrong.or(Some((seed, digest)));
        }
        core.rounds += 1;
    }
    core.used = time_on_core().saturating_sub(used_before);
    core.took = began.elapsed();
    Ok(core)
}

/// What this thread has used of its core.
fn time_on_core() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn bits(cores: &[Core], path: Path, unusable: &str) -> TestResult {
    if cores.is_empty() {
        return TestResult::skipped("cpu.bits", unusable.trim_start_matches("; "));
    }
    let rounds: u64 = cores.iter().map(|core| core.rounds).sum();
    let wrong: u64 = cores.iter().map(|core| core.wrong).sum();
    let mut detail =
        format!("{rounds} rounds on {} cores ({}) against the reference", cores.len(), path.name());
    for core in cores {
        if let Some((seed, digest)) = core.first_wrong {
            let Core { number, rounds, wrong, .. } = core;
            let _ = write!(
                detail,
                "; core {number} computed {wrong} of {rounds} rounds wrongly, first {digest:016x} \
                 for {:016x}",
                REFERENCES[seed]
            );
        }
    }
    detail.push_str(unusable);
    let mut result = TestResult::errors("cpu.bits", wrong, detail);
    if !unusable.is_empty() && result.verdict == Verdict::Pass {
        result.verdict = Verdict::Warning;
    }
    result
}

/// The slowest core, in rounds a second of its own time.
fn speed(cores: &[Core], expected: &Expected) -> TestResult {
    let mut rates: Vec<(f64, usize)> =
        cores.iter().map(|core| (core.rounds_per_second(), core.number)).collect();
    rates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (Some(slowest), Some(fastest)) = (rates.first(), rates.last()) else {
        return TestResult::skipped("cpu.speed", "no core could be used");
    };
    let median = rates[rates.len() / 2].0;
    let mut detail = format!(
        "the slowest core ({}); the median has {median:.0}, the fastest {:.0}",
        slowest.1, fastest.0
    );
    let bound = expected.cpu_rounds_per_s.map(Bound::AtLeast);
    let slow: Vec<String> = rates
        .iter()
        .filter(|(rate, _)| *rate < SLOW * median)
        .map(|(_, number)| number.to_string())
        .collect();
    if !slow.is_empty() {
        let _ = write!(detail, "; more than a fifth below the median: core {}", slow.join(", "));
    }
    let used: f64 = cores.iter().map(|core| core.used.as_secs_f64()).sum();
    let took: f64 = cores.iter().map(|core| core.took.as_secs_f64()).sum();
    if used < SHARED * took {
        let percent = used / took * 100.0;
        let _ =
            write!(detail, "; others run here too: the cores were ours {percent:.0}% of the time");
    }
    let mut result = TestResult::judged("cpu.speed", slowest.0, "rounds/s", bound, detail);
    if !slow.is_empty() && result.verdict != Verdict::Fail {
        result.verdict = Verdict::Warning;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct OneCoreIsBad(usize);

    impl Faults for OneCoreIsBad {
        fn product(&self, core: usize, round: u64, product: &mut [f64]) {
            if core == self.0 && round == 2 {
                product[77] = f64::from_bits(product[77].to_bits() ^ (1 << 40));
            }
        }
    }

    #[test]
    fn a_bit_flipped_once_on_one_core_is_found_and_the_core_is_named() {
        let bad = *cores().last().unwrap();
        let limit = Limit::of(Duration::from_millis(1));
        let results = run(limit, &Expected::default(), &OneCoreIsBad(bad));
        assert_eq!(results[0].verdict, Verdict::Fail, "{results:?}");
        assert_eq!(results[0].figure, Some(1.0));
        assert!(results[0].detail.contains(&format!("core {bad} computed 1 of")), "{results:?}");
        let well = run(limit, &Expected::default(), &super::super::NoFaults);
        assert_eq!(well[0].verdict, Verdict::Pass, "{well:?}");
    }

    fn core(number: usize, rounds: u64) -> Core {
        let second = Duration::from_secs(1);
        Core { number, rounds, wrong: 0, first_wrong: None, used: second, took: second }
    }

    #[test]
    fn a_core_much_slower_than_its_peers_is_a_warning_and_below_the_figure_a_failure() {
        let cores = [core(0, 1000), core(1, 1010), core(2, 700), core(3, 990)];
        let result = speed(&cores, &Expected::default());
        assert_eq!(result.verdict, Verdict::Warning);
        assert!(result.detail.ends_with("below the median: core 2"), "{}", result.detail);
        assert_eq!(speed(&cores[..2], &Expected::default()).verdict, Verdict::Measured);
        let wanted = Expected { cpu_rounds_per_s: Some(900.0), ..Expected::default() };
        assert_eq!(speed(&cores, &wanted).verdict, Verdict::Fail);
        assert_eq!(speed(&cores[..2], &wanted).verdict, Verdict::Pass);
    }

    #[test]
    fn cores_that_others_use_too_are_told() {
        let mut shared = core(0, 10);
        shared.took = Duration::from_secs(2);
        assert!(speed(&[shared], &Expected::default()).detail.contains("ours 50% of the time"));
    }
}
