//! One job, watched through a replay.

use super::measure::{Ending, Reached, Samples, Stretch};
use lindos_core::gang::attempt::{Attempt, ReplicaState};
use lindos_core::job::{Job, PastAttempt};
use lindos_model::reason::Charge;
use lindos_model::{EndReason, Epoch, Exit, JobSpec, JobState, Millis, NodeId, Time};
use std::sync::Arc;

/// Words of a job that are kept until it is known which of them saved.
const WORDS_MAX: usize = 4096;
/// A checkpoint came when it was advised, give or take this share of the interval.
const ADVICE_TOLERANCE: f64 = 0.05;

#[derive(Clone, Debug)]
pub(super) struct JobWatch {
    pub at: Time,
    pub spec: Arc<JobSpec>,
    pub samples: Samples,
    pub started: Option<Time>,
    pub ended: Option<(JobState, Time)>,
    pub interruptions: u64,
    pub stops: u64,
    pub replicas_lost: u64,
    attempt: Option<AttemptWatch>,
    /// What ended an attempt, until all evidence is in.
    pub pending: Option<Pending>,
    /// The last step that was told of an attempt which is over.
    last_told: Option<u64>,
    /// How far the attempt was that came last to its end.
    reached: Reached,
    failure: Option<Exit>,
}

/// A fault of a whole gang that the core has just called one.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub epoch: Epoch,
    pub at: Time,
    pub seq: u64,
    pub reason: EndReason,
    /// Where its first rank was.
    pub first: Option<NodeId>,
    /// Of a hang: where a look at the ranks has shown one that stood still.
    pub apart: Option<NodeId>,
    /// The first GPU that it had on each of its nodes.
    pub gpus: Vec<(NodeId, u16)>,
    /// Before the first step of the attempt.
    pub is_early: bool,
    /// The last step that was told.
    pub step: Option<u64>,
}

/// A fault with all evidence in.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub pending: Pending,
    pub reason: EndReason,
}

#[derive(Clone, Debug)]
struct AttemptWatch {
    epoch: Epoch,
    is_up: bool,
    up_at: Option<Time>,
    first_step: Option<(Time, u64)>,
    /// As Lindos advised.
    save_every: Option<Millis>,
    /// From where the next stretch without a checkpoint counts: since when, the steps, and a node
    /// on which it trains.
    anchor: Option<(Time, u64, NodeId)>,
    /// The same for the rough pace.
    first_word: Option<(Time, u64)>,
    last_word: Option<(Time, u64)>,
    /// The step of the newest checkpoint, or where the attempt began.
    saved: Option<u64>,
    /// Which share of the replicas trained, from when on.
    shares: Vec<(Time, f64)>,
    blocked: u64,
    words: Vec<(u64, Time)>,
    stopped_at: Option<Time>,
}

/// What a look has found out about Lindos itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looked {
    pub launch: Option<Millis>,
    pub stop: Option<Millis>,
    /// Node-milliseconds that an attempt which is over has held.
    pub held: u64,
}

impl JobWatch {
    pub fn new(at: Time, spec: Arc<JobSpec>) -> JobWatch {
        JobWatch {
            at,
            spec,
            samples: Samples::default(),
            started: None,
            ended: None,
            interruptions: 0,
            stops: 0,
            replicas_lost: 0,
            attempt: None,
            pending: None,
            last_told: None,
            reached: Reached::default(),
            failure: None,
        }
    }

    /// After an event that may concern the job: what is new of its attempts, and the fault that is
    /// judged now.
    pub fn look(&mut self, job: &Job, now: Time) -> (Looked, Option<Judged>) {
        let mut looked = Looked::default();
        self.started = self.started.or(job.started_at);
        let over = self.attempt.as_ref().map(|watch| watch.epoch);
        let past = job.history.last().filter(|past| over.is_some_and(|o| past.epoch >= o));
        let mut judged = None;
        if let Some(past) = past.cloned() {
            (looked, judged) = self.on_attempt_over(&past);
        }
        let present = job.attempt.as_ref().filter(|_| !job.is_over());
        if let Some(attempt) = present {
            let launch = self.look_at_attempt(attempt, job, now);
            looked.launch = looked.launch.or(launch);
        }
        (looked, judged)
    }

