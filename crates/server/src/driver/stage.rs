//! From inputs to the events of one batch.

use super::{Answer, Ask, DEAF_MIN, Driver, Fatal, Input, LOOK_INTERVAL, Waiter};
use crate::fault::Fault;
use axum::http::StatusCode;
use lindos_api::agent::{RankProgress, RankSymptom, Report, ReportAck};
use lindos_core::Event;
use lindos_core::edges::{self, RankReading, Reading, Worth};
use lindos_core::effect::Reply;
use lindos_core::gang::attempt::Attempt;
use lindos_core::health::fleet::NodeState;
use lindos_journal::Disk;
use lindos_model::fleet::FLEET_NODES_MAX;
use lindos_model::node::GPUS_PER_NODE_MAX;
use lindos_model::reservation::Reservation;
use lindos_model::{Epoch, NodeId, NodeSpec, Rank, RequestId, Time};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Names stand in paths and in tables.
const NODE_NAME_MAX: usize = 253;

/// The events of one batch, and who waits for them.
#[derive(Default)]
pub(super) struct Staged {
    pub(super) events: Vec<(Event, Option<Waiter>)>,
    /// Nodes of which a report is among them.
    reported: BTreeSet<NodeId>,
}

impl<D: Disk> Driver<D> {
    /// One batch: inputs become events, events become durable, and then they happen.
    pub(super) fn turn(&mut self, inputs: Vec<Input>) -> Result<(), Fatal> {
        let now = self.clock.now();
        // A machine that was asleep, or a disk that stalled: nobody was heard, and nobody is to
        // blame for it.
        let deaf = self.listened_at.elapsed();
        let bound = Duration::from_millis(self.world.core.policy().node_silent_ms / 2);
        if deaf > bound.max(DEAF_MIN) {
            tracing::warn!(?deaf, "nothing was heard meanwhile; silence counts from now on");
            self.listen_anew(now);
        }
        self.listened_at = Instant::now();

        let mut staged = Staged::default();
        for (report, answer) in std::mem::take(&mut self.deferred) {
            self.on_report(now, report, answer, true, &mut staged);
        }
        for input in inputs {
            self.on_input(now, input, &mut staged);
        }
        if self.may_act_alone() {
            if self.mending.must_look || self.looked_at.elapsed() >= LOOK_INTERVAL {
                self.mend(&mut staged);
            }
            self.on_time(now, &mut staged);
        }
        if staged.events.is_empty() {
            return Ok(());
        }
        self.commit(now, staged)
    }

    fn on_input(&mut self, now: Time, input: Input, staged: &mut Staged) {
        match input {
            Input::Request { request, ask, answer } => {
                self.on_request(request, ask, answer, staged);
            }
            Input::Report { report, answer } => {
                self.on_report(now, report, answer, false, staged);
            }
            Input::Connect { node, incarnation, messages, answer } => {
                let connected = self.world.agents.connect(&node, incarnation, messages);
                let outcome = if connected {
                    Ok(())
                } else {
                    let message = format!("a later start of the agent of {node} is connected");
                    Err(Fault::new(StatusCode::CONFLICT, "stale_incarnation", message))
                };
                let _ = answer.send(outcome);
            }
            Input::Fenced { node, fence, outcome } => {
                self.fences.ended(node);
                match outcome {
                    Ok(()) => staged.events.push((Event::NodeFenced { node, fence }, None)),
                    Err(error) => {
                        tracing::error!(%node, error, "fencing failed; it will be tried again");
                    }
                }
            }
            Input::Mended { id, outcome } => self.mending.over(id, outcome),
            Input::Read(read) => self.reads.push_back(read),
            Input::Nudge => {}
        }
    }

    fn on_request(
        &mut self,
        request: RequestId,
        ask: Ask,
        answer: Answer<Reply>,
        staged: &mut Staged,
    ) {
        let node = |name: &str| {
            self.world.core.node_by_name(name).ok_or_else(|| Fault::no_such_node(name))
        };
        let event = match ask {
            Ask::Submit { user, spec } => Ok(Event::JobSubmitted { request, user, spec }),
            Ask::Cancel { job } => Ok(Event::JobCancelled { request, job }),
            Ask::Drain { node: name, reason } => {
                node(&name).map(|node| Event::NodeDrained { request, node, reason })
            }
            Ask::Undrain { node: name } => {
                node(&name).map(|node| Event::NodeUndrained { request, node })
            }
            Ask::Reserve { name, purpose, nodes, from, until } => {
                nodes.iter().map(|name| node(name)).collect::<Result<Vec<NodeId>, Fault>>().map(
                    |nodes| {
                        let reservation = Reservation { name, purpose, nodes, from, until };
                        Event::NodesReserved { request, reservation: Box::new(reservation) }
                    },
                )
            }
            Ask::Mended { node: name, how } => {
                node(&name).map(|node| Event::NodeMended { request, node, how })
            }
            Ask::Unreserve { name } => Ok(Event::ReservationCancelled { request, name }),
        };
        match event {
            Ok(event) => {
                staged.events.push((event, Some(Waiter::Request(request))));
                self.waiting.entry(request).or_default().push(answer);
            }
            Err(fault) => {
                let _ = answer.send(Err(fault));
            }
        }
    }

