//! `lindos sim run` of a fleet scenario: once, or on many seeds.

use super::{SimRunArgs, fleet_text, many, record};
use crate::failure::{Exit, Failure};
use crate::output;
use lindos_api::user::{Goodput, LedgerView};
use lindos_model::{Column, Time};
use lindos_sim::reliability::stats::{Estimate, USUAL_CONFIDENCE, mean, mean_interval};
use lindos_sim::twin::figures::{Figures, JobFigures, gpu_hours, share};
use lindos_sim::twin::scenario::FleetScenario;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

pub const HINT: &str = "the keys of a fleet scenario: docs/twin.md";

/// Reads what a scenario names: a path is seen from the scenario's own folder.
pub fn files_beside(scenario: &Path) -> impl Fn(&str) -> std::io::Result<String> + Sync + use<> {
    let folder = scenario.parent().unwrap_or(Path::new("")).to_path_buf();
    move |name| std::fs::read_to_string(folder.join(name))
}

pub(super) fn run(args: &SimRunArgs, text: &str) -> Result<(), Failure> {
    let files = files_beside(&args.scenario);
    let scenario = FleetScenario::parse(&args.scenario, text, &files).map_err(|error| {
        let hint = error.hint.clone().unwrap_or_else(|| HINT.to_string());
        Failure { hint: Some(hint), ..Failure::from(error) }
    })?;
    let first = args.seed.unwrap_or(scenario.table.seed);
    let seeds: Vec<u64> = (0..args.seeds).map(|index| first.wrapping_add(index)).collect();
    let until = scenario.until().0.max(1) as f64;
    if args.record.is_some() && seeds.len() > 1 {
        return Err(Failure::bad_input(
            "--record is for one seed",
            "one journal is of one life: give --seed N, and no --seeds",
        ));
    }
    let began = Instant::now();
    let runs = many::all(seeds.len(), args.threads, args.json, |run, told| {
        let mut tell = |at: Time| told.tell(at.0 as f64 / until);
        match &args.record {
            Some(folder) => record::record(&scenario, seeds[run], folder, &mut tell),
            None => scenario.play(seeds[run], &mut tell).map_err(|error| error.to_string()),
        }
    });
    let wall_s = began.elapsed().as_secs_f64();
    let runs = runs.map_err(failed)?;
    tell_speed(&runs, wall_s, args.json);
    match (runs.as_slice(), args.json) {
        ([one], true) => output::json(&RunResult::new(&scenario, one, wall_s)),
        ([one], false) => output::data(&fleet_text::run(&scenario, one)),
        (_, true) => output::json(&SeedsResult::new(&scenario, &runs, wall_s)),
        (_, false) => {
            output::data(&fleet_text::seeds(&scenario, &SeedsResult::new(&scenario, &runs, wall_s)))
        }
    }
}

/// A run that did not come to its end.
pub fn failed(words: String) -> Failure {
    match words.split_once("\nhint: ") {
        Some((message, hint)) => Failure::new(Exit::Failed, message, hint),
        None => Failure::new(
            Exit::Failed,
            words,
            "that is a bug of Lindos: please report it with the scenario",
        ),
    }
}

fn tell_speed(runs: &[Figures], wall_s: f64, is_quiet: bool) {
    let events: u64 = runs.iter().map(|run| run.events).sum();
    for refused in runs.iter().flat_map(|run| &run.refused).take(1) {
        output::message(format!("the control plane refused a job: {refused}"));
    }
    if !is_quiet {
        output::message(format!(
            "{wall_s:.1} s, {events} events, {} a second",
            crate::render::number::rate(events as f64 / wall_s.max(1e-9))
        ));
    }
}

/// One run, with the ledger as `lindos goodput --json` has it.
#[derive(Serialize)]
struct RunResult<'r> {
    #[serde(flatten)]
    goodput: Goodput,
    fleet: &'r str,
    nodes: usize,
    gpus: u64,
    profile: &'r str,
    seed: u64,
    cost: Option<Cost<'r>>,
    jobs: Vec<JobResult<'r>>,
    faults: Vec<FaultResult<'r>>,
    refused: &'r [String],
    events: u64,
    digest: &'r str,
    wall_s: f64,
    events_per_s: f64,
}

