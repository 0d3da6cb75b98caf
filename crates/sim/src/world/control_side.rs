//! The control plane's side of the world: what it hears, writes down and sends, and its users.

use super::{
    ASK_AGAIN, Ask, Asked, COMMIT_AGAIN, Down, FENCE, Happening, Key, REMEDY, SimReservation,
    ToControl, World,
};
use crate::agent::Told;
use crate::control::{Control, Reads, read_record};
use crate::fault::{Network, Plant};
use lindos_core::edges::BROKEN_STEPS;
use lindos_core::effect::Reply;
use lindos_core::{Effect, Event};
use lindos_journal::EventRecord;
use lindos_model::job::After;
use lindos_model::reservation::Reservation;
use lindos_model::{
    EndReason, Epoch, JobId, JobSpec, Mended, Millis, NodeId, Time, TrailEntry, TrailKind,
};
use std::sync::Arc;

/// A control plane that was deposed in the middle of its work has so many commands on their way.
const SENT_KEPT: usize = 64;
/// So long after the disk was full, a deadline may strike that progress had moved meanwhile.
const AFTER_FULL: Millis = Millis::from_secs(2);
/// So long after a job goes on it may have told no step yet.
const AFTER_RESUME: Millis = Millis::from_secs(60);
/// A broken loss is told of sooner than this, and three reports, once nothing goes wrong any more.
const LOSS_TOLD: Millis = Millis::from_secs(60);
/// Fleets of no more nodes than this are checked after every commit …
const CHECKED_ALWAYS: usize = 64;
/// … and larger ones about once in so many happenings, or as many as they have nodes.
const CHECKED_EVERY: u64 = 1024;

impl World {
    pub(super) fn on_control_hears(&mut self, message: ToControl) {
        if self.control.is_none() {
            return;
        }
        let now = self.clock();
        match message {
            ToControl::Report { node, incarnation, seq, attempts, readings, witnessed } => {
                if self.is_cut_off(node) {
                    return;
                }
                let name = &self.setup.nodes[node].name;
                let known = self.control.as_ref().and_then(|c| c.core.node_by_name(name));
                let Some(id) = known else {
                    // It enrols, and is heard with its next report.
                    let spec = Box::new(self.setup.nodes[node].clone());
                    self.take(Event::NodeJoined { spec });
                    return;
                };
                self.checker.on_heard(node, (incarnation, seq), self.now);
                let control = self.control_mut();
                let (number, readings) = ((incarnation, seq), readings);
                let events = control.on_report(now, id, number, attempts, &readings, &witnessed);
                for event in events {
                    self.take(event);
                }
            }
            ToControl::Ask(asked) => {
                let Asked { request, what, .. } = &self.asked[asked];
                let request = *request;
                let event = match what {
                    Ask::Submit(index) => {
                        let spec = self.spec_to_submit(*index);
                        let user = "sim".to_string();
                        spec.map(|spec| Event::JobSubmitted { request, user, spec })
                    }
                    Ask::Cancel(name) => {
                        self.submitted.get(name).map(|&job| Event::JobCancelled { request, job })
                    }
                    Ask::Drain(name, drained) => {
                        let node = self.control.as_ref().and_then(|c| c.core.node_by_name(name));
                        let drained = *drained;
                        let reason = "by the scenario".to_string();
                        node.map(|node| {
                            if drained {
                                Event::NodeDrained { request, node, reason }
                            } else {
                                Event::NodeUndrained { request, node }
                            }
                        })
                    }
                    Ask::Mended(name) => {
                        let node = self.by_name[name];
                        self.nodes[node].remedy = None;
                        self.nodes[node].is_weak = false;
                        let node = self.control.as_ref().and_then(|c| c.core.node_by_name(name));
                        let how = Mended::Repaired;
                        node.map(|node| Event::NodeMended { request, node, how })
                    }
                    Ask::Reserve(index) => self.reservation_to_make(*index).map(|reservation| {
                        Event::NodesReserved { request, reservation: Box::new(reservation) }
                    }),
                    Ask::Unreserve(name) => {
                        Some(Event::ReservationCancelled { request, name: name.clone() })
                    }
                };
                if self.is_planted(Plant::AckEarly) {
                    self.checker.on_acknowledged(request);
                }
                if let Some(event) = event {
                    self.take(event);
                }
            }
            ToControl::RemedyOver(node, remedy, outcome) => {
                let name = &self.setup.nodes[node].name;
                if let Some(node) = self.control.as_ref().and_then(|c| c.core.node_by_name(name)) {
                    self.take(Event::RemedyOver { node, remedy, outcome });
                }
            }
            ToControl::PairTested(test, [node, peer, link]) => {
                if self.control.is_some() {
                    self.take(Event::PairTested { test, node, peer, link });
                }
            }
            ToControl::NodeFenced(node, fence) => {
                let name = &self.setup.nodes[node].name;
                if let Some(node) = self.control.as_ref().and_then(|c| c.core.node_by_name(name)) {
                    self.take(Event::NodeFenced { node, fence });
                }
            }
        }
        self.arm_clock();
    }

