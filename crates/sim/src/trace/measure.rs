//! Figures of a replay. `docs/sim-trace.md` defines each of them.

use super::read::{Skipped, SkippedRows};
use super::shape::TraceJob;
use super::world::{End, Outcome};
use lindos_model::{Column, Time};
use serde::Serialize;
use std::collections::BTreeMap;

const MS_PER_HOUR: f64 = 3_600_000.0;
/// The bounded slowdown takes no job for shorter than this.
const SLOWDOWN_FLOOR_S: f64 = 10.0;
/// Jobs by the GPUs that the trace says: name, least, most.
pub const SIZE_CLASSES: [(&str, u64, u64); 4] =
    [("1", 1, 1), ("2-8", 2, 8), ("9-64", 9, 64), ("65+", 65, u64::MAX)];

/// A span of the trace's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Time,
    pub to: Time,
}

impl Window {
    /// The busy period: from the submission at which a tenth of all GPU-time was submitted to the
    /// one at which nine tenths were. It depends on the trace alone.
    pub fn busy(jobs: &[TraceJob]) -> Window {
        let total: u128 = jobs.iter().map(TraceJob::gpu_ms).sum();
        let (mut sum, mut from, mut to) = (0, None, None);
        for job in jobs {
            sum += job.gpu_ms();
            if from.is_none() && sum * 10 >= total {
                from = Some(job.submit);
            }
            if to.is_none() && sum * 10 >= total * 9 {
                to = Some(job.submit);
            }
        }
        Window { from: from.unwrap_or_default(), to: to.unwrap_or_default() }
    }

    /// GPUs that would be held in it, on the mean, if no job had to wait.
    pub fn demand_gpus(&self, jobs: &[TraceJob]) -> f64 {
        let held = |job: &TraceJob| {
            let inside = self.overlap_ms(job.submit, job.submit + job.duration);
            u128::from(job.held_gpus()) * u128::from(inside)
        };
        ratio(jobs.iter().map(held).sum::<u128>() as f64, self.span_ms() as f64)
    }

    fn span_ms(&self) -> u64 {
        self.to.since(self.from).0
    }

    fn overlap_ms(&self, from: Time, to: Time) -> u64 {
        to.min(self.to).since(from.max(self.from)).0
    }
}

/// How things stand between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// GPUs that gangs hold.
    pub held: u64,
    pub free: u64,
    /// Free GPUs of nodes of which some are held.
    pub free_on_partly_held: u64,
    /// Jobs in the queue.
    pub waiting: u64,
}

impl Levels {
    pub(super) fn drop_node(&mut self, gpus: u16, used: u16) {
        let (gpus, used) = (u64::from(gpus), u64::from(used));
        self.held -= used;
        self.free -= gpus - used;
        self.free_on_partly_held -= if used > 0 { gpus - used } else { 0 };
    }

    pub(super) fn add_node(&mut self, gpus: u16, used: u16) {
        let (gpus, used) = (u64::from(gpus), u64::from(used));
        self.held += used;
        self.free += gpus - used;
        self.free_on_partly_held += if used > 0 { gpus - used } else { 0 };
    }
}

/// One bin of a timeline, in unit-milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    pub held: u64,
    pub stranded: u64,
    pub waiting: u64,
}

/// Levels over time, exact in each bin. Bins double when there are too many, so that a trace of any
/// length takes the same room.
#[derive(Clone, Debug)]
pub struct Timeline {
    pub began: Time,
    pub bin_ms: u64,
    pub bins: Vec<Bin>,
}

const BINS_MAX: usize = 4096;
const FIRST_BIN_MS: u64 = 60_000;

impl Timeline {
    fn new(began: Time) -> Timeline {
        Timeline { began, bin_ms: FIRST_BIN_MS, bins: Vec::new() }
    }

    fn add(&mut self, from: Time, to: Time, level: Bin) {
        let (mut at, end) = (from.since(self.began).0, to.since(self.began).0);
        while end.div_ceil(self.bin_ms) as usize > BINS_MAX {
            self.double();
        }
        self.bins.resize(self.bins.len().max(end.div_ceil(self.bin_ms) as usize), Bin::default());
        while at < end {
            let index = at / self.bin_ms;
            let until = end.min((index + 1) * self.bin_ms);
            let bin = &mut self.bins[index as usize];
            bin.held += level.held * (until - at);
            bin.stranded += level.stranded * (until - at);
            bin.waiting += level.waiting * (until - at);
            at = until;
        }
    }

