//! Processes of a job that are started and wait for a rank: on its warm spares, or beside its ranks.
//!
//! They are none of the job's ranks, and belong to no attempt, until an attempt is launched on their
//! node and they go on as its ranks.

use crate::{EffectId, JobId};
use serde::{Deserialize, Serialize};

/// Those of one job on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyReport {
    pub job: JobId,
    /// The effect that asked for them.
    pub id: EffectId,
    pub state: StandbyState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandbyState {
    /// Some of them have not said that they wait.
    Starting,
    /// All wait.
    Ready,
    /// Nothing of them lives, and nobody asked for that.
    Ended { reason: String },
}
