//! What is to be otherwise.

use super::history::History;
use crate::twin::scenario::{Files, FleetScenario, Invalid};
use crate::twin::work::Every;
use crate::twin::{TwinJob, Work};
use lindos_model::file::nearest;
use lindos_model::job::CheckpointEvery;
use lindos_model::{JobSpec, Millis, Policy};
use std::sync::Arc;
use toml::{Table, Value};

/// Nodes that may be added: more than any fleet that we design for.
pub const NODES_MAX: u32 = 1_000_000;

#[derive(Clone, Debug)]
pub struct Change {
    /// Instead of each policy on record.
    pub policy: Option<Policy>,
    /// Keys of a policy, and their values.
    pub set: Vec<(String, Value)>,
    /// Of every job that saves its work.
    pub checkpoint_every: Option<CheckpointEvery>,
    /// Times as many faults.
    pub fault_rate: f64,
    /// Times as long until what broke is back.
    pub repair_time: f64,
    /// So many nodes more, or fewer.
    pub nodes: i64,
    pub jobs: Vec<TwinJob>,
}

impl Default for Change {
    fn default() -> Change {
        Change {
            policy: None,
            set: Vec::new(),
            checkpoint_every: None,
            fault_rate: 1.0,
            repair_time: 1.0,
            nodes: 0,
            jobs: Vec::new(),
        }
    }
}

/// What is wrong with a change, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadChange {
    pub message: String,
    pub hint: String,
}

impl BadChange {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> BadChange {
        BadChange { message: message.into(), hint: hint.into() }
    }
}

impl From<Invalid> for BadChange {
    fn from(invalid: Invalid) -> BadChange {
        let usual = "the keys of a job of the twin: docs/twin.md".to_string();
        BadChange { message: invalid.message, hint: invalid.hint.unwrap_or(usual) }
    }
}

/// `spares=2`, `queue=fifo`: a key of a policy and its value, as TOML has it; a word needs no quotes.
pub fn parse_set(text: &str) -> Result<(String, Value), String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err("write KEY=VALUE, such as spares=2".to_string());
    };
    let (key, value) = (key.trim(), value.trim());
    let line = format!("value = {value}");
    let parsed = line.parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let value = parsed.unwrap_or_else(|| Value::String(value.to_string()));
    Ok((key.to_string(), value))
}

impl Change {
    pub fn is_none(&self) -> bool {
        let Change { policy, set, checkpoint_every, fault_rate, repair_time, nodes, jobs } = self;
        let is_one = |factor: f64| (factor - 1.0).abs() < f64::EPSILON;
        policy.is_none()
            && set.is_empty()
            && checkpoint_every.is_none()
            && is_one(*fault_rate)
            && is_one(*repair_time)
            && *nodes == 0
            && jobs.is_empty()
    }

    /// Whether the very faults on record can strike under it: not when there are to be more.
    pub fn keeps_faults(&self) -> bool {
        (self.fault_rate - 1.0).abs() < f64::EPSILON
    }

    /// A policy on record, as it is under the change.
    ///
    /// # Errors
    ///
    /// If a key or a value is none of a policy.
    pub fn policy(&self, recorded: &Policy) -> Result<Policy, BadChange> {
        let mut policy = self.policy.clone().unwrap_or_else(|| recorded.clone());
        for (key, value) in &self.set {
            policy = set(&policy, key, value)?;
        }
        policy.validate().map_err(|invalid| {
            BadChange::new(format!("the policy: {invalid}"), "docs/queue.md says what is accepted")
        })?;
        Ok(policy)
    }

    pub(super) fn job(&self, spec: &Arc<JobSpec>, work: &Work) -> (Arc<JobSpec>, Work) {
        let (mut spec, mut work) = (Arc::clone(spec), work.clone());
        if let Some(every) = self.checkpoint_every.filter(|_| saves(&work)) {
            let with_it = JobSpec { checkpoint_every: Some(every), ..(*spec).clone() };
            spec = Arc::new(with_it);
            work.checkpoints.every = match every {
                CheckpointEvery::Auto => Every::Advised,
                CheckpointEvery::Given(span) => Every::Span(span),
            };
        }
        (spec, work)
    }

