//! A job: what a user asks for, as the file they write ([`JobFile`]) and as the core keeps it
//! ([`JobSpec`]).

use crate::file::{FileError, Source};
use crate::node::GPUS_PER_NODE_MAX;
use crate::{JobId, Level, Millis, report::Exit};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// More nodes than any fleet that we design for, so that a slip of the finger is caught early.
pub const GANG_NODES_MAX: u32 = 1_000_000;
/// Ranks in one gang; rank numbers and ports are counted in 32 bits with room to spare.
pub const RANKS_MAX: u64 = 16_000_000;
pub const RANKS_PER_NODE_MAX: u16 = 1024;
/// Jobs of one array.
pub const ARRAY_MAX: u32 = 100_000;
const AFTER_MAX: usize = 1000;
const NAME_MAX: usize = 64;
const PRIORITY_MAX: u32 = 1000;

/// How ranks learn who they are and where the others are. See `docs/launch-contract.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum LaunchMode {
    /// RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, … as `torchrun` sets them.
    #[default]
    Torchrun,
    /// Coordinator address, process count and process id for `jax.distributed`.
    Jax,
    /// The SLURM_* variables of a job step, and no RANK or MASTER_*.
    Slurm,
    /// Only the LINDOS_* variables.
    Plain,
}

/// A job as the core keeps it: checked, and with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    pub name: String,
    pub command: Vec<String>,
    /// Absolute path in which the ranks start.
    pub workdir: String,
    pub env: BTreeMap<String, String>,
    pub launch: LaunchMode,
    pub nodes: u32,
    /// The fewest nodes with which it may go on after a fault, when no more are to be had.
    pub min_nodes: u32,
    pub gpus_per_node: u16,
    pub ranks_per_node: u16,
    /// A gang, or each of its segments, lies within one place of this level.
    pub within: Level,
    /// The gang is cut into segments of so many nodes, and `within` holds for each of them.
    pub segment: Option<u32>,
    /// The gang is made of so many alike parts that train the same model on other data; 1: of one.
    /// One that is lost comes back while the others go on.
    #[serde(default = "one")]
    pub replicas: u32,
    /// The fewest of them that go on without the others.
    #[serde(default = "one")]
    pub replicas_min: u32,
    /// Whole free nodes near the gang that are kept for it while it runs, if there are any.
    #[serde(default)]
    pub spares: u32,
    /// Hardware designs that will do; empty: any. One gang is of one design.
    pub platforms: Vec<String>,
    /// Labels that each of its nodes has.
    pub labels: BTreeMap<String, String>,
    /// Names of nodes that it does not go to.
    pub exclude: BTreeSet<String>,
    /// Whose share it takes; empty: nobody's in particular.
    pub team: String,
    /// A priority class of the policy; empty: none.
    pub class: String,
    /// Higher goes first; within one priority, the older job does. A class has its own.
    pub priority: i32,
    /// Jobs that come before it.
    pub after: Vec<After>,
    /// So many jobs alike are submitted at once, numbered from 0.
    pub array: Option<u32>,
    pub time_limit: Option<Millis>,
    /// `None`: follows the job's own step time.
    pub hang_timeout: Option<Millis>,
    /// The longest wait for the first step. `None`: ten minutes for a job that is known to report
    /// steps (it has a pattern, or an earlier attempt reported some), and no limit for others.
    pub startup_timeout: Option<Millis>,
    /// A regular expression over the output with the groups `step` and, if it likes, `loss`.
    pub progress_pattern: Option<String>,
    /// Where checkpoints go; `None`: a folder of the job's own under the state folder.
    pub checkpoint_dir: Option<String>,
    /// How often it is told to save its work; `None`: it is told nothing.
    #[serde(default)]
    pub checkpoint_every: Option<CheckpointEvery>,
    pub retry_infrastructure: u32,
    pub retry_user: u32,
    /// Between SIGTERM and SIGKILL when the job is cancelled or its time is up.
    pub stop_grace: Millis,
    pub log_bytes_max: u64,
    pub log_files_max: u32,
    /// On so many of the spares its processes are started, and wait for a rank.
    #[serde(default)]
    pub warm_spares: u32,
    /// So they are on each node of the gang, beside its ranks, for the next start.
    #[serde(default)]
    pub warm_restarts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointEvery {
    /// As Lindos finds best: by what a checkpoint costs and how often faults come.
    Auto,
    Given(Millis),
}

