//! Jobs come, wait, are cancelled, and start when their turn and their nodes have come.

pub mod order;

use crate::Core;
use crate::effect::{Effect, Effects, Rejection, Reply};
use crate::job::{Job, JobLedger};
use crate::placement::{self, Placement, Request};
use crate::recovery::rules::Verdict;
use crate::timer::Timer;
use lindos_model::{EndReason, Epoch, JobId, JobSpec, JobState, RequestId, TrailKind, WaitReason};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All of a job that its placement depends on, but for the nodes that it likes best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    nodes: u32,
    min_nodes: u32,
    gpus_per_node: u16,
    is_restart: bool,
}

impl Shape {
    fn of(job: &Job) -> Shape {
        let spec = &job.spec;
        Shape {
            nodes: spec.nodes,
            min_nodes: spec.min_nodes,
            gpus_per_node: spec.gpus_per_node,
            is_restart: job.epoch.0 > 0,
        }
    }
}

impl Core {
    pub(crate) fn on_job_submitted(
        &mut self,
        request: RequestId,
        user: &str,
        spec: &Arc<JobSpec>,
        out: &mut Effects,
    ) {
        if self.has_answered(request, out) {
            return;
        }
        let reply = match spec.validate() {
            Ok(()) => Reply::Submitted { job: self.accept(user, spec, out) },
            Err(invalid) => {
                let key = invalid.key.to_string();
                let reason = Rejection::InvalidJob { key, message: invalid.message };
                Reply::Rejected { reason }
            }
        };
        self.answer(request, reply, out);
    }

    /// Whether a request was answered before, as far back as requests are remembered; if so, it is
    /// answered the same again.
    pub(crate) fn has_answered(&self, request: RequestId, out: &mut Effects) -> bool {
        let before = self.requests.get(&request);
        out.extend(before.map(|reply| Effect::Reply { request, reply: reply.clone() }));
        before.is_some()
    }

    pub(crate) fn answer(&mut self, request: RequestId, reply: Reply, out: &mut Effects) {
        self.requests.insert(request, reply.clone());
        self.request_order.push_back(request);
        while self.request_order.len() > self.policy.requests_max as usize {
            let oldest = self.request_order.pop_front().expect("it is not empty");
            self.requests.remove(&oldest);
        }
        out.push(Effect::Reply { request, reply });
    }

    fn accept(&mut self, user: &str, spec: &Arc<JobSpec>, out: &mut Effects) -> JobId {
        self.last_job += 1;
        let id = JobId(self.last_job);
        let job = Job {
            id,
            user: user.to_string(),
            spec: Arc::clone(spec),
            ended: None,
            submitted_at: self.now,
            started_at: None,
            ended_at: None,
            attempt: None,
            epoch: Epoch(0),
            history: Vec::new(),
            wait: Some(WaitReason::New),
            infrastructure_used: 0,
            user_used: 0,
            faults: 0,
            failures_without_progress: 0,
            reports_steps: false,
            step_ms: None,
            longest_gap_ms: 0,
            is_pause_known: false,
            best_step: None,
            total_steps: None,
            checkpoint_step: None,
            first_loss_micro: None,
            last_loss_micro: None,
            held_ms: 0,
            ledger: JobLedger::default(),
        };
        self.queue.push(spec.priority, id, job.gpus());
        self.jobs.insert(id, job);
        let what = TrailKind::Submitted {
            name: spec.name.clone(),
            nodes: spec.nodes,
            gpus_per_node: spec.gpus_per_node,
        };
        self.say(Some((id, None)), None, what, out);
        self.must_schedule = true;
        id
    }

    /// Ends a waiting job, or tells why the running attempt is to be stopped.
    pub(crate) fn on_job_cancelled(
        &mut self,
        request: RequestId,
        id: JobId,
        out: &mut Effects,
    ) -> Option<EndReason> {
        if self.has_answered(request, out) {
            return None;
        }
        let (reply, follows) = match self.jobs.get(&id) {
            None => (Err(Rejection::NoSuchJob { job: id }), None),
            Some(job) if job.is_over() => {
                (Err(Rejection::JobIsOver { job: id, state: job.state() }), None)
            }
            Some(job) if job.attempt.is_none() => {
                self.dequeue(id);
                self.finish(id, JobState::Cancelled, EndReason::Cancelled, out);
                (Ok(()), None)
            }
            Some(_) => (Ok(()), Some(EndReason::Cancelled)),
        };
        let reply = match reply {
            Ok(()) => Reply::Done,
            Err(reason) => Reply::Rejected { reason },
        };
        self.answer(request, reply, out);
        follows
    }

    fn dequeue(&mut self, id: JobId) {
        let job = &self.jobs[&id];
        self.queue.remove(job.spec.priority, id, job.gpus());
        self.timers.cancel(Timer::Backoff(id));
        self.must_schedule = true;
    }

