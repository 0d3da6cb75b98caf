//! One replica of a gang is lost, and the others go on.
//!
//! A data-parallel job whose replicas can train without each other says so (`replicas`). A fault in
//! one of them stops only its ranks. Once nothing of it lives, nodes that are out are replaced from
//! as near as can be, and it is launched under the job's next epoch; its first step shows that it is
//! back. The others never stop, but for the step that was under way.
//!
//! When all of them fall silent, and what is seen of the ranks points at one replica, or only one has
//! not ended well, that one is dropped like one that has failed. So is one that alone stands still, or has
//! never told a step, where the others can go on without it and do, and one that was launched again and
//! comes to no first step.
//!
//! The whole attempt is stopped instead when fewer replicas than the job's least would be left, or
//! when a silence goes on without the one that was dropped for it. A program that is itself at fault
//! fails in every replica, and so comes to that.

use super::attempt::{Attempt, Replica, ReplicaState, Tally};
use super::progress::ADOPTION_GRACE;
use crate::Core;
use crate::effect::{Effects, Order, Target};
use crate::health::fleet::Allocation;
use crate::job::Job;
use crate::timer::Timer;
use lindos_model::reason::Charge;
use lindos_model::{Column, EndReason, Epoch, JobId, Millis, Stall, Time, TrailKind};

/// A replica that tells no steps is taken to train with the others so long after it was launched.
const BACK_AT_WORK: Millis = Millis::from_secs(60);

impl Core {
    /// A fault in one replica of a job, which for most jobs is the whole gang.
    pub(crate) fn on_fault(
        &mut self,
        id: JobId,
        replica: usize,
        reason: EndReason,
        out: &mut Effects,
    ) {
        let Some(attempt) = self.attempt_of(id) else { return };
        if attempt.can_go_on_without(replica, self.now) {
            self.drop_replica(id, replica, reason, out);
        } else if attempt.replicas[replica].state == ReplicaState::Launched {
            self.stop_attempt(id, reason, out);
        }
    }

    /// The replica that keeps all others waiting, if a silence points at one. Without it they get on;
    /// if they do not, the next silence ends the attempt.
    pub(crate) fn silent_replica(&self, id: JobId, reason: &EndReason) -> Option<usize> {
        let attempt = self.attempt_of(id)?;
        if attempt.replicas.len() < 2 || attempt.is_regrouping {
            return None;
        }
        let pointed_at = || self.replica_to_blame(&self.jobs[&id], attempt, reason);
        let pointed_at = || pointed_at().filter(|&replica| !attempt.has_ended_well(replica));
        let replica = attempt.last_to_end().or_else(pointed_at)?;
        attempt.can_go_on_without(replica, self.now).then_some(replica)
    }

    /// Stops the replica that keeps all others waiting, and gives those time to get on.
    pub(crate) fn drop_silent(
        &mut self,
        id: JobId,
        replica: usize,
        reason: EndReason,
        out: &mut Effects,
    ) {
        self.drop_replica(id, replica, reason, out);
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("it is alive");
        let attempt = job.attempt.as_mut().expect("it is alive");
        attempt.is_regrouping = true;
        attempt.sign_at = now;
        attempt.hang_limit = attempt.pace.hang_timeout(job.spec.hang_timeout, &self.policy);
        (attempt.evidence.stall, attempt.evidence.stacks) = (None, None);
        self.await_progress(id);
    }

    /// The longest silence of a job that is none too many, whatever a look at its ranks shows.
    pub(crate) fn silence_max(&self, job: &Job, attempt: &Attempt) -> Millis {
        attempt.pace.hang_timeout(job.spec.hang_timeout, &self.policy)
    }

