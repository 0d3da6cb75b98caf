//! A long queue on a full fleet: what it takes in memory, and what one pass over it takes in time.

use super::history::{History, minutes_of};
use super::samples::{Figure, Unit};
use super::topology::{GPUS_PER_NODE, SOME};
use super::world::World;
use super::{Effort, Machine};
use lindos_core::Event;
use lindos_core::effect::Effects;
use lindos_model::{JobSpec, Level, Policy};

/// With more jobs than this waiting, the core keeps passes apart in time; see `queue::pass`.
const PASSES_APART: u32 = 1_000;
/// Between two passes; longer than the core keeps them apart.
const SPAN: u64 = 1_000;
/// Passes before the first that is timed: the first of them start what fits, and plan what comes.
const WARM_UP_MAX: u32 = 12;
/// A pass that starts no more than this has found nearly nothing.
const STARTS_FEW: u64 = 4;

/// What the waiting jobs ask for: nodes, GPUs a node, within.
const SHAPES: [(u32, u16, Level); 12] = [
    (1, 1, Level::Fleet),
    (1, 2, Level::Fleet),
    (1, 4, Level::Fleet),
    (1, 8, Level::Fleet),
    (2, 8, Level::Fleet),
    (4, 8, Level::Rack),
    (4, 8, Level::Fleet),
    (8, 8, Level::Fleet),
    (16, 8, Level::Leaf),
    (32, 8, Level::Fleet),
    (64, 8, Level::Spine),
    (128, 8, Level::Fleet),
];
const LIMITS: [u64; 5] = [30, 60, 240, 1_440, 4_320];

/// Fills the fleet, and then the queue with `jobs` jobs of all teams.
pub fn fill(world: &mut World, history: &mut History, jobs: u32, tell: &mut dyn FnMut(u64, u64)) {
    history.fill(world, 0.98);
    let free = (world.gpus() - world.in_use().gpus) as u32;
    // One job a GPU takes all that is left, and those that are left over make passes rare.
    let over = PASSES_APART * 2;
    submit_alike(world, history, free + over);
    let waiting = world.core.jobs().filter(|job| !job.is_over() && job.attempt.is_none()).count();
    for done in waiting as u32..jobs {
        let spec = waiting_job(history);
        world.submit(spec);
        if done.is_multiple_of(1024) {
            tell(u64::from(done), u64::from(jobs));
        }
    }
    world.settle();
}

fn submit_alike(world: &mut World, history: &mut History, count: u32) {
    let mut left = count;
    while left > 0 {
        let now = left.min(lindos_model::job::ARRAY_MAX);
        let mut spec = history.spec(1, 1);
        spec.array = Some(now);
        world.submit(spec);
        world.settle();
        left -= now;
    }
}

fn waiting_job(history: &mut History) -> JobSpec {
    let &(nodes, gpus, within) = history.stream().pick(&SHAPES);
    let mut spec = history.spec(nodes, gpus);
    spec.within = within;
    let stream = history.stream();
    if stream.chance(100_000) {
        spec.platforms = vec![SOME.to_string()];
    }
    spec.time_limit = stream.chance(800_000).then(|| minutes_of(*stream.pick(&LIMITS)));
    debug_assert!(gpus <= GPUS_PER_NODE);
    spec
}

/// A full pass: a running job's end sets it off, as it would be in life. It starts what fits into
/// the hole, if anything does.
///
/// Besides, the same where the first gang that nodes are held for has just been cancelled, so that
/// another takes its place; and where no job that waits is left out, however many there are.
pub fn pass_figures(
    world: &mut World,
    history: &mut History,
    machine: &dyn Machine,
    effort: &Effort,
) -> [Figure; 4] {
    for _ in 0..WARM_UP_MAX {
        if one_pass(world, history, machine).1 <= STARTS_FEW {
            break;
        }
    }
    let mut starts = Vec::new();
    let nanos = Effort::sample(machine, effort.passes, || {
        let (nanos, started) = one_pass(world, history, machine);
        starts.push(started as f64);
        nanos
    });
    let new_hold = Effort::sample(machine, effort.passes, || {
        let first = world.core.holds().keys().next().copied();
        if let Some(job) = first {
            world.cancel(job);
        }
        one_pass(world, history, machine).0
    });
    let policy = Policy { backfill_max: u32::MAX, ..world.core.policy().clone() };
    world.tell(&Event::ControlPlaneStarted { policy: Box::new(policy) });
    let every = Effort::sample(machine, effort.passes, || one_pass(world, history, machine).0);
    [
        Figure::of_nanos("pass_100k_ms", Unit::Millis, Some(250.0), nanos),
        Figure::new("pass_starts", Unit::Count, None, starts),
        Figure::of_nanos("pass_new_hold_ms", Unit::Millis, None, new_hold),
        Figure::of_nanos("pass_every_job_ms", Unit::Millis, None, every),
    ]
}

/// Ends a job; how long the step took that freed its GPUs, and the jobs that it started.
fn one_pass(world: &mut World, history: &mut History, machine: &dyn Machine) -> (u64, u64) {
    world.settle();
    world.tick();
    world.after(SPAN);
    let job = history.pick(world).expect("jobs run");
    world.complete(job);
    let reports = world.reports();
    let [report] = &reports[..] else { panic!("a job on one node ends with one report") };
    let launches = world.in_use().launches;
    let mut effects = Effects::new();
    let began = machine.nanos();
    world.core.step(world.now, report, &mut effects);
    let spent = machine.nanos() - began;
    world.carry_out(&effects);
    let started = world.in_use().launches - launches;
    world.settle();
    (spent, started)
}
