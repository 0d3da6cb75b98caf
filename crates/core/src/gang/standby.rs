//! Processes of a job that are started and wait for a rank, so that its next start is a short one.
//!
//! They wait on some of its spares (`warm_spares`), and beside its ranks on the nodes of its gang
//! (`warm_restarts`), once all ranks run, and beside ranks once those train, and the program has said
//! that it can wait. They are none of its ranks: they count for nothing until an attempt is launched on their node, where its agent lets
//! them go on as the ranks of that. So nobody has to know more of them than where they are.
//!
//! Where they should wait stands in [`Attempt::standbys`]. A node that has not said that they do is
//! asked again; processes that wait where they should not are ended when they are told of. Where they
//! end by themselves, they are not started again in the same attempt; where they went with the node's
//! agent, they are.

use super::attempt::{Attempt, MemberState, Phase};
use crate::Core;
use crate::effect::{Effects, Order, StandBy, Target};
use crate::health::fleet::NodeState;
use crate::timer::Timer;
use lindos_model::{
    EffectId, GpuSet, JobId, Millis, NodeId, StandbyReport, StandbyState, Time, TrailKind,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// An order that is not answered is given again after the policy's wait times 1, 2, 4, … up to this.
const RESEND_FACTOR_MAX: u64 = 16;

/// Where processes of a job wait for a rank, or should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// The effect that asked for them.
    pub id: EffectId,
    pub asked_at: Time,
    /// Since when all of them wait.
    pub ready_at: Option<Time>,
}

