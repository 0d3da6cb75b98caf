//! `lindos sim sweep`: a fleet scenario with one or two of its values varied.

use super::fleet_run::{HINT, Interval, failed, files_beside};
use super::many;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::render::table::Builder;
use clap::Args;
use lindos_sim::twin::metric::Metric;
use lindos_sim::twin::scenario::{FleetScenario, Invalid};
use lindos_sim::twin::sweep::curve::{CurvePoint, Standing};
use lindos_sim::twin::sweep::page::{About, estimate, page, verdict};
use lindos_sim::twin::sweep::{Curve, Sweep, Value, Vary};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Of the longest bar.
const BAR_CELLS: f64 = 16.0;

#[derive(Args, Debug)]
pub struct SweepArgs {
    /// A fleet scenario: docs/twin.md, and the folder scenarios/fleet/
    scenario: PathBuf,
    /// What varies, once or twice: KEY=FROM..TO[:STEPS], KEY=FROM..TO*FACTOR or KEY=A,B,C, with a
    /// dotted KEY such as policy.spares, faults.scale or jobs.main.checkpoint.every
    #[arg(long, value_name = "KEY=RANGE", required = true)]
    vary: Vec<Vary>,
    /// How many seeds each point is played on; the same for all
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// The first of them [default: the scenario's]
    #[arg(long)]
    seed: Option<u64>,
    /// Which figure: goodput, waste, a column of the ledger, or of the first job (.NAME: of
    /// another) ettr, interruptions, replicas-lost, steps, completed, wait-hours
    #[arg(long, value_name = "FIGURE", default_value = "goodput")]
    of: String,
    /// Threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    #[arg(long)]
    json: bool,
    /// Write the points there, as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write a page with the curve and every assumption there
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(args: &SweepArgs) -> Result<(), Failure> {
    if args.vary.len() > 2 {
        return Err(Failure::bad_input(
            "--vary is given more than twice",
            "a curve runs along one key, and a second one gives it lines",
        ));
    }
    let text = super::read_scenario(&args.scenario)?;
    let files = files_beside(&args.scenario);
    let scenario = FleetScenario::parse(&args.scenario, &text, &files).map_err(|error| {
        let hint = error.hint.clone().unwrap_or_else(|| HINT.to_string());
        Failure { hint: Some(hint), ..Failure::from(error) }
    })?;
    let metric = Metric::parse(&args.of, &scenario)
        .map_err(|(message, hint)| Failure::bad_input(format!("--of: {message}"), hint))?;
    let first = args.seed.unwrap_or(scenario.table.seed);
    let seeds = (0..args.seeds).map(|index| first.wrapping_add(index)).collect();
    let sweep = Sweep::new(&text, args.vary.clone(), seeds, &files).map_err(invalid)?;
    let began = Instant::now();
    let played = many::all(sweep.runs(), args.threads, args.json, |run, told| {
        sweep.play(run, &metric, &files, &mut |share| told.tell(share))
    });
    let wall_s = began.elapsed().as_secs_f64();
    let curve = Curve::new(&sweep, metric, played.map_err(failed)?);
    if !args.json {
        output::message(format!("{} runs, {wall_s:.1} s", sweep.runs()));
    }
    if let Some(path) = &args.csv {
        write("--csv", path, &curve.csv())?;
    }
    if let Some(path) = &args.html {
        let name = args.scenario.file_name().unwrap_or_default().to_string_lossy();
        let command = command(args);
        let about = About { name: &name, text: &text, scenario: &scenario, command: &command };
        write("--html", path, page(&about, &curve).as_bytes())?;
    }
    if args.json {
        output::json(&SweepResult::new(&curve, wall_s))
    } else {
        output::data(&told(&curve))
    }
}

fn invalid(invalid: Invalid) -> Failure {
    Failure::bad_input(
        format!("--vary: {}", invalid.message),
        invalid.hint.unwrap_or_else(|| HINT.to_string()),
    )
}

fn write(flag: &str, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| {
        let path = path.display();
        Failure::new(Exit::Failed, format!("{path}: {error}"), format!("give another {flag} FILE"))
    })
}