    /// Puts a job whose attempt is over back in the queue, or ends it.
    pub(crate) fn on_verdict(
        &mut self,
        id: JobId,
        reason: EndReason,
        verdict: &Verdict,
        out: &mut Effects,
    ) {
        match verdict {
            Verdict::Completed => self.finish(id, JobState::Completed, reason, out),
            Verdict::Cancelled => self.finish(id, JobState::Cancelled, reason, out),
            Verdict::Failed => self.finish(id, JobState::Failed, reason, out),
            Verdict::Retry { backoff, .. } => {
                let job = self.jobs.get_mut(&id).expect("it was just looked at");
                job.attempt = None;
                let (priority, gpus) = (job.spec.priority, job.gpus());
                let until = self.now + *backoff;
                if until > self.now {
                    let failures = job.failures_without_progress;
                    job.wait = Some(WaitReason::Backoff { until, failures });
                    self.timers.set(Timer::Backoff(id), until);
                } else {
                    job.wait = Some(WaitReason::New);
                }
                self.queue.push(priority, id, gpus);
            }
        }
        self.must_schedule = true;
    }

    fn finish(&mut self, id: JobId, state: JobState, reason: EndReason, out: &mut Effects) {
        let job = self.jobs.get_mut(&id).expect("only a known job ends");
        job.wait = None;
        job.ended_at = Some(self.now);
        job.ended = Some((state, reason.clone()));
        let epoch = (job.epoch.0 > 0).then_some(job.epoch);
        let what = match state {
            JobState::Completed => TrailKind::Completed,
            JobState::Cancelled => TrailKind::Cancelled,
            _ => TrailKind::Failed { reason },
        };
        self.say(Some((id, epoch)), None, what, out);
        self.finished.push_back(id);
        while self.finished.len() > self.policy.finished_jobs_max as usize {
            let oldest = self.finished.pop_front().expect("it is not empty");
            let job = self.jobs.remove(&oldest).expect("it was not forgotten before");
            for (column, gpu_ms) in job.ledger.totals.iter() {
                self.forgotten[column] += gpu_ms;
            }
        }
    }

    /// Starts every job that may start now, in order.
    pub(crate) fn schedule(&mut self, out: &mut Effects) {
        self.queue.blocked_by = None;
        self.queue.first_wait = None;
        let mut previous = None;
        // What could not be placed in this pass cannot be later in it: starts only take.
        let mut failed: BTreeMap<Shape, WaitReason> = BTreeMap::new();
        while let Some(next) = self.queue.after(previous) {
            previous = Some(next);
            let id = next.1;
            let shape = Shape::of(&self.jobs[&id]);
            let placed = match failed.get(&shape) {
                Some(reason) if self.timers.get(Timer::Backoff(id)).is_none() => {
                    Err(reason.clone())
                }
                _ => self.place(id),
            };
            match placed {
                Ok(placement) => {
                    self.dequeue(id);
                    self.must_schedule = false;
                    self.start_attempt(id, &placement, out);
                }
                Err(reason) => {
                    let blocks = matches!(reason, WaitReason::Busy { .. });
                    if !matches!(reason, WaitReason::Backoff { .. }) {
                        failed.entry(shape).or_insert_with(|| reason.clone());
                    }
                    self.queue.first_wait.get_or_insert_with(|| reason.name().to_string());
                    self.note_wait(id, reason, out);
                    if blocks {
                        self.queue.blocked_by = Some(id);
                        return;
                    }
                }
            }
        }
    }

    /// Where the job would go now, or why it cannot.
    fn place(&mut self, id: JobId) -> Result<Placement, WaitReason> {
        let job = &self.jobs[&id];
        if let Some(until) = self.timers.get(Timer::Backoff(id)) {
            return Err(WaitReason::Backoff { until, failures: job.failures_without_progress });
        }
        let is_restart = job.epoch.0 > 0;
        let spec = Arc::clone(&job.spec);
        let mut prefer = job.last_nodes().to_vec();
        prefer.sort_unstable();
        let request = |nodes| Request {
            nodes,
            spares: if is_restart { 0 } else { self.policy.spares },
            prefer: &prefer,
            ..Request::of(&spec)
        };
        let whole = placement::place(&mut self.fleet, &request(spec.nodes));
        match whole {
            Err(WaitReason::NodesOut { nodes_free, .. } | WaitReason::Busy { nodes_free, .. })
                if is_restart && nodes_free >= spec.min_nodes =>
            {
                placement::place(&mut self.fleet, &request(nodes_free))
            }
            other => other,
        }
    }

    fn note_wait(&mut self, id: JobId, reason: WaitReason, out: &mut Effects) {
        let job = self.jobs.get_mut(&id).expect("it is queued");
        let is_news = job.wait.as_ref().is_none_or(|before| before.name() != reason.name());
        let epoch = (job.epoch.0 > 0).then_some(job.epoch);
        job.wait = Some(reason.clone());
        if is_news {
            self.say(Some((id, epoch)), None, TrailKind::Waiting { reason }, out);
        }
    }
}
