//! Nodes held for blocked gangs, so that backfill never delays them.
//!
//! A hold names the nodes on which a blocked gang will start, and from when: the moment at which
//! the running jobs there are over at the latest, by their time limits. Another job is placed on
//! held nodes only when its own limit ends it before that. Where limits do not tell (a gang has
//! none), the free nodes of the best place are held as they become free, for the first such job.
//!
//! A hold once made is kept until its job starts, falls back in the queue, or loses a node: so its
//! start only ever comes earlier.

use super::forecast::WhatIf;
use super::pass::Pass;
use super::teams::TeamId;
use crate::Core;
use crate::effect::Effects;
use crate::gang::attempt::{Attempt, Phase};
use crate::placement::{self, Request};
use lindos_model::policy::QueueRule;
use lindos_model::{JobId, NodeId, Time};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Sorted.
    pub nodes: Vec<NodeId>,
    /// When the gang starts at the latest; `None`: nobody knows.
    pub from: Option<Time>,
    /// Jobs are being stopped to free them.
    pub preempts: bool,
}

/// What a blocked job waits for that no limit tells the start of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitsFor {
    /// For running jobs, of which some have no limit.
    Jobs,
    /// For nodes that are held for those before it, besides.
    Holds,
    /// For something else: a reservation that has to end first.
    Others,
}

impl Core {
    /// A job is blocked: stops others for it if it may, or else keeps or makes its hold, if it is
    /// among the foremost. Whether it should be looked at again, because nodes were let go for it.
    pub(crate) fn reserve(&mut self, id: JobId, pass: &mut Pass, out: &mut Effects) -> bool {
        let is_good = self.is_hold_good(id);
        if is_good && self.holds[&id].preempts {
            pass.holding.insert(id);
            return false;
        }
        let may_reserve = !pass.is_full && pass.reserved < self.reservations_max();
        if !(is_good && may_reserve) {
            if self.release_hold(id) {
                pass.promised = None;
            }
            // Those behind it must not keep it from what it comes first to.
            if self.lift_holds_behind(pass) {
                pass.look_anew();
                return true;
            }
        }
        // Whoever may stop others need not wait for those whose start is reserved.
        if !self.preempt_for(id, pass, out) {
            if !may_reserve {
                return false;
            }
            if !is_good && !self.make_hold(id, pass, out) {
                return false;
            }
            pass.reserved += 1;
        }
        pass.holding.insert(id);
        pass.promised = None;
        false
    }

    fn reservations_max(&self) -> u32 {
        match self.policy.queue {
            // Nobody is behind the first that is blocked.
            QueueRule::Fifo => 0,
            QueueRule::Backfill | QueueRule::Fair => self.policy.reservations_max,
        }
    }

    /// Reserves the start of a blocked job. Whether it could.
    fn make_hold(&mut self, id: JobId, pass: &mut Pass, out: &mut Effects) -> bool {
        let Some((nodes, from)) = self.forecast(id, pass) else { return false };
        let has_moved = from.is_some_and(|start| self.move_for(id, start, out));
        if has_moved {
            pass.market = None;
        } else {
            self.hold(id, nodes, from, false);
        }
        pass.opened.clear();
        true
    }

    /// Whether a hold still says what it said when it was made.
    fn is_hold_good(&self, id: JobId) -> bool {
        let Some(hold) = self.holds.get(&id) else { return false };
        let all_in_service = hold.nodes.iter().all(|&node| self.fleet.node(node).in_service());
        let is_to_come = if hold.preempts {
            // Once all of them are free the job should have started.
            hold.nodes.iter().any(|&node| !self.fleet.node(node).is_whole())
        } else {
            hold.from.is_some_and(|from| from > self.now)
        };
        all_in_service && is_to_come
    }

    pub(crate) fn hold(
        &mut self,
        id: JobId,
        mut nodes: Vec<NodeId>,
        from: Option<Time>,
        preempts: bool,
    ) {
        nodes.sort_unstable();
        for &node in &nodes {
            self.fleet.hold(node, Some(id));
        }
        let before = self.holds.insert(id, Hold { nodes, from, preempts });
        assert!(before.is_none(), "job {id} has nodes held twice");
    }

    /// Lets go of what is held for a job; whether anything was.
    pub(crate) fn release_hold(&mut self, id: JobId) -> bool {
        let Some(hold) = self.holds.remove(&id) else { return false };
        for node in hold.nodes {
            self.fleet.hold(node, None);
        }
        true
    }