impl Core {
    /// The program of a job can wait for its rank.
    pub(crate) fn on_standby_offered(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.stands_by = true;
            self.short_of_standbys.insert(id);
        }
    }

    /// Whether anybody cares that the program of a job can wait for its rank, and nobody knows.
    pub fn asks_for_standby(&self, id: JobId) -> bool {
        let job = self.jobs.get(&id).filter(|job| !job.is_over() && !job.stands_by);
        job.is_some_and(|job| job.spec.warm_spares > 0 || job.spec.warm_restarts)
    }

    /// Has processes wait where they should and do not.
    pub(crate) fn keep_standbys(&mut self, out: &mut Effects) {
        for (job, node, standby) in std::mem::take(&mut self.unwanted_standbys) {
            self.stand_down(job, node, standby, out);
        }
        for id in std::mem::take(&mut self.short_of_standbys) {
            let Some(attempt) = self.attempt_of(id) else { continue };
            let job = &self.jobs[&id];
            if attempt.phase != Phase::Up || !job.stands_by {
                continue;
            }
            let spares = self.spares_to_warm(id);
            let beside = if job.spec.warm_restarts { self.members_to_warm(id) } else { Vec::new() };
            if spares.is_empty() && beside.is_empty() {
                continue;
            }
            let (now, of_spares, of_members) = (self.now, self.next_effect(), self.next_effect());
            let name = |&node: &NodeId| self.fleet.node(node).spec.name.clone();
            let what = TrailKind::StandbyBegun {
                spares: spares.iter().map(name).collect(),
                beside: beside.len() as u32,
            };
            let job = self.jobs.get_mut(&id).expect("it is alive");
            let attempt = job.attempt.as_mut().expect("it is alive");
            attempt.standby_wait = Millis(self.policy.resend_ms.max(1));
            let asked = |standby| Standby { id: standby, asked_at: now, ready_at: None };
            attempt.standbys.extend(spares.iter().map(|&node| (node, asked(of_spares))));
            attempt.standbys.extend(beside.iter().map(|&node| (node, asked(of_members))));
            let (epoch, wait) = (job.epoch, attempt.standby_wait);
            self.timers.set(Timer::Standby(id), now + wait);
            self.say(Some((id, Some(epoch))), None, what, out);
            let asked: BTreeSet<NodeId> = spares.into_iter().chain(beside).collect();
            self.ask_to_stand_by(id, |node| asked.contains(&node), out);
        }
    }

    /// The spares on which a job's processes should wait and do not, the first by number first.
    fn spares_to_warm(&self, id: JobId) -> Vec<NodeId> {
        let (job, attempt) = (&self.jobs[&id], self.attempt_of(id).expect("it is alive"));
        let is_warm = |node: &&NodeId| attempt.standbys.contains_key(*node);
        let warm = attempt.spares.iter().filter(is_warm).count();
        let is_fit = |node: &&NodeId| {
            let known = self.fleet.node(**node);
            let is_new = !attempt.standbys.contains_key(*node) && !attempt.cold.contains(*node);
            is_new && known.in_service() && known.burn_in.is_none()
        };
        let missing = (job.spec.warm_spares as usize).saturating_sub(warm);
        attempt.spares.iter().filter(is_fit).take(missing).copied().collect()
    }

    /// The nodes of a gang on which they should wait beside its ranks and do not. Ranks that are still
    /// starting are not to be held up by others that start.
    fn members_to_warm(&self, id: JobId) -> Vec<NodeId> {
        let (job, attempt) = (&self.jobs[&id], self.attempt_of(id).expect("it is alive"));
        let trains = |member: usize| {
            let replica = &attempt.replicas[attempt.replica_of(member)];
            replica.first_step_at.is_some() || !job.reports_steps
        };
        let is_fit = |&(index, member): &(usize, &super::attempt::Member)| {
            let node = member.node;
            member.state == MemberState::Up
                && trains(index)
                && self.fleet.node(node).in_service()
                && !attempt.standbys.contains_key(&node)
                && !attempt.cold.contains(&node)
        };
        let members = attempt.members.iter().enumerate().filter(is_fit);
        members.map(|(_, member)| member.node).collect()
    }

    /// Tells nodes that have not said that processes wait there that some should.
    fn ask_to_stand_by(&mut self, id: JobId, is_asked: impl Fn(NodeId) -> bool, out: &mut Effects) {
        let job = &self.jobs[&id];
        let attempt = job.attempt.as_ref().expect("it is alive");
        let gpus: BTreeMap<NodeId, GpuSet> =
            attempt.members.iter().map(|member| (member.node, member.gpus)).collect();
        let mut by_order: BTreeMap<(EffectId, bool), Vec<Target>> = BTreeMap::new();
        for (&node, standby) in &attempt.standbys {
            let known = self.fleet.node(node);
            let is_wanted = standby.ready_at.is_none() && is_asked(node);
            if !is_wanted || known.state != NodeState::Up {
                continue;
            }
            let of_member = gpus.get(&node).copied();
            let target = Target {
                node,
                incarnation: known.incarnation,
                member: 0,
                gpus: of_member.unwrap_or(GpuSet::first(job.spec.gpus_per_node)),
            };
            by_order.entry((standby.id, of_member.is_some())).or_default().push(target);
        }
        let (spec, array_index, epoch) = (Arc::clone(&job.spec), job.array_index, job.epoch);
        for ((standby, beside), to) in by_order {
            let spec = Arc::clone(&spec);
            let order = StandBy { id: standby, spec, array_index, beside };
            self.command(id, epoch, Order::StandBy(Arc::new(order)), to, out);
        }
    }

    pub(crate) fn on_standbys_overdue(&mut self, id: JobId, out: &mut Effects) {
        let longest = Millis(self.policy.resend_ms).times(RESEND_FACTOR_MAX).max(Millis(1));
        let now = self.now;
        let Some(attempt) = self.jobs.get_mut(&id).and_then(|job| job.attempt.as_mut()) else {
            return;
        };
        if attempt.standbys.values().all(|standby| standby.ready_at.is_some()) {
            return;
        }
        attempt.standby_wait = attempt.standby_wait.times(2).min(longest);
        let wait = attempt.standby_wait;
        self.timers.set(Timer::Standby(id), now + wait);
        self.ask_to_stand_by(id, |_| true, out);
    }

    /// Ends processes that nobody wants to wait any more.
    fn stand_down(&mut self, id: JobId, node: NodeId, standby: EffectId, out: &mut Effects) {
        let known = self.fleet.node(node);
        if known.state != NodeState::Up {
            return;
        }
        let epoch = self.jobs.get(&id).map(|job| job.epoch).unwrap_or_default();
        let (incarnation, gpus) = (known.incarnation, GpuSet::EMPTY);
        let to = vec![Target { node, incarnation, member: 0, gpus }];
        self.command(id, epoch, Order::StandDown { standby }, to, out);
    }

    /// Nothing of a job need wait on a node any more.
    pub(crate) fn lose_standby(&mut self, id: JobId, node: NodeId) {
        let attempt = self.jobs.get_mut(&id).and_then(|job| job.attempt.as_mut());
        if let Some(standby) = attempt.and_then(|attempt| attempt.standbys.remove(&node)) {
            self.unwanted_standbys.push((id, node, standby.id));
            self.short_of_standbys.insert(id);
        }
    }

    /// A gang has ended, and what waited for a rank of it with it.
    pub(crate) fn release_standbys(&mut self, id: JobId) {
        self.timers.cancel(Timer::Standby(id));
        let job = self.jobs.get_mut(&id).expect("its attempt is over");
        let attempt = job.attempt.as_mut().expect("its attempt is over");
        for (node, standby) in std::mem::take(&mut attempt.standbys) {
            self.unwanted_standbys.push((id, node, standby.id));
        }
    }

    /// What waits on the nodes of some members, which are launched now, goes on as their ranks. On
    /// how many nodes that is all of them.
    pub(crate) fn take_standbys(&mut self, id: JobId, members: Range<usize>) -> u32 {
        let job = self.jobs.get_mut(&id).expect("it is alive");
        let attempt = job.attempt.as_mut().expect("it is alive");
        let Attempt { members: all, standbys, .. } = attempt;
        let taken = all[members].iter().filter_map(|member| standbys.remove(&member.node));
        taken.filter(|standby| standby.ready_at.is_some()).count() as u32
    }

    pub(crate) fn say_warm(&mut self, id: JobId, warm: u32, nodes: u32, out: &mut Effects) {
        if warm > 0 {
            let epoch = self.jobs[&id].epoch;
            let what = TrailKind::StartedWarm { warm, nodes };
            self.say(Some((id, Some(epoch))), None, what, out);
        }
    }

    /// Where processes of a job wait for a rank, or should, on a node.
    pub fn standby_on(&self, id: JobId, node: NodeId) -> Option<&Standby> {
        self.attempt_of(id)?.standbys.get(&node)
    }

    /// All that waits on a node, as far as the core knows.
    pub fn ready_on(&self, node: NodeId) -> Vec<StandbyReport> {
        let jobs = self.may_stand_by(node).into_iter();
        let known = jobs.filter_map(|job| Some((job, self.standby_on(job, node)?)));
        let ready = known.filter(|(_, standby)| standby.ready_at.is_some());
        let report = |(job, standby): (JobId, &Standby)| StandbyReport {
            job,
            id: standby.id,
            state: StandbyState::Ready,
        };
        ready.map(report).collect()
    }

    /// The jobs whose processes may wait on a node.
    fn may_stand_by(&self, node: NodeId) -> Vec<JobId> {
        let node = self.fleet.node(node);
        node.spare_of.into_iter().chain(node.allocations.iter().map(|a| a.job)).collect()
    }

    /// An attempt of the job is being launched on the node: what waits there goes on as its ranks, and
    /// was told of before it did.
    fn is_about_to_go_on(&self, id: JobId, node: NodeId) -> bool {
        let known = self.fleet.node(node);
        let Some(member) = known.allocations.iter().find(|a| a.job == id) else { return false };
        let attempt = self.attempt_of(id);
        attempt.is_some_and(|attempt| {
            attempt.members[member.member as usize].state == MemberState::Launching
        })
    }

    /// Whether a report of what waits on a node says anything that the core does not know, or does not
    /// want.
    pub fn hears_of_standbys(&self, node: NodeId, reports: &[StandbyReport]) -> bool {
        if self.fleet.get(node).is_none() {
            return false;
        }
        let is_news = |report: &StandbyReport| match self.standby_of(report, node) {
            Some(known) => match report.state {
                StandbyState::Starting => false,
                StandbyState::Ready => known.ready_at.is_none(),
                StandbyState::Ended { .. } => true,
            },
            None => !self.is_about_to_go_on(report.job, node),
        };
        reports.iter().any(is_news)
            || self.may_stand_by(node).iter().any(|&id| self.has_lost_standby(id, node, reports))
    }

    fn standby_of(&self, report: &StandbyReport, node: NodeId) -> Option<&Standby> {
        self.standby_on(report.job, node).filter(|known| known.id == report.id)
    }

    fn has_lost_standby(&self, id: JobId, node: NodeId, reports: &[StandbyReport]) -> bool {
        self.standby_on(id, node).is_some_and(|known| {
            let is_told = reports.iter().any(|report| (report.job, report.id) == (id, known.id));
            known.ready_at.is_some() && !is_told
        })
    }

    /// All that waits for a rank on a node.
    pub(crate) fn on_standbys_reported(
        &mut self,
        node: NodeId,
        number: (u64, u64),
        reports: &[StandbyReport],
        out: &mut Effects,
    ) {
        let known = self.fleet.get(node);
        if known.is_none_or(|known| number < (known.incarnation, known.seq)) {
            return;
        }
        for report in reports {
            if self.standby_of(report, node).is_some() {
                self.on_standby_reported(node, report, out);
            } else if !self.is_about_to_go_on(report.job, node) {
                self.stand_down(report.job, node, report.id, out);
            }
        }
        for id in self.may_stand_by(node) {
            if self.has_lost_standby(id, node, reports) {
                // An agent tells how they ended, unless it was gone itself.
                let reason = "they are gone, and nobody saw how".to_string();
                self.lose_ended_standby(id, node, reason, out);
            }
        }
    }

    fn on_standby_reported(&mut self, node: NodeId, report: &StandbyReport, out: &mut Effects) {
        let (now, id) = (self.now, report.job);
        match &report.state {
            StandbyState::Starting => {}
            StandbyState::Ready => {
                let job = self.jobs.get_mut(&id).expect("it is alive");
                let attempt = job.attempt.as_mut().expect("it is alive");
                let is_spare = attempt.spares.contains(&node);
                let standby = attempt.standbys.get_mut(&node).expect("it was just there");
                if standby.ready_at.replace(now).is_some() {
                    return;
                }
                let after = now.since(standby.asked_at);
                let mut beside = attempt.standbys.iter();
                let all_wait = beside.clone().all(|(node, standby)| {
                    attempt.spares.contains(node) || standby.ready_at.is_some()
                });
                let beside = beside.by_ref().filter(|(node, _)| !attempt.spares.contains(node));
                let beside = beside.count() as u32;
                let said = Some((id, Some(job.epoch)));
                if is_spare {
                    let what = TrailKind::StandbyReady { beside: 0, after };
                    self.say(said, Some(node), what, out);
                } else if all_wait {
                    self.say(said, None, TrailKind::StandbyReady { beside, after }, out);
                }
            }
            StandbyState::Ended { reason } => {
                self.on_standby_ended(id, node, reason.clone(), out);
                self.stand_down(id, node, report.id, out);
            }
        }
    }

    /// They are not started again there in this attempt: they would end again.
    fn on_standby_ended(&mut self, id: JobId, node: NodeId, reason: String, out: &mut Effects) {
        let attempt = self.jobs.get_mut(&id).and_then(|job| job.attempt.as_mut());
        attempt.expect("it is alive").cold.insert(node);
        self.lose_ended_standby(id, node, reason, out);
    }

    fn lose_ended_standby(&mut self, id: JobId, node: NodeId, reason: String, out: &mut Effects) {
        let job = self.jobs.get_mut(&id).expect("it is alive");
        let epoch = job.epoch;
        job.attempt.as_mut().expect("it is alive").standbys.remove(&node);
        self.short_of_standbys.insert(id);
        let what = TrailKind::StandbyEnded { reason };
        self.say(Some((id, Some(epoch))), Some(node), what, out);
    }

    /// Its own spares on which a job's processes wait, for a launch that happens now.
    pub(crate) fn warm_spares_of(&self, id: JobId) -> BTreeSet<NodeId> {
        let Some(attempt) = self.attempt_of(id) else { return BTreeSet::new() };
        let is_warm = |node: &&NodeId| {
            attempt.standbys.get(*node).is_some_and(|standby| standby.ready_at.is_some())
        };
        attempt.spares.iter().filter(is_warm).copied().collect()
    }

    /// Whether processes wait on a node, or are to, for a job that keeps it as a spare.
    pub(crate) fn is_warm_spare(&self, node: NodeId) -> bool {
        let job = self.fleet.node(node).spare_of;
        job.is_some_and(|job| self.standby_on(job, node).is_some())
    }

    pub(crate) fn check_standbys(&self) {
        assert!(self.unwanted_standbys.is_empty() && self.short_of_standbys.is_empty());
        for &id in &self.alive {
            let (job, attempt) = (&self.jobs[&id], self.jobs[&id].attempt.as_ref());
            let attempt = attempt.expect("it is alive");
            let nodes: BTreeSet<NodeId> = attempt.members.iter().map(|it| it.node).collect();
            let mut warm = 0;
            for (&node, standby) in &attempt.standbys {
                let is_member = nodes.contains(&node);
                let is_spare = attempt.spares.contains(&node);
                assert!(is_member != is_spare, "what waits for job {id} is somewhere else");
                assert!(is_spare || job.spec.warm_restarts);
                assert!(!attempt.cold.contains(&node), "it waits where it was said not to");
                warm += u32::from(is_spare);
                let is_asked =
                    standby.ready_at.is_some() || self.timers.get(Timer::Standby(id)).is_some();
                assert!(is_asked, "nobody asks again for what should wait for job {id}");
            }
            assert!(warm <= job.spec.warm_spares, "job {id} has more warm spares than it wants");
        }
    }
}
