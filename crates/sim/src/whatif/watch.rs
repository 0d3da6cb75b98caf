//! Looks on while a journal is replayed, and writes down what came from outside.
//!
//! Most events are answers to what the core ordered, and the twin will make them anew. The core
//! itself says what was none: an end of ranks that it called a fault, a node that it had not told to
//! be silent. What people did stands in the journal as they did it.

use super::history::{Incident, PastDeed, PastWhat, Strike, StrikeKind};
use super::jobs::{JobWatch, Judged, Pending};
use super::repairs::Repairs;
use super::replay::Moment;
use crate::reliability::stats::quantile;
use crate::twin::Delays;
use crate::twin::script::What;
use lindos_core::effect::{Command, Order, Reply};
use lindos_core::gang::attempt::Member;
use lindos_core::health::fleet::NodeState;
use lindos_core::job::Job;
use lindos_core::{Core, Effect, Event};
use lindos_model::reason::Charge;
use lindos_model::{
    EndReason, Epoch, Exit, JobId, JobState, Millis, NodeId, NodeSpec, Policy, Time, TrailEntry,
    TrailKind,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Of a larger gang, which takes whole nodes, nobody asks which GPU it was.
const GANG_REMEMBERED: usize = 64;
/// Samples of Lindos's own delays that are kept.
const DELAYS_MAX: usize = 10_000;

/// One who looks on.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    pub(super) began: Option<Time>,
    pub(super) now: Time,
    pub(super) policy: Policy,
    pub(super) nodes: Vec<NodeSpec>,
    pub(super) joined: Vec<Time>,
    pub(super) deeds: Vec<PastDeed>,
    pub(super) jobs: BTreeMap<JobId, JobWatch>,
    pub(super) incidents: Vec<Incident>,
    /// Strikes that may be the job's own: which of an incident's, of whom, and at which step.
    pub(super) suspects: Vec<Suspect>,
    /// Of each node, those that are not over.
    pub(super) silent: BTreeMap<NodeId, usize>,
    pub(super) drained: BTreeMap<NodeId, PastDrain>,
    pub(super) drains: Vec<PastDrain>,
    pub(super) fences: BTreeMap<NodeId, Time>,
    pub(super) launches: Vec<u64>,
    pub(super) stops: Vec<u64>,
    pub(super) fenced: Vec<u64>,
    pub(super) held_ms: u64,
    pub(super) unplayed: BTreeMap<&'static str, u64>,
    pub(super) repairs: Repairs,
}

#[derive(Clone, Debug)]
pub(super) struct Suspect {
    pub incident: usize,
    pub job: JobId,
    pub exit: Exit,
    pub step: Option<u64>,
    pub is_early: bool,
}

#[derive(Clone, Debug)]
pub(super) struct PastDrain {
    pub node: NodeId,
    pub at: Time,
    pub seq: u64,
    pub reason: String,
    pub over: Option<(Time, u64)>,
}

impl Watch {
    /// One record of the replay, in their order.
    pub fn on_moment(&mut self, moment: &Moment) {
        self.began.get_or_insert(moment.at);
        self.now = moment.at;
        self.on_event(moment);
        let mut touched = BTreeSet::new();
        for effect in moment.effects {
            self.on_effect(effect, moment, &mut touched);
        }
        match moment.event {
            Event::NodeReported { attempts, .. } => {
                touched.extend(attempts.iter().map(|attempt| attempt.job));
            }
            Event::GangReported { job, .. }
            | Event::StepReached { job, .. }
            | Event::CheckpointSaved { job, .. } => {
                touched.insert(*job);
            }
            _ => {}
        }
        for id in touched {
            if let Some(job) = moment.core.job(id) {
                self.look(id, job, moment.core);
            }
        }
    }

    pub(super) fn deed(&mut self, seq: u64, what: What) {
        self.deeds.push(PastDeed { at: self.now, seq, what: PastWhat::Does(what) });
    }

