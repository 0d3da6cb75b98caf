//! `lindos sim trace`: a recorded trace of jobs under one policy, or under several.

use crate::failure::{Exit, Failure};
use crate::render::table::{Builder, pairs};
use crate::{fleet_file, output};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lindos_model::file::{Source, nearest};
use lindos_model::fleet::{self, NodeGroup};
use lindos_model::job::parse_span;
use lindos_model::{Millis, NodeSpec, Policy};
use lindos_sim::trace::measure::{About, Window, measure};
use lindos_sim::trace::read::{Columns, SkippedRows};
use lindos_sim::trace::report::{self, Run};
use lindos_sim::trace::{
    Format, LimitRule, Measures, ReadOptions, Setup, TeamShares, Trace, TraceError, TraceJob,
    job_table, read, replay, shape,
};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A fleet that is named by its size alone has racks of so many nodes, and so on.
const NODES_PER_RACK: u32 = 4;
const RACKS_PER_LEAF: u32 = 8;
const LEAVES_PER_SPINE: u32 = 8;
/// How busy a fleet is that is worth a comparison: fuller ones only queue, emptier ones never do.
const BUSY_SHARE: f64 = 0.8;
/// How often the core proves its invariants while it replays, in events.
const CHECK_EVERY: u64 = 50_000;

/// Those that have a name: see [`Policy::named`].
const POLICIES: [&str; 3] = ["fifo", "backfill", "default"];

const TRACE_HINT: &str = "what a trace may be: docs/sim-trace.md";