    /// Of a job that has just completed.
    fn look_for_broken_loss(&self, id: JobId) {
        let Some(healed_at) = self.setup.healed_at else { return };
        for ((_, epoch), run) in self.runs.range((id, Epoch(0))..=(id, Epoch(u32::MAX))) {
            let Some(training) = run.training.as_ref().filter(|_| run.finished) else { continue };
            let Some(from) = run.script.loss_broken_from(training, epoch.0) else { continue };
            let seen_at = run.script.reaches(training, from + BROKEN_STEPS).max(healed_at);
            let unseen = run.script.finishes(training).since(seen_at);
            assert!(
                unseen <= LOSS_TOLD + self.setup.heartbeat.times(3),
                "violation: job {id} completed {unseen} after its loss broke at step {from}"
            );
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        if self.control_mut().take(event) {
            // Most commits are quick; some find the disk busy, and may be cut by a crash.
            let is_slow = self.chances.chance(20_000);
            let mut after = Millis(self.chances.between(0, if is_slow { 400 } else { 3 }));
            if let Some((_, longest)) = self.slow_disk.filter(|(until, _)| *until > self.now) {
                after = Millis(self.chances.between(0, longest.0));
                self.host.stall(self.now, after);
            }
            self.put(after, Happening::Commit);
        }
    }

    pub(super) fn arm_clock(&mut self) {
        let Some(deadline) = self.control.as_ref().and_then(Control::next_deadline) else { return };
        let now = self.clock();
        let left = deadline.since(now);
        // A clock that leans may come to it a tenth too early or too late.
        let after = if self.host.is_off() && left > Millis::ZERO {
            Millis((left.0 * 10 / 11).max(1))
        } else {
            left
        };
        let at = self.now + after;
        if self.clock_armed.is_none_or(|armed| at < armed || armed <= self.now) {
            self.clock_armed = Some(at);
            self.put(after, Happening::ControlClock);
        }
    }

    pub(super) fn on_control_clock(&mut self) {
        self.clock_armed = None;
        if self.control.is_some() {
            let now = self.clock();
            for event in self.control_mut().on_clock(now) {
                if let Event::NodeSilent { node, .. } = &event {
                    let (node, silent_after) = (self.index_of(*node), self.policy.node_silent_ms);
                    self.checker.on_called_silent(node, self.now, Millis(silent_after));
                }
                self.take(event);
            }
            self.arm_clock_after_commit();
        }
    }

    /// A tick that waits for its commit leaves the core's deadline in the past until then.
    pub(super) fn arm_clock_after_commit(&mut self) {
        if self.control.as_ref().is_some_and(|control| !control.has_waiting()) {
            self.arm_clock();
        }
    }

    /// Whether what a launch trains with gets no further, or only this replica of it; or has just begun
    /// to again.
    fn stands_still(&self, key: Key, replica: Option<u32>) -> bool {
        let base = self.runs.get(&key).and_then(|run| self.runs.get(&run.base));
        let Some(base) = base else { return true };
        let is_stranded = match replica {
            Some(replica) => base.stranded.contains_key(&replica),
            None => base.finished && !base.stranded.is_empty(),
        };
        let stands = base.training.as_ref().is_none_or(|training| training.ended.is_some());
        stands || is_stranded || base.resumed_at.is_some_and(|at| self.now <= at + AFTER_RESUME)
    }

    pub(super) fn on_commit(&mut self) {
        if self.control.as_ref().is_none_or(|control| !control.has_waiting()) {
            return;
        }
        let now = self.clock();
        let deaf = self.host.take_stalled();
        let control = self.control_mut();
        control.was_deaf(now, deaf);
        let Some(effects) = control.commit(now) else {
            self.put(COMMIT_AGAIN, Happening::Commit);
            return;
        };
        let core = &self.control.as_ref().expect("it is up").core;
        // A check is a pass over everything: after each commit of a small fleet, now and then of a
        // large one.
        let nodes = core.nodes().len();
        let every = CHECKED_EVERY.max(nodes as u64);
        if nodes <= CHECKED_ALWAYS || self.happenings.is_multiple_of(every) {
            core.check();
        }
        self.checker.on_commit(core);
        let seen = self.trail.last().map_or(0, |entry| entry.seq);
        let fresh: Vec<TrailEntry> = core.trail_after(seen).cloned().collect();
        for entry in &fresh {
            if let (
                what @ (TrailKind::Fault { reason: EndReason::Hang { .. }, .. }
                | TrailKind::ReplicaLost { reason: EndReason::Hang { .. }, .. }),
                Some(job),
                Some(epoch),
            ) = (&entry.what, entry.job, entry.epoch)
            {
                let replica = match what {
                    TrailKind::ReplicaLost { replica, .. } => Some(*replica),
                    _ => None,
                };
                let stands = self.stands_still((job, epoch), replica);
                // A bad network may hide progress; a good one may not. What came while the disk was
                // full is written down after the deadline that it moves.
                let was_full = self.disk_full_until > Time::ZERO
                    && self.now <= self.disk_full_until + AFTER_FULL;
                let is_good = (self.setup.network == Network::good() || self.healed) && !was_full;
                assert!(stands || !is_good, "violation: job {job} is called hung and gets on");
            }
            if let (
                TrailKind::ReplicaLost { reason: EndReason::NoFirstStep { .. }, replica, .. },
                Some(job),
                Some(epoch),
            ) = (&entry.what, entry.job, entry.epoch)
            {
                let run = self.runs.get(&(job, epoch));
                let base = run.and_then(|run| self.runs.get(&run.base));
                // It stands by itself, or did until just now.
                let stands = base.is_some_and(|base| {
                    let since = base.resumed_at.map(|at| at + AFTER_RESUME);
                    base.stranded.contains_key(replica) || since.is_some_and(|at| self.now <= at)
                });
                let joined_at = run.and_then(|run| run.joined_at).filter(|_| !stands);
                let trains = joined_at.is_some_and(|at| self.now > at + AFTER_RESUME);
                assert!(!trains, "violation: job {job} trains, and a first step is missed");
            }
            if let (TrailKind::CheckpointsSpoilt { from, .. }, Some(job), Some(epoch)) =
                (&entry.what, entry.job, entry.epoch)
            {
                self.told_spoilt.insert(job, (epoch, *from));
            }
            if let (TrailKind::TakenOut { class, .. }, Some(name)) = (&entry.what, &entry.node) {
                let is_weak = self.nodes[self.by_name[name]].is_weak;
                assert!(
                    class.as_str() != "node.burn_in" || is_weak,
                    "violation: {name} is well and was found bad by a test"
                );
            }
            if let (TrailKind::Completed, Some(job)) = (&entry.what, entry.job) {
                let done = self.runs.iter().any(|((id, _), run)| *id == job && run.finished);
                assert!(done, "violation: job {job} is called completed and was not finished");
                self.look_for_broken_loss(job);
            }
        }
        for entry in &fresh {
            self.look_for_false_straggler(entry);
            if let (TrailKind::RemedyBegun { remedy }, Some(name)) = (&entry.what, &entry.node)
                && remedy.is_by_hand()
            {
                let after = Millis(self.chances.between(1_000, 600_000));
                self.ask_at(self.now + after, Ask::Mended(name.clone()));
            }
        }
        self.trail.extend(fresh);
        for effect in effects {
            self.carry_out(effect);
        }
        self.arm_clock();
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Trail(_) => {}
            Effect::Reply { request, reply } => {
                let asked = self.asked.iter().position(|asked| asked.request == request);
                let asked = asked.expect("nobody else asks");
                self.send(&Happening::Answered { asked, reply });
            }
            Effect::Command(command) => {
                for told in Told::all(&command) {
                    let node = self.index_of(told.to.node);
                    if !self.is_cut_off(node) {
                        if self.sent.len() == SENT_KEPT {
                            self.sent.pop_front();
                        }
                        self.sent.push_back((node, told.clone()));
                        self.send(&Happening::ToAgent(node, told));
                    }
                }
            }
            Effect::Fence { id, node } => {
                let node = self.index_of(node);
                self.put(FENCE, Happening::Fenced(node, id));
            }
            Effect::Remedy { id: effect, node, remedy, .. } => {
                let (node, remedy) = (self.index_of(node), Some(remedy));
                self.nodes[node].remedy = Some(effect);
                // Whoever mends a node ends what waits there.
                self.nodes[node].standbys.clear();
                self.put(REMEDY, Happening::Remedied { node, effect, remedy });
            }
            Effect::BurnIn { id: effect, node, span, peer } => {
                for node in std::iter::once(node).chain(peer) {
                    let node = self.index_of(node);
                    self.nodes[node].remedy = Some(effect);
                    self.nodes[node].standbys.clear();
                }
                let core = &self.control.as_ref().expect("it is up").core;
                let in_service = core.node(node).is_some_and(|node| node.burn_in == Some(effect));
                let is_suspect = core.ticket(node).is_some_and(|ticket| {
                    matches!(ticket.stage, lindos_core::health::repair::Stage::Suspect { .. })
                });
                let (node, peer) = (self.index_of(node), peer.map(|peer| self.index_of(peer)));
                if in_service || is_suspect || peer.is_some() {
                    self.put(span, Happening::Tested { node, peer, effect });
                } else {
                    self.put(span, Happening::Remedied { node, effect, remedy: None });
                }
            }
            Effect::CancelBurnIn { id, .. } => {
                for node in &mut self.nodes {
                    if node.remedy == Some(id) {
                        node.remedy = None;
                    }
                }
            }
        }
    }