    fn double(&mut self) {
        let pairs = self.bins.chunks(2).map(|pair| {
            pair.iter().fold(Bin::default(), |sum, bin| Bin {
                held: sum.held + bin.held,
                stranded: sum.stranded + bin.stranded,
                waiting: sum.waiting + bin.waiting,
            })
        });
        self.bins = pairs.collect();
        self.bin_ms *= 2;
    }
}

/// Sums over time while a replay runs.
#[derive(Clone, Debug)]
pub struct Meter {
    pub timeline: Timeline,
    pub window: Window,
    at: Time,
    stranded: u64,
    window_held: u128,
    free: u128,
    free_on_partly_held: u128,
    pub waiting_max: u64,
}

impl Meter {
    pub fn new(began: Time, window: Window) -> Meter {
        Meter {
            timeline: Timeline::new(began),
            window,
            at: began,
            stranded: 0,
            window_held: 0,
            free: 0,
            free_on_partly_held: 0,
            waiting_max: 0,
        }
    }

    /// Time passed at these levels; `stranded` is the ledger's whole column at `now`.
    pub fn pass(&mut self, now: Time, levels: &Levels, stranded: u64) {
        let span = now.since(self.at).0;
        if span == 0 {
            return;
        }
        // Between two events the ledger's rates do not change, so this divides without a rest.
        let level = (stranded - self.stranded) / span;
        let bin = Bin { held: levels.held, stranded: level, waiting: levels.waiting };
        self.timeline.add(self.at, now, bin);
        let wide = |level: u64, span: u64| u128::from(level) * u128::from(span);
        self.window_held += wide(levels.held, self.window.overlap_ms(self.at, now));
        self.free += wide(levels.free, span);
        self.free_on_partly_held += wide(levels.free_on_partly_held, span);
        self.waiting_max = self.waiting_max.max(levels.waiting);
        self.at = now;
        self.stranded = stranded;
    }
}

/// Mean and nearest-rank percentiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub jobs: u64,
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    /// Sorts the values; all zero when there are none.
    pub fn of(values: &mut [f64]) -> Spread {
        values.sort_by(f64::total_cmp);
        let Some(&max) = values.last() else { return Spread::default() };
        let count = values.len();
        let rank = |percent: usize| values[(count * percent).div_ceil(100).max(1) - 1];
        Spread {
            jobs: count as u64,
            mean: values.iter().sum::<f64>() / count as f64,
            p50: rank(50),
            p95: rank(95),
            p99: rank(99),
            max,
        }
    }
}

/// The waits of the jobs of one size class, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassWaits {
    pub gpus: &'static str,
    #[serde(flatten)]
    pub wait_s: Spread,
}

/// The waits of the jobs of one team, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TeamWaits {
    pub team: String,
    /// Of its jobs in the trace.
    pub gpu_hours: f64,
    #[serde(flatten)]
    pub wait_s: Spread,
}

/// What `--json` prints. Seconds, GPU-hours, and shares from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measures {
    pub policy: String,
    pub fleet: String,
    pub nodes: u64,
    pub gpus: u64,
    /// Jobs that were submitted.
    pub jobs: u64,
    pub completed: u64,
    pub failed: u64,
    /// Still waiting when nothing could happen any more.
    pub unfinished: u64,
    /// Rows that were left out, and jobs that the core refused.
    pub rejected: u64,
    pub skipped: Vec<Skipped>,
    pub utilisation: f64,
    pub utilisation_busy: f64,
    pub demand_gpus_busy: f64,
    pub wait_s: Spread,
    pub wait_by_size: Vec<ClassWaits>,
    /// Those that asked for most GPU-time first.
    pub wait_by_team: Vec<TeamWaits>,
    pub slowdown_mean: f64,
    pub slowdown_bounded_mean: f64,
    pub stranded_gpu_hours: f64,
    pub lost_gpu_hours: f64,
    pub fragmentation_mean: f64,
    pub preemptions: u64,
    pub preempted_jobs: u64,
    pub queue_max: u64,
    pub makespan_s: f64,
    pub columns_gpu_hours: BTreeMap<&'static str, f64>,
    pub events: u64,
    pub digest: String,
    /// What the replay took on this machine; the caller has the clock.
    pub wall_s: f64,
}

/// The names that a replay goes by, and what its trace left out.
#[derive(Clone, Debug)]
pub struct About<'a> {
    pub policy: &'a str,
    pub fleet: &'a str,
    pub nodes: u64,
    pub gpus: u64,
    pub skipped: &'a SkippedRows,
}

