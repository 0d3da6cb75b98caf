//! The newest readings of the jobs: not journalled, and gone with the control plane. Agents send
//! them again with every report, so after a restart they are back within a second.

use lindos_api::agent::RankProgress;
use lindos_model::{Epoch, JobId, Millis, Rank, RankStack, Time};
use std::collections::{BTreeMap, VecDeque};

/// Tokens per second are counted over this window: long enough to hold a few steps of a large
/// job, short enough to show a change.
const WINDOW: Millis = Millis::from_secs(60);
/// Readings of tokens kept of one job.
const SAMPLES_MAX: usize = 128;

#[derive(Debug, Default)]
pub struct Telemetry {
    jobs: BTreeMap<JobId, JobReadings>,
}

/// Of one attempt of one job; a newer one begins anew.
#[derive(Clone, Debug)]
pub(crate) struct JobReadings {
    /// Of the launch of the whole gang.
    pub(crate) attempt: Epoch,
    pub(crate) step: Option<u64>,
    pub(crate) total_steps: Option<u64>,
    /// At `step`, or the last one before it.
    pub(crate) loss: Option<f64>,
    pub(crate) first_loss: Option<f64>,
    /// Of each rank's newest launch: its replica may have one of its own.
    steps: BTreeMap<Rank, (Epoch, u64)>,
    /// Where those of them stand that have said so in a silence.
    stands: BTreeMap<Rank, (Epoch, RankStack)>,
    tokens: VecDeque<(Time, u64)>,
}

impl Telemetry {
    /// A reading of a rank in the attempt that began with this epoch.
    pub(crate) fn on_progress(&mut self, now: Time, attempt: Epoch, progress: &RankProgress) {
        let first_loss = self.jobs.get(&progress.job).and_then(|job| job.first_loss);
        let fresh = JobReadings {
            attempt,
            step: None,
            total_steps: None,
            loss: None,
            first_loss,
            steps: BTreeMap::new(),
            stands: BTreeMap::new(),
            tokens: VecDeque::new(),
        };
        let job = self.jobs.entry(progress.job).or_insert_with(|| fresh.clone());
        if attempt > job.attempt {
            *job = fresh;
        } else if attempt < job.attempt {
            return;
        }
        job.take(now, progress);
    }

    pub(crate) fn job(&self, job: JobId) -> Option<&JobReadings> {
        self.jobs.get(&job)
    }

    /// Forgets all jobs but those that are still known.
    pub(crate) fn retain(&mut self, is_known: impl Fn(JobId) -> bool) {
        self.jobs.retain(|&job, _| is_known(job));
    }
}

impl JobReadings {
    fn take(&mut self, now: Time, progress: &RankProgress) {
        let launch = self.steps.get(&progress.rank).map(|(epoch, _)| *epoch);
        if launch > Some(progress.epoch) {
            return;
        }
        if let Some(step) = progress.step {
            let newest = self.steps.entry(progress.rank).or_insert((progress.epoch, step));
            *newest = (progress.epoch, step).max(*newest);
        }
        match &progress.stack {
            Some(stack) => {
                self.stands.insert(progress.rank, (progress.epoch, stack.clone()));
            }
            None => drop(self.stands.remove(&progress.rank)),
        }
        let loss = progress.loss.filter(|loss| loss.is_finite());
        if progress.step >= self.step {
            self.step = progress.step;
            self.loss = loss.or(self.loss);
        }
        self.first_loss = self.first_loss.or(loss);
        self.total_steps = progress.total_steps.or(self.total_steps);
        if let Some(tokens) = progress.tokens {
            self.take_tokens(now, tokens);
        }
    }

    /// Only a growing count is a reading: ranks tell the same one, each a little later.
    fn take_tokens(&mut self, now: Time, tokens: u64) {
        if self.tokens.back().is_some_and(|&(_, newest)| tokens <= newest) {
            return;
        }
        self.tokens.push_back((now, tokens));
        // The last one before the window stays: the window's own growth begins there.
        while self.tokens.len() > SAMPLES_MAX
            || self.tokens.get(1).is_some_and(|&(at, _)| now.since(at) >= WINDOW)
        {
            self.tokens.pop_front();
        }
    }

    /// What a rank has told in its launch of this epoch.
    pub(crate) fn rank_step(&self, rank: Rank, epoch: Epoch) -> Option<u64> {
        self.steps.get(&rank).filter(|(of, _)| *of == epoch).map(|&(_, step)| step)
    }

    /// Where a rank stands in its launch of this epoch.
    pub(crate) fn rank_stack(&self, rank: Rank, epoch: Epoch) -> Option<&RankStack> {
        self.stands.get(&rank).filter(|(of, _)| *of == epoch).map(|(_, stack)| stack)
    }

