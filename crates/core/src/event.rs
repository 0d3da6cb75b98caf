//! Everything that the core can be told. This is the journal's vocabulary.
//!
//! An event is either **exogenous** (an operator, a user, a fault: a replay under another policy
//! keeps it) or a **response** to a named effect (a replay lets the world generate it anew).
//! [`Event::is_exogenous`] says which.

use lindos_model::finding::{Device, Finding, FindingClass};
use lindos_model::reservation::Reservation;
use lindos_model::{
    AttemptReport, EffectId, Epoch, JobId, JobSpec, Mended, NodeId, NodeSpec, Outcome, Policy,
    Rank, RequestId, Stacks, Stall, StandbyReport, Straggler, Symptom, Time,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A control plane took over this state, under this policy. Deadlines that ran while nobody
    /// listened begin anew.
    ControlPlaneStarted {
        policy: Box<Policy>,
    },

    /// A node enrols. Saying it again changes its address and its place, never its size.
    NodeJoined {
        spec: Box<NodeSpec>,
    },
    /// Response to `Launch`, `Stop` and `Forget`: all that lives on a node. `incarnation` grows
    /// with every start of its agent, `seq` with every report of one incarnation.
    NodeReported {
        node: NodeId,
        incarnation: u64,
        seq: u64,
        attempts: Vec<AttemptReport>,
    },
    /// Nothing was heard from the node since `last_heard`.
    NodeSilent {
        node: NodeId,
        last_heard: Time,
    },
    /// Response to the `Fence` of this id: nothing that ran on the node when it was asked for can
    /// still run.
    NodeFenced {
        node: NodeId,
        fence: EffectId,
    },
    NodeDrained {
        request: RequestId,
        node: NodeId,
        reason: String,
    },
    NodeUndrained {
        request: RequestId,
        node: NodeId,
    },

    JobSubmitted {
        request: RequestId,
        user: String,
        spec: Arc<JobSpec>,
    },
    JobCancelled {
        request: RequestId,
        job: JobId,
    },

    /// A running attempt got on: the highest step that any of its ranks has reached. The edge of
    /// a reading, at most one an interval (see [`crate::edges`]).
    StepReached {
        job: JobId,
        epoch: Epoch,
        step: u64,
        total_steps: Option<u64>,
        loss_micro: Option<i64>,
        /// Whoever reads the progress goes on watching it, and will say `ProgressStopped`: until
        /// then, silence is no hang.
        is_watched: bool,
    },
    /// A checkpoint is durable. `blocked_ms` is the time for which all checkpoints of this
    /// attempt have blocked training so far.
    CheckpointSaved {
        job: JobId,
        epoch: Epoch,
        step: u64,
        blocked_ms: u64,
    },

    /// Nothing, but the time: for [`crate::Core::next_wakeup`].
    Tick,

    NodesReserved {
        request: RequestId,
        reservation: Box<Reservation>,
    },
    ReservationCancelled {
        request: RequestId,
        name: String,
    },

    /// Response to `Launch` and `Stop`: all nodes of an attempt but some have said the same of it.
    /// What failed is never told so: that is a `NodeReported`.
    GangReported {
        job: JobId,
        epoch: Epoch,
        word: GangWord,
        but: Vec<NodeId>,
    },
    /// A job that was watched has shown no progress since then.
    ProgressStopped {
        job: JobId,
        epoch: Epoch,
        since: Time,
    },

    /// A check on a node has found something: once when it appears, and again when it gets worse.
    FindingSeen {
        node: NodeId,
        finding: Box<Finding>,
    },
    /// It holds no more.
    FindingGone {
        node: NodeId,
        class: FindingClass,
        device: Option<Device>,
    },
    /// Response to the `Remedy` or `BurnIn` of this id.
    RemedyOver {
        node: NodeId,
        remedy: EffectId,
        outcome: Outcome,
    },
    /// A person says what became of a node that was out of service.
    NodeMended {
        request: RequestId,
        node: NodeId,
        how: Mended,
    },

    /// The last words of a rank that failed. Told before the report of its end.
    SymptomSeen {
        job: JobId,
        epoch: Epoch,
        rank: Rank,
        symptom: Box<Symptom>,
    },
    /// A job has not got on for a while, and this is what its ranks do. Told once a silence, and
    /// again when it shows something else.
    StallSeen {
        job: JobId,
        epoch: Epoch,
        stall: Box<Stall>,
    },
    /// A rank's loss is not a number any more, or infinite.
    LossBroken {
        job: JobId,
        epoch: Epoch,
        rank: Rank,
        step: u64,
    },

    /// The others wait for a rank, window after window; told again now and then while that lasts.
    StragglerSeen {
        job: JobId,
        epoch: Epoch,
        straggler: Box<Straggler>,
    },
    /// It is not so any more.
    StragglerGone {
        job: JobId,
        epoch: Epoch,
        rank: Rank,
    },
    /// Where the ranks of a job stand that does not get on, by their own stacks. Told before what
    /// else is seen of the silence, and again when it is known of more of them.
    StacksSeen {
        job: JobId,
        epoch: Epoch,
        stacks: Box<Stacks>,
    },
    /// A rank says that its program can be started before its rank is known, and wait for it.
    StandbyOffered {
        job: JobId,
    },
    /// Response to `StandBy` and `StandDown`: all processes on a node that wait for a rank. Of the
    /// report of this number.
    StandbysReported {
        node: NodeId,
        incarnation: u64,
        seq: u64,
        standbys: Vec<StandbyReport>,
    },
    /// A test of two nodes is over: what each of them came to by itself, and what was carried between
    /// them. `Unsupported`: nobody there can try that, or it is not told. A test that says no more than
    /// whether it failed is answered by `RemedyOver`.
    PairTested {
        test: EffectId,
        node: Outcome,
        peer: Outcome,
        link: Outcome,
    },
    /// The ranks of one replica tell no new step for longer than the job's silences may be, while the
    /// others get on. The epoch is the replica's own, and `stall` is of its ranks alone.
    ReplicaSilent {
        job: JobId,
        epoch: Epoch,
        replica: u32,
        stall: Box<Stall>,
    },
}

