//! Gangs: launched, reported on, stopped, gone.
//!
//! A gang is one replica, or several that can be lost and come back one by one ([`replica`]).
//! [`attempt`] is what is known of it, [`progress`] how it gets on, [`judge`] what the ledger makes
//! of it, [`in_place`] its next start on the nodes that it has, [`standby`] what waits for that.

pub mod attempt;
mod in_place;
mod judge;
pub(crate) mod progress;
mod replica;
pub mod standby;

use crate::Core;
use crate::blame::evidence::Evidence;
use crate::effect::{Command, Effect, Effects, Launch, LaunchReplica, Order, Target};
use crate::event::GangWord;
use crate::health::fleet::Allocation;
use crate::job::Job;
use crate::placement::Placement;
use crate::recovery::interval::Advice;
use crate::timer::Timer;
use attempt::{Attempt, Doubt, Member, MemberState, Pace, Phase, Replica, ReplicaState, Tally};
use lindos_model::job::CheckpointEvery;
use lindos_model::reason::Charge;
use lindos_model::{
    AttemptReport, Column, EndReason, Epoch, JobId, Millis, NodeId, ReportedPhase, Time, TrailKind,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Larger gangs do not tell each rank's start: the trail is for people.
const RANKS_IN_TRAIL: u32 = 64;
/// A command that is not answered is sent again after the policy's wait times 1, 2, 4, … up to this.
const RESEND_FACTOR_MAX: u64 = 16;
/// An order is given so many nodes in a millisecond, and not repeated before it has gone to all.
const NODES_TOLD_IN_A_MS: u64 = 10;

/// What a report means for a job: which replica of it has a fault, if one has.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub job: JobId,
    pub fault: Option<(usize, EndReason)>,
}

impl Core {
    /// Launches the next epoch of a job on the nodes that were found for it.
    pub(crate) fn start_attempt(&mut self, id: JobId, placement: &Placement, out: &mut Effects) {
        let nodes = placement.nodes.iter();
        let members: Vec<Member> =
            nodes.map(|&(node, gpus)| Member::launched(node, gpus)).collect();
        for (index, member) in members.iter().enumerate() {
            let (member, gpus, node) = (index as u32, member.gpus, member.node);
            self.fleet.allocate(node, Allocation { job: id, member, gpus, quiet: None });
        }
        let gpus = members.iter().map(|member| u64::from(member.gpus.len())).sum();
        self.teams.take(self.jobs[&id].team, gpus, self.now);
        self.alive.insert(id);
        self.begin_attempt(id, members, gpus);
        self.want_spares(id);
        let name = |&(node, _): &(NodeId, _)| self.fleet.node(node).spec.name.clone();
        let job = &self.jobs[&id];
        let what = TrailKind::Placed {
            nodes: placement.nodes.len() as u32,
            first: placement.nodes.iter().take(TrailKind::PLACED_FIRST).map(name).collect(),
            ranks: job.attempt.as_ref().map_or(0, Attempt::world_size),
            span: placement.span.clone(),
        };
        let epoch = job.epoch;
        self.say(Some((id, Some(epoch))), None, what, out);
        self.say_advice(id, out);
        self.resend_to(id, None, out);
    }

    /// Tells people what the attempt is told, if Lindos has chosen it.
    fn say_advice(&mut self, id: JobId, out: &mut Effects) {
        let job = &self.jobs[&id];
        let is_chosen = job.spec.checkpoint_every == Some(CheckpointEvery::Auto);
        let advice = self.checkpoint_advice(job).filter(|_| is_chosen);
        if let (Some(Advice { every, cost, mtbf }), epoch) = (advice, job.epoch) {
            let what = TrailKind::CheckpointAdvice { every, cost, mtbf };
            self.say(Some((id, Some(epoch))), None, what, out);
        }
    }

    /// The next port of the policy's range; replicas use the one after it too.
    fn next_port(&mut self, replicas: u32) -> u16 {
        let each = if replicas > 1 { 2 } else { 1 };
        let slots = self.policy.port_count.saturating_sub(each - 1).max(1);
        let slot = self.next_port % slots;
        self.next_port = slot.wrapping_add(each);
        self.policy.port_base.saturating_add(slot)
    }