    /// `again`: the node was told to join in the batch before.
    fn on_report(
        &mut self,
        now: Time,
        report: Box<Report>,
        answer: Answer<ReportAck>,
        again: bool,
        staged: &mut Staged,
    ) {
        let spec = &report.node;
        let Some(node) = self.world.core.node_by_name(&spec.name) else {
            if let Some(fault) = self.refusal(spec, again) {
                let _ = answer.send(Err(fault));
            } else {
                let spec = Box::new(spec.clone());
                staged.events.push((Event::NodeJoined { spec }, None));
                self.deferred.push_back((report, answer));
            }
            return;
        };
        let known = self.world.core.node(node).expect("its name is known");
        let (incarnation, seq) = (report.incarnation, report.seq);
        let is_late = (incarnation, seq) < (known.incarnation, known.seq);
        let is_up = known.state == NodeState::Up;
        let moved = NodeSpec { gpus: known.spec.gpus, ..spec.clone() } != known.spec;
        let has_strangers = self.world.core.has_strangers(node, &report.attempts);
        let worth = self.reports.on_report(node, incarnation, seq, &report.attempts, has_strangers);
        if is_late || worth == Worth::Stale {
            let _ = answer.send(Ok(ReportAck { seq }));
            return;
        }
        self.silence.heard(node, now);
        self.mending.heard(node, known.out.is_some(), &report);
        let before = staged.events.len();
        if moved {
            let spec = Box::new(spec.clone());
            staged.events.push((Event::NodeJoined { spec }, None));
        }
        let findings = edges::findings(self.world.core.health(node), node, &report.findings);
        staged.events.extend(findings.into_iter().map(|event| (event, None)));
        // The last steps before the end that the same report tells of.
        for progress in &report.progress {
            self.on_progress(now, progress, staged);
        }
        // Nor are they lost on a core that weighs the end.
        for symptom in &report.symptoms {
            self.on_symptom(symptom, staged);
        }
        // What the reducer compares with is what is durable; this batch may have overtaken that.
        let is_overtaken = staged.reported.contains(&node);
        if !is_up || is_overtaken || worth == Worth::News {
            staged.reported.insert(node);
            let attempts = report.attempts;
            staged.events.push((Event::NodeReported { node, incarnation, seq, attempts }, None));
        }
        if self.world.core.hears_of_standbys(node, &report.standbys) {
            let standbys = report.standbys;
            staged
                .events
                .push((Event::StandbysReported { node, incarnation, seq, standbys }, None));
        }
        match staged.events[before..].last_mut() {
            Some((_, waiter)) => *waiter = Some(Waiter::Report { seq, answer }),
            None => {
                let _ = answer.send(Ok(ReportAck { seq }));
            }
        }
    }

