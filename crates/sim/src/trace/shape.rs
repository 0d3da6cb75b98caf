//! From the rows of a trace to jobs that a fleet could hold: gangs, time limits, teams.

use super::read::{Row, Size, SkippedRows};
use lindos_model::policy::Team;
use lindos_model::{JobSpec, Millis, NodeSpec, Time, job};
use std::collections::BTreeMap;
use std::sync::Arc;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// The limits that people give, as queues of large sites offer them.
const CLASSES: [u64; 9] =
    [HOUR, 4 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 30 * DAY, 90 * DAY, 365 * DAY];
/// What a limit has over the duration at least, so that a job ends before its time is up.
const HEADROOM: u64 = 1000;
/// The work of a trace goes on whatever silence there is: nobody tells its steps.
const NO_HANG: Millis = Millis(10 * 365 * DAY);

/// Which time limit the jobs have. It is never below the duration.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum LimitRule {
    /// The trace's own, and [`LimitRule::Classes`] where it has none.
    #[default]
    Given,
    /// The duration itself: users who know the future.
    Exact,
    /// The duration times this.
    Factor(f64),
    /// The duration, rounded up to the next of 1 h, 4 h, 12 h, 1 d, 2 d, 7 d, 30 d, 90 d, 365 d.
    Classes,
    None,
}

impl std::str::FromStr for LimitRule {
    type Err = String;

    fn from_str(text: &str) -> Result<LimitRule, String> {
        let factor = text.strip_prefix("factor:");
        match (text, factor) {
            ("given", _) => Ok(LimitRule::Given),
            ("exact", _) => Ok(LimitRule::Exact),
            ("classes", _) => Ok(LimitRule::Classes),
            ("none", _) => Ok(LimitRule::None),
            (_, Some(factor)) => factor
                .parse()
                .ok()
                .filter(|factor| (1.0..=1000.0).contains(factor))
                .map(LimitRule::Factor)
                .ok_or_else(|| format!("`{factor}` is not a factor from 1 to 1000")),
            _ => Err("it is one of given, exact, factor:F, classes, none".to_string()),
        }
    }
}

impl LimitRule {
    fn limit(self, duration: Millis, given: Option<Millis>) -> Option<Millis> {
        let least = duration.0 + HEADROOM;
        let limit = match (self, given) {
            (LimitRule::None, _) => return None,
            (LimitRule::Given, Some(given)) => given.0,
            (LimitRule::Given | LimitRule::Classes, _) => class(least),
            (LimitRule::Exact, _) => least,
            (LimitRule::Factor(factor), _) => (duration.0 as f64 * factor).round() as u64,
        };
        Some(Millis(limit.max(least)))
    }
}

/// The first class that is not below; above the last, whole years.
fn class(least: u64) -> u64 {
    let year = CLASSES[CLASSES.len() - 1];
    let found = CLASSES.into_iter().find(|&class| class >= least);
    found.unwrap_or_else(|| least.div_ceil(year) * year)
}

/// The shares that the teams of a trace get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TeamShares {
    /// None: the teams are names, all alike.
    #[default]
    None,
    /// The fleet in equal parts.
    Equal,
    /// The fleet in proportion to the GPU-time that each team has in the trace.
    Usage,
}

/// A job of the trace as the core is given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceJob {
    pub line: u64,
    pub id: String,
    pub user: String,
    pub submit: Time,
    pub duration: Millis,
    /// As the trace says; its gang may hold more, see [`gang`].
    pub gpus: u64,
    pub spec: Arc<JobSpec>,
}

impl TraceJob {
    /// GPUs that its gang holds.
    pub fn held_gpus(&self) -> u64 {
        u64::from(self.spec.nodes) * u64::from(self.spec.gpus_per_node)
    }

    pub fn gpu_ms(&self) -> u128 {
        u128::from(self.held_gpus()) * u128::from(self.duration.0)
    }
}

/// How many nodes of the fleet have at least so many GPUs.
#[derive(Clone, Debug)]
struct Sizes(BTreeMap<u16, u32>);

