//! Everything that the core can ask for. A driver carries it out; nothing else acts.

use lindos_model::finding::Device;
use lindos_model::{
    EffectId, Epoch, GpuSet, JobId, JobSpec, Millis, NodeId, Rank, Remedy, RequestId, TrailEntry,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the core asks for, in the order in which it was decided.
pub type Effects = Vec<Effect>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The answer to whoever sent the request. Given only once the request is durable.
    Reply { request: RequestId, reply: Reply },
    /// An order to agents. Carrying one out twice is the same as once.
    Command(Command),
    /// Make sure, from outside, that nothing on the node can run; then say `NodeFenced`.
    Fence { id: EffectId, node: NodeId },
    /// Try to mend the node so; then say `RemedyOver`. Nothing runs there.
    Remedy { id: EffectId, node: NodeId, remedy: Remedy, device: Option<Device> },
    /// Prove the node for so long; then say `RemedyOver`. With a `peer`, prove the two together, and
    /// the link between them; the answer is about both, comes once, and is a `PairTested` where it is
    /// known which of the three did not do.
    ///
    /// A node that is in service and idle may be proved, too: an agent that is told to launch ends
    /// the burn-in of its node first, by itself, whether `CancelBurnIn` has come or not. What has
    /// ended before its time says nothing of the node, and need not be told.
    BurnIn { id: EffectId, node: NodeId, span: Millis, peer: Option<NodeId> },
    /// End the burn-in of this id before its time, on the node and on its peer. Nobody waits for a
    /// word of it.
    CancelBurnIn { id: EffectId, node: NodeId },
    /// Something happened that people want to read about.
    Trail(Arc<TrailEntry>),
}

/// One order to the agents of some nodes of a gang: a driver tells each of them its own part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub id: EffectId,
    pub job: JobId,
    pub epoch: Epoch,
    pub order: Order,
    pub to: Vec<Target>,
}

/// One of those that an order goes to. An agent that is not in `incarnation` any more drops it: it
/// may have been on its way while the node was fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub node: NodeId,
    pub incarnation: u64,
    /// Its number among all nodes of the job, from 0.
    pub member: u32,
    /// What it has for the job; nothing where that does not matter.
    pub gpus: GpuSet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start the ranks of an attempt.
    Launch(Arc<Launch>),
    /// SIGTERM, the grace time, SIGKILL to all that is left; then report `Gone`. Also when the
    /// launch never came, and it must then never be carried out.
    Stop { grace: Millis },
    /// The core knows all about this attempt: its `Gone` need not be reported any more.
    Forget,
    /// Start the job's processes, which then wait for a rank. Those that wait on a node when an
    /// attempt of their job is launched there go on as its ranks. Nothing is started where processes
    /// of the job wait already, and what works there for anybody else goes first.
    StandBy(Arc<StandBy>),
    /// End those that this effect asked for, and report them no more. Not when they have become ranks.
    StandDown { standby: EffectId },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandBy {
    /// The first effect that asked for them: an order that is given again has another.
    pub id: EffectId,
    pub spec: Arc<JobSpec>,
    /// Which job of its array it is.
    pub array_index: Option<u32>,
    /// They wait beside ranks that have the node's GPUs.
    pub beside: bool,
}

/// The launch of a gang, or of one replica of it; the same for all its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    pub spec: Arc<JobSpec>,
    /// Its nodes, in rank order.
    pub gang: Arc<Vec<NodeId>>,
    pub master_port: u16,
    /// The newest checkpoint that the control plane has heard of, and that is not spoilt; 0 when all
    /// that were saved are.
    pub resume_step: Option<u64>,
    /// How often the job should save its work, if it asked.
    pub save_every: Option<Millis>,
    /// Which job of its array it is; [`JobSpec::array`] says of how many.
    pub array_index: Option<u32>,
    pub replica: Option<LaunchReplica>,
}

/// Of a job whose gang is made of replicas: which one is launched, and where all of them meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchReplica {
    pub index: u32,
    pub replicas_min: u32,
    /// By replica: the node of its first rank, and the port at which that meets the others.
    pub peers: Arc<Vec<(NodeId, u16)>>,
}

impl Launch {
    /// The number of a member within `gang`.
    pub fn node_rank(&self, member: u32) -> u32 {
        let before = self.replica.as_ref().map_or(0, |replica| replica.index);
        member - before * self.gang.len() as u32
    }

    /// A member's first rank, counted over the whole job.
    pub fn first_rank(&self, member: u32) -> Rank {
        Rank(member * u32::from(self.spec.ranks_per_node))
    }

    pub fn ranks_per_node(&self) -> u32 {
        u32::from(self.spec.ranks_per_node)
    }
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
    InvalidJob {
        key: String,
        message: String,
    },
    NoSuchJob {
        job: JobId,
    },
    JobIsOver {
        job: JobId,
        state: lindos_model::JobState,
    },
    NoSuchNode {
        node: NodeId,
    },
    InvalidReservation {
        key: String,
        message: String,
    },
    NoSuchReservation {
        name: String,
    },
    NotInRepair {
        node: NodeId,
    },
    /// Jobs have not left it yet.
    StillInUse {
        node: NodeId,
    },
}
