//! Stopping jobs to start another: only when that is proved to start it, and those that lose least.
//!
//! A job may preempt when its class says so, those of lower priority; and to have its team's share
//! back, those of no higher priority in teams that hold more than theirs, and such as leave their
//! team its share before others. A job that was preempted is not preempted again
//! before its next gang is older than the grace time. What a victim loses is the work since its
//! last checkpoint and the time to start anew.
//!
//! A *move* is the same with a place for each victim to go on at once. It is made for a gang whose
//! nodes would be enough, were they together, and only when that pays: the free GPUs that would
//! stand idle for the gang until its forecast start must come to more GPU-time than the moved jobs
//! lose.

use super::forecast::WhatIf;
use super::teams::TeamId;
use crate::Core;
use crate::effect::Effects;
use crate::gang::attempt::Attempt;
use crate::job::Job;
use crate::placement::index::{Index, View};
use crate::placement::{self, Request};
use lindos_model::{Column, EndReason, JobId, JobSpec, Millis, NodeId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Victims of one preemption, and jobs that are moved at once.
const VICTIMS_MAX: usize = 256;
const MOVED_MAX: usize = 16;
/// Victims that are tried one by one for whether the others are enough: each costs a search.
const TRIED_MAX: usize = 32;

/// A running job that may be stopped, and what that loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Victim {
    /// Whether its team would be left with less than its share: those come last.
    cuts_share: bool,
    /// Milliseconds of work a GPU.
    loss: u64,
    job: JobId,
    team: TeamId,
    gpus: u64,
    /// Only while its team still borrows.
    for_share: bool,
}

impl Core {
    /// Stops other jobs so that a blocked one can start, if that can be done and will do; its
    /// nodes are held for it. A job that has done so already waits for them.
    pub(crate) fn preempt_for(&mut self, id: JobId, out: &mut Effects) -> bool {
        if self.holds.get(&id).is_some_and(|hold| hold.preempts) {
            return false;
        }
        let victims = self.victims(id);
        if victims.is_empty() {
            return false;
        }
        let before = self.holds.get(&id).cloned();
        self.release_hold(id);
        let Some((chosen, nodes)) = self.choose_victims(id, &victims) else {
            if let Some(hold) = before {
                self.hold(id, hold.nodes, hold.from, false);
            }
            return false;
        };
        for victim in chosen {
            self.jobs.get_mut(&victim).expect("it runs").preempted_at = Some(self.now);
            self.stop_attempt(victim, EndReason::Preempted { by: id }, out);
        }
        self.hold(id, nodes, Some(self.now), true);
        true
    }

    /// Moves other jobs so that a blocked gang has its nodes together, if that pays: `start` is when
    /// it would start otherwise. Its nodes are held for it.
    pub(crate) fn move_for(&mut self, id: JobId, start: Time, out: &mut Effects) -> bool {
        let job = &self.jobs[&id];
        if !self.policy.moves || self.fleet.columns()[Column::Idle] < job.gpus() {
            return false;
        }
        let mut movable: Vec<Victim> = self
            .alive
            .iter()
            .filter_map(|other| {
                let other = &self.jobs[other];
                let gpus = other.attempt.as_ref()?.gpus;
                let loss = self.loss(other)?;
                let (job, team) = (other.id, other.team);
                Some(Victim { cuts_share: false, loss, job, team, gpus, for_share: false })
            })
            .collect();
        // The cheapest to move as a whole first.
        movable
            .sort_unstable_by_key(|victim| (victim.loss.saturating_mul(victim.gpus), victim.job));
        movable.truncate(VICTIMS_MAX);
        let Some((moved, nodes)) = self.choose_victims(id, &movable) else { return false };
        let is_moved = |victim: &&Victim| moved.contains(&victim.job);
        let lost: u64 = movable
            .iter()
            .filter(is_moved)
            .map(|victim| victim.loss.saturating_mul(victim.gpus))
            .fold(0, u64::saturating_add);
        let idle: u64 =
            nodes.iter().map(|&node| u64::from(self.fleet.node(node).free().len())).sum();
        // Jobs end before their limits: the forecast start comes as much sooner.
        let span = start.since(self.now);
        let span = self.runtimes.likely(Some(span)).unwrap_or(span);
        let saved = idle.saturating_mul(span.0);
        if moved.len() > MOVED_MAX || saved <= lost || !self.all_go_elsewhere(&moved, &nodes) {
            return false;
        }
        self.release_hold(id);
        for job in moved {
            self.jobs.get_mut(&job).expect("it runs").preempted_at = Some(self.now);
            self.stop_attempt(job, EndReason::Moved { by: id }, out);
        }
        self.hold(id, nodes, Some(self.now), true);
        true
    }

    /// Whether there is a place now for each of these jobs besides these nodes.
    fn all_go_elsewhere(&mut self, jobs: &[JobId], but: &[NodeId]) -> bool {
        let specs: Vec<Arc<JobSpec>> =
            jobs.iter().map(|job| Arc::clone(&self.jobs[job].spec)).collect();
        self.fleet.with_index(|index, fleet| {
            let mut taken = Vec::new();
            let mut take = |index: &mut Index, node: NodeId, room: Option<u16>| {
                taken.push((node, index.standing(node)));
                index.set(node, room, false);
            };
            for &node in but {
                take(index, node, None);
            }
            let all_fit = specs.iter().all(|spec| {
                let found = placement::would_go(index, fleet, &Request::of(spec));
                for &node in found.iter().flat_map(|(nodes, _)| nodes) {
                    let room = index.free_on(View::Open, node).map(|r| r - spec.gpus_per_node);
                    take(index, node, room);
                }
                found.is_ok()
            });
            for (node, standing) in taken.into_iter().rev() {
                index.stand(node, standing);
            }
            all_fit
        })
    }

