//! Gangs: launched, reported on, getting on, stopped, gone.

pub mod attempt;

use crate::Core;
use crate::effect::{Command, Effect, Effects, GangNode, Launch, Order};
use crate::health::fleet::{Allocation, NodeState};
use crate::placement::Placement;
use crate::timer::Timer;
use attempt::{Attempt, Member, MemberState, Pace, Phase, RankState, Tally};
use lindos_model::{
    AttemptReport, Column, EndReason, Epoch, GpuSet, JobId, Millis, NodeId, Rank, ReportedPhase,
    Time, TrailKind,
};
use std::sync::Arc;

/// The first step of a job that is known to report steps comes within this time.
const FIRST_STEP: Millis = Millis::from_secs(600);
/// After the last step a job may save, evaluate and clean up for this long.
const LAST_STEP: Millis = Millis::from_secs(600);
/// What is left of a deadline for the first step when the control plane comes back.
const ADOPTION_GRACE: Millis = Millis::from_secs(30);
/// Larger gangs do not tell each rank's start: the trail is for people.
const RANKS_IN_TRAIL: u32 = 64;
/// A command that is not answered is sent again after the policy's wait times 1, 2, 4, … up to this.
const RESEND_FACTOR_MAX: u64 = 16;

impl Core {
    /// Launches the next epoch of a job on the nodes that were found for it.
    pub(crate) fn start_attempt(&mut self, id: JobId, placement: &Placement, out: &mut Effects) {
        let now = self.now;
        let slot = self.next_port % self.policy.port_count.max(1);
        let master_port = self.policy.port_base.saturating_add(slot);
        self.next_port = slot.wrapping_add(1);
        let job = self.jobs.get_mut(&id).expect("only a known job starts");
        assert!(job.attempt.is_none(), "job {id} would be alive twice");
        job.epoch = job.epoch.next();
        job.wait = None;
        job.started_at.get_or_insert(now);
        let ranks_per_node = u32::from(job.spec.ranks_per_node);
        let members: Vec<Member> = placement
            .nodes
            .iter()
            .enumerate()
            .map(|(index, &(node, gpus))| Member {
                node,
                gpus,
                first_rank: Rank(index as u32 * ranks_per_node),
                state: MemberState::Launching,
                ranks: vec![RankState::default(); ranks_per_node as usize],
            })
            .collect();
        let attempt = Attempt {
            epoch: job.epoch,
            phase: Phase::Launching,
            gpus: members.iter().map(|member| u64::from(member.gpus.len())).sum(),
            tally: Tally::of(&members),
            members,
            master_port,
            launched_at: now,
            all_up_at: None,
            first_step_at: None,
            resumed_from: job.checkpoint_step,
            pace: Pace {
                step_ms: job.step_ms,
                longest_gap_ms: job.longest_gap_ms,
                has_checkpointed: job.is_pause_known,
                ..Pace::default()
            },
            at_risk_since: now,
            blocked_ms: 0,
            checkpointing: Millis::ZERO,
            lost: None,
            sign_at: now,
            hang_limit: Millis::ZERO,
            resend_wait: Millis(self.policy.resend_ms),
            unheard: None,
        };
        let epoch = job.epoch;
        let ranks = attempt.world_size();
        let first_step =
            job.spec.startup_timeout.or(job.is_expected_to_report().then_some(FIRST_STEP));
        let time_left = job.spec.time_limit.map(|limit| limit - Millis(job.held_ms));
        for (index, member) in attempt.members.iter().enumerate() {
            let (member, gpus, node) = (index as u32, member.gpus, member.node);
            let column = Column::Startup;
            self.fleet.allocate(node, Allocation { job: id, epoch, member, gpus, column });
        }
        self.teams.take(job.team, attempt.gpus, now);
        self.alive.insert(id);
        job.attempt = Some(attempt);
        if let Some(wait) = first_step {
            self.timers.set(Timer::FirstStep(id), now + wait);
        }
        if let Some(left) = time_left {
            self.timers.set(Timer::TimeLimit(id), now + left);
        }
        self.timers.set(Timer::Resend(id), now + Millis(self.policy.resend_ms.max(1)));
        self.refresh_job_ledger(id);
        let name = |&(node, _): &(NodeId, GpuSet)| self.fleet.node(node).spec.name.clone();
        let what = TrailKind::Placed {
            nodes: placement.nodes.len() as u32,
            first: placement.nodes.iter().take(TrailKind::PLACED_FIRST).map(name).collect(),
            ranks,
            span: placement.span.clone(),
        };
        self.say(Some((id, Some(epoch))), None, what, out);
        self.resend_to(id, None, out);
    }