impl Sizes {
    fn of(nodes: &[NodeSpec]) -> Sizes {
        let mut sizes = BTreeMap::new();
        for node in nodes {
            *sizes.entry(node.gpus).or_default() += 1;
        }
        Sizes(sizes)
    }

    fn largest(&self) -> u16 {
        self.0.last_key_value().map_or(0, |(&gpus, _)| gpus)
    }

    fn at_least(&self, gpus: u16) -> u32 {
        self.0.range(gpus..).map(|(_, count)| count).sum()
    }

    /// Nodes × GPUs for a size of the trace: one node when it gives enough, else whole nodes of
    /// the largest kind. `None`: the fleet could not hold it, even empty.
    fn gang(&self, size: Size) -> Option<(u32, u16)> {
        let largest = self.largest();
        let (nodes, gpus_per_node) = match size {
            Size::Gang { nodes, gpus_per_node } => (nodes, gpus_per_node),
            Size::Gpus(gpus) if gpus <= u64::from(largest) => (1, gpus as u16),
            Size::Gpus(gpus) => {
                (u32::try_from(gpus.div_ceil(u64::from(largest).max(1))).ok()?, largest)
            }
        };
        (nodes <= self.at_least(gpus_per_node)).then_some((nodes, gpus_per_node))
    }
}

/// The jobs of the rows, and the rows that the fleet could never hold.
pub fn jobs(rows: &[Row], nodes: &[NodeSpec], rule: LimitRule) -> (Vec<TraceJob>, SkippedRows) {
    let sizes = Sizes::of(nodes);
    let mut skipped = SkippedRows::default();
    // Jobs alike share one spec: nothing but this makes them different to the core.
    let mut specs: BTreeMap<_, Arc<JobSpec>> = BTreeMap::new();
    let mut jobs = Vec::with_capacity(rows.len());
    for row in rows {
        let Some((gang_nodes, gpus_per_node)) = sizes.gang(row.size) else {
            skipped.add("it is larger than the fleet", row.line);
            continue;
        };
        let limit = rule.limit(row.duration, row.limit);
        let key = (gang_nodes, gpus_per_node, limit, row.priority, row.team.as_str());
        let spec = specs.entry(key).or_insert_with(|| {
            let mut spec = job::sample("trace", gang_nodes, gpus_per_node);
            // A rank a GPU would only make the reports longer.
            spec.ranks_per_node = 1;
            spec.team.clone_from(&row.team);
            spec.priority = row.priority;
            spec.time_limit = limit;
            spec.hang_timeout = Some(NO_HANG);
            Arc::new(spec)
        });
        jobs.push(TraceJob {
            line: row.line,
            id: row.id.clone(),
            user: if row.user.is_empty() { "trace".to_string() } else { row.user.clone() },
            submit: row.submit,
            duration: row.duration,
            gpus: row.size.gpus(),
            spec: Arc::clone(spec),
        });
    }
    (jobs, skipped)
}

/// The teams of the jobs with their shares of `fleet_gpus`, by name.
pub fn teams(jobs: &[TraceJob], fleet_gpus: u64, shares: TeamShares) -> Vec<Team> {
    let mut used: BTreeMap<&str, u128> = BTreeMap::new();
    for job in jobs.iter().filter(|job| !job.spec.team.is_empty()) {
        *used.entry(&job.spec.team).or_default() += job.gpu_ms();
    }
    let (count, total) = (used.len() as u64, used.values().sum::<u128>());
    let share = |gpu_ms: u128| match shares {
        TeamShares::None => 0,
        TeamShares::Equal => fleet_gpus / count.max(1),
        TeamShares::Usage => (u128::from(fleet_gpus) * gpu_ms / total.max(1)) as u64,
    };
    if shares == TeamShares::None {
        return Vec::new();
    }
    used.into_iter()
        .map(|(name, gpu_ms)| Team {
            name: name.to_string(),
            parent: String::new(),
            share: share(gpu_ms),
            limit: None,
        })
        .collect()
}