#[derive(Args, Debug)]
pub struct TraceArgs {
    /// The trace: CSV with a header, or the Standard Workload Format (.swf); plain or gzip
    file: PathBuf,
    /// A fleet file, a ready-made fleet, or NODESxGPUS such as 300x8
    #[arg(long)]
    fleet: String,
    /// fifo, backfill, default, or a policy file (TOML)
    #[arg(long, default_value = "default", conflicts_with = "compare")]
    policy: String,
    /// Several of them side by side: fifo,backfill,default
    #[arg(long, value_name = "POLICIES", value_delimiter = ',', num_args = 1)]
    compare: Vec<String>,
    /// Which column says what, such as submit=timestamp,duration=seconds,gpus=num_gpus; further
    /// keys: team, user, nodes, gpus_per_node, limit, priority, id [default: by usual names]
    #[arg(long, value_name = "KEY=COLUMN,…")]
    columns: Option<Columns>,
    /// How the trace is written [default: by its name, else by its first line]
    #[arg(long)]
    format: Option<FormatName>,
    /// The jobs' time limits: given (the trace's own, else classes), classes (the duration rounded
    /// up to 1h, 4h, 12h, 1d, 2d, 7d, 30d, …), exact, factor:F, none
    #[arg(long, default_value = "given")]
    limit: LimitRule,
    /// What share of the fleet the trace's teams have
    #[arg(long, default_value = "none")]
    team_shares: TeamSharesName,
    /// Jobs save their work after each such span; one that is stopped goes on from there
    #[arg(long, default_value = "30m", value_parser = parse_span)]
    checkpoint: Millis,
    /// Write a page with plots there
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write what became of each job there, as CSV
    #[arg(long, value_name = "FILE")]
    jobs: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FormatName {
    Csv,
    Swf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum TeamSharesName {
    /// None: all teams are alike
    None,
    /// Equal parts of the fleet
    Equal,
    /// In proportion to the GPU-time that they have in the trace
    Usage,
}

pub fn run(args: &TraceArgs) -> Result<(), Failure> {
    let fleet = load_fleet(&args.fleet)?;
    let names = if args.compare.is_empty() {
        std::slice::from_ref(&args.policy)
    } else {
        args.compare.as_slice()
    };
    let policies: Vec<(String, Policy)> =
        names.iter().map(|name| load_policy(name)).collect::<Result<_, _>>()?;
    let Trace { rows, mut skipped } = load_trace(args)?;
    let (jobs, too_large) = shape::jobs(&rows, &fleet, args.limit);
    skipped.extend(&too_large);
    if jobs.is_empty() {
        return Err(Failure::bad_input(
            "every job of the trace is larger than the fleet",
            "give a larger one: --fleet NODESxGPUS",
        ));
    }
    let mut runs = Vec::new();
    for (name, policy) in policies {
        runs.push(play(args, &fleet, &jobs, &skipped, &name, policy)?);
    }
    tell_what_was_left_out(&runs[0].measures);
    if let Some(path) = &args.html {
        let name = args.file.file_name().unwrap_or(args.file.as_os_str()).to_string_lossy();
        write("--html", path, report::page(&name, &jobs, &runs).as_bytes())?;
    }
    if let Some(path) = &args.jobs {
        write("--jobs", path, &job_table::csv(&jobs, &runs))?;
    }
    print(args, &runs)
}

fn write(flag: &str, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| {
        let path = path.display();
        Failure::new(Exit::Failed, format!("{path}: {error}"), format!("give another {flag} FILE"))
    })
}

fn print(args: &TraceArgs, runs: &[Run]) -> Result<(), Failure> {
    let measures: Vec<&Measures> = runs.iter().map(|run| &run.measures).collect();
    match (args.json, args.compare.is_empty()) {
        (true, true) => output::json(measures[0]),
        (true, false) => output::json(&measures),
        (false, _) => output::data(&table(&measures)),
    }
}

fn load_trace(args: &TraceArgs) -> Result<Trace, Failure> {
    let path = args.file.display();
    let bytes = std::fs::read(&args.file)
        .map_err(|error| Failure::bad_input(format!("{path}: {error}"), TRACE_HINT))?;
    let format = args.format.map(|format| match format {
        FormatName::Csv => Format::Csv,
        FormatName::Swf => Format::Swf,
    });
    let options = ReadOptions { format, columns: args.columns.clone().unwrap_or_default() };
    read::read(&args.file.to_string_lossy(), &bytes, &options).map_err(
        |TraceError { message, hint }| Failure::bad_input(format!("{path}: {message}"), hint),
    )
}

/// A fleet by its size, its name or its file.
pub fn load_fleet(name: &str) -> Result<Vec<NodeSpec>, Failure> {
    let size = name.split_once('x').and_then(|(n, g)| Some((n.parse().ok()?, g.parse().ok()?)));
    match size {
        Some((nodes, gpus)) => fleet_of(nodes, gpus).map_err(|message| {
            Failure::bad_input(format!("--fleet {name}: {message}"), "NODESxGPUS, such as 300x8")
        }),
        None => Ok(fleet_file::load(name)?.nodes),
    }
}

fn fleet_of(count: u32, gpus: u16) -> Result<Vec<NodeSpec>, String> {
    fleet::expand(&[NodeGroup {
        name: "n".to_string(),
        count,
        gpus,
        platform: "generic".to_string(),
        address: "127.0.0.1".to_string(),
        site: String::new(),
        nodes_per_rack: Some(NODES_PER_RACK),
        racks_per_leaf: Some(RACKS_PER_LEAF),
        leaves_per_spine: Some(LEAVES_PER_SPINE),
    }])
}

/// A policy by its name or its file, with the name that it goes by.
fn load_policy(name: &str) -> Result<(String, Policy), Failure> {
    if let Some(policy) = Policy::named(name) {
        return Ok((name.to_string(), policy));
    }
    let path = Path::new(name);
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = match nearest(name, POLICIES.into_iter()) {
            Some(best) => format!("did you mean `{best}`?"),
            None => "it is fifo, backfill, default, or a policy file".to_string(),
        };
        Failure::bad_input(format!("--policy {name}: {error}"), hint)
    })?;
    let source = Source { path, text: &text };
    let policy: Policy = source.parse()?;
    policy
        .validate()
        .map_err(|invalid| source.error_at_key(invalid.key, invalid.to_string(), None))?;
    let stem = path.file_stem().map_or_else(|| name.into(), |stem| stem.to_string_lossy());
    Ok((stem.to_string(), policy))
}

fn play(
    args: &TraceArgs,
    fleet: &[NodeSpec],
    jobs: &[TraceJob],
    skipped: &SkippedRows,
    name: &str,
    mut policy: Policy,
) -> Result<Run, Failure> {
    let gpus = fleet.iter().map(|node| u64::from(node.gpus)).sum();
    let shares = match args.team_shares {
        TeamSharesName::None => TeamShares::None,
        TeamSharesName::Equal => TeamShares::Equal,
        TeamSharesName::Usage => TeamShares::Usage,
    };
    if shares != TeamShares::None {
        policy.teams = shape::teams(jobs, gpus, shares);
        policy.validate().map_err(|invalid| {
            Failure::bad_input(format!("--team-shares: {invalid}"), TRACE_HINT)
        })?;
    }
    let bar = progress(name, jobs.len(), args.json);
    let began = Instant::now();
    let setup = Setup {
        nodes: fleet,
        policy,
        jobs,
        checkpoint: Some(args.checkpoint),
        window: Window::busy(jobs),
        check_every: CHECK_EVERY,
    };
    let outcome = replay(setup, &mut |over, _| bar.set_position(over as u64));
    let wall_s = began.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let about =
        About { policy: name, fleet: &args.fleet, nodes: fleet.len() as u64, gpus, skipped };
    let measures = Measures { wall_s, ..measure(&about, jobs, &outcome) };
    Ok(Run { measures, outcome })
}

