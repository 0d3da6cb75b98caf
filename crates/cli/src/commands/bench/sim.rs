//! `lindos bench sim`: how fast the twin plays months of a fleet.

use crate::failure::{Exit, Failure};
use crate::output;
use crate::render::number::{grouped, rate};
use crate::render::table::Builder;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lindos_sim::twin::bench::{CASES, Case};
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};
use std::time::Instant;

const SEED: u64 = 1;

#[derive(Args, Debug)]
pub struct SimArgs {
    /// One of the runs: 16k, 200k or 1m [default: all three]
    #[arg(long, value_name = "NAME", value_parser = CASES.map(|case| case.name))]
    case: Option<String>,
    /// A few days of each: for a look, not for a quotation
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    json: bool,
}

/// What one run was, and cost.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    name: String,
    gpus: u64,
    days: f64,
    wall_s: f64,
    events_per_s: f64,
    /// Of the fleet, in a second of ours.
    gpu_hours_per_s: f64,
    /// The most that the process held at once.
    rss_mb: f64,
    goodput: f64,
}

pub fn sim(args: &SimArgs) -> Result<(), Failure> {
    let all: Vec<Measured> = match &args.case {
        Some(name) => vec![measure(args, name)?],
        None => CASES.iter().map(|case| measure_apart(args, case)).collect::<Result<_, _>>()?,
    };
    match (args.json, args.case.is_some()) {
        (true, true) => output::json(&all[0]),
        (true, false) => output::json(&all),
        (false, _) => output::data(&table(&all)),
    }
}

/// In a process of its own: its memory is then that of this run alone.
fn measure_apart(args: &SimArgs, case: &Case) -> Result<Measured, Failure> {
    let stuck = |why: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Failed,
            format!("the run `{}` has no figures: {why}", case.name),
            format!("run it alone: lindos bench sim --case {}", case.name),
        )
    };
    let program = std::env::current_exe().map_err(|error| stuck(&error))?;
    let mut command = Command::new(program);
    command.args(["bench", "sim", "--json", "--case", case.name]);
    if args.quick {
        command.arg("--quick");
    }
    let ended = command.stderr(Stdio::inherit()).output().map_err(|error| stuck(&error))?;
    if !ended.status.success() {
        return Err(stuck(&ended.status));
    }
    serde_json::from_slice(&ended.stdout).map_err(|error| stuck(&error))
}

fn measure(args: &SimArgs, name: &str) -> Result<Measured, Failure> {
    let unknown = || Failure::bad_input(format!("no run `{name}`"), "16k, 200k or 1m");
    let case = Case::named(name).ok_or_else(unknown)?;
    let bar = progress(&case);
    let began = Instant::now();
    let scenario = case.scenario(args.quick);
    let until = scenario.until();
    bar.set_length(until.0);
    let figures = scenario
        .play(SEED, &mut |at| bar.set_position(at.0))
        .map_err(|error| Failure::new(Exit::Failed, error.to_string(), "that is a bug"))?;
    let wall_s = began.elapsed().as_secs_f64();
    bar.finish_and_clear();
    Ok(Measured {
        name: case.name.to_string(),
        gpus: scenario.gpus(),
        days: rounded(until.0 as f64 / 86_400_000.0),
        wall_s: rounded(wall_s),
        events_per_s: (figures.events as f64 / wall_s).round(),
        gpu_hours_per_s: (figures.gpu_hours() / wall_s).round(),
        rss_mb: rounded(resident_most_bytes() as f64 / 1e6),
        goodput: rounded(figures.goodput()),
    })
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// The line `VmHWM:   1234 kB` of `/proc/self/status`.
fn resident_most_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn progress(case: &Case) -> ProgressBar {
    let bar =
        if output::stderr_is_terminal() { ProgressBar::new(1) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{msg:5} {bar:30} {percent}%, {eta} left");
    bar.set_style(style.expect("the template is right"));
    bar.set_message(case.name);
    bar
}

fn table(all: &[Measured]) -> String {
    let header = ["RUN", "GPUS", "DAYS", "WALL", "EVENTS", "GPU-HOURS", "MEMORY", "GOODPUT"];
    let mut table = Builder::new(output::width(), &header).right(&[1, 2, 3, 4, 5, 6, 7]);
    for one in all {
        table.row([
            one.name.clone(),
            grouped(one.gpus),
            format!("{:.0}", one.days),
            format!("{:.2} s", one.wall_s),
            format!("{}/s", rate(one.events_per_s)),
            format!("{}/s", rate(one.gpu_hours_per_s)),
            format!("{:.0} MB", one.rss_mb),
            format!("{:.1}%", one.goodput * 100.0),
        ]);
    }
    table.finish()
}