    /// Why a node may not join.
    fn refusal(&self, spec: &NodeSpec, again: bool) -> Option<Fault> {
        if again {
            let failed = || Fault::unavailable("busy", "the node could not join yet");
            return Some(self.trouble.as_ref().map_or_else(failed, |(_, fault)| fault.clone()));
        }
        let refuse = |message: String| {
            Some(Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_node", message))
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name = &spec.name;
        if name.is_empty() || name.len() > NODE_NAME_MAX || !name.chars().all(is_plain) {
            return refuse(format!(
                "a node's name has 1 to {NODE_NAME_MAX} letters, digits, `-`, `_` and `.`"
            ));
        }
        if spec.gpus == 0 || spec.gpus > GPUS_PER_NODE_MAX {
            return refuse(format!(
                "{name} has {} GPUs; a node has 1 to {GPUS_PER_NODE_MAX}",
                spec.gpus
            ));
        }
        if self.world.core.nodes().len() as u64 >= FLEET_NODES_MAX {
            return refuse(format!("a fleet has at most {FLEET_NODES_MAX} nodes"));
        }
        None
    }

    fn on_progress(&mut self, now: Time, progress: &RankProgress, staged: &mut Staged) {
        // Agents repeat the readings of attempts that are over until they are told to forget.
        let job = self.world.core.job(progress.job).filter(|job| !job.is_over());
        let Some(attempt) = job.and_then(|job| job.attempt.as_ref()) else { return };
        if launch_of(attempt, progress.rank) != Some(progress.epoch) {
            return;
        }
        if progress.stands_by && self.world.core.asks_for_standby(progress.job) {
            staged.events.push((Event::StandbyOffered { job: progress.job }, None));
        }
        self.world.telemetry.on_progress(now, attempt.epoch, progress);
        let reading = Reading {
            step: progress.step,
            total_steps: progress.total_steps,
            loss_micro: progress.loss.and_then(to_micro),
            checkpoint_step: progress.checkpoint.as_ref().map(|checkpoint| checkpoint.step),
            blocked_ms: progress.checkpoint_blocked_ms,
        };
        let (job, epoch, attempt) = (progress.job, progress.epoch, attempt.epoch);
        let edges = self.progress.on_reading(now, job, attempt, epoch, &reading);
        let seen = RankReading {
            step: progress.step,
            checkpoint_step: reading.checkpoint_step,
            activity: progress.activity,
            loss_broken_from: progress.loss_broken_from,
            place: progress.stack.as_ref().map(|stack| stack.place),
            pace: progress.pace,
        };
        let broken = self.stalls.on_reading(now, job, attempt, epoch, progress.rank, &seen);
        self.stragglers.on_reading(now, job, attempt, epoch, progress.rank, &seen);
        staged.events.extend(edges.into_iter().chain(broken).map(|event| (event, None)));
    }

    /// Agents repeat the last words of a rank for as long as its attempt is not forgotten.
    fn on_symptom(&mut self, told: &RankSymptom, staged: &mut Staged) {
        let RankSymptom { job, epoch, rank, ref symptom } = *told;
        let known = self.world.core.job(job).filter(|job| !job.is_over());
        let Some(attempt) = known.and_then(|job| job.attempt.as_ref()) else { return };
        if launch_of(attempt, rank) != Some(epoch) {
            return;
        }
        let event = self.symptoms.on_symptom(job, attempt.epoch, epoch, rank, symptom);
        staged.events.extend(event.map(|event| (event, None)));
    }

    /// What time alone brings: silence, progress that was held back, and the core's deadlines.
    fn on_time(&mut self, now: Time, staged: &mut Staged) {
        if self.looked_at.elapsed() >= LOOK_INTERVAL {
            self.looked_at = Instant::now();
            for (node, last_heard) in self.silence.silent(now) {
                if self.world.core.node(node).is_some_and(|node| node.state == NodeState::Up) {
                    staged.events.push((Event::NodeSilent { node, last_heard }, None));
                }
            }
            let stalls = self.stalls.due(now, &self.world.core);
            let slow = self.stragglers.due(now, &self.world.core);
            let due = self.progress.due(now).into_iter().chain(stalls).chain(slow);
            staged.events.extend(due.map(|event| (event, None)));
        }
        if self.world.core.next_wakeup().is_some_and(|at| at <= now) {
            staged.events.push((Event::Tick, None));
        }
    }

    /// The reducers have let these events pass, and they will not happen: let them pass again.
    pub(super) fn unstage(&mut self, event: &Event) {
        match event {
            Event::NodeSilent { node, last_heard } => self.silence.heard(*node, *last_heard),
            Event::StepReached { job, .. } | Event::CheckpointSaved { job, .. } => {
                self.progress.forget(*job);
            }
            Event::StallSeen { job, .. }
            | Event::StacksSeen { job, .. }
            | Event::ReplicaSilent { job, .. }
            | Event::LossBroken { job, .. } => {
                self.stalls.forget(*job);
            }
            Event::StragglerSeen { job, .. } | Event::StragglerGone { job, .. } => {
                self.stragglers.forget(*job);
            }
            Event::SymptomSeen { job, epoch, rank, .. } => {
                self.symptoms.unsaid(*job, *epoch, *rank);
            }
            // A fence is asked for again by the core's timer, and all else is said again anyway.
            _ => {}
        }
    }

    /// The reducers' part of an event that has happened.
    pub(super) fn settle(&mut self, now: Time, event: &Event) {
        match event {
            Event::NodeReported { node, incarnation, seq, attempts } => {
                self.reports.journalled(*node, *incarnation, *seq, attempts);
            }
            Event::NodeSilent { node, .. } => self.reports.forget(*node),
            Event::NodeJoined { spec } => {
                let node: Option<NodeId> = self.world.core.node_by_name(&spec.name);
                if let Some(node) = node {
                    self.silence.heard(node, now);
                }
            }
            _ => {}
        }
    }
}

/// The epoch of a rank's newest launch; its replica may have one of its own.
fn launch_of(attempt: &Attempt, rank: Rank) -> Option<Epoch> {
    let member = rank.0.checked_div(u32::from(attempt.ranks_per_node))? as usize;
    attempt.members.get(member).map(|_| attempt.epoch_of(member))
}

/// Millionths, where they fit: a loss beyond nine trillion is no reading.
fn to_micro(loss: f64) -> Option<i64> {
    let micro = (loss * 1e6).round();
    (micro.is_finite() && micro.abs() < 9.0e18).then_some(micro as i64)
}
