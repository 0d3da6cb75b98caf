//! The trail: what happened and why, in the order in which the core decided it.

use crate::blame::Blame;
use crate::finding::{FindingClass, Severity};
use crate::pace::Straggler;
use crate::reason::Charge;
use crate::repair::{Mended, Outcome};
use crate::{EndReason, Epoch, JobId, Level, Millis, Rank, Remedy, Time, WaitReason};
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailEntry {
    /// From 1, without gaps.
    pub seq: u64,
    pub at: Time,
    pub job: Option<JobId>,
    pub epoch: Option<Epoch>,
    pub node: Option<String>,
    pub what: TrailKind,
}

/// Why a node on which something was found stays in service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptIn {
    /// So many are out there already, of as many as may be.
    TooManyOut { scope: OutScope, out: u32, most: u32 },
    /// What found it has condemned too many of late.
    Breaker,
    /// The policy leaves it to people.
    NotAutomatic,
}

/// Of what only a part may be out at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutScope {
    Rack,
    Leaf,
    Platform,
    Fleet,
}

impl fmt::Display for KeptIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeptIn::TooManyOut { scope, out, most } => {
                let of = match scope {
                    OutScope::Rack => "its rack",
                    OutScope::Leaf => "its leaf",
                    OutScope::Platform => "its platform",
                    OutScope::Fleet => "the fleet",
                };
                let nodes = if *out == 1 { "node" } else { "nodes" };
                write!(f, "{out} {nodes} of {of} out already, where {most} may be")
            }
            KeptIn::Breaker => f.write_str("this check has condemned too many nodes of late"),
            KeptIn::NotAutomatic => f.write_str("the policy leaves it to people"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrailKind {
    ControlPlaneStarted {
        jobs_alive: u32,
    },
    NodeJoined {
        gpus: u16,
    },
    NodeUp,
    NodeSilent {
        unheard: Millis,
    },
    NodeFenced,
    NodeDrained {
        reason: String,
    },
    NodeUndrained,
    Submitted {
        name: String,
        nodes: u32,
        gpus_per_node: u16,
    },
    Waiting {
        reason: WaitReason,
    },
    Placed {
        nodes: u32,
        /// The first few of them, in rank order.
        first: Vec<String>,
        ranks: u32,
        span: Span,
    },
    RankStarted {
        rank: Rank,
        pid: u32,
    },
    FirstStep {
        after: Millis,
    },
    Checkpoint {
        step: u64,
    },
    Fault {
        reason: EndReason,
        step: u64,
    },
    /// What was made of all evidence on a fault.
    Weighed {
        blame: Box<Blame>,
    },
    /// The blame changed when the other ranks' ends came in.
    Blamed {
        reason: EndReason,
        charge: Charge,
    },
    /// Stopped so that another job can start; each of its GPUs loses so much work.
    Preempted {
        by: JobId,
        lost: Millis,
    },
    /// Stopped to go on elsewhere, so that another job has its nodes together.
    Moved {
        by: JobId,
        lost: Millis,
    },
    Reserved {
        name: String,
        nodes: u32,
        from: Time,
        until: Time,
    },
    ReservationBegins {
        name: String,
    },
    ReservationOver {
        name: String,
    },
    /// Stopped for a reservation of its nodes.
    MadeWay {
        name: String,
        lost: Millis,
    },
    /// Stopped to go on with more nodes.
    Grows {
        from: u32,
        to: u32,
    },
    StaleAttemptFound,
    Resumes {
        from_step: Option<u64>,
        retries_left: u32,
        backoff: Millis,
    },
    Completed,
    Failed {
        reason: EndReason,
    },
    Cancelled,
    /// Not by its user.
    CancelledFor {
        reason: EndReason,
    },
    /// A gang starts again where it was.
    PlacedAgain {
        nodes: u32,
        /// Nodes that stand in for others, and the first few of them.
        replaced: u32,
        first: Vec<String>,
    },
    /// Free nodes are kept for a gang, should it lose some of its own: the first few of them.
    SparesKept {
        nodes: u32,
        first: Vec<String>,
    },
    /// A check has found something on the node.
    Found {
        class: FindingClass,
        severity: Severity,
        detail: String,
    },
    FoundNoMore {
        class: FindingClass,
    },
    /// Taken out of service, for what was found.
    TakenOut {
        class: FindingClass,
        ticket: u64,
    },
    /// It would have been taken out.
    KeptIn {
        class: FindingClass,
        because: KeptIn,
    },
    RemedyBegun {
        remedy: Remedy,
    },
    RemedyOver {
        remedy: Remedy,
        outcome: Outcome,
    },
    BurnInBegun {
        span: Millis,
    },
    BurnInOver {
        outcome: Outcome,
    },
    Mended {
        how: Mended,
    },
    BackInService {
        after: Millis,
    },
    /// A class of findings condemns no more nodes for a while.
    BreakerOpened {
        class: FindingClass,
        nodes: u32,
        span: Millis,
    },
    /// A replica is stopped, and so many go on without it.
    ReplicaLost {
        replica: u32,
        reason: EndReason,
        left: u32,
    },
    ReplicaLaunched {
        replica: u32,
        replaced: u32,
    },
    /// The attempt is told to save its work so often, because a checkpoint blocks for `cost` and a
    /// fault is to be expected once in `mtbf`.
    CheckpointAdvice {
        every: Millis,
        cost: Millis,
        mtbf: Millis,
    },
    /// It trains with the others again.
    ReplicaBack {
        replica: u32,
        after: Millis,
    },
    /// One of these nodes is to blame for a fault of the job, and nothing tells which: they are out
    /// of service, to be tested against each other.
    SuspectsOut {
        nodes: Vec<String>,
    },
    /// They would have been.
    SuspectsStay {
        nodes: Vec<String>,
        because: Untested,
    },
    /// A suspect was tested, with another node or alone.
    SuspectTested {
        with: Option<String>,
        outcome: Outcome,
    },
    /// What came of the tests of these nodes.
    SuspectsOver {
        nodes: Vec<String>,
        found: SuspectsFound,
    },
    /// A place that several of a job's nodes share is to blame: so many of its nodes are out of
    /// service, or a guardrail keeps all of them in.
    PlaceOut {
        place: String,
        nodes: u32,
        kept_in: Option<KeptIn>,
    },
    /// An idle node is burnt in, until somebody wants it.
    IdleBurnIn {
        span: Millis,
    },
    /// Checkpoints from this step on were saved with a broken loss: the job goes on from an earlier
    /// one, if it is known.
    CheckpointsSpoilt {
        from: u64,
        newest_good: Option<u64>,
    },
    /// The others wait for a rank. `elsewhere`: the same rank was slow on another node before, so
    /// it is the program's way rather than the machine's.
    StragglerSeen {
        straggler: Box<Straggler>,
        elsewhere: bool,
    },
    StragglerGone {
        rank: Rank,
    },
    /// Its processes are started, to wait for a rank: on these spares, and beside its ranks on so many
    /// nodes.
    StandbyBegun {
        spares: Vec<String>,
        beside: u32,
    },
    /// They all wait: on a spare, or on so many nodes beside its ranks.
    StandbyReady {
        beside: u32,
        after: Millis,
    },
    /// Those that waited on a node, or were to wait there, have ended by themselves.
    StandbyEnded {
        reason: String,
    },
    /// On so many of the nodes on which it was just launched, processes waited for that.
    StartedWarm {
        warm: u32,
        nodes: u32,
    },
    /// Two suspects were tested, but not the link between them: their agents, or one of them, are of a
    /// version that cannot.
    LinkNotTested {
        with: String,
    },
}

/// Why suspects of a fault are not tested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Untested {
    /// The job has no room elsewhere.
    NoRoom,
    /// Others work there, too.
    InUse,
    /// They were tested of late, and nothing was found.
    TestedBefore,
    /// A guardrail, the breaker or the policy keeps them in.
    KeptIn(KeptIn),
}

