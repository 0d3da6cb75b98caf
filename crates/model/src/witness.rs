//! What is seen of a job's ranks when something is wrong with it: the evidence for blame.
//!
//! Like a finding, none of this decides anything. The core weighs it.

use crate::{Rank, Time};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a rank's last words speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SymptomKind {
    /// The program's own mistake: an exception that no fault of a machine raises.
    Program,
    /// It asked for more memory than there is, of the host or of the GPU.
    Memory,
    /// Another rank could not be reached, went away or did not answer in time.
    Peer,
    /// Its own GPU or its links failed: an uncorrectable error, a lost device.
    Device,
    /// Reading or writing files failed.
    Storage,
}

impl SymptomKind {
    pub const ALL: [SymptomKind; 5] = [
        SymptomKind::Program,
        SymptomKind::Memory,
        SymptomKind::Peer,
        SymptomKind::Device,
        SymptomKind::Storage,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            SymptomKind::Program => "program",
            SymptomKind::Memory => "memory",
            SymptomKind::Peer => "peer",
            SymptomKind::Device => "device",
            SymptomKind::Storage => "storage",
        }
    }
}

impl fmt::Display for SymptomKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The last words of a rank that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symptom {
    pub kind: SymptomKind,
    /// The line that says so, without control characters; at most [`Symptom::LINE_MAX`] bytes.
    pub line: String,
}

impl Symptom {
    pub const LINE_MAX: usize = 160;
}

/// What a rank's processes did over the last seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// They used the CPU, the GPU or a disk.
    Busy,
    /// They slept, and nothing moved.
    Idle,
    /// One waits in the kernel and cannot be interrupted: a dead disk, a dead driver.
    Blocked,
    /// They were stopped, as by SIGSTOP or a debugger.
    Stopped,
}

impl Activity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Activity::Busy => "busy",
            Activity::Idle => "idle",
            Activity::Blocked => "blocked in the kernel",
            Activity::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A look at all ranks of an attempt that has not got on for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// When it last got on.
    pub since: Time,
    /// The highest step that any rank has told.
    pub step: u64,
    /// How many ranks have told a step in this attempt.
    pub told: u32,
    /// How many of those are at `step`.
    pub at_step: u32,
    /// What most ranks of which it is known do; `None` when it is known of none.
    pub most: Option<Activity>,
    /// The ranks that are behind, or do something else than most: the furthest behind first, at
    /// most [`Stall::APART_MAX`].
    pub apart: Vec<Apart>,
}

impl Stall {
    pub const APART_MAX: usize = 32;
}

/// What a rank's main thread stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StackPlace {
    /// It exchanges something with all other ranks.
    Collective,
    /// It waits for its next batch.
    Data,
    /// It saves or loads.
    Storage,
    /// Something else: the program's own work.
    Elsewhere,
}

impl StackPlace {
    pub const fn as_str(self) -> &'static str {
        match self {
            StackPlace::Collective => "in a collective",
            StackPlace::Data => "waits for data",
            StackPlace::Storage => "saves or loads",
            StackPlace::Elsewhere => "elsewhere in the program",
        }
    }
}

impl fmt::Display for StackPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a rank's main thread stands in a silence, by its own word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankStack {
    pub place: StackPlace,
    /// The frame that says so, at most [`RankStack::AT_MAX`] bytes: `all_reduce (train.py:41)`.
    pub at: String,
}

impl RankStack {
    pub const AT_MAX: usize = 120;
}

/// Where the ranks of an attempt stand that has not got on for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stacks {
    /// The highest step that any rank has told.
    pub step: u64,
    /// Of how many ranks it is known.
    pub known: u32,
    /// How many of those stand in a collective.
    pub in_collective: u32,
    /// Those that do not, at most [`Stall::APART_MAX`], by number.
    pub outside: Vec<(Rank, StackPlace)>,
}

/// A rank that is not where the others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apart {
    pub rank: Rank,
    pub step: Option<u64>,
    pub activity: Option<Activity>,
}
