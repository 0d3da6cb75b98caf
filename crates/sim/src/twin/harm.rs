//! What faults do to nodes and to the jobs on them. How nodes are mended is in [`super::mend`].

use super::answers::Mending;
use super::mend::{Ill, Ills, is_mended_by_orders};
use super::world::{Happening, World};
use crate::random::scatter;
use crate::reliability::{Effect, PlannedFault, Target};
use lindos_core::Event;
use lindos_core::gang::attempt::{MemberState, ReplicaState};
use lindos_model::reservation::{Purpose, Reservation};
use lindos_model::{
    AttemptReport, EffectId, Exit, JobId, Mended, Millis, NodeId, Outcome, RankExit, RankReport,
    ReportedPhase, Time,
};
use std::collections::BTreeMap;

/// What windows are called, before the place of the fault.
const MAINTENANCE: &str = "maintenance-";
const REPAIR: &str = "repair-";

/// The machines as they are.
#[derive(Clone, Debug)]
pub struct Machines {
    /// Of each node's agent.
    reports: Vec<(u64, u64)>,
    /// By how many faults.
    pub(super) dead: BTreeMap<NodeId, u32>,
    pub(super) drained: BTreeMap<NodeId, u32>,
    /// What is broken there until somebody mends it.
    pub(super) ills: BTreeMap<NodeId, Ills>,
    slow: BTreeMap<NodeId, f64>,
    /// Faults that have struck, by place.
    pub(super) struck: Vec<Struck>,
    /// How what was ordered will end, where that is not well.
    pub(super) outcomes: BTreeMap<EffectId, Outcome>,
    /// What is on record of how they are mended, and of what people will say, by ticket.
    pub(super) mending: BTreeMap<NodeId, Mending>,
    pub(super) said: BTreeMap<u64, Mended>,
}

#[derive(Clone, Debug)]
pub(super) struct Struck {
    pub fault: PlannedFault,
    is_seen: bool,
    is_over: bool,
    /// Nodes on which it is to be mended yet, where Lindos orders that.
    left: u32,
}

impl Machines {
    pub fn new(nodes: usize) -> Machines {
        Machines {
            reports: vec![(1, 0); nodes],
            dead: BTreeMap::new(),
            drained: BTreeMap::new(),
            ills: BTreeMap::new(),
            slow: BTreeMap::new(),
            struck: Vec::new(),
            outcomes: BTreeMap::new(),
            mending: BTreeMap::new(),
            said: BTreeMap::new(),
        }
    }

    pub fn count(&self) -> usize {
        self.reports.len()
    }

    pub fn fault(&self, place: usize) -> &PlannedFault {
        &self.struck[place].fault
    }

    /// The cause that a job which made way for this window was stopped by; `None` if what the fault
    /// does has been counted already.
    pub fn cause_of_window(&self, name: &str) -> Option<usize> {
        let place = name.strip_prefix(MAINTENANCE).or_else(|| name.strip_prefix(REPAIR))?;
        // A window of a script is of no fault here.
        let fault = &self.struck.get(place.parse::<usize>().ok()?)?.fault;
        let is_new = matches!(fault.effect, Effect::Maintenance { .. } | Effect::Slow { .. });
        is_new.then_some(usize::from(fault.cause))
    }

    pub fn dead(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.dead.keys().copied()
    }

    pub fn is_dead(&self, node: NodeId) -> bool {
        self.dead.contains_key(&node)
    }

    pub fn is_seen(&self, place: usize) -> bool {
        self.struck[place].is_seen
    }

    pub fn ill_count(&self) -> usize {
        self.ills.len()
    }

    /// Nodes that may be bad.
    pub fn ill(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.ills.keys().copied()
    }

    /// Whether what starts there fails.
    pub fn is_bad(&self, node: NodeId) -> bool {
        let breaks = |ill: &Ill| {
            matches!(self.struck[ill.place].fault.effect, Effect::Crash(_) | Effect::Hang)
        };
        self.ills.get(&node).is_some_and(|known| known.ills.iter().any(breaks))
    }

    pub fn is_ill(&self, place: usize, node: NodeId) -> bool {
        let known = self.ills.get(&node);
        known.is_some_and(|known| known.ills.iter().any(|ill| ill.place == place))
    }