    /// Nothing more fits on the disk of the journal than so many bytes; `None`: until it does again.
    pub(super) fn bound_disk(&mut self, room: Option<u64>) {
        let control = self.control.as_ref().map(Control::disk);
        let remains = self.remains.as_ref().map(|(remains, _)| &remains.disk);
        if let Some(disk) = control.or(remains) {
            let used: u64 = disk.files().values().map(|bytes| bytes.len() as u64).sum();
            disk.set_capacity(room.map(|room| used + room));
        }
    }

    pub(super) fn index_of(&self, id: NodeId) -> usize {
        let control = self.control.as_ref().expect("it is up");
        self.by_name[&control.core.node(id).expect("it knows the node").spec.name]
    }

    pub(super) fn on_control_back(&mut self) {
        if self.control.is_some() || self.remains.is_none() {
            return;
        }
        if self.disk_full_until > self.now {
            // It would say so and end; whoever watches over it starts it again.
            self.put(COMMIT_AGAIN, Happening::ControlBack);
            return;
        }
        let (remains, down) = self.remains.take().expect("it was killed");
        let disk = remains.disk.clone();
        let control = Control::start(disk, &self.policy, &self.host, self.now, Some(&remains));
        match (down, &mut self.standby) {
            (Down::Killed, _) | (Down::Deposed, None) => {}
            (Down::Deposed, Some(standby)) => {
                standby.follow(control.disk());
                standby.check_takes_over(&control);
            }
            (Down::Upgraded, _) => control.check_upgrade(self.reads()),
        }
        self.checker.on_restart(&control.core, self.now);
        self.control = Some(control);
        self.plant_in_control();
        self.put(Millis::ZERO, Happening::Commit);
    }

