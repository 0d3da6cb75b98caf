//! What it costs to take nodes out of service and to have them back, on a fleet with jobs.
//!
//! In each wave a part of the fleet is condemned, one node a leaf, by two classes of findings: hardware
//! that is lost, and hardware that works and is left at the next checkpoint. Jobs go on elsewhere, each
//! node is mended and burnt in, and all are back before the next wave begins. What is timed is
//! [`Core::step`](lindos_core::Core::step) from the event to its last effect, and nothing around it.

use super::history::History;
use super::samples::{Figure, Unit};
use super::world::World;
use super::{Failed, Machine};
use crate::random::Stream;
use lindos_core::effect::Effects;
use lindos_core::health::fleet::Node;
use lindos_core::{Effect, Event};
use lindos_model::finding::{Action, Finding, FindingClass, FindingSource, Severity};
use lindos_model::policy::Repair;
use lindos_model::{EffectId, JobId, Millis, NodeId, Outcome, Policy};
use std::collections::{BTreeMap, BTreeSet};

/// So much of the fleet is out in a wave: half of what the guardrail of the fleet allows.
const OUT_PERCENT: u64 = 2;
/// The part of the GPUs that jobs have.
const OCCUPANCY: f64 = 0.7;
/// Gangs that wait behind each other, for more nodes than are free.
const WAITING: u32 = 50;
/// Nodes and GPUs a node of the jobs, as often as they stand here.
const SHAPES: [(u32, u16); 10] =
    [(1, 1), (1, 2), (1, 4), (1, 8), (1, 8), (1, 8), (2, 8), (4, 8), (8, 8), (16, 8)];
/// As many findings come in a millisecond as nodes should be taken out in one; what the agents of their jobs
/// answer comes after them.
const AT_ONCE: usize = 100;
const MINUTE: u64 = 60_000;
const REMEDY: u64 = 5 * MINUTE;
const BURN_IN: u64 = 10 * MINUTE;

/// All figures of one fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthMeasures {
    pub nodes: u32,
    pub occupancy: f64,
    /// Nodes taken out and back in all, and of them those with work of jobs.
    pub cordons: u64,
    pub busy: u64,
    pub figures: Vec<Figure>,
}

/// The guardrails are those by default, but for a breaker that does not take the bench for a broken check;
/// no rung is used up.
fn policy() -> Policy {
    let repair = Repair {
        breaker_nodes: u32::MAX,
        reset_gpu_max: u32::MAX,
        reboot_max: u32::MAX,
        ..Repair::default()
    };
    Policy { repair, ..Policy::default() }
}

/// Time in the core, by what it was for.
#[derive(Clone, Debug, Default)]
struct Spent {
    idle: Vec<u64>,
    busy: Vec<u64>,
    leave: u64,
    mend: u64,
}

impl Spent {
    fn cordons(&self) -> u64 {
        self.idle.iter().chain(&self.busy).sum()
    }
}

struct Ward<'m> {
    world: World,
    machine: &'m dyn Machine,
    stream: Stream,
    /// Racks of one node.
    alone: BTreeSet<String>,
    /// What the core waits for an answer to.
    asked: Vec<(EffectId, NodeId)>,
    /// Empty between steps; kept for its room, as the server does.
    effects: Effects,
}

