//! Typed reasons: why a job waits, and why an attempt ended. `lindos why` only prints them.

use crate::report::Refusal;
use crate::{Exit, JobId, Level, Millis, Rank, Time};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The one constraint that keeps a job from starting now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// It was submitted and not looked at yet.
    New,
    /// No state of this fleet could hold it.
    NeverFits {
        nodes_wanted: u32,
        gpus_per_node: u16,
        nodes_that_could: u32,
        within: Level,
        segment: Option<u32>,
    },
    /// It would fit if running jobs ended.
    Busy { nodes_wanted: u32, gpus_per_node: u16, nodes_free: u32, spares_kept: u32 },
    /// Enough nodes are free, but not together as it wants them.
    Scattered {
        nodes_wanted: u32,
        gpus_per_node: u16,
        nodes_free: u32,
        /// The most that one place has free, or all places in whole segments.
        nodes_together: u32,
        within: Level,
        segment: Option<u32>,
    },
    /// Enough nodes are free, but held for gangs that come first.
    Held { nodes_wanted: u32, gpus_per_node: u16, nodes_free: u32, nodes_held: u32 },
    /// It would fit if nodes that are out of service came back.
    NodesOut { nodes_wanted: u32, gpus_per_node: u16, nodes_free: u32, nodes_out: u32 },
    /// Its team, or one that this is a part of, would hold more than its limit.
    TeamLimit { team: String, limit: u64, held: u64, wanted: u64 },
    /// It waits until another job is over.
    After { job: JobId },
    /// Another job is before it in the queue and waits itself.
    Behind { job: JobId },
    /// Its attempts failed in a row; it is tried again at this time.
    Backoff { until: Time, failures: u32 },
}

impl WaitReason {
    pub fn name(&self) -> &'static str {
        match self {
            WaitReason::New => "new",
            WaitReason::NeverFits { .. } => "never_fits",
            WaitReason::Busy { .. } => "busy",
            WaitReason::Scattered { .. } => "scattered",
            WaitReason::Held { .. } => "held",
            WaitReason::NodesOut { .. } => "nodes_out",
            WaitReason::TeamLimit { .. } => "team_limit",
            WaitReason::After { .. } => "after",
            WaitReason::Behind { .. } => "behind",
            WaitReason::Backoff { .. } => "backoff",
        }
    }

    /// Whether it ends when running jobs do.
    pub fn is_for_room(&self) -> bool {
        matches!(
            self,
            WaitReason::Busy { .. } | WaitReason::Scattered { .. } | WaitReason::Held { .. }
        )
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitReason::New => f.write_str("it was submitted and not looked at yet"),
            WaitReason::NeverFits { nodes_wanted, gpus_per_node, nodes_that_could, .. } => {
                write!(
                    f,
                    "it can never start on this fleet: it wants {nodes_wanted} nodes with \
                     {gpus_per_node} GPUs each{}, and ",
                    self.together()
                )?;
                match self.place() {
                    Some(place) => write!(f, "no {place} has more than {nodes_that_could}"),
                    None => {
                        write!(f, "the fleet has {nodes_that_could} such nodes besides its spares")
                    }
                }
            }
            WaitReason::Busy { nodes_wanted, gpus_per_node, nodes_free, spares_kept } => {
                write!(
                    f,
                    "it wants {nodes_wanted} nodes with {gpus_per_node} free GPUs each, and \
                     {nodes_free} have them now; it starts when running jobs free the rest"
                )?;
                if *spares_kept > 0 {
                    write!(f, " ({spares_kept} more are kept as spares)")?;
                }
                Ok(())
            }
            WaitReason::Scattered {
                nodes_wanted,
                gpus_per_node,
                nodes_free,
                nodes_together,
                ..
            } => {
                write!(
                    f,
                    "it wants {nodes_wanted} nodes with {gpus_per_node} free GPUs each{}; \
                     {nodes_free} are free, but ",
                    self.together()
                )?;
                match self.place() {
                    Some(place) => write!(f, "no {place} has more than {nodes_together} of them"),
                    None => write!(f, "only {nodes_together} of them in whole segments"),
                }
            }
            WaitReason::Held { nodes_wanted, gpus_per_node, nodes_free, nodes_held } => write!(
                f,
                "it wants {nodes_wanted} nodes with {gpus_per_node} free GPUs each, and \
                 {nodes_free} have them now; {nodes_held} more are free and held for gangs that \
                 come first"
            ),
            WaitReason::NodesOut { nodes_wanted, gpus_per_node, nodes_free, nodes_out } => write!(
                f,
                "it wants {nodes_wanted} nodes with {gpus_per_node} free GPUs each, and \
                 {nodes_free} have them now; {nodes_out} nodes are out of service, and it cannot \
                 start until some of them are back"
            ),
            WaitReason::TeamLimit { team, limit, held, wanted } => write!(
                f,
                "it wants {wanted} GPUs, and team {team} holds {held} of the {limit} that are its \
                 limit"
            ),
            WaitReason::After { job } => write!(f, "it comes after job {job}, which is not over"),
            WaitReason::Behind { job } => write!(f, "job {job} is before it in the queue"),
            WaitReason::Backoff { failures, .. } => write!(
                f,
                "its last {failures} attempts failed without one new step, so it waits before \
                 the next"
            ),
        }
    }
}