fn one() -> u32 {
    1
}

/// A job waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    pub job: JobId,
    /// Whether it will do that the other is over, however it ended.
    pub any_end: bool,
}

impl JobSpec {
    /// The ranks of a gang of this many nodes.
    pub fn ranks(&self, nodes: u32) -> u32 {
        nodes * u32::from(self.ranks_per_node)
    }

    /// All rules, for whoever takes a job from a person: [`JobSpec::validate`], and that the
    /// pattern is one.
    pub fn validate_at_edge(&self) -> Result<(), Invalid> {
        self.validate()?;
        if let Some(pattern) = &self.progress_pattern {
            check_pattern(pattern)
                .map_err(|message| Invalid { key: "progress.pattern", message })?;
        }
        Ok(())
    }

    /// The rules that the core relies on. The first that is broken. Nothing of another crate's
    /// taste is among them: a replay must come to the same verdict in every version.
    pub fn validate(&self) -> Result<(), Invalid> {
        let bad = |key, message: String| Err(Invalid { key, message });
        if self.name.is_empty() || self.name.len() > NAME_MAX {
            return bad("name", format!("a name has 1 to {NAME_MAX} characters"));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !self.name.chars().all(is_plain) || self.name.starts_with('.') {
            return bad(
                "name",
                "a name has letters, digits, `-`, `_` and `.`, and does not begin with `.`".into(),
            );
        }
        if self.command.first().is_none_or(String::is_empty) {
            return bad("command", "the command is empty".into());
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            return bad("command", "the command has a NUL character in it".into());
        }
        if !self.workdir.starts_with('/') {
            return bad("workdir", format!("`{}` is not an absolute path", self.workdir));
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return bad("env", format!("`{name}` cannot be an environment variable"));
            }
        }
        if self.nodes == 0 || self.nodes > GANG_NODES_MAX {
            return bad("gang.nodes", format!("a gang has 1 to {GANG_NODES_MAX} nodes"));
        }
        if self.min_nodes == 0 || self.min_nodes > self.nodes {
            return bad("gang.min_nodes", format!("min_nodes is 1 to nodes ({})", self.nodes));
        }
        if self.gpus_per_node == 0 || self.gpus_per_node > GPUS_PER_NODE_MAX {
            return bad(
                "gang.gpus_per_node",
                format!("a node gives 1 to {GPUS_PER_NODE_MAX} GPUs"),
            );
        }
        if self.ranks_per_node == 0 || self.ranks_per_node > RANKS_PER_NODE_MAX {
            return bad(
                "gang.ranks_per_node",
                format!("a node runs 1 to {RANKS_PER_NODE_MAX} ranks of a job"),
            );
        }
        if u64::from(self.nodes) * u64::from(self.ranks_per_node) > RANKS_MAX {
            return bad("gang.ranks_per_node", format!("a gang has at most {RANKS_MAX} ranks"));
        }
        if let Some(segment) = self.segment {
            let whole = segment > 0 && self.nodes.is_multiple_of(segment);
            if !whole || !self.min_nodes.is_multiple_of(segment) {
                let message = format!(
                    "nodes ({}) and min_nodes ({}) must be whole segments",
                    self.nodes, self.min_nodes
                );
                return bad("gang.segment", message);
            }
        }
        self.validate_replicas()?;
        if self.after.len() > AFTER_MAX {
            return bad("after", format!("a job waits for at most {AFTER_MAX} others"));
        }
        if self.array.is_some_and(|size| size == 0 || size > ARRAY_MAX) {
            return bad("array", format!("an array has 1 to {ARRAY_MAX} jobs"));
        }
        if self.priority.unsigned_abs() > PRIORITY_MAX {
            return bad("priority", format!("a priority is -{PRIORITY_MAX} to {PRIORITY_MAX}"));
        }
        for (key, span) in [
            ("time_limit", self.time_limit),
            ("progress.hang_timeout", self.hang_timeout),
            ("progress.startup_timeout", self.startup_timeout),
            ("checkpoint.every", self.checkpoint_given()),
        ] {
            if span == Some(Millis::ZERO) {
                return bad(key, "it must be longer than zero".into());
            }
        }
        if self.log_bytes_max < 4096 || self.log_files_max == 0 {
            return bad("logs", "a log keeps at least 4096 bytes and 1 file".into());
        }
        Ok(())
    }
}