    fn on_event(&mut self, moment: &Moment) {
        let seq = moment.seq.0;
        let is_done = || {
            let done = |effect: &Effect| matches!(effect, Effect::Reply { reply: Reply::Done, .. });
            moment.effects.iter().any(done)
        };
        match moment.event {
            Event::ControlPlaneStarted { policy } if self.nodes.is_empty() => {
                self.policy = (**policy).clone();
            }
            Event::ControlPlaneStarted { policy } => self.deed(seq, What::Starts(policy.clone())),
            Event::NodeJoined { spec } => self.on_joined(seq, spec, moment.core),
            Event::NodeSilent { node, last_heard } => {
                self.on_silent(seq, *node, *last_heard, moment.core);
            }
            Event::NodeReported { node, .. } => self.on_heard(*node, moment.core),
            Event::NodeFenced { node, .. } => {
                if let Some(asked) = self.fences.remove(node) {
                    keep(&mut self.fenced, self.now.since(asked));
                }
            }
            Event::NodeDrained { node, reason, .. } if is_done() => {
                let (at, reason) = (self.now, reason.clone());
                let drain = PastDrain { node: *node, at, seq, reason, over: None };
                self.drained.entry(*node).or_insert(drain);
            }
            Event::NodeUndrained { node, .. } if is_done() => {
                if let Some(mut drain) = self.drained.remove(node) {
                    drain.over = Some((self.now, seq));
                    self.drains.push(drain);
                }
            }
            Event::JobCancelled { job, .. } if is_done() => {
                self.deeds.push(PastDeed { at: self.now, seq, what: PastWhat::Cancels(*job) });
            }
            Event::NodesReserved { reservation, .. } if is_done() => {
                self.deed(seq, What::Reserves(reservation.clone()));
            }
            Event::ReservationCancelled { name, .. } if is_done() => {
                self.deed(seq, What::Unreserves(name.clone()));
            }
            Event::StepReached { job, epoch, step, total_steps, .. } => {
                self.on_step(*job, *epoch, *step, *total_steps, moment.core);
            }
            Event::CheckpointSaved { job, epoch, step, blocked_ms } => {
                self.on_saved(seq, *job, *epoch, (*step, *blocked_ms), moment.core);
            }
            _ => {}
        }
        self.on_repair_event(moment, is_done());
    }

    fn on_joined(&mut self, seq: u64, spec: &NodeSpec, core: &Core) {
        // What the core did not take is none of its nodes.
        let Some(node) = core.node_by_name(&spec.name) else { return };
        if node.index() == self.nodes.len() {
            self.nodes.push(spec.clone());
            self.joined.push(self.now);
        }
        self.deed(seq, What::Joins(Box::new(spec.clone())));
    }

    fn on_silent(&mut self, seq: u64, node: NodeId, last_heard: Time, core: &Core) {
        let is_silent = core.node(node).is_some_and(|node| node.state == NodeState::Silent);
        if !is_silent || self.silent.contains_key(&node) {
            return;
        }
        self.silent.insert(node, self.incidents.len());
        let at = last_heard.min(self.now);
        self.incidents.push(Incident { silence: Some(None), ..Incident::new(at, seq, node) });
    }

    fn on_heard(&mut self, node: NodeId, core: &Core) {
        let is_up = core.node(node).is_some_and(|node| node.state == NodeState::Up);
        if let Some(place) = is_up.then(|| self.silent.remove(&node)).flatten() {
            let incident = &mut self.incidents[place];
            incident.silence = Some(Some(self.now.since(incident.at)));
        }
    }

    fn on_step(&mut self, id: JobId, epoch: Epoch, step: u64, total: Option<u64>, core: &Core) {
        let attempt = core.job(id).and_then(|job| job.attempt.as_ref());
        let is_taken = attempt.is_some_and(|attempt| {
            attempt.has_epoch(epoch) && !attempt.is_stopping() && attempt.pace.step == Some(step)
        });
        let now = self.now;
        if let Some(watch) = self.jobs.get_mut(&id).filter(|_| is_taken) {
            watch.on_step(now, step, total);
        }
    }