impl fmt::Display for Untested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Untested::NoRoom => f.write_str("the job has no room elsewhere"),
            Untested::InUse => f.write_str("others work there, too"),
            Untested::TestedBefore => f.write_str("they were tested of late, in vain"),
            Untested::KeptIn(because) => because.fmt(f),
        }
    }
}

/// What came of tests of suspects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuspectsFound {
    Nodes(Vec<String>),
    /// Each of the two is well with others.
    Link(String, String),
    Nothing,
    /// The tests were ended, for this reason.
    CalledOff(CalledOff),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalledOff {
    JobWaits,
    NobodyCan,
    NoAnswer,
    NodeTaken,
    OtherNews,
    /// No two nodes passed them, good ones among them.
    Doubtful,
}

impl fmt::Display for SuspectsFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SuspectsFound::Nodes(nodes) => write!(f, "{} failed them", nodes.join(", ")),
            SuspectsFound::Link(one, other) => {
                write!(f, "the link between {one} and {other} failed, and neither with others")
            }
            SuspectsFound::Nothing => f.write_str("nothing was found, and all are back"),
            SuspectsFound::CalledOff(why) => f.write_str(match why {
                CalledOff::JobWaits => "ended, for the job waits for nodes",
                CalledOff::NobodyCan => "ended, for nobody here can do them",
                CalledOff::NoAnswer => "ended, for there was no answer in time",
                CalledOff::NodeTaken => "ended, for those that they were tested with were wanted",
                CalledOff::OtherNews => "ended, for something else became of one of them",
                CalledOff::Doubtful => {
                    "ended, for no two nodes passed them, which says more of the tests than of the nodes"
                }
            }),
        }
    }
}

