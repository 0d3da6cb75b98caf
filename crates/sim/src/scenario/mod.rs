//! A scenario: a fleet, jobs and faults in a file that a person writes, and the transcript of
//! what came of it.

mod fault_table;
mod write;

pub use fault_table::{FaultName, FaultTable};
pub(crate) use write::fault_words;
pub use write::to_text;

use crate::fault::{Fault, FaultKind, Network};
use crate::script::{Bug, Script};
use crate::world::{Outcome, Setup, SimJob, SimReservation};
use lindos_model::file::{FileError, Source};
use lindos_model::fleet::{NodeGroup, expand};
use lindos_model::job::HumanSpan;
use lindos_model::node::GPUS_PER_NODE_MAX;
use lindos_model::reservation::Purpose;
use lindos_model::{Columns, Level, Millis, NodeSpec, Policy, Time, TrailEntry, TrailKind, job};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// The key that is wrong, and how.
type Invalid = (&'static str, String);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a sentence or two.
    pub about: String,
    #[serde(default)]
    pub seed: u64,
    /// Every job is over by then.
    pub limit: HumanSpan,
    pub heal: Option<HumanSpan>,
    #[serde(default)]
    pub policy: Policy,
    /// What the control plane may be upgraded to.
    #[serde(default)]
    pub policies: Vec<Policy>,
    /// A standby reads what is new in the journal so often.
    pub standby: Option<HumanSpan>,
    /// Agents report so often; every second when not given.
    pub heartbeat: Option<HumanSpan>,
    #[serde(default)]
    pub nodes: Vec<NodeGroup>,
    /// More nodes, one by one.
    #[serde(default)]
    pub machines: Vec<NodeSpec>,
    pub jobs: Vec<JobTable>,
    #[serde(default)]
    pub reservations: Vec<ReservationTable>,
    #[serde(default)]
    pub faults: Vec<FaultTable>,
    #[serde(default)]
    pub network: NetworkTable,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobTable {
    pub name: String,
    pub at: Option<HumanSpan>,
    pub nodes: u32,
    pub min_nodes: Option<u32>,
    pub gpus_per_node: u16,
    /// As many as GPUs when not given.
    pub ranks_per_node: Option<u16>,
    pub replicas: Option<u32>,
    pub min_replicas: Option<u32>,
    /// As many as are warm when not given.
    pub spares: Option<u32>,
    #[serde(default)]
    pub warm_spares: u32,
    #[serde(default)]
    pub warm_restarts: bool,
    #[serde(default)]
    pub within: Level,
    pub segment: Option<u32>,
    #[serde(default)]
    pub platforms: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub exclude: BTreeSet<String>,
    #[serde(default)]
    pub team: String,
    #[serde(default)]
    pub class: String,
    #[serde(default)]
    pub priority: i32,
    /// Names of jobs that must have completed before it starts …
    #[serde(default)]
    pub after: Vec<String>,
    /// … or must be over, however they end.
    #[serde(default)]
    pub after_any: Vec<String>,
    pub array: Option<u32>,
    pub time_limit: Option<HumanSpan>,
    pub retry_user: Option<u32>,
    pub retry_infrastructure: Option<u32>,
    pub steps: u64,
    pub step: HumanSpan,
    pub startup: Option<HumanSpan>,
    /// What is left of it for ranks that have waited for theirs. Given: its program can wait.
    pub startup_warm: Option<HumanSpan>,
    #[serde(default)]
    pub checkpoint_every: u64,
    pub checkpoint: Option<HumanSpan>,
    #[serde(default = "yes")]
    pub reports: bool,
    /// It exits with status 1 at this step …
    pub bug_at_step: Option<u64>,
    /// … in its first so many attempts (all, when not given).
    pub bug_attempts: Option<u32>,
    /// Its loss is no number from this step on …
    pub loss_breaks_at_step: Option<u64>,
    /// … in its first so many attempts (all, when not given).
    pub loss_breaks_attempts: Option<u32>,
}

fn yes() -> bool {
    true
}

/// Nodes that are set aside: either `team` or `maintenance = true`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservationTable {
    pub name: String,
    /// When an operator asks for it.
    pub at: Option<HumanSpan>,
    pub team: Option<String>,
    #[serde(default)]
    pub maintenance: bool,
    pub nodes: Vec<String>,
    pub from: HumanSpan,
    pub lasts: HumanSpan,
    /// When it is called off.
    pub cancel_at: Option<HumanSpan>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkTable {
    pub delay_min_ms: u64,
    pub delay_max_ms: u64,
    /// Of a million messages.
    pub lost_ppm: u32,
    pub repeated_ppm: u32,
}

impl Default for NetworkTable {
    fn default() -> Self {
        NetworkTable { delay_min_ms: 1, delay_max_ms: 1, lost_ppm: 0, repeated_ppm: 0 }
    }
}

impl Scenario {
    pub fn parse(path: &Path, text: &str) -> Result<(Scenario, Setup), FileError> {
        let source = Source { path, text };
        let scenario: Scenario = source.parse()?;
        let setup =
            scenario.setup().map_err(|(key, message)| source.error_at_key(key, message, None))?;
        Ok((scenario, setup))
    }

    fn setup(&self) -> Result<Setup, Invalid> {
        let nodes = self.all_nodes()?;
        let jobs = self.jobs.iter().map(JobTable::job).collect::<Result<Vec<_>, _>>()?;
        for (index, job) in jobs.iter().enumerate() {
            if jobs[..index].iter().any(|other| other.spec.name == job.spec.name) {
                return Err(("jobs", format!("two jobs are named `{}`", job.spec.name)));
            }
        }
        for job in &jobs {
            if let Some((name, _)) =
                job.after.iter().find(|(name, _)| !jobs.iter().any(|j| j.spec.name == *name))
            {
                return Err(("jobs", format!("there is no job `{name}`")));
            }
        }
        self.policy.validate().map_err(|invalid| ("policy", invalid.to_string()))?;
        for policy in &self.policies {
            policy.validate().map_err(|invalid| ("policies", invalid.to_string()))?;
        }
        let mut faults = Vec::new();
        for fault in &self.faults {
            let kind = fault.kind().map_err(|key| {
                ("faults", format!("a fault of the kind {:?} wants the key `{key}`", fault.kind))
            })?;
            faults.push(Fault { at: at(fault.at), kind });
        }
        for fault in &faults {
            let (job, node) = fault.kind.names();
            if job.is_some_and(|name| !jobs.iter().any(|job| job.spec.name == name)) {
                return Err(("faults", format!("there is no job `{}`", job.unwrap_or_default())));
            }
            if node.is_some_and(|name| !nodes.iter().any(|node| node.name == name)) {
                return Err(("faults", format!("there is no node `{}`", node.unwrap_or_default())));
            }
            if let Some(branch) = fault.kind.branch()
                && !nodes.iter().any(|node| branch.has(node))
            {
                return Err(("faults", format!("no node stands in `{}`", branch.name())));
            }
            if let FaultKind::Upgrade { policy: Some(policy), .. } = &fault.kind
                && self.policies.len() <= *policy as usize
            {
                let count = self.policies.len();
                return Err((
                    "faults",
                    format!("there is no policy {policy}: `policies` has {count}"),
                ));
            }
        }
        for (key, span) in [("standby", self.standby), ("heartbeat", self.heartbeat)] {
            if span.is_some_and(|span| span.0 == Millis::ZERO) {
                return Err((key, "it takes time".into()));
            }
        }
        let reservations = self.reservations(&nodes)?;
        if self.network.delay_min_ms > self.network.delay_max_ms {
            return Err(("network", "delay_min_ms is above delay_max_ms".into()));
        }
        Ok(Setup {
            seed: self.seed,
            policy: self.policy.clone(),
            policies: self.policies.clone(),
            standby: self.standby.map(|span| span.0),
            nodes,
            jobs,
            reservations,
            faults,
            network: Network {
                delay_min: Millis(self.network.delay_min_ms),
                delay_max: Millis(self.network.delay_max_ms),
                lost_ppm: self.network.lost_ppm,
                repeated_ppm: self.network.repeated_ppm,
            },
            heartbeat: self.heartbeat.map_or(Millis(1000), |span| span.0),
            healed_at: self.heal.map(at),
            limit: at(self.limit),
            plant: None,
        })
    }
}

impl Scenario {
    /// Those of the groups, then the single ones.
    fn all_nodes(&self) -> Result<Vec<NodeSpec>, Invalid> {
        let mut nodes = match &self.nodes[..] {
            [] if !self.machines.is_empty() => Vec::new(),
            groups => expand(groups).map_err(|message| ("nodes", message))?,
        };
        let mut names: BTreeSet<String> = nodes.iter().map(|node| node.name.clone()).collect();
        for machine in &self.machines {
            if !names.insert(machine.name.clone()) {
                return Err(("machines", format!("two nodes are named `{}`", machine.name)));
            }
            if machine.gpus == 0 || machine.gpus > GPUS_PER_NODE_MAX {
                let name = &machine.name;
                let message = format!("{name}: a node has 1 to {GPUS_PER_NODE_MAX} GPUs");
                return Err(("machines", message));
            }
        }
        nodes.extend(self.machines.iter().cloned());
        Ok(nodes)
    }

    /// Those that the control plane would take: a run in which it refuses one is a failure.
    fn reservations(&self, nodes: &[NodeSpec]) -> Result<Vec<SimReservation>, Invalid> {
        let mut made: Vec<SimReservation> = Vec::new();
        for table in &self.reservations {
            let name = &table.name;
            let invalid = |message: String| ("reservations", format!("{name}: {message}"));
            let one = table.reservation().map_err(invalid)?;
            if let Some(node) = one.nodes.iter().find(|name| nodes.iter().all(|n| n.name != **name))
            {
                return Err(invalid(format!("there is no node `{node}`")));
            }
            if let Purpose::Team(team) = &one.purpose
                && !self.policy.teams.is_empty()
                && self.policy.teams.iter().all(|known| known.name != *team)
            {
                return Err(invalid(format!("there is no team `{team}`")));
            }
            if let Some((other, node)) = made.iter().find_map(|other| conflict(&one, other)) {
                return Err(invalid(match node {
                    Some(node) => format!("{node} is reserved already, by `{other}`"),
                    None => "two reservations have this name".to_string(),
                }));
            }
            made.push(one);
        }
        Ok(made)
    }
}

/// The other reservation, and the node that both want; no node if they have the same name.
fn conflict<'a>(
    one: &'a SimReservation,
    other: &'a SimReservation,
) -> Option<(&'a str, Option<&'a str>)> {
    let is_apart = one.at >= other.until || other.at >= one.until;
    if one.name == other.name {
        return Some((&other.name, None));
    }
    let shared = one.nodes.iter().find(|node| other.nodes.contains(node));
    shared.filter(|_| !is_apart).map(|node| (other.name.as_str(), Some(node.as_str())))
}

