//! How often a job should save its work, when it leaves that to Lindos.
//!
//! Too often wastes the time that saving takes, too seldom the work that a fault undoes. The
//! interval that loses least follows from what one checkpoint costs (it blocks training for δ) and
//! the mean time between faults of the job (M): J. T. Daly, "A higher order estimate of the optimum
//! checkpoint interval for restart dumps", 2006:
//! τ = √(2δM)·\[1 + ⅓·√(δ/2M) + ⅑·(δ/2M)\] − δ for δ < 2M, and M otherwise. Here in whole
//! milliseconds, so that every replay comes to the same.
//!
//! δ is what the job's last checkpoint blocked. M is what its own attempts have shown, with one
//! fault more that was not seen: at the rate of all jobs of the fleet, and before there are any, at
//! [`NODE_MTBF`]. So the advice is sound from the first launch and follows what happens.

use crate::Core;
use crate::job::Job;
use lindos_model::job::CheckpointEvery;
use lindos_model::reason::Charge;
use lindos_model::{JobId, Millis};
use serde::{Deserialize, Serialize};

/// Between faults of one node, before the fleet has shown any: 200 days, about 5 faults in 1,000
/// node-days, amid what operators have published.
const NODE_MTBF: Millis = Millis::from_secs(200 * 86_400);
/// What a checkpoint blocks, before the job has shown it.
const COST: Millis = Millis::from_secs(10);
const SHORTEST: Millis = Millis::from_secs(1);
const LONGEST: Millis = Millis::from_secs(86_400);
/// Of the faults of a gang of replicas, one in so many is taken to end all of it.
const WHOLE: u64 = 20;

/// What the attempts that are over have shown of the fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    node_ms: u64,
    faults: u64,
}

impl Exposure {
    /// Between faults of one node.
    fn node_mtbf(&self) -> u64 {
        self.node_ms.saturating_add(NODE_MTBF.0) / (self.faults + 1)
    }
}

/// What an interval was chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    pub every: Millis,
    pub cost: Millis,
    pub mtbf: Millis,
}

/// Daly's interval between the end of one checkpoint and the beginning of the next.
pub fn daly(cost: Millis, mtbf: Millis) -> Millis {
    let (cost, mtbf) = (u128::from(cost.0), u128::from(mtbf.0.max(1)));
    if cost >= 2 * mtbf {
        return Millis(mtbf as u64);
    }
    let plus = (2 * cost * mtbf).isqrt() + cost / 3 + (cost * cost * cost / (2 * mtbf)).isqrt() / 9;
    Millis(plus.saturating_sub(cost) as u64)
}

impl Core {
    /// An attempt is over: what it has shown.
    pub(super) fn note_exposure(&mut self, id: JobId, charge: Charge) {
        let job = &self.jobs[&id];
        let Some(past) = job.history.last() else { return };
        let span = past.ended_at.since(past.launched_at).0;
        let node_ms = span.saturating_mul(past.nodes.len() as u64);
        self.exposure.node_ms = self.exposure.node_ms.saturating_add(node_ms);
        self.exposure.faults += u64::from(charge == Charge::Infrastructure);
    }

    /// The interval for a job's next attempt, if it wants one.
    pub(crate) fn checkpoint_advice(&self, job: &Job) -> Option<Advice> {
        let cost = job.checkpoint_cost.unwrap_or(COST);
        match job.spec.checkpoint_every? {
            CheckpointEvery::Given(every) => Some(Advice { every, cost, mtbf: Millis::ZERO }),
            CheckpointEvery::Auto => {
                let whole = if job.spec.replicas > 1 { WHOLE } else { 1 };
                let nodes = u64::from(job.spec.nodes.max(1));
                let unseen = self.exposure.node_mtbf().saturating_mul(whole) / nodes;
                let faults = u64::from(job.infrastructure_used) + 1;
                let mtbf = Millis(unseen.saturating_add(job.held_ms) / faults);
                let every = daly(cost, mtbf).max(SHORTEST).min(LONGEST);
                Some(Advice { every, cost, mtbf })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For the published rate of 6.5 faults in 1,000 node-days.
    #[test]
    fn the_interval_is_dalys() {
        for (gpus, cost, expected) in [
            (1024, 60_000, 3_490_200),
            (16_384, 60_000, 843_000),
            (16_384, 1000, 113_300),
            (131_072, 10_000, 120_800),
            (1_000_000, 1000, 13_900),
        ] {
            let mtbf = Millis(86_400_000 * 8 * 10_000 / (gpus * 65));
            let every = daly(Millis(cost), mtbf).0;
            assert!(every.abs_diff(expected) < 60, "{gpus} GPUs, {cost} ms: {every}");
        }
        assert_eq!(daly(Millis(300), Millis(100)), Millis(100), "it is hopeless anyway");
    }
}