    /// Takes a fault from a node; whether it was there.
    fn no_longer_ill(&mut self, place: usize, node: NodeId) -> bool {
        let is_ill = self.is_ill(place, node);
        if let Some(known) = self.ills.get_mut(&node) {
            known.ills.retain(|ill| ill.place != place);
            if known.ills.is_empty() {
                self.ills.remove(&node);
            }
        }
        is_ill
    }

    /// By how much what is broken there makes a node slow, if it does.
    fn slowest_ill(&self, node: NodeId) -> Option<f64> {
        let ills = self.ills.get(&node)?.ills.iter();
        let slow = ills.filter_map(|ill| match self.struck[ill.place].fault.effect {
            Effect::Slow { factor, .. } => Some(factor),
            _ => None,
        });
        slow.reduce(f64::max)
    }

    pub fn slow(&self) -> &BTreeMap<NodeId, f64> {
        &self.slow
    }
}

/// One more, or one less.
pub(super) fn count(counts: &mut BTreeMap<NodeId, u32>, node: NodeId, is_more: bool) -> u32 {
    let count = counts.entry(node).or_default();
    *count = if is_more { *count + 1 } else { count.saturating_sub(1) };
    let now = *count;
    if now == 0 {
        counts.remove(&node);
    }
    now
}

/// A job's part of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub job: JobId,
    pub replica: usize,
}

impl World<'_, '_> {
    pub fn report(&mut self, node: NodeId, attempts: Vec<AttemptReport>) {
        let (incarnation, seq) = &mut self.machines.reports[node.index()];
        *seq += 1;
        let (incarnation, seq) = (*incarnation, *seq);
        self.tell(&Event::NodeReported { node, incarnation, seq, attempts });
    }

    pub fn on_strike(&mut self, fault: PlannedFault) {
        let place = self.machines.struck.len();
        self.tallies.strikes[usize::from(fault.cause)] += 1;
        let (target, effect, seen_after) = (fault.target, fault.effect.clone(), fault.seen_after);
        let is_ill = is_mended_by_orders(&fault);
        self.machines.struck.push(Struck { fault, is_seen: false, is_over: false, left: 0 });
        let mut nodes = self.setup.faults.nodes(&target).to_vec();
        if let Effect::Maintenance { notice, takes } = effect {
            self.announce(place, nodes, notice, takes);
            return;
        }
        if is_ill {
            nodes.retain(|&node| !self.is_being_mended(node));
            self.machines.struck[place].left = nodes.len() as u32;
            for &node in &nodes {
                let ills = &mut self.machines.ills.entry(node).or_default().ills;
                ills.push(Ill { place, ready_at: None });
            }
        }
        let cause = place_cause(&self.machines, place);
        for node in nodes {
            match &effect {
                Effect::Crash(exit) => self.crash(place, node, target, exit),
                Effect::NodeDown => self.die(place, node),
                Effect::Hang => {
                    for part in self.parts_on(node, target) {
                        self.tallies.note_cause(part.job, cause);
                        self.hang(node, part);
                    }
                }
                Effect::Slow { factor, .. } => self.slow(node, Some(*factor)),
                Effect::LinkFlap { pause } => {
                    for part in self.parts_on(node, target) {
                        self.pause_training(part.job, *pause);
                    }
                }
                Effect::Corrupt | Effect::Maintenance { .. } => {}
            }
        }
        if let Effect::Slow { lasts: Some(lasts), .. } = effect {
            self.put(lasts, Happening::Mended(place));
        }
        // That a node is gone is seen in any case.
        let silence = Millis(self.setup.policy.node_silent_ms);
        let unseen = (effect == Effect::NodeDown).then_some(silence);
        if let Some(after) = seen_after.or(unseen) {
            self.put(after, Happening::Seen(place));
        }
    }

    /// Those that run on a node, and have a GPU that the fault is of.
    pub(super) fn parts_on(&self, node: NodeId, target: Target) -> Vec<Part> {
        let Some(known) = self.core.node(node) else { return Vec::new() };
        let is_hit = |gpus: lindos_model::GpuSet| match target {
            Target::Gpu { gpu, .. } => gpus.0 >> gpu & 1 == 1,
            _ => true,
        };
        let parts = known.allocations.iter().filter(|allocation| is_hit(allocation.gpus));
        parts
            .filter_map(|allocation| {
                let (job, member) = (allocation.job, allocation.member as usize);
                let attempt = self.gang_of(job)?;
                let replica = attempt.replica_of(member);
                let is_up = attempt.members[member].state == MemberState::Up
                    && attempt.replicas[replica].state == ReplicaState::Launched;
                is_up.then_some(Part { job, replica })
            })
            .collect()
    }