    fn look_at_attempt(&mut self, attempt: &Attempt, job: &Job, now: Time) -> Option<Millis> {
        let is_known = self.attempt.as_ref().is_some_and(|watch| watch.epoch == attempt.epoch);
        if !is_known {
            let over = job.history.last().is_some_and(|past| past.epoch >= attempt.epoch);
            if over {
                return None;
            }
            self.attempt = Some(AttemptWatch::new(attempt));
        }
        let watch = self.attempt.as_mut().expect("it was just made");
        watch.note_share(now, attempt);
        let mut launch = None;
        if let (false, Some(up_at)) = (watch.is_up, attempt.all_up_at) {
            watch.is_up = true;
            watch.up_at = Some(up_at);
            launch = Some(up_at.since(attempt.launched_at));
        }
        if let (None, Some(first)) = (watch.first_step, attempt.first_step_at) {
            let step = attempt.pace.step.unwrap_or(0);
            watch.first_step = Some((first, step));
            watch.anchor = Some((first, step, training_on(attempt)));
            watch.saved = Some(attempt.resumed_from.unwrap_or(0));
            watch.note_share(first, attempt);
            let start = first.since(watch.up_at.unwrap_or(now)).0;
            let began_with = attempt.resumed_from.or((job.history.is_empty()).then_some(0));
            self.samples.leads.extend(began_with.map(|from| step.saturating_sub(from)));
            match attempt.resumed_from {
                Some(step) if step > 0 => self.samples.resumed_starts.push(start),
                _ => {
                    self.samples.fresh_starts.push(start);
                    self.samples.went_on.extend(self.last_told.map(|reached| (reached, step)));
                }
            }
        }
        launch
    }

    /// A step was told, and the core took it.
    pub fn on_step(&mut self, now: Time, step: u64, total: Option<u64>) {
        self.samples.has_told_steps = true;
        self.samples.total_steps = total.or(self.samples.total_steps);
        let Some(watch) = &mut self.attempt else { return };
        watch.first_word.get_or_insert((now, step));
        watch.last_word = Some((now, step));
        if watch.words.len() == WORDS_MAX {
            watch.words.drain(..WORDS_MAX / 2);
        }
        watch.words.push((step, now));
    }

    /// A checkpoint of the present attempt is durable. `blocked`: what all of them have, so far.
    pub fn on_saved(&mut self, now: Time, seq: u64, step: u64, blocked: u64, attempt: &Attempt) {
        let is_stopping = attempt.is_stopping();
        let Some(watch) = &mut self.attempt else { return };
        let blocks = blocked.saturating_sub(watch.blocked);
        watch.blocked = watch.blocked.max(blocked);
        let told = watch.words.iter().rev().find(|(word, _)| *word == step);
        let begun = told.map_or(now, |(_, at)| *at);
        self.samples.blocks.push(blocks);
        self.samples.lags.push(now.since(begun).0.saturating_sub(blocks));
        if let Some((from, steps, node)) = watch.anchor.filter(|_| !is_stopping) {
            let (ms, steps) = (watch.trained(from, begun), step.saturating_sub(steps));
            self.samples.stretches.push(Stretch { at: from, seq, ms, steps, node });
        }
        if let Some(gap) = watch.saved.map(|saved| step.saturating_sub(saved))
            && !is_stopping
        {
            self.samples.gaps.push(gap);
            let a_step = self.samples.stretches.last().map_or(0.0, Stretch::step_ms);
            let span = a_step * gap as f64;
            let is_advised = watch.save_every.is_some_and(|advised| {
                (span - advised.0 as f64).abs() <= advised.0 as f64 * ADVICE_TOLERANCE + a_step
            });
            self.samples.advised += u64::from(is_advised);
        }
        watch.anchor = Some((begun + Millis(blocks), step, training_on(attempt)));
        watch.saved = Some(step);
        let past = watch.shares.partition_point(|(at, _)| *at <= begun);
        watch.shares.drain(..past.saturating_sub(1));
        watch.words.retain(|(word, _)| *word > step);
    }

    /// A replica that was launched anew trains.
    pub fn on_replica_back(&mut self, after: Millis, launch: Millis) {
        self.samples.joins.push((after - launch).0);
    }

    pub fn on_stop_ordered(&mut self, epoch: Epoch, now: Time) {
        if let Some(watch) = self.attempt.as_mut().filter(|watch| watch.epoch == epoch) {
            watch.stopped_at.get_or_insert(now);
        }
    }

    pub fn step_told(&self) -> Option<u64> {
        self.attempt.as_ref()?.last_word.map(|(_, step)| step)
    }

    pub fn has_first_step(&self) -> bool {
        self.attempt.as_ref().is_some_and(|watch| watch.first_step.is_some())
    }