impl ReservationTable {
    fn reservation(&self) -> Result<SimReservation, String> {
        let purpose = match (&self.team, self.maintenance) {
            (Some(team), false) => Purpose::Team(team.clone()),
            (None, true) => Purpose::Maintenance,
            _ => return Err("it is for a `team`, or `maintenance = true`".to_string()),
        };
        let unique: BTreeSet<&String> = self.nodes.iter().collect();
        if unique.is_empty() || unique.len() != self.nodes.len() {
            return Err("it names no node, or one twice".to_string());
        }
        let (asked_at, from) = (self.at.map_or(Time::ZERO, at), at(self.from));
        let until = from + self.lasts.0;
        if until <= from || until <= asked_at {
            return Err("it is over before it begins, or before it is asked for".to_string());
        }
        Ok(SimReservation {
            at: asked_at,
            name: self.name.clone(),
            purpose,
            nodes: self.nodes.clone(),
            from,
            until,
            cancel_at: self.cancel_at.map(at),
        })
    }
}

fn at(span: HumanSpan) -> Time {
    Time(span.0.0)
}

impl JobTable {
    fn job(&self) -> Result<SimJob, Invalid> {
        let mut spec = job::sample(&self.name, self.nodes, self.gpus_per_node);
        spec.min_nodes = self.min_nodes.unwrap_or(self.nodes);
        spec.ranks_per_node = self.ranks_per_node.unwrap_or(spec.ranks_per_node);
        spec.replicas = self.replicas.unwrap_or(spec.replicas);
        // The same as in a job file: more than half.
        spec.replicas_min = self.min_replicas.unwrap_or(spec.replicas / 2 + 1);
        spec.spares = self.spares.unwrap_or(self.warm_spares);
        spec.warm_spares = self.warm_spares;
        spec.warm_restarts = self.warm_restarts;
        spec.within = self.within;
        spec.segment = self.segment;
        spec.platforms.clone_from(&self.platforms);
        spec.labels.clone_from(&self.labels);
        spec.exclude.clone_from(&self.exclude);
        spec.team.clone_from(&self.team);
        spec.class.clone_from(&self.class);
        spec.priority = self.priority;
        spec.array = self.array;
        spec.time_limit = self.time_limit.map(|HumanSpan(span)| span);
        spec.retry_user = self.retry_user.unwrap_or(spec.retry_user);
        spec.retry_infrastructure = self.retry_infrastructure.unwrap_or(spec.retry_infrastructure);
        if self.reports {
            spec.progress_pattern = Some("step (?<step>[0-9]+)".into());
        }
        spec.validate_at_edge().map_err(|invalid| ("jobs", format!("{}: {invalid}", self.name)))?;
        if self.step.0 == Millis::ZERO || self.steps == 0 {
            return Err(("jobs", format!("{}: a job has steps, and a step takes time", self.name)));
        }
        let span =
            |given: Option<HumanSpan>, default| given.map_or(default, |HumanSpan(span)| span);
        let startup = span(self.startup, Millis::from_secs(5));
        let startup_warm = span(self.startup_warm, startup);
        if startup_warm > startup {
            let message = format!("{}: startup_warm is a part of startup", self.name);
            return Err(("jobs", message));
        }
        Ok(SimJob {
            at: self.at.map_or(Time::ZERO, at),
            spec: Arc::new(spec),
            after: self.comes_after(),
            script: Script {
                startup,
                saved_warm: startup - startup_warm,
                stands_by: self.startup_warm.is_some(),
                steps: self.steps,
                step: self.step.0,
                checkpoint_every: self.checkpoint_every,
                checkpoint: span(self.checkpoint, Millis::ZERO),
                reports: self.reports,
                bug: bug(self.bug_at_step, self.bug_attempts),
                loss_breaks: bug(self.loss_breaks_at_step, self.loss_breaks_attempts),
            },
        })
    }
}