impl WaitReason {
    fn constraint(&self) -> Option<(Level, Option<u32>)> {
        match self {
            WaitReason::NeverFits { within, segment, .. }
            | WaitReason::Scattered { within, segment, .. } => Some((*within, *segment)),
            _ => None,
        }
    }

    /// How the nodes must stand together, as the end of a clause.
    fn together(&self) -> String {
        match self.constraint() {
            Some((Level::Fleet, _)) | None => String::new(),
            Some((within, None)) => format!(" within one {}", within.noun()),
            Some((within, Some(segment))) => {
                format!(" in segments of {segment} within one {} each", within.noun())
            }
        }
    }

    /// The kind of place that must hold all of it.
    fn place(&self) -> Option<&'static str> {
        match self.constraint() {
            Some((within, None)) if within != Level::Fleet => Some(within.noun()),
            _ => None,
        }
    }
}

/// Who pays for a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Charge {
    /// The job's `retry.infrastructure` budget.
    Infrastructure,
    /// The job's `retry.user` budget.
    User,
    /// Nobody: the attempt never really began.
    Nobody,
    /// There is no retry: it would fail the same way again, or it is over.
    Final,
}

/// Why an attempt ended, or is being stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Every rank exited with status 0.
    Completed,
    /// A rank ended on its own account; this was the one to blame.
    RankExited { rank: Rank, node: String, exit: Exit },
    /// Progress stopped.
    Hang { last_step: u64, silent: Millis, timeout: Millis },
    /// There was no first step in time.
    NoFirstStep { after: Millis },
    /// The node was not heard from.
    NodeSilent { node: String },
    /// The node is up and has lost every trace of the attempt.
    AttemptLost { node: String },
    /// An agent would not start it.
    Refused { node: String, refusal: Refusal },
    /// Somebody cancelled the job.
    Cancelled,
    /// The job's time limit ran out.
    TimeLimit { limit: Millis },
    /// Another job needed its nodes.
    Preempted { by: JobId },
    /// A job that it comes after did not complete.
    AfterFailed { job: JobId },
}

impl EndReason {
    /// Who is charged, by the kind of the end alone.
    ///
    /// An exit status is the program's own word, so it is the user's; a signal that a program
    /// raises by its own fault (SIGSEGV, SIGABRT, …) likewise, and so is running out of memory.
    /// SIGKILL, SIGTERM and the like come from outside.
    pub fn charge(&self) -> Charge {
        match self {
            EndReason::Completed
            | EndReason::Cancelled
            | EndReason::TimeLimit { .. }
            | EndReason::AfterFailed { .. } => Charge::Final,
            EndReason::Preempted { .. } => Charge::Nobody,
            EndReason::RankExited { exit, .. } => match exit {
                Exit::NotStarted(_) => Charge::Final,
                Exit::Code(_) | Exit::OutOfMemory => Charge::User,
                Exit::Signal(number) => match number {
                    1 | 2 | 9 | 15 => Charge::Infrastructure,
                    _ => Charge::User,
                },
                Exit::Lost => Charge::Infrastructure,
            },
            EndReason::Hang { .. }
            | EndReason::NoFirstStep { .. }
            | EndReason::NodeSilent { .. }
            | EndReason::AttemptLost { .. } => Charge::Infrastructure,
            EndReason::Refused { refusal, .. } => match refusal {
                Refusal::Node { .. } => Charge::Infrastructure,
                // Most often a wrong path; a missing mount is taken for one too.
                Refusal::CheckpointDir { .. } => Charge::User,
                Refusal::PortInUse { .. } | Refusal::StaleEpoch { .. } => Charge::Nobody,
            },
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::Completed => f.write_str("every rank finished"),
            EndReason::RankExited { rank, node, exit } => {
                write!(f, "rank {rank} on {node} ended first: {exit}")
            }
            EndReason::Hang { last_step, silent, timeout } => write!(
                f,
                "no progress for {silent} after step {last_step} (the limit was {timeout})"
            ),
            EndReason::NoFirstStep { after } => write!(f, "no first step within {after}"),
            EndReason::NodeSilent { node } => write!(f, "{node} went silent"),
            EndReason::AttemptLost { node } => {
                write!(f, "{node} came back without any trace of the attempt")
            }
            EndReason::Refused { node, refusal } => write!(f, "{node} refused: {refusal}"),
            EndReason::Cancelled => f.write_str("cancelled"),
            EndReason::TimeLimit { limit } => write!(f, "the time limit of {limit} ran out"),
            EndReason::Preempted { by } => write!(f, "job {by} needed its nodes"),
            EndReason::AfterFailed { job } => {
                write!(f, "it comes after job {job}, which did not complete")
            }
        }
    }
}
