//! Advance reservations and maintenance windows: nodes that are set aside from a moment on.
//!
//! Until then, a job may use them if its time limit ends it before. From then on, whoever is still
//! there and does not belong there is stopped, at nobody's charge, and goes on elsewhere. In a
//! maintenance window nodes take no work at all; when it is over they are back by themselves.

use crate::Core;
use crate::effect::{Effects, Rejection, Reply};
use crate::queue::teams::TeamId;
use crate::timer::Timer;
use lindos_model::reservation::{Purpose, RESERVATIONS_MAX, Reservation};
use lindos_model::{EndReason, JobId, Millis, NodeId, RequestId, Time, TrailKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The reservations that are not over, by number.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reservations {
    /// Their nodes are sorted.
    kept: BTreeMap<u64, Reservation>,
    last: u64,
}

impl Reservations {
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Reservation)> {
        self.kept.iter().map(|(&id, reservation)| (id, reservation))
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn by_name(&self, name: &str) -> Option<u64> {
        self.iter().find(|(_, kept)| kept.name == name).map(|(id, _)| id)
    }

    /// The reservation that a node is part of.
    pub fn of(&self, node: NodeId) -> Option<&Reservation> {
        self.kept.values().find(|reservation| reservation.nodes.binary_search(&node).is_ok())
    }
}

impl Core {
    pub(crate) fn on_nodes_reserved(
        &mut self,
        request: RequestId,
        reservation: &Reservation,
        out: &mut Effects,
    ) {
        if self.has_answered(request, out) {
            return;
        }
        let reply = if let Err(reason) = self.check_reservation(reservation) {
            Reply::Rejected { reason }
        } else {
            self.keep(reservation.clone(), out);
            Reply::Done
        };
        self.answer(request, reply, out);
    }

    fn check_reservation(&self, new: &Reservation) -> Result<(), Rejection> {
        let invalid = |key: &str, message: String| {
            Err(Rejection::InvalidReservation { key: key.to_string(), message })
        };
        if new.name.is_empty() || self.reservations.by_name(&new.name).is_some() {
            return invalid("name", format!("`{}` is empty, or taken", new.name));
        }
        if self.reservations.kept.len() >= RESERVATIONS_MAX {
            return invalid("name", format!("there are {RESERVATIONS_MAX} already"));
        }
        if new.until <= new.from.max(self.now) {
            return invalid("until", "it is over before it begins".to_string());
        }
        if let Purpose::Team(team) = &new.purpose {
            let is_known = self.policy.teams.is_empty()
                || self.policy.teams.iter().any(|known| known.name == *team);
            if !is_known {
                return invalid("team", format!("there is no team `{team}`"));
            }
        }
        let unique: BTreeSet<NodeId> = new.nodes.iter().copied().collect();
        if unique.is_empty() || unique.len() != new.nodes.len() {
            return invalid("nodes", "it names no node, or one twice".to_string());
        }
        for &node in &new.nodes {
            let Some(known) = self.fleet.get(node) else {
                return Err(Rejection::NoSuchNode { node });
            };
            if known.is_reserved {
                let (name, other) = (&known.spec.name, self.reservations.of(node));
                let other = other.map_or("", |other| other.name.as_str());
                return invalid("nodes", format!("{name} is reserved already, for `{other}`"));
            }
        }
        Ok(())
    }

    fn keep(&mut self, mut reservation: Reservation, out: &mut Effects) {
        reservation.nodes.sort_unstable();
        self.reservations.last += 1;
        let id = self.reservations.last;
        // What was held there for a blocked job is found anew, elsewhere.
        let holders: BTreeSet<JobId> =
            reservation.nodes.iter().filter_map(|&node| self.fleet.node(node).held_for).collect();
        for job in holders {
            self.release_hold(job);
        }
        for &node in &reservation.nodes {
            self.lose_spare(node);
            self.fleet.reserve(node, true);
        }
        self.timers.set(Timer::Reservation(id), reservation.from.max(self.now));
        let what = TrailKind::Reserved {
            name: reservation.name.clone(),
            nodes: reservation.nodes.len() as u32,
            from: reservation.from,
            until: reservation.until,
        };
        self.say(None, None, what, out);
        self.reservations.kept.insert(id, reservation);
        self.must_schedule = true;
    }

    pub(crate) fn on_reservation_cancelled(
        &mut self,
        request: RequestId,
        name: &str,
        out: &mut Effects,
    ) {
        if self.has_answered(request, out) {
            return;
        }
        let reply = match self.reservations.by_name(name) {
            None => {
                let name = name.to_string();
                Reply::Rejected { reason: Rejection::NoSuchReservation { name } }
            }
            Some(id) => {
                self.end_reservation(id, out);
                Reply::Done
            }
        };
        self.answer(request, reply, out);
    }

    /// A reservation begins, or is over. The jobs that have to leave, and why.
    pub(crate) fn on_reservation_due(
        &mut self,
        id: u64,
        out: &mut Effects,
    ) -> Vec<(JobId, EndReason)> {
        let Some(reservation) = self.reservations.kept.get(&id) else { return Vec::new() };
        if self.now >= reservation.until {
            self.end_reservation(id, out);
            return Vec::new();
        }
        self.timers.set(Timer::Reservation(id), reservation.until);
        let (name, nodes) = (reservation.name.clone(), reservation.nodes.clone());
        let purpose = reservation.purpose.clone();
        self.say(None, None, TrailKind::ReservationBegins { name: name.clone() }, out);
        if purpose == Purpose::Maintenance {
            for &node in &nodes {
                self.fleet.update(node, |node| {
                    node.drained.get_or_insert(maintenance(&name));
                });
            }
        }
        self.must_schedule = true;
        let on_them = nodes.iter().flat_map(|&node| &self.fleet.node(node).allocations);
        let jobs: BTreeSet<JobId> = on_them.map(|allocation| allocation.job).collect();
        let must_leave = |job: &JobId| !self.may_use(Some(self.jobs[job].team), &purpose);
        let leaving = jobs.into_iter().filter(must_leave);
        leaving.map(|job| (job, EndReason::Reserved { name: name.clone() })).collect()
    }

    fn end_reservation(&mut self, id: u64, out: &mut Effects) {
        let reservation = self.reservations.kept.remove(&id).expect("it is kept");
        self.timers.cancel(Timer::Reservation(id));
        let ours = maintenance(&reservation.name);
        for &node in &reservation.nodes {
            self.fleet.reserve(node, false);
            self.fleet.update(node, |node| {
                if node.drained.as_ref() == Some(&ours) {
                    node.drained = None;
                }
            });
        }
        self.say(None, None, TrailKind::ReservationOver { name: reservation.name }, out);
        self.must_schedule = true;
    }

    fn may_use(&self, team: Option<TeamId>, purpose: &Purpose) -> bool {
        match purpose {
            Purpose::Maintenance => false,
            Purpose::Team(name) => {
                let its = self.teams.find(name);
                team.is_some_and(|team| self.teams.upwards(team).any(|above| Some(above) == its))
            }
        }
    }

    /// Reserved nodes that are a team's to use now.
    pub(crate) fn reserved_for_team(&self, team: Option<TeamId>) -> Vec<NodeId> {
        let its = self.reservations.kept.values().filter(|kept| self.is_now_for(kept, team));
        its.flat_map(|reservation| reservation.nodes.iter().copied()).collect()
    }

    /// Whether a reserved node is a team's to use now.
    pub(crate) fn is_reserved_for(&self, node: NodeId, team: Option<TeamId>) -> bool {
        self.reservations.of(node).is_some_and(|kept| self.is_now_for(kept, team))
    }

    fn is_now_for(&self, reservation: &Reservation, team: Option<TeamId>) -> bool {
        reservation.from <= self.now && self.may_use(team, &reservation.purpose)
    }

    /// Whether any nodes are reserved for a team now.
    pub(crate) fn has_reserved(&self, team: TeamId) -> bool {
        self.reservations.kept.values().any(|kept| self.is_now_for(kept, Some(team)))
    }

    /// Reserved nodes that a job may use now: its team's, and held for nobody else.
    pub(crate) fn open_to_team(&self, id: JobId) -> Vec<NodeId> {
        let mut nodes = self.reserved_for_team(Some(self.jobs[&id].team));
        nodes.retain(|&node| self.fleet.node(node).held_for.is_none_or(|job| job == id));
        nodes
    }

    /// The nodes of the reservations that begin only after a job is over that ends by then.
    pub(crate) fn reserved_after(&self, end: Time) -> impl Iterator<Item = &[NodeId]> {
        let later = self.reservations.kept.values().filter(move |kept| end <= kept.from);
        later.map(|reservation| &reservation.nodes[..])
    }

    /// When a job would be over at the latest if it started now.
    pub(crate) fn would_end(&self, id: JobId) -> Option<Time> {
        let job = &self.jobs[&id];
        let limit = job.spec.time_limit?;
        Some(self.now + (limit - Millis(job.held_ms)) + job.spec.stop_grace)
    }

    pub(crate) fn check_reservations(&self) {
        let mut reserved = 0;
        for reservation in self.reservations.kept.values() {
            reserved += reservation.nodes.len();
            assert!(reservation.nodes.iter().all(|&node| self.fleet.node(node).is_reserved));
        }
        let marked = self.fleet.nodes().iter().filter(|node| node.is_reserved).count();
        assert_eq!(reserved, marked, "nodes are reserved for nobody, or twice");
    }
}

/// What a node in a maintenance window is drained for.
fn maintenance(name: &str) -> String {
    format!("maintenance: {name}")
}