#[derive(Serialize)]
struct Cost<'r> {
    currency: &'r str,
    gpu_hour: f64,
    total: f64,
    columns: BTreeMap<&'static str, f64>,
}

#[derive(Serialize)]
struct JobResult<'r> {
    name: &'r str,
    /// The `[[jobs]]` table that it is of.
    of: &'r str,
    state: &'static str,
    gpus: u64,
    ettr: Option<f64>,
    interruptions: u64,
    replicas_lost: u64,
    stops: u64,
    /// That it is to make, and that it has made and saved.
    steps_wanted: u64,
    steps_saved: u64,
    submitted_ms: u64,
    started_ms: Option<u64>,
    ended_ms: Option<u64>,
    #[serde(flatten)]
    ledger: LedgerView,
}

#[derive(Serialize)]
struct FaultResult<'r> {
    cause: &'r str,
    struck: u64,
    hit: u64,
}

impl<'r> RunResult<'r> {
    fn new(scenario: &'r FleetScenario, run: &'r Figures, wall_s: f64) -> Self {
        let goodput = Goodput {
            ledger: LedgerView::from(run.ledger),
            goodput: run.goodput(),
            stranded_by: run.stranded_by.clone(),
            at: run.ended.0,
        };
        let faults = run.faults.iter().map(|cause| FaultResult {
            cause: &cause.name,
            struck: cause.struck,
            hit: cause.hit,
        });
        RunResult {
            goodput,
            fleet: &scenario.fleet,
            nodes: scenario.nodes(),
            gpus: scenario.gpus(),
            profile: &scenario.table.faults.profile,
            seed: run.seed,
            cost: cost(scenario, run),
            jobs: run.jobs.iter().map(|job| JobResult::new(scenario, job)).collect(),
            faults: faults.collect(),
            refused: &run.refused,
            events: run.events,
            digest: &run.digest,
            wall_s,
            events_per_s: run.events as f64 / wall_s.max(1e-9),
        }
    }
}

fn cost<'r>(scenario: &'r FleetScenario, run: &Figures) -> Option<Cost<'r>> {
    let prices = scenario.table.prices.as_ref()?;
    let price = |gpu_ms: u64| gpu_hours(gpu_ms) * prices.gpu_hour;
    Some(Cost {
        currency: &prices.currency,
        gpu_hour: prices.gpu_hour,
        total: price(run.ledger.total()),
        columns: run.ledger.iter().map(|(column, ms)| (column.name(), price(ms))).collect(),
    })
}

impl<'r> JobResult<'r> {
    fn new(scenario: &'r FleetScenario, job: &'r JobFigures) -> Self {
        let (of, outcome) = (&scenario.table.jobs[job.table].name, &job.outcome);
        JobResult {
            name: &job.name,
            of,
            state: outcome.state.name(),
            gpus: job.gpus,
            ettr: outcome.ettr(),
            interruptions: outcome.tally.interruptions,
            replicas_lost: outcome.tally.replicas_lost,
            stops: outcome.tally.stops,
            steps_wanted: job.steps,
            steps_saved: outcome.steps_saved,
            submitted_ms: outcome.submitted.0,
            started_ms: outcome.started.map(|at| at.0),
            ended_ms: outcome.ended.map(|at| at.0),
            ledger: LedgerView::from(outcome.ledger),
        }
    }
}

/// A mean over seeds, and the interval that holds the true one in 95 % of all cases.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// Of what is never below 0. `None` of no values.
    pub fn of(values: &[f64]) -> Option<Interval> {
        let mean = mean(values)?;
        let Estimate { low, high, .. } = mean_interval(values, USUAL_CONFIDENCE)
            .unwrap_or(Estimate { value: mean, low: mean, high: mean })
            .within(0.0, f64::INFINITY);
        Some(Interval { mean, low, high })
    }

    /// Of what is never above 1 either.
    pub fn of_shares(values: &[f64]) -> Option<Interval> {
        Interval::of(values).map(|mean| Interval { high: mean.high.min(1.0), ..mean })
    }
}

