//! Who waits: jobs alike in one bucket, so that a pass over the queue looks once at all of them.
//!
//! A job that waits for something that no other job can give (its backoff, a job that it comes
//! after) is parked, and no pass looks at it. A job whose attempt was ended by a fault comes before
//! all others: its nodes are still warm.

use super::teams::TeamId;
use lindos_model::{JobId, JobSpec, Level, Millis, Time};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// All of a job that its place depends on, but for where it ran before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    pub nodes: u32,
    pub min_nodes: u32,
    pub gpus_per_node: u16,
    pub within: Level,
    pub segment: Option<u32>,
    pub platforms: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub exclude: BTreeSet<String>,
}

impl Shape {
    pub fn of(spec: &JobSpec) -> Shape {
        Shape {
            nodes: spec.nodes,
            min_nodes: spec.min_nodes,
            gpus_per_node: spec.gpus_per_node,
            within: spec.within,
            segment: spec.segment,
            platforms: spec.platforms.clone(),
            labels: spec.labels.clone(),
            exclude: spec.exclude.clone(),
        }
    }
}

/// Jobs that are alike to a pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bucket {
    pub priority: Reverse<i32>,
    pub team: TeamId,
    /// How long it holds its gang at most, to the end of its grace.
    pub limit: Option<Millis>,
    /// Whether its class lets it stop others.
    pub preempts: bool,
    pub shape: Shape,
}

impl Bucket {
    /// What comes before all buckets of a priority.
    fn first_of(priority: i32) -> Bucket {
        let shape = Shape {
            nodes: 0,
            min_nodes: 0,
            gpus_per_node: 0,
            within: Level::Nvlink,
            segment: None,
            platforms: Vec::new(),
            labels: BTreeMap::new(),
            exclude: BTreeSet::new(),
        };
        Bucket { priority: Reverse(priority), team: TeamId(0), limit: None, preempts: false, shape }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// `None`: it is parked.
    bucket: Option<Bucket>,
    since: Time,
    gpus: u64,
    is_restart: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Queue {
    entries: BTreeMap<JobId, Entry>,
    buckets: BTreeMap<Bucket, BTreeSet<JobId>>,
    restarts: BTreeSet<JobId>,
    by_age: BTreeSet<(Time, JobId)>,
    demand_gpus: u64,
    /// The first job that waits for busy nodes and that nobody overtakes: those behind it wait
    /// for it.
    pub blocked_by: Option<JobId>,
    /// By team: the job that waits for the team's limit, and that nobody of the team overtakes.
    pub at_limit: BTreeMap<TeamId, JobId>,
    /// Whether a job of the last pass waits for busy nodes.
    pub is_blocked: bool,
    /// The kind of wait of the first job that could not be placed.
    pub first_wait: Option<String>,
}

/// A job that begins to wait.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub job: JobId,
    pub since: Time,
    pub gpus: u64,
    /// A fault ended its last attempt.
    pub is_restart: bool,
}

impl Queue {
    /// A job waits for its turn (`Some`) or for something that no pass can give.
    pub fn push(&mut self, waiting: Waiting, bucket: Option<Bucket>) {
        let Waiting { job, since, gpus, is_restart } = waiting;
        let entry = Entry { bucket: None, since, gpus, is_restart };
        assert!(self.entries.insert(job, entry).is_none(), "job {job} is queued twice");
        self.demand_gpus += gpus;
        if let Some(bucket) = bucket {
            self.unpark(job, bucket, since);
        }
    }

    /// A parked job waits for its turn from now on: what it waited for before does not count.
    pub fn unpark(&mut self, job: JobId, bucket: Bucket, now: Time) {
        let entry = self.entries.get_mut(&job).expect("only a queued job has a turn");
        entry.since = now;
        assert!(entry.bucket.is_none(), "job {job} has its turn twice");
        entry.bucket = Some(bucket.clone());
        if entry.is_restart {
            self.restarts.insert(job);
        } else {
            self.by_age.insert((entry.since, job));
            self.buckets.entry(bucket).or_default().insert(job);
        }
    }

