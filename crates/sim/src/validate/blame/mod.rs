//! How often the core blames the right one: faults with known culprits, and weeks without any.
//!
//! Each seed is a job of 4 to 256 nodes to which some twenty faults are done ([`fault`]); the core
//! itself gathers and weighs ([`lindos_core::blame`]), and its verdict is held against the truth. A
//! verdict names somebody when it is likelier than not; to say "nobody in particular" is not wrong,
//! but it is no answer either where there is one. Weeks of healthy jobs ([`pauses`]) count the
//! silences that were called hangs. Days of jobs with a slow node now and then ([`stragglers`]) count
//! those of them that were named, and whoever was named and was not slow.

mod fault;
mod pauses;
mod stage;
mod stragglers;

use crate::random::Stream;
use fault::{KINDS, Kind, Truth};
use lindos_core::job::PastAttempt;
#[cfg(test)]
use lindos_model::EndReason;
use lindos_model::Millis;
use lindos_model::blame::Culprit;
use serde::Serialize;
use stage::Stage;

/// Faults of one seed, at least.
const FAULTS: usize = 20;
/// A verdict that is said to be surer than this, up to the next, is counted with its like.
const SURENESS: [u8; 4] = [70, 80, 90, 98];

/// How many are played.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub seeds: u64,
    pub job_weeks: u64,
    /// Of jobs with slow nodes: each of their readings is played, so these cost most.
    pub straggler_days: u64,
}

impl Options {
    pub const USUAL: Options = Options { seeds: 500, job_weeks: 1000, straggler_days: 700 };
    pub const QUICK: Options = Options { seeds: 40, job_weeks: 20, straggler_days: 28 };

    /// For so many seeds of faults, in the usual proportions.
    pub fn of_seeds(seeds: u64) -> Options {
        let Options { seeds: usual, job_weeks, straggler_days } = Options::USUAL;
        let part = |all: u64| (all * seeds).div_ceil(usual);
        Options { seeds, job_weeks: part(job_weeks), straggler_days: part(straggler_days) }
    }

    /// Everything is played by its number.
    pub fn count(&self) -> u64 {
        self.seeds + self.job_weeks + self.straggler_days
    }

    pub fn play(&self, number: u64) -> Tally {
        let week = number.checked_sub(self.seeds);
        let day = week.and_then(|week| week.checked_sub(self.job_weeks));
        match (week, day) {
            (_, Some(day)) => play_day(day + 1),
            (Some(week), None) => play_week(week + 1),
            (None, None) => play_faults(number + 1),
        }
    }
}

/// What came out of faults of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    pub faults: u64,
    /// The culprit, and nobody else, was named.
    pub right: u64,
    /// It was one of a few that were named.
    pub among_few: u64,
    /// Somebody else was named.
    pub wrong: u64,
    /// Nobody was named.
    pub unsure: u64,
    /// Faults of which nobody could be named.
    pub nameless: u64,
}

impl Score {
    fn add(&mut self, other: &Score) {
        self.faults += other.faults;
        self.right += other.right;
        self.among_few += other.among_few;
        self.wrong += other.wrong;
        self.unsure += other.unsure;
        self.nameless += other.nameless;
    }

    /// Of those that were named, how many rightly. With none named, none was wrong.
    pub fn precision(&self) -> f64 {
        share(self.right + self.among_few, self.right + self.among_few + self.wrong)
    }

    /// Of those that could be named, how many were, alone.
    pub fn recall(&self) -> f64 {
        share(self.right, self.faults - self.nameless)
    }
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 1.0 } else { part as f64 / of as f64 }
}

/// Verdicts that were said to be so sure, and how many of them were right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sureness {
    pub from_percent: u8,
    pub verdicts: u64,
    pub right: u64,
}

/// What some seeds gave; sums add up.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    kinds: [Score; KINDS.len()],
    sureness: [(u64, u64); SURENESS.len()],
    /// Faults that were charged to the right side, user or infrastructure.
    charged_right: u64,
    weeks: pauses::Weeks,
    days: stragglers::Days,
}

