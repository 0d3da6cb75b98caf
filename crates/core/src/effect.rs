//! Everything that the core can ask for. A driver carries it out; nothing else acts.

use lindos_model::{
    EffectId, Epoch, GpuSet, JobId, JobSpec, Millis, NodeId, Rank, RequestId, TrailEntry,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the core asks for, in the order in which it was decided.
pub type Effects = Vec<Effect>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The answer to whoever sent the request. Given only once the request is durable.
    Reply { request: RequestId, reply: Reply },
    /// An order to the agent of a node. Carrying one out twice is the same as once.
    Command(Command),
    /// Make sure, from outside, that nothing on the node can run; then say `NodeFenced`.
    Fence { id: EffectId, node: NodeId },
    /// Something happened that people want to read about.
    Trail(TrailEntry),
}

/// An order to one agent. An agent that is not in `incarnation` any more drops it: it may have
/// been on its way while the node was fenced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub id: EffectId,
    pub node: NodeId,
    pub incarnation: u64,
    pub job: JobId,
    pub epoch: Epoch,
    pub order: Order,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start this node's ranks of an attempt.
    Launch(Box<Launch>),
    /// SIGTERM, the grace time, SIGKILL to all that is left; then report `Gone`. Also when the
    /// launch never came, and it must then never be carried out.
    Stop { grace: Millis },
    /// The core knows all about this attempt: its `Gone` need not be reported any more.
    Forget,
}

/// One node's part of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    pub spec: Arc<JobSpec>,
    pub gpus: GpuSet,
    /// This node's ranks: `first_rank .. first_rank + rank_count`.
    pub first_rank: Rank,
    pub rank_count: u32,
    pub world_size: u32,
    /// The gang, in rank order: this node is number `node_rank` of it.
    pub node_rank: u32,
    pub gang: Arc<Vec<GangNode>>,
    pub master_port: u16,
    /// The newest checkpoint that the control plane has heard of.
    pub resume_step: Option<u64>,
    /// Which job of its array it is; [`JobSpec::array`] says of how many.
    pub array_index: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GangNode {
    pub name: String,
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Submitted { job: JobId },
    Done,
    Rejected { reason: Rejection },
}

/// Why a request was not carried out. Bad input is normal: this is no error of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rejection {
    InvalidJob { key: String, message: String },
    NoSuchJob { job: JobId },
    JobIsOver { job: JobId, state: lindos_model::JobState },
    NoSuchNode { node: NodeId },
    InvalidReservation { key: String, message: String },
    NoSuchReservation { name: String },
}
