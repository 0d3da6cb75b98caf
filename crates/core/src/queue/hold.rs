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
use crate::Core;
use crate::effect::Effects;
use crate::gang::attempt::{Attempt, Phase};
use crate::placement::{self, Request};
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

impl Core {
    /// A job is blocked: keeps or makes its hold, if it is among the foremost. Whether it should be
    /// looked at again, because nodes were let go for it.
    pub(crate) fn reserve(&mut self, id: JobId, pass: &mut Pass, out: &mut Effects) -> bool {
        if pass.is_full || pass.holding.len() >= self.policy.reservations_max as usize {
            self.release_hold(id);
            return false;
        }
        let is_good = self.is_hold_good(id);
        if !is_good {
            self.release_hold(id);
            // Those behind it must not keep it from what it comes first to.
            if self.lift_holds_behind(pass) {
                pass.failed.clear();
                return true;
            }
        }
        if !self.preempt_for(id, out) && !is_good {
            let Some((nodes, from)) = self.forecast(id, pass) else { return false };
            let has_moved = from.is_some_and(|start| self.move_for(id, start, out));
            if !has_moved {
                self.hold(id, nodes, from, false);
            }
        }
        pass.holding.insert(id);
        false
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

    /// Lets go of the holds of jobs that this pass has not come to yet: they are behind the one
    /// that it looks at. Whether there were any.
    pub(crate) fn lift_holds_behind(&mut self, pass: &Pass) -> bool {
        let behind: Vec<JobId> = self
            .holds
            .iter()
            .filter(|(job, hold)| {
                !pass.holding.contains(job) && !self.queue.is_parked(**job) && !hold.preempts
            })
            .map(|(&job, _)| job)
            .collect();
        for &job in &behind {
            self.release_hold(job);
        }
        !behind.is_empty()
    }

    /// After a pass: only the foremost of the blocked keep their holds, and who waits out a
    /// backoff. Whether nodes were let go.
    pub(crate) fn drop_holds_but(&mut self, pass: &Pass) -> bool {
        let others: Vec<JobId> = self
            .holds
            .keys()
            .filter(|job| !pass.holding.contains(job) && !self.queue.is_parked(**job))
            .copied()
            .collect();
        for &job in &others {
            self.release_hold(job);
        }
        !others.is_empty()
    }

    /// Nodes that others want only after the job is over, by hold and reservation.
    pub(crate) fn wanted_after(&self, id: JobId) -> Vec<&[NodeId]> {
        let Some(end) = self.would_end(id) else { return Vec::new() };
        let wanted_after = |hold: &Hold| hold.from.is_some_and(|from| end <= from);
        let others = self.holds.iter().filter(|&(&other, hold)| other != id && wanted_after(hold));
        let held = others.map(|(_, hold)| &hold.nodes[..]);
        held.chain(self.reserved_after(end)).collect()
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
        let (forecast, waits_for_jobs) = self.fleet.with_index(|index, fleet| {
            let mut what_if = WhatIf::new(index, fleet);
            let forecast = what_if.sweep(&request, &ends);
            for attempt in endless {
                what_if.end(attempt);
            }
            let waits_for_jobs = forecast.is_some() || what_if.nodes_for(&request).is_some();
            what_if.undo();
            (forecast, waits_for_jobs)
        });
        if forecast.is_some() {
            return forecast.map(|(nodes, from)| (nodes, Some(from)));
        }
        // Only for the foremost: two that gather would keep from each other what both need. And
        // not for one that waits for something else besides: a reservation that has to end first.
        if !waits_for_jobs {
            return None;
        }
        // A promise to one behind it could not be kept once its own is known.
        pass.is_full = true;
        if !pass.holding.is_empty() {
            return None;
        }
        let nodes = self.best_part(&request);
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
            assert!(self.queue.contains(job), "nodes are held for job {job}, which does not wait");
            for &node in &hold.nodes {
                assert_eq!(self.fleet.node(node).held_for, Some(job), "a node is held twice");
            }
            held += hold.nodes.len();
        }
        let marked = self.fleet.nodes().iter().filter(|node| node.held_for.is_some()).count();
        assert_eq!(held, marked, "nodes are held for nobody");
    }
}
