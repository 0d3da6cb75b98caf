//! `lindos bench schedule`: what the scheduler's decisions cost, and how that grows with the fleet.

use super::report;
use crate::failure::{Exit, Failure};
use crate::output;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lindos_journal::{Journal, Options, RealDisk};
use lindos_sim::bench::{Effort, Failed, Machine, Measures, Stage, run};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The fleets that are compared.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Large enough for every kind of gang that is measured on all fleets.
const GPUS_MIN: u64 = 800;
const GPUS_MAX: u64 = 8_000_000;

#[derive(Args, Debug)]
pub struct ScheduleArgs {
    /// One fleet of so many GPUs, eight a node [default: 10,000, 100,000 and 1,000,000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(GPUS_MIN..=GPUS_MAX))]
    gpus: Option<u64>,
    /// Fewer samples, a shorter queue and fewer small jobs: for a look, not for a quotation
    #[arg(long)]
    quick: bool,
    /// Where the journal of the small jobs is written [default: the system's folder for temporary
    /// files; where that is memory, a sync costs nothing]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// All figures, with p95 and the number of samples, also those that have no goal
    #[arg(long, short)]
    verbose: bool,
    #[arg(long)]
    json: bool,
}

pub fn schedule(args: &ScheduleArgs) -> Result<(), Failure> {
    let Some(gpus) = args.gpus else {
        let all: Vec<Value> =
            SIZES.iter().map(|&gpus| measure_apart(args, gpus)).collect::<Result<_, _>>()?;
        return if args.json {
            output::json(&all)
        } else {
            output::data(&report::compared(&all, args.verbose))
        };
    };
    let told = report::object(&measure(args, gpus)?);
    if args.json { output::json(&told) } else { output::data(&report::alone(&told, args.verbose)) }
}

/// In a process of its own: what another fleet has left of memory would make this one look small.
fn measure_apart(args: &ScheduleArgs, gpus: u64) -> Result<Value, Failure> {
    let stuck = |why: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Failed,
            format!("the bench of {gpus} GPUs has no figures: {why}"),
            format!("run it alone: lindos bench schedule --gpus {gpus}"),
        )
    };
    let program = std::env::current_exe().map_err(|error| stuck(&error))?;
    let mut command = Command::new(program);
    command.args(["bench", "schedule", "--json", "--gpus", &gpus.to_string()]);
    if args.quick {
        command.arg("--quick");
    }
    if let Some(state) = &args.state {
        command.arg("--state").arg(state);
    }
    let ended = command.stderr(Stdio::inherit()).output().map_err(|error| stuck(&error))?;
    if !ended.status.success() {
        return Err(stuck(&ended.status));
    }
    serde_json::from_slice(&ended.stdout).map_err(|error| stuck(&error))
}

/// The clock and the memory of this process.
pub(super) struct ThisMachine(pub(super) Instant);

impl Machine for ThisMachine {
    fn nanos(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    /// The line `VmRSS:   1234 kB` of `/proc/self/status`.
    fn resident_bytes(&self) -> u64 {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

fn measure(args: &ScheduleArgs, gpus: u64) -> Result<Measures, Failure> {
    let base = args.state.clone().unwrap_or_else(std::env::temp_dir);
    let folder = base.join(format!("lindos-bench-{}-{gpus}", std::process::id()));
    let measures = measure_in(&folder, args, gpus);
    // What cannot be removed now is the system's to clean.
    let _ = std::fs::remove_dir_all(&folder);
    measures
}

fn measure_in(folder: &Path, args: &ScheduleArgs, gpus: u64) -> Result<Measures, Failure> {
    let no_journal = |error: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Failed,
            format!("{}: {error}", folder.display()),
            "name a folder with 500 MB of room: --state DIR",
        )
    };
    let disk = RealDisk::create(folder).map_err(|error| no_journal(&error))?;
    let (mut journal, _) =
        Journal::open(disk, Options::new(1)).map_err(|error| no_journal(&error))?;
    let effort = if args.quick { Effort::quick() } else { Effort::full() };
    let machine = ThisMachine(Instant::now());
    let bar = progress(gpus);
    let tell = &mut |stage: Stage, done, all| {
        bar.set_prefix(stage.name());
        bar.set_length(all);
        bar.set_position(done);
    };
    let measures = run(gpus, &effort, &machine, &mut journal, tell);
    bar.finish_and_clear();
    measures.map_err(|failed| match failed {
        Failed::Fleet(message) => Failure::bad_input(
            format!("--gpus {gpus}: {message}"),
            "a fleet of the bench has 800 to 8,000,000 GPUs",
        ),
        Failed::Journal(error) => no_journal(&error),
    })
}

fn progress(gpus: u64) -> ProgressBar {
    let bar =
        if output::stderr_is_terminal() { ProgressBar::new(1) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{msg} {prefix:22} {bar:30} {elapsed}");
    bar.set_style(style.expect("the template is right"));
    bar.set_message(format!("{gpus} GPUs:"));
    bar
}
