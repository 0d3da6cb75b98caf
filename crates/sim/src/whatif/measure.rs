//! What a job showed of itself, as the work that the twin is to do.

use crate::reliability::stats::quantile;
use crate::twin::Work;
use crate::twin::work::{Checkpoints, Every};
use lindos_model::{Exit, Millis, NodeId, Time};

/// A step of the twin is at least so long; shorter ones are taken together, so that whole
/// milliseconds are exact enough.
const STEP_MIN_US: u64 = 50_000;
/// The work of a job that nobody saw the end of: more than any replay has time for.
const FOR_EVER: Millis = Millis::from_secs(100 * 365 * 86_400);
/// A stretch was held up by something if it took longer than the middle one by at least so much, and
/// by so many times what stretches usually differ.
const STALL_MIN: Millis = Millis(1000);
const FAR_OUTSIDE: f64 = 6.0;
/// Whoever goes on within this part of the way has begun anew, and was not looked at at once.
const FROM_THE_BEGINNING: u64 = 10;
/// An estimate of a job's steps that is so near to what the job said is what it said.
const STEPS_TOLERANCE: f64 = 0.01;

/// Everything that was seen of one job, over all its attempts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// From when all ranks ran to the first step.
    pub fresh_starts: Vec<u64>,
    pub resumed_starts: Vec<u64>,
    /// Of replicas that came back.
    pub joins: Vec<u64>,
    /// Steps that were done when the first was told, since those that the attempt began with.
    pub leads: Vec<u64>,
    /// From one checkpoint to the next, without what they blocked.
    pub stretches: Vec<Stretch>,
    /// The same between any two words of the job: where there are no checkpoints.
    pub rough_pace: (u64, u64),
    /// What each checkpoint blocked, how much later it was durable, and the steps since the last.
    pub blocks: Vec<u64>,
    pub lags: Vec<u64>,
    pub gaps: Vec<u64>,
    /// Of those that came when Lindos had advised them.
    pub advised: u64,
    /// Of attempts that went on from a checkpoint of which nobody had said anything, or from the
    /// beginning: the step that the one before had reached, and the first that this one told.
    pub went_on: Vec<(u64, u64)>,
    pub total_steps: Option<u64>,
    pub has_told_steps: bool,
}

/// Some steps in a row, none of which a checkpoint held up; `ms` counts less where replicas were
/// away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub at: Time,
    pub seq: u64,
    pub ms: u64,
    pub steps: u64,
    /// One of those on which it trained.
    pub node: NodeId,
}

/// How the job came to its end, if it did.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// Nobody knows how much work was left: it ran on, was cancelled, or faults were its end.
    Open,
    Completed(Reached),
    /// It ended by a fault of its own.
    Failed(Reached, Exit),
}

/// How far it was at its end: these steps, and then so many milliseconds of training; of a job that
/// tells no steps, the milliseconds that its last attempt ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    pub steps: u64,
    pub more_ms: u64,
}

/// How much of a job anybody saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All of it, or it said how much there is.
    ToItsEnd,
    /// Not its end: it goes on for as long as it may.
    AtWork,
    /// It never got to work: this is the work of another.
    NotAtAll,
}

/// The work of a job, and what of it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct PastWork {
    pub work: Work,
    pub tells_steps: bool,
    /// Whether anybody hears of its checkpoints.
    pub tells_saves: bool,
    pub fails: Option<Exit>,
    pub seen: Seen,
    /// Steps of the job in one of the twin's.
    pub steps_in_one: u64,
}

fn seen(is_open: bool) -> Seen {
    if is_open { Seen::AtWork } else { Seen::ToItsEnd }
}

fn median(values: &[u64]) -> Option<Millis> {
    let values: Vec<f64> = values.iter().map(|&value| value as f64).collect();
    quantile(&values, 0.5).map(|value| Millis(value.round() as u64))
}

impl Stretch {
    pub fn step_ms(&self) -> f64 {
        self.step_us() / 1000.0
    }

    fn step_us(&self) -> f64 {
        self.ms as f64 * 1000.0 / self.steps.max(1) as f64
    }

    /// Milliseconds more than at such a pace.
    fn excess(&self, step_us: f64) -> f64 {
        self.ms as f64 - self.steps as f64 * step_us / 1000.0
    }
}

impl Samples {
    pub fn work(&self, ending: &Ending) -> PastWork {
        if self.has_told_steps { self.stepping(ending) } else { silent(ending) }
    }

