//! The levels of the trees that cross a fleet, and which of them a gang may have to stay within.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A level of the network tree as a gang sees it: the lower, the faster its nodes reach each other.
///
/// An NVLink domain is the lowest although it may span racks: what counts is the wire.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Nvlink,
    Rack,
    Leaf,
    Spine,
    Hall,
    Site,
    /// Everything: the widest span, and no constraint at all.
    #[default]
    Fleet,
}

impl Level {
    /// Lowest first.
    pub const ALL: [Level; 7] = [
        Level::Nvlink,
        Level::Rack,
        Level::Leaf,
        Level::Spine,
        Level::Hall,
        Level::Site,
        Level::Fleet,
    ];

    pub fn index(self) -> usize {
        self as usize
    }

    pub fn name(self) -> &'static str {
        match self {
            Level::Nvlink => "nvlink",
            Level::Rack => "rack",
            Level::Leaf => "leaf",
            Level::Spine => "spine",
            Level::Hall => "hall",
            Level::Site => "site",
            Level::Fleet => "fleet",
        }
    }

    /// One of them, in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Level::Nvlink => "NVLink domain",
            Level::Fleet => "the fleet",
            other => other.name(),
        }
    }

    pub fn plural(self) -> &'static str {
        match self {
            Level::Nvlink => "NVLink domains",
            Level::Rack => "racks",
            Level::Leaf => "leaves",
            Level::Spine => "spines",
            Level::Hall => "halls",
            Level::Site => "sites",
            Level::Fleet => "fleets",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