/// The waits of the jobs that started, by size class, in seconds.
pub fn waits(jobs: &[TraceJob], outcome: &Outcome) -> [Vec<f64>; SIZE_CLASSES.len()] {
    let mut waits: [Vec<f64>; SIZE_CLASSES.len()] = Default::default();
    for (job, became) in jobs.iter().zip(&outcome.jobs) {
        if let Some(started) = became.started {
            let is_class =
                |&(_, least, most): &(&str, u64, u64)| (least..=most).contains(&job.gpus);
            let class = SIZE_CLASSES.iter().position(is_class).unwrap_or(0);
            waits[class].push(started.since(job.submit).0 as f64 / 1000.0);
        }
    }
    waits
}

fn by_team(jobs: &[TraceJob], outcome: &Outcome) -> Vec<TeamWaits> {
    let mut teams: BTreeMap<&str, (u128, Vec<f64>)> = BTreeMap::new();
    for (job, became) in jobs.iter().zip(&outcome.jobs) {
        let (gpu_ms, waits) = teams.entry(&job.spec.team).or_default();
        *gpu_ms += job.gpu_ms();
        waits.extend(became.started.map(|at| at.since(job.submit).0 as f64 / 1000.0));
    }
    let mut teams: Vec<_> = teams.into_iter().collect();
    teams.sort_by_key(|(name, (gpu_ms, _))| (std::cmp::Reverse(*gpu_ms), *name));
    teams
        .into_iter()
        .map(|(team, (gpu_ms, mut waits))| TeamWaits {
            team: team.to_string(),
            gpu_hours: gpu_ms as f64 / MS_PER_HOUR,
            wait_s: Spread::of(&mut waits),
        })
        .collect()
}

pub fn measure(about: &About<'_>, jobs: &[TraceJob], outcome: &Outcome) -> Measures {
    let mut by_size = waits(jobs, outcome);
    let mut all: Vec<f64> = by_size.iter().flatten().copied().collect();
    let ended = |end: End| outcome.jobs.iter().filter(|job| job.end == end).count() as u64;
    let mut skipped = about.skipped.clone();
    let (mut slowdowns, mut bounded) = (0.0, 0.0);
    for (job, became) in jobs.iter().zip(&outcome.jobs) {
        match (became.end, became.ended) {
            (End::Completed, Some(end)) => {
                let took = end.since(job.submit).0 as f64 / 1000.0;
                let duration = job.duration.0 as f64 / 1000.0;
                slowdowns += took / duration;
                bounded += (took / duration.max(SLOWDOWN_FLOOR_S)).max(1.0);
            }
            (End::Refused, _) => skipped.add("the policy does not take it", job.line),
            _ => {}
        }
    }
    let completed = ended(End::Completed);
    let makespan_ms = outcome.ended.since(outcome.began).0;
    let fleet_ms = about.gpus as f64 * makespan_ms as f64;
    let window = outcome.meter.window;
    let window_ms = about.gpus as f64 * window.span_ms() as f64;
    let hours = |column: Column| outcome.ledger[column] as f64 / MS_PER_HOUR;
    Measures {
        policy: about.policy.to_string(),
        fleet: about.fleet.to_string(),
        nodes: about.nodes,
        gpus: about.gpus,
        jobs: jobs.len() as u64,
        completed,
        failed: ended(End::Failed),
        unfinished: ended(End::None),
        rejected: skipped.count(),
        skipped: skipped.list().to_vec(),
        utilisation: ratio(outcome.ledger[Column::Productive] as f64, fleet_ms),
        utilisation_busy: ratio(outcome.meter.window_held as f64, window_ms),
        demand_gpus_busy: window.demand_gpus(jobs),
        wait_s: Spread::of(&mut all),
        wait_by_size: SIZE_CLASSES
            .iter()
            .zip(&mut by_size)
            .map(|((gpus, ..), waits)| ClassWaits { gpus, wait_s: Spread::of(waits) })
            .collect(),
        wait_by_team: by_team(jobs, outcome),
        slowdown_mean: ratio(slowdowns, completed as f64),
        slowdown_bounded_mean: ratio(bounded, completed as f64),
        stranded_gpu_hours: hours(Column::Stranded),
        lost_gpu_hours: hours(Column::Lost),
        fragmentation_mean: ratio(
            outcome.meter.free_on_partly_held as f64,
            outcome.meter.free as f64,
        ),
        preemptions: outcome.jobs.iter().map(|job| u64::from(job.preempted)).sum(),
        preempted_jobs: outcome.jobs.iter().filter(|job| job.preempted > 0).count() as u64,
        queue_max: outcome.meter.waiting_max,
        makespan_s: makespan_ms as f64 / 1000.0,
        columns_gpu_hours: Column::ALL.map(|column| (column.name(), hours(column))).into(),
        events: outcome.events,
        digest: outcome.digest.to_string(),
        wall_s: 0.0,
    }
}

/// Zero when there is nothing to divide by.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