    fn stepping(&self, ending: &Ending) -> PastWork {
        let step_us = self.step_us();
        let steps_in_one = if step_us >= STEP_MIN_US { 1 } else { STEP_MIN_US.div_ceil(step_us) };
        let step_ms = ((step_us * steps_in_one + 500) / 1000).max(1);
        // Time is kept, whatever the rounding of a step.
        let convert =
            |steps: u64| (steps as f64 * step_us as f64 / 1000.0 / step_ms as f64).round();
        let of = |steps: u64| (convert(steps) as u64).max(1);
        // Work that is done before the first step is told is part of the start.
        let lead = median(&self.leads).map_or(0, |steps| steps.0);
        let after = |steps: u64| of(steps.saturating_sub(lead));
        let (steps, fails) = match ending {
            Ending::Open => (self.total_steps.map_or(FOR_EVER.0 / step_ms, after), None),
            Ending::Completed(reached) => (after(self.steps_at(*reached, step_us)), None),
            Ending::Failed(reached, exit) => {
                (after(reached.steps + reached.more_ms * 1000 / step_us), Some(exit.clone()))
            }
        };
        let startup = median(&self.fresh_starts).or(median(&self.resumed_starts));
        let start = startup.unwrap_or(Millis::ZERO);
        let restore = median(&self.resumed_starts).map_or(Millis::ZERO, |all| all - start);
        let join = median(&self.joins).map_or(Millis::ZERO, |all| all - start);
        let work = Work {
            startup: start,
            restore,
            join,
            checkpoints: Checkpoints {
                every: self.every(of),
                blocks: median(&self.blocks).unwrap_or(Millis::ZERO),
                durable_after: median(&self.lags).unwrap_or(Millis::ZERO),
            },
            ..Work::of(steps, Millis(step_ms))
        };
        PastWork {
            work,
            tells_steps: true,
            tells_saves: !self.blocks.is_empty(),
            fails,
            seen: seen(*ending == Ending::Open && self.total_steps.is_none()),
            steps_in_one,
        }
    }

    fn step_us(&self) -> u64 {
        let of = |(ms, steps): (u64, u64)| (ms * 1000).checked_div(steps).filter(|&us| us > 0);
        let usual = self.usual_pace().and_then(of);
        usual.or(of(self.rough_pace)).unwrap_or(1_000_000)
    }

    /// Milliseconds and steps of the stretches that nothing held up.
    fn usual_pace(&self) -> Option<(u64, u64)> {
        let (middle, most) = self.usual()?;
        let usual = self.stretches.iter().filter(|stretch| stretch.excess(middle) <= most);
        Some(usual.fold((0, 0), |(ms, steps), one| (ms + one.ms, steps + one.steps)))
    }

    /// Microseconds a step in the middle one of the stretches, and by how many milliseconds a
    /// stretch may be slower: they differ among each other, and what is far outside of that was held
    /// up by something.
    fn usual(&self) -> Option<(f64, f64)> {
        let paces: Vec<f64> = self.stretches.iter().map(Stretch::step_us).collect();
        let middle = quantile(&paces, 0.5)?;
        let apart = self.stretches.iter().map(|stretch| stretch.excess(middle).abs());
        let usual = quantile(&apart.collect::<Vec<f64>>(), 0.5)?;
        Some((middle, (usual * FAR_OUTSIDE).max(STALL_MIN.0 as f64)))
    }

    /// The stretches that took longer than usual, and by how much.
    pub fn stalls(&self) -> Vec<(Stretch, Millis)> {
        let (Some((middle, most)), Some((ms, steps))) = (self.usual(), self.usual_pace()) else {
            return Vec::new();
        };
        let stall = |one: &Stretch| {
            let usual = u128::from(one.steps) * u128::from(ms) / u128::from(steps.max(1));
            (*one, Millis(one.ms.saturating_sub(usual as u64)))
        };
        self.stretches.iter().filter(|one| one.excess(middle) > most).map(stall).collect()
    }

    /// All steps of a job that has completed.
    fn steps_at(&self, reached: Reached, step_us: u64) -> u64 {
        let seen = reached.steps as f64 + reached.more_ms as f64 * 1000.0 / step_us as f64;
        match self.total_steps {
            Some(total) if (seen - total as f64).abs() <= STEPS_TOLERANCE * total as f64 + 1.0 => {
                total
            }
            _ => seen.round() as u64,
        }
    }

    /// As it did, or as Lindos advised, if that is what it did.
    fn every(&self, of: impl Fn(u64) -> u64) -> Every {
        let seen = self.gaps.len() as u64;
        if seen > 0 && self.advised * 10 >= seen * 9 {
            return Every::Advised;
        }
        let told = median(&self.gaps).map(|steps| steps.0);
        told.or_else(|| self.untold_gap()).map_or(Every::Never, |steps| Every::Steps(of(steps)))
    }

    /// How often it saves, by how far it fell back: between nothing and the whole interval, each as
    /// likely, so that the most of n is about n / (n + 1) of it.
    fn untold_gap(&self) -> Option<u64> {
        let is_from_checkpoint =
            |&&(reached, first): &&(u64, u64)| first > reached / FROM_THE_BEGINNING + 2;
        let back = self.went_on.iter().filter(is_from_checkpoint);
        let back: Vec<u64> =
            back.map(|(reached, first)| (reached + 1).saturating_sub(*first)).collect();
        let (most, count) = (*back.iter().max()?, back.len() as u64);
        Some((most * (count + 1)).div_ceil(count).max(1))
    }
}