    pub fn remove(&mut self, job: JobId) {
        let entry = self.entries.remove(&job).expect("only a queued job leaves the queue");
        self.demand_gpus -= entry.gpus;
        if let Some(bucket) = entry.bucket {
            if entry.is_restart {
                self.restarts.remove(&job);
            } else {
                self.by_age.remove(&(entry.since, job));
                let jobs = self.buckets.get_mut(&bucket).expect("a queued job is in its bucket");
                jobs.remove(&job);
                if jobs.is_empty() {
                    self.buckets.remove(&bucket);
                }
            }
        }
        if self.blocked_by == Some(job) {
            self.blocked_by = None;
        }
        self.at_limit.retain(|_, first| *first != job);
        if self.entries.is_empty() {
            (self.first_wait, self.is_blocked) = (None, false);
        }
    }

    /// All that wait for their turn go to the buckets that `bucket` names: teams or classes are
    /// not what they were.
    pub fn sort_anew(&mut self, bucket: impl Fn(JobId) -> Bucket) {
        self.buckets.clear();
        for (&job, entry) in &mut self.entries {
            if entry.bucket.is_some() {
                let new = bucket(job);
                if !entry.is_restart {
                    self.buckets.entry(new.clone()).or_default().insert(job);
                }
                entry.bucket = Some(new);
            }
        }
    }

    pub fn contains(&self, job: JobId) -> bool {
        self.entries.contains_key(&job)
    }

    pub fn is_parked(&self, job: JobId) -> bool {
        self.entries.get(&job).is_some_and(|entry| entry.bucket.is_none())
    }

    pub fn is_restart(&self, job: JobId) -> bool {
        self.entries.get(&job).is_some_and(|entry| entry.is_restart)
    }

    /// Since when the job waits.
    pub fn since(&self, job: JobId) -> Option<Time> {
        self.entries.get(&job).map(|entry| entry.since)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All that wait, the oldest number first.
    pub fn iter(&self) -> impl Iterator<Item = JobId> + '_ {
        self.entries.keys().copied()
    }

    /// Jobs that go before all others.
    pub fn restarts(&self) -> impl Iterator<Item = JobId> + '_ {
        self.restarts.iter().copied()
    }

    /// Those that wait for their turn since `until` or longer, the longest first.
    pub fn since_before(&self, until: Time) -> impl Iterator<Item = JobId> + '_ {
        let range = self.by_age.range(..=(until, JobId(u64::MAX)));
        range.map(|&(_, job)| job)
    }

    pub fn buckets(&self) -> &BTreeMap<Bucket, BTreeSet<JobId>> {
        &self.buckets
    }

    /// The buckets of lower priorities than this, in order; all of them without one.
    pub fn buckets_below(
        &self,
        priority: Option<i32>,
    ) -> impl Iterator<Item = (&Bucket, &BTreeSet<JobId>)> {
        let from = priority.map(|priority| Bucket::first_of(priority.saturating_sub(1)));
        let nothing_is_below = priority == Some(i32::MIN);
        let range = match from {
            Some(from) => self.buckets.range(from..),
            None => self.buckets.range::<Bucket, _>(..),
        };
        range.filter(move |_| !nothing_is_below)
    }

    /// Since when the first of those waits that began after this (`None`: of all).
    pub fn first_since_after(&self, of_age: Option<Time>) -> Option<Time> {
        let after = of_age.map_or(Bound::Unbounded, |at| Bound::Excluded((at, JobId(u64::MAX))));
        self.by_age.range((after, Bound::Unbounded)).next().map(|&(since, _)| since)
    }

    /// Jobs that wait for their turn.
    pub fn ready(&self) -> usize {
        self.by_age.len() + self.restarts.len()
    }

    /// GPUs that all waiting jobs want together.
    pub fn demand_gpus(&self) -> u64 {
        self.demand_gpus
    }

    pub fn check(&self) {
        let demand: u64 = self.entries.values().map(|entry| entry.gpus).sum();
        assert_eq!(demand, self.demand_gpus, "the queue's demand is wrong");
        let mut ready = 0;
        for (&job, entry) in &self.entries {
            let Some(bucket) = &entry.bucket else { continue };
            ready += 1;
            if entry.is_restart {
                assert!(self.restarts.contains(&job));
            } else {
                assert!(self.by_age.contains(&(entry.since, job)));
                assert!(self.buckets[bucket].contains(&job), "job {job} is not in its bucket");
            }
        }
        let in_buckets: usize = self.buckets.values().map(BTreeSet::len).sum();
        assert_eq!(in_buckets, self.by_age.len());
        assert_eq!(ready, self.ready(), "jobs have a turn that do not wait");
        assert!(self.buckets.values().all(|jobs| !jobs.is_empty()));
    }
}