impl TrailKind {
    /// A short word for tables and filters, the same as in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            TrailKind::ControlPlaneStarted { .. } => "control_plane_started",
            TrailKind::NodeJoined { .. } => "node_joined",
            TrailKind::NodeUp => "node_up",
            TrailKind::NodeSilent { .. } => "node_silent",
            TrailKind::NodeFenced => "node_fenced",
            TrailKind::NodeDrained { .. } => "node_drained",
            TrailKind::NodeUndrained => "node_undrained",
            TrailKind::Submitted { .. } => "submitted",
            TrailKind::Waiting { .. } => "waiting",
            TrailKind::Placed { .. } => "placed",
            TrailKind::RankStarted { .. } => "rank_started",
            TrailKind::FirstStep { .. } => "first_step",
            TrailKind::Checkpoint { .. } => "checkpoint",
            TrailKind::Fault { .. } => "fault",
            TrailKind::Blamed { .. } => "blamed",
            TrailKind::Weighed { .. } => "weighed",
            TrailKind::Preempted { .. } => "preempted",
            TrailKind::Moved { .. } => "moved",
            TrailKind::Grows { .. } => "grows",
            TrailKind::Reserved { .. } => "reserved",
            TrailKind::ReservationBegins { .. } => "reservation_begins",
            TrailKind::ReservationOver { .. } => "reservation_over",
            TrailKind::MadeWay { .. } => "made_way",
            TrailKind::StaleAttemptFound => "stale_attempt_found",
            TrailKind::Resumes { .. } => "resumes",
            TrailKind::Completed => "completed",
            TrailKind::Failed { .. } => "failed",
            TrailKind::Cancelled | TrailKind::CancelledFor { .. } => "cancelled",
            TrailKind::PlacedAgain { .. } => "placed_again",
            TrailKind::SparesKept { .. } => "spares_kept",
            TrailKind::Found { .. } => "found",
            TrailKind::FoundNoMore { .. } => "found_no_more",
            TrailKind::TakenOut { .. } => "taken_out",
            TrailKind::KeptIn { .. } => "kept_in",
            TrailKind::RemedyBegun { .. } => "remedy_begun",
            TrailKind::RemedyOver { .. } => "remedy_over",
            TrailKind::BurnInBegun { .. } => "burn_in_begun",
            TrailKind::BurnInOver { .. } => "burn_in_over",
            TrailKind::Mended { .. } => "mended",
            TrailKind::BackInService { .. } => "back_in_service",
            TrailKind::BreakerOpened { .. } => "breaker_opened",
            TrailKind::ReplicaLost { .. } => "replica_lost",
            TrailKind::ReplicaLaunched { .. } => "replica_launched",
            TrailKind::ReplicaBack { .. } => "replica_back",
            TrailKind::CheckpointAdvice { .. } => "checkpoint_advice",
            TrailKind::SuspectsOut { .. } => "suspects_out",
            TrailKind::SuspectsStay { .. } => "suspects_stay",
            TrailKind::SuspectTested { .. } => "suspect_tested",
            TrailKind::SuspectsOver { .. } => "suspects_over",
            TrailKind::PlaceOut { .. } => "place_out",
            TrailKind::IdleBurnIn { .. } => "idle_burn_in",
            TrailKind::CheckpointsSpoilt { .. } => "checkpoints_spoilt",
            TrailKind::StragglerSeen { .. } => "straggler_seen",
            TrailKind::StragglerGone { .. } => "straggler_gone",
            TrailKind::StandbyBegun { .. } => "standby_begun",
            TrailKind::StandbyReady { .. } => "standby_ready",
            TrailKind::StandbyEnded { .. } => "standby_ended",
            TrailKind::StartedWarm { .. } => "started_warm",
            TrailKind::LinkNotTested { .. } => "link_not_tested",
        }
    }
}

