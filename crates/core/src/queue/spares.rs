//! Spares of one gang: whole free nodes near it that are kept for it while it runs, to stand in for
//! those that it loses.
//!
//! A job does not wait for them: they are taken once it has started, after whoever may start has, and
//! again when one was used or is out. They are on its team's account, and go when the gang does.

use crate::Core;
use crate::effect::Effects;
use crate::gang::attempt::Attempt;
use crate::placement::{self, Gang, Request};
use lindos_model::{JobId, Level, NodeId, TrailKind};
use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

/// Jobs that look for spares after one pass; the others do after the next.
const JOBS_MAX: usize = 64;
/// Nodes that are looked at for one spare.
const LOOKS_MAX: u32 = 16;

impl Core {
    /// A gang has started, and may ask for spares.
    pub(crate) fn want_spares(&mut self, id: JobId) {
        if self.jobs[&id].spec.spares > 0 {
            self.short_of_spares.insert(id);
        }
    }

    /// Takes what is free for those that are short of spares.
    pub(crate) fn keep_spares(&mut self, out: &mut Effects) {
        let turn = self.spares_turn;
        let short = self.short_of_spares.range((Excluded(turn), Unbounded));
        let short = short.chain(self.short_of_spares.range(..=turn));
        let short: Vec<JobId> = short.take(JOBS_MAX).copied().collect();
        for id in short {
            let left = self.fleet.index().whole_open().saturating_sub(self.policy.spares);
            if left == 0 {
                return;
            }
            self.spares_turn = id;
            self.keep_spares_of(id, left, out);
        }
    }

    fn keep_spares_of(&mut self, id: JobId, left: u32, out: &mut Effects) {
        let job = &self.jobs[&id];
        let attempt = job.attempt.as_ref().expect("only what runs wants spares");
        let (wanted, kept) = (job.spec.spares as usize, attempt.spares.len());
        if attempt.is_stopping() || kept >= wanted {
            return;
        }
        let gang: Vec<NodeId> = attempt.members.iter().map(|member| member.node).collect();
        let most = (wanted - kept).min(left as usize);
        let mut found = Vec::new();
        for number in kept..kept + most {
            // Spread over the gang, so that each part of it has one near.
            let Some(node) = self.spare_near(id, &gang, number * gang.len() / wanted) else {
                break;
            };
            found.push(node);
        }
        if found.is_empty() {
            return;
        }
        if kept + found.len() == wanted {
            self.short_of_spares.remove(&id);
        }
        self.short_of_standbys.insert(id);
        let first = found.iter().take(TrailKind::PLACED_FIRST);
        let first = first.map(|&node| self.fleet.node(node).spec.name.clone()).collect();
        let what = TrailKind::SparesKept { nodes: found.len() as u32, first };
        let epoch = self.jobs[&id].epoch;
        self.say(Some((id, Some(epoch))), None, what, out);
    }

    /// Keeps the nearest whole free node that may stand in for a member of a gang.
    fn spare_near(&mut self, id: JobId, gang: &[NodeId], member: usize) -> Option<NodeId> {
        let (spec, team) = (Arc::clone(&self.jobs[&id].spec), self.jobs[&id].team);
        let gpus = self.fleet.node(gang[member]).spec.gpus;
        if self.teams.over_limit(team, u64::from(gpus), &self.promised()).is_some() {
            return None;
        }
        // A gang of one node has no mates that tell where it must stay.
        let within = if gang.len() == 1 { Level::Fleet } else { spec.within };
        let request = Request { within, gpus_per_node: gpus, ..Request::of(&spec) };
        let mut but: BTreeSet<NodeId> = self.jobs[&id].shunned.nodes.clone();
        let all = Gang { size: gang.len(), node: &|member| gang[member] };
        let node = self.fleet.with_index(|index, fleet| {
            // A larger node may have as much free, and not be whole.
            for _ in 0..LOOKS_MAX {
                let found = placement::stand_ins(index, fleet, &request, &all, &[member], &but)?;
                if fleet.node(found[0]).is_whole() {
                    return Some(found[0]);
                }
                but.insert(found[0]);
            }
            None
        })?;
        self.fleet.spare(node, Some(id));
        let gpus = u64::from(self.fleet.node(node).spec.gpus);
        self.spares = (self.spares.0 + 1, self.spares.1 + gpus);
        self.teams.take(team, gpus, self.now);
        let job = self.jobs.get_mut(&id).expect("it runs");
        job.attempt.as_mut().expect("it runs").spares.insert(node);
        Some(node)
    }

    /// A node is nobody's spare any more: it is out, it is taken, or it is somebody else's.
    pub(crate) fn lose_spare(&mut self, node: NodeId) {
        if let Some(id) = self.fleet.node(node).spare_of {
            self.lose_standby(id, node);
            self.use_spare(node);
        }
    }

    /// A spare becomes a node of its gang.
    pub(crate) fn use_spare(&mut self, node: NodeId) {
        let Some(id) = self.fleet.node(node).spare_of else { return };
        self.fleet.spare(node, None);
        let gpus = u64::from(self.fleet.node(node).spec.gpus);
        self.spares = (self.spares.0 - 1, self.spares.1 - gpus);
        let job = self.jobs.get_mut(&id).expect("only what runs has spares");
        job.attempt.as_mut().expect("only what runs has spares").spares.remove(&node);
        self.teams.give_back(job.team, gpus, self.now);
        self.short_of_spares.insert(id);
        self.must_schedule = true;
    }

    /// A gang has ended, and its spares with it.
    pub(crate) fn release_spares(&mut self, id: JobId) {
        let attempt = self.jobs[&id].attempt.as_ref().expect("its attempt is over");
        for node in attempt.spares.clone() {
            self.lose_spare(node);
        }
        self.short_of_spares.remove(&id);
    }

    /// What a gang has on its team's account.
    pub(crate) fn gpus_of(&self, attempt: &Attempt) -> u64 {
        let spares = attempt.spares.iter();
        attempt.gpus + spares.map(|&node| u64::from(self.fleet.node(node).spec.gpus)).sum::<u64>()
    }

    pub(crate) fn check_spares(&self) {
        let mut kept = (0, 0);
        for &id in &self.alive {
            let attempt = self.jobs[&id].attempt.as_ref().expect("it is alive");
            let wanted = self.jobs[&id].spec.spares as usize;
            assert!(attempt.spares.len() <= wanted, "job {id} has more spares than it wants");
            let is_short = self.short_of_spares.contains(&id);
            assert_eq!(is_short, attempt.spares.len() < wanted, "job {id} is short of spares");
            for &node in &attempt.spares {
                let known = self.fleet.node(node);
                assert_eq!(known.spare_of, Some(id), "a node is a spare of two jobs");
                assert!(known.in_service() && known.is_whole() && !known.is_reserved);
                kept = (kept.0 + 1, kept.1 + u64::from(known.spec.gpus));
            }
        }
        assert_eq!(kept, self.spares, "spares were miscounted");
        assert!(self.short_of_spares.is_subset(&self.alive));
        let marked = self.fleet.nodes().iter().filter(|node| node.spare_of.is_some()).count();
        assert_eq!(kept.0 as usize, marked, "a spare is kept for nobody");
    }
}
