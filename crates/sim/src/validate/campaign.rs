//! One large job on a fleet that fails as a profile says, for some time.

use super::ground::{self, Stage};
use crate::reliability::Profile;
use crate::twin::{Joined, Work};
use lindos_model::{Millis, Time};
use std::sync::Arc;

/// What is played, but the seed.
#[derive(Clone, Debug)]
pub struct Campaign {
    pub profile: Profile,
    /// Nodes of the job.
    pub nodes: u32,
    /// Nodes beside them.
    pub spares: u32,
    pub span: Millis,
    pub work: Work,
    /// Progress that has stopped for so long is a hang.
    pub hang_timeout: Millis,
}

/// What became of the job.
#[derive(Clone, Debug)]
pub struct Played {
    /// Faults that stopped it, by cause of the profile.
    pub stopped_by: Vec<u64>,
    /// Faults by cause, wherever in the fleet.
    pub strikes: Vec<u64>,
    /// Days for which it held its nodes.
    pub held_days: f64,
    /// Of all the time, the share whose work is in a checkpoint.
    pub trained: f64,
}

impl Campaign {
    /// Plays it with each of the seeds 1 to `seeds`.
    pub fn play(&self, seeds: u64) -> Vec<Played> {
        let stage = Stage::usual(self.nodes + self.spares);
        let joined = stage.joined();
        (1..=seeds).map(|seed| self.play_one(&stage, &joined, seed)).collect()
    }

    fn play_one(&self, stage: &Stage, joined: &Joined, seed: u64) -> Played {
        let until = Time(self.span.0);
        let mut job = ground::one_job(self.nodes, self.work.clone());
        Arc::make_mut(&mut job.spec).hang_timeout = Some(self.hang_timeout);
        let plan = stage.plan(&self.profile, seed, until);
        let outcome = joined.run(&stage.setup(vec![job], plan, until), None, &mut |_| {});
        let job = &outcome.jobs[0];
        let mut stopped_by = vec![0; self.profile.causes.len()];
        for (&cause, &count) in &job.tally.causes {
            stopped_by[cause] = count;
        }
        let gpus = f64::from(self.nodes) * f64::from(ground::GPUS_PER_NODE);
        Played {
            stopped_by,
            strikes: outcome.strikes.clone(),
            held_days: job.ledger.total() as f64 / gpus / 86_400_000.0,
            trained: (job.steps_saved * self.work.step.0) as f64 / until.0 as f64,
        }
    }
}