fn nodes(count: u32) -> String {
    format!("{count} {}", if count == 1 { "node" } else { "nodes" })
}

impl fmt::Display for TrailKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrailKind::ControlPlaneStarted { jobs_alive } => {
                write!(f, "control plane started; {jobs_alive} running jobs adopted")
            }
            TrailKind::NodeJoined { gpus } => write!(f, "joined the fleet with {gpus} GPUs"),
            TrailKind::NodeUp => f.write_str("is up"),
            TrailKind::NodeSilent { unheard } => write!(f, "silent for {unheard}; fencing it"),
            TrailKind::NodeFenced => f.write_str("fenced: nothing runs there"),
            TrailKind::NodeDrained { reason } if reason.is_empty() => f.write_str("drained"),
            TrailKind::NodeDrained { reason } => write!(f, "drained: {reason}"),
            TrailKind::NodeUndrained => f.write_str("back in service"),
            TrailKind::Submitted { name, nodes, gpus_per_node } => {
                let nodes_word = if *nodes == 1 { "node" } else { "nodes" };
                let gpus_word = if *gpus_per_node == 1 { "GPU" } else { "GPUs" };
                write!(f, "submitted {name}: {nodes} {nodes_word} of {gpus_per_node} {gpus_word}")
            }
            TrailKind::Waiting { reason } => write!(f, "waits: {reason}"),
            TrailKind::Placed { nodes, first, ranks, span } => {
                let ranks_word = if *ranks == 1 { "rank" } else { "ranks" };
                write!(f, "placed {ranks} {ranks_word} on {}", first.join(", "))?;
                let more = *nodes as usize - first.len();
                if more > 0 {
                    write!(f, " and {more} more")?;
                }
                // In a fleet without known racks there is nothing to say.
                if *nodes > 1 && (span.level != Level::Fleet || !span.parts.is_empty()) {
                    write!(f, ", {span}")?;
                }
                Ok(())
            }
            TrailKind::RankStarted { rank, pid } => write!(f, "rank {rank} started, pid {pid}"),
            TrailKind::FirstStep { after } => write!(f, "first step {after} after launch"),
            TrailKind::Checkpoint { step } => write!(f, "checkpoint at step {step}"),
            TrailKind::Fault { reason, step } => write!(f, "fault at step {step}: {reason}"),
            TrailKind::Weighed { blame } => write!(f, "to blame: {blame}"),
            TrailKind::Blamed { reason, charge } => {
                let who = match charge {
                    Charge::Infrastructure => "infrastructure",
                    Charge::User => "the job itself",
                    Charge::Nobody | Charge::Final => "nobody",
                };
                write!(f, "blamed on {who}: {reason}")
            }
            TrailKind::Preempted { by, lost } => {
                write!(f, "preempted: job {by} needs its nodes; it loses {lost} of work")
            }
            TrailKind::Moved { by, lost } => {
                write!(f, "moves, so that job {by} has its nodes together; it loses {lost} of work")
            }
            TrailKind::Reserved { name, nodes, from, until } => {
                let nodes_word = if *nodes == 1 { "node" } else { "nodes" };
                let span = until.since(*from);
                write!(f, "reservation {name} made: {nodes} {nodes_word} for {span}")
            }
            TrailKind::ReservationBegins { name } => write!(f, "reservation {name} begins"),
            TrailKind::ReservationOver { name } => write!(f, "reservation {name} is over"),
            TrailKind::MadeWay { name, lost } => {
                write!(f, "makes way for reservation {name}")?;
                // A job that tells no steps may have lost much, and nobody knows.
                if *lost > Millis::ZERO { write!(f, "; it loses {lost} of work") } else { Ok(()) }
            }
            TrailKind::Grows { from, to } => write!(f, "grows from {from} to {to} nodes"),
            TrailKind::StaleAttemptFound => {
                f.write_str("processes of an attempt that is over were found; stopping them")
            }
            TrailKind::Resumes { from_step, retries_left, backoff } => {
                match from_step {
                    Some(step) => write!(f, "resumes from the checkpoint at step {step}")?,
                    None => f.write_str("starts again; it has told of no checkpoint")?,
                }
                if backoff.0 > 0 {
                    write!(f, " in {backoff}")?;
                }
                write!(f, " ({retries_left} retries left)")
            }
            TrailKind::Completed => f.write_str("completed"),
            TrailKind::Failed { reason } => write!(f, "failed: {reason}"),
            TrailKind::Cancelled => f.write_str("cancelled"),
            TrailKind::CancelledFor { reason } => write!(f, "cancelled: {reason}"),
            TrailKind::PlacedAgain { nodes, replaced: 0, .. } => {
                let nodes_word = if *nodes == 1 { "node" } else { "nodes" };
                write!(f, "placed again on its {nodes} {nodes_word}")
            }
            TrailKind::PlacedAgain { nodes, replaced, first } => {
                let more = *replaced as usize - first.len();
                write!(f, "placed again on its {nodes} nodes, with {}", first.join(", "))?;
                if more > 0 {
                    write!(f, " and {more} more")?;
                }
                let one = *replaced == 1;
                write!(f, " in place of {replaced} that {} out", if one { "is" } else { "are" })
            }
            TrailKind::SparesKept { nodes, first } => {
                let more = *nodes as usize - first.len();
                write!(f, "{} kept near it as spare", first.join(", "))?;
                match more {
                    0 if *nodes == 1 => Ok(()),
                    0 => f.write_str("s"),
                    more => write!(f, "s, and {more} more"),
                }
            }
            TrailKind::Found { class, severity, detail } => {
                write!(f, "found {class} ({severity}): {detail}")
            }
            TrailKind::FoundNoMore { class } => write!(f, "{class} is gone"),
            TrailKind::TakenOut { class, ticket } => {
                write!(f, "taken out of service for {class}, ticket {ticket}")
            }
            TrailKind::KeptIn { class, because } => {
                write!(f, "kept in service in spite of {class}: {because}")
            }
            TrailKind::RemedyBegun { remedy } if remedy.is_by_hand() => {
                write!(f, "waits for {remedy}")
            }
            TrailKind::RemedyBegun { remedy } => write!(f, "tries {remedy}"),
            TrailKind::RemedyOver { remedy, outcome } => match outcome {
                Outcome::Done => write!(f, "{remedy} is done"),
                Outcome::Failed { reason } => write!(f, "{remedy} failed: {reason}"),
                Outcome::Unsupported => write!(f, "nobody here can do {remedy}"),
            },
            TrailKind::BurnInBegun { span } => write!(f, "burn-in for {span}"),
            TrailKind::BurnInOver { outcome } => match outcome {
                Outcome::Done => f.write_str("passed its burn-in"),
                Outcome::Failed { reason } => write!(f, "failed its burn-in: {reason}"),
                Outcome::Unsupported => f.write_str("was not burnt in: nobody here can do it"),
            },
            TrailKind::Mended { how } => f.write_str(match how {
                Mended::Repaired => "repaired",
                Mended::Replaced => "replaced",
                Mended::Released => "released without a repair",
            }),
            TrailKind::BackInService { after } => write!(f, "back in service after {after}"),
            TrailKind::BreakerOpened { class, nodes, span } => write!(
                f,
                "{class} condemned {nodes} nodes at once: for {span} it takes out no others, for \
                 it may be the check that is broken"
            ),
            TrailKind::ReplicaLost { replica, reason, left } => {
                write!(f, "replica {replica} is lost, and {left} go on: {reason}")
            }
            TrailKind::ReplicaLaunched { replica, replaced } => {
                write!(f, "replica {replica} starts again")?;
                match replaced {
                    0 => Ok(()),
                    1 => f.write_str(", with another node in place of one that is out"),
                    nodes => write!(f, ", with other nodes in place of {nodes} that are out"),
                }
            }
            TrailKind::CheckpointAdvice { every, cost, mtbf } => write!(
                f,
                "is to save every {every}: a checkpoint blocks for {cost}, and a fault is to be \
                 expected once in {mtbf}"
            ),
            TrailKind::ReplicaBack { replica, after } => {
                write!(f, "replica {replica} trains again, {after} after its launch")
            }
            TrailKind::StragglerSeen { straggler, elsewhere } => {
                write!(f, "slows its job down: {straggler}")?;
                if *elsewhere {
                    f.write_str("; it was slow on another node, too: the program is uneven")?;
                }
                Ok(())
            }
            TrailKind::StragglerGone { rank } => {
                write!(f, "rank {rank} keeps up with the others again")
            }
            TrailKind::StandbyBegun { spares, beside } => {
                f.write_str("its processes are started, to wait for a rank, ")?;
                match (&spares[..], beside) {
                    ([], _) => write!(f, "beside its ranks on {}", nodes(*beside)),
                    (spares, 0) => write!(f, "on {}", spares.join(", ")),
                    (spares, _) => {
                        let beside = nodes(*beside);
                        write!(f, "on {} and beside its ranks on {beside}", spares.join(", "))
                    }
                }
            }
            TrailKind::StandbyReady { beside: 0, after } => {
                write!(
                    f,
                    "warm: its processes wait for a rank there, {after} after they were asked for"
                )
            }
            TrailKind::StandbyReady { beside, after } => write!(
                f,
                "warm: its processes wait beside its ranks on {}, {after} after they were asked for",
                nodes(*beside)
            ),
            TrailKind::StandbyEnded { reason } => {
                write!(f, "not warm: its processes that were to wait there have ended: {reason}")
            }
            TrailKind::StartedWarm { warm, nodes: all } => {
                write!(f, "goes on warm on {warm} of {}", nodes(*all))
            }
            TrailKind::SuspectsOut { nodes } => write!(
                f,
                "{} are out of service, to be tested against each other: nothing tells which of \
                 them it was",
                nodes.join(", ")
            ),
            TrailKind::SuspectsStay { nodes, because } => {
                write!(f, "{} are not tested against each other: {because}", nodes.join(", "))
            }
            TrailKind::SuspectTested { with, outcome } => {
                match with {
                    Some(with) => write!(f, "tested with {with}: ")?,
                    None => f.write_str("tested alone: ")?,
                }
                match outcome {
                    Outcome::Done => f.write_str("passed"),
                    Outcome::Failed { reason } => write!(f, "failed: {reason}"),
                    Outcome::Unsupported => f.write_str("nobody here can do it"),
                }
            }
            TrailKind::LinkNotTested { with } => {
                write!(f, "the link to {with} was not tested: an agent there is too old for it")
            }
            TrailKind::SuspectsOver { nodes, found } => {
                write!(f, "the tests of {}: {found}", nodes.join(", "))
            }
            TrailKind::PlaceOut { place, nodes, kept_in: None } => {
                let (nodes_word, is) = if *nodes == 1 { ("node", "is") } else { ("nodes", "are") };
                write!(f, "{nodes} {nodes_word} of {place}, which is to blame, {is} out of service")
            }
            TrailKind::PlaceOut { place, kept_in: Some(because), .. } => {
                write!(f, "the nodes of {place} stay in service, though it is to blame: {because}")
            }
            TrailKind::IdleBurnIn { span } => {
                write!(f, "is idle, and is burnt in for {span} unless somebody wants it")
            }
            TrailKind::CheckpointsSpoilt { from, newest_good } => {
                write!(f, "checkpoints from step {from} on are spoilt")?;
                match newest_good {
                    Some(step) => write!(f, "; the newest good one is that of step {step}"),
                    None => f.write_str("; no earlier one is known"),
                }
            }
        }
    }
}