/// What gives these figures again.
fn command(args: &SweepArgs) -> String {
    let mut words = vec!["lindos sim sweep".to_string(), args.scenario.display().to_string()];
    for vary in &args.vary {
        words.push(format!("--vary {vary}"));
    }
    words.push(format!("--seeds {} --of {}", args.seeds, args.of));
    words.extend(args.seed.map(|seed| format!("--seed {seed}")));
    words.join(" ")
}

fn told(curve: &Curve) -> String {
    let metric = curve.metric.to_string();
    let mut header: Vec<&str> = curve.keys.iter().map(String::as_str).collect();
    header.extend([metric.as_str(), "", ""]);
    let numbers: Vec<usize> = (0..curve.keys.len()).collect();
    let mut table = Builder::new(output::width(), &header).right(&numbers);
    for point in &curve.points {
        let mut row: Vec<String> = point.values.iter().map(ToString::to_string).collect();
        row.push(estimate(curve, point));
        row.push(bar(curve, point));
        row.push(match point.standing {
            Standing::Best => "best".to_string(),
            Standing::AsGood => "as good".to_string(),
            Standing::Worse | Standing::Unknown => String::new(),
        });
        table.row(row);
    }
    format!("{}\n{}\n", table.finish(), verdict(curve))
}

/// How far a point is from the lowest to the highest; the lowest has a little, so that it is seen.
fn bar(curve: &Curve, point: &CurvePoint) -> String {
    let means = || curve.points.iter().filter_map(|point| point.mean);
    let (low, high) = (means().fold(f64::MAX, f64::min), means().fold(f64::MIN, f64::max));
    let Some(mean) = point.mean else { return String::new() };
    let share = if high > low { (mean - low) / (high - low) } else { 1.0 };
    "█".repeat(1 + (share * (BAR_CELLS - 1.0)).round() as usize)
}

#[derive(Serialize)]
struct SweepResult<'c> {
    keys: &'c [String],
    of: String,
    seeds: &'c [u64],
    points: Vec<PointResult<'c>>,
    best: Option<usize>,
    /// Points that cannot be told from the best, by their place.
    as_good: Vec<usize>,
    verdict: String,
    events: u64,
    wall_s: f64,
}

/// Values are numbers, words, or times in milliseconds (`{"ms": 1200000}`).
#[derive(Serialize)]
struct PointResult<'c> {
    values: BTreeMap<&'c str, serde_json::Value>,
    #[serde(flatten)]
    mean: Option<Interval>,
    by_seed: Vec<Option<f64>>,
    standing: &'static str,
    /// The mean share of each column, from 0 to 1.
    columns: BTreeMap<&'static str, f64>,
}

impl<'c> SweepResult<'c> {
    fn new(curve: &'c Curve, wall_s: f64) -> Self {
        let of = |standing: Standing| {
            let points = curve.points.iter().enumerate();
            points.filter(move |(_, point)| point.standing == standing).map(|(index, _)| index)
        };
        SweepResult {
            keys: &curve.keys,
            of: curve.metric.to_string(),
            seeds: &curve.seeds,
            points: curve.points.iter().map(|point| PointResult::new(curve, point)).collect(),
            best: of(Standing::Best).next(),
            as_good: of(Standing::AsGood).collect(),
            verdict: verdict(curve),
            events: curve.events(),
            wall_s,
        }
    }
}

impl<'c> PointResult<'c> {
    fn new(curve: &'c Curve, point: &CurvePoint) -> Self {
        let keys = curve.keys.iter().map(String::as_str);
        let by_seed: Vec<Option<f64>> = point.runs.iter().map(|run| run.value).collect();
        PointResult {
            values: keys.zip(point.values.iter().map(json_of)).collect(),
            mean: point.mean.map(|mean| Interval {
                mean,
                low: point.interval.map_or(mean, |interval| interval.low),
                high: point.interval.map_or(mean, |interval| interval.high),
            }),
            by_seed,
            standing: point.standing.name(),
            columns: point.shares.iter().map(|(column, share)| (column.name(), *share)).collect(),
        }
    }
}

fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::Number(number) => serde_json::json!(number),
        Value::Time(span) => serde_json::json!({ "ms": span.0 }),
        Value::Word(word) => serde_json::json!(word),
    }
}
