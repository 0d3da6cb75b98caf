//! One thing to look at.

use lindos_model::{Action, Device, Finding, FindingClass, FindingSource, Severity, Suspect};
use std::fmt::Debug;
use std::time::Duration;

/// What a person may know of a check; `lindos health checks` prints it.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// `part.what`
    pub name: &'static str,
    /// What it finds.
    pub meaning: &'static str,
    /// Where it looks.
    pub source: &'static str,
    /// From where on it is a finding.
    pub thresholds: &'static str,
    pub interval: Duration,
    /// So many readings in a row must say the same before a finding appears, or clears.
    pub confirmations: u32,
    /// It may wait for somebody else (a server, a driver) and is run beside the others.
    pub may_wait: bool,
    /// What one reading costs.
    pub cost: &'static str,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    Seen {
        /// In a few words, for a person.
        words: String,
        /// What is wrong at this moment; none: all is well.
        open: Vec<Finding>,
        /// What went wrong since the last reading, and is told once.
        happened: Vec<Finding>,
    },
    /// There is none of it on this machine.
    Absent(String),
    /// It cannot be read: why.
    Unknown(String),
}

impl Reading {
    pub fn of(words: impl Into<String>, open: Vec<Finding>) -> Reading {
        Reading::Seen { words: words.into(), open, happened: Vec::new() }
    }
}

pub trait Check: Debug + Send {
    fn about(&self) -> About;

    /// Looks once. `now` is the time since some moment before the first reading.
    fn read(&mut self, now: Duration) -> Reading;
}

/// A finding of something that is read from the system.
pub fn system_finding(
    class: &'static str,
    (severity, action, suspect): (Severity, Action, Suspect),
    device: Option<Device>,
    detail: impl Into<String>,
) -> Finding {
    Finding {
        suspect,
        device,
        ..Finding::new(FindingClass::known(class), severity, action, FindingSource::System, detail)
    }
}

/// Severity, action and suspect that come often.
pub mod means {
    use lindos_model::{Action, Severity, Suspect};

    pub type Means = (Severity, Action, Suspect);

    pub const INSPECT: Means = (Severity::Warning, Action::Inspect, Suspect::Hardware);
    pub const LOST: Means = (Severity::Fatal, Action::Inspect, Suspect::Hardware);
    pub const REPLACE: Means = (Severity::Fatal, Action::Replace, Suspect::Hardware);
    pub const DIAGNOSE: Means = (Severity::Warning, Action::RunDiagnostics, Suspect::Hardware);
    pub const CORRECTED: Means = (Severity::Nonfatal, Action::None, Suspect::Hardware);
    pub const SET_UP: Means = (Severity::Warning, Action::UpdateSoftware, Suspect::Software);
    pub const CROWDED: Means = (Severity::Warning, Action::None, Suspect::Unclear);
    pub const ELSEWHERE: Means = (Severity::Warning, Action::None, Suspect::Peer);
}