    /// Makes the attempt of a job's next epoch, on nodes that it has.
    fn begin_attempt(&mut self, id: JobId, members: Vec<Member>, gpus: u64) {
        let now = self.now;
        let spec = Arc::clone(&self.jobs[&id].spec);
        // An elastic gang may be smaller than what was asked for; one of replicas never is.
        let count = if members.len() as u32 == spec.nodes { spec.replicas.max(1) } else { 1 };
        let ports: Vec<u16> = (0..count).map(|_| self.next_port(count)).collect();
        let job = self.jobs.get_mut(&id).expect("only a known job starts");
        assert!(job.attempt.is_none(), "job {id} would be alive twice");
        job.epoch = job.epoch.next();
        job.wait = None;
        job.started_at.get_or_insert(now);
        let nodes = members.len() / count as usize;
        let replica = |(index, master_port): (usize, u16)| {
            let members = &members[index * nodes..(index + 1) * nodes];
            Replica {
                epoch: job.epoch,
                state: ReplicaState::Launched,
                launched_at: now,
                first_step_at: None,
                gpus: members.iter().map(|member| u64::from(member.gpus.len())).sum(),
                tally: Tally::of(members),
                master_port,
                failures: 0,
            }
        };
        let attempt = Attempt {
            epoch: job.epoch,
            phase: Phase::Launching,
            replicas: ports.into_iter().enumerate().map(replica).collect(),
            back: BTreeMap::new(),
            down: BTreeSet::new(),
            rejoining: BTreeSet::new(),
            replicas_min: spec.replicas_min.clamp(1, count),
            ranks_per_node: spec.ranks_per_node,
            gpus,
            spares: BTreeSet::new(),
            standbys: BTreeMap::new(),
            cold: BTreeSet::new(),
            standby_wait: Millis(self.policy.resend_ms),
            leaves: BTreeSet::new(),
            tally: Tally::of(&members),
            failed: BTreeSet::new(),
            members,
            launched_at: now,
            all_up_at: None,
            first_step_at: None,
            resumed_from: job.resume_step(),
            pace: Pace {
                step_ms: job.step_ms,
                longest_gap_ms: job.longest_gap_ms,
                has_checkpointed: job.is_pause_known,
                doubted_ms: job.doubt.map_or(0, |doubt| doubt.silent_ms),
                ..Pace::default()
            },
            at_risk_since: now,
            at_risk: 0,
            counted_at: now,
            blocked_ms: 0,
            checkpointing: Millis::ZERO,
            lost: None,
            sign_at: now,
            hang_limit: Millis::ZERO,
            is_regrouping: false,
            is_watched: false,
            resend_wait: Millis::ZERO,
            save_every: None,
            unheard: None,
            evidence: Evidence::default(),
        };
        let first_step = job.first_step_within();
        let time_left = job.spec.time_limit.map(|limit| limit - Millis(job.held_ms));
        job.attempt = Some(attempt);
        let advice = self.checkpoint_advice(&self.jobs[&id]);
        let job = self.jobs.get_mut(&id).expect("it was just there");
        job.attempt.as_mut().expect("it was just made").save_every = advice.map(|a| a.every);
        self.move_gpus(id, None, Some(Column::Startup), gpus);
        if let Some(wait) = first_step {
            self.timers.set(Timer::FirstStep(id), now + wait);
        }
        if let Some(left) = time_left {
            self.timers.set(Timer::TimeLimit(id), now + left);
        }
        self.await_answers(id, nodes);
    }

    /// An order has gone to so many nodes of a job, and goes to those again that do not answer. A
    /// large gang takes longer to tell, and to answer.
    pub(super) fn await_answers(&mut self, id: JobId, nodes: usize) {
        let wait = Millis((self.policy.resend_ms + nodes as u64 / NODES_TOLD_IN_A_MS).max(1));
        let attempt = self.jobs.get_mut(&id).and_then(|job| job.attempt.as_mut());
        attempt.expect("it is alive").resend_wait = wait;
        self.timers.set(Timer::Resend(id), self.now + wait);
    }

    /// Sends every order again that its node has not answered: to one node, or to all.
    pub(crate) fn resend_to(&mut self, id: JobId, only: Option<NodeId>, out: &mut Effects) {
        let Some(attempt) = self.attempt_of(id) else { return };
        // Replicas of one launch that were not lost since get their orders together.
        let mut first = 0;
        for replica in 0..attempt.replicas.len() {
            let attempt = self.attempt_of(id).expect("it was just there");
            let next = attempt.replicas.get(replica + 1);
            let is_alike = |next: &Replica| {
                let first = &attempt.replicas[first];
                (next.epoch, &next.state) == (first.epoch, &first.state)
            };
            if !next.is_some_and(is_alike) {
                self.order(id, first..replica + 1, only, out);
                first = replica + 1;
            }
        }
    }

