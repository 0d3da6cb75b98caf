//! Stopping jobs to start another: only when that is proved to start it, and those that lose least.
//!
//! A job may preempt when its class says so, those of lower priority; and to have its team's share
//! back, those of no higher priority in teams that hold more than theirs ([`super::claims`]). Such as
//! leave their team its share go before others. A job that was preempted is not preempted again
//! before its next gang is older than the grace time. What a victim loses is the work since its
//! last checkpoint and the time to start anew.
//!
//! A *move* is the same with a place for each victim to go on at once. It is made for a gang whose
//! nodes would be enough, were they together, and only when that pays: the free GPUs that would
//! stand idle for the gang until its forecast start must come to more GPU-time than the moved jobs
//! lose.

use super::claims::{Claims, Seat};
use super::forecast::WhatIf;
use super::order::Shape;
use super::pass::Pass;
use super::teams::TeamId;
use crate::Core;
use crate::effect::Effects;
use crate::gang::attempt::Attempt;
use crate::job::Job;
use crate::placement::index::Index;
use crate::placement::{self, Request};
use lindos_model::{Column, EndReason, JobId, JobSpec, Millis, NodeId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Victims of one preemption, and jobs that are moved at once.
const VICTIMS_MAX: usize = 256;
const MOVED_MAX: usize = 16;
/// Jobs that could be stopped at nobody's cost and are looked at for one that asks.
const VICTIMS_SEEN_MAX: usize = 4 * VICTIMS_MAX;
/// Kinds of jobs that a pass looks for victims for: the foremost, and some of those behind.
const ASKERS_FOREMOST: u32 = 16;
const ASKERS_BEHIND: u32 = 16;
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

/// What a pass knows of those who may be stopped for others.
#[derive(Debug)]
pub struct Market {
    pub claims: Claims,
    /// What each GPU of a job would lose, of those that may be stopped; the least first.
    losses: Vec<(u64, JobId)>,
    /// Kinds of jobs that have asked.
    pub kinds: u32,
    /// Kinds of jobs for which to stop others is of no use.
    pub in_vain: BTreeSet<(Asks, Shape)>,
    /// Whom jobs alike may stop; of the last that asked.
    victims: Option<(Asks, Vec<Victim>)>,
}

/// What it depends on whom a job may stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asks {
    team: TeamId,
    priority: i32,
    by_class: bool,
    for_share: bool,
}

impl Core {
    /// Stops other jobs so that a blocked one can start, if that can be done and will do; its
    /// nodes are held for it. A job that has done so already waits for them.
    pub(crate) fn preempt_for(&mut self, id: JobId, pass: &mut Pass, out: &mut Effects) -> bool {
        let Some(mut market) = self.market_for(id, pass) else { return false };
        let chosen = self.choose_in(id, &mut market);
        if let Some((chosen, nodes)) = &chosen {
            self.release_hold(id);
            let besides = self.held_as_spares(id, chosen, nodes);
            for &victim in chosen {
                let job = self.jobs.get_mut(&victim).expect("it runs");
                job.preempted_at = Some(self.now);
                let gpus = job.attempt.as_ref().map_or(0, |attempt| attempt.gpus);
                market.claims.give_back(&self.teams, job.team, gpus);
                self.stop_attempt(victim, EndReason::Preempted { by: id }, out);
            }
            let job = &self.jobs[&id];
            market.claims.take(&self.teams, job.team, job.least_gpus());
            market.victims = None;
            self.hold(id, [nodes.clone(), besides].concat(), Some(self.now), true);
            pass.opened.clear();
        }
        pass.market = Some(market);
        chosen.is_some()
    }

    /// The market of a pass, for a job that may stop others at all.
    fn market_for(&mut self, id: JobId, pass: &mut Pass) -> Option<Market> {
        let job = &self.jobs[&id];
        let by_class = self.preempts(&job.spec);
        if !by_class && self.teams.share(job.team) < job.least_gpus() {
            return None;
        }
        Some(pass.market.take().unwrap_or_else(|| self.market()))
    }

