//! Who is next: jobs that wait, by priority and then by age.
//!
//! The order is strict: a job that waits for busy nodes is not overtaken, so that a large gang is
//! never starved by small ones. Jobs that wait for something that running jobs cannot give (nodes
//! out of service, a fleet that is too small, their own backoff) hold up nobody.

use lindos_model::JobId;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeSet;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Queue {
    waiting: BTreeSet<(Reverse<i32>, JobId)>,
    demand_gpus: u64,
    /// The first job that waits for busy nodes: those behind it wait for it.
    pub blocked_by: Option<JobId>,
    /// The kind of wait of the first job that could not be placed.
    pub first_wait: Option<String>,
}

impl Queue {
    pub fn push(&mut self, priority: i32, job: JobId, gpus: u64) {
        assert!(self.waiting.insert((Reverse(priority), job)), "job {job} is queued twice");
        self.demand_gpus += gpus;
    }

    pub fn remove(&mut self, priority: i32, job: JobId, gpus: u64) {
        assert!(self.waiting.remove(&(Reverse(priority), job)), "job {job} is not queued");
        self.demand_gpus -= gpus;
        if self.blocked_by == Some(job) {
            self.blocked_by = None;
        }
        if self.waiting.is_empty() {
            self.first_wait = None;
        }
    }

    pub fn contains(&self, priority: i32, job: JobId) -> bool {
        self.waiting.contains(&(Reverse(priority), job))
    }

    /// Whether `a` goes before `b`.
    pub fn before(a: (i32, JobId), b: (i32, JobId)) -> bool {
        (Reverse(a.0), a.1) < (Reverse(b.0), b.1)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = JobId> + '_ {
        self.waiting.iter().map(|&(_, job)| job)
    }

    /// The job after `previous` in the order, or the first.
    pub fn after(&self, previous: Option<(i32, JobId)>) -> Option<(i32, JobId)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = previous.map_or(Unbounded, |(priority, job)| Excluded((Reverse(priority), job)));
        self.waiting
            .range((from, Unbounded))
            .next()
            .map(|&(Reverse(priority), job)| (priority, job))
    }

    /// GPUs that all waiting jobs want together.
    pub fn demand_gpus(&self) -> u64 {
        self.demand_gpus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_goes_before_age_and_age_before_nothing() {
        let mut queue = Queue::default();
        queue.push(0, JobId(1), 8);
        queue.push(5, JobId(2), 8);
        queue.push(0, JobId(3), 8);
        assert_eq!(queue.iter().collect::<Vec<_>>(), [JobId(2), JobId(1), JobId(3)]);
        assert_eq!(queue.after(Some((5, JobId(2)))), Some((0, JobId(1))));
        queue.remove(5, JobId(2), 8);
        assert_eq!(queue.demand_gpus(), 16);
    }
}
