//! What faults do to nodes and to the jobs on them, and how nodes are mended.
//!
//! Somebody looks after the machines: a node that a check has found is drained at that moment, what
//! runs there has to leave, it is mended in the time that its repair takes, and is then taken back. A
//! node that no check ever finds is drained when it has broken what ran on it twice: then a person
//! sees it.

use super::world::{Happening, World};
use crate::reliability::{Effect, PlannedFault, Target};
use lindos_core::Event;
use lindos_core::gang::attempt::{MemberState, ReplicaState};
use lindos_model::reservation::{Purpose, Reservation};
use lindos_model::{
    AttemptReport, Exit, JobId, Millis, NodeId, RankExit, RankReport, ReportedPhase, Time,
};
use std::collections::BTreeMap;

/// A person drains a node that has broken what ran on it so often.
const STRIKES_MAX: u32 = 2;
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
    drained: BTreeMap<NodeId, u32>,
    /// What runs there fails: by which fault, and how often it has.
    bad: BTreeMap<NodeId, Bad>,
    slow: BTreeMap<NodeId, f64>,
    /// Faults that have struck, by place.
    struck: Vec<Struck>,
}

#[derive(Clone, Copy, Debug)]
struct Bad {
    place: usize,
    strikes: u32,
}

#[derive(Clone, Debug)]
struct Struck {
    fault: PlannedFault,
    is_seen: bool,
    is_over: bool,
}

impl Machines {
    pub fn new(nodes: usize) -> Machines {
        Machines {
            reports: vec![(1, 0); nodes],
            dead: BTreeMap::new(),
            drained: BTreeMap::new(),
            bad: BTreeMap::new(),
            slow: BTreeMap::new(),
            struck: Vec::new(),
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

    pub fn is_bad(&self, node: NodeId) -> bool {
        self.bad.contains_key(&node)
    }

    pub fn slow_among(&self, nodes: &[NodeId]) -> BTreeMap<NodeId, f64> {
        if self.slow.is_empty() {
            return BTreeMap::new();
        }
        let slow = |node: &NodeId| Some((*node, *self.slow.get(node)?));
        nodes.iter().filter_map(slow).collect()
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
        let stays = fault.repair.is_some_and(|repair| repair.kind.takes_node_out());
        self.machines.struck.push(Struck { fault, is_seen: false, is_over: false });
        let nodes = self.setup.faults.nodes(&target).to_vec();
        if let Effect::Maintenance { notice, takes } = effect {
            self.announce(place, nodes, notice, takes);
            return;
        }
        for node in nodes {
            match &effect {
                Effect::Crash(exit) => self.crash(place, node, target, exit, stays),
                Effect::NodeDown => self.die(place, node),
                Effect::Hang => {
                    if stays {
                        self.machines.bad.insert(node, Bad { place, strikes: 0 });
                    }
                    for part in self.parts_on(node, target) {
                        self.tallies.note_cause(part.job, place_cause(&self.machines, place));
                        self.hang_training(part.job);
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

    fn crash(&mut self, place: usize, node: NodeId, target: Target, exit: &Exit, stays: bool) {
        if stays {
            self.machines.bad.insert(node, Bad { place, strikes: 0 });
        }
        if self.machines.is_dead(node) {
            return;
        }
        let cause = place_cause(&self.machines, place);
        for part in self.parts_on(node, target) {
            self.tallies.note_cause(part.job, cause);
            self.end_rank(node, part, exit);
            self.strike(node);
        }
    }

    /// What began on a bad node fails.
    pub fn fail_on(&mut self, node: NodeId, job: JobId) {
        let whole = Target::Node(node);
        let part = self.parts_on(node, whole).into_iter().find(|part| part.job == job);
        let Some(part) = part else { return };
        self.tallies.job(job).again += 1;
        self.end_rank(node, part, &Exit::Signal(7));
        self.strike(node);
    }

    /// A bad node has broken something again.
    fn strike(&mut self, node: NodeId) {
        let Some(bad) = self.machines.bad.get_mut(&node) else { return };
        bad.strikes += 1;
        let (place, strikes) = (bad.place, bad.strikes);
        if strikes >= STRIKES_MAX {
            self.on_seen(place);
        }
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

    /// It is known which node it is: it is drained, and its repair begins.
    pub fn on_seen(&mut self, place: usize) {
        let struck = &mut self.machines.struck[place];
        if std::mem::replace(&mut struck.is_seen, true) || struck.is_over {
            return;
        }
        let fault = struck.fault.clone();
        let nodes = self.setup.faults.nodes(&fault.target).to_vec();
        let cause = place_cause(&self.machines, place);
        if fault.effect == Effect::Corrupt {
            for &node in &nodes {
                for part in self.parts_on(node, fault.target) {
                    self.tallies.note_cause(part.job, cause);
                    self.end_rank(node, part, &Exit::Code(1));
                }
            }
        }
        let Some(repair) = fault.repair else { return };
        if repair.kind.takes_node_out() && fault.effect != Effect::NodeDown {
            for &node in &nodes {
                self.drain(node, self.setup.faults.cause(&fault).name.clone());
                self.make_leave(place, node);
            }
        }
        self.put(repair.takes, Happening::Mended(place));
    }

    /// A drained node lets its jobs end, and nobody can mend it meanwhile: what runs there goes on
    /// elsewhere, as for a maintenance window. That is how a job gets rid of a slow node. Of a job of
    /// replicas only the one is taken away that is there; what is broken there needs no help with that.
    fn make_leave(&mut self, place: usize, node: NodeId) {
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

    pub fn on_mended(&mut self, place: usize) {
        let struck = &mut self.machines.struck[place];
        if std::mem::replace(&mut struck.is_over, true) {
            return;
        }
        let (fault, was_seen) = (struck.fault.clone(), struck.is_seen);
        let was_out = was_seen && fault.repair.is_some_and(|repair| repair.kind.takes_node_out());
        for node in self.setup.faults.nodes(&fault.target).to_vec() {
            if self.machines.bad.get(&node).is_some_and(|bad| bad.place == place) {
                self.machines.bad.remove(&node);
            }
            match fault.effect {
                Effect::NodeDown => self.rise(node),
                Effect::Slow { .. } => self.slow(node, None),
                _ => {}
            }
            let is_drained = was_out && fault.effect != Effect::NodeDown;
            if is_drained {
                self.undrain(node);
            }
        }
        if let Some(again) = self.setup.faults.again(&fault, self.now) {
            let (at, place) = (again.at, self.machines.struck.len());
            self.machines.struck.push(Struck { fault: again, is_seen: true, is_over: true });
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
