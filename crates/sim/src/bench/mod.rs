//! What the control plane's decisions cost on a fleet that has been through something.
//!
//! [`run`] builds a fleet, lets jobs come and end on it until it is full and fragmented
//! ([`history`]), and measures. All of it goes through events and effects, as in life. What is
//! measured exactly, and what is not, says `docs/bench.md`.
//!
//! There is no clock in here: whoever runs it brings a [`Machine`].

mod decisions;
mod durable;
mod health;
mod history;
mod queue;
mod samples;
mod topology;
mod world;

#[cfg(test)]
mod tests;

pub use health::{HealthMeasures, health};
pub use samples::{Figure, Unit};

use history::History;
use lindos_core::Core;
use lindos_journal::{Disk, Journal};
use world::World;

/// The machine on which it is measured.
pub trait Machine {
    /// From any moment on.
    fn nanos(&self) -> u64;
    /// Memory that the process has, in bytes.
    fn resident_bytes(&self) -> u64;
}

/// How often each thing is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    pub one_node: usize,
    pub gang: usize,
    pub whole: usize,
    pub passes: usize,
    pub queued_jobs: u32,
    pub durable_jobs: u64,
}

/// Nothing is measured less often than this, however long it takes …
const SAMPLES_MIN: usize = 3;
/// … and beyond it, no longer than this.
const PATIENCE_NANOS: u64 = 5_000_000_000;

impl Effort {
    /// What figures are quoted from.
    pub fn full() -> Effort {
        Effort {
            one_node: 10_000,
            gang: 50,
            whole: 10,
            passes: 20,
            queued_jobs: 100_000,
            durable_jobs: 250_000,
        }
    }

    /// A look.
    pub fn quick() -> Effort {
        Effort {
            one_node: 200,
            gang: 5,
            whole: 3,
            passes: 5,
            queued_jobs: 4_000,
            durable_jobs: 4_000,
        }
    }

    /// Up to `most` samples.
    fn sample(machine: &dyn Machine, most: usize, mut one: impl FnMut() -> u64) -> Vec<u64> {
        let began = machine.nanos();
        let mut samples = Vec::with_capacity(most);
        while samples.len() < most {
            samples.push(one());
            if samples.len() >= SAMPLES_MIN && machine.nanos() - began > PATIENCE_NANOS {
                break;
            }
        }
        samples
    }
}

/// All figures of one fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Measures {
    pub gpus: u64,
    pub nodes: u32,
    /// The part of the GPUs in use when measuring began.
    pub occupancy: f64,
    /// Nodes without any job at that moment.
    pub whole_free_nodes: u32,
    pub build_s: f64,
    pub figures: Vec<Figure>,
}

impl Measures {
    pub fn figure(&self, key: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.key == key)
    }
}

/// What is being done, for a progress bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Age,
    Queue,
    Pass,
    Decide,
    Durable,
    Empty,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Stage::Age => "ageing the fleet",
            Stage::Queue => "filling the queue",
            Stage::Pass => "passing over the queue",
            Stage::Decide => "placing jobs",
            Stage::Durable => "small jobs",
            Stage::Empty => "the whole fleet",
        }
    }
}

/// Why there are no figures.
#[derive(Debug)]
pub enum Failed {
    /// There is no such fleet.
    Fleet(String),
    Journal(lindos_journal::Error),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failed::Fleet(message) => f.write_str(message),
            Failed::Journal(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failed {}

/// A core whose fleet of `gpus` GPUs is full and fragmented, as [`run`] measures on.
pub fn aged(gpus: u64) -> Result<Core, Failed> {
    let mut world = World::new(gpus).map_err(Failed::Fleet)?;
    History::new(gpus).age(&mut world, &mut |_, _| {});
    Ok(world.core)
}

/// Builds a fleet of `gpus` GPUs, ages it, and measures. The journal must be a new one. `tell` is
/// told what is being done, how far it is, and how far it is to go.
pub fn run<D: Disk>(
    gpus: u64,
    effort: &Effort,
    machine: &dyn Machine,
    journal: &mut Journal<D>,
    tell: &mut dyn FnMut(Stage, u64, u64),
) -> Result<Measures, Failed> {
    let began = machine.nanos();
    let empty = machine.resident_bytes();
    let mut world = World::new(gpus).map_err(Failed::Fleet)?;
    let mut history = History::new(gpus);
    history.age(&mut world, &mut |done, all| tell(Stage::Age, done, all));
    let aged = machine.resident_bytes().saturating_sub(empty);
    let whole_free = world.in_use().whole_free;
    let mut measures = Measures {
        gpus,
        nodes: world.nodes(),
        occupancy: world.occupancy(),
        whole_free_nodes: whole_free[0] + whole_free[1],
        build_s: (machine.nanos() - began) as f64 / 1e9,
        figures: Vec::new(),
    };
    let figures = &mut measures.figures;

    // The queue fills the fleet, so it is made on a copy; in memory, its growth is counted alone.
    let (passes, state) = {
        let (mut world, mut history) = (world.clone(), history.clone());
        let before = machine.resident_bytes();
        queue::fill(&mut world, &mut history, effort.queued_jobs, &mut |done, all| {
            tell(Stage::Queue, done, all);
        });
        let grown = machine.resident_bytes().saturating_sub(before);
        let took = machine.nanos();
        let bytes = world.core.snapshot();
        let took = machine.nanos() - took;
        let megabytes = |bytes: u64| vec![bytes as f64 / 1e6];
        let state = [
            Figure::new("state_mb", Unit::Megabytes, Some(1_000.0), megabytes(aged + grown)),
            Figure::new("snapshot_mb", Unit::Megabytes, None, megabytes(bytes.len() as u64)),
            Figure::of_nanos("snapshot_ms", Unit::Millis, None, [took]),
        ];
        drop(bytes);
        tell(Stage::Pass, 0, 1);
        (queue::pass_figures(&mut world, &mut history, machine, effort), state)
    };

    tell(Stage::Decide, 0, 4);
    figures.extend(decisions::one_node_figures(&mut world, machine, effort));
    tell(Stage::Decide, 1, 4);
    let keys = ["gang_1250_ms", "gang_1250_step_ms"];
    figures.extend(decisions::gang_figures(&mut world, machine, effort, 1_250, keys, 1.0));
    tell(Stage::Decide, 2, 4);
    let keys = ["gang_10000_ms", "gang_10000_step_ms"];
    figures.extend(decisions::gang_figures(&mut world, machine, effort, 10_000, keys, 5.0));
    tell(Stage::Decide, 3, 4);
    let verdicts = decisions::verdict_figures(&mut world, machine, effort);
    let durable = durable::figures(&mut world, journal, machine, effort, &mut |done, all| {
        tell(Stage::Durable, done, all);
    })
    .map_err(Failed::Journal)?;
    history.end_all(&mut world, &mut |done, all| tell(Stage::Empty, done, all));
    figures.extend(decisions::whole_fleet_figures(&mut world, machine, effort));
    figures.extend(verdicts);
    figures.extend(passes);
    figures.extend(durable);
    figures.extend(state);
    Ok(measures)
}
