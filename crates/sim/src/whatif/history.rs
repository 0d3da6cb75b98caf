//! What a journal tells of a span of time: what came from outside, and what jobs showed of
//! themselves. Times count from the first record.

use super::measure::PastWork;
use super::tale::Tale;
use crate::twin::Delays;
use crate::twin::answers::{Mending, UsualMending};
use crate::twin::script::What;
use lindos_model::finding::{Device, Finding, FindingClass};
use lindos_model::{Exit, JobId, JobSpec, Mended, Millis, NodeId, NodeSpec, Policy, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct History {
    /// When the first record was written, by the clock of whoever kept the journal.
    pub began: Time,
    /// How long after that the last one was.
    pub until: Time,
    /// Of the control plane that came first.
    pub policy: Policy,
    /// In the order in which they joined, which is that of their ids.
    pub nodes: Vec<NodeSpec>,
    /// What people did and what no fault explains, in the order of time.
    pub deeds: Vec<PastDeed>,
    /// In the order of time.
    pub incidents: Vec<Incident>,
    /// In the order of their ids.
    pub jobs: Vec<PastJob>,
    pub delays: Delays,
    /// How orders to mend a node ended, in the middle.
    pub usual: UsualMending,
    /// Time of nodes in the fleet, and of those on which some job was.
    pub node_ms: u64,
    pub busy_node_ms: u64,
    /// What happened and cannot be played, and how often.
    pub unplayed: BTreeMap<&'static str, u64>,
    /// What it came to.
    pub tale: Tale,
}

#[derive(Clone, Debug)]
pub struct PastDeed {
    pub at: Time,
    /// The number of its record.
    pub seq: u64,
    pub what: PastWhat,
}

#[derive(Clone, Debug)]
pub enum PastWhat {
    Does(What),
    Cancels(JobId),
}

/// Something broke, and perhaps somebody mended it.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    pub at: Time,
    pub seq: u64,
    pub node: NodeId,
    /// So long after its beginning.
    pub strikes: Vec<Strike>,
    /// What checks told of it.
    pub findings: Vec<Found>,
    /// The node was not heard of for so long, or until the end.
    pub silence: Option<Option<Millis>>,
    pub drain: Option<Drain>,
    /// Lindos took the node out for it.
    pub ticket: Option<TicketSpan>,
    /// How its orders to mend the node ended.
    pub mending: Mending,
    /// What people said of the node that nobody had asked about.
    pub said: Vec<Said>,
}

/// A check on a node told something, so long after the incident began.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub after: Millis,
    pub seq: u64,
    pub what: FoundKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FoundKind {
    Seen(Box<Finding>),
    Gone(FindingClass, Option<Device>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct TicketSpan {
    pub after: Millis,
    pub seq: u64,
    pub class: String,
    /// `None`: until the end.
    pub lasts: Option<Millis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub after: Millis,
    pub seq: u64,
    pub how: Mended,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Strike {
    pub after: Millis,
    pub seq: u64,
    pub what: StrikeKind,
    /// What it ended had not begun to train.
    pub is_early: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StrikeKind {
    RankEnds {
        gpu: Option<u16>,
        exit: Exit,
    },
    Hangs {
        /// A look at the ranks showed who stood still.
        shows: bool,
    },
    /// It got on by so much less than it usually does.
    Stalls(Millis),
}

/// The node was taken out of service for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    pub after: Millis,
    pub seq: u64,
    pub reason: String,
    /// `None`: until the end.
    pub lasts: Option<Millis>,
}

impl Incident {
    /// Nothing so far.
    pub fn new(at: Time, seq: u64, node: NodeId) -> Incident {
        let (strikes, findings, said) = (Vec::new(), Vec::new(), Vec::new());
        let (silence, drain, ticket, mending) = (None, None, None, Mending::default());
        Incident { at, seq, node, strikes, findings, silence, drain, ticket, mending, said }
    }

    /// In a word, for people.
    pub fn kind(&self) -> &'static str {
        match (&self.silence, self.strikes.first().map(|strike| &strike.what)) {
            (Some(_), _) => "node silent",
            (None, Some(StrikeKind::Hangs { .. })) => "hang",
            (None, Some(StrikeKind::Stalls(_))) => "slow for a while",
            (None, Some(StrikeKind::RankEnds { .. })) => "rank ended",
            (None, None) if !self.findings.is_empty() => "found by a check",
            (None, None) if self.drain.is_none() => "taken out",
            (None, None) => "drained for a fault",
        }
    }

    /// Whether nobody would have noticed it where nothing runs.
    pub fn needs_a_job(&self) -> bool {
        !self.strikes.is_empty() && self.findings.is_empty()
    }
}

#[derive(Clone, Debug)]
pub struct PastJob {
    pub id: JobId,
    pub at: Time,
    pub spec: Arc<JobSpec>,
    pub work: PastWork,
}

impl History {
    pub fn gpus(&self) -> u64 {
        self.nodes.iter().map(|node| u64::from(node.gpus)).sum()
    }

    pub fn span(&self) -> Millis {
        self.until.since(Time::ZERO)
    }

    /// How many incidents of each kind there were.
    pub fn incidents_by_kind(&self) -> BTreeMap<&'static str, u64> {
        let mut kinds = BTreeMap::new();
        for incident in &self.incidents {
            *kinds.entry(incident.kind()).or_default() += 1;
        }
        kinds
    }
}