    /// One replica stands still while the others go on: they can do without it.
    pub(crate) fn on_replica_silent(
        &mut self,
        id: JobId,
        epoch: Epoch,
        replica: usize,
        stall: &Stall,
        out: &mut Effects,
    ) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(attempt) = job.attempt.as_ref() else { return };
        // One of which some ranks have ended well may only be ahead of the others.
        let is_it =
            |it: &Replica| it.epoch == epoch && it.first_step_at.is_some() && it.tally.gone == 0;
        let since = stall.since.max(self.listens_since);
        let (silent, timeout) = (self.now.since(since), self.silence_max(job, attempt));
        let others_go_on = attempt.pace.step > Some(stall.step) && attempt.sign_at > since;
        let stands = attempt.replicas.get(replica).is_some_and(is_it) && silent >= timeout;
        if !(stands && others_go_on && attempt.can_go_on_without(replica, self.now)) {
            return;
        }
        let attempt = self.attempt_at(id, epoch).expect("it was just there");
        let launched_at = attempt.replicas[replica].launched_at;
        let before = attempt.evidence.stall.replace(stall.clone());
        let reason = if stall.told == 0 {
            EndReason::NoFirstStep { after: self.now.since(launched_at) }
        } else {
            EndReason::Hang { last_step: stall.step, silent, timeout }
        };
        self.drop_replica(id, replica, reason, out);
        if let Some(attempt) = self.attempt_at(id, epoch) {
            attempt.evidence.stall = before;
        }
    }

    /// Replicas that were launched again have not told a step for too long.
    pub(crate) fn on_rejoin_overdue(&mut self, id: JobId, out: &mut Effects) {
        for (by, replica) in self.rejoin_by(id) {
            let Some(attempt) = self.attempt_of(id).filter(|_| by <= self.now) else { continue };
            let after = self.now.since(attempt.replicas[replica].launched_at);
            self.on_fault(id, replica, EndReason::NoFirstStep { after }, out);
        }
        self.await_rejoining(id);
    }

    /// The first of the replicas that have not told a step since they were launched again is waited for.
    pub(super) fn await_rejoining(&mut self, id: JobId) {
        if let Some((by, _)) = self.rejoin_by(id).into_iter().min() {
            self.timers.set(Timer::Rejoin(id), by);
        }
    }

    /// By when replicas that were launched again should have told a step.
    fn rejoin_by(&self, id: JobId) -> Vec<(Time, usize)> {
        let job = &self.jobs[&id];
        let attempt = job.attempt.as_ref().filter(|attempt| !attempt.is_stopping());
        let (Some(attempt), Some(wait)) = (attempt, job.first_step_within()) else {
            return Vec::new();
        };
        let mut earliest = self.listens_since + ADOPTION_GRACE;
        if attempt.is_regrouping {
            // Nobody can join those that do not get on.
            let hang = self.timers.get(Timer::Hang(id)).unwrap_or(self.now);
            earliest = earliest.max(hang + ADOPTION_GRACE);
        }
        let rejoining = attempt.rejoining.iter().map(|&index| index as usize);
        let by = |index: usize| (attempt.replicas[index].launched_at + wait).max(earliest);
        rejoining.map(|index| (by(index), index)).collect()
    }

    /// Where all replicas have ended well but such as were launched again and have not trained yet: when
    /// the last of those should have.
    pub(super) fn only_rejoining_until(&self, id: JobId) -> Option<Time> {
        let attempt = self.attempt_of(id)?;
        let last = self.rejoin_by(id).into_iter().max();
        last.filter(|_| attempt.not_ended().next().is_none()).map(|(by, _)| by)
    }

    /// Stops one replica.
    fn drop_replica(&mut self, id: JobId, index: usize, reason: EndReason, out: &mut Effects) {
        let now = self.now;
        self.judge_step(id, index, &reason);
        let job = &self.jobs[&id];
        let attempt = job.attempt.as_ref().expect("it is alive");
        let blamed = self.verdict_on(job, attempt, attempt.members_of(index), &reason);
        let job = self.jobs.get_mut(&id).expect("it is alive");
        let attempt = job.attempt.as_mut().expect("it is alive");
        let before = attempt.column(index);
        let is_of_all = attempt.stands_still(&reason, now);
        if is_of_all || self.timers.get(Timer::Hang(id)).is_some() {
            // A silence that a replica's fault explains was no pause that such a job makes.
            attempt.pace.step_at = now;
        }
        let left = attempt.go_on_without(index, now) as u32;
        let replica = &mut attempt.replicas[index];
        let (epoch, gpus) = (replica.epoch, replica.gpus);
        let has_trained = replica.first_step_at.is_some();
        replica.failures = if has_trained { 1 } else { replica.failures.saturating_add(1) };
        replica.state = ReplicaState::Stopping { reason: reason.clone(), since: now };
        attempt.down.insert(index as u32);
        attempt.rejoining.remove(&(index as u32));
        let nodes = attempt.nodes_in_replica();
        // What is unheard of explains the end of this replica, and of none that ends later.
        attempt.unheard = None;
        job.faults += u32::from(reason.charge() != Charge::Nobody);
        self.move_gpus(id, Some(before), Some(Column::Waiting), gpus);
        self.await_answers(id, nodes);
        let node = self.node_of(&reason);
        let to_blame = blamed.as_ref().map_or(node, |blamed| blamed.node);
        if let Some(node) = to_blame.filter(|_| !has_trained) {
            self.shun(id, node);
        }
        if let Some(blamed) = &blamed {
            let is_a_fault = blamed.charge(&reason) == Charge::Infrastructure;
            self.struck.extend(to_blame.filter(|_| is_a_fault));
            self.say_verdict((id, epoch), &reason, blamed, out);
        }
        let what = TrailKind::ReplicaLost { replica: index as u32, reason, left };
        self.say(Some((id, Some(epoch))), node, what, out);
        self.order(id, index..index + 1, None, out);
    }

    /// The step that was under way is lost to all, and to the replica the time until anybody knew.
    fn judge_step(&mut self, id: JobId, index: usize, reason: &EndReason) {
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("it is alive");
        job.ledger.accrue(now);
        let productive = job.ledger.held[Column::Productive];
        let attempt = job.attempt.as_mut().expect("it is alive");
        attempt.count(now, productive);
        let replica = &attempt.replicas[index];
        if replica.first_step_at.is_none_or(|first| first >= now) {
            return;
        }
        let until = super::judge::work_ended_at(attempt, reason, now).min(now);
        let of_one = attempt.gpus / attempt.replicas.len() as u64;
        let (gpus, under_way) = match reason {
            // All of them stood still.
            _ if attempt.stands_still(reason, now) => {
                (attempt.training_gpus(), attempt.pace.step_under_way(until))
            }
            // The others have gone on without it.
            EndReason::Hang { .. } | EndReason::NoFirstStep { .. } => (of_one, Millis::ZERO),
            _ => (of_one, attempt.pace.step_under_way(until)),
        };
        let unseen = (gpus * now.since(until).0).min(attempt.at_risk);
        let lost = (productive * under_way.0).min(attempt.at_risk - unseen);
        attempt.at_risk -= unseen + lost;
        self.judge_anew(id, Column::Productive, Column::Detect, unseen);
        self.judge_anew(id, Column::Productive, Column::Lost, lost);
    }

    /// Brings back the replicas of a job of which nothing lives any more, as far as there are nodes.
    pub(crate) fn settle_replicas(&mut self, id: JobId, out: &mut Effects) {
        let Some(attempt) = self.attempt_of(id).filter(|attempt| !attempt.is_stopping()) else {
            return;
        };
        let nodes = attempt.nodes_in_replica() as u32;
        let is_gone = |&&index: &&u32| attempt.replicas[index as usize].tally.gone == nodes;
        let gone: Vec<u32> = attempt.down.iter().filter(is_gone).copied().collect();
        for index in gone {
            let job = self.jobs.get_mut(&id).expect("it is alive");
            let attempt = job.attempt.as_mut().expect("it is alive");
            let replica = &mut attempt.replicas[index as usize];
            if !matches!(replica.state, ReplicaState::Waiting { .. }) {
                let was_silent = matches!(
                    replica.state,
                    ReplicaState::Stopping { reason: EndReason::Hang { .. }, .. }
                );
                let until = self.now + self.policy.backoff(replica.failures);
                replica.state = ReplicaState::Waiting { since: self.now, until };
                self.incomplete.insert((id, index));
                if attempt.is_regrouping && was_silent {
                    // Only now the others can go on without it.
                    attempt.sign_at = self.now;
                    self.await_progress(id);
                }
            }
            self.complete_replica(id, index, out);
        }
    }

    /// Nodes may have become free for replicas that wait for some.
    pub(crate) fn complete_replicas(&mut self, out: &mut Effects) {
        for (id, index) in self.incomplete.clone() {
            self.complete_replica(id, index, out);
        }
    }

    fn complete_replica(&mut self, id: JobId, index: u32, out: &mut Effects) {
        let attempt = self.attempt_of(id).filter(|attempt| !attempt.is_stopping());
        let state = attempt.and_then(|attempt| attempt.replicas.get(index as usize));
        match state.map(|replica| &replica.state) {
            Some(&ReplicaState::Waiting { until, .. }) if until > self.now => {
                let pass = self.timers.get(Timer::Pass);
                self.timers.set(Timer::Pass, pass.map_or(until, |at| at.min(until)));
            }
            Some(ReplicaState::Waiting { .. }) => {
                if self.launch_replica(id, index as usize, out) {
                    self.incomplete.remove(&(id, index));
                }
            }
            _ => {
                self.incomplete.remove(&(id, index));
            }
        }
    }

    /// Launches a replica of which nothing lives under the next epoch, if it has all its nodes.
    fn launch_replica(&mut self, id: JobId, index: usize, out: &mut Effects) -> bool {
        let members = self.jobs[&id].attempt.as_ref().expect("it is alive").members_of(index);
        let Some(stand_ins) = self.stand_ins(id, members.clone()) else { return false };
        self.forget_members(id, members.clone(), out);
        let (now, master_port) = (self.now, self.next_port(self.jobs[&id].spec.replicas));
        // What was silent while nothing of it lived explains nothing that comes now.
        let attempt = self.jobs.get_mut(&id).and_then(|job| job.attempt.as_mut());
        let attempt = attempt.expect("it is alive");
        let before = &attempt.members[members.clone()];
        attempt.unheard.take_if(|(node, _)| before.iter().any(|member| member.node == *node));
        for &(member, node, gpus) in &stand_ins {
            self.replace(id, member, node, gpus);
        }
        let job = self.jobs.get_mut(&id).expect("it is alive");
        let attempt = job.attempt.as_mut().expect("it is alive");
        job.epoch = job.epoch.next();
        let before = attempt.replicas[index].epoch;
        attempt.back.remove(&before);
        attempt.back.insert(job.epoch, index as u32);
        attempt.down.remove(&(index as u32));
        attempt.rejoining.insert(index as u32);
        for member in members.clone() {
            let (node, gpus) = (attempt.members[member].node, attempt.members[member].gpus);
            attempt.renew(member, node, gpus);
        }
        let tally = Tally::of(&attempt.members[members.clone()]);
        let per_node = u32::from(attempt.ranks_per_node);
        let ranks = members.start as u32 * per_node..members.end as u32 * per_node;
        attempt.evidence.forget_ranks(ranks);
        let gpus = attempt.members[members.clone()].iter().map(|m| u64::from(m.gpus.len())).sum();
        let replica = &mut attempt.replicas[index];
        assert_eq!(replica.tally, tally, "a replica's tally is wrong");
        let had = std::mem::replace(&mut replica.gpus, gpus);
        (replica.epoch, replica.launched_at) = (job.epoch, now);
        (replica.first_step_at, replica.master_port) = (None, master_port);
        replica.state = ReplicaState::Launched;
        let (epoch, nodes) = (job.epoch, attempt.nodes_in_replica());
        self.move_gpus(id, Some(Column::Waiting), None, had);
        self.move_gpus(id, None, Some(Column::Startup), gpus);
        self.await_answers(id, nodes);
        let what =
            TrailKind::ReplicaLaunched { replica: index as u32, replaced: stand_ins.len() as u32 };
        self.say(Some((id, Some(epoch))), None, what, out);
        let warm = self.take_standbys(id, members);
        self.say_warm(id, warm, nodes as u32, out);
        self.order(id, index..index + 1, None, out);
        self.await_rejoining(id);
        true
    }

    /// Another node takes the place of a member of which nothing lives.
    pub(super) fn replace(
        &mut self,
        id: JobId,
        member: usize,
        node: lindos_model::NodeId,
        gpus: lindos_model::GpuSet,
    ) {
        let job = self.jobs.get_mut(&id).expect("it is alive");
        let attempt = job.attempt.as_mut().expect("it is alive");
        let before = std::mem::replace(&mut attempt.members[member].node, node);
        attempt.members[member].gpus = gpus;
        attempt.leaves.remove(&before);
        self.lose_standby(id, before);
        self.fleet.release(before, id);
        if self.leaving.contains(&before) {
            self.may_be_left.insert(before);
        }
        if self.fleet.node(node).spare_of == Some(id) {
            // What waits there goes on as its ranks.
            self.use_spare(node);
        } else {
            self.lose_spare(node);
        }
        let member = member as u32;
        self.fleet.allocate(node, Allocation { job: id, member, gpus, quiet: None });
    }

    /// Tells the nodes of some members that the core knows all about their last launch.
    fn forget_members(&mut self, id: JobId, members: std::ops::Range<usize>, out: &mut Effects) {
        let attempt = self.jobs[&id].attempt.as_ref().expect("it is alive");
        let epoch = attempt.epoch_of(members.start);
        let to: Vec<Target> = members.filter_map(|index| self.target(attempt, index)).collect();
        if !to.is_empty() {
            self.command(id, epoch, Order::Forget, to, out);
        }
    }
}

