//! Jobs that come after others.
//!
//! All jobs of one submission come after the same ones, so they wait together, and an end costs a
//! look at each submission that comes after it. What an end means is decided when it comes: the job
//! that ended may be forgotten by the time that the last one is over.

use crate::Core;
use crate::effect::{Effects, Rejection};
use lindos_model::{EndReason, JobId, JobSpec, JobState, WaitReason};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Who waits for others to be over.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Dependants {
    /// By the first job of a submission.
    waiting: BTreeMap<JobId, Later>,
    /// Submissions that come after a job.
    by_job: BTreeMap<JobId, BTreeSet<JobId>>,
}

/// A submission that comes after others.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Later {
    /// How many jobs it is.
    jobs: u32,
    /// The jobs that it still waits for.
    open: BTreeSet<JobId>,
}

impl Dependants {
    pub fn wait(&mut self, first: JobId, jobs: u32, open: BTreeSet<JobId>) {
        for &job in &open {
            self.by_job.entry(job).or_default().insert(first);
        }
        self.waiting.insert(first, Later { jobs, open });
    }

    /// A job that this submission still waits for.
    pub fn open(&self, first: JobId) -> Option<JobId> {
        self.waiting.get(&first)?.open.first().copied()
    }

    /// A submission waits no longer: its jobs.
    fn release(&mut self, first: JobId) -> impl Iterator<Item = JobId> + use<> {
        let later = self.waiting.remove(&first).expect("it waits");
        for job in later.open {
            let others = self.by_job.get_mut(&job).expect("it is waited for");
            others.remove(&first);
            if others.is_empty() {
                self.by_job.remove(&job);
            }
        }
        (0..u64::from(later.jobs)).map(move |index| JobId(first.0 + index))
    }

    /// A job is over: those that come after it.
    fn after(&self, job: JobId) -> Vec<JobId> {
        self.by_job.get(&job).into_iter().flatten().copied().collect()
    }

    /// A submission need not wait for this job any more. Whether that was the last.
    fn close(&mut self, first: JobId, job: JobId) -> bool {
        let later = self.waiting.get_mut(&first).expect("it waits");
        later.open.remove(&job);
        if let Some(others) = self.by_job.get_mut(&job) {
            others.remove(&first);
            if others.is_empty() {
                self.by_job.remove(&job);
            }
        }
        later.open.is_empty()
    }

    pub fn check(&self) {
        for (first, later) in &self.waiting {
            assert!(!later.open.is_empty(), "job {first} waits for nothing");
            assert!(later.open.iter().all(|job| self.by_job[job].contains(first)));
        }
        let open: usize = self.waiting.values().map(|later| later.open.len()).sum();
        assert_eq!(open, self.by_job.values().map(BTreeSet::len).sum::<usize>());
    }
}

impl Core {
    /// Refuses a job that would come after one that nobody knows.
    pub(crate) fn check_after(&self, spec: &JobSpec) -> Result<(), Rejection> {
        match spec.after.iter().find(|after| !self.jobs.contains_key(&after.job)) {
            Some(after) => Err(Rejection::NoSuchJob { job: after.job }),
            None => Ok(()),
        }
    }

    /// The jobs that one with this specification has to wait for: `Err` when its turn never comes.
    pub(crate) fn after(&self, spec: &JobSpec) -> Result<BTreeSet<JobId>, EndReason> {
        let mut open = BTreeSet::new();
        for after in &spec.after {
            let state = self.jobs[&after.job].state();
            if !state.is_final() {
                open.insert(after.job);
            } else if state != JobState::Completed && !after.any_end {
                return Err(EndReason::AfterFailed { job: after.job });
            }
        }
        Ok(open)
    }

    /// What a parked job waits for, if that is another one.
    pub(crate) fn waits_for(&self, id: JobId) -> Option<WaitReason> {
        let job = self.dependants.open(self.submission(id))?;
        Some(WaitReason::After { job })
    }

    /// The first job of the submission that a job was part of.
    fn submission(&self, id: JobId) -> JobId {
        JobId(id.0 - u64::from(self.jobs[&id].array_index.unwrap_or(0)))
    }

    /// A job is over: those that come after it have their turn, or will never have it.
    pub(crate) fn on_job_over(&mut self, id: JobId, out: &mut Effects) {
        let mut over = vec![id];
        while let Some(id) = over.pop() {
            for first in self.dependants.after(id) {
                if self.is_in_vain(first, id) {
                    over.extend(self.cancel_after(first, id, out));
                } else if self.dependants.close(first, id) {
                    self.have_their_turn(first);
                }
            }
        }
    }

    /// Whether a submission that comes after a job that is over will never have its turn.
    fn is_in_vain(&self, first: JobId, over: JobId) -> bool {
        let has_completed = self.jobs[&over].state() == JobState::Completed;
        // Forgotten, if its first job was cancelled long ago; the others are of the same mind.
        let Some(spec) = self.submitted_with(first) else { return false };
        let names_it = |after: &lindos_model::job::After| after.job == over && !after.any_end;
        !has_completed && spec.after.iter().any(names_it)
    }

    /// The specification of a submission, by one of its jobs that is still remembered.
    fn submitted_with(&self, first: JobId) -> Option<&JobSpec> {
        let jobs = self.dependants.waiting.get(&first)?.jobs;
        let last = JobId(first.0 + u64::from(jobs - 1));
        self.jobs.range(first..=last).next().map(|(_, job)| job.spec.as_ref())
    }

    /// Cancels the jobs of a submission that comes after one that failed; which they are.
    fn cancel_after(&mut self, first: JobId, failed: JobId, out: &mut Effects) -> Vec<JobId> {
        let waiting: Vec<JobId> =
            self.dependants.release(first).filter(|&job| self.queue.is_parked(job)).collect();
        for &job in &waiting {
            self.dequeue(job);
            let reason = EndReason::AfterFailed { job: failed };
            self.end(job, JobState::Cancelled, reason, out);
        }
        waiting
    }

    /// All that the jobs of a submission come after is over: their wait for a turn begins.
    fn have_their_turn(&mut self, first: JobId) {
        let jobs: Vec<JobId> = self.dependants.release(first).collect();
        for job in jobs {
            if self.queue.is_parked(job) {
                let bucket = self.bucket(job);
                self.queue.unpark(job, bucket, self.now);
                self.jobs.get_mut(&job).expect("it is queued").wait = Some(WaitReason::New);
                self.must_schedule = true;
            }
        }
    }
}