    /// # Errors
    ///
    /// If it makes no sense for this history.
    pub fn check(&self, history: &History) -> Result<(), BadChange> {
        self.policy(&history.policy)?;
        for (flag, factor) in
            [("--fault-rate", self.fault_rate), ("--repair-time", self.repair_time)]
        {
            if !(0.0..=1000.0).contains(&factor) {
                let message = format!("{flag} {factor}: a factor is from 0 to 1000");
                return Err(BadChange::new(message, "1 is as it was, 2 twice as much"));
            }
        }
        let there = i64::try_from(history.nodes.len()).unwrap_or(i64::MAX);
        if there + self.nodes < 1 || self.nodes > i64::from(NODES_MAX) {
            let message = format!("--nodes {:+}: the fleet has {there} nodes", self.nodes);
            return Err(BadChange::new(
                message,
                "at least one is left, and a million come at most",
            ));
        }
        if self.checkpoint_every == Some(CheckpointEvery::Given(Millis::ZERO)) {
            let message = "--checkpoint-every 0: a checkpoint comes after some time";
            return Err(BadChange::new(message, "such as 10m, or auto"));
        }
        if self.checkpoint_every.is_some() && !history.jobs.iter().any(|j| saves(&j.work.work)) {
            let message = "--checkpoint-every: no job of the recording has saved a checkpoint";
            return Err(BadChange::new(message, "how long one takes is not known then"));
        }
        Ok(())
    }

    /// In words, one for each thing that is otherwise.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        words.extend(self.policy.is_some().then(|| "another policy".to_string()));
        words.extend(self.set.iter().map(|(key, value)| format!("{key} = {value}")));
        words.extend(self.checkpoint_every.map(|every| match every {
            CheckpointEvery::Auto => "checkpoints as Lindos advises".to_string(),
            CheckpointEvery::Given(span) => format!("a checkpoint every {span}"),
        }));
        let is_other = |factor: f64| (factor - 1.0).abs() >= f64::EPSILON;
        if is_other(self.fault_rate) {
            words.push(format!("faults × {}", self.fault_rate));
        }
        if is_other(self.repair_time) {
            words.push(format!("repairs × {}", self.repair_time));
        }
        match self.nodes {
            0 => {}
            more @ 1.. => words.push(format!("{more} nodes more")),
            fewer => words.push(format!("{} nodes fewer", -fewer)),
        }
        words.extend(self.jobs.iter().map(|job| {
            format!("job {} more ({} nodes), from {}", job.spec.name, job.spec.nodes, {
                job.at.since(lindos_model::Time::ZERO)
            })
        }));
        words
    }
}

fn saves(work: &Work) -> bool {
    work.checkpoints.every != Every::Never
}

/// A policy with one key changed.
fn set(policy: &Policy, key: &str, value: &Value) -> Result<Policy, BadChange> {
    let mut table = Table::try_from(policy).map_err(|error| {
        BadChange::new(format!("the policy on record: {error}"), "that is a bug of Lindos")
    })?;
    if !table.contains_key(key) {
        let hint = match nearest(key, table.keys().map(String::as_str)) {
            Some(best) => format!("did you mean `{best}`?"),
            None => "docs/queue.md has the keys of a policy".to_string(),
        };
        return Err(BadChange::new(format!("--set {key}: a policy has no key `{key}`"), hint));
    }
    table.insert(key.to_string(), value.clone());
    table.try_into().map_err(|error: toml::de::Error| {
        let reason = error.message().lines().next().unwrap_or("it does not fit").to_string();
        BadChange::new(format!("--set {key}={value}: {reason}"), "docs/queue.md has the keys")
    })
}

/// The jobs of a file with `[[jobs]]` tables, as a fleet scenario has them, on the fleet of the
/// history; they come `after` its beginning.
pub fn added_jobs(
    history: &History,
    text: &str,
    after: Millis,
    files: Files,
) -> Result<Vec<TwinJob>, BadChange> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
        BadChange::new(error.to_string(), "one or more [[jobs]] tables, as in docs/twin.md")
    })?;
    if let Some(other) = table.keys().find(|key| *key != "jobs") {
        let message = format!("it has a key `{other}`, and only [[jobs]] are to be added");
        return Err(BadChange::new(message, "the keys of a job of the twin: docs/twin.md"));
    }
    let gpus = history.nodes.iter().map(|node| node.gpus).max().unwrap_or(1);
    let seconds = (history.span().0 / 1000).max(1);
    let rest = format!(
        "about = \"\"\nuntil = \"{seconds}s\"\n[fleet]\nnodes = {}\ngpus = {gpus}\n[faults]\n\
         profile = \"none\"\n",
        history.nodes.len()
    );
    let rest: Table = rest.parse().expect("it is TOML");
    table.extend(rest);
    let policy = Table::try_from(&history.policy).expect("a policy is plain data");
    table.insert("policy".to_string(), Value::Table(policy));
    let scenario = FleetScenario::of_table(table, files)?;
    let setup = scenario.setup(1).map_err(|error| BadChange::new(error.to_string(), ""))?;
    let later = |job: TwinJob| TwinJob { at: job.at + after, ..job };
    Ok(setup.jobs.into_iter().map(later).collect())
}