    pub(crate) fn attempt_of(&self, id: JobId) -> Option<&Attempt> {
        let job = self.jobs.get(&id).filter(|job| !job.is_over())?;
        job.attempt.as_ref()
    }

    /// Tells members of some replicas what is wanted of them, if they have not answered it.
    fn order(
        &mut self,
        id: JobId,
        replicas: Range<usize>,
        only: Option<NodeId>,
        out: &mut Effects,
    ) {
        let job = &self.jobs[&id];
        let attempt = job.attempt.as_ref().expect("it is alive");
        let replica = &attempt.replicas[replicas.start];
        let reason = match (&attempt.phase, &replica.state) {
            (Phase::Stopping { reason, .. }, _) | (_, ReplicaState::Stopping { reason, .. }) => {
                Some(reason)
            }
            (_, ReplicaState::Waiting { .. }) => return,
            (_, ReplicaState::Launched) => None,
        };
        let is_wanted = |state: MemberState| match state {
            MemberState::Launching => true,
            MemberState::Up => reason.is_some(),
            MemberState::Gone => false,
        };
        let nodes = attempt.nodes_in_replica() as u32;
        let has_answered = |replica: &Replica| match reason {
            Some(_) => replica.tally.gone == nodes,
            None => replica.tally.launching == 0,
        };
        let epoch = replica.epoch;
        let targets_of = |replica: usize| -> Vec<Target> {
            let mut to = Vec::with_capacity(nodes as usize);
            to.extend(
                attempt
                    .members_of(replica)
                    .filter(|&index| is_wanted(attempt.members[index].state))
                    .filter(|&index| only.is_none_or(|only| only == attempt.members[index].node))
                    .filter_map(|index| self.target(attempt, index)),
            );
            to
        };
        let unanswered = replicas.filter(|&replica| !has_answered(&attempt.replicas[replica]));
        let told: Vec<(usize, Vec<Target>)> = unanswered
            .map(|replica| (replica, targets_of(replica)))
            .filter(|(_, to)| !to.is_empty())
            .collect();
        if told.is_empty() {
            return;
        }
        if let Some(reason) = reason {
            let grace = self.grace(job, reason);
            let to = told.into_iter().flat_map(|(_, to)| to).collect();
            self.command(id, epoch, Order::Stop { grace }, to, out);
            return;
        }
        // Each replica is a world of its own.
        let peers = peers(attempt);
        let launches: Vec<(Arc<Launch>, Vec<Target>)> = told
            .into_iter()
            .map(|(replica, to)| (Arc::new(launch(job, attempt, replica, &peers)), to))
            .collect();
        for (launch, to) in launches {
            self.command(id, epoch, Order::Launch(launch), to, out);
        }
    }

    fn grace(&self, job: &Job, reason: &EndReason) -> Millis {
        match reason {
            EndReason::Cancelled
            | EndReason::TimeLimit { .. }
            | EndReason::NodeOut { planned: true, .. } => job.spec.stop_grace,
            // Nothing is broken: there is time to save.
            _ if reason.is_by_the_queue() => job.spec.stop_grace,
            _ => Millis(self.policy.fault_grace_ms),
        }
    }

    /// A member as an order goes to it; `None` while its node is away.
    fn target(&self, attempt: &Attempt, index: usize) -> Option<Target> {
        let member = &attempt.members[index];
        let incarnation = self.fleet.agent_on(member.node)?;
        Some(Target { node: member.node, incarnation, member: index as u32, gpus: member.gpus })
    }

    pub(crate) fn command(
        &mut self,
        job: JobId,
        epoch: Epoch,
        order: Order,
        to: Vec<Target>,
        out: &mut Effects,
    ) {
        let id = self.next_effect();
        out.push(Effect::Command(Command { id, job, epoch, order, to }));
    }

    /// An order to a node about an attempt that is none of its present ones.
    fn command_stranger(
        &mut self,
        node: NodeId,
        report: &AttemptReport,
        order: Order,
        out: &mut Effects,
    ) {
        let incarnation = self.fleet.node(node).incarnation;
        let gpus = lindos_model::GpuSet::EMPTY;
        let to = vec![Target { node, incarnation, member: 0, gpus }];
        self.command(report.job, report.epoch, order, to, out);
    }

