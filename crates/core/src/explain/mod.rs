//! What people ask: everything here only reads.

pub mod impaired;
pub mod node;
pub mod outlook;
pub mod runtimes;
pub mod trail;

use crate::Core;
use crate::health::fleet::Node;
use crate::health::guard::Breaker;
use crate::health::record::Health;
use crate::health::repair::Ticket;
use crate::job::Job;
use crate::queue::hold::Hold;
use crate::queue::reserve::Reservations;
use crate::queue::teams::Teams;
use lindos_model::finding::{Finding, FindingClass};
use lindos_model::{
    AttemptReport, Columns, Epoch, JobId, NodeId, Policy, RequestId, Time, TrailEntry,
};
use std::collections::BTreeMap;

impl Core {
    /// The time of the last step.
    pub fn now(&self) -> Time {
        self.now
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id).map(Box::as_ref)
    }

    /// All jobs that are remembered, the oldest first.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.values().map(Box::as_ref)
    }

    pub fn nodes(&self) -> &[Node] {
        self.fleet.nodes()
    }

    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.fleet.get(id)
    }

    /// The place in its gang of a node on which a job holds GPUs.
    pub fn member_on(&self, node: NodeId, job: JobId) -> Option<usize> {
        self.fleet.get(node)?;
        self.fleet.allocation_of(node, job).map(|allocation| allocation.member as usize)
    }

    /// What is known of a node's health; `None`: nothing was ever found there.
    pub fn health(&self, node: NodeId) -> Option<&Health> {
        self.health.get(node)
    }

    /// All nodes of which something is known.
    pub fn every_health(&self) -> impl Iterator<Item = (NodeId, &Health)> {
        self.health.iter()
    }

    /// The nodes that are out by Lindos's own decision.
    pub fn repairs(&self) -> impl Iterator<Item = (NodeId, &Ticket)> {
        self.repairs.iter().map(|(&node, ticket)| (node, &**ticket))
    }

    /// Why a node is out, and what is done about it; `None`: it is not out.
    pub fn ticket(&self, node: NodeId) -> Option<&Ticket> {
        self.repairs.get(&node).map(|ticket| &**ticket)
    }

    /// How many tickets there were so far: their numbers go from 1 to this.
    pub fn last_ticket(&self) -> u64 {
        self.last_ticket
    }

    /// Classes of findings that condemn no nodes for now, and until when.
    pub fn open_breakers(&self) -> impl Iterator<Item = (&FindingClass, Time)> {
        let until = |breaker: &Breaker| breaker.is_open_until(self.now);
        self.breakers.iter().filter_map(move |(class, breaker)| Some((class, until(breaker)?)))
    }

    /// Condemned nodes that something keeps in service, and for what they are condemned.
    pub fn kept_in(&self) -> impl Iterator<Item = (NodeId, &Finding)> {
        self.kept_in.iter().map(|(&node, (finding, ..))| (node, finding))
    }

    pub fn node_by_name(&self, name: &str) -> Option<NodeId> {
        self.fleet.by_name(name)
    }

    /// Nodes that are held for blocked jobs, and from when they are wanted.
    pub fn holds(&self) -> &BTreeMap<JobId, Hold> {
        &self.holds
    }

    pub fn reservations(&self) -> &Reservations {
        &self.reservations
    }

    /// What the teams hold and have used.
    pub fn teams(&self) -> &Teams {
        &self.teams
    }

    /// Whether a submission was taken, as far back as requests are remembered.
    pub fn knows_request(&self, request: RequestId) -> bool {
        self.requests.contains_key(&request)
    }

    /// The attempt that a launch of a job belongs to: of a replica that came back, that of its gang.
    pub fn attempt_of_epoch(&self, id: JobId, epoch: Epoch) -> Epoch {
        let attempt = self.attempt_of(id).filter(|attempt| attempt.has_epoch(epoch));
        attempt.map_or(epoch, |attempt| attempt.epoch)
    }

    /// Whether any of these attempts is none that the core has on the node.
    pub fn has_strangers(&self, node: NodeId, attempts: &[AttemptReport]) -> bool {
        if self.fleet.get(node).is_none() {
            return false;
        }
        !attempts.iter().all(|report| self.find_member(node, report.job, report.epoch).is_some())
    }

    /// GPU-milliseconds by column at `now`, which is not before the last step.
    pub fn ledger_at(&self, now: Time) -> Columns {
        self.ledger.at(now)
    }

    pub fn stranded_by(&self) -> &BTreeMap<String, u64> {
        self.ledger.stranded_by()
    }

    pub fn trail_after(&self, seq: u64) -> impl Iterator<Item = &TrailEntry> {
        self.trail.after(seq)
    }

    pub fn trail_last_seq(&self) -> u64 {
        self.trail.last_seq()
    }
}
