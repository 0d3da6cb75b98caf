//! Nodes come, fall silent, are fenced, are drained; what is found on them, and how they are mended
//! ([`repair`]).

pub mod by_node;
pub mod fleet;
pub mod guard;
pub mod idle;
pub mod ladder;
pub mod pairs;
mod place;
pub mod places;
pub mod record;
pub mod repair;
pub mod slow;
pub mod trial;

use crate::Core;
use crate::effect::{Effect, Effects, Rejection, Reply};
use crate::timer::Timer;
use fleet::{Joined, NodeState};
use lindos_model::node::GPUS_PER_NODE_MAX;
use lindos_model::trail::CalledOff;
use lindos_model::{
    EffectId, EndReason, JobId, Millis, NodeId, NodeSpec, Policy, RequestId, Time, TrailKind,
};

/// A fence that was not confirmed is asked for again after this long.
const FENCE_AGAIN: Millis = Millis::from_secs(30);

/// A node that was heard no later than this after the control plane started was not heard: the
/// drivers begin to count its silence then.
const HEARD_AT_ALL: Millis = Millis::from_secs(1);

impl Core {
    pub(crate) fn on_control_plane_started(&mut self, policy: &Policy, out: &mut Effects) {
        self.on_policy(policy);
        self.idle_policy(out);
        self.trials.may_try_again();
        self.started_at = self.now;
        self.must_schedule = true;
        let what = TrailKind::ControlPlaneStarted { jobs_alive: self.alive.len() as u32 };
        self.say(None, None, what, out);
        self.restart_deadlines(true);
        let silent: Vec<NodeId> = self.nodes_in(NodeState::Silent);
        for node in silent {
            self.fence(node, out);
        }
    }

    fn nodes_in(&self, state: NodeState) -> Vec<NodeId> {
        let ids = (0..self.fleet.len()).map(|index| NodeId(index as u32));
        ids.filter(|&id| self.fleet.node(id).state == state).collect()
    }

    pub(crate) fn on_node_joined(&mut self, spec: &NodeSpec, out: &mut Effects) {
        let gpus = spec.gpus;
        if gpus > GPUS_PER_NODE_MAX || !self.fleet.has_room_for(&spec.platform) {
            return;
        }
        let (node, joined) = self.fleet.join(spec.clone());
        if joined == Joined::New {
            self.say(None, Some(node), TrailKind::NodeJoined { gpus }, out);
            self.idle_joined(node);
        }
        // What it is now may be what somebody waits for.
        self.must_schedule |= joined != Joined::Again;
    }

    /// A node spoke. Whether what it says is newer than all that it said before.
    pub(crate) fn on_node_heard(
        &mut self,
        id: NodeId,
        incarnation: u64,
        seq: u64,
        out: &mut Effects,
    ) -> bool {
        let Some(node) = self.fleet.get(id) else { return false };
        if (incarnation, seq) <= (node.incarnation, node.seq) {
            return false;
        }
        let (state, is_new_agent) = (node.state, node.incarnation != incarnation);
        self.fleet.heard(id, incarnation, seq);
        if state != NodeState::Up {
            self.fleet.update(id, |node| {
                node.state = NodeState::Up;
                node.fence = None;
            });
            self.timers.cancel(Timer::Fence(id));
            self.say(None, Some(id), TrailKind::NodeUp, out);
            self.must_schedule = true;
            for (job, member) in self.members_on(id) {
                self.on_member_there(job, member, true);
            }
        }
        if is_new_agent {
            // Commands to the agent before it were dropped: it has to be told again.
            for (job, _) in self.members_on(id) {
                self.resend_to(job, Some(id), out);
            }
        }
        true
    }