    /// How the next version reads the records of this one.
    fn reads(&self) -> Reads {
        if !self.is_planted(Plant::UpgradeLoses) {
            return read_record;
        }
        |bytes| {
            let (at, event) = read_record(bytes).into_parts();
            let event = match event {
                Event::JobSubmitted { request, user, spec } => {
                    let spec = Arc::new(JobSpec { priority: 7, ..JobSpec::clone(&spec) });
                    Event::JobSubmitted { request, user, spec }
                }
                other => other,
            };
            EventRecord::new(at, event)
        }
    }

    pub(super) fn on_standby_reads(&mut self) {
        let disk = match (&self.control, &self.remains) {
            (Some(control), _) => control.disk(),
            (None, Some((remains, _))) => &remains.disk,
            (None, None) => return,
        };
        if let Some(standby) = &mut self.standby {
            standby.follow(disk);
        }
        if let Some(every) = self.setup.standby.filter(|_| !self.healed) {
            self.put(every, Happening::StandbyReads);
        }
    }

    pub(super) fn on_ask(&mut self, asked: usize) {
        if !self.asked[asked].answered {
            self.send(&Happening::ToControl(ToControl::Ask(asked)));
            self.put(ASK_AGAIN, Happening::Ask(asked));
        }
    }

    /// A job with the numbers of those that it comes after; `None` while its user does not know
    /// them.
    fn spec_to_submit(&self, index: usize) -> Option<Arc<JobSpec>> {
        let job = &self.setup.jobs[index];
        if job.after.is_empty() {
            return Some(Arc::clone(&job.spec));
        }
        let known = |(name, any_end): &(String, bool)| {
            Some(After { job: *self.submitted.get(name)?, any_end: *any_end })
        };
        let after = job.after.iter().map(known).collect::<Option<Vec<After>>>()?;
        Some(Arc::new(JobSpec { after, ..JobSpec::clone(&job.spec) }))
    }