    /// Sends every order again that its node has not answered: to one node, or to all.
    pub(crate) fn resend_to(&mut self, id: JobId, only: Option<NodeId>, out: &mut Effects) {
        let job = &self.jobs[&id];
        let Some(attempt) = job.attempt.as_ref().filter(|_| !job.is_over()) else { return };
        let grace = match &attempt.phase {
            Phase::Stopping {
                reason: EndReason::Cancelled | EndReason::TimeLimit { .. }, ..
            } => job.spec.stop_grace,
            // Nothing is broken: there is time to save.
            Phase::Stopping { reason, .. } if reason.is_by_the_queue() => job.spec.stop_grace,
            _ => Millis(self.policy.fault_grace_ms),
        };
        let mut gang = None;
        let mut commands = Vec::new();
        for (index, member) in attempt.members.iter().enumerate() {
            let node = self.fleet.node(member.node);
            if only.is_some_and(|only| only != member.node) || node.state != NodeState::Up {
                continue;
            }
            let order = match (attempt.is_stopping(), member.state) {
                (_, MemberState::Gone) | (false, MemberState::Up) => continue,
                (true, _) => Order::Stop { grace },
                (false, MemberState::Launching) => {
                    let gang = gang.get_or_insert_with(|| Arc::new(self.gang_nodes(attempt)));
                    Order::Launch(Box::new(Launch {
                        spec: Arc::clone(&job.spec),
                        gpus: member.gpus,
                        first_rank: member.first_rank,
                        rank_count: member.ranks.len() as u32,
                        world_size: attempt.world_size(),
                        node_rank: index as u32,
                        gang: Arc::clone(gang),
                        master_port: attempt.master_port,
                        resume_step: attempt.resumed_from,
                        array_index: job.array_index,
                    }))
                }
            };
            commands.push((member.node, attempt.epoch, order));
        }
        for (node, epoch, order) in commands {
            self.command(node, id, epoch, order, out);
        }
    }

    fn gang_nodes(&self, attempt: &Attempt) -> Vec<GangNode> {
        let nodes = attempt.members.iter().map(|member| &self.fleet.node(member.node).spec);
        nodes
            .map(|spec| GangNode { name: spec.name.clone(), address: spec.address.clone() })
            .collect()
    }

    fn command(&mut self, node: NodeId, job: JobId, epoch: Epoch, order: Order, out: &mut Effects) {
        let incarnation = self.fleet.node(node).incarnation;
        let id = self.next_effect();
        out.push(Effect::Command(Command { id, node, incarnation, job, epoch, order }));
    }

    /// Takes over what an agent says of its attempts: the jobs that this concerns, and the fault
    /// that stops them, if it shows one.
    pub(crate) fn on_node_reported(
        &mut self,
        node: NodeId,
        attempts: &[AttemptReport],
        out: &mut Effects,
    ) -> Vec<(JobId, Option<EndReason>)> {
        let mut follows: Vec<(JobId, Option<EndReason>)> = Vec::new();
        for report in attempts {
            match self.find_member(node, report.job, report.epoch) {
                Some(member) => {
                    let fault = self.on_member_reported(node, member, report, out);
                    match follows.iter_mut().find(|(job, _)| *job == report.job) {
                        Some((_, before)) => *before = before.take().or(fault),
                        None => follows.push((report.job, fault)),
                    }
                }
                None => self.on_stranger_reported(node, report, out),
            }
        }
        let missing: Vec<JobId> = self
            .fleet
            .node(node)
            .allocations
            .iter()
            .filter(|a| {
                !attempts.iter().any(|report| (report.job, report.epoch) == (a.job, a.epoch))
            })
            .filter(|a| {
                let attempt = self.jobs[&a.job].attempt.as_ref().expect("it holds GPUs");
                attempt.members[a.member as usize].state == MemberState::Up
                    && !attempt.is_stopping()
            })
            .map(|a| a.job)
            .collect();
        let name = || self.fleet.node(node).spec.name.clone();
        let lost = |job| (job, Some(EndReason::AttemptLost { node: name() }));
        follows.extend(missing.into_iter().map(lost));
        follows
    }

    fn find_member(&self, node: NodeId, job: JobId, epoch: Epoch) -> Option<usize> {
        let mut on_node = self.fleet.node(node).allocations.iter();
        on_node.find(|a| (a.job, a.epoch) == (job, epoch)).map(|a| a.member as usize)
    }