fn bug(at_step: Option<u64>, attempts: Option<u32>) -> Option<Bug> {
    at_step.map(|step| Bug { step, attempts: attempts.unwrap_or(u32::MAX) })
}

impl JobTable {
    fn comes_after(&self) -> Vec<(String, bool)> {
        let completed = self.after.iter().map(|name| (name.clone(), false));
        completed.chain(self.after_any.iter().map(|name| (name.clone(), true))).collect()
    }
}

/// The trail (without each rank's start), the jobs and the ledger in words: what `lindos sim run` prints, and what the
/// transcripts beside the scenarios hold.
pub fn transcript(about: &str, outcome: &Outcome) -> String {
    let mut text = String::new();
    for line in about.trim().lines() {
        writeln!(text, "# {}", line.trim()).expect("a string takes all");
    }
    text.push('\n');
    let told = |entry: &&TrailEntry| !matches!(entry.what, TrailKind::RankStarted { .. });
    for entry in outcome.trail.iter().filter(told) {
        writeln!(text, "{}", trail_line(entry)).expect("a string takes all");
    }
    text.push('\n');
    for job in &outcome.jobs {
        let attempts = counted(job.attempts, "attempt");
        let faults = counted(job.faults, "fault");
        let (id, name, state) = (job.job, &job.name, job.state);
        writeln!(text, "job {id} {name}: {state} after {attempts}, {faults}")
            .expect("a string takes all");
    }
    let ended = outcome.ended_at.since(Time::ZERO);
    writeln!(text, "\n{ended} of fleet time:").expect("a string takes all");
    text.push_str(&ledger_table(&outcome.ledger));
    text
}

fn counted(count: u32, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

fn trail_line(entry: &TrailEntry) -> String {
    format!("{}  {entry}", clock(entry.at))
}

/// Virtual time as `h:mm:ss.mmm`.
pub(crate) fn clock(at: Time) -> String {
    let ms = at.0;
    format!("{}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

/// One line a column that is not empty: GPU-milliseconds, and its share of all.
pub fn ledger_table(columns: &Columns) -> String {
    let total = columns.total();
    let mut text = String::new();
    for (column, gpu_ms) in columns.iter().filter(|&(_, gpu_ms)| gpu_ms > 0) {
        let share = gpu_ms as f64 * 100.0 / total as f64;
        writeln!(text, "  {:<12} {gpu_ms:>16} GPU-ms {share:>6.2}%", column.name())
            .expect("a string takes all");
    }
    writeln!(text, "  {:<12} {total:>16} GPU-ms", "total").expect("a string takes all");
    text
}