    /// Takes over what an agent says of its attempts: the jobs that this concerns, and the fault
    /// that it shows, if it shows one.
    pub(crate) fn on_node_reported(
        &mut self,
        node: NodeId,
        attempts: &[AttemptReport],
        out: &mut Effects,
    ) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::new();
        for report in attempts {
            if self.says_nothing_new(node, report) {
                continue;
            }
            match self.find_member(node, report.job, report.epoch) {
                Some(member) => {
                    let word = self.on_member_reported(node, member, report, out);
                    match words.iter_mut().find(|word| word.job == report.job) {
                        Some(before) => before.fault = before.fault.take().or(word.fault),
                        None => words.push(word),
                    }
                }
                None => self.on_stranger_reported(node, report, out),
            }
        }
        for place in 0..self.fleet.node(node).allocations.len() {
            let allocation = &self.fleet.node(node).allocations[place];
            let (job, member) = (allocation.job, allocation.member as usize);
            let is_quiet = |r: &AttemptReport| r.job == job && allocation.quiet == Some(r.epoch);
            if attempts.iter().any(is_quiet) {
                continue;
            }
            let attempt = self.jobs[&job].attempt.as_ref().expect("it holds GPUs");
            let (epoch, replica) = (attempt.epoch_of(member), attempt.replica_of(member));
            let is_told = attempts.iter().any(|r| (r.job, r.epoch) == (job, epoch));
            let is_lost = !is_told
                && attempt.members[member].state == MemberState::Up
                && attempt.replicas[replica].state == ReplicaState::Launched;
            if is_lost && attempt.is_stopping() {
                // Nobody has seen the end there: it may have been before the first that was seen.
                self.note_unheard(job, node, None);
            } else if is_lost {
                let node = self.fleet.node(node).spec.name.clone();
                let fault = Some((replica, EndReason::AttemptLost { node }));
                words.push(Word { job, fault });
            }
        }
        words
    }

    /// Whether an attempt's ranks all run on a node, as they did when it was last heard: most of
    /// what a busy node says. Nobody looks at the job for that.
    fn says_nothing_new(&self, node: NodeId, report: &AttemptReport) -> bool {
        let is_quiet = |a: &Allocation| a.job == report.job && a.quiet == Some(report.epoch);
        report.phase == ReportedPhase::Running
            && self.fleet.node(node).allocations.iter().any(is_quiet)
            && report.ranks.iter().all(|rank| rank.exit.is_none())
    }

    pub(crate) fn find_member(&self, node: NodeId, job: JobId, epoch: Epoch) -> Option<usize> {
        let mut on_node = self.fleet.node(node).allocations.iter();
        let member = on_node.find(|a| a.job == job)?.member as usize;
        let attempt = self.jobs[&job].attempt.as_ref().expect("it holds GPUs");
        (attempt.epoch_of(member) == epoch).then_some(member)
    }

    fn on_member_reported(
        &mut self,
        node: NodeId,
        member: usize,
        report: &AttemptReport,
        out: &mut Effects,
    ) -> Word {
        let now = self.now;
        let name = &self.fleet.node(node).spec.name;
        let job = self.jobs.get_mut(&report.job).expect("it holds GPUs");
        let attempt = job.attempt.as_mut().expect("it holds GPUs");
        let changes = attempt.on_report(member, name, report, now);
        let replica = attempt.replica_of(member);
        let is_over =
            attempt.is_stopping() || attempt.replicas[replica].state != ReplicaState::Launched;
        let is_small = attempt.world_size() <= RANKS_IN_TRAIL;
        let quiet = changes.is_quiet.then_some(report.epoch);
        self.fleet.note_quiet(node, report.job, quiet);
        self.on_members_up(report.job);
        if is_small {
            for (rank, pid) in changes.started {
                let what = TrailKind::RankStarted { rank, pid };
                self.say(Some((report.job, Some(report.epoch))), Some(node), what, out);
            }
        }
        let fault = changes.fault.filter(|_| !is_over).map(|reason| (replica, reason));
        Word { job: report.job, fault }
    }

    /// Some members may have come up: when that was the last, nothing has to be said again.
    fn on_members_up(&mut self, id: JobId) {
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("it holds GPUs");
        let attempt = job.attempt.as_mut().expect("it holds GPUs");
        if attempt.tally.launching > 0 || attempt.is_stopping() {
            return;
        }
        if attempt.phase == Phase::Launching {
            attempt.phase = Phase::Up;
            attempt.all_up_at = Some(now);
        }
        self.short_of_standbys.insert(id);
        let is_stopping = |&index: &u32| {
            matches!(attempt.replicas[index as usize].state, ReplicaState::Stopping { .. })
        };
        if !attempt.down.iter().any(is_stopping) {
            self.timers.cancel(Timer::Resend(id));
        }
    }

    /// An attempt that the core does not know, or that is over: stopped if it lives, forgotten if
    /// it does not.
    fn on_stranger_reported(&mut self, node: NodeId, report: &AttemptReport, out: &mut Effects) {
        let order = match report.phase {
            ReportedPhase::Running => {
                let what = TrailKind::StaleAttemptFound;
                self.say(Some((report.job, Some(report.epoch))), Some(node), what, out);
                Order::Stop { grace: Millis(self.policy.fault_grace_ms) }
            }
            ReportedPhase::Gone | ReportedPhase::Refused(_) => Order::Forget,
        };
        self.command_stranger(node, report, order, out);
    }

    /// Many nodes of an attempt have said the same. Whether anybody knows that attempt.
    pub(crate) fn on_gang_reported(
        &mut self,
        id: JobId,
        epoch: Epoch,
        word: GangWord,
        but: &[NodeId],
    ) -> bool {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.is_over()) else { return false };
        let Some(attempt) = job.attempt.as_mut().filter(|a| a.has_epoch(epoch)) else {
            return false;
        };
        attempt.on_gang_report(epoch, word, but);
        self.on_members_up(id);
        true
    }

    pub(crate) fn on_member_fenced(&mut self, id: JobId, member: usize) {
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("it holds GPUs");
        job.attempt.as_mut().expect("it holds GPUs").on_fenced(member, now);
    }

    pub(crate) fn note_unheard(&mut self, id: JobId, node: NodeId, last_heard: Option<Time>) {
        let job = self.jobs.get_mut(&id).expect("it holds GPUs");
        let attempt = job.attempt.as_mut().expect("it holds GPUs");
        attempt.unheard.get_or_insert((node, last_heard));
    }

    /// An attempt is over for this reason: the ledger judges its work, and every node is told.
    pub(crate) fn stop_attempt(&mut self, id: JobId, reason: EndReason, out: &mut Effects) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.is_over()) else { return };
        let Some(attempt) = job.attempt.as_mut() else { return };
        if let Phase::Stopping { reason: before, .. } = &mut attempt.phase {
            // There is no retry after a cancel, whatever the attempt was being stopped for.
            if reason == EndReason::Cancelled && *before != EndReason::Completed {
                *before = reason;
            }
            return;
        }
        attempt.phase = Phase::Stopping { reason: reason.clone(), since: now };
        let nodes = attempt.members.len();
        let (epoch, step) = (attempt.epoch, attempt.pace.step);
        job.reports_steps |= step.is_some();
        if let Some(attempt) = &job.attempt {
            job.step_ms = attempt.pace.step_ms;
            job.longest_gap_ms = attempt.pace.longest_gap_ms;
        }
        if let EndReason::Hang { silent, last_step, .. } = &reason {
            job.doubt = Doubt::after_hang(job.doubt, *last_step, silent.0);
        }
        let is_fault =
            reason.charge() != Charge::Final || matches!(reason, EndReason::RankExited { .. });
        self.judge(id, &reason, is_fault);
        self.all_gpus_wait(id);
        self.cancel_deadlines(id);
        self.await_answers(id, nodes);
        let must_end = reason != EndReason::Completed || self.jobs[&id].spec.replicas > 1;
        if is_fault {
            self.say_fault(id, epoch, step, reason, out);
        }
        if must_end {
            self.resend_to(id, None, out);
        }
    }

    fn say_fault(
        &mut self,
        id: JobId,
        epoch: Epoch,
        step: Option<u64>,
        reason: EndReason,
        out: &mut Effects,
    ) {
        let node = self.node_of(&reason);
        let job = self.jobs.get_mut(&id).expect("it was just there");
        // What costs nobody a retry is no fault to count: a taken port, an old epoch.
        job.faults += u32::from(reason.charge() != Charge::Nobody);
        let lost = job.attempt.as_ref().and_then(|attempt| attempt.lost);
        let lost = lost.map_or(Millis::ZERO, |lost| lost.until.since(lost.since));
        let what = match reason {
            EndReason::Preempted { by } => TrailKind::Preempted { by, lost },
            EndReason::Moved { by } => TrailKind::Moved { by, lost },
            EndReason::Grows { from, to } => TrailKind::Grows { from, to },
            EndReason::Reserved { name } => TrailKind::MadeWay { name, lost },
            reason => TrailKind::Fault { reason, step: step.unwrap_or(0) },
        };
        self.say(Some((id, Some(epoch))), node, what, out);
    }

    /// Nothing is expected of an attempt any more.
    fn cancel_deadlines(&mut self, id: JobId) {
        for of in [Timer::Hang, Timer::FirstStep, Timer::Rejoin, Timer::TimeLimit] {
            self.timers.cancel(of(id));
        }
    }

    /// Every member of a stopped attempt is gone: nothing of it counts any more.
    pub(crate) fn end_gang(&mut self, id: JobId) {
        self.timers.cancel(Timer::Resend(id));
        self.cancel_deadlines(id);
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("its attempt is over");
        job.ledger.accrue(now);
        let attempt = job.attempt.as_ref().expect("its attempt is over");
        job.held_ms += counted_against_limit(attempt, now).0;
        let held = std::mem::take(&mut job.ledger.held);
        for (column, gpus) in held.iter() {
            self.held[column] -= gpus;
        }
    }

    /// The GPUs of a gang that has ended are free.
    pub(crate) fn release_gang(&mut self, id: JobId, out: &mut Effects) {
        self.forget_gang(id, out);
        self.release_standbys(id);
        self.release_spares(id);
        let job = &self.jobs[&id];
        let attempt = job.attempt.as_ref().expect("its attempt is over");
        self.teams.give_back(job.team, attempt.gpus, self.now);
        self.alive.remove(&id);
        for member in &attempt.members {
            self.fleet.release(member.node, id);
        }
    }

    /// Tells all nodes of a gang that has ended that the core knows it.
    fn forget_gang(&mut self, id: JobId, out: &mut Effects) {
        let attempt = self.jobs[&id].attempt.as_ref().expect("its attempt is over");
        let mut by_epoch: BTreeMap<Epoch, Vec<Target>> = BTreeMap::new();
        for (index, replica) in attempt.replicas.iter().enumerate() {
            let targets = attempt.members_of(index).filter_map(|at| self.target(attempt, at));
            by_epoch.entry(replica.epoch).or_default().extend(targets);
        }
        for (epoch, to) in by_epoch.into_iter().filter(|(_, to)| !to.is_empty()) {
            self.command(id, epoch, Order::Forget, to, out);
        }
    }

    pub(crate) fn on_resend(&mut self, id: JobId, out: &mut Effects) {
        let longest = Millis(self.policy.resend_ms).times(RESEND_FACTOR_MAX);
        let Some(attempt) = self.jobs.get_mut(&id).and_then(|job| job.attempt.as_mut()) else {
            return;
        };
        attempt.resend_wait = attempt.resend_wait.times(2).min(longest).max(Millis(1));
        self.timers.set(Timer::Resend(id), self.now + attempt.resend_wait);
        self.resend_to(id, None, out);
    }
}

