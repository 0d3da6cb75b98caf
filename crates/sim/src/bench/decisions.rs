//! Where a job goes, and why it goes nowhere: one job at a time, on an aged fleet.

use super::samples::{Figure, Unit};
use super::topology::{GPUS_PER_NODE, MOST};
use super::world::{BENCH_TEAM, World};
use super::{Effort, Machine};
use crate::random::Stream;
use lindos_core::effect::Effects;
use lindos_core::health::fleet::Fleet;
use lindos_core::placement::{self, Request};
use lindos_model::{JobId, JobSpec, Level, NodeId, WaitReason, job};

/// What the core knows of its nodes, index included, to be asked without a step around it.
pub struct Mirror {
    fleet: Fleet,
    /// Out of service for now, so that every decision comes after a change.
    out: Option<NodeId>,
    stream: Stream,
}

impl Mirror {
    pub fn of(world: &World) -> Mirror {
        let mut fleet = Fleet::default();
        for node in world.core.nodes() {
            let (id, _) = fleet.join(node.spec.clone());
            fleet.update(id, |there| there.clone_from(node));
        }
        Mirror { fleet, out: None, stream: Stream::new(1, "bench mirror") }
    }

    /// One node goes out of service, another comes back: the index has to catch up.
    fn stir(&mut self) {
        let last = self.fleet.len() as u64 - 1;
        let next = NodeId(self.stream.between(0, last) as u32);
        if let Some(before) = self.out.replace(next) {
            self.fleet.update(before, |node| node.drained = None);
        }
        self.fleet.update(next, |node| node.drained = Some(String::new()));
    }

    /// The time of each decision. All of them find a place, or none does.
    fn time(
        &mut self,
        machine: &dyn Machine,
        most: usize,
        mut spec: impl FnMut(&mut Stream) -> JobSpec,
        is_found: bool,
    ) -> Vec<u64> {
        Effort::sample(machine, most, || {
            self.stir();
            let spec = spec(&mut self.stream);
            let request = Request::of(&spec);
            let began = machine.nanos();
            let found = placement::place(&mut self.fleet, &request);
            let spent = machine.nanos() - began;
            assert_eq!(found.is_ok(), is_found, "{:?}", found.err());
            spent
        })
    }

    fn why(&mut self, spec: &JobSpec) -> Option<WaitReason> {
        placement::place(&mut self.fleet, &Request::of(spec)).err()
    }
}

fn spec(nodes: u32, gpus: u16) -> JobSpec {
    let mut spec = job::sample("bench", nodes, gpus);
    spec.team = BENCH_TEAM.to_string();
    spec
}

/// Half of them a whole node, half a part of one.
fn one_node(stream: &mut Stream) -> JobSpec {
    let is_whole = stream.chance(500_000);
    let part = stream.between(1, u64::from(GPUS_PER_NODE) - 1) as u16;
    spec(1, if is_whole { GPUS_PER_NODE } else { part })
}

/// Every node of the design that most nodes are of.
pub fn whole_fleet(world: &World) -> JobSpec {
    let of_it = world.core.nodes().iter().filter(|node| node.spec.platform == MOST);
    let mut spec = spec(of_it.count() as u32, GPUS_PER_NODE);
    spec.platforms = vec![MOST.to_string()];
    spec
}

/// A submission from the first byte of its event to the last effect. The job is undone again.
fn time_submission(world: &mut World, machine: &dyn Machine, spec: JobSpec) -> (u64, JobId) {
    world.after(1);
    world.tick();
    let event = world.submission(spec);
    let mut effects = Effects::new();
    let began = machine.nanos();
    world.core.step(world.now, &event, &mut effects);
    let spent = machine.nanos() - began;
    let job = world.carry_out(&effects).expect("the core answers a submission");
    world.settle();
    (spent, job)
}

fn undo(world: &mut World, job: JobId) {
    world.after(1);
    world.cancel(job);
    world.settle();
}

/// One node: the decision alone, and the whole step.
pub fn one_node_figures(world: &mut World, machine: &dyn Machine, effort: &Effort) -> [Figure; 2] {
    let decisions = Mirror::of(world).time(machine, effort.one_node, one_node, true);
    let mut stream = Stream::new(2, "bench one node");
    let steps = Effort::sample(machine, effort.one_node, || {
        let (spent, job) = time_submission(world, machine, one_node(&mut stream));
        undo(world, job);
        spent
    });
    [
        Figure::of_nanos("one_node_us", Unit::Micros, Some(5.0), decisions),
        Figure::of_nanos("one_node_step_us", Unit::Micros, None, steps),
    ]
}