impl JobSpec {
    /// The keys that jobs in older journals do not have, in their order there.
    pub fn later_keys(&self) -> (u32, bool) {
        (self.warm_spares, self.warm_restarts)
    }

    fn checkpoint_given(&self) -> Option<Millis> {
        match self.checkpoint_every? {
            CheckpointEvery::Auto => None,
            CheckpointEvery::Given(every) => Some(every),
        }
    }

    fn validate_replicas(&self) -> Result<(), Invalid> {
        let bad = |key, message: String| Err(Invalid { key, message });
        if self.replicas == 0 || !self.nodes.is_multiple_of(self.replicas) {
            let (nodes, replicas) = (self.nodes, self.replicas);
            let message = format!("{nodes} nodes cannot be shared by {replicas} replicas evenly");
            return bad("gang.replicas", message);
        }
        if self.replicas_min == 0 || self.replicas_min > self.replicas {
            return bad("gang.min_replicas", format!("it must be 1 to {}", self.replicas));
        }
        if self.replicas > 1 && self.min_nodes != self.nodes {
            let message = "a gang of replicas has all its nodes; say min_replicas instead".into();
            return bad("gang.min_nodes", message);
        }
        if self.spares > self.nodes {
            return bad("gang.spares", format!("at most one for each of {} nodes", self.nodes));
        }
        if self.warm_spares > self.spares {
            let message = format!("they are among the {} spares (gang.spares)", self.spares);
            return bad("gang.warm_spares", message);
        }
        Ok(())
    }
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    let regex = regex::Regex::new(pattern).map_err(|error| {
        error.to_string().lines().last().unwrap_or("not a regular expression").to_string()
    })?;
    if regex.capture_names().flatten().any(|name| name == "step") {
        Ok(())
    } else {
        Err("the pattern has no group named `step`: write (?<step>\\d+) where the number is".into())
    }
}

/// A rule of [`JobSpec::validate`] that a job breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{key}: {message}")]
pub struct Invalid {
    #[serde(skip, default)]
    pub key: &'static str,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    #[default]
    Queued,
    /// Launched; not all of its ranks run yet.
    Starting,
    Running,
    /// Its processes are being stopped; it is queued again or ends after that.
    Stopping,
    Completed,
    Failed,
    Cancelled,
}

impl JobState {
    pub fn is_final(self) -> bool {
        matches!(self, JobState::Completed | JobState::Failed | JobState::Cancelled)
    }

