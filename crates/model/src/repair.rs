//! Mending nodes: what is done to one that is out of service, and how it ends.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What is done to a node to mend it, from the mildest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// A reset of one GPU, or of all that are linked with it.
    ResetGpu,
    /// The operating system starts anew.
    Reboot,
    /// Power off, and on again.
    PowerCycle,
    /// The vendor's diagnostics, which say whether more has to be done.
    Diagnose,
    /// A person looks at it.
    Technician,
    /// A part of it, or all of it, is replaced.
    Replace,
}

impl Remedy {
    pub const ALL: [Remedy; 6] = [
        Remedy::ResetGpu,
        Remedy::Reboot,
        Remedy::PowerCycle,
        Remedy::Diagnose,
        Remedy::Technician,
        Remedy::Replace,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Remedy::ResetGpu => "reset_gpu",
            Remedy::Reboot => "reboot",
            Remedy::PowerCycle => "power_cycle",
            Remedy::Diagnose => "diagnose",
            Remedy::Technician => "technician",
            Remedy::Replace => "replace",
        }
    }

    /// Whether it waits for a person, who says when it is done.
    pub const fn is_by_hand(self) -> bool {
        matches!(self, Remedy::Technician | Remedy::Replace)
    }
}

impl fmt::Display for Remedy {
    /// As a part of a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Remedy::ResetGpu => "a reset of its GPUs",
            Remedy::Reboot => "a reboot",
            Remedy::PowerCycle => "a power cycle",
            Remedy::Diagnose => "diagnostics",
            Remedy::Technician => "a technician",
            Remedy::Replace => "a replacement",
        })
    }
}

/// What became of a remedy, or of a burn-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// It was tried, and did not do.
    Failed {
        reason: String,
    },
    /// Nobody here can do it.
    Unsupported,
}

/// How a node comes back that waited for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mended {
    /// It was repaired: it comes back when its burn-in was passed.
    Repaired,
    /// It, or the part in question, is another one now: its record begins anew.
    Replaced,
    /// Nothing is wrong with it: it comes back at once.
    Released,
}
