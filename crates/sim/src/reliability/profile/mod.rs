//! A fault profile: the causes of faults of a fleet, each with its rate, its effect and its source.
//!
//! `table` is the file as it is written, `check` makes a [`Profile`] of it or says what is
//! wrong and where. A profile that exists is consistent: whoever draws from it asks nothing again.

mod check;
mod table;

use super::delay::Delay;
use super::hazard::Hazard;
use super::unit::Unit;
use lindos_model::file::{FileError, Source};
use lindos_model::{Exit, Millis};
use serde::Deserialize;
use std::fmt;
use std::path::Path;

/// Causes that one profile may have: a cause is named by 16 bits, and a list is read by a person.
pub const CAUSES_MAX: usize = 1000;
/// Lots that one profile may have: with the lemons, they are the bits of a byte.
pub const LOTS_MAX: usize = 7;

#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// What it is, in a sentence or two.
    pub about: String,
    /// Where published figures contradict each other, and what was assumed.
    pub notes: Vec<String>,
    pub lemons: Option<Lemons>,
    pub lots: Vec<Lot>,
    pub causes: Vec<Cause>,
}

/// Nodes that fail more often than the others, at all that is within a node.
///
/// Rates are those of the whole fleet, its lemons in it: `share` of the nodes fail `factor` times
/// as often as each of the others, and the fleet as often as the rates say.
#[derive(Clone, Debug, PartialEq)]
pub struct Lemons {
    pub share: f64,
    pub factor: f64,
    pub source: String,
}

impl Lemons {
    /// What the rate of an ordinary node is multiplied by.
    pub fn ordinary(&self) -> f64 {
        1.0 / (1.0 + self.share * (self.factor - 1.0))
    }
}

/// A bad batch: these nodes fail more often than the rates say, of some causes.
#[derive(Clone, Debug, PartialEq)]
pub struct Lot {
    pub name: String,
    pub share: f64,
    pub factor: f64,
    /// Whether whole racks are of the lot, as what is delivered together is mounted together.
    pub by: Unit,
    /// Indices of causes, ascending.
    pub causes: Vec<usize>,
    pub source: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    pub name: String,
    /// Of the rate.
    pub source: String,
    /// What has the rate.
    pub per: Unit,
    /// What fails with it; the same as `per` unless the profile says more.
    pub reach: Unit,
    pub hazard: Hazard,
    pub effect: EffectRule,
    pub detect: Option<Detect>,
    /// Empty where there is nothing to mend. Chances add up to 1.
    pub repair: Vec<RepairRule>,
    pub recurs: Option<Recurs>,
}

/// What a job on it sees, before chance has its say.
#[derive(Clone, Debug, PartialEq)]
pub enum EffectRule {
    /// A rank ends so.
    Crash(Exit),
    /// The node is gone: agent, ranks and all.
    NodeDown,
    /// The ranks live and get no further.
    Hang,
    /// A step takes `factor` times as long, of each job that waits for this node, until it is
    /// mended or after `lasts` it goes away by itself.
    Slow { factor: [f64; 2], lasts: Option<Delay> },
    /// Results are wrong, and nothing says so.
    Corrupt,
    /// Whoever talks over it waits for so long; then all is well.
    LinkFlap { pause: Delay },
    /// Planned: announced so long before, and then out for so long.
    Maintenance { notice: Millis, takes: Delay },
}

impl EffectRule {
    pub fn name(&self) -> &'static str {
        match self {
            EffectRule::Crash(_) => "crash",
            EffectRule::NodeDown => "node_down",
            EffectRule::Hang => "hang",
            EffectRule::Slow { .. } => "slow",
            EffectRule::Corrupt => "corrupt",
            EffectRule::LinkFlap { .. } => "link_flap",
            EffectRule::Maintenance { .. } => "maintenance",
        }
    }

    /// Whether it is over by itself or by plan, so that nobody has to find and mend it.
    pub fn needs_no_repair(&self) -> bool {
        matches!(self, EffectRule::LinkFlap { .. } | EffectRule::Maintenance { .. })
    }
}

/// How long until a check can know of the fault and where it is, and whether any ever does.
#[derive(Clone, Debug, PartialEq)]
pub struct Detect {
    pub after: Delay,
    /// The chance that it is ever seen.
    pub seen: f64,
    pub source: String,
}

/// One of the ways in which a fault is mended.
#[derive(Clone, Debug, PartialEq)]
pub struct RepairRule {
    pub kind: RepairKind,
    pub chance: f64,
    pub takes: Delay,
    pub source: String,
}

/// The least that mends it. All but the first take the node out of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairKind {
    /// The job is started again, on the same node if need be.
    ProcessRestart,
    GpuReset,
    Reboot,
    /// Somebody goes there: reseats, cleans, swaps a cable.
    Technician,
    /// The node leaves the fleet until a part has come.
    Replacement,
}

impl RepairKind {
    pub fn name(self) -> &'static str {
        match self {
            RepairKind::ProcessRestart => "process_restart",
            RepairKind::GpuReset => "gpu_reset",
            RepairKind::Reboot => "reboot",
            RepairKind::Technician => "technician",
            RepairKind::Replacement => "replacement",
        }
    }

    /// Whether the node is of no use while it lasts.
    pub fn takes_node_out(self) -> bool {
        self != RepairKind::ProcessRestart
    }
}

impl fmt::Display for RepairKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What was mended and yet was not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recurs {
    pub chance: f64,
    /// It is back at some moment within this time after the repair, each as likely.
    pub within: Millis,
}

impl Profile {
    pub fn parse(path: &Path, text: &str) -> Result<Profile, FileError> {
        let source = Source { path, text };
        check::profile(source.parse()?, &source)
    }

    /// The profile with every rate multiplied; for wear, its hazard.
    ///
    /// # Panics
    ///
    /// If the factor is negative or not finite.
    pub fn scaled(mut self, factor: f64) -> Profile {
        assert!(factor >= 0.0 && factor.is_finite(), "a rate times {factor}");
        for cause in &mut self.causes {
            cause.hazard = cause.hazard.scaled(factor);
        }
        self
    }

    pub fn cause(&self, name: &str) -> Option<usize> {
        self.causes.iter().position(|cause| cause.name == name)
    }
}