/// What of an attempt's time its job's limit counts. A victim of others is given back what they took
/// from it: the work that was lost, the start before it, and the stop.
fn counted_against_limit(attempt: &Attempt, now: Time) -> Millis {
    match &attempt.phase {
        Phase::Stopping { reason, since } if reason.is_by_the_queue() => {
            let begun = attempt.first_step_at.unwrap_or(*since);
            let kept_until = attempt.lost.map_or(*since, |lost| lost.since);
            kept_until.since(begun)
        }
        _ => now.since(attempt.launched_at),
    }
}

/// By replica: the node of its first rank, and the port at which that meets the others.
fn peers(attempt: &Attempt) -> Arc<Vec<(NodeId, u16)>> {
    let replicas = attempt.replicas.iter().enumerate();
    let peer = |(index, replica): (usize, &Replica)| {
        let first = attempt.members_of(index).start;
        (attempt.members[first].node, replica.master_port.saturating_add(1))
    };
    Arc::new(replicas.map(peer).collect())
}

fn launch(job: &Job, attempt: &Attempt, replica: usize, peers: &Arc<Vec<(NodeId, u16)>>) -> Launch {
    let members = &attempt.members[attempt.members_of(replica)];
    Launch {
        spec: Arc::clone(&job.spec),
        gang: Arc::new(members.iter().map(|member| member.node).collect()),
        master_port: attempt.replicas[replica].master_port,
        resume_step: attempt.resumed_from,
        save_every: attempt.save_every,
        array_index: job.array_index,
        replica: (attempt.replicas.len() > 1).then(|| LaunchReplica {
            index: replica as u32,
            replicas_min: attempt.replicas_min,
            peers: Arc::clone(peers),
        }),
    }
}
