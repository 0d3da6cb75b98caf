//! The swarm: random fleets, jobs and faults over a network that loses, repeats, delays and
//! reorders, with the control plane killed at any event, and every checker watching.
//!
//! [`draw`] makes a case of a seed, [`harder`] what goes wrong in it beyond single nodes, and
//! [`shrink`] makes a case that fails small.

mod draw;
mod harder;
pub mod shrink;

pub use draw::setup;

use crate::fault::Plant;
use crate::world::{Setup, Violation, play as play_world};

/// Faults come within this time; jobs have this much again, and more, to end.
const FAULTY: u64 = 20 * 60_000;

/// What one seed came to.
#[derive(Clone, Debug)]
pub struct SeedResult {
    pub seed: u64,
    pub nodes: u32,
    pub node_ms: u64,
    pub happenings: u64,
    /// Faults that struck.
    pub faults: u32,
    pub violation: Option<Violation>,
}

/// Plays one seed. A panic of the core or of a checker is a violation, not the end of the swarm.
pub fn play(seed: u64, plant: Option<Plant>) -> SeedResult {
    play_setup(setup(seed, plant))
}

/// Plays one case.
pub fn play_setup(setup: Setup) -> SeedResult {
    let (seed, nodes) = (setup.seed, setup.nodes.len() as u32);
    let nothing = SeedResult { seed, nodes, node_ms: 0, happenings: 0, faults: 0, violation: None };
    match play_world(setup) {
        Ok(outcome) => SeedResult {
            node_ms: outcome.node_ms,
            happenings: outcome.happenings,
            faults: outcome.faults,
            ..nothing
        },
        Err(violation) => SeedResult { violation: Some(violation), ..nothing },
    }
}

/// The line that plays a seed again.
pub fn reproduce(seed: u64) -> String {
    format!("lindos sim swarm --first-seed {seed} --seeds 1")
}
