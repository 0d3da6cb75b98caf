//! Where a job goes whose turn it is: on nodes that are reserved for its team before others, then on
//! those that are open, and on held ones if it is over before they are wanted.

use super::order::Shape;
use super::pass::Pass;
use super::teams::TeamId;
use crate::Core;
use crate::placement::index::Index;
use crate::placement::{self, Placement, Request};
use lindos_model::{JobId, NodeId, WaitReason};
use std::collections::BTreeSet;
use std::sync::Arc;

/// All that a first look at a job depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    shape: Shape,
    /// By its team's limits.
    most: u32,
    /// The number of holds and reservations that it is over before.
    over_before: usize,
    /// A team that has nodes reserved.
    reserved: Option<TeamId>,
}

impl Core {
    /// Where the job goes now: on nodes that are open or held for it; on nodes that are held for
    /// others only if it is over before they are wanted.
    pub(crate) fn find_place(
        &mut self,
        id: JobId,
        pass: &mut Pass,
    ) -> Result<Placement, WaitReason> {
        let job = &self.jobs[&id];
        let (team, shape) = (job.team, Shape::of(&job.spec));
        let is_first = !self.queue.is_restart(id) && job.last_nodes().is_empty();
        let is_plain = is_first && !self.holds.contains_key(&id);
        let most = self.nodes_within_limit(id, pass);
        let reserved = self.has_reserved(team).then_some(team);
        let kind = Kind { shape, most, over_before: self.over_before(id), reserved };
        if let Some(reason) = pass.failed.get(&kind).filter(|_| is_plain) {
            return Err(reason.clone());
        }
        if is_plain
            && reserved.is_some()
            && let Some(placement) = self.place_within_reservation(id, most, pass)
        {
            return Ok(placement);
        }
        let mut own = Vec::new();
        if reserved.is_some() && (!is_plain || self.is_short_of_reserved(id, pass)) {
            own = self.open_to_team(id);
        }
        own.extend(self.held_for(id));
        let mut found = self.place(id, &own, most);
        if matches!(found, Err(WaitReason::Held { .. })) {
            if self.lift_holds_behind(pass) {
                pass.look_anew();
                found = self.place(id, &own, most);
            }
            let others = self.open_before_others(id);
            if found.is_err() && !others.is_empty() {
                found = self.place(id, &[own, others].concat(), most);
            }
        }
        if is_plain && let Err(reason) = &found {
            pass.failed.insert(kind, reason.clone());
        }
        found
    }

    /// A place on the nodes that are reserved for the job's team alone: its jobs go there first.
    fn place_within_reservation(
        &mut self,
        id: JobId,
        most: u32,
        pass: &mut Pass,
    ) -> Option<Placement> {
        let spec = Arc::clone(&self.jobs[&id].spec);
        let away = self.names_to_keep_away_from(id);
        let index = self.opened(id, pass);
        let elsewhere = self.fleet.whole_free().saturating_sub(index.whole_open());
        let spares = self.policy.spares.saturating_sub(elsewhere);
        let request = Request { nodes: most, spares, ..Request::of(&spec) };
        let elsewhere = away.as_ref().and_then(|away| {
            let request = Request { exclude: away, ..request.clone() };
            placement::would_go(index, &self.fleet, &request).ok()
        });
        let found = elsewhere.or_else(|| placement::would_go(index, &self.fleet, &request).ok())?;
        Some(placement::on_lowest_gpus(&self.fleet, &request, found))
    }

    /// Whether a job that has no place on its team's reserved nodes, nor perhaps on the open ones,
    /// may have one on both together.
    fn is_short_of_reserved(&mut self, id: JobId, pass: &mut Pass) -> bool {
        let spec = Arc::clone(&self.jobs[&id].spec);
        let request = Request::of(&spec);
        let reserved = placement::anywhere(self.opened(id, pass), &request);
        let open = placement::anywhere(self.fleet.index(), &request);
        reserved > 0 && reserved + open >= spec.min_nodes
    }

    /// What is open of the nodes that are reserved for a job's team.
    fn opened<'p>(&self, id: JobId, pass: &'p mut Pass) -> &'p mut Index {
        pass.opened.entry(self.jobs[&id].team).or_insert_with(|| {
            let mut index = self.fleet.index().blank();
            for node in self.open_to_team(id) {
                index.set(node, self.fleet.node(node).room(), false);
            }
            index
        })
    }

    /// Where the job would go now, or why it cannot: on open nodes, and on closed ones of these. An
    /// elastic job makes do with fewer nodes than it wants, as many as there are.
    pub(crate) fn place(
        &mut self,
        id: JobId,
        own: &[NodeId],
        most: u32,
    ) -> Result<Placement, WaitReason> {
        let job = &self.jobs[&id];
        let is_restart = self.queue.is_restart(id);
        let spec = Arc::clone(&job.spec);
        let mut prefer = job.last_nodes().to_vec();
        prefer.sort_unstable();
        let request = Request {
            nodes: most,
            spares: if is_restart { 0 } else { self.policy.spares },
            prefer: &prefer,
            own,
            ..Request::of(&spec)
        };
        if let Some(away) = self.names_to_keep_away_from(id)
            && let Ok(found) =
                placement::place(&mut self.fleet, &Request { exclude: &away, ..request.clone() })
        {
            return Ok(found);
        }
        let whole = placement::place(&mut self.fleet, &request);
        let makes_do = |reason: &WaitReason| is_restart || self.makes_do(reason);
        if spec.min_nodes == most || !whole.as_ref().is_err_and(makes_do) {
            return whole;
        }
        let open =
            self.fleet.with_index(|index, fleet| placement::most_open(index, fleet, &request));
        let segment = spec.segment.unwrap_or(1);
        let nodes = (open.min(most - 1) / segment * segment).max(spec.min_nodes);
        placement::place(&mut self.fleet, &Request { nodes, ..request })
    }

    /// What a job excludes and the nodes that it keeps away from, by name; `None`: there is no such node.
    /// Better there than to wait, which could be for ever: so it is tried without them first, and then
    /// anyhow.
    fn names_to_keep_away_from(&self, id: JobId) -> Option<BTreeSet<String>> {
        let job = &self.jobs[&id];
        let shunned = job.shunned.nodes.iter();
        let names = shunned.map(|&node| self.fleet.node(node).spec.name.clone());
        let all = || names.chain(job.spec.exclude.iter().cloned()).collect();
        (!job.shunned.nodes.is_empty()).then(all)
    }

    /// Whether an elastic job starts with fewer nodes than it wants: not while there are nodes that
    /// have never reported, and that it may have if it waits.
    pub(crate) fn makes_do(&self, reason: &WaitReason) -> bool {
        reason.is_for_room() || self.fleet.expected() == 0
    }
}
