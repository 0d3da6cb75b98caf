//! `lindos sim swarm`: random cases by their seeds, or one case from a file.

use super::{quietly, read_scenario};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::render::number::counted;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lindos_sim::scenario::{self, Scenario};
use lindos_sim::swarm::{self, SeedResult, shrink};
use lindos_sim::world::Line;
use lindos_sim::{Plant, Setup, Violation};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What a small case stands in when it is written by itself.
const ABOUT: &str = "A case of the swarm that fails, made small.";

#[derive(Args, Debug)]
pub struct SwarmArgs {
    /// How many seeds to play
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// Threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Write the first case that fails, made small, to this file
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    shrink: Option<PathBuf>,
    /// Play the case in this file instead of seeds
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "first_seed", "threads"])]
    replay: Option<PathBuf>,
    /// Put in a bug on purpose, to see that it is found
    #[arg(long, value_name = "BUG", value_parser = parse_plant, hide = true)]
    plant: Option<Plant>,
    #[arg(long)]
    json: bool,
}

pub fn parse_plant(name: &str) -> Result<Plant, String> {
    let all = || Plant::ALL.map(|(plant, _)| format!("{plant:?}"));
    Plant::ALL
        .iter()
        .find(|(plant, _)| format!("{plant:?}").eq_ignore_ascii_case(name))
        .map(|&(plant, _)| plant)
        .ok_or_else(|| format!("one of {}", all().join(", ")))
}

#[derive(Serialize)]
struct SwarmResult {
    seeds: u64,
    violations: usize,
    /// What they were, each with the line that plays it again.
    found: Vec<Found>,
    node_hours: f64,
    happenings: u64,
    faults: u64,
    wall_s: f64,
}

#[derive(Serialize)]
struct Found {
    seed: u64,
    what: String,
    /// What happened last before it.
    before: Vec<Line>,
    reproduce: String,
}

pub fn run(args: &SwarmArgs) -> Result<(), Failure> {
    let began = Instant::now();
    let results = match &args.replay {
        Some(path) => vec![replay(path, args.plant)?],
        None => play_seeds(args),
    };
    let violations = results.iter().filter(|result| result.violation.is_some()).count();
    let mut failed = results.iter().filter_map(|it| Some((it.seed, it.violation.clone()?)));
    if let (Some(path), Some((seed, violation))) = (&args.shrink, failed.next()) {
        let case = shrunk(swarm::setup(seed, args.plant), violation, args.json);
        write_case(path, &case)?;
    }
    let result = SwarmResult {
        seeds: results.len() as u64,
        node_hours: results.iter().map(|result| result.node_ms as f64).sum::<f64>() / 3_600_000.0,
        happenings: results.iter().map(|result| result.happenings).sum(),
        faults: results.iter().map(|result| u64::from(result.faults)).sum(),
        wall_s: began.elapsed().as_secs_f64(),
        violations,
        found: results
            .into_iter()
            .filter_map(|result| {
                let (seed, reproduce) = (result.seed, reproduce(args, result.seed));
                let Violation { what, before } = result.violation?;
                Some(Found { seed, what, before, reproduce })
            })
            .collect(),
    };
    if args.json {
        output::json(&result)?;
    } else {
        output::data(&format!(
            "{}, {}; {:.0} node-hours, {} happenings and {} faults in {:.1} s\n",
            counted(result.seeds as u32, "seed"),
            counted(result.violations as u32, "violation"),
            result.node_hours,
            result.happenings,
            result.faults,
            result.wall_s
        ))?;
    }
    if result.violations == 0 { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

/// The line that plays it again.
fn reproduce(args: &SwarmArgs, seed: u64) -> String {
    match &args.replay {
        Some(path) => format!("lindos sim swarm --replay {}", path.display()),
        None => swarm::reproduce(seed),
    }
}

fn replay(path: &std::path::Path, plant: Option<Plant>) -> Result<SeedResult, Failure> {
    let text = read_scenario(path)?;
    let (_, setup) = Scenario::parse(path, &text)?;
    let result = quietly(|| swarm::play_setup(Setup { plant, ..setup }))
        .expect("a case's panic is its result");
    if let Some(violation) = &result.violation {
        output::message(violation.to_string());
    }
    Ok(result)
}

fn play_seeds(args: &SwarmArgs) -> Vec<SeedResult> {
    let threads = args
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
        .clamp(1, 1024);
    let bar = if output::stderr_is_terminal() && !args.json {
        ProgressBar::new(args.seeds)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds, {eta} left {msg}");
    bar.set_style(style.expect("the template is right"));
    let next = AtomicU64::new(0);
    let results: Mutex<Vec<SeedResult>> = Mutex::default();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= args.seeds {
                break;
            }
            let result = swarm::play(args.first_seed.wrapping_add(index), args.plant);
            if let Some(violation) = &result.violation {
                bar.suspend(|| output::message(violation_text(result.seed, violation)));
            }
            bar.inc(1);
            results.lock().expect("no thread panics while it holds it").push(result);
        }
    };
    quietly(|| {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    })
    .expect("a seed's panic is its result");
    bar.finish_and_clear();
    let mut results = results.into_inner().expect("all threads are done");
    results.sort_by_key(|result| result.seed);
    results
}

pub fn violation_text(seed: u64, violation: &Violation) -> String {
    format!("seed {seed}: {violation}\nto see it again: {}", swarm::reproduce(seed))
}

/// A case that fails, made small, as a scenario file.
pub struct Case {
    pub text: String,
    pub violation: Violation,
}

pub fn shrunk(setup: Setup, violation: Violation, is_quiet: bool) -> Case {
    let bar = if output::stderr_is_terminal() && !is_quiet {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    let mut tell = |runs: u32, best: &Setup| {
        let (faults, jobs, nodes) = (best.faults.len(), best.jobs.len(), best.nodes.len());
        bar.set_message(format!(
            "making it small: {faults} faults, {jobs} jobs, {nodes} nodes left"
        ));
        bar.set_position(u64::from(runs));
    };
    let small = quietly(|| shrink::shrink(setup, violation, &mut tell))
        .expect("a case's panic is its result");
    bar.finish_and_clear();
    Case { text: scenario::to_text(&small.setup, ABOUT), violation: small.violation }
}

pub fn write_case(path: &std::path::Path, case: &Case) -> Result<(), Failure> {
    std::fs::write(path, &case.text).map_err(|error| {
        Failure::bad_input(
            format!("{}: {error}", path.display()),
            "name a file in a folder that you may write to",
        )
    })?;
    let path = path.display();
    output::message(format!(
        "{}\nthe case, made small, stands in {path}: lindos sim swarm --replay {path}",
        case.violation
    ));
    Ok(())
}