    fn on_attempt_over(&mut self, past: &PastAttempt) -> (Looked, Option<Judged>) {
        let Some(watch) = self.attempt.take() else { return (Looked::default(), None) };
        let mut looked = Looked::default();
        let held = past.ended_at.since(past.launched_at).0;
        looked.held = held.saturating_mul(past.nodes.len() as u64);
        let is_clean = matches!(past.reason, EndReason::RankExited { .. } | EndReason::Hang { .. });
        if let Some(stopped_at) = watch.stopped_at.filter(|_| is_clean) {
            looked.stop = Some(past.ended_at.since(stopped_at));
        }
        self.note_rough_pace(&watch);
        self.last_told = watch.last_word.map(|(_, step)| step).or(self.last_told);
        let pending = self.pending.take_if(|pending| pending.epoch == past.epoch);
        let work_ended = pending.as_ref().map_or(past.ended_at, |pending| pending.at);
        self.reached = watch.reached(work_ended);
        self.failure = match &past.reason {
            EndReason::RankExited { exit, .. } => Some(exit.clone()),
            _ => None,
        };
        // Of a gang of replicas, the blame may fall on one that was lost before, and is on record.
        let has_replicas = self.spec.replicas > 1;
        let judged = pending.map(|pending| {
            let reason = if has_replicas { &pending.reason } else { &past.reason };
            Judged { reason: reason.clone(), pending }
        });
        (looked, judged)
    }

    /// The recording is over: what the job still does is seen so far.
    pub fn settle(&mut self, until: Time) {
        if let Some(watch) = self.attempt.take() {
            self.reached = watch.reached(until);
            self.note_rough_pace(&watch);
        }
    }

    fn note_rough_pace(&mut self, watch: &AttemptWatch) {
        if let (Some((from, first)), Some((to, last))) = (watch.first_word, watch.last_word) {
            self.samples.rough_pace.0 += to.since(from).0.saturating_sub(watch.blocked);
            self.samples.rough_pace.1 += last - first.min(last);
        }
    }

    /// How it came to its end; of one that is not over, that nobody knows.
    pub fn ending(&self) -> Ending {
        match (&self.ended, &self.failure) {
            (Some((JobState::Completed, _)), _) => Ending::Completed(self.reached),
            (Some((JobState::Failed, _)), Some(exit)) if Self::is_own(exit) => {
                Ending::Failed(self.reached, exit.clone())
            }
            _ => Ending::Open,
        }
    }

    /// Whether nobody has seen it at work.
    pub fn is_unseen(&self) -> bool {
        let is_to_tell =
            self.spec.startup_timeout.is_some() || self.spec.progress_pattern.is_some();
        let has_ended = matches!(self.ending(), Ending::Completed(_) | Ending::Failed(..));
        !self.samples.has_told_steps && !has_ended && (self.started.is_none() || is_to_tell)
    }

    /// Whether the core charged such an end to the user.
    fn is_own(exit: &Exit) -> bool {
        let (rank, node) = (lindos_model::Rank(0), String::new());
        let reason = EndReason::RankExited { rank, node, exit: exit.clone() };
        matches!(reason.charge(), Charge::User | Charge::Final)
    }
}

/// Node-milliseconds that a job's present attempt has held.
pub(super) fn held(job: &Job, now: Time) -> u64 {
    let attempt = job.attempt.as_ref().filter(|_| !job.is_over());
    attempt.map_or(0, |attempt| {
        now.since(attempt.launched_at).0.saturating_mul(attempt.members.len() as u64)
    })
}

/// The first node of those that train.
fn training_on(attempt: &Attempt) -> NodeId {
    let trains = |replica: &usize| attempt.replicas[*replica].state == ReplicaState::Launched;
    let replica = (0..attempt.replicas.len()).find(trains).unwrap_or(0);
    attempt.members[attempt.members_of(replica).start].node
}

impl AttemptWatch {
    fn new(attempt: &Attempt) -> AttemptWatch {
        AttemptWatch {
            epoch: attempt.epoch,
            is_up: false,
            up_at: None,
            first_step: None,
            save_every: attempt.save_every,
            anchor: None,
            first_word: None,
            last_word: None,
            saved: None,
            shares: Vec::new(),
            blocked: 0,
            words: Vec::new(),
            stopped_at: None,
        }
    }

    fn note_share(&mut self, now: Time, attempt: &Attempt) {
        let share = attempt.training() as f64 / attempt.replicas.len() as f64;
        if self.shares.last().is_none_or(|(_, last)| (last - share).abs() > f64::EPSILON) {
            self.shares.push((now, share));
        }
    }

    /// Milliseconds between two moments, those less in which not all replicas trained.
    fn trained(&self, from: Time, to: Time) -> u64 {
        let ends = self.shares.iter().skip(1).map(|(at, _)| *at).chain([Time(u64::MAX)]);
        let parts = self.shares.iter().zip(ends).map(|((began, share), ended)| {
            let (began, ended) = ((*began).max(from), ended.min(to));
            ended.since(began).0 as f64 * share
        });
        parts.sum::<f64>().round() as u64
    }

    fn reached(&self, at: Time) -> Reached {
        match (self.anchor, self.up_at) {
            (Some((from, steps, _)), _) => Reached { steps, more_ms: self.trained(from, at) },
            (None, Some(up_at)) => Reached { steps: 0, more_ms: at.since(up_at).0 },
            (None, None) => Reached::default(),
        }
    }
}