    /// `None` while some node of it has not joined.
    fn reservation_to_make(&self, index: usize) -> Option<Reservation> {
        let SimReservation { name, purpose, nodes, from, until, .. } =
            &self.setup.reservations[index];
        let core = &self.control.as_ref()?.core;
        let nodes = nodes.iter().map(|node| core.node_by_name(node)).collect::<Option<_>>()?;
        let (name, purpose) = (name.clone(), purpose.clone());
        Some(Reservation { name, purpose, nodes, from: *from, until: *until })
    }

    pub(super) fn on_answered(&mut self, index: usize, reply: &Reply) {
        let asked = &mut self.asked[index];
        asked.answered = true;
        match (&asked.what, reply) {
            (Ask::Submit(job), Reply::Submitted { job: id }) => {
                let name = self.setup.jobs[*job].spec.name.clone();
                self.submitted.insert(name, *id);
                self.checker.on_submitted(asked.request, *id);
            }
            (Ask::Submit(_), other) => panic!("violation: a good job was not taken: {other:?}"),
            (Ask::Reserve(index), Reply::Rejected { reason }) => {
                let reservation = &self.setup.reservations[*index];
                // The request may have been on its way for too long, or find a clock that has been
                // set: another one is not over yet, or this one is.
                let until = reservation.until;
                let is_late = self.now >= until || self.host.is_off();
                assert!(is_late, "violation: a good reservation was not taken: {reason:?}");
            }
            _ => {}
        }
    }
}