/// All of it. The first four are what programs rely on.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub faults: u64,
    pub precision: f64,
    pub recall: f64,
    pub false_alarms_per_job_week: f64,
    pub job_weeks: u64,
    pub pauses: u64,
    pub false_alarms: u64,
    /// Of all faults, the share whose retry was charged to the side whose fault it was.
    pub charged_right: f64,
    pub kinds: Vec<KindReport>,
    pub sureness: Vec<Sureness>,
    pub straggler_job_weeks: f64,
    /// Whoever was named as a straggler, and was not slow.
    pub straggler_false_alarms: u64,
    pub straggler_false_alarms_per_job_week: f64,
    /// Nodes that were slow for a while, in jobs whose ranks do not spin while they wait …
    pub slow_nodes: u64,
    /// … the share of them that was named, …
    pub straggler_recall: f64,
    /// … and of all who were named, the share that was slow.
    pub straggler_precision: f64,
    pub stragglers: Vec<StragglerReport>,
}

/// Slow nodes of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct StragglerReport {
    /// So many times as long does a step take there, mostly; `None`: any of these.
    pub factor: Option<f64>,
    /// Whether the job's ranks `sleep` while they wait, `spin`, or `spin_and_tell` how long they wait.
    pub ranks: &'static str,
    pub slow_nodes: u64,
    pub named: u64,
    pub recall: f64,
    /// The median of those that were named.
    pub named_after_s: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct KindReport {
    pub kind: &'static str,
    #[serde(flatten)]
    pub score: Score,
    pub precision: f64,
    pub recall: f64,
}

/// Faults of one seed.
pub fn play_faults(seed: u64) -> Tally {
    let mut random = Stream::new(seed, "blame");
    let mut tally = Tally::default();
    let nodes = *random.pick(&[4, 16, 64, 256]);
    let mut stage = Stage::new(nodes);
    // Half of the jobs use the package.
    let mut stacks = Stream::new(seed, "stacks");
    stage.stacks = stacks.chance(500_000).then_some(stacks);
    let mut faults = 0;
    while faults < FAULTS {
        let kind = Kind::draw(&mut random);
        let step = random.between(3, 30);
        for _ in 0..kind.repeats(&mut random) {
            stage.trains_to(step, Millis(random.between(500, 4000)));
            let gang = stage.gang();
            let truth = fault::strike(&mut stage, kind, &mut random);
            let past = stage.fault();
            tally.judge(kind, &truth, &past);
            for node in gang {
                stage.forgets_findings(node);
            }
            faults += 1;
        }
    }
    tally
}

/// One week of one healthy job.
pub fn play_week(seed: u64) -> Tally {
    Tally { weeks: pauses::week(seed), ..Tally::default() }
}

/// One day of one job with slow nodes in it.
pub fn play_day(seed: u64) -> Tally {
    Tally { days: stragglers::day(seed), ..Tally::default() }
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        for (mine, its) in self.kinds.iter_mut().zip(&other.kinds) {
            mine.add(its);
        }
        for (mine, its) in self.sureness.iter_mut().zip(&other.sureness) {
            mine.0 += its.0;
            mine.1 += its.1;
        }
        self.charged_right += other.charged_right;
        self.weeks.played += other.weeks.played;
        self.weeks.pauses += other.weeks.pauses;
        self.weeks.alarms += other.weeks.alarms;
        self.days.add(&other.days);
    }

    fn judge(&mut self, kind: Kind, truth: &Truth, past: &PastAttempt) {
        let at = KINDS.iter().position(|(other, _)| *other == kind).expect("a kind");
        let score = &mut self.kinds[at];
        score.faults += 1;
        score.nameless += u64::from(*truth == Truth::Elsewhere);
        let is_users = *truth == Truth::User;
        let charged_user = past.charge == lindos_model::reason::Charge::User;
        self.charged_right += u64::from(is_users == charged_user);
        let Some(blame) = &past.blame else {
            score.unsure += 1;
            return;
        };
        let is_right = match (&blame.culprit, truth) {
            (Culprit::Unknown, _) => {
                score.unsure += 1;
                return;
            }
            (Culprit::User, truth) => *truth == Truth::User,
            (Culprit::Node(name), Truth::Node(node)) => *name == Stage::name(*node),
            (Culprit::Shared { nodes, .. }, Truth::Place(lost)) => *nodes as usize == lost.len(),
            (Culprit::OneOf(names), Truth::Node(node)) if names.contains(&Stage::name(*node)) => {
                score.among_few += 1;
                return;
            }
            _ => false,
        };
        score.right += u64::from(is_right);
        score.wrong += u64::from(!is_right);
        let sure = SURENESS.iter().rposition(|&least| blame.percent >= least).unwrap_or(0);
        self.sureness[sure].0 += 1;
        self.sureness[sure].1 += u64::from(is_right);
    }

    pub fn report(&self) -> Report {
        let mut all = Score::default();
        for score in &self.kinds {
            all.add(score);
        }
        let kinds = KINDS.iter().zip(&self.kinds).map(|((kind, _), score)| KindReport {
            kind: kind.title(),
            score: *score,
            precision: score.precision(),
            recall: score.recall(),
        });
        let sureness = SURENESS.iter().zip(&self.sureness);
        let days = &self.days;
        let slow_nodes: u64 = days.slowed.iter().map(|it| it.nodes).sum();
        let named: u64 = days.slowed.iter().map(stragglers::Slowed::named).sum();
        let all_named = named + days.spinning.named() + days.telling.named();
        Report {
            faults: all.faults,
            precision: all.precision(),
            recall: all.recall(),
            false_alarms_per_job_week: share_or_none(self.weeks.alarms, self.weeks.played),
            job_weeks: self.weeks.played,
            pauses: self.weeks.pauses,
            false_alarms: self.weeks.alarms,
            charged_right: share(self.charged_right, all.faults),
            kinds: kinds.collect(),
            sureness: sureness
                .map(|(&from_percent, &(verdicts, right))| Sureness {
                    from_percent,
                    verdicts,
                    right,
                })
                .collect(),
            straggler_job_weeks: days.played as f64 / 7.0,
            straggler_false_alarms: days.alarms,
            straggler_false_alarms_per_job_week: share_or_none(days.alarms * 7, days.played),
            slow_nodes,
            straggler_recall: share(named, slow_nodes),
            straggler_precision: share(all_named, all_named + days.alarms),
            stragglers: straggler_reports(days),
        }
    }
}