/// A gang of so many whole nodes: the decision alone, and the whole step. Nothing is measured where
/// the fleet has not so many nodes free.
pub fn gang_figures(
    world: &mut World,
    machine: &dyn Machine,
    effort: &Effort,
    nodes: u32,
    keys: [&'static str; 2],
    goal_ms: f64,
) -> [Figure; 2] {
    let mut mirror = Mirror::of(world);
    let gang = spec(nodes, GPUS_PER_NODE);
    let (mut decisions, mut steps) = (Vec::new(), Vec::new());
    // One node may be out of service while a decision is timed.
    let fits = mirror.why(&spec(nodes + 1, GPUS_PER_NODE)).is_none();
    if fits {
        decisions = mirror.time(machine, effort.gang, |_| gang.clone(), true);
        drop(mirror);
        steps = Effort::sample(machine, effort.gang, || {
            let (spent, job) = time_submission(world, machine, gang.clone());
            assert!(world.is_running(job), "the gang was not started");
            undo(world, job);
            spent
        });
    }
    [
        Figure::of_nanos(keys[0], Unit::Millis, Some(goal_ms), decisions),
        Figure::of_nanos(keys[1], Unit::Millis, None, steps),
    ]
}

/// All nodes of one design as one gang, on a fleet that is free again.
pub fn whole_fleet_figures(
    world: &mut World,
    machine: &dyn Machine,
    effort: &Effort,
) -> [Figure; 2] {
    let gang = whole_fleet(world);
    let mut mirror = Mirror::of(world);
    let decisions = Effort::sample(machine, effort.gang, || {
        // A node that is out would be missing: what changes is one of the other design.
        mirror.stir_other();
        let began = machine.nanos();
        let found = placement::place(&mut mirror.fleet, &Request::of(&gang));
        let spent = machine.nanos() - began;
        assert!(found.is_ok(), "{:?}", found.err());
        spent
    });
    drop(mirror);
    let steps = Effort::sample(machine, effort.whole, || {
        let (spent, job) = time_submission(world, machine, gang.clone());
        assert!(world.is_running(job), "the gang was not started");
        undo(world, job);
        spent
    });
    [
        Figure::of_nanos("whole_fleet_ms", Unit::Millis, Some(50.0), decisions),
        Figure::of_nanos("whole_fleet_step_ms", Unit::Millis, None, steps),
    ]
}

impl Mirror {
    fn stir_other(&mut self) {
        loop {
            self.stir();
            let is_most = |id: NodeId| self.fleet.node(id).spec.platform == MOST;
            if self.out.is_some_and(|out| !is_most(out)) {
                return;
            }
        }
    }
}

/// Gangs that cannot be placed on this fleet, each for a reason of its own.
fn unplaceable(mirror: &mut Mirror, world: &World) -> Vec<JobSpec> {
    let free = world.in_use().whole_free[0];
    let mut gangs = vec![
        // Twice what is free.
        spec((free * 2).min(world.nodes() * 8 / 10), GPUS_PER_NODE),
        // Parts of nodes, as many as the one design has nodes.
        spec(world.nodes() * 8 / 10, GPUS_PER_NODE / 2),
        spec(world.nodes() * 2, GPUS_PER_NODE),
    ];
    // One segment more than there is room for, although enough nodes are free.
    for (within, segment) in [(Level::Rack, 4), (Level::Leaf, 16), (Level::Spine, 128)] {
        let mut gang = spec(free * 95 / 100 / segment * segment, GPUS_PER_NODE);
        (gang.within, gang.segment) = (within, Some(segment));
        let scattered = mirror.why(&gang).filter(|why| why.name() == "scattered");
        gangs.extend(scattered.map(|_| gang));
    }
    for gang in &mut gangs {
        gang.min_nodes = gang.nodes;
    }
    gangs
}

/// The verdict on each kind of gang that cannot be placed, the slowest kind of each figure: the
/// verdict alone, the step that submits the job, why it waits, and the whole outlook.
pub fn verdict_figures(world: &mut World, machine: &dyn Machine, effort: &Effort) -> [Figure; 4] {
    let mut mirror = Mirror::of(world);
    let gangs = unplaceable(&mut mirror, world);
    let verdicts: Vec<Vec<u64>> = gangs
        .iter()
        .map(|gang| mirror.time(machine, effort.gang, |_| gang.clone(), false))
        .collect();
    drop(mirror);
    let [mut steps, mut whys, mut outlooks] = [const { Vec::<Vec<u64>>::new() }; 3];
    for gang in &gangs {
        steps.push(Effort::sample(machine, effort.gang, || {
            let (spent, job) = time_submission(world, machine, gang.clone());
            undo(world, job);
            spent
        }));
        let (_, job) = time_submission(world, machine, gang.clone());
        whys.push(Effort::sample(machine, effort.gang, || {
            let began = machine.nanos();
            let why = world.core.why(job);
            let spent = machine.nanos() - began;
            assert!(why.is_some());
            spent
        }));
        outlooks.push(Effort::sample(machine, effort.whole, || {
            let began = machine.nanos();
            let outlook = world.core.outlook(job);
            let spent = machine.nanos() - began;
            assert!(outlook.is_some());
            spent
        }));
        undo(world, job);
    }
    let figure = |key, goal, kinds: Vec<Vec<u64>>| {
        let kinds = kinds.into_iter().map(|nanos| Figure::of_nanos(key, Unit::Millis, goal, nanos));
        let worse = |a: &Figure, b: &Figure| {
            a.median().unwrap_or(0.0).total_cmp(&b.median().unwrap_or(0.0))
        };
        kinds.max_by(worse).expect("there is always one that never fits")
    };
    [
        figure("unplaceable_ms", Some(10.0), verdicts),
        figure("unplaceable_step_ms", None, steps),
        figure("why_ms", None, whys),
        figure("outlook_ms", None, outlooks),
    ]
}
