//! Jobs that come after others.

use crate::Core;
use crate::effect::{Effects, Rejection};
use lindos_model::{EndReason, JobId, JobSpec, JobState, WaitReason};

impl Core {
    /// Refuses a job that would come after one that nobody knows.
    pub(crate) fn check_after(&self, spec: &JobSpec) -> Result<(), Rejection> {
        match spec.after.iter().find(|after| !self.jobs.contains_key(&after.job)) {
            Some(after) => Err(Rejection::NoSuchJob { job: after.job }),
            None => Ok(()),
        }
    }

    /// What the job has to wait for, if it has to: `Err` when it never comes.
    pub(crate) fn after(&self, spec: &JobSpec) -> Result<Option<WaitReason>, EndReason> {
        let mut waits = None;
        for after in &spec.after {
            // One that is not remembered any more was looked at when it ended.
            let Some(job) = self.jobs.get(&after.job) else { continue };
            match job.state() {
                JobState::Completed => {}
                state if state.is_final() && after.any_end => {}
                state if state.is_final() => {
                    return Err(EndReason::AfterFailed { job: after.job });
                }
                _ => {
                    waits.get_or_insert(WaitReason::After { job: after.job });
                }
            }
        }
        Ok(waits)
    }

    /// A job is over: those that come after it have their turn, or will never have it.
    pub(crate) fn on_job_over(&mut self, id: JobId, out: &mut Effects) {
        let mut over = vec![id];
        while let Some(id) = over.pop() {
            for waiting in self.dependants.remove(&id).unwrap_or_default() {
                let Some(job) = self.jobs.get(&waiting).filter(|job| !job.is_over()) else {
                    continue;
                };
                let spec = std::sync::Arc::clone(&job.spec);
                match self.after(&spec) {
                    Err(reason) => {
                        self.dequeue(waiting);
                        self.end(waiting, JobState::Cancelled, reason, out);
                        over.push(waiting);
                    }
                    Ok(Some(WaitReason::After { job: next })) => {
                        self.dependants.entry(next).or_default().insert(waiting);
                        let wait = Some(WaitReason::After { job: next });
                        self.jobs.get_mut(&waiting).expect("it was just there").wait = wait;
                    }
                    Ok(_) => {
                        if self.queue.is_parked(waiting) {
                            let bucket = self.bucket(waiting);
                            self.queue.unpark(waiting, bucket);
                            let job = self.jobs.get_mut(&waiting).expect("it was just there");
                            job.wait = Some(WaitReason::New);
                            self.must_schedule = true;
                        }
                    }
                }
            }
        }
    }
}
