//! `lindos sim`: the core in virtual time.

mod blame;
pub mod fleet_run;
mod fleet_text;
pub mod many;
mod record;
mod soak;
mod swarm;
mod sweep;
pub mod trace;
mod validate;

use crate::failure::{Exit, Failure};
use crate::output;
use clap::{Args, Subcommand};
use lindos_api::user::{EventView, LedgerView};
use lindos_model::Column;
use lindos_sim::scenario::{Scenario, transcript};
use lindos_sim::twin::scenario::FleetScenario;
use lindos_sim::world::Line;
use lindos_sim::{Outcome, Violation};
use serde::Serialize;
use std::any::Any;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub struct SimArgs {
    #[command(subcommand)]
    command: SimCommand,
}

#[derive(Subcommand, Debug)]
enum SimCommand {
    /// Play a scenario file: its fleet, jobs and faults; print what became of it, and the ledger
    Run(SimRunArgs),
    /// Play a fleet scenario with one or two of its values varied; print the curve
    Sweep(sweep::SweepArgs),
    /// Play random fleets, jobs and faults, with checkers watching
    Swarm(swarm::SwarmArgs),
    /// Play random cases on all cores for some minutes; shrink the first that fails
    Soak(soak::SoakArgs),
    /// Replay a trace of jobs against a fleet and a policy; print waits and utilisation
    Trace(Box<trace::TraceArgs>),
    /// Hold the twin against published figures; print both, and whether they agree
    Validate(validate::ValidateArgs),
}

#[derive(Args, Debug)]
struct SimRunArgs {
    /// The scenario file: one of a protocol (docs/scenario-file.md, folder scenarios/), or one of
    /// a fleet over months (docs/twin.md, folder scenarios/fleet/)
    scenario: PathBuf,
    /// Another seed than the file's
    #[arg(long)]
    seed: Option<u64>,
    /// Of a fleet: so many seeds, from the first on; means with 95% intervals
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Threads, for more than one seed [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Of a fleet: write every event as a journal there, for `lindos whatif` and all that read one
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

pub fn run(args: SimArgs) -> Result<(), Failure> {
    match args.command {
        SimCommand::Run(args) => run_scenario(&args),
        SimCommand::Sweep(args) => sweep::run(&args),
        SimCommand::Swarm(args) => swarm::run(&args),
        SimCommand::Soak(args) => soak::run(&args),
        SimCommand::Trace(args) => trace::run(&args),
        SimCommand::Validate(args) => validate::run(&args),
    }
}

fn read_scenario(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::bad_input(
            format!("{}: {error}", path.display()),
            "ready-made scenarios are in the folder scenarios/ of the repository",
        )
    })
}

fn run_scenario(args: &SimRunArgs) -> Result<(), Failure> {
    let text = read_scenario(&args.scenario)?;
    if FleetScenario::is_one(&text) {
        return fleet_run::run(args, &text);
    }
    if args.record.is_some() {
        return Err(Failure::bad_input(
            "--record is for a fleet scenario",
            "one that has a table [fleet]: docs/twin.md",
        ));
    }
    if args.seeds > 1 {
        return Err(Failure::bad_input(
            "--seeds is for a fleet scenario",
            "this one is played once: --seed N plays it with another seed",
        ));
    }
    let (scenario, mut setup) = Scenario::parse(&args.scenario, &text)?;
    setup.seed = args.seed.unwrap_or(setup.seed);
    let played = quietly(|| lindos_sim::play(setup)).expect("a run's panic is its result");
    let outcome = match played {
        Ok(outcome) => outcome,
        Err(violation) => {
            if args.json {
                let Violation { what: violation, before } = violation.clone();
                output::json(&ScenarioFailed { violation, before })?;
            }
            return Err(Failure::new(
                Exit::Failed,
                violation.to_string(),
                "a job that cannot end by `limit` needs more time, or `heal`; anything else is a \
                 bug of Lindos: please report it with the scenario",
            ));
        }
    };
    if args.json {
        output::json(&ScenarioResult::new(&outcome))
    } else {
        output::data(&transcript(&scenario.about, &outcome))
    }
}

/// A run that came to no end.
#[derive(Serialize)]
struct ScenarioFailed {
    violation: String,
    /// What happened last before it.
    before: Vec<Line>,
}

#[derive(Serialize)]
struct ScenarioResult {
    ended_at_ms: u64,
    total_gpu_ms: u64,
    columns: std::collections::BTreeMap<String, u64>,
    goodput: f64,
    jobs: Vec<JobResult>,
    events: Vec<EventView>,
}

#[derive(Serialize)]
struct JobResult {
    job: u64,
    name: String,
    state: &'static str,
    attempts: u32,
    /// Faults that ended an attempt.
    interruptions: u32,
    step: Option<u64>,
    /// Productive time over the time that the job held its gang, from 0 to 1.
    ettr: f64,
}

impl ScenarioResult {
    fn new(outcome: &Outcome) -> Self {
        let LedgerView { total_gpu_ms, columns } = LedgerView::from(outcome.ledger);
        ScenarioResult {
            ended_at_ms: outcome.ended_at.0,
            total_gpu_ms,
            columns,
            goodput: ratio(outcome.ledger[Column::Productive], total_gpu_ms),
            jobs: outcome
                .jobs
                .iter()
                .map(|job| JobResult {
                    job: job.job.0,
                    name: job.name.clone(),
                    state: job.state.name(),
                    attempts: job.attempts,
                    interruptions: job.faults,
                    step: job.step,
                    ettr: ratio(job.ledger[Column::Productive], job.ledger.total()),
                })
                .collect(),
            events: outcome.trail.iter().map(EventView::from).collect(),
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Runs `play` without the default message of a panic; the panic's words are the error.
fn quietly<R>(play: impl FnOnce() -> R) -> Result<R, String> {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(play));
    std::panic::set_hook(before);
    result.map_err(|panic| words_of(&*panic))
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "a panic without words".to_string())
}
