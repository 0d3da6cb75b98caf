//! `lindos whatif`: a recorded journal, played again under a change.

mod read;
mod result;
mod text;

use super::sim::many;
use crate::commands::sim::fleet_run::{failed, files_beside};
use crate::commands::sim::trace::load_fleet;
use crate::failure::{Exit, Failure};
use crate::{output, policy_file};
use clap::Args;
use lindos_model::Time;
use lindos_model::job::{CheckpointEvery, parse_span};
use lindos_sim::whatif::assume::{USUAL_CURRENCY, USUAL_PRICE, nothing_to_draw};
use lindos_sim::whatif::change::{BadChange, Change, OtherFleet, added_jobs, parse_set};
use lindos_sim::whatif::draw::Faults;
use lindos_sim::whatif::page::{About, page};
use lindos_sim::whatif::play::{play, setup};
use lindos_sim::whatif::tale::Tale;
use lindos_sim::whatif::{Comparison, History, Proof};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Args, Debug)]
pub struct WhatifArgs {
    /// The state folder of a control plane, or a folder that `lindos sim run --record` has written
    /// [default: the state folder of this user]
    folder: Option<PathBuf>,
    /// State folder of the control plane on this machine [default: ~/.local/state/lindos]
    #[arg(long, value_name = "DIR", env = "LINDOS_STATE", hide = true)]
    state: Option<PathBuf>,
    /// Under this policy instead of the recorded one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// With one key of the policy changed, such as queue=fifo; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_set)]
    set: Vec<(String, toml::Value)>,
    /// With so many whole nodes kept free: --set spares=N
    #[arg(long, value_name = "N")]
    spares: Option<u32>,
    /// With checkpoints so often, such as 20m; auto: as Lindos advises
    #[arg(long, value_name = "SPAN", value_parser = parse_every)]
    checkpoint_every: Option<CheckpointEvery>,
    /// With so many times as many faults
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    fault_rate: f64,
    /// With so many times as long until what broke is back
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    repair_time: f64,
    /// With so many nodes more (+8) or fewer (-8)
    #[arg(long, value_name = "+N", allow_hyphen_values = true, default_value_t = 0)]
    nodes: i64,
    /// On another fleet: a fleet file, a ready-made fleet, or NODESxGPUS such as 300x8
    #[arg(long, value_name = "FLEET")]
    fleet: Option<String>,
    /// With the jobs of a file more ([[jobs]] tables, docs/twin.md), so long after the beginning
    #[arg(long, value_name = "FILE[@SPAN]")]
    add_job: Vec<String>,
    /// Lives with drawn faults, without the change and with it; 0: only the faults on record
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What a GPU costs an hour
    #[arg(long, value_name = "PRICE", default_value_t = USUAL_PRICE)]
    gpu_hour_price: f64,
    /// In which currency
    #[arg(long, default_value = USUAL_CURRENCY)]
    currency: String,
    /// Threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write a page with plots and every assumption there
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn parse_every(text: &str) -> Result<CheckpointEvery, String> {
    match text {
        "auto" => Ok(CheckpointEvery::Auto),
        span => parse_span(span).map(CheckpointEvery::Given),
    }
}

/// A recording, and all that is known of it.
pub struct Recording {
    pub journal: PathBuf,
    pub history: History,
    pub proof: Proof,
}

/// Everything that is told.
pub struct Told<'t> {
    pub recording: &'t Recording,
    pub change: &'t Change,
    pub comparison: &'t Comparison,
    pub price: f64,
    pub currency: &'t str,
}

pub fn run(args: &WhatifArgs) -> Result<(), Failure> {
    if !(args.gpu_hour_price >= 0.0 && args.gpu_hour_price.is_finite()) {
        let message = format!("--gpu-hour-price {}: a price is 0 or above", args.gpu_hour_price);
        return Err(Failure::bad_input(message, "such as 2.50"));
    }
    let policy = args.policy.as_deref().map(policy_file::load).transpose()?;
    let recording = read::read(args.folder.as_deref().or(args.state.as_deref()), args.json)?;
    let change = change(args, policy, &recording.history)?;
    let began = Instant::now();
    let comparison = compare(args, &recording.history, &change)?;
    if !args.json {
        let runs = 2 + comparison.before.len() + comparison.after.len();
        output::message(format!("{runs} runs, {:.1} s", began.elapsed().as_secs_f64()));
    }
    let told = Told {
        recording: &recording,
        change: &change,
        comparison: &comparison,
        price: args.gpu_hour_price,
        currency: &args.currency,
    };
    if let Some(path) = &args.html {
        write_page(path, &told)?;
    }
    if args.json { output::json(&result::of(&told)) } else { output::data(&text::of(&told)) }
}