    fn on_member_reported(
        &mut self,
        node: NodeId,
        member: usize,
        report: &AttemptReport,
        out: &mut Effects,
    ) -> Option<EndReason> {
        let now = self.now;
        let name = &self.fleet.node(node).spec.name;
        let job = self.jobs.get_mut(&report.job).expect("it holds GPUs");
        let attempt = job.attempt.as_mut().expect("it holds GPUs");
        let changes = attempt.on_report(member, name, report, now);
        let all_up = attempt.tally.launching == 0;
        if attempt.phase == Phase::Launching && all_up {
            attempt.phase = Phase::Up;
            attempt.all_up_at = Some(now);
            self.timers.cancel(Timer::Resend(report.job));
        }
        let fault = changes.fault.filter(|_| !attempt.is_stopping());
        if attempt.world_size() <= RANKS_IN_TRAIL {
            for (rank, pid) in changes.started {
                let what = TrailKind::RankStarted { rank, pid };
                self.say(Some((report.job, Some(report.epoch))), Some(node), what, out);
            }
        }
        fault
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
        self.command(node, report.job, report.epoch, order, out);
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
        attempt.resend_wait = Millis(self.policy.resend_ms);
        let (epoch, step) = (attempt.epoch, attempt.pace.step);
        job.reports_steps |= step.is_some();
        if let Some(attempt) = &job.attempt {
            job.step_ms = attempt.pace.step_ms;
            job.longest_gap_ms = attempt.pace.longest_gap_ms;
        }
        if let EndReason::Hang { silent, .. } = &reason {
            job.longest_gap_ms = job.longest_gap_ms.max(silent.0);
        }
        let is_fault = reason.charge() != lindos_model::reason::Charge::Final
            || matches!(reason, EndReason::RankExited { .. });
        let node = match &reason {
            EndReason::RankExited { node, .. }
            | EndReason::NodeSilent { node }
            | EndReason::AttemptLost { node }
            | EndReason::Refused { node, .. } => self.fleet.by_name(node),
            _ => None,
        };
        self.judge(id, &reason, is_fault);
        self.set_attempt_column(id);
        for timer in [Timer::Hang(id), Timer::FirstStep(id), Timer::TimeLimit(id)] {
            self.timers.cancel(timer);
        }
        self.timers.set(Timer::Resend(id), now + Millis(self.policy.resend_ms.max(1)));
        if is_fault {
            let job = self.jobs.get_mut(&id).expect("it was just there");
            // What costs nobody a retry is no fault to count: a taken port, an old epoch.
            job.faults += u32::from(reason.charge() != lindos_model::reason::Charge::Nobody);
            let lost = job.attempt.as_ref().and_then(|attempt| attempt.lost);
            let lost = lost.map_or(Millis::ZERO, |(since, until)| until.since(since));
            let what = TrailKind::Fault { reason: reason.clone(), step: step.unwrap_or(0) };
            let what = match &reason {
                EndReason::Preempted { by } => TrailKind::Preempted { by: *by, lost },
                EndReason::Moved { by } => TrailKind::Moved { by: *by, lost },
                EndReason::Grows { from, to } => TrailKind::Grows { from: *from, to: *to },
                EndReason::Reserved { name } => TrailKind::MadeWay { name: name.clone(), lost },
                _ => what,
            };
            self.say(Some((id, Some(epoch))), node, what, out);
        }
        if reason != EndReason::Completed {
            self.resend_to(id, None, out);
        }
    }

    /// The ledger's verdict on the work since the last checkpoint.
    fn judge(&mut self, id: JobId, reason: &EndReason, is_fault: bool) {
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("it was just there");
        job.ledger.accrue(now);
        let attempt = job.attempt.as_ref().expect("it was just there");
        if let Some(first_step_at) = attempt.first_step_at {
            if is_fault {
                // Word of a checkpoint may come later than the end of the work that it saved.
                let earliest = first_step_at + attempt.checkpointing;
                let ended = work_ended_at(attempt, reason, now).clamp(earliest, now);
                let at_risk_since = attempt.at_risk_since.min(ended);
                let (lost, unseen) = (ended.since(at_risk_since), now.since(ended));
                job.attempt.as_mut().expect("it was just there").lost =
                    Some((at_risk_since, ended));
                self.transfer(id, Column::Productive, Column::Lost, lost);
                self.transfer(id, Column::Productive, Column::Detect, unseen);
            }
        } else if let Some(all_up_at) = attempt.all_up_at {
            // A job that tells no steps works all the same.
            let ran = now.since(all_up_at);
            if *reason == EndReason::Completed {
                self.transfer(id, Column::Startup, Column::Productive, ran);
            } else if is_fault && !job.is_expected_to_report() {
                self.transfer(id, Column::Startup, Column::Lost, ran);
            }
        }
    }

