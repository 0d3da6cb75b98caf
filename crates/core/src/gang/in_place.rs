//! A gang starts anew on the nodes that it has, others standing in for those that are out.
//!
//! Neither the queue nor the fleet is asked: a restart goes before everybody, and whoever goes on
//! from a checkpoint finds its caches and its neighbours where they were. The numbers of the ranks
//! stay. It costs the fleet nothing but the nodes that change.

use super::attempt::{Attempt, Member, SHUNNED_MAX};
use crate::Core;
use crate::blame::answer::SharedPlace;
use crate::effect::Effects;
use crate::placement::{self, Gang, Request};
use lindos_model::{GpuSet, JobId, NodeId, TrailKind};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

impl Core {
    /// Starts the next attempt of a job, of whose last one nothing lives, where that was. Whether
    /// it could; if not, it goes back to the queue.
    pub(crate) fn restart_in_place(&mut self, id: JobId, out: &mut Effects) -> bool {
        let job = &self.jobs[&id];
        let attempt = job.attempt.as_ref().expect("its attempt is over");
        let members = 0..attempt.members.len();
        // One that is smaller than it wants to be may find more.
        if (members.len() as u32) < job.spec.nodes {
            return false;
        }
        let Some(stand_ins) = self.stand_ins(id, members) else { return false };
        self.forget_gang(id, out);
        for &(member, node, gpus) in &stand_ins {
            self.replace(id, member, node, gpus);
        }
        let job = self.jobs.get_mut(&id).expect("it is alive");
        let attempt = job.attempt.take().expect("its attempt is over");
        let Attempt { mut members, gpus, spares, standbys, .. } = attempt;
        for member in &mut members {
            *member = Member::launched(member.node, member.gpus);
        }
        let nodes = members.len() as u32;
        self.begin_attempt(id, members, gpus);
        let job = self.jobs.get_mut(&id).expect("it is alive");
        let attempt = job.attempt.as_mut().expect("it was just made");
        (attempt.spares, attempt.standbys) = (spares, standbys);
        let warm = self.take_standbys(id, 0..nodes as usize);
        let first = stand_ins.iter().take(TrailKind::PLACED_FIRST);
        let first = first.map(|&(_, node, _)| self.fleet.node(node).spec.name.clone()).collect();
        let replaced = stand_ins.len() as u32;
        let what = TrailKind::PlacedAgain { nodes, replaced, first };
        let epoch = self.jobs[&id].epoch;
        self.say(Some((id, Some(epoch))), None, what, out);
        self.say_warm(id, warm, nodes, out);
        self.say_advice(id, out);
        self.resend_to(id, None, out);
        true
    }

    /// Something of a job has failed on a node before its first step.
    pub(crate) fn shun(&mut self, id: JobId, node: NodeId) {
        self.jobs.get_mut(&id).expect("it is known").shunned.note(node);
    }

    /// A job keeps away from a node when it can.
    pub(crate) fn avoid(&mut self, id: JobId, node: NodeId) {
        self.jobs.get_mut(&id).expect("it is known").shunned.avoid(node);
    }

    /// … and from a place, unless that is too large to be kept in mind.
    pub(crate) fn avoid_place(&mut self, id: JobId, place: &SharedPlace) {
        let nodes = self.nodes_of_place(place);
        if nodes.len() <= SHUNNED_MAX {
            for node in nodes {
                self.avoid(id, node);
            }
        }
    }

    /// Whether a job, of whose attempt nothing lives, could go on at once without these nodes.
    pub(crate) fn has_room_without(&mut self, id: JobId, nodes: &[NodeId]) -> bool {
        let job = &self.jobs[&id];
        let members = 0..job.attempt.as_ref().expect("its attempt is over").members.len();
        let spec = Arc::clone(&job.spec);
        let shunned: BTreeSet<NodeId> = nodes.iter().copied().collect();
        if self.stand_ins_but(id, members.clone(), &shunned).is_some() {
            return true;
        }
        let names = nodes.iter().map(|&node| self.fleet.node(node).spec.name.clone());
        let exclude: BTreeSet<String> = spec.exclude.iter().cloned().chain(names).collect();
        let wanted = members.len() as u32;
        let request = Request { nodes: wanted, exclude: &exclude, ..Request::of(&spec) };
        placement::place(&mut self.fleet, &request).is_ok()
    }

    /// Nodes that stand in for those of these members that are out, and if there are others also for
    /// those that the job keeps away from: better there than to wait, which could be for ever. `None`
    /// when some cannot be had, or when others have a claim on one that is there.
    pub(crate) fn stand_ins(
        &mut self,
        id: JobId,
        members: Range<usize>,
    ) -> Option<Vec<(usize, NodeId, GpuSet)>> {
        let shunned = self.jobs[&id].shunned.nodes.clone();
        let elsewhere = self.stand_ins_but(id, members.clone(), &shunned);
        elsewhere.or_else(|| self.stand_ins_but(id, members, &BTreeSet::new()))
    }

    pub(crate) fn stand_ins_but(
        &mut self,
        id: JobId,
        members: Range<usize>,
        shunned: &BTreeSet<NodeId>,
    ) -> Option<Vec<(usize, NodeId, GpuSet)>> {
        let job = &self.jobs[&id];
        let attempt = job.attempt.as_ref()?;
        let node = |member: usize| attempt.members[member].node;
        let is_claimed = |node| self.fleet.is_claimed_by_others(node, id);
        // Of a whole gang that is out, nothing is left to be near to.
        let is_whole = members.len() == attempt.members.len();
        let is_kept =
            |member: usize| self.fleet.in_service(node(member)) && !shunned.contains(&node(member));
        let (kept, lost): (Vec<usize>, Vec<usize>) = members.partition(|&member| is_kept(member));
        if (kept.is_empty() && is_whole) || kept.iter().any(|&member| is_claimed(node(member))) {
            return None;
        }
        if lost.is_empty() {
            return Some(Vec::new());
        }
        let spec = Arc::clone(&job.spec);
        let gang = Gang { size: attempt.members.len(), node: &node };
        let mut own = self.open_to_team(id);
        own.extend(&self.jobs[&id].attempt.as_ref().expect("it is alive").spares);
        let warm: Vec<NodeId> = self.warm_spares_of(id).into_iter().collect();
        let request = Request { own: &own, first: &warm, ..Request::of(&spec) };
        let found = self.fleet.with_index(|index, fleet| {
            placement::stand_ins(index, fleet, &request, &gang, &lost, shunned)
        })?;
        let taken = |(member, node): (usize, NodeId)| {
            let gpus = self.fleet.node(node).free().lowest(spec.gpus_per_node);
            (member, node, gpus.expect("the index counts the free GPUs"))
        };
        Some(lost.into_iter().zip(found).map(taken).collect())
    }
}