fn change(
    args: &WhatifArgs,
    policy: Option<lindos_model::Policy>,
    history: &History,
) -> Result<Change, Failure> {
    let mut set = args.set.clone();
    let spares = args.spares.map(|spares| ("spares".to_string(), i64::from(spares).into()));
    set.extend(spares);
    let mut jobs = Vec::new();
    for added in &args.add_job {
        jobs.extend(added_job(added, history)?);
    }
    let fleet = args.fleet.as_deref().map(other_fleet).transpose()?;
    let change = Change {
        policy,
        set,
        checkpoint_every: args.checkpoint_every,
        fault_rate: args.fault_rate,
        repair_time: args.repair_time,
        nodes: args.nodes,
        fleet,
        jobs,
    };
    // Before anything is played.
    setup(history, &change, Faults::Recorded).map_err(bad_change)?;
    Ok(change)
}

fn other_fleet(name: &str) -> Result<OtherFleet, Failure> {
    let nodes = load_fleet(name)?;
    let stem = Path::new(name).file_stem().map_or(name.into(), |stem| stem.to_string_lossy());
    Ok(OtherFleet { name: stem.into_owned(), nodes })
}

fn bad_change(bad: BadChange) -> Failure {
    Failure::bad_input(bad.message, bad.hint)
}

/// `FILE`, or `FILE@2h`.
fn added_job(text: &str, history: &History) -> Result<Vec<lindos_sim::twin::TwinJob>, Failure> {
    let (file, after) = match text.rsplit_once('@') {
        Some((file, span)) => {
            let span = parse_span(span).map_err(|reason| {
                let hint = "write FILE@SPAN, such as job.toml@2h";
                Failure::bad_input(format!("--add-job: {reason}"), hint)
            })?;
            (file, span)
        }
        None => (text, lindos_model::Millis::ZERO),
    };
    let path = Path::new(file);
    let unreadable = |error: std::io::Error| {
        let hint = "name a file with [[jobs]] tables, as in docs/twin.md";
        Failure::bad_input(format!("--add-job: {file}: {error}"), hint)
    };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    added_jobs(history, &text, after, &files_beside(path))
        .map_err(|bad| Failure::bad_input(format!("--add-job: {file}: {}", bad.message), bad.hint))
}

/// One run of the twin.
#[derive(Clone, Copy)]
struct Run {
    is_changed: bool,
    faults: Faults,
}

/// Those on record come first, then each seed without the change and with it.
fn runs(seeds: &[u64], keeps_faults: bool) -> Vec<Run> {
    let both = |faults| [false, true].map(|is_changed| Run { is_changed, faults });
    let recorded = both(Faults::Recorded).into_iter().take(if keeps_faults { 2 } else { 1 });
    recorded.chain(seeds.iter().flat_map(|&seed| both(Faults::Drawn(seed)))).collect()
}

fn compare(args: &WhatifArgs, history: &History, change: &Change) -> Result<Comparison, Failure> {
    let draws = !nothing_to_draw(history) && !change.is_none();
    let count = if draws { args.seeds } else { 0 };
    let seeds: Vec<u64> = (0..count).map(|index| args.seed.wrapping_add(index)).collect();
    let runs = runs(&seeds, change.keeps_faults(history));
    if runs.len() == 1 {
        let hint = if nothing_to_draw(history) {
            "no fault is on record, so there is none to come more often"
        } else {
            "give --seeds 1 or more: the faults on record are as many as they are, on their nodes"
        };
        let flag = if change.fleet.is_some() { "--fleet" } else { "--fault-rate" };
        return Err(Failure::bad_input(format!("{flag}: there is nothing to play"), hint));
    }
    let until = history.until.0.max(1) as f64;
    let nothing = Change::default();
    let played = many::all(runs.len(), args.threads, args.json, |index, told| {
        let Run { is_changed, faults } = runs[index];
        let change = if is_changed { change } else { &nothing };
        let mut tell = |at: Time| told.tell(at.0 as f64 / until);
        play(history, change, faults, &mut tell).map_err(|bad| bad.message)
    });
    let played = played.map_err(failed)?;
    tell_refused(&played);
    let all = || runs.iter().zip(&played);
    let with = |is_changed: bool, drawn: bool| {
        all()
            .filter(move |(run, _)| {
                run.is_changed == is_changed && (run.faults != Faults::Recorded) == drawn
            })
            .map(|(_, tale)| tale.clone())
    };
    Ok(Comparison {
        recorded: history.tale.clone(),
        twin: with(false, false).next().unwrap_or_default(),
        changed: with(true, false).next(),
        seeds,
        before: with(false, true).collect(),
        after: with(true, true).collect(),
    })
}

fn tell_refused(played: &[Tale]) {
    if let Some(tale) = played.iter().find(|tale| tale.refused > 0) {
        output::message(format!(
            "the control plane refused {} of the jobs under the change",
            tale.refused
        ));
    }
}

fn write_page(path: &Path, told: &Told) -> Result<(), Failure> {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let about = About {
        journal: &told.recording.journal.display().to_string(),
        history: &told.recording.history,
        proof: &told.recording.proof,
        change: told.change,
        price: told.price,
        currency: told.currency,
        command: &format!("lindos {}", command.join(" ")),
    };
    std::fs::write(path, page(&about, told.comparison)).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        Failure::new(Exit::Failed, message, "give another --html FILE")
    })
}