    /// Judges a span of the whole gang's time anew, for the fleet and for the job.
    fn transfer(&mut self, id: JobId, from: Column, to: Column, span: Millis) {
        let job = self.jobs.get_mut(&id).expect("it was just there");
        let gpus = job.attempt.as_ref().expect("it was just there").gpus;
        self.ledger.transfer(from, to, gpus, span);
        job.ledger.transfer(from, to, gpus * span.0);
    }

    /// Puts the gang's GPUs into the column of its attempt's present state.
    fn set_attempt_column(&mut self, id: JobId) {
        let attempt = self.jobs[&id].attempt.as_ref().expect("it was just there");
        let column = attempt.column();
        for member in &attempt.members {
            self.fleet.set_column(member.node, id, column);
        }
        self.refresh_job_ledger(id);
    }

    /// What stands on the job's own account from now on: its GPUs on nodes that are there.
    pub(crate) fn refresh_job_ledger(&mut self, id: JobId) {
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("it holds GPUs");
        job.ledger.accrue(now);
        job.ledger.held = job.attempt.as_ref().map(|attempt| {
            let there = attempt
                .members
                .iter()
                .filter(|member| self.fleet.node(member.node).state == NodeState::Up);
            (attempt.column(), there.map(|member| u64::from(member.gpus.len())).sum())
        });
    }

    /// Every member of a stopped attempt is gone: its GPUs are free.
    pub(crate) fn release_gang(&mut self, id: JobId, out: &mut Effects) {
        let now = self.now;
        for timer in
            [Timer::Resend(id), Timer::Hang(id), Timer::FirstStep(id), Timer::TimeLimit(id)]
        {
            self.timers.cancel(timer);
        }
        let job = self.jobs.get_mut(&id).expect("its attempt is over");
        job.ledger.accrue(now);
        job.ledger.held = None;
        let attempt = job.attempt.as_ref().expect("its attempt is over");
        let epoch = attempt.epoch;
        let nodes: Vec<NodeId> = attempt.members.iter().map(|member| member.node).collect();
        job.held_ms += counted_against_limit(attempt, now).0;
        self.teams.give_back(job.team, attempt.gpus, now);
        self.alive.remove(&id);
        for &node in &nodes {
            self.fleet.release(node, id, epoch);
            if self.fleet.node(node).state == NodeState::Up {
                self.command(node, id, epoch, Order::Forget, out);
            }
        }
    }