    fn crash(&mut self, place: usize, node: NodeId, target: Target, exit: &Exit) {
        if self.machines.is_dead(node) {
            return;
        }
        let cause = place_cause(&self.machines, place);
        for part in self.parts_on(node, target) {
            self.tallies.note_cause(part.job, cause);
            self.end_rank(node, part, exit);
            self.note_break(node);
        }
    }

    fn hang(&mut self, node: NodeId, part: Part) {
        let shows = self.work(part.job).hang_shows;
        let drawn = scatter(scatter(self.now.0) ^ u64::from(node.0));
        let is_seen = (drawn as f64) < shows * u64::MAX as f64;
        self.hang_training(part.job, part.replica as u32, node, is_seen);
    }

    /// What began on a bad node fails.
    pub fn fail_on(&mut self, node: NodeId, job: JobId) {
        let whole = Target::Node(node);
        let part = self.parts_on(node, whole).into_iter().find(|part| part.job == job);
        let Some(part) = part else { return };
        self.tallies.job(job).again += 1;
        self.end_rank(node, part, &Exit::Signal(7));
        self.note_break(node);
    }

    /// One rank of a job ends, and the agent of its node tells.
    pub(super) fn end_rank(&mut self, node: NodeId, part: Part, exit: &Exit) {
        self.break_training(part.job, part.replica as u32);
        let known = self.core.node(node).expect("it is in the fleet");
        let others: Vec<(JobId, usize)> =
            known.allocations.iter().map(|a| (a.job, a.member as usize)).collect();
        let mut attempts = Vec::new();
        for (job, member) in others {
            let Some(attempt) = self.core.job(job).and_then(|job| job.attempt.as_ref()) else {
                continue;
            };
            if attempt.members[member].state != MemberState::Up {
                continue;
            }
            let ended = RankExit { exit: exit.clone(), at: self.now, stopping: false };
            let rank = attempt.first_rank(member);
            let failed = RankReport { rank, pid: 1, exit: Some(ended) };
            attempts.push(AttemptReport {
                job,
                epoch: attempt.epoch_of(member),
                phase: ReportedPhase::Running,
                ranks: if job == part.job { vec![failed] } else { Vec::new() },
            });
        }
        self.report(node, attempts);
    }

    fn die(&mut self, place: usize, node: NodeId) {
        if count(&mut self.machines.dead, node, true) > 1 {
            return;
        }
        let cause = place_cause(&self.machines, place);
        let target = Target::Node(node);
        for part in self.parts_on(node, target) {
            self.tallies.note_cause(part.job, cause);
            self.break_training(part.job, part.replica as u32);
        }
        self.expect_silence(node);
    }

    pub fn on_silent(&mut self, node: NodeId, since: Time) {
        if self.machines.is_dead(node) {
            self.tell(&Event::NodeSilent { node, last_heard: since });
        }
    }

    fn slow(&mut self, node: NodeId, factor: Option<f64>) {
        match factor {
            Some(factor) => self.machines.slow.insert(node, factor),
            None => self.machines.slow.remove(&node),
        };
        let target = Target::Node(node);
        for part in self.parts_on(node, target) {
            self.slow_down(part.job, node, factor);
        }
    }

    fn announce(&mut self, place: usize, nodes: Vec<NodeId>, notice: Millis, takes: Millis) {
        let from = self.now + notice;
        self.reserve(format!("{MAINTENANCE}{place}"), nodes, from, from + takes);
    }

    fn reserve(&mut self, name: String, nodes: Vec<NodeId>, from: Time, until: Time) {
        let request = self.next_request();
        let reservation =
            Box::new(Reservation { name, purpose: Purpose::Maintenance, nodes, from, until });
        self.tell(&Event::NodesReserved { request, reservation });
    }