    fn market(&mut self) -> Market {
        let mut losses = Vec::new();
        let mut until: Option<Time> = None;
        for &id in &self.alive {
            let job = &self.jobs[&id];
            match self.left_alone_until(job) {
                // Somebody may wait for just this.
                Some(end) => until = Some(until.map_or(end, |before| before.min(end))),
                None => losses.extend(self.loss(job).map(|loss| (loss, id))),
            }
        }
        if let Some(end) = until {
            self.wake_by(end);
        }
        losses.sort_unstable();
        let (claims, in_vain) = (self.claims(), BTreeSet::new());
        Market { claims, losses, kinds: 0, in_vain, victims: None }
    }

    /// The victims of a job that are enough for it, if any are.
    fn choose_in(&mut self, id: JobId, market: &mut Market) -> Option<(Vec<JobId>, Vec<NodeId>)> {
        let job = &self.jobs[&id];
        let (team, priority) = (job.team, job.priority);
        let by_class = self.preempts(&job.spec);
        let for_share = market.claims.is_within_share(&self.teams, team, job.least_gpus());
        let asks = Asks { team, priority, by_class, for_share };
        let key = (asks, Shape::of(&job.spec));
        if (!by_class && !for_share) || market.in_vain.contains(&key) {
            return None;
        }
        market.kinds += 1;
        if !self.is_its_turn_to_ask(market.kinds) {
            market.in_vain.insert(key);
            return None;
        }
        if market.victims.as_ref().is_none_or(|(known, _)| *known != asks) {
            market.victims = Some((asks, self.victims(asks, market)));
        }
        let victims = market.victims.as_ref().map_or(&[][..], |(_, victims)| victims);
        let in_turn = self.in_turn(id, victims, market.claims.clone());
        let before = self.holds.get(&id).cloned();
        self.release_hold(id);
        let chosen = if in_turn.is_empty() { None } else { self.choose_victims(id, &in_turn) };
        if let Some(hold) = before {
            self.hold(id, hold.nodes, hold.from, hold.preempts);
        } else if chosen.is_none() {
            market.in_vain.insert(key);
        }
        chosen
    }

    /// Whether this kind of job, by its place among those that ask in this pass, is looked for
    /// victims. To look costs searches, so a pass does it for the foremost, and for some of those
    /// behind, others in each pass.
    fn is_its_turn_to_ask(&self, place: u32) -> bool {
        let turn = ASKERS_FOREMOST + self.askers_turn * ASKERS_BEHIND;
        place <= ASKERS_FOREMOST || (turn < place && place <= turn + ASKERS_BEHIND)
    }

    /// A pass is over in which so many kinds of jobs asked.
    pub(crate) fn next_askers(&mut self, kinds: u32) {
        let seen = ASKERS_FOREMOST + (self.askers_turn + 1) * ASKERS_BEHIND;
        self.askers_turn = if kinds > seen { self.askers_turn + 1 } else { 0 };
    }

    /// Moves other jobs so that a blocked gang has its nodes together, if that pays: `start` is when
    /// it would start otherwise. Its nodes are held for it.
    pub(crate) fn move_for(&mut self, id: JobId, start: Time, out: &mut Effects) -> bool {
        let job = &self.jobs[&id];
        if !self.policy.moves || self.fleet.columns()[Column::Idle] < job.gpus() {
            return false;
        }
        let mut movable: Vec<(u64, JobId)> = self
            .alive
            .iter()
            .filter_map(|other| {
                let other = &self.jobs[other];
                let gpus = other.attempt.as_ref()?.gpus;
                Some((self.loss(other)?.saturating_mul(gpus), other.id))
            })
            .collect();
        // The cheapest to move as a whole first.
        movable.sort_unstable();
        movable.truncate(VICTIMS_MAX);
        let in_turn: Vec<JobId> = movable.iter().map(|&(_, job)| job).collect();
        let Some((moved, nodes)) = self.choose_victims(id, &in_turn) else { return false };
        let is_moved = |(_, job): &&(u64, JobId)| moved.contains(job);
        let lost = movable.iter().filter(is_moved).map(|&(loss, _)| loss);
        let lost = lost.fold(0, u64::saturating_add);
        let idle: u64 =
            nodes.iter().map(|&node| u64::from(self.fleet.node(node).free().len())).sum();
        // Jobs end before their limits: the forecast start comes as much sooner.
        let span = start.since(self.now);
        let span = self.runtimes.likely(Some(span)).unwrap_or(span);
        let saved = idle.saturating_mul(span.0);
        if moved.len() > MOVED_MAX || saved <= lost {
            return false;
        }
        let Some(places) = self.all_go_elsewhere(&moved, &nodes) else { return false };
        if !self.leaves_spares(id, &moved, &nodes, &places) {
            return false;
        }
        self.release_hold(id);
        for (job, nodes) in moved.into_iter().zip(places) {
            self.jobs.get_mut(&job).expect("it runs").preempted_at = Some(self.now);
            self.stop_attempt(job, EndReason::Moved { by: id }, out);
            // Or somebody else would be there by the time that it has stopped.
            self.hold(job, nodes, Some(self.now), true);
        }
        self.hold(id, nodes, Some(self.now), true);
        true
    }