/// Means over several seeds. Columns are shares of all GPU-time, from 0 to 1.
#[derive(Serialize)]
pub struct SeedsResult<'r> {
    pub fleet: &'r str,
    pub nodes: usize,
    pub gpus: u64,
    pub profile: &'r str,
    pub seeds: Vec<u64>,
    pub goodput: Option<Interval>,
    pub columns: BTreeMap<&'static str, Interval>,
    pub jobs: Vec<GroupResult<'r>>,
    pub faults: Vec<CauseMeans<'r>>,
    pub gpu_hours: f64,
    pub runs: Vec<OneRun<'r>>,
    pub wall_s: f64,
}

/// The job or the jobs of one `[[jobs]]` table.
#[derive(Serialize)]
pub struct GroupResult<'r> {
    pub name: &'r str,
    pub jobs: u64,
    pub gpus: u64,
    pub ettr: Option<Interval>,
    pub interruptions: Option<Interval>,
    pub replicas_lost: Option<Interval>,
    pub stops: Option<Interval>,
    pub completed: Option<Interval>,
    pub steps_saved: Option<Interval>,
    pub wait_hours: Option<Interval>,
}

#[derive(Serialize)]
pub struct CauseMeans<'r> {
    pub cause: &'r str,
    pub struck: Option<Interval>,
    pub hit: Option<Interval>,
}

#[derive(Serialize)]
pub struct OneRun<'r> {
    pub seed: u64,
    pub goodput: f64,
    pub events: u64,
    pub digest: &'r str,
}

impl<'r> SeedsResult<'r> {
    fn new(scenario: &'r FleetScenario, runs: &'r [Figures], wall_s: f64) -> Self {
        let of_all = |value: &dyn Fn(&Figures) -> f64| {
            Interval::of(&runs.iter().map(value).collect::<Vec<f64>>())
        };
        let shares = |value: &dyn Fn(&Figures) -> f64| {
            Interval::of_shares(&runs.iter().map(value).collect::<Vec<f64>>())
        };
        let column =
            |&column: &Column| Some((column.name(), shares(&|run| share(&run.ledger, column))?));
        let groups = scenario.table.jobs.iter().enumerate().map(|(index, table)| {
            let groups: Vec<_> = runs.iter().map(|run| &run.groups[index]).collect();
            group(&table.name, &groups)
        });
        let causes = scenario.profile.causes.iter().enumerate().map(|(index, cause)| CauseMeans {
            cause: &cause.name,
            struck: of_all(&|run| run.faults[index].struck as f64),
            hit: of_all(&|run| run.faults[index].hit as f64),
        });
        let one = |run: &'r Figures| OneRun {
            seed: run.seed,
            goodput: run.goodput(),
            events: run.events,
            digest: &run.digest,
        };
        SeedsResult {
            fleet: &scenario.fleet,
            nodes: scenario.nodes(),
            gpus: scenario.gpus(),
            profile: &scenario.table.faults.profile,
            seeds: runs.iter().map(|run| run.seed).collect(),
            goodput: shares(&Figures::goodput),
            columns: Column::ALL.iter().filter_map(column).collect(),
            jobs: groups.collect(),
            faults: causes.collect(),
            gpu_hours: of_all(&Figures::gpu_hours).map_or(0.0, |mean| mean.mean),
            runs: runs.iter().map(one).collect(),
            wall_s,
        }
    }
}

fn group<'r>(name: &'r str, runs: &[&lindos_sim::twin::figures::GroupFigures]) -> GroupResult<'r> {
    type Group = lindos_sim::twin::figures::GroupFigures;
    let known = |value: &dyn Fn(&Group) -> Option<f64>| {
        Interval::of(&runs.iter().filter_map(|run| value(run)).collect::<Vec<f64>>())
    };
    let count = |value: fn(&Group) -> u64| known(&|run| Some(value(run) as f64));
    GroupResult {
        name,
        jobs: runs[0].jobs,
        gpus: runs[0].gpus,
        ettr: Interval::of_shares(&runs.iter().filter_map(|run| run.ettr()).collect::<Vec<f64>>()),
        interruptions: count(|run| run.interruptions),
        replicas_lost: count(|run| run.replicas_lost),
        stops: count(|run| run.stops),
        completed: count(|run| run.completed),
        steps_saved: count(|run| run.steps_saved),
        wait_hours: known(&|run| Some(gpu_hours(run.wait_mean()?.0))),
    }
}