fn straggler_reports(days: &stragglers::Days) -> Vec<StragglerReport> {
    let report = |factor, ranks, slowed: &stragglers::Slowed| StragglerReport {
        factor,
        ranks,
        slow_nodes: slowed.nodes,
        named: slowed.named(),
        recall: share(slowed.named(), slowed.nodes),
        named_after_s: slowed.median_ms().map(|ms| ms as f64 / 1000.0),
    };
    let by_factor = stragglers::FACTORS.iter().zip(&days.slowed);
    let by_factor =
        by_factor.map(|(&percent, slowed)| report(Some(percent as f64 / 100.0), "sleep", slowed));
    let others =
        [report(None, "spin", &days.spinning), report(None, "spin_and_tell", &days.telling)];
    by_factor.chain(others).collect()
}

fn share_or_none(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

/// Whether an end is one of those that the kinds lead to.
#[cfg(test)]
fn is_a_fault(reason: &EndReason) -> bool {
    !reason.is_by_the_queue() && *reason != EndReason::Completed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick() -> Report {
        let mut tally = Tally::default();
        for number in 0..Options::QUICK.count() {
            tally.add(&Options::QUICK.play(number));
        }
        tally.report()
    }

    #[test]
    fn the_right_one_is_blamed_and_who_is_well_is_left_alone() {
        let report = quick();
        assert!(report.faults >= 800, "{report:?}");
        assert!(report.precision > 0.95, "{report:#?}");
        assert!(report.recall > 0.72, "{report:#?}");
        assert_eq!(report.false_alarms, 0, "{report:#?}");
        assert!(report.pauses > 1000);
        assert_eq!(report.straggler_false_alarms, 0, "{report:#?}");
        assert!(report.slow_nodes > 40, "{report:#?}");
        let much_slower = report.stragglers.iter().filter(|it| it.factor >= Some(1.35));
        let (there, named) =
            much_slower.fold((0, 0), |sum, it| (sum.0 + it.slow_nodes, sum.1 + it.named));
        assert!(there > 20 && named * 10 >= there * 9, "{report:#?}");
    }

    #[test]
    fn a_seed_gives_the_same_each_time() {
        let one = |seed| format!("{:?}", play_faults(seed).report());
        assert_eq!(one(7), one(7));
        assert_ne!(one(7), one(8));
    }

    #[test]
    fn every_kind_ends_its_attempt_by_a_fault() {
        for (kind, _) in KINDS {
            let mut random = Stream::new(3, "each");
            let mut stage = Stage::new(16);
            stage.trains_to(5, Millis(1000));
            fault::strike(&mut stage, kind, &mut random);
            let past = stage.fault();
            assert!(is_a_fault(&past.reason), "{kind:?}: {}", past.reason);
            assert!(past.blame.is_some(), "{kind:?}: {}", past.reason);
        }
    }
}