    /// A place for each of these jobs that it has now, besides these nodes and those of each other.
    fn all_go_elsewhere(&mut self, jobs: &[JobId], but: &[NodeId]) -> Option<Vec<Vec<NodeId>>> {
        let specs: Vec<Arc<JobSpec>> =
            jobs.iter().map(|job| Arc::clone(&self.jobs[job].spec)).collect();
        self.fleet.with_index(|index, fleet| {
            let mut taken = Vec::new();
            let mut take = |index: &mut Index, nodes: &[NodeId]| {
                for &node in nodes {
                    taken.push((node, index.standing(node)));
                    index.set(node, None, false);
                }
            };
            take(index, but);
            let places: Option<Vec<Vec<NodeId>>> = specs
                .iter()
                .map(|spec| {
                    let (nodes, _) = placement::would_go(index, fleet, &Request::of(spec)).ok()?;
                    take(index, &nodes);
                    Some(nodes)
                })
                .collect();
            for (node, standing) in taken.into_iter().rev() {
                index.stand(node, standing);
            }
            places
        })
    }

    /// Whether the spares of the fleet are left once a blocked job runs on these nodes, and those that
    /// were moved for it in these places. They were counted as ended when its nodes were found, and a
    /// job that is short of spares then would not start, and would have them moved again for ever.
    fn leaves_spares(
        &mut self,
        id: JobId,
        moved: &[JobId],
        nodes: &[NodeId],
        places: &[Vec<NodeId>],
    ) -> bool {
        if self.queue.is_restart(id) || self.policy.spares == 0 {
            return true;
        }
        let own = self.open_to_team(id);
        let jobs = &self.jobs;
        let whole = self.fleet.with_index(|index, fleet| {
            let mut what_if = WhatIf::new(index, fleet).open_to(&own);
            for job in moved {
                what_if.end(jobs[job].attempt.as_ref().expect("it runs"));
            }
            for &node in nodes.iter().chain(places.iter().flatten()) {
                what_if.take(node);
            }
            let whole = what_if.whole_open();
            what_if.undo();
            whole
        });
        whole >= self.policy.spares
    }

    /// Nodes that become free with these jobs, and without which too few spares of the fleet would be left
    /// once a blocked one runs on its nodes: it waits until all are free, and if one was given away
    /// meanwhile, to those that were stopped perhaps, others would be stopped for it again for ever.
    fn held_as_spares(&mut self, id: JobId, stopped: &[JobId], nodes: &[NodeId]) -> Vec<NodeId> {
        if self.queue.is_restart(id) || self.policy.spares == 0 {
            return Vec::new();
        }
        let (own, spares, jobs) = (self.open_to_team(id), self.policy.spares, &self.jobs);
        self.fleet.with_index(|index, fleet| {
            let mut what_if = WhatIf::new(index, fleet).open_to(&own);
            let mut freed = BTreeSet::new();
            for job in stopped {
                let attempt = jobs[job].attempt.as_ref().expect("it runs");
                what_if.end(attempt);
                let members = attempt.members.iter().map(|member| member.node);
                freed.extend(members.chain(attempt.spares.iter().copied()));
            }
            freed.retain(|&node| what_if.is_whole(node) && !nodes.contains(&node));
            for &node in nodes.iter().chain(&freed) {
                what_if.take(node);
            }
            let missing = spares.saturating_sub(what_if.whole_open());
            what_if.undo();
            freed.into_iter().take(missing as usize).collect()
        })
    }