    pub(crate) fn on_step_reached(
        &mut self,
        id: JobId,
        epoch: Epoch,
        step: u64,
        total_steps: Option<u64>,
        loss_micro: Option<i64>,
        out: &mut Effects,
    ) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.is_over()) else { return };
        let Some(attempt) = job.attempt.as_mut() else { return };
        if attempt.epoch != epoch || attempt.is_stopping() || !attempt.pace.on_step(now, step) {
            return;
        }
        job.reports_steps = true;
        job.total_steps = total_steps.or(job.total_steps);
        job.first_loss_micro = job.first_loss_micro.or(loss_micro);
        job.last_loss_micro = loss_micro.or(job.last_loss_micro);
        let is_last = job.total_steps.is_some_and(|total| step >= total);
        let wait = if is_last {
            LAST_STEP
        } else {
            attempt.pace.hang_timeout(job.spec.hang_timeout, &self.policy)
        };
        attempt.sign_at = now;
        attempt.hang_limit = wait;
        self.timers.set(Timer::Hang(id), now + wait);
        if attempt.first_step_at.is_none() {
            attempt.first_step_at = Some(now);
            attempt.at_risk_since = now;
            let after = now.since(attempt.launched_at);
            self.timers.cancel(Timer::FirstStep(id));
            self.set_attempt_column(id);
            self.say(Some((id, Some(epoch))), None, TrailKind::FirstStep { after }, out);
        }
    }

    pub(crate) fn on_checkpoint_saved(
        &mut self,
        id: JobId,
        epoch: Epoch,
        step: u64,
        blocked_ms: u64,
        out: &mut Effects,
    ) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.is_over()) else { return };
        // It is durable, whatever has become of the attempt that saved it.
        if epoch > job.epoch || job.checkpoint_step >= Some(step) {
            return;
        }
        job.checkpoint_step = Some(step);
        if let Some(attempt) = job.attempt.as_mut().filter(|attempt| attempt.epoch == epoch) {
            attempt.pace.has_checkpointed = true;
            // The pause is known before the next step shows it; a fault may come in between.
            let blocked = blocked_ms.saturating_sub(attempt.blocked_ms);
            let silent = if attempt.is_stopping() { 0 } else { now.since(attempt.sign_at).0 };
            let pause = blocked.max(silent);
            job.is_pause_known = true;
            attempt.pace.longest_gap_ms = attempt.pace.longest_gap_ms.max(pause);
            job.longest_gap_ms = job.longest_gap_ms.max(attempt.pace.longest_gap_ms);
            if self.timers.get(Timer::Hang(id)).is_some() {
                // Whoever saves a checkpoint does not hang.
                let wait = attempt.pace.hang_timeout(job.spec.hang_timeout, &self.policy);
                attempt.sign_at = now;
                attempt.hang_limit = attempt.hang_limit.max(wait);
                self.timers.set(Timer::Hang(id), now + attempt.hang_limit);
            }
            if attempt.is_stopping() {
                // Word of it comes after the fault: what it saved was not lost.
                if let Some((since, until)) = attempt.lost {
                    let saved = attempt.pace.reached_at(step, until).clamp(since, until);
                    attempt.lost = Some((saved, until));
                    self.transfer(id, Column::Lost, Column::Productive, saved.since(since));
                }
            } else if attempt.first_step_at.is_some() {
                let at_risk = now.since(attempt.at_risk_since);
                let blocked = Millis(blocked_ms.saturating_sub(attempt.blocked_ms)).min(at_risk);
                attempt.blocked_ms = attempt.blocked_ms.max(blocked_ms);
                attempt.checkpointing = attempt.checkpointing + blocked;
                // The blocked time has left the window in which a fault loses work.
                let earliest = attempt.at_risk_since + blocked;
                attempt.at_risk_since = attempt.pace.reached_at(step, now).clamp(earliest, now);
                job.ledger.accrue(now);
                self.transfer(id, Column::Productive, Column::Checkpoint, blocked);
            }
        }
        self.say(Some((id, Some(epoch))), None, TrailKind::Checkpoint { step }, out);
    }

    pub(crate) fn on_hang(&mut self, id: JobId) -> Option<EndReason> {
        let job = &self.jobs[&id];
        let attempt = job.attempt.as_ref()?;
        Some(EndReason::Hang {
            last_step: attempt.pace.step?,
            silent: self.now.since(attempt.sign_at),
            timeout: attempt.hang_limit,
        })
    }

    pub(crate) fn on_no_first_step(&mut self, id: JobId) -> Option<EndReason> {
        let attempt = self.jobs[&id].attempt.as_ref()?;
        Some(EndReason::NoFirstStep { after: self.now.since(attempt.launched_at) })
    }

    pub(crate) fn on_time_limit(&mut self, id: JobId) -> Option<EndReason> {
        self.jobs[&id].spec.time_limit.map(|limit| EndReason::TimeLimit { limit })
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

    /// Nobody listened for a while: silence in that time was not the jobs'.
    pub(crate) fn restart_deadlines(&mut self) {
        for id in self.alive.clone() {
            let job = &self.jobs[&id];
            let pace = &job.attempt.as_ref().expect("it is alive").pace;
            let hang = pace.hang_timeout(job.spec.hang_timeout, &self.policy);
            for (timer, grace) in [(Timer::Hang(id), hang), (Timer::FirstStep(id), ADOPTION_GRACE)]
            {
                if let Some(at) = self.timers.get(timer) {
                    self.timers.set(timer, at.max(self.now + grace));
                }
            }
        }
    }
}

/// What of an attempt's time its job's limit counts. A victim of others is given back what they took
/// from it: the work that was lost, the start before it, and the stop.
fn counted_against_limit(attempt: &Attempt, now: Time) -> Millis {
    match &attempt.phase {
        Phase::Stopping { reason, since } if reason.is_by_the_queue() => {
            let begun = attempt.first_step_at.unwrap_or(*since);
            let kept_until = attempt.lost.map_or(*since, |(since, _)| since);
            kept_until.since(begun)
        }
        _ => now.since(attempt.launched_at),
    }
}

/// When the work that a fault ended really ended, as far as anybody can tell.
fn work_ended_at(attempt: &Attempt, reason: &EndReason, now: Time) -> Time {
    match reason {
        EndReason::RankExited { rank, .. } => attempt
            .ranks()
            .find(|(number, ..)| number == rank)
            .and_then(|(.., state)| state.exit.as_ref())
            .map_or(now, |exit| exit.at),
        EndReason::Hang { .. } => attempt.sign_at + Millis(attempt.pace.step_ms.unwrap_or(0)),
        EndReason::NodeSilent { .. } => {
            let last_heard = attempt.unheard.and_then(|(_, last_heard)| last_heard);
            last_heard.unwrap_or(attempt.pace.step_at)
        }
        _ => now,
    }
}
