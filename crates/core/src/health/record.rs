//! What is known of a node's health: what was found and is still so, what was tried, what happened.

use super::by_node::ByNode;
use lindos_model::finding::{Device, Finding, FindingClass};
use lindos_model::{Millis, NodeId, Remedy, Time, TrailEntry, TrailKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Findings of one node that are open at once; more are those of a check that has gone mad.
const OPEN_MAX: usize = 64;
/// What is remembered of one node.
pub const HISTORY_MAX: usize = 64;
const TRIED_MAX: usize = 32;

/// A finding that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub finding: Finding,
    pub since: Time,
    /// When it was told last, and how often.
    pub last: Time,
    pub count: u32,
    /// A person has said that it does no harm: it condemns nobody until it is gone.
    pub is_let_be: bool,
}

/// The record of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The oldest first.
    pub open: Vec<Open>,
    /// When it was to blame for a fault.
    pub strikes: VecDeque<Time>,
    pub tried: VecDeque<(Remedy, Time)>,
    /// The oldest first.
    history: VecDeque<Remembered>,
}

/// What a finding is to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    New,
    Again,
    /// A person has said that it does no harm.
    LetBe,
}

/// An entry of the trail. In a snapshot, what happened and when.
#[derive(Clone, Debug)]
struct Remembered(Arc<TrailEntry>);

impl Remembered {
    fn what(&self) -> (Time, &TrailKind) {
        (self.0.at, &self.0.what)
    }
}

impl PartialEq for Remembered {
    fn eq(&self, other: &Remembered) -> bool {
        self.what() == other.what()
    }
}

impl Eq for Remembered {}

impl Serialize for Remembered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.what().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Remembered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Remembered, D::Error> {
        let (at, what) = Deserialize::deserialize(deserializer)?;
        let entry = TrailEntry { seq: 0, at, job: None, epoch: None, node: None, what };
        Ok(Remembered(Arc::new(entry)))
    }
}

impl Health {
    /// Takes a finding.
    pub fn find(&mut self, finding: &Finding, now: Time) -> Found {
        if let Some(open) = self.open.iter_mut().find(|o| o.finding.is_about_the_same(finding)) {
            open.is_let_be &= open.finding.severity == finding.severity;
            open.count = open.count.saturating_add(1);
            open.last = now;
            open.finding = finding.clone();
            return if open.is_let_be { Found::LetBe } else { Found::Again };
        }
        if self.open.len() == OPEN_MAX {
            self.open.remove(0);
        }
        let (finding, since) = (finding.clone(), now);
        self.open.push(Open { finding, since, last: now, count: 1, is_let_be: false });
        Found::New
    }

    /// A finding holds no more; whether it did.
    pub fn clear(&mut self, class: &FindingClass, device: Option<&Device>) -> bool {
        let before = self.open.len();
        self.open
            .retain(|open| open.finding.class != *class || open.finding.device.as_ref() != device);
        self.open.len() < before
    }

    /// How often a remedy was begun within a span.
    pub fn tried_within(&self, remedy: Remedy, now: Time, span: Millis) -> u32 {
        let tried = self.tried.iter().filter(|&&(other, _)| other == remedy);
        tried.filter(|&&(_, at)| now.since(at) < span).count() as u32
    }

    pub fn note_tried(&mut self, remedy: Remedy, now: Time) {
        self.tried.push_back((remedy, now));
        while self.tried.len() > TRIED_MAX {
            self.tried.pop_front();
        }
    }

    /// One more fault that it was to blame for; how many there were within a span.
    pub fn strike(&mut self, now: Time, span: Millis) -> u32 {
        self.strikes.push_back(now);
        while self.strikes.front().is_some_and(|&at| now.since(at) >= span) {
            self.strikes.pop_front();
        }
        self.strikes.len() as u32
    }

    /// Whether something is found on the node, or it was to blame for a fault within a span.
    pub fn is_conspicuous(&self, now: Time, span: Millis) -> bool {
        !self.open.is_empty() || self.strikes.iter().any(|&at| now.since(at) < span)
    }

    /// What has happened, the oldest first.
    pub fn history(&self) -> impl Iterator<Item = (Time, &TrailKind)> {
        self.history.iter().map(Remembered::what)
    }

    /// That of a node whose hardware is another now: nothing but what has happened.
    pub fn renew(&mut self) {
        let history = std::mem::take(&mut self.history);
        *self = Health { history, ..Health::default() };
    }

    pub fn note(&mut self, entry: Arc<TrailEntry>) {
        self.history.push_back(Remembered(entry));
        while self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
    }
}

/// Nodes whose record may be a clue in a fault: all of those, and some others. A large fleet knows
/// something of most of its nodes, and each fault of a gang looks for the few that speak.
///
/// Made of the records, and so in no snapshot: what it holds too much makes no difference.
#[derive(Clone, Debug, Default)]
pub struct Conspicuous {
    nodes: BTreeSet<NodeId>,
    /// How many were left when the others were last dropped.
    left: usize,
}

/// So few are never looked through.
const FEW: usize = 64;

impl Conspicuous {
    /// Under any policy.
    pub fn among(health: &ByNode<Health>) -> Conspicuous {
        let has_any = |health: &Health| !health.open.is_empty() || !health.strikes.is_empty();
        let those = health.iter().filter(|(_, health)| has_any(health));
        let nodes: BTreeSet<NodeId> = those.map(|(node, _)| node).collect();
        Conspicuous { left: nodes.len(), nodes }
    }

    /// A node has become one. Now and then those are dropped that are none any more.
    pub fn note(&mut self, node: NodeId, health: &ByNode<Health>, now: Time, window: Millis) {
        self.nodes.insert(node);
        if self.nodes.len() > FEW.max(2 * self.left) {
            let still = |node: &NodeId| {
                health.get(*node).is_some_and(|health| health.is_conspicuous(now, window))
            };
            self.nodes.retain(still);
            self.left = self.nodes.len();
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().copied()
    }

    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    pub fn has(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }
}
