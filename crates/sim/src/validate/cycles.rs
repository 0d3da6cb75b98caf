//! What one job does from one failure to the next, and what arithmetic says that it should.
//!
//! Failures are exponential, so whatever follows one is independent of what was before: each span
//! between two is a cycle of its own, and the share of useful time is a ratio of sums over cycles.

use super::ground::{self, RESTART_ONLY, Stage};
use crate::twin::Joined;
use crate::twin::work::Every;
use lindos_core::Event;
use lindos_model::job::CheckpointEvery;
use lindos_model::{Millis, Time};
use statrs::distribution::{Binomial, Discrete, DiscreteCDF, NegativeBinomial};
use std::sync::Arc;

/// Fine enough that every interval of the formulas is whole steps.
const STEP: Millis = Millis(10);

/// From one failure to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cycle {
    /// Work that is in a durable checkpoint.
    pub saved: Millis,
    pub whole: Millis,
}

/// One job over so many nodes, each of which fails `rate` times a day.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub nodes: u32,
    pub rate: f64,
    pub habits: Habits,
    /// Whether it saves as Lindos advises, and not at its interval.
    pub is_advised: bool,
}

/// Plays the job until so many failures; it restarts on the same nodes. The end is at the last of
/// them: a number that is fixed leaves no cycle that the end would cut short.
pub fn play(stage: &Stage, joined: &Joined, load: &Load, seed: u64, failures: u64) -> Vec<Cycle> {
    let Habits { interval, checkpoint, restart } = load.habits;
    let mut work = ground::endless(STEP, interval, checkpoint, restart);
    if load.is_advised {
        work.checkpoints.every = Every::Advised;
    }
    let wanted = failures as f64;
    // Long enough in all but one of millions of cases, and then the end comes a little earlier.
    let mttf_s = ground::DAY_S / f64::from(load.nodes) / load.rate;
    let span = ground::seconds(mttf_s * (wanted + 5.0 * libm::sqrt(wanted) + 5.0));
    let plan = stage.plan(&ground::one_cause(load.rate, RESTART_ONLY), seed, Time(span.0));
    let last = plan.faults().get(failures as usize - 1);
    let until = last.map_or(Time(span.0), |fault| fault.at + Millis(1));
    let mut job = ground::one_job(load.nodes, work);
    if load.is_advised {
        Arc::make_mut(&mut job.spec).checkpoint_every = Some(CheckpointEvery::Auto);
    }
    let setup = stage.setup(vec![job], plan, until);
    let mut watch = Watch::default();
    joined.run(&setup, Some(&mut |at, event| watch.hear(at, event)), &mut |_| {});
    watch.cycles
}

/// Hears what the core is told of the only job.
#[derive(Clone, Debug, Default)]
struct Watch {
    steps_saved: u64,
    steps_before: u64,
    since: Time,
    cycles: Vec<Cycle>,
}

impl Watch {
    fn hear(&mut self, at: Time, event: &Event) {
        match event {
            Event::CheckpointSaved { step, .. } => self.steps_saved = *step,
            Event::NodeReported { attempts, .. } => {
                let ranks = attempts.iter().flat_map(|attempt| &attempt.ranks);
                if ranks.into_iter().any(|rank| rank.exit.is_some()) {
                    self.on_failure(at);
                }
            }
            _ => {}
        }
    }

    fn on_failure(&mut self, at: Time) {
        let saved = STEP.times(self.steps_saved - self.steps_before);
        self.cycles.push(Cycle { saved, whole: at.since(self.since) });
        self.steps_before = self.steps_saved;
        self.since = at;
    }
}

/// How one job spends its time: what the formulas know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Habits {
    /// Useful time between two checkpoints.
    pub interval: Millis,
    pub checkpoint: Millis,
    /// From a failure to the next useful step.
    pub restart: Millis,
}

impl Habits {
    /// The work that is safe when so long passes between two failures: whole intervals, each with
    /// its checkpoint, after the restart.
    pub fn saved_in(&self, whole: Millis) -> Millis {
        let left = whole.0.saturating_sub(self.restart.0);
        self.interval.times(left / (self.interval.0 + self.checkpoint.0))
    }

    /// The chance that a cycle saves anything, and that it saves once more after each time.
    pub fn chances(&self, mttf_s: f64) -> (f64, f64) {
        let [interval, checkpoint, restart] =
            [self.interval, self.checkpoint, self.restart].map(|span| span.0 as f64 / 1000.0);
        let again = libm::exp(-(interval + checkpoint) / mttf_s);
        (libm::exp(-restart / mttf_s) * again, again)
    }

