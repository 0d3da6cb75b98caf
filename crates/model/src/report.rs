//! What an agent says of the attempts on its node.
//!
//! A report is the whole state of the node, not a change: losing, repeating or delaying one does
//! no harm, because the next says it all again, and an older one is known by its number.

use crate::{Epoch, JobId, Rank, Time};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a rank ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It returned this exit status.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// The kernel killed it for the memory that it used.
    OutOfMemory,
    /// It is gone, and nobody saw how: its supervisor died with it, or the node did.
    Lost,
    /// It never ran: the command could not be executed.
    NotStarted(String),
}

impl Exit {
    pub fn is_success(&self) -> bool {
        *self == Exit::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(number) => match signal_name(*number) {
                Some(name) => write!(f, "{name}"),
                None => write!(f, "signal {number}"),
            },
            Exit::OutOfMemory => f.write_str("out of memory"),
            Exit::Lost => f.write_str("lost"),
            Exit::NotStarted(reason) => write!(f, "not started: {reason}"),
        }
    }
}

/// The name of a Linux signal that ends a process.
pub fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        _ => return None,
    })
}

/// The end of one rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankExit {
    pub exit: Exit,
    /// When the node saw it, by the node's clock.
    pub at: Time,
    /// Whether the attempt was already being stopped here: such an exit blames nobody.
    pub stopping: bool,
}

/// One rank as its node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankReport {
    pub rank: Rank,
    /// Process id on the node; 0 when it never had one.
    pub pid: u32,
    pub exit: Option<RankExit>,
}

/// Why an agent would not start an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It has seen a newer epoch of the job, or was told to stop this one before it came.
    StaleEpoch { newest: Epoch },
    /// The rendezvous port is taken by somebody else on the first node.
    PortInUse { port: u16 },
    /// The node could not do it (disk full, no such folder, …).
    Node { reason: String },
    /// The checkpoint folder that the job names cannot be made or written there.
    CheckpointDir { reason: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::StaleEpoch { newest } => write!(f, "it has seen epoch {newest}"),
            Refusal::PortInUse { port } => write!(f, "port {port} is in use"),
            Refusal::Node { reason } | Refusal::CheckpointDir { reason } => f.write_str(reason),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedPhase {
    /// Some process of the attempt lives, or may live.
    Running,
    /// No process of the attempt lives on the node, and none ever will.
    Gone,
    /// It was never started; like `Gone` from then on.
    Refused(Refusal),
}

/// One attempt as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptReport {
    pub job: JobId,
    pub epoch: Epoch,
    pub phase: ReportedPhase,
    /// The ranks of this node, in order.
    pub ranks: Vec<RankReport>,
}