    /// `None` until there are two readings that lie apart, and when there were none of late.
    pub(crate) fn tokens_per_second(&self, now: Time) -> Option<f64> {
        let (&(first_at, first), &(last_at, last)) = (self.tokens.front()?, self.tokens.back()?);
        let span = last_at.since(first_at);
        if span == Millis::ZERO || now.since(last_at) > WINDOW {
            return None;
        }
        Some((last - first) as f64 * 1000.0 / span.0 as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(epoch: u32, rank: u32, step: u64, loss: f64, tokens: u64) -> RankProgress {
        RankProgress {
            job: JobId(1),
            epoch: Epoch(epoch),
            rank: Rank(rank),
            step: Some(step),
            loss: Some(loss),
            tokens: Some(tokens),
            total_steps: Some(100),
            checkpoint: None,
            checkpoint_blocked_ms: 0,
            loss_broken_from: None,
            activity: None,
            pace: None,
            stack: None,
            stands_by: false,
        }
    }

    #[test]
    fn tokens_per_second_are_those_of_the_window() {
        let mut telemetry = Telemetry::default();
        for second in 0..200 {
            let tokens = second * if second < 100 { 10 } else { 1000 };
            telemetry.on_progress(
                Time(second * 1000),
                Epoch(1),
                &progress(1, 0, second, 1.0, tokens),
            );
        }
        let job = telemetry.job(JobId(1)).unwrap();
        let rate = job.tokens_per_second(Time(199_000)).unwrap();
        assert!((rate - 1000.0).abs() < 1e-9, "{rate}");
        assert_eq!(job.tokens_per_second(Time(300_000)), None, "an old rate is none");
        assert!(job.tokens.len() <= SAMPLES_MAX);
    }

    #[test]
    fn one_reading_or_two_at_once_are_no_rate() {
        let mut telemetry = Telemetry::default();
        telemetry.on_progress(Time(5), Epoch(1), &progress(1, 0, 1, 1.0, 10));
        telemetry.on_progress(Time(5), Epoch(1), &progress(1, 1, 1, 1.0, 20));
        assert_eq!(telemetry.job(JobId(1)).unwrap().tokens_per_second(Time(5)), None);
    }

    #[test]
    fn a_replica_that_was_launched_again_tells_its_own_steps_beside_the_others() {
        let mut telemetry = Telemetry::default();
        let attempt = Epoch(1);
        telemetry.on_progress(Time(1), attempt, &progress(1, 0, 10, 2.5, 100));
        telemetry.on_progress(Time(1), attempt, &progress(1, 1, 10, 2.5, 100));
        let steps = |telemetry: &Telemetry, epoch| {
            let job = telemetry.job(JobId(1)).unwrap();
            (job.step, job.rank_step(Rank(0), Epoch(1)), job.rank_step(Rank(1), Epoch(epoch)))
        };
        assert_eq!(steps(&telemetry, 2), (Some(10), Some(10), None), "it has told nothing yet");
        telemetry.on_progress(Time(2), attempt, &progress(2, 1, 8, 2.6, 80));
        telemetry.on_progress(Time(3), attempt, &progress(1, 0, 11, 2.4, 110));
        telemetry.on_progress(Time(4), attempt, &progress(1, 1, 99, 2.4, 110));
        assert_eq!(steps(&telemetry, 2), (Some(11), Some(11), Some(8)));
    }

    #[test]
    fn late_ranks_and_older_epochs_take_nothing_back() {
        let mut telemetry = Telemetry::default();
        telemetry.on_progress(Time(1), Epoch(2), &progress(2, 0, 10, 2.5, 100));
        telemetry.on_progress(Time(2), Epoch(2), &progress(2, 1, 9, 2.7, 90));
        telemetry.on_progress(Time(3), Epoch(1), &progress(1, 0, 99, 0.1, 9999));
        let job = telemetry.job(JobId(1)).unwrap();
        assert_eq!((job.step, job.loss, job.first_loss), (Some(10), Some(2.5), Some(2.5)));
        assert_eq!(
            (job.rank_step(Rank(0), Epoch(2)), job.rank_step(Rank(1), Epoch(2))),
            (Some(10), Some(9))
        );

        telemetry.on_progress(Time(4), Epoch(3), &progress(3, 0, 5, f64::NAN, 50));
        let job = telemetry.job(JobId(1)).unwrap();
        assert_eq!((job.step, job.loss, job.first_loss), (Some(5), None, Some(2.5)));
        telemetry.retain(|_| false);
        assert!(telemetry.job(JobId(1)).is_none());
    }
}