fn progress(name: &str, jobs: usize, is_quiet: bool) -> ProgressBar {
    let bar = if output::stderr_is_terminal() && !is_quiet {
        ProgressBar::new(jobs as u64)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} jobs, {eta} left");
    bar.set_style(style.expect("the template is right"));
    bar.set_message(name.to_string());
    bar
}

fn tell_what_was_left_out(measures: &Measures) {
    for skipped in &measures.skipped {
        let rows = if skipped.count == 1 { "1 row" } else { &format!("{} rows", skipped.count) };
        output::message(format!(
            "{rows} left out: {} (the first is line {})",
            skipped.reason, skipped.first_line
        ));
    }
    let (demand, gpus) = (measures.demand_gpus_busy, measures.gpus as f64);
    if demand > gpus {
        let each = gpus / measures.nodes as f64;
        output::message(format!(
            "hint: the busy period asks for {demand:.0} GPUs on the mean and the fleet has {gpus}: \
             the queue only grows, and waits say little; {:.0} nodes of this kind would be \
             {}% busy",
            (demand / BUSY_SHARE / each).ceil(),
            BUSY_SHARE * 100.0
        ));
    }
}

fn table(runs: &[&Measures]) -> String {
    let first = runs[0];
    let mut text = pairs(&[
        ("fleet", format!("{} ({} nodes, {} GPUs)", first.fleet, first.nodes, first.gpus)),
        ("jobs", format!("{}, {} rows left out", first.jobs, first.rejected)),
        (
            "demand",
            format!("{:.0} GPUs in the busy period, if no job waited", first.demand_gpus_busy),
        ),
    ]);
    let mut header = vec![""];
    header.extend(runs.iter().map(|run| run.policy.as_str()));
    let columns: Vec<usize> = (1..header.len()).collect();
    let mut table = Builder::new(output::width(), &header).right(&columns);
    let mut row = |name: &str, value: &dyn Fn(&Measures) -> String| {
        table.row(std::iter::once(name.to_string()).chain(runs.iter().map(|run| value(run))));
    };
    row("utilisation", &|m| percent(m.utilisation));
    row("  busy period", &|m| percent(m.utilisation_busy));
    row("wait mean", &|m| span(m.wait_s.mean));
    row("  median", &|m| span(m.wait_s.p50));
    row("  p95", &|m| span(m.wait_s.p95));
    row("  p99", &|m| span(m.wait_s.p99));
    for (index, class) in first.wait_by_size.iter().enumerate() {
        let name = format!("wait of {} GPUs, mean", class.gpus);
        row(&name, &|m| span(m.wait_by_size[index].wait_s.mean));
        row("  p95", &|m| span(m.wait_by_size[index].wait_s.p95));
    }
    row("slowdown mean", &|m| format!("{:.2}", m.slowdown_mean));
    row("  bounded 10s", &|m| format!("{:.2}", m.slowdown_bounded_mean));
    row("stranded GPU-hours", &|m| format!("{:.0}", m.stranded_gpu_hours));
    row("fragmentation", &|m| percent(m.fragmentation_mean));
    row("preemptions", &|m| m.preemptions.to_string());
    row("lost GPU-hours", &|m| format!("{:.1}", m.lost_gpu_hours));
    row("longest queue", &|m| m.queue_max.to_string());
    row("makespan", &|m| span(m.makespan_s));
    row("failed", &|m| m.failed.to_string());
    row("unfinished", &|m| m.unfinished.to_string());
    row("replayed in", &|m| format!("{:.1}s", m.wall_s));
    text.push('\n');
    text.push_str(&table.finish());
    text
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn span(seconds: f64) -> String {
    Millis((seconds * 1000.0).round() as u64).to_string()
}
