//! The twin: the real core over months of a whole fleet, in seconds.
//!
//! The world here is made for decisions about fleets, as [`crate::world`] is for proofs about
//! protocols: agents always answer, nothing is lost on the way, and nothing happens for a step or a
//! heartbeat. What is there: faults by cause ([`crate::reliability`]), the time that starting,
//! saving, stopping and mending take ([`work`]), and the core, which decides everything else.
//! `docs/twin.md` says what is assumed.
//!
//! [`world`] is the clock and the core's side, [`life`] that of jobs, [`harm`] that of faults,
//! [`mend`] that of repairs, [`straggler`] who keeps others waiting, [`script`] and [`answers`] what is known to happen, [`measure`] what
//! is told at the end.

pub mod answers;
pub mod bench;
pub mod figures;
mod harm;
mod life;
pub mod measure;
mod mend;
pub mod metric;
pub mod scenario;
pub mod script;
mod straggler;
pub mod sweep;
#[cfg(test)]
mod tests;
pub mod work;
mod world;

use crate::reliability::FaultPlan;
use lindos_core::Event;
use lindos_model::{Exit, JobSpec, Millis, NodeSpec, Policy, Time};
use script::Script;
use std::sync::Arc;
pub use work::Work;
pub use world::{Joined, run};

/// How long what Lindos does takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// From an order to launch until all ranks of it run.
    pub launch: Millis,
    /// From an order to stop until nothing of it lives, when nothing is saved on the way.
    pub stop: Millis,
    /// From the order to fence a node until it is certain that nothing runs there.
    pub fence: Millis,
}

impl Default for Delays {
    fn default() -> Delays {
        Delays { launch: Millis(2000), stop: Millis(1000), fence: Millis::from_secs(30) }
    }
}

#[derive(Clone, Debug)]
pub struct TwinJob {
    pub at: Time,
    pub spec: Arc<JobSpec>,
    pub work: Work,
    /// Whether anybody hears of its steps.
    pub tells_steps: bool,
    /// Whether anybody hears of its checkpoints.
    pub tells_saves: bool,
    /// When its work is done, a rank ends so: the job has a fault of its own there.
    pub fails: Option<Exit>,
}

#[derive(Clone, Debug)]
pub struct Setup {
    pub nodes: Vec<NodeSpec>,
    pub policy: Policy,
    pub jobs: Vec<TwinJob>,
    /// Made for these nodes.
    pub faults: FaultPlan,
    pub delays: Delays,
    pub until: Time,
    /// What happens besides; with it, nodes join when it says, and the world goes on until `until`
    /// whatever becomes of the jobs.
    pub script: Option<Script>,
    /// The core's invariants are checked every so many events; 0: only at the end.
    pub check_every: u64,
}

/// Takes every event that the core is told, to keep it.
pub type Record<'r> = &'r mut dyn FnMut(Time, &Event);