/// Of a job that tells no steps, only how long it ran is known: it is counted in milliseconds.
fn silent(ending: &Ending) -> PastWork {
    let (ms, fails) = match ending {
        Ending::Open => (FOR_EVER.0, None),
        Ending::Completed(reached) => (reached.more_ms.max(1), None),
        Ending::Failed(reached, exit) => (reached.more_ms.max(1), Some(exit.clone())),
    };
    PastWork {
        work: Work::of(ms, Millis(1)),
        tells_steps: false,
        tells_saves: false,
        fails,
        seen: seen(*ending == Ending::Open),
        steps_in_one: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(ms: u64, steps: u64) -> Vec<Stretch> {
        vec![Stretch { at: Time(0), seq: 1, ms, steps, node: NodeId(0) }]
    }

    #[test]
    fn what_was_slow_for_a_while_is_set_apart_from_the_usual_pace() {
        let of = |ms| stretch(ms, 100)[0];
        let stretches = [100_000, 100_500, 100_000, 130_000, 100_300].map(of).to_vec();
        let samples = Samples { stretches, has_told_steps: true, ..Samples::default() };
        assert_eq!(samples.step_us(), 1_002_000, "of the four others");
        let stalls = samples.stalls();
        assert_eq!(stalls.len(), 1);
        assert_eq!((stalls[0].0.ms, stalls[0].1), (130_000, Millis(29_800)));
    }

    #[test]
    fn a_job_that_told_all_is_known_to_the_millisecond() {
        let samples = Samples {
            fresh_starts: vec![120_000],
            resumed_starts: vec![180_000, 180_000],
            stretches: stretch(5_000_000, 500),
            blocks: vec![10_000, 10_000],
            lags: vec![60_000],
            gaps: vec![120, 120, 7],
            total_steps: Some(1000),
            has_told_steps: true,
            ..Samples::default()
        };
        let past = samples.work(&Ending::Completed(Reached { steps: 960, more_ms: 400_000 }));
        let expected = Work {
            startup: Millis(120_000),
            restore: Millis(60_000),
            checkpoints: Checkpoints {
                every: Every::Steps(120),
                blocks: Millis(10_000),
                durable_after: Millis(60_000),
            },
            ..Work::of(1000, Millis(10_000))
        };
        assert_eq!((past.work, past.steps_in_one), (expected, 1));
    }

    #[test]
    fn short_steps_are_taken_together_and_keep_their_time() {
        let samples = Samples {
            rough_pace: (1000, 300),
            gaps: vec![150],
            has_told_steps: true,
            ..Samples::default()
        };
        let past = samples.work(&Ending::Completed(Reached { steps: 600, more_ms: 0 }));
        assert_eq!(past.steps_in_one, 16);
        let (steps, step) = (past.work.steps, past.work.step.0);
        assert!((steps * step).abs_diff(2000) <= step / 2, "{steps} steps of {step} ms");
        let Every::Steps(every) = past.work.checkpoints.every else { panic!("{past:?}") };
        assert!((every * step).abs_diff(500) <= step / 2);
    }

    #[test]
    fn a_job_that_stopped_before_its_told_end_has_done_what_it_has_done() {
        let samples = Samples {
            stretches: stretch(100_000, 100),
            total_steps: Some(10_000),
            has_told_steps: true,
            ..Samples::default()
        };
        let early = samples.work(&Ending::Completed(Reached { steps: 500, more_ms: 0 }));
        assert_eq!(early.work.steps, 500);
        let open = samples.work(&Ending::Open);
        assert_eq!((open.work.steps, open.seen), (10_000, Seen::ToItsEnd));
        let failed = samples.work(&Ending::Failed(
            Reached { steps: 40, more_ms: 2500 },
            lindos_model::Exit::Code(3),
        ));
        assert_eq!((failed.work.steps, failed.fails), (42, Some(lindos_model::Exit::Code(3))));
    }

    #[test]
    fn a_job_that_says_nothing_of_its_checkpoints_is_known_by_where_it_goes_on() {
        let with = |went_on: &[(u64, u64)]| {
            let went_on = went_on.to_vec();
            let samples = Samples {
                stretches: stretch(1000, 1),
                went_on,
                has_told_steps: true,
                ..<_>::default()
            };
            let past = samples.work(&Ending::Open);
            assert!(!past.tells_saves);
            past.work.checkpoints.every
        };
        assert_eq!(with(&[]), Every::Never);
        assert_eq!(with(&[(25, 21)]), Every::Steps(10));
        assert_eq!(with(&[(25, 21), (48, 41), (33, 31)]), Every::Steps(11));
        assert_eq!(with(&[(100, 2), (500, 1)]), Every::Never, "it begins anew");
    }

    #[test]
    fn who_saves_when_lindos_says_so_goes_on_to_do_so() {
        let mut samples = Samples {
            stretches: stretch(1000, 1),
            gaps: vec![10; 20],
            advised: 20,
            has_told_steps: true,
            ..Samples::default()
        };
        assert_eq!(samples.work(&Ending::Open).work.checkpoints.every, Every::Advised);
        samples.advised = 10;
        assert_eq!(samples.work(&Ending::Open).work.checkpoints.every, Every::Steps(10));
    }
}
