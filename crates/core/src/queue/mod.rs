//! Jobs come, wait, are cancelled, and start when their turn and their nodes have come.

pub mod after;
pub mod claims;
pub mod elastic;
pub mod find;
pub mod forecast;
pub mod hold;
pub mod limits;
pub mod order;
pub mod pass;
pub mod preempt;
pub mod reserve;
pub mod spares;
pub mod teams;

use crate::Core;
use crate::effect::{Effect, Effects, Rejection, Reply};
use crate::gang::attempt::Shunned;
use crate::health::record::Conspicuous;
use crate::job::{Job, JobLedger};
use crate::recovery::rules::Verdict;
use crate::timer::Timer;
use lindos_model::reason::Charge;
use lindos_model::{
    EndReason, Epoch, JobId, JobSpec, JobState, Millis, NodeId, Policy, RequestId, TrailKind,
    WaitReason,
};
use order::{Bucket, Shape, Waiting};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use teams::TeamId;

/// Characters of a team's name: one that the policy does not have is kept as the jobs say it.
const NAME_MAX: usize = 64;

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
        let reply = match self.acceptable(spec) {
            Ok(()) => Reply::Submitted { job: self.accept(user, spec, out) },
            Err(reason) => Reply::Rejected { reason },
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

    pub(crate) fn acceptable(&self, spec: &JobSpec) -> Result<(), Rejection> {
        let invalid = |key: &str, message: String| {
            Err(Rejection::InvalidJob { key: key.to_string(), message })
        };
        if let Err(error) = spec.validate() {
            return invalid(error.key, error.message);
        }
        if spec.team.len() > NAME_MAX {
            return invalid("team", format!("a name has at most {NAME_MAX} characters"));
        }
        let policy = &self.policy;
        if !spec.class.is_empty() && !policy.classes.iter().any(|c| c.name == spec.class) {
            return invalid("class", format!("there is no class `{}`", spec.class));
        }
        if !policy.teams.is_empty() && !policy.teams.iter().any(|team| team.name == spec.team) {
            return invalid("team", format!("there is no team `{}`", spec.team));
        }
        let wanted = u64::from(spec.min_nodes) * u64::from(spec.gpus_per_node);
        if let Some((team, limit)) = self.teams.too_large(&spec.team, wanted) {
            let message =
                format!("it wants {wanted} GPUs, and the limit of team {team} is {limit}");
            return invalid("gang.nodes", message);
        }
        self.check_after(spec)
    }

    /// Takes a job, or all jobs of an array; the first of them.
    fn accept(&mut self, user: &str, spec: &Arc<JobSpec>, out: &mut Effects) -> JobId {
        let first = JobId(self.last_job + 1);
        let after = self.after(spec);
        let jobs = spec.array.unwrap_or(1);
        for index in 0..jobs {
            self.accept_one(user, spec, spec.array.map(|_| index), &after, out);
        }
        if let Ok(open) = after
            && !open.is_empty()
        {
            self.dependants.wait(first, jobs, open);
        }
        self.forget_oldest();
        first
    }

    fn accept_one(
        &mut self,
        user: &str,
        spec: &Arc<JobSpec>,
        index: Option<u32>,
        after: &Result<BTreeSet<JobId>, EndReason>,
        out: &mut Effects,
    ) {
        self.last_job += 1;
        let id = JobId(self.last_job);
        let job = Job {
            id,
            user: user.to_string(),
            spec: Arc::clone(spec),
            array_index: index,
            team: self.teams.id(&spec.team),
            priority: priority(&self.policy, spec),
            preempted_at: None,
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
            doubt: None,
            shunned: Shunned::default(),
            was_slow: None,
            reports_steps: false,
            stands_by: false,
            step_ms: None,
            longest_gap_ms: 0,
            is_pause_known: false,
            best_step: None,
            total_steps: None,
            checkpoint_step: None,
            checkpoints: VecDeque::new(),
            spoilt: None,
            checkpoint_cost: None,
            first_loss_micro: None,
            last_loss_micro: None,
            held_ms: 0,
            ledger: JobLedger::default(),
        };
        let gpus = job.gpus();
        self.teams.remember(job.team, self.now);
        self.jobs.insert(id, Box::new(job));
        let what = TrailKind::Submitted {
            name: spec.name.clone(),
            nodes: spec.nodes,
            gpus_per_node: spec.gpus_per_node,
        };
        self.say(Some((id, None)), None, what, out);
        let waiting = Waiting { job: id, since: self.now, gpus, is_restart: false };
        match after.as_ref().map(BTreeSet::first) {
            Ok(None) => self.queue.push(waiting, Some(self.bucket(id))),
            Ok(Some(&first)) => {
                self.queue.push(waiting, None);
                self.note_wait(id, WaitReason::After { job: first }, out);
            }
            // Nobody can come after it yet.
            Err(reason) => self.end(id, JobState::Cancelled, reason.clone(), out),
        }
        self.must_schedule = true;
    }

    /// Jobs alike to the one.
    pub(crate) fn bucket(&self, id: JobId) -> Bucket {
        let job = &self.jobs[&id];
        Bucket {
            priority: Reverse(job.priority),
            team: job.team,
            limit: job
                .spec
                .time_limit
                .map(|limit| limit - Millis(job.held_ms) + job.spec.stop_grace),
            preempts: self.preempts(&job.spec),
            shape: Shape::of(&job.spec),
        }
    }

    /// Whether a job's class lets it stop those of a lower priority.
    pub(crate) fn preempts(&self, spec: &JobSpec) -> bool {
        self.policy.classes.iter().any(|class| class.name == spec.class && class.preempts)
    }

    /// A policy begins to hold: teams and priorities are what it says.
    pub(crate) fn on_policy(&mut self, policy: &Policy) {
        self.policy = policy.clone();
        // Under it, strikes may count for longer than before.
        self.conspicuous = Conspicuous::among(&self.health);
        self.teams.rule_by(policy);
        let mut held: BTreeMap<TeamId, u64> = BTreeMap::new();
        for id in &self.alive {
            let job = &self.jobs[id];
            let gpus = job.attempt.as_ref().map_or(0, |attempt| self.gpus_of(attempt));
            *held.entry(job.team).or_default() += gpus;
        }
        self.teams.recount(&held, self.now);
        let waiting: Vec<JobId> = self.queue.iter().chain(self.alive.iter().copied()).collect();
        for id in waiting {
            let job = self.jobs.get_mut(&id).expect("it waits or runs");
            job.priority = priority(policy, &job.spec);
        }
        let mut queue = std::mem::take(&mut self.queue);
        queue.sort_anew(|id| self.bucket(id));
        self.queue = queue;
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

    pub(crate) fn dequeue(&mut self, id: JobId) {
        self.release_hold(id);
        self.queue.remove(id);
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
            Verdict::Completed => {
                let job = &self.jobs[&id];
                self.runtimes.on_completed(job.spec.time_limit, Millis(job.held_ms));
                self.finish(id, JobState::Completed, reason, out);
            }
            Verdict::Cancelled => self.finish(id, JobState::Cancelled, reason, out),
            Verdict::Failed => self.finish(id, JobState::Failed, reason, out),
            Verdict::Retry { backoff, charge } => {
                // A victim waits for its turn; the others have a place to go to.
                let is_restart = !matches!(reason, EndReason::Preempted { .. });
                self.wait_again(id, *backoff, *charge, is_restart);
            }
        }
        self.must_schedule = true;
    }

    /// Puts a job whose attempt is over back in the queue. While it waits out its backoff for no
    /// fault of its own, its nodes are held for it.
    fn wait_again(&mut self, id: JobId, backoff: Millis, charge: Charge, is_restart: bool) {
        let job = self.jobs.get_mut(&id).expect("it was just looked at");
        job.attempt = None;
        let waiting = Waiting { job: id, since: self.now, gpus: job.gpus(), is_restart };
        if backoff == Millis::ZERO {
            job.wait = Some(WaitReason::New);
            let bucket = self.bucket(id);
            self.queue.push(waiting, Some(bucket));
            return;
        }
        let until = self.now + backoff;
        let failures = job.failures_without_progress;
        job.wait = Some(WaitReason::Backoff { until, failures });
        self.timers.set(Timer::Backoff(id), until);
        self.queue.push(waiting, None);
        if charge == Charge::Infrastructure {
            self.release_hold(id);
            let is_ours = |&&node: &&NodeId| {
                let node = self.fleet.node(node);
                node.in_service() && node.is_whole() && node.is_open()
            };
            let nodes: Vec<NodeId> =
                self.jobs[&id].last_nodes().iter().filter(is_ours).copied().collect();
            self.hold(id, nodes, None, false);
        }
    }

    /// A job has waited out its backoff.
    pub(crate) fn on_backoff_over(&mut self, id: JobId) {
        if self.queue.is_parked(id) {
            let bucket = self.bucket(id);
            self.queue.unpark(id, bucket, self.now);
            self.jobs.get_mut(&id).expect("it is queued").wait = Some(WaitReason::New);
            self.must_schedule = true;
        }
    }

    /// A job is over, and those that come after it learn of it.
    fn finish(&mut self, id: JobId, state: JobState, reason: EndReason, out: &mut Effects) {
        // One that was moved may be over before it is there.
        self.release_hold(id);
        self.end(id, state, reason, out);
        self.on_job_over(id, out);
        self.forget_oldest();
    }

    pub(crate) fn end(&mut self, id: JobId, state: JobState, reason: EndReason, out: &mut Effects) {
        let job = self.jobs.get_mut(&id).expect("only a known job ends");
        job.wait = None;
        job.ended_at = Some(self.now);
        job.ended = Some((state, reason.clone()));
        let epoch = (job.epoch.0 > 0).then_some(job.epoch);
        let what = match state {
            JobState::Completed => TrailKind::Completed,
            JobState::Cancelled if reason == EndReason::Cancelled => TrailKind::Cancelled,
            JobState::Cancelled => TrailKind::CancelledFor { reason },
            _ => TrailKind::Failed { reason },
        };
        self.say(Some((id, epoch)), None, what, out);
        self.finished.push_back(id);
    }

    /// Forgets the jobs that were over first, when there are too many.
    fn forget_oldest(&mut self) {
        while self.finished.len() > self.policy.finished_jobs_max as usize {
            let oldest = self.finished.pop_front().expect("it is not empty");
            let job = self.jobs.remove(&oldest).expect("it was not forgotten before");
            self.teams.forget(job.team);
            for (column, gpu_ms) in job.ledger.totals.iter() {
                self.forgotten[column] += gpu_ms;
            }
        }
    }
}

/// The priority of a job: that of its class, or its own.
pub(crate) fn priority(policy: &Policy, spec: &JobSpec) -> i32 {
    let class = policy.classes.iter().find(|class| class.name == spec.class);
    class.map_or(spec.priority, |class| class.priority)
}