    /// Those that may be stopped for jobs that ask so, the least loss first.
    fn victims(&self, asks: Asks, market: &Market) -> Vec<Victim> {
        let way = self.teams.way(asks.team);
        let claims = &market.claims;
        // Of each team, its way, and whether it has borrowed anything to give back.
        let mut ways: BTreeMap<TeamId, (Vec<Seat>, bool)> = BTreeMap::new();
        let mut victims: Vec<Victim> = Vec::new();
        let mut without_a_cut = 0;
        for &(loss, job) in &market.losses {
            let other = &self.jobs[&job];
            let (from, has_borrowed) = ways.entry(other.team).or_insert_with(|| {
                let from = self.teams.way(other.team);
                let has_borrowed = claims.may_reclaim(&self.teams, &way, 1, &from);
                (from, has_borrowed)
            });
            let lower = asks.by_class && other.priority < asks.priority;
            let is_others = other.team != asks.team && other.priority <= asks.priority;
            let borrowed = asks.for_share && is_others && *has_borrowed;
            let runs = |attempt: &&Attempt| (lower || borrowed) && !attempt.is_stopping();
            let Some(attempt) = other.attempt.as_ref().filter(runs) else { continue };
            let (team, gpus, for_share) = (other.team, attempt.gpus, !lower);
            let cuts_share = claims.would_cut(&self.teams, &way, gpus, from);
            victims.push(Victim { cuts_share, loss, job, team, gpus, for_share });
            without_a_cut += usize::from(!cuts_share);
            if without_a_cut == VICTIMS_SEEN_MAX {
                break;
            }
        }
        victims.sort_unstable();
        victims
    }

    /// Until when a job is left alone that was preempted.
    fn left_alone_until(&self, job: &Job) -> Option<Time> {
        let attempt = job.attempt.as_ref().filter(|_| job.preempted_at.is_some())?;
        let until = attempt.launched_at + Millis(self.policy.preempt_grace_ms);
        (!attempt.is_stopping() && until > self.now).then_some(until)
    }

    /// What each GPU of a running job would lose; `None` when it may not be stopped.
    fn loss(&self, job: &Job) -> Option<u64> {
        let attempt = job.attempt.as_ref().filter(|attempt| !attempt.is_stopping())?;
        if self.left_alone_until(job).is_some() {
            return None;
        }
        let held = self.now.since(attempt.launched_at);
        let startup = attempt.first_step_at.map_or(held, |at| at.since(attempt.launched_at));
        let at_risk =
            attempt.first_step_at.map_or(Millis::ZERO, |_| self.now.since(attempt.at_risk_since));
        Some((startup + at_risk).0)
    }

    /// The first of these victims that are enough, and the nodes on which the job then starts.
    fn choose_victims(
        &mut self,
        id: JobId,
        victims: &[JobId],
    ) -> Option<(Vec<JobId>, Vec<NodeId>)> {
        let spec = Arc::clone(&self.jobs[&id].spec);
        let spares = if self.queue.is_restart(id) { 0 } else { self.policy.spares };
        let request = Request { nodes: spec.min_nodes, spares, ..Request::of(&spec) };
        let own = self.open_to_team(id);
        let jobs = &self.jobs;
        let gang = |job: JobId| jobs[&job].attempt.as_ref().expect("a victim runs");
        let ends: Vec<(Time, &Attempt)> =
            victims.iter().zip(0..).map(|(&job, turn)| (Time(turn), gang(job))).collect();
        self.fleet.with_index(|index, fleet| {
            let mut what_if = WhatIf::new(index, fleet).open_to(&own);
            let enough = what_if.sweep(&request, &ends);
            let found = enough.map(|(nodes, last)| {
                let chosen = victims[..=last.0 as usize].to_vec();
                spare_the_needless(&mut what_if, &request, chosen, nodes, gang)
            });
            what_if.undo();
            found
        })
    }

    /// The victims in the order in which they would be stopped; one that is stopped for a share only
    /// while its team then still borrows.
    fn in_turn(&self, id: JobId, victims: &[Victim], mut claims: Claims) -> Vec<JobId> {
        let job = &self.jobs[&id];
        let (way, wanted) = (self.teams.way(job.team), job.least_gpus());
        let mut ways: BTreeMap<TeamId, Vec<Seat>> = BTreeMap::new();
        let in_turn = victims.iter().filter(|victim| {
            let from = ways.entry(victim.team).or_insert_with(|| self.teams.way(victim.team));
            if victim.for_share && !claims.may_reclaim(&self.teams, &way, wanted, from) {
                return false;
            }
            claims.give_back(&self.teams, victim.team, victim.gpus);
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
