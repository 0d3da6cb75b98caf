//! `lindos sim soak`: the swarm for some minutes, and what it came to.

use super::quietly;
use super::swarm::{parse_plant, shrunk, violation_text, write_case};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::render::number::plural;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lindos_sim::swarm::{self, SeedResult};
use lindos_sim::world::Line;
use lindos_sim::{Plant, Violation};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const YEAR_MS: f64 = 365.25 * 24.0 * 3_600_000.0;

#[derive(Args, Debug)]
pub struct SoakArgs {
    /// For how long; cases that have begun are played to their end
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    minutes: u64,
    /// Cases at the same time [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: Option<u64>,
    /// The seed of the first case
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// Where a case that fails is written, made small
    #[arg(long, value_name = "FILE", default_value = "soak-failure.toml")]
    out: PathBuf,
    /// Put in a bug on purpose, to see that it is found
    #[arg(long, value_name = "BUG", value_parser = parse_plant, hide = true)]
    plant: Option<Plant>,
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct SoakResult {
    cases: u64,
    first_seed: u64,
    /// Messages, commits, deadlines, ends of ranks, and so on.
    events: u64,
    faults: u64,
    node_years: f64,
    /// Of the largest fleet.
    nodes_max: u32,
    threads: u64,
    wall_s: f64,
    violations: u64,
    /// The first of them.
    found: Option<Found>,
}

#[derive(Serialize)]
struct Found {
    seed: u64,
    what: String,
    /// What happened last before it.
    before: Vec<Line>,
    reproduce: String,
    /// The small case.
    file: PathBuf,
}

pub fn run(args: &SoakArgs) -> Result<(), Failure> {
    let threads = args.jobs.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
    });
    let began = Instant::now();
    let mut tally = play(args, threads, began);
    let found = tally.first.take();
    if let Some((seed, violation)) = &found {
        let case = shrunk(swarm::setup(*seed, args.plant), violation.clone(), args.json);
        write_case(&args.out, &case)?;
    }
    let result = SoakResult {
        cases: tally.cases,
        first_seed: args.first_seed,
        events: tally.events,
        faults: tally.faults,
        node_years: tally.node_ms / YEAR_MS,
        nodes_max: tally.nodes_max,
        threads,
        wall_s: began.elapsed().as_secs_f64(),
        violations: tally.violations,
        found: found.map(|(seed, Violation { what, before })| Found {
            seed,
            what,
            before,
            reproduce: swarm::reproduce(seed),
            file: args.out.clone(),
        }),
    };
    if args.json {
        output::json(&result)?;
    } else {
        output::data(&text(&result))?;
    }
    if result.violations == 0 { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

fn text(result: &SoakResult) -> String {
    format!(
        "{:>16} cases (seeds from {}), fleets of up to {} nodes\n\
         {:>16} events\n\
         {:>16} faults\n\
         {:>16.1} node-years\n\
         {:>16.0} seconds on {} threads\n\
         {:>16} {}\n",
        result.cases,
        result.first_seed,
        result.nodes_max,
        result.events,
        result.faults,
        result.node_years,
        result.wall_s,
        result.threads,
        result.violations,
        plural(result.violations, "violation")
    )
}

#[derive(Default)]
struct Tally {
    cases: u64,
    events: u64,
    faults: u64,
    node_ms: f64,
    nodes_max: u32,
    violations: u64,
    /// The first that was found.
    first: Option<(u64, Violation)>,
}

impl Tally {
    fn add(&mut self, result: SeedResult) {
        self.cases += 1;
        self.events += result.happenings;
        self.faults += u64::from(result.faults);
        self.node_ms += result.node_ms as f64;
        self.nodes_max = self.nodes_max.max(result.nodes);
        if let Some(violation) = result.violation {
            self.violations += 1;
            self.first.get_or_insert((result.seed, violation));
        }
    }
}

/// Plays seed after seed until the time is up or one fails.
fn play(args: &SoakArgs, threads: u64, began: Instant) -> Tally {
    let span = Duration::from_secs(args.minutes * 60);
    let bar = bar(args, span);
    let (next, has_failed) = (AtomicU64::new(args.first_seed), AtomicBool::new(false));
    let tally: Mutex<Tally> = Mutex::default();
    let work = || {
        while began.elapsed() < span && !has_failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let result = swarm::play(seed, args.plant);
            if let Some(violation) = &result.violation {
                has_failed.store(true, Ordering::Relaxed);
                bar.suspend(|| output::message(violation_text(seed, violation)));
            }
            let mut tally = tally.lock().expect("no thread panics while it holds it");
            tally.add(result);
            bar.set_position(began.elapsed().as_secs());
            let (cases, years) = (tally.cases, tally.node_ms / YEAR_MS);
            bar.set_message(format!("{cases} cases, {years:.1} node-years"));
        }
    };
    quietly(|| {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    })
    .expect("a case's panic is its result");
    bar.finish_and_clear();
    tally.into_inner().expect("all threads are done")
}

fn bar(args: &SoakArgs, span: Duration) -> ProgressBar {
    let bar = if output::stderr_is_terminal() && !args.json {
        ProgressBar::new(span.as_secs())
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} s, {msg}");
    bar.set_style(style.expect("the template is right"));
    bar
}