    /// A node went silent: the jobs that this is a fault of, and in which replica.
    pub(crate) fn on_node_silent(
        &mut self,
        id: NodeId,
        last_heard: Time,
        out: &mut Effects,
    ) -> Vec<(JobId, usize, EndReason)> {
        let Some(node) = self.fleet.get(id) else { return Vec::new() };
        if node.state != NodeState::Up {
            return Vec::new();
        }
        let name = node.spec.name.clone();
        self.fleet.update(id, |node| node.state = NodeState::Silent);
        self.lose_spare(id);
        self.fleet.interrupt(id);
        if let Some(trial) = self.trial_of(id) {
            self.call_off(trial, CalledOff::OtherNews, out);
        }
        // A job that waited for busy nodes may now wait for this one, and block nobody.
        self.must_schedule = true;
        let unheard = self.now.since(last_heard);
        self.say(None, Some(id), TrailKind::NodeSilent { unheard }, out);
        self.fence(id, out);
        let members = self.members_on(id);
        // Nobody listened before the control plane started: it may have died long before.
        let last_heard = (last_heard > self.started_at + HEARD_AT_ALL).then_some(last_heard);
        let mut faults = Vec::new();
        for (job, member) in members {
            self.lose_standby(job, id);
            self.on_member_there(job, member, false);
            self.note_unheard(job, id, last_heard);
            let attempt = self.jobs[&job].attempt.as_ref().expect("it holds GPUs");
            let reason = EndReason::NodeSilent { node: name.clone() };
            faults.push((job, attempt.replica_of(member), reason));
        }
        faults
    }

    pub(crate) fn fence(&mut self, node: NodeId, out: &mut Effects) {
        let id = self.next_effect();
        self.fleet.update(node, |node| {
            node.fence.get_or_insert(id);
        });
        out.push(Effect::Fence { id, node });
        self.timers.set(Timer::Fence(node), self.now + FENCE_AGAIN);
    }

    pub(crate) fn on_fence_overdue(&mut self, node: NodeId, out: &mut Effects) {
        if self.fleet.node(node).state == NodeState::Silent {
            self.fence(node, out);
        }
    }

    /// Nothing that ran on the node can still run: the jobs that this concerns. A node that has spoken since says itself what
    /// became of its ranks.
    pub(crate) fn on_node_fenced(
        &mut self,
        id: NodeId,
        fence: EffectId,
        out: &mut Effects,
    ) -> Vec<JobId> {
        let Some(node) = self.fleet.get(id) else { return Vec::new() };
        // A fence of an earlier silence says nothing of what was started since.
        let counts = node.fence.is_some_and(|first| fence >= first);
        if node.state != NodeState::Silent || !counts {
            return Vec::new();
        }
        self.timers.cancel(Timer::Fence(id));
        self.fleet.update(id, |node| node.state = NodeState::Fenced);
        self.say(None, Some(id), TrailKind::NodeFenced, out);
        let allocations = self.fleet.node(id).allocations.clone();
        for allocation in &allocations {
            self.on_member_fenced(allocation.job, allocation.member as usize);
        }
        allocations.into_iter().map(|allocation| allocation.job).collect()
    }

    /// Drains a node (`Some`: why) or takes it back into service.
    pub(crate) fn on_node_drained(
        &mut self,
        request: RequestId,
        id: NodeId,
        reason: Option<&String>,
        out: &mut Effects,
    ) {
        if self.has_answered(request, out) {
            return;
        }
        if self.fleet.get(id).is_none() {
            let reason = Rejection::NoSuchNode { node: id };
            self.answer(request, Reply::Rejected { reason }, out);
            return;
        }
        let changed = self.fleet.node(id).drained.as_ref() != reason;
        self.fleet.update(id, |node| node.drained = reason.cloned());
        if changed {
            self.lose_spare(id);
            self.fleet.interrupt(id);
            let what = match reason {
                Some(reason) => TrailKind::NodeDrained { reason: reason.clone() },
                None => TrailKind::NodeUndrained,
            };
            self.say(None, Some(id), what, out);
            self.must_schedule = true;
        }
        self.answer(request, Reply::Done, out);
    }

    pub(crate) fn members_on(&self, id: NodeId) -> Vec<(JobId, usize)> {
        let on_node = self.fleet.node(id).allocations.iter();
        on_node.map(|allocation| (allocation.job, allocation.member as usize)).collect()
    }
}