    fn on_saved(&mut self, seq: u64, id: JobId, epoch: Epoch, saved: (u64, u64), core: &Core) {
        let (now, (step, blocked)) = (self.now, saved);
        let attempt = core.job(id).and_then(|job| job.attempt.as_ref());
        let Some(attempt) = attempt.filter(|attempt| attempt.epoch == epoch) else { return };
        if let Some(watch) = self.jobs.get_mut(&id) {
            watch.on_saved(now, seq, step, blocked, attempt);
        }
    }

    fn on_effect(&mut self, effect: &Effect, moment: &Moment, touched: &mut BTreeSet<JobId>) {
        match effect {
            Effect::Command(command) => {
                touched.insert(command.job);
                self.on_command(command);
            }
            Effect::Fence { node, .. } => {
                self.fences.entry(*node).or_insert(self.now);
            }
            Effect::Trail(entry) => {
                touched.extend(entry.job);
                if let Some(id) = entry.job {
                    self.on_trail(id, entry, moment);
                }
            }
            Effect::Reply { .. }
            | Effect::Remedy { .. }
            | Effect::BurnIn { .. }
            | Effect::CancelBurnIn { .. } => {}
        }
    }

    fn on_command(&mut self, command: &Command) {
        let now = self.now;
        if let (Order::Stop { .. }, Some(watch)) = (&command.order, self.jobs.get_mut(&command.job))
        {
            watch.on_stop_ordered(command.epoch, now);
        }
    }

    fn on_trail(&mut self, id: JobId, entry: &TrailEntry, moment: &Moment) {
        let Some(job) = moment.core.job(id) else { return };
        let now = self.now;
        if let TrailKind::Submitted { .. } = entry.what {
            self.jobs.insert(id, JobWatch::new(now, Arc::clone(&job.spec)));
        }
        let Some(watch) = self.jobs.get_mut(&id) else { return };
        match &entry.what {
            TrailKind::Completed => watch.ended = Some((JobState::Completed, now)),
            TrailKind::Failed { .. } => watch.ended = Some((JobState::Failed, now)),
            TrailKind::Cancelled | TrailKind::CancelledFor { .. } => {
                watch.ended = Some((JobState::Cancelled, now));
            }
            TrailKind::Preempted { .. }
            | TrailKind::Moved { .. }
            | TrailKind::MadeWay { .. }
            | TrailKind::Grows { .. } => watch.stops += 1,
            TrailKind::Fault { reason: EndReason::NodeOut { planned: true, .. }, .. } => {
                watch.stops += 1;
            }
            TrailKind::Fault { reason, .. } => {
                watch.interruptions += 1;
                let epoch = entry.epoch.unwrap_or(job.epoch);
                watch.pending = Some(pending(job, watch, epoch, (now, moment.seq.0), reason));
            }
            TrailKind::ReplicaLost { replica, reason, .. } => {
                watch.replicas_lost += 1;
                let epoch = entry.epoch.unwrap_or(job.epoch);
                let mut pending = pending(job, watch, epoch, (now, moment.seq.0), reason);
                let (attempt, index) = (job.attempt.as_ref(), *replica as usize);
                let replica = attempt.and_then(|attempt| attempt.replicas.get(index));
                let lost = attempt.map(|a| a.members[a.members_of(index).start].node);
                pending.is_early = replica.is_some_and(|replica| replica.first_step_at.is_none());
                pending.apart = lost;
                let reason = reason.clone();
                self.on_judged(id, &Judged { pending, reason }, moment.core);
            }
            TrailKind::ReplicaBack { after, .. } => {
                let launch = median(&self.launches).unwrap_or(Delays::default().launch);
                watch.on_replica_back(*after, launch);
            }
            _ => {}
        }
    }

    fn look(&mut self, id: JobId, job: &Job, core: &Core) {
        let now = self.now;
        let Some(watch) = self.jobs.get_mut(&id) else { return };
        let (looked, judged) = watch.look(job, now);
        self.held_ms = self.held_ms.saturating_add(looked.held);
        if let Some(launch) = looked.launch {
            keep(&mut self.launches, launch);
        }
        if let Some(stop) = looked.stop {
            keep(&mut self.stops, stop);
        }
        if let Some(judged) = judged {
            self.on_judged(id, &judged, core);
        }
    }