    /// The nodes that are held for a job, but for those that are still spares of others.
    pub(crate) fn held_for(&self, id: JobId) -> impl Iterator<Item = NodeId> {
        let held = self.holds.get(&id).into_iter().flat_map(|hold| &hold.nodes).copied();
        held.filter(|&node| self.fleet.node(node).spare_of.is_none())
    }

    /// Whether a holder comes before the one that this pass looks at: the pass has come to it, it
    /// waits out a backoff, jobs were stopped for it, or it is one of those itself and has its place.
    pub(crate) fn is_ahead(&self, holder: JobId, hold: &Hold, pass: &Pass) -> bool {
        pass.holding.contains(&holder) || hold.preempts || !self.is_in_turn(holder)
    }

    /// Whether a job waits for its turn in the queue.
    pub(crate) fn is_in_turn(&self, id: JobId) -> bool {
        self.queue.contains(id) && !self.queue.is_parked(id)
    }

    /// Lets go of the holds of jobs that this pass has not come to yet: they are behind the one
    /// that it looks at. Whether there were any.
    pub(crate) fn lift_holds_behind(&mut self, pass: &Pass) -> bool {
        let holders = self.holds.iter().map(|(&job, hold)| (job, hold));
        let behind: Vec<JobId> = holders
            .filter(|&(job, hold)| !self.is_ahead(job, hold, pass))
            .map(|(job, _)| job)
            .collect();
        for &job in &behind {
            self.release_hold(job);
        }
        !behind.is_empty()
    }

    /// After a pass: only the foremost of the blocked keep their holds, and who waits out a
    /// backoff or is being moved. Whether nodes were let go.
    pub(crate) fn drop_holds_but(&mut self, pass: &Pass) -> bool {
        let holders = self.holds.keys().copied();
        let others: Vec<JobId> =
            holders.filter(|&job| !pass.holding.contains(&job) && self.is_in_turn(job)).collect();
        for &job in &others {
            self.release_hold(job);
        }
        !others.is_empty()
    }

    /// What is held for others that want it only after a moment.
    fn held_until_after(&self, end: Time, but: Option<JobId>) -> impl Iterator<Item = &[NodeId]> {
        let is_later = move |hold: &Hold| hold.from.is_some_and(|from| end <= from);
        let holds = self.holds.iter();
        let others = holds.filter(move |&(&id, hold)| Some(id) != but && is_later(hold));
        others.map(|(_, hold)| &hold.nodes[..])
    }

    /// How many holds and reservations of others a waiting job would be over before.
    pub(crate) fn over_before(&self, id: JobId) -> usize {
        self.would_end(id).map_or(0, |end| {
            self.held_until_after(end, Some(id)).count() + self.reserved_after(end).count()
        })
    }

    /// Nodes that others want only after a moment, by hold and reservation, and that are open until
    /// then to a job of this team: within a reservation, nodes are held for jobs of its team.
    pub(crate) fn open_until(
        &self,
        end: Time,
        team: Option<TeamId>,
        but: Option<JobId>,
    ) -> Vec<NodeId> {
        let is_for_it = |&node: &NodeId| {
            let known = self.fleet.node(node);
            let is_reserved = known.is_reserved && !self.is_reserved_for(node, team);
            !is_reserved && known.spare_of.is_none()
        };
        let held = self.held_until_after(end, but).flatten().copied().filter(is_for_it);
        held.chain(self.reserved_after(end).flatten().copied()).collect()
    }

    /// Nodes that are wanted only after a waiting job is over.
    pub(crate) fn open_before_others(&self, id: JobId) -> Vec<NodeId> {
        let team = Some(self.jobs[&id].team);
        self.would_end(id).map_or_else(Vec::new, |end| self.open_until(end, team, Some(id)))
    }

    /// When a running job is over at the latest, if anything tells.
    pub(crate) fn ends_by(&self, id: JobId) -> Option<Time> {
        let job = &self.jobs[&id];
        let attempt = job.attempt.as_ref()?;
        if let Phase::Stopping { since, .. } = attempt.phase {
            Some((since + job.spec.stop_grace).max(self.now))
        } else {
            let limit = self.timers.get(crate::timer::Timer::TimeLimit(id))?;
            Some(limit + job.spec.stop_grace)
        }
    }

