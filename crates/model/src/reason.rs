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
            WaitReason::New => f.write_str("the queue has not come to it yet; it will in moments"),
            WaitReason::NeverFits { nodes_wanted, gpus_per_node, nodes_that_could, .. } => {
                let wanted = wanted(*nodes_wanted, *gpus_per_node, "GPUs");
                let together = self.together();
                write!(f, "it can never start on this fleet: it wants {wanted}{together}, and ")?;
                match (self.place(), nodes_that_could) {
                    (_, 0) => f.write_str("there is no such node"),
                    (Some(place), most) => write!(f, "no {place} has more than {most}"),
                    (None, most) => write!(f, "it can have {most} at most"),
                }
            }
            WaitReason::Busy { nodes_wanted, gpus_per_node, nodes_free, spares_kept } => {
                let wanted = wanted(*nodes_wanted, *gpus_per_node, "free GPUs");
                let have = have(*nodes_free);
                let missing = nodes_wanted.saturating_sub(*nodes_free);
                write!(f, "it wants {wanted}, and {have} now; it starts when running jobs ")?;
                match missing {
                    _ if *nodes_free == 0 => f.write_str("give them back")?,
                    missing => write!(f, "give back {missing} more")?,
                }
                match spares_kept {
                    0 => Ok(()),
                    1 => f.write_str(" (1 is kept as a spare)"),
                    many => write!(f, " ({many} are kept as spares)"),
                }
            }
            WaitReason::Scattered {
                nodes_wanted,
                gpus_per_node,
                nodes_free,
                nodes_together,
                ..
            } => {
                let wanted = wanted(*nodes_wanted, *gpus_per_node, "free GPUs");
                let together = self.together();
                write!(f, "it wants {wanted}{together}; {nodes_free} are free, but ")?;
                match self.place() {
                    Some(place) => write!(f, "no {place} has more than {nodes_together} of them"),
                    None => write!(f, "only {nodes_together} of them in whole segments"),
                }
            }
            WaitReason::Held { nodes_wanted, gpus_per_node, nodes_free, nodes_held } => {
                let wanted = wanted(*nodes_wanted, *gpus_per_node, "free GPUs");
                let (have, held) = (have(*nodes_free), more(*nodes_held));
                write!(
                    f,
                    "it wants {wanted}, and {have} now; {held} free and held for gangs that come \
                     first"
                )
            }
            WaitReason::NodesOut { nodes_wanted, gpus_per_node, nodes_free, nodes_out } => {
                let wanted = wanted(*nodes_wanted, *gpus_per_node, "free GPUs");
                let have = have(*nodes_free);
                write!(f, "it wants {wanted}, and {have} now; ")?;
                match nodes_out {
                    1 => f.write_str("1 node is out of service, and it waits until that is back"),
                    many => write!(
                        f,
                        "{many} nodes are out of service, and it waits until some of them are back"
                    ),
                }
            }
            WaitReason::TeamLimit { team, limit, wanted, .. } if wanted > limit => {
                write!(
                    f,
                    "it wants {wanted} GPUs, and team {team} may never hold more than {limit}"
                )
            }
            WaitReason::TeamLimit { team, limit, held, wanted } => write!(
                f,
                "it wants {wanted} GPUs, and team {team} holds {held} of the {limit} that it may"
            ),
            WaitReason::After { job } => write!(f, "it comes after job {job}, which is not over"),
            WaitReason::Behind { job } => {
                write!(f, "job {job} is before it in the queue, and nobody overtakes it")
            }
            WaitReason::Backoff { failures, .. } => write!(
                f,
                "its last {failures} attempts failed without one new step, so it waits before \
                 the next"
            ),
        }
    }
}

/// `1 node with 8 GPUs`, `2 nodes with 8 GPUs each`
fn wanted(nodes: u32, gpus_per_node: u16, gpus: &str) -> String {
    let gpus = if gpus_per_node == 1 { gpus.trim_end_matches('s') } else { gpus };
    match nodes {
        1 => format!("1 node with {gpus_per_node} {gpus}"),
        many => format!("{many} nodes with {gpus_per_node} {gpus} each"),
    }
}

fn have(nodes: u32) -> String {
    match nodes {
        0 => "none has them".to_string(),
        1 => "1 has them".to_string(),
        many => format!("{many} have them"),
    }
}

fn more(nodes: u32) -> String {
    if nodes == 1 { "1 more is".to_string() } else { format!("{nodes} more are") }
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
    /// It goes elsewhere, so that another job's nodes are together.
    Moved { by: JobId },
    /// There is room for more of its nodes.
    Grows { from: u32, to: u32 },
    /// Its nodes are reserved for others from now on.
    Reserved { name: String },
    /// A job that it comes after did not complete.
    AfterFailed { job: JobId },
    /// A node was taken out for what was found there (`class`): at once, or once the work was saved
    /// (`planned`).
    NodeOut { node: String, class: String, planned: bool },
    /// The loss was no number any more.
    LossBroken { rank: Rank, step: u64 },
}

impl EndReason {
    /// Whether it ended neither by itself nor by a fault nor by its user: the queue stopped it, and
    /// it goes on as soon as it may.
    pub fn is_by_the_queue(&self) -> bool {
        matches!(
            self,
            EndReason::Preempted { .. }
                | EndReason::Moved { .. }
                | EndReason::Grows { .. }
                | EndReason::Reserved { .. }
        )
    }

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
            EndReason::Preempted { .. }
            | EndReason::Moved { .. }
            | EndReason::Grows { .. }
            | EndReason::Reserved { .. }
            | EndReason::NodeOut { planned: true, .. } => Charge::Nobody,
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
            | EndReason::AttemptLost { .. }
            | EndReason::NodeOut { planned: false, .. }
            // It may be a machine that counts wrong: whether it comes again tells.
            | EndReason::LossBroken { .. } => Charge::Infrastructure,
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
            EndReason::NodeOut { node, class, planned } => {
                let when = if *planned { " once the work was saved" } else { "" };
                write!(f, "{node} was taken out{when}: {class}")
            }
            EndReason::LossBroken { rank, step } => {
                write!(f, "the loss of rank {rank} is no number since step {step}")
            }
            EndReason::Cancelled => f.write_str("cancelled"),
            EndReason::TimeLimit { limit } => write!(f, "the time limit of {limit} ran out"),
            EndReason::Preempted { by } => write!(f, "job {by} needed its nodes"),
            EndReason::Moved { by } => {
                write!(f, "it goes elsewhere, so that job {by} has its nodes together")
            }
            EndReason::Grows { from, to } => write!(f, "it grows from {from} to {to} nodes"),
            EndReason::Reserved { name } => {
                write!(f, "its nodes are reserved from now on, for {name}")
            }
            EndReason::AfterFailed { job } => {
                write!(f, "it comes after job {job}, which did not complete")
            }
        }
    }
}