/// What many nodes say at once of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GangWord {
    /// All its ranks there run.
    Running,
    /// All its ranks there have ended with status 0.
    Succeeded,
    /// Nothing of it lives there any more, and it was told to stop.
    Stopped,
}

impl Event {
    /// Whether the event comes from outside the loop of effects and answers. A rank that dies by
    /// itself is told by a `NodeReported`, which also answers commands: what of one is exogenous,
    /// a replay tells by the commands that came before it.
    pub fn is_exogenous(&self) -> bool {
        match self {
            Event::ControlPlaneStarted { .. }
            | Event::NodeJoined { .. }
            | Event::NodeSilent { .. }
            | Event::NodeDrained { .. }
            | Event::NodeUndrained { .. }
            | Event::JobSubmitted { .. }
            | Event::JobCancelled { .. }
            | Event::NodesReserved { .. }
            | Event::ReservationCancelled { .. }
            | Event::FindingSeen { .. }
            | Event::FindingGone { .. }
            | Event::NodeMended { .. } => true,
            Event::NodeReported { .. }
            | Event::NodeFenced { .. }
            | Event::StepReached { .. }
            | Event::CheckpointSaved { .. }
            | Event::GangReported { .. }
            | Event::ProgressStopped { .. }
            | Event::RemedyOver { .. }
            | Event::PairTested { .. }
            | Event::SymptomSeen { .. }
            | Event::StallSeen { .. }
            | Event::LossBroken { .. }
            | Event::StragglerSeen { .. }
            | Event::StragglerGone { .. }
            | Event::StacksSeen { .. }
            | Event::ReplicaSilent { .. }
            | Event::StandbyOffered { .. }
            | Event::StandbysReported { .. }
            | Event::Tick => false,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Event::ControlPlaneStarted { .. } => "control_plane_started",
            Event::NodeJoined { .. } => "node_joined",
            Event::NodeReported { .. } => "node_reported",
            Event::NodeSilent { .. } => "node_silent",
            Event::NodeFenced { .. } => "node_fenced",
            Event::NodeDrained { .. } => "node_drained",
            Event::NodeUndrained { .. } => "node_undrained",
            Event::JobSubmitted { .. } => "job_submitted",
            Event::JobCancelled { .. } => "job_cancelled",
            Event::NodesReserved { .. } => "nodes_reserved",
            Event::ReservationCancelled { .. } => "reservation_cancelled",
            Event::GangReported { .. } => "gang_reported",
            Event::ProgressStopped { .. } => "progress_stopped",
            Event::FindingSeen { .. } => "finding_seen",
            Event::FindingGone { .. } => "finding_gone",
            Event::RemedyOver { .. } => "remedy_over",
            Event::NodeMended { .. } => "node_mended",
            Event::SymptomSeen { .. } => "symptom_seen",
            Event::StallSeen { .. } => "stall_seen",
            Event::LossBroken { .. } => "loss_broken",
            Event::StragglerSeen { .. } => "straggler_seen",
            Event::StragglerGone { .. } => "straggler_gone",
            Event::StacksSeen { .. } => "stacks_seen",
            Event::ReplicaSilent { .. } => "replica_silent",
            Event::StandbyOffered { .. } => "standby_offered",
            Event::StandbysReported { .. } => "standbys_reported",
            Event::PairTested { .. } => "pair_tested",
            Event::StepReached { .. } => "step_reached",
            Event::CheckpointSaved { .. } => "checkpoint_saved",
            Event::Tick => "tick",
        }
    }
}
