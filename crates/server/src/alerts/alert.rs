//! One thing that people may want to hear of, and where it happened.

use lindos_model::{Location, Time};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How soon somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// What Lindos did by itself, and why: to read, not to act on.
    Info,
    /// Something is worse than it should be.
    Warning,
    /// Nothing goes on before a person has acted, or much is lost at once.
    Critical,
}

impl Grade {
    pub fn name(self) -> &'static str {
        match self {
            Grade::Info => "info",
            Grade::Warning => "warning",
            Grade::Critical => "critical",
        }
    }
}

/// What it is about: the words that a webhook's `kinds` may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A node is not heard from, and is fenced.
    NodeSilent,
    /// A node waits for a person.
    PersonWanted,
    /// A node on which something was found stays in service.
    NodeKeptIn,
    /// A check condemns no more nodes for a while.
    BreakerOpened,
    /// A node was taken out of service for what was found.
    NodeOut,
    /// A check has found something.
    Finding,
    /// The evidence on a job's fault names a node, or what several share.
    Blamed,
    /// What Lindos tries to mend a node, and how that ends.
    Repair,
    /// A node is well again that was spoken of before.
    NodeBack,
    /// A job is over, and it neither completed nor was it cancelled by its user.
    JobFailed,
    /// A job made no progress and is stopped.
    JobHung,
    /// A job was hit by any other fault.
    JobFault,
    /// It took long from a fault of a job until it trained again.
    RecoverySlow,
    /// A job goes on after a fault.
    JobResumed,
    /// The queue stopped a job for another, for a reservation, or for more room.
    JobMoved,
    /// The control plane itself: it started, or has not told all.
    ControlPlane,
}

impl Kind {
    pub const ALL: [Kind; 16] = [
        Kind::NodeSilent,
        Kind::PersonWanted,
        Kind::NodeKeptIn,
        Kind::BreakerOpened,
        Kind::NodeOut,
        Kind::Finding,
        Kind::Blamed,
        Kind::Repair,
        Kind::NodeBack,
        Kind::JobFailed,
        Kind::JobHung,
        Kind::JobFault,
        Kind::RecoverySlow,
        Kind::JobResumed,
        Kind::JobMoved,
        Kind::ControlPlane,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::NodeSilent => "node_silent",
            Kind::PersonWanted => "person_wanted",
            Kind::NodeKeptIn => "node_kept_in",
            Kind::BreakerOpened => "breaker_opened",
            Kind::NodeOut => "node_out",
            Kind::Finding => "finding",
            Kind::Blamed => "blamed",
            Kind::Repair => "repair",
            Kind::NodeBack => "node_back",
            Kind::JobFailed => "job_failed",
            Kind::JobHung => "job_hung",
            Kind::JobFault => "job_fault",
            Kind::RecoverySlow => "recovery_slow",
            Kind::JobResumed => "job_resumed",
            Kind::JobMoved => "job_moved",
            Kind::ControlPlane => "control_plane",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A kind of place, the smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlaceKind {
    Rack,
    Pdu,
    Leaf,
}

impl PlaceKind {
    const ALL: [PlaceKind; 3] = [PlaceKind::Rack, PlaceKind::Pdu, PlaceKind::Leaf];

    fn name(self) -> &'static str {
        match self {
            PlaceKind::Rack => "rack",
            PlaceKind::Pdu => "PDU",
            PlaceKind::Leaf => "leaf",
        }
    }

    /// The names on the way down to it, its own last.
    fn path(self, location: &Location) -> [&str; 4] {
        let Location { site, hall, spine, leaf, rack, row, pdu, .. } = location;
        match self {
            PlaceKind::Rack => [site, hall, row, rack],
            PlaceKind::Pdu => [site, hall, "", pdu],
            PlaceKind::Leaf => [site, hall, spine, leaf],
        }
    }

    /// Whether both stand in the same place of this kind.
    pub fn is_shared(self, a: &Location, b: &Location) -> bool {
        self.path(a) == self.path(b)
    }
}

/// A part of the fleet that fails as one: what hangs on one switch, in one rack, on one feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub kind: PlaceKind,
    /// As people call it.
    pub name: String,
    /// One name in two halls is two places.
    pub path: String,
    /// Nodes that stand there; 0: not known.
    pub nodes: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}

/// The places in which a node stands, smallest first, without those that are not known.
pub fn places(location: &Location) -> Vec<Place> {
    let place = |kind: PlaceKind| {
        let path = kind.path(location);
        let name = path[path.len() - 1].to_string();
        let is_known = !name.is_empty();
        let path = format!("{}:{}", kind.name(), path.join("/"));
        is_known.then_some(Place { kind, name, path, nodes: 0 })
    };
    PlaceKind::ALL.into_iter().filter_map(place).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub places: Vec<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobName {
    pub id: u64,
    pub name: String,
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => write!(f, "job {}", self.id),
            name => write!(f, "job {} ({name})", self.id),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Of the entry of the trail.
    pub seq: u64,
    pub at: Time,
    pub grade: Grade,
    pub kind: Kind,
    /// What tells apart those of one kind: a class of findings, a remedy, or nothing.
    pub class: String,
    pub node: Option<Node>,
    pub job: Option<JobName>,
    /// What it puts an end to: it is only told when one of these was.
    pub mends: &'static [Kind],
    /// The trail's own words, with node and job.
    pub text: String,
    /// The same without them.
    pub words: String,
}

/// What makes two alerts the same thing happening again.
pub type Key = (Kind, String, String);

impl Alert {
    pub fn is_over(&self) -> bool {
        !self.mends.is_empty()
    }

    pub fn key(&self) -> Key {
        (self.kind, self.class.clone(), self.subject())
    }

    /// The node, else the job, that it is about.
    pub fn subject(&self) -> String {
        match (&self.node, &self.job) {
            // All faults that are laid to one place, or one node, are the same thing again.
            (None, _) if self.kind == Kind::Blamed => self.class.clone(),
            (Some(node), _) if self.kind == Kind::Blamed => node.name.clone(),
            (Some(node), _) if !self.is_of_job() => node.name.clone(),
            (_, Some(job)) => format!("job {}", job.id),
            (Some(node), None) => node.name.clone(),
            (None, None) => String::new(),
        }
    }

    /// Whether it is laid to this place, in which no one node is to blame.
    pub fn is_laid_to(&self, place: &Place) -> bool {
        let is_named = place.to_string().eq_ignore_ascii_case(&self.class);
        self.kind == Kind::Blamed && self.node.is_none() && is_named
    }

    /// Whether it is a job's story, though a node may be to blame.
    pub fn is_of_job(&self) -> bool {
        self.job.is_some()
    }

    pub fn places(&self) -> &[Place] {
        self.node.as_ref().map_or(&[], |node| &node.places)
    }
}