    /// It is known what a fault was: where it belongs, and to whom.
    fn on_judged(&mut self, job: JobId, judged: &Judged, core: &Core) {
        let Judged { pending, reason } = judged;
        let (node, what) = match reason {
            EndReason::RankExited { node, exit, .. } => {
                let gpu = |node| pending.gpus.iter().find(|(n, _)| *n == node).map(|(_, gpu)| *gpu);
                let Some(node) = core.node_by_name(node) else { return };
                (node, StrikeKind::RankEnds { gpu: gpu(node), exit: exit.clone() })
            }
            EndReason::AttemptLost { node } => {
                let Some(node) = core.node_by_name(node) else { return };
                (node, StrikeKind::RankEnds { gpu: None, exit: Exit::Lost })
            }
            EndReason::Hang { .. } => {
                let Some(node) = pending.apart.or(pending.first) else { return };
                (node, StrikeKind::Hangs { shows: pending.apart.is_some() })
            }
            EndReason::NoFirstStep { .. } => return self.note_unplayed("no first step in time"),
            EndReason::Refused { .. } => return self.note_unplayed("launches that a node refused"),
            EndReason::LossBroken { .. } => {
                return self.note_unplayed("losses that were no number");
            }
            // The silence is an incident of its own; everything else the core does by itself.
            _ => return,
        };
        let (at, seq) = match reason {
            EndReason::Hang { silent, .. } => {
                (Time(pending.at.0.saturating_sub(silent.0)), pending.seq)
            }
            _ => (pending.at, pending.seq),
        };
        if let (StrikeKind::RankEnds { exit, .. }, Charge::User | Charge::Final) =
            (&what, reason.charge())
        {
            let (exit, step) = (exit.clone(), pending.step);
            let (incident, is_early) = (self.incidents.len(), pending.is_early);
            self.suspects.push(Suspect { incident, job, exit, step, is_early });
        }
        let is_early = pending.is_early;
        let strikes = vec![Strike { after: Millis::ZERO, seq, what, is_early }];
        self.incidents.push(Incident { strikes, ..Incident::new(at, seq, node) });
    }

    fn note_unplayed(&mut self, what: &'static str) {
        *self.unplayed.entry(what).or_default() += 1;
    }
}

fn pending(
    job: &Job,
    watch: &JobWatch,
    epoch: Epoch,
    (at, seq): (Time, u64),
    reason: &EndReason,
) -> Pending {
    let attempt = job.attempt.as_ref().filter(|attempt| attempt.has_epoch(epoch));
    let members = attempt.map_or(&[][..], |attempt| &attempt.members);
    let gpu = |member: &Member| Some((member.node, member.gpus.0.trailing_zeros() as u16));
    let stall = attempt.and_then(|attempt| attempt.evidence.stall.as_ref());
    let apart = stall.and_then(|stall| stall.apart.first());
    let few = if members.len() <= GANG_REMEMBERED { members } else { &[] };
    Pending {
        epoch,
        at,
        seq,
        reason: reason.clone(),
        first: members.first().map(|member| member.node).or(job.last_nodes().first().copied()),
        apart: attempt.zip(apart).and_then(|(attempt, apart)| attempt.node_of_rank(apart.rank)),
        gpus: few.iter().filter_map(gpu).collect(),
        is_early: !watch.has_first_step(),
        step: watch.step_told(),
    }
}

/// The median of so many at most.
fn keep(samples: &mut Vec<u64>, sample: Millis) {
    if samples.len() < DELAYS_MAX {
        samples.push(sample.0);
    }
}

pub(super) fn median(samples: &[u64]) -> Option<Millis> {
    let values: Vec<f64> = samples.iter().map(|&sample| sample as f64).collect();
    quantile(&values, 0.5).map(|value| Millis(value.round() as u64))
}