    /// A check knows which node it is. What is broken there the core hears; what is over with the
    /// job, or has taken the agent with it, is mended from now on.
    pub fn on_seen(&mut self, place: usize) {
        let struck = &mut self.machines.struck[place];
        if std::mem::replace(&mut struck.is_seen, true) || struck.is_over {
            return;
        }
        let fault = struck.fault.clone();
        let nodes = self.setup.faults.nodes(&fault.target).to_vec();
        if is_mended_by_orders(&fault) {
            for node in nodes {
                if self.machines.is_ill(place, node) {
                    self.tell_finding(place, node);
                }
            }
            return;
        }
        let cause = place_cause(&self.machines, place);
        if fault.effect == Effect::Corrupt {
            for &node in &nodes {
                for part in self.parts_on(node, fault.target) {
                    self.tallies.note_cause(part.job, cause);
                    self.end_rank(node, part, &Exit::Code(1));
                }
            }
        }
        if let Some(repair) = fault.repair {
            self.put(repair.takes, Happening::Mended(place));
        }
    }

    /// A drained node lets its jobs end, and nobody can mend it meanwhile: what runs there goes on
    /// elsewhere, as for a maintenance window. That is how a job gets rid of a slow node. Of a job of
    /// replicas only the one is taken away that is there; what is broken there needs no help with that.
    pub(super) fn make_leave(&mut self, place: usize, node: NodeId) {
        let known = self.core.node(node).expect("it is in the fleet");
        let mut gangs = known.allocations.iter().filter_map(|a| self.gang_of(a.job));
        if gangs.any(|gang| gang.replicas.len() == 1) {
            // The drain keeps it out: the window is only to empty it.
            self.reserve(format!("{REPAIR}{place}"), vec![node], self.now, self.now + Millis(1));
            return;
        }
        if !self.machines.slow.contains_key(&node) {
            return;
        }
        let cause = place_cause(&self.machines, place);
        for part in self.parts_on(node, Target::Node(node)) {
            self.tallies.note_cause(part.job, cause);
            self.end_rank(node, part, &Exit::Signal(9));
        }
    }

    pub(super) fn drain(&mut self, node: NodeId, reason: String) {
        if count(&mut self.machines.drained, node, true) == 1 {
            let request = self.next_request();
            self.tell(&Event::NodeDrained { request, node, reason });
        }
    }

    pub(super) fn undrain(&mut self, node: NodeId) {
        if count(&mut self.machines.drained, node, false) == 0 {
            let request = self.next_request();
            self.tell(&Event::NodeUndrained { request, node });
        }
    }

    /// A fault is over by itself, or people have mended it.
    pub fn on_mended(&mut self, place: usize) {
        let fault = self.machines.struck[place].fault.clone();
        let nodes = self.setup.faults.nodes(&fault.target).to_vec();
        if is_mended_by_orders(&fault) {
            for node in nodes {
                if self.machines.no_longer_ill(place, node) {
                    self.is_mended_on(place, node);
                }
            }
            return;
        }
        if std::mem::replace(&mut self.machines.struck[place].is_over, true) {
            return;
        }
        for node in nodes {
            self.well_again(node, &fault.effect);
        }
        self.may_come_again(&fault);
    }

    /// What was broken on one of its nodes is not any more.
    pub(super) fn is_mended_on(&mut self, place: usize, node: NodeId) {
        let struck = &mut self.machines.struck[place];
        struck.left -= 1;
        struck.is_over = struck.left == 0;
        let (fault, is_over) = (struck.fault.clone(), struck.is_over);
        self.well_again(node, &fault.effect);
        if is_over {
            self.may_come_again(&fault);
        }
    }

    fn well_again(&mut self, node: NodeId, effect: &Effect) {
        match effect {
            Effect::NodeDown => self.rise(node),
            Effect::Slow { .. } => {
                let left = self.machines.slowest_ill(node);
                self.slow(node, left);
            }
            _ => {}
        }
    }

    fn may_come_again(&mut self, fault: &PlannedFault) {
        if let Some(again) = self.setup.faults.again(fault, self.now) {
            let (at, place) = (again.at, self.machines.struck.len());
            let waits = Struck { fault: again, is_seen: true, is_over: true, left: 0 };
            self.machines.struck.push(waits);
            self.put_at(at, Happening::StrikesAgain(place));
        }
    }

    /// A node is there again, and nothing runs on it.
    pub(super) fn rise(&mut self, node: NodeId) {
        if count(&mut self.machines.dead, node, false) == 0 {
            let (incarnation, seq) = &mut self.machines.reports[node.index()];
            (*incarnation, *seq) = (*incarnation + 1, 0);
            self.report(node, Vec::new());
        }
    }
}

fn place_cause(machines: &Machines, place: usize) -> usize {
    usize::from(machines.struck[place].fault.cause)
}