    /// The chance of so many checkpoints or fewer in so many cycles, and of so many or more.
    ///
    /// Each cycle that saves anything saves a geometric number of times, so all of them together a
    /// negative binomial one.
    pub fn chances_of(&self, saves: u64, cycles: u64, mttf_s: f64) -> (f64, f64) {
        let (first, again) = self.chances(mttf_s);
        let that_save = Binomial::new(first, cycles).expect("it is a probability");
        let no_more_than = |most: u64| {
            let with = |count: u64| match NegativeBinomial::new(count as f64, 1.0 - again) {
                Ok(more) if count > 0 => that_save.pmf(count) * more.cdf(most - count),
                _ => that_save.pmf(count),
            };
            (0..=most.min(cycles)).map(with).sum::<f64>()
        };
        let at_least = saves.checked_sub(1).map_or(1.0, |fewer| 1.0 - no_more_than(fewer));
        (no_more_than(saves), at_least)
    }

    /// The standard deviation of one cycle's useful time from its usual share, as a part of the mean
    /// time to failure. With `n` cycles, the share that is measured is off by about this ÷ √n.
    pub fn deviation(&self, mttf_s: f64) -> f64 {
        let [interval, checkpoint, restart] =
            [self.interval, self.checkpoint, self.restart].map(|span| span.0 as f64 / 1000.0);
        let segment = (interval + checkpoint) / mttf_s;
        // Of the number of segments in a cycle: geometric, once the restart is over.
        let (again, begins) = (libm::exp(-segment), libm::exp(-restart / mttf_s));
        let mean = begins * again / (1.0 - again);
        let square = begins * again * (1.0 + again) / (1.0 - again) / (1.0 - again);
        // Of the number times the cycle's length, in mean times to failure.
        let product = (restart / mttf_s + 1.0) * mean
            + segment * begins * again / (1.0 - again) / (1.0 - again);
        let useful = interval / mttf_s;
        let share = useful * mean;
        let variance =
            useful * useful * square - 2.0 * share * useful * product + 2.0 * share * share;
        libm::sqrt(variance.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliability::chance::Chance;
    use crate::reliability::{formulas, stats};

    const HABITS: Habits =
        Habits { interval: Millis(400_000), checkpoint: Millis(60_000), restart: Millis(300_000) };

    #[test]
    fn whole_intervals_are_saved_and_nothing_of_a_restart_that_fails() {
        let saved = |whole| HABITS.saved_in(Millis(whole)).0;
        assert_eq!([saved(0), saved(300_000), saved(759_999)], [0, 0, 0]);
        assert_eq!(
            [saved(760_000), saved(1_219_999), saved(1_220_000)],
            [400_000, 400_000, 800_000]
        );
    }

    #[test]
    fn the_chance_of_few_checkpoints_is_that_of_many_draws() {
        let (mttf, cycles, lives) = (150.0, 40, 20_000);
        let mut chance = Chance::new(2, "saves");
        let mut saves = || {
            let in_cycle = |_| {
                let whole = Millis((mttf * 1000.0 * chance.exponential()) as u64);
                HABITS.saved_in(whole).0 / HABITS.interval.0
            };
            (0..cycles).map(in_cycle).sum::<u64>()
        };
        let drawn: Vec<u64> = (0..lives).map(|_| saves()).collect();
        for most in 0..4 {
            let share =
                drawn.iter().filter(|&&saves| saves <= most).count() as f64 / f64::from(lives);
            let (no_more, at_least) = HABITS.chances_of(most, cycles, mttf);
            assert!((share - no_more).abs() < 0.01, "{most}: {share} and {no_more}");
            let exactly = drawn.iter().filter(|&&saves| saves == most).count() as f64;
            assert!((no_more + at_least - 1.0 - exactly / f64::from(lives)).abs() < 0.01);
        }
    }

    #[test]
    fn arithmetic_over_exponential_failures_is_the_exact_formula() {
        let (mttf, count) = (1600.0, 400_000);
        let mut chance = Chance::new(1, "cycles");
        let cycles: Vec<(f64, f64)> = (0..count)
            .map(|_| Millis((mttf * 1000.0 * chance.exponential()) as u64))
            .map(|whole| (HABITS.saved_in(whole).0 as f64, whole.0 as f64))
            .collect();
        let share = stats::ratio_interval(&cycles, 0.999).unwrap();
        assert!(share.contains(formulas::ettr(400.0, 60.0, 300.0, mttf)), "{share:?}");
        assert!(share.high - share.low < 0.004);
        let half = HABITS.deviation(mttf) / (f64::from(count)).sqrt() * 3.29;
        assert!((half / (share.high - share.value) - 1.0).abs() < 0.02, "{half} for {share:?}");
    }
}