    /// Those that may be stopped for a job, the least loss first.
    fn victims(&self, id: JobId) -> Vec<Victim> {
        let job = &self.jobs[&id];
        let by_class = self.policy.classes.iter().any(|c| c.name == job.spec.class && c.preempts);
        let for_share = self.teams.is_within_share(job.team, job.gpus());
        if !by_class && !for_share {
            return Vec::new();
        }
        let mut victims: Vec<Victim> = self
            .alive
            .iter()
            .filter_map(|other| {
                let other = &self.jobs[other];
                let lower = by_class && other.priority < job.priority;
                let borrowed = for_share
                    && other.team != job.team
                    && other.priority <= job.priority
                    && self.teams.borrows(other.team);
                let loss = self.loss(other).filter(|_| lower || borrowed)?;
                let gpus = other.attempt.as_ref()?.gpus;
                let (job, team, for_share) = (other.id, other.team, !lower);
                let held = self.teams.account(team).held;
                let cuts_share = for_share && held.saturating_sub(gpus) < self.teams.share(team);
                Some(Victim { cuts_share, loss, job, team, gpus, for_share })
            })
            .collect();
        victims.sort_unstable();
        victims
    }

    /// What each GPU of a running job would lose; `None` when it may not be stopped.
    fn loss(&self, job: &Job) -> Option<u64> {
        let attempt = job.attempt.as_ref().filter(|attempt| !attempt.is_stopping())?;
        let held = self.now.since(attempt.launched_at);
        if job.preempted_at.is_some() && held < Millis(self.policy.preempt_grace_ms) {
            return None;
        }
        let startup = attempt.first_step_at.map_or(held, |at| at.since(attempt.launched_at));
        let at_risk =
            attempt.first_step_at.map_or(Millis::ZERO, |_| self.now.since(attempt.at_risk_since));
        Some((startup + at_risk).0)
    }

    /// The victims that are enough, and the nodes on which the job then starts.
    fn choose_victims(
        &mut self,
        id: JobId,
        victims: &[Victim],
    ) -> Option<(Vec<JobId>, Vec<NodeId>)> {
        let spec = Arc::clone(&self.jobs[&id].spec);
        let spares = if self.queue.is_restart(id) { 0 } else { self.policy.spares };
        let request = Request { nodes: spec.min_nodes, spares, ..Request::of(&spec) };
        let victims = self.in_turn(victims);
        let jobs = &self.jobs;
        let gang = |job: JobId| jobs[&job].attempt.as_ref().expect("a victim runs");
        let ends: Vec<(Time, &Attempt)> =
            victims.iter().zip(0..).map(|(&job, turn)| (Time(turn), gang(job))).collect();
        self.fleet.with_index(|index, fleet| {
            let mut what_if = WhatIf::new(index, fleet);
            let enough = what_if.sweep(&request, &ends);
            let found = enough.map(|(nodes, last)| {
                let chosen = victims[..=last.0 as usize].to_vec();
                spare_the_needless(&mut what_if, &request, chosen, nodes, gang)
            });
            what_if.undo();
            found
        })
    }

    /// The victims in the order in which they would be stopped; one that is stopped for its team's
    /// borrowing only while the team then still borrows.
    fn in_turn(&self, victims: &[Victim]) -> Vec<JobId> {
        let mut held: BTreeMap<TeamId, u64> = BTreeMap::new();
        let in_turn = victims.iter().filter(|victim| {
            let team = victim.team;
            let holds = held.entry(team).or_insert_with(|| self.teams.account(team).held);
            if victim.for_share && *holds <= self.teams.share(team) {
                return false;
            }
            *holds = holds.saturating_sub(victim.gpus);
            true
        });
        in_turn.take(VICTIMS_MAX).map(|victim| victim.job).collect()
    }
}

/// Of victims that are enough together, those that are needed, and the nodes then: whoever has
/// nothing on these nodes is spared at once, and the others are tried one by one, the greatest loss
/// first, as many as may be.
fn spare_the_needless<'a>(
    what_if: &mut WhatIf<'_>,
    request: &Request<'_>,
    mut chosen: Vec<JobId>,
    mut nodes: Vec<NodeId>,
    gang: impl Fn(JobId) -> &'a Attempt,
) -> (Vec<JobId>, Vec<NodeId>) {
    let wanted: BTreeSet<NodeId> = nodes.iter().copied().collect();
    let is_on_them = |job: &JobId| gang(*job).members.iter().any(|m| wanted.contains(&m.node));
    let (needed, others): (Vec<JobId>, Vec<JobId>) = chosen.iter().copied().partition(is_on_them);
    for &job in &others {
        what_if.run_on(gang(job));
    }
    match what_if.nodes_for(request).filter(|_| !others.is_empty()) {
        Some(without) => (chosen, nodes) = (needed, without),
        None => others.iter().for_each(|&job| {
            what_if.end(gang(job));
        }),
    }
    for at in (0..chosen.len()).rev().take(TRIED_MAX) {
        what_if.run_on(gang(chosen[at]));
        match what_if.nodes_for(request).filter(|_| chosen.len() > 1) {
            Some(without) => {
                nodes = without;
                chosen.remove(at);
            }
            None => {
                what_if.end(gang(chosen[at]));
            }
        }
    }
    (chosen, nodes)
}