    pub fn name(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Starting => "starting",
            JobState::Running => "running",
            JobState::Stopping => "stopping",
            JobState::Completed => "completed",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A span of time as people write it: `"30s"`, `"2h 30m"`, `"1 day"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanSpan(pub Millis);

impl<'de> Deserialize<'de> for HumanSpan {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_span(&text).map(HumanSpan).map_err(serde::de::Error::custom)
    }
}

impl Serialize for HumanSpan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}ms", self.0.0))
    }
}

/// Reads a span of time with a unit; days are 24 hours.
pub fn parse_span(text: &str) -> Result<Millis, String> {
    let wrong = || format!("`{text}` is not a span of time such as \"30s\", \"10m\" or \"2h 30m\"");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let total = span
        .total(jiff::SpanTotal::from(jiff::Unit::Millisecond).days_are_24_hours())
        .map_err(|_| wrong())?;
    if !(0.0..=3.2e14).contains(&total) {
        return Err(format!("`{text}` is negative, or longer than 10,000 years"));
    }
    Ok(Millis(total as u64))
}

/// The job file: see `docs/job-file.md`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobFile {
    pub name: String,
    pub command: Vec<String>,
    /// Run once, where the job is submitted, before it is.
    pub prepare: Option<Vec<String>>,
    /// Relative to the job file's folder.
    pub workdir: Option<String>,
    #[serde(default)]
    pub launch: LaunchMode,
    #[serde(default)]
    pub team: String,
    #[serde(default)]
    pub class: String,
    #[serde(default)]
    pub priority: i32,
    /// Jobs that must have completed before it starts.
    #[serde(default)]
    pub after: Vec<u64>,
    /// Jobs that must be over before it starts, however they end.
    #[serde(default)]
    pub after_any: Vec<u64>,
    pub array: Option<u32>,
    pub time_limit: Option<HumanSpan>,
    pub gang: GangTable,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub progress: ProgressTable,
    #[serde(default)]
    pub checkpoint: CheckpointTable,
    #[serde(default)]
    pub retry: RetryTable,
    #[serde(default)]
    pub stop: StopTable,
    #[serde(default)]
    pub logs: LogsTable,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GangTable {
    pub nodes: u32,
    pub min_nodes: Option<u32>,
    pub gpus_per_node: u16,
    pub ranks_per_node: Option<u16>,
    #[serde(default)]
    pub within: Level,
    pub segment: Option<u32>,
    pub replicas: Option<u32>,
    pub min_replicas: Option<u32>,
    /// Default: the warm ones.
    pub spares: Option<u32>,
    #[serde(default)]
    pub warm_spares: u32,
    #[serde(default)]
    pub warm_restarts: bool,
    #[serde(default)]
    pub platforms: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub exclude: BTreeSet<String>,
}

/// The fewest replicas that are more than half: what is left can never be two parties.
fn most_of(replicas: Option<u32>) -> u32 {
    replicas.unwrap_or(1) / 2 + 1
}

fn after(jobs: &[u64], any_end: bool) -> impl Iterator<Item = After> + '_ {
    jobs.iter().map(move |&job| After { job: JobId(job), any_end })
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct ProgressTable {
    pub pattern: Option<String>,
    pub hang_timeout: Option<HumanSpan>,
    pub startup_timeout: Option<HumanSpan>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct CheckpointTable {
    pub dir: Option<String>,
    /// A span of time, or `auto`.
    #[serde(default, deserialize_with = "checkpoint_every")]
    pub every: Option<CheckpointEvery>,
}

fn checkpoint_every<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<CheckpointEvery>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "auto" {
        return Ok(Some(CheckpointEvery::Auto));
    }
    let span = parse_span(&text).map_err(|message| {
        serde::de::Error::custom(format!("{message}, and not \"auto\" either"))
    })?;
    Ok(Some(CheckpointEvery::Given(span)))
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct RetryTable {
    pub infrastructure: Option<u32>,
    pub user: Option<u32>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct StopTable {
    pub grace: Option<HumanSpan>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct LogsTable {
    pub bytes_max: Option<u64>,
    pub files_max: Option<u32>,
}

const STOP_GRACE: Millis = Millis::from_secs(10);
/// A fault every few hours for months is ordinary for a large job; a loop of faults is not.
const RETRY_INFRASTRUCTURE: u32 = 1000;
/// One, because a first failure may be chance; a bug fails the same way again.
const RETRY_USER: u32 = 1;
const LOG_BYTES_MAX: u64 = 64 << 20;
const LOG_FILES_MAX: u32 = 4;

impl JobFile {
    /// The job in the text of the file at `path`, which must be absolute for `workdir`'s sake,
    /// and the command that prepares it.
    pub fn parse(path: &Path, text: &str) -> Result<(JobSpec, Option<Vec<String>>), FileError> {
        let source = Source { path, text };
        let file: JobFile = source.parse()?;
        let prepare = file.prepare.clone();
        let spec = file.into_spec(path.parent().unwrap_or(Path::new("/")));
        spec.validate_at_edge().map_err(|invalid| {
            source.error_at_key(invalid.key, format!("{}: {}", invalid.key, invalid.message), None)
        })?;
        Ok((spec, prepare))
    }

    fn into_spec(self, folder: &Path) -> JobSpec {
        let joined = folder.join(self.workdir.as_deref().unwrap_or("."));
        let span = |given: Option<HumanSpan>| given.map(|HumanSpan(span)| span);
        JobSpec {
            name: self.name,
            command: self.command,
            workdir: normalized(&joined),
            env: self.env,
            launch: self.launch,
            nodes: self.gang.nodes,
            min_nodes: self.gang.min_nodes.unwrap_or(self.gang.nodes),
            gpus_per_node: self.gang.gpus_per_node,
            ranks_per_node: self.gang.ranks_per_node.unwrap_or(self.gang.gpus_per_node),
            within: self.gang.within,
            segment: self.gang.segment,
            replicas: self.gang.replicas.unwrap_or(1),
            // Those that are left of more than half are never two parties.
            replicas_min: self.gang.min_replicas.unwrap_or(most_of(self.gang.replicas)),
            spares: self.gang.spares.unwrap_or(self.gang.warm_spares),
            platforms: self.gang.platforms,
            labels: self.gang.labels,
            exclude: self.gang.exclude,
            team: self.team,
            class: self.class,
            priority: self.priority,
            after: after(&self.after, false).chain(after(&self.after_any, true)).collect(),
            array: self.array,
            time_limit: span(self.time_limit),
            hang_timeout: span(self.progress.hang_timeout),
            startup_timeout: span(self.progress.startup_timeout),
            progress_pattern: self.progress.pattern,
            checkpoint_every: self.checkpoint.every,
            checkpoint_dir: self.checkpoint.dir.map(|dir| normalized(&folder.join(dir))),
            retry_infrastructure: self.retry.infrastructure.unwrap_or(RETRY_INFRASTRUCTURE),
            retry_user: self.retry.user.unwrap_or(RETRY_USER),
            stop_grace: span(self.stop.grace).unwrap_or(STOP_GRACE),
            log_bytes_max: self.logs.bytes_max.unwrap_or(LOG_BYTES_MAX),
            log_files_max: self.logs.files_max.unwrap_or(LOG_FILES_MAX),
            warm_spares: self.gang.warm_spares,
            warm_restarts: self.gang.warm_restarts,
        }
    }
}

/// The path without `.` and `..`, by its text alone: the folder may be on another machine.
fn normalized(path: &Path) -> String {
    use std::path::Component;
    let mut clean = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean.to_string_lossy().into_owned()
}

/// A small job for tests and simulations, to be changed field by field.
pub fn sample(name: &str, nodes: u32, gpus_per_node: u16) -> JobSpec {
    JobSpec {
        name: name.to_string(),
        command: vec!["true".to_string()],
        workdir: "/".to_string(),
        env: BTreeMap::new(),
        launch: LaunchMode::Torchrun,
        nodes,
        min_nodes: nodes,
        gpus_per_node,
        ranks_per_node: gpus_per_node,
        within: Level::Fleet,
        segment: None,
        replicas: 1,
        replicas_min: 1,
        spares: 0,
        platforms: Vec::new(),
        labels: BTreeMap::new(),
        exclude: BTreeSet::new(),
        team: String::new(),
        class: String::new(),
        priority: 0,
        after: Vec::new(),
        array: None,
        time_limit: None,
        hang_timeout: None,
        startup_timeout: None,
        progress_pattern: None,
        checkpoint_dir: None,
        checkpoint_every: None,
        retry_infrastructure: RETRY_INFRASTRUCTURE,
        retry_user: RETRY_USER,
        stop_grace: STOP_GRACE,
        log_bytes_max: LOG_BYTES_MAX,
        log_files_max: LOG_FILES_MAX,
        warm_spares: 0,
        warm_restarts: false,
    }
}

impl Exit {
    /// The exit of a command that could not be executed.
    pub fn not_started(reason: impl Into<String>) -> Exit {
        Exit::NotStarted(reason.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "name = \"a\"\ncommand = [\"x\"]\n[gang]\nnodes = 2\ngpus_per_node = 4\n";

    fn parse(text: &str) -> Result<JobSpec, String> {
        JobFile::parse(Path::new("/home/me/job.toml"), text)
            .map(|(spec, _)| spec)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_smallest_job_gets_its_defaults() {
        let spec = parse(MINIMAL).unwrap();
        assert_eq!((spec.nodes, spec.min_nodes, spec.ranks_per_node), (2, 2, 4));
        assert_eq!(spec.workdir, "/home/me");
        assert_eq!(spec.launch, LaunchMode::Torchrun);
    }

    #[test]
    fn spares_are_as_many_as_are_warm_unless_more_are_asked_for() {
        let spares = |more: &str| {
            let spec = parse(&format!("{MINIMAL}{more}")).unwrap();
            (spec.spares, spec.warm_spares, spec.warm_restarts)
        };
        assert_eq!(spares(""), (0, 0, false));
        assert_eq!(spares("warm_spares = 1\n"), (1, 1, false));
        assert_eq!(spares("spares = 2\nwarm_spares = 1\nwarm_restarts = true\n"), (2, 1, true));
    }

    #[test]
    fn folders_are_relative_to_the_file() {
        let text = format!("workdir = \"../run\"\n{MINIMAL}[checkpoint]\ndir = \"ckpt\"\n");
        let spec = parse(&text).unwrap();
        assert_eq!(spec.workdir, "/home/run");
        assert_eq!(spec.checkpoint_dir.unwrap(), "/home/me/ckpt");
    }

    #[test]
    fn nonsense_is_pointed_at() {
        let cases = [
            (MINIMAL.replace("nodes = 2", "nodes = 0"), "gang.nodes: a gang has 1 to"),
            (MINIMAL.replace("nodes = 2", "nodes = -2"), "4:9: invalid value"),
            (MINIMAL.replace("nodes = 2", "nodes = 99999999999999999999"), "4:9"),
            (MINIMAL.replace("= 4", "= 65"), "gives 1 to 64 GPUs"),
            (MINIMAL.replace("[\"x\"]", "[]"), "2:11: command: the command is empty"),
            (MINIMAL.replace("\"a\"", "\"a/b\""), "1:8: name"),
            (MINIMAL.replace("name =", "nmae ="), "did you mean `name`?"),
            (format!("launch = \"torchrn\"\n{MINIMAL}"), "did you mean `torchrun`?"),
            (format!("time_limit = \"soon\"\n{MINIMAL}"), "not a span of time"),
            (format!("time_limit = \"-5s\"\n{MINIMAL}"), "negative"),
            (format!("time_limit = \"0s\"\n{MINIMAL}"), "longer than zero"),
            (format!("priority = 1001\n{MINIMAL}"), "a priority is"),
            (format!("{MINIMAL}[progress]\npattern = \"(\"\n"), "progress.pattern"),
            (format!("{MINIMAL}[progress]\npattern = \"x\"\n"), "no group named `step`"),
            (format!("{MINIMAL}min_nodes = 3\n"), "min_nodes is 1 to nodes (2)"),
            (format!("{MINIMAL}spares = 1\nwarm_spares = 2\n"), "among the 1 spares"),
            (format!("{MINIMAL}warm_spares = 3\n"), "at most one for each of 2 nodes"),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{text}\ngave\n{error}\nwithout {expected}");
        }
    }

    #[test]
    fn spans_of_time_have_units() {
        assert_eq!(parse_span("2h 30m").unwrap(), Millis(9_000_000));
        assert_eq!(parse_span("1 day").unwrap(), Millis(86_400_000));
        assert_eq!(parse_span("1.5s").unwrap(), Millis(1500));
        assert!(parse_span("30").is_err());
        assert!(parse_span("99999999999 years").is_err());
    }
}