impl TrailKind {
    /// Nodes of a gang that are named.
    pub const PLACED_FIRST: usize = 4;
}

/// How far apart the nodes of a gang are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The lowest level at which one place holds all of it, and that place.
    pub level: Level,
    pub name: String,
    /// Places of each lower level that it takes nodes of, where it is more than one.
    pub parts: Vec<(Level, u32)>,
    /// Other places of the level that would have held it, and had more left over.
    pub rivals: u32,
    /// Free nodes that are left over in the place.
    pub left: u32,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.level, self.name.as_str()) {
            (Level::Fleet, _) => f.write_str("across the fleet")?,
            (level, name) => write!(f, "within {} {name}", level.noun())?,
        }
        let parts: Vec<String> = self
            .parts
            .iter()
            .rev()
            .filter(|&&(_, count)| count > 1)
            .map(|&(level, count)| format!("{count} {}", level.plural()))
            .collect();
        if !parts.is_empty() {
            write!(f, " ({})", parts.join(", "))?;
        }
        if self.rivals > 0 {
            write!(f, ", the tightest of {}", self.rivals + 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for TrailEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(job) = self.job {
            write!(f, "job {job}")?;
            if let Some(epoch) = self.epoch {
                write!(f, "/{epoch}")?;
            }
            f.write_str(" ")?;
        }
        if let Some(node) = &self.node {
            write!(f, "{node} ")?;
        }
        self.what.fmt(f)?;
        match &self.what {
            TrailKind::Reserved { from, .. } if *from > self.at => {
                // To the second: a request takes a moment to arrive.
                let ahead = from.since(self.at).0.next_multiple_of(1000);
                write!(f, ", to begin in {}", Millis(ahead))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