/// `nodes` are taken out and back `waves` times, a part of them at a time. `tell` is told waves that are over,
/// and all.
pub fn health(
    nodes: u32,
    waves: u32,
    machine: &dyn Machine,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<HealthMeasures, Failed> {
    let world = World::under(policy(), u64::from(nodes) * 8).map_err(Failed::Fleet)?;
    let stream = Stream::new(u64::from(nodes), "bench health");
    let mut sizes: BTreeMap<&str, u32> = BTreeMap::new();
    for node in world.core.nodes() {
        *sizes.entry(&node.spec.location.rack).or_default() += 1;
    }
    let alone = sizes.into_iter().filter(|(_, size)| *size == 1);
    let alone = alone.map(|(rack, _)| rack.to_string()).collect();
    let mut ward =
        Ward { world, machine, stream, alone, asked: Vec::new(), effects: Effects::new() };
    ward.fill(&mut History::new(u64::from(nodes)));
    let occupancy = ward.world.occupancy();
    let mut all = Vec::new();
    for wave in 0..waves {
        all.push(ward.wave());
        tell(u64::from(wave) + 1, u64::from(waves));
    }
    ward.world.core.check();
    let each = |of: fn(&Spent) -> &Vec<u64>| all.iter().flat_map(of).copied().collect::<Vec<u64>>();
    let count = |spent: &Spent| (spent.idle.len() + spent.busy.len()) as f64;
    let rate = |of: fn(&Spent) -> u64| {
        all.iter().map(|spent| count(spent) * 1e9 / of(spent).max(1) as f64).collect::<Vec<f64>>()
    };
    let per = |nanos: u64, count: usize| nanos as f64 / 1e3 / count.max(1) as f64;
    let leave = all.iter().map(|spent| per(spent.leave, spent.busy.len())).collect();
    let mend = all.iter().map(|spent| per(spent.mend, count(spent) as usize)).collect();
    let (idle, busy) = (each(|spent| &spent.idle), each(|spent| &spent.busy));
    let busy_count = busy.len() as u64;
    let whole: fn(&Spent) -> u64 = |spent| spent.cordons() + spent.leave + spent.mend;
    Ok(HealthMeasures {
        nodes,
        occupancy,
        cordons: idle.len() as u64 + busy_count,
        busy: busy_count,
        figures: vec![
            Figure::new("cordons_per_s", Unit::PerSecond, Some(1e5), rate(Spent::cordons)),
            Figure::of_nanos("cordon_idle_us", Unit::Micros, None, idle),
            Figure::of_nanos("cordon_busy_us", Unit::Micros, None, busy),
            Figure::new("leave_us", Unit::Micros, None, leave),
            Figure::new("mend_us", Unit::Micros, None, mend),
            Figure::new("round_trips_per_s", Unit::PerSecond, None, rate(whole)),
        ],
    })
}

impl Ward<'_> {
    fn fill(&mut self, history: &mut History) {
        while self.world.occupancy() < OCCUPANCY {
            let (nodes, gpus) = *self.stream.pick(&SHAPES);
            let job = self.world.submit(history.spec(nodes, gpus));
            self.world.settle();
            assert!(self.world.is_running(job), "a job that there is room for was not started");
        }
        let wanted = self.world.nodes() * 9 / 10;
        for _ in 0..WAITING {
            self.world.submit(history.spec(wanted, 8));
        }
        self.world.settle();
    }

    /// Steps the core, and does what it orders; how long the core took.
    fn tell(&mut self, event: &Event) -> u64 {
        let mut effects = std::mem::take(&mut self.effects);
        let began = self.machine.nanos();
        self.world.core.step(self.world.now, event, &mut effects);
        let took = self.machine.nanos() - began;
        for effect in &effects {
            match effect {
                Effect::Remedy { id, node, .. } | Effect::BurnIn { id, node, .. } => {
                    self.asked.push((*id, *node));
                }
                _ => {}
            }
        }
        self.world.carry_out(&effects);
        effects.clear();
        self.effects = effects;
        took
    }

    /// Every node says what is new, until nothing is.
    fn settle(&mut self) -> u64 {
        let mut took = 0;
        loop {
            let events = self.world.reports();
            if events.is_empty() {
                return took;
            }
            took += events.iter().map(|event| self.tell(event)).sum::<u64>();
        }
    }

    /// Time passes, and timers are due.
    fn pass(&mut self, span: u64) -> u64 {
        self.world.after(span);
        let mut took = 0;
        while self.world.core.next_wakeup().is_some_and(|at| at <= self.world.now) {
            took += self.tell(&Event::Tick) + self.settle();
        }
        took
    }

    /// Nodes in service, one a leaf, and none that is alone in its rack: the last node of a place stays.
    fn draw(&mut self) -> Vec<NodeId> {
        let count = (u64::from(self.world.nodes()) * OUT_PERCENT / 100).max(1);
        let (mut leaves, mut drawn) = (BTreeSet::new(), Vec::new());
        while (drawn.len() as u64) < count {
            let id = NodeId(self.stream.between(0, u64::from(self.world.nodes()) - 1) as u32);
            let location = &self.world.core.node(id).expect("it is drawn of all").spec.location;
            if self.alone.contains(&location.rack) {
                continue;
            }
            if leaves.insert(location.leaf.clone()) {
                drawn.push(id);
            }
        }
        drawn
    }

    fn wave(&mut self) -> Spent {
        let mut spent = Spent::default();
        let nodes = self.draw();
        let mut leaving: Vec<JobId> = Vec::new();
        for together in nodes.chunks(AT_ONCE) {
            self.world.after(1);
            for (nth, &node) in together.iter().enumerate() {
                let finding = if nth % 4 == 3 { works_still() } else { is_lost() };
                let known = self.world.core.node(node).expect("it is drawn of all");
                let jobs: Vec<JobId> = known.allocations.iter().map(|it| it.job).collect();
                let took = self.tell(&Event::FindingSeen { node, finding: Box::new(finding) });
                assert!(self.world.core.ticket(node).is_some(), "a condemned node is not out");
                if jobs.is_empty() {
                    spent.idle.push(took);
                } else {
                    spent.busy.push(took);
                    leaving.extend(jobs.iter().filter(|_| nth % 4 == 3));
                }
            }
            spent.leave += self.settle();
        }
        for job in leaving {
            let known = self.world.core.job(job).filter(|job| job.attempt.is_some());
            let Some(epoch) = known.map(|job| job.epoch) else { continue };
            let step = 1_000;
            let (total_steps, loss_micro, is_watched) = (None, None, false);
            let stepped =
                Event::StepReached { job, epoch, step, total_steps, loss_micro, is_watched };
            spent.leave += self.tell(&stepped);
            spent.leave += self.tell(&Event::CheckpointSaved { job, epoch, step, blocked_ms: 0 });
            spent.leave += self.settle();
        }
        // A remedy each, and then a burn-in; what did not leave at a checkpoint has waited long enough.
        while nodes.iter().any(|&node| self.world.core.ticket(node).is_some()) {
            spent.leave += self.pass(if self.asked.is_empty() { 30 * MINUTE } else { REMEDY });
            self.world.after(BURN_IN - REMEDY);
            for (remedy, node) in std::mem::take(&mut self.asked) {
                let outcome = Outcome::Done;
                spent.mend += self.tell(&Event::RemedyOver { node, remedy, outcome });
            }
        }
        spent.leave += self.settle();
        let is_back = |&node: &NodeId| self.world.core.node(node).is_some_and(Node::in_service);
        assert!(nodes.iter().all(is_back), "a node that was mended is not back");
        // What was found before is old when the next wave begins.
        spent.leave += self.pass(Millis::from_secs(3_600).0);
        spent
    }
}

fn is_lost() -> Finding {
    finding("gpu.xid.79", Severity::GpuFatal, Action::Reboot)
}

fn works_still() -> Finding {
    finding("gpu.row_remap_pending", Severity::Warning, Action::ResetGpu)
}

fn finding(class: &'static str, severity: Severity, action: Action) -> Finding {
    Finding::new(
        FindingClass::known(class),
        severity,
        action,
        FindingSource::KernelLog,
        "as the log has it",
    )
}
