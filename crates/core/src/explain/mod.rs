//! What people ask: everything here only reads.

pub mod trail;

use crate::Core;
use crate::health::fleet::Node;
use crate::job::Job;
use crate::queue::order::Queue;
use lindos_model::{
    AttemptReport, Columns, JobId, NodeId, Policy, RequestId, Time, TrailEntry, WaitReason,
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
        self.jobs.get(&id)
    }

    /// All jobs that are remembered, the oldest first.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.values()
    }

    pub fn nodes(&self) -> &[Node] {
        self.fleet.nodes()
    }

    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.fleet.get(id)
    }

    pub fn node_by_name(&self, name: &str) -> Option<NodeId> {
        self.fleet.by_name(name)
    }

    /// Whether a submission was taken, as far back as requests are remembered.
    pub fn knows_request(&self, request: RequestId) -> bool {
        self.requests.contains_key(&request)
    }

    /// Whether any of these attempts is none that the core has on the node.
    pub fn has_strangers(&self, node: NodeId, attempts: &[AttemptReport]) -> bool {
        let Some(node) = self.fleet.get(node) else { return false };
        let is_known = |report: &AttemptReport| {
            node.allocations.iter().any(|a| (a.job, a.epoch) == (report.job, report.epoch))
        };
        !attempts.iter().all(is_known)
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

    /// The one constraint that keeps a queued job from starting; `None` for any other job.
    pub fn why(&self, id: JobId) -> Option<WaitReason> {
        let job = self.jobs.get(&id)?;
        if job.is_over() || job.attempt.is_some() {
            return None;
        }
        let blocker = self.queue.blocked_by.filter(|&blocker| {
            let place = |job: &Job| (job.spec.priority, job.id);
            self.jobs.get(&blocker).is_some_and(|first| Queue::before(place(first), place(job)))
        });
        match blocker {
            Some(job) => Some(WaitReason::Behind { job }),
            None => job.wait.clone(),
        }
    }
}