    /// On which nodes the job will start, and when at the latest, by the limits of those that run.
    pub(crate) fn forecast(
        &mut self,
        id: JobId,
        pass: &mut Pass,
    ) -> Option<(Vec<NodeId>, Option<Time>)> {
        let spec = Arc::clone(&self.jobs[&id].spec);
        let spares = if self.queue.is_restart(id) { 0 } else { self.policy.spares };
        // An elastic job starts as soon as the fewest nodes are there that it makes do with.
        let request = Request { nodes: spec.min_nodes, spares, ..Request::of(&spec) };
        if pass.ends.is_none() {
            let mut ends: Vec<(Time, JobId)> =
                self.alive.iter().filter_map(|&job| Some((self.ends_by(job)?, job))).collect();
            ends.sort_unstable();
            pass.ends = Some(ends);
        }
        let ends: Vec<(Time, &Attempt)> = pass
            .ends
            .iter()
            .flatten()
            .filter_map(|&(end, job)| Some((end, self.jobs[&job].attempt.as_ref()?)))
            .collect();
        let endless = self.alive.iter().filter(|&&job| self.ends_by(job).is_none());
        let endless: Vec<&Attempt> =
            endless.filter_map(|job| self.jobs[job].attempt.as_ref()).collect();
        let own = self.open_to_team(id);
        let held: Vec<NodeId> = self.holds.values().flat_map(|hold| &hold.nodes).copied().collect();
        let (forecast, waits_for) = self.fleet.with_index(|index, fleet| {
            let mut what_if = WhatIf::new(index, fleet).open_to(&own);
            let forecast = what_if.sweep(&request, &ends);
            for &attempt in &endless {
                what_if.end(attempt);
            }
            let fits = forecast.is_some() || what_if.nodes_for(&request).is_some();
            what_if.undo();
            if fits {
                return (forecast, WaitsFor::Jobs);
            }
            if held.is_empty() {
                return (None, WaitsFor::Others);
            }
            let besides = [own.clone(), held].concat();
            let mut what_if = WhatIf::new(index, fleet).open_to(&besides);
            for attempt in ends.iter().map(|&(_, attempt)| attempt).chain(endless) {
                what_if.end(attempt);
            }
            let fits = what_if.nodes_for(&request).is_some();
            what_if.undo();
            (None, if fits { WaitsFor::Holds } else { WaitsFor::Others })
        });
        if forecast.is_some() {
            return forecast.map(|(nodes, from)| (nodes, Some(from)));
        }
        if waits_for == WaitsFor::Others {
            return None;
        }
        // A promise to one behind it could not be kept once its own is known, and would keep it
        // waiting once those before it have started.
        pass.is_full = true;
        // Only for the foremost: two that gather would keep from each other what both need.
        if waits_for == WaitsFor::Holds || !pass.holding.is_empty() {
            return None;
        }
        let nodes = self.best_part(&Request { own: &own, ..request });
        (!nodes.is_empty()).then_some((nodes, None))
    }

    /// The free nodes of the place where most of the gang fits.
    fn best_part(&mut self, request: &Request<'_>) -> Vec<NodeId> {
        let segment = request.segment.unwrap_or(1);
        self.fleet.with_index(|index, fleet| {
            let most = placement::most_open(index, fleet, request).min(request.nodes);
            let nodes = most / segment * segment;
            let part = Request { nodes, ..request.clone() };
            let found = (nodes > 0).then(|| placement::would_go(index, fleet, &part));
            found.and_then(Result::ok).map_or_else(Vec::new, |(nodes, _)| nodes)
        })
    }

    pub(crate) fn check_holds(&self) {
        let mut held = 0;
        for (&job, hold) in &self.holds {
            let gang = self.attempt_of(job);
            let has_use = self.queue.contains(job) || gang.is_some_and(Attempt::is_stopping);
            assert!(has_use, "nodes are held for job {job}, which does not wait");
            for &node in &hold.nodes {
                assert_eq!(self.fleet.node(node).held_for, Some(job), "a node is held twice");
            }
            held += hold.nodes.len();
        }
        let marked = self.fleet.nodes().iter().filter(|node| node.held_for.is_some()).count();
        assert_eq!(held, marked, "nodes are held for nobody");
    }
}