impl Attempt {
    /// Whether a silence is one of all replicas, and not of one that the others go on without.
    fn stands_still(&self, reason: &EndReason, now: Time) -> bool {
        matches!(reason, EndReason::Hang { silent, .. } if now.since(self.sign_at) >= *silent)
    }

    fn has_ended_well(&self, replica: usize) -> bool {
        self.replicas[replica].tally.succeeded == self.ranks_in_replica()
    }

    /// Replicas that have trained with the others and have not ended well.
    pub(super) fn not_ended(&self) -> impl Iterator<Item = usize> {
        (0..self.replicas.len()).filter(|&index| {
            let is_launched = self.replicas[index].state == ReplicaState::Launched;
            let trains = is_launched && !self.rejoining.contains(&(index as u32));
            trains && !self.has_ended_well(index)
        })
    }

    /// The only replica that has not ended well, where others have.
    fn last_to_end(&self) -> Option<usize> {
        let mut left = self.not_ended();
        let last = left.next().filter(|_| left.next().is_none());
        last.filter(|_| (0..self.replicas.len()).any(|index| self.has_ended_well(index)))
    }

    pub(crate) fn can_go_on_without(&self, index: usize, now: Time) -> bool {
        !self.is_stopping()
            && self.replicas.len() > 1
            && self.replicas[index].state == ReplicaState::Launched
            && self.go_on_without(index, now) >= self.replicas_min as usize
    }

    /// How many replicas there are beside one that is launched. Those that begin together count once they are
    /// launched, and later those that train. Where no steps are told, one that comes back counts after a
    /// while.
    fn go_on_without(&self, index: usize, now: Time) -> usize {
        if self.first_step_at.is_some() {
            let has_trained = self.replicas[index].first_step_at.is_some();
            return self.training().saturating_sub(usize::from(has_trained));
        }
        let has_just_begun = |&&other: &&u32| {
            let since = now.since(self.replicas[other as usize].launched_at);
            other as usize != index && since < BACK_AT_WORK
        };
        let not_yet = self.rejoining.iter().filter(has_just_begun).count();
        self.replicas.len() - self.down.len() - not_yet - 1
    }
}

impl super::attempt::Pace {
    /// How far into a step the training was at a moment.
    fn step_under_way(&self, at: Time) -> Millis {
        let since = at.since(self.step_at);
        match self.step_ms {
            Some(step_ms) if step_ms > 0 => Millis(since.0 % step_ms),
            _ => since,
        }
    }
}
