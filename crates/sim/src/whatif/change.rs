//! What is to be otherwise.

use super::fit::never_fit;
use super::history::History;
use super::words::grouped;
use crate::twin::scenario::{Files, FleetScenario, Invalid};
use crate::twin::work::Every;
use crate::twin::{TwinJob, Work};
use lindos_model::file::nearest;
use lindos_model::job::CheckpointEvery;
use lindos_model::{JobSpec, Millis, NodeSpec, Policy};
use std::sync::Arc;
use toml::{Table, Value};

/// Nodes that may be added: more than any fleet that we design for.
pub const NODES_MAX: u32 = 1_000_000;
/// Of jobs that have no place, so many are named.
const NAMED_MAX: usize = 5;

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
    /// Another fleet altogether.
    pub fleet: Option<OtherFleet>,
    pub jobs: Vec<TwinJob>,
}

#[derive(Clone, Debug)]
pub struct OtherFleet {
    /// As people call it.
    pub name: String,
    pub nodes: Vec<NodeSpec>,
}

impl OtherFleet {
    pub fn gpus(&self) -> u64 {
        self.nodes.iter().map(|node| u64::from(node.gpus)).sum()
    }
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
            fleet: None,
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
        let Change { policy, set, checkpoint_every, fault_rate, repair_time, .. } = self;
        let is_one = |factor: f64| (factor - 1.0).abs() < f64::EPSILON;
        policy.is_none()
            && set.is_empty()
            && checkpoint_every.is_none()
            && is_one(*fault_rate)
            && is_one(*repair_time)
            && self.nodes == 0
            && self.fleet.is_none()
            && self.jobs.is_empty()
    }

    /// Whether the very faults on record can strike under it: not when there are to be more, nor when
    /// their nodes are not there.
    pub fn keeps_faults(&self, history: &History) -> bool {
        let is_same_fleet = self.fleet.is_none() || history.incidents.is_empty();
        is_same_fleet && (self.fault_rate - 1.0).abs() < f64::EPSILON
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
        if let Some(fleet) = &self.fleet {
            self.check_fleet(fleet, history)?;
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

    fn check_fleet(&self, fleet: &OtherFleet, history: &History) -> Result<(), BadChange> {
        if self.nodes != 0 {
            let message = "--fleet and --nodes: a fleet has the nodes that it has";
            return Err(BadChange::new(message, "give one of the two"));
        }
        if fleet.nodes.is_empty() {
            let message = format!("--fleet {}: it has no nodes", fleet.name);
            return Err(BadChange::new(message, "name a fleet with some: `lindos fleet list`"));
        }
        let policy = self.policy(&history.policy)?;
        let added = self.jobs.iter().map(|job| &job.spec);
        let jobs = history.jobs.iter().map(|job| &job.spec).chain(added);
        let mut unfit = never_fit(&fleet.nodes, &policy, jobs.clone());
        if !unfit.is_empty() {
            // What never had a place has none to lose.
            let recorded = history.jobs.iter().map(|job| &job.spec);
            let before = never_fit(&history.nodes, &history.policy, recorded);
            unfit.retain(|name, _| !before.contains_key(name));
        }
        let Some((first, why)) = unfit.first_key_value() else { return Ok(()) };
        let names: Vec<&str> = unfit.keys().take(NAMED_MAX).map(String::as_str).collect();
        let more = match unfit.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "--fleet {}: {}{more} could never start there ({first}: {why})",
            fleet.name,
            names.join(", ")
        );
        Err(BadChange::new(message, "give a fleet that has such nodes, and enough of them"))
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
        words.extend(self.fleet.as_ref().map(|fleet| {
            let (nodes, gpus) = (fleet.nodes.len() as u64, fleet.gpus());
            let [nodes, gpus] = [nodes, gpus].map(|count| grouped(count as f64, 0));
            format!("the fleet {} ({nodes} nodes, {gpus} GPUs)", fleet.name)
        }));
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

/// A policy with one key changed; a key of one of its tables is written with a dot.
fn set(policy: &Policy, key: &str, value: &Value) -> Result<Policy, BadChange> {
    let mut whole = Table::try_from(policy).map_err(|error| {
        BadChange::new(format!("the policy on record: {error}"), "that is a bug of Lindos")
    })?;
    let (mut table, mut before) = (&mut whole, String::new());
    let mut words = key.split('.').peekable();
    while let Some(word) = words.next() {
        if !table.contains_key(word) {
            let hint = match nearest(word, table.keys().map(String::as_str)) {
                Some(best) => format!("did you mean `{before}{best}`?"),
                None => "docs/queue.md has the keys of a policy".to_string(),
            };
            return Err(BadChange::new(format!("--set {key}: a policy has no key `{key}`"), hint));
        }
        if words.peek().is_none() {
            table.insert(word.to_string(), value.clone());
            break;
        }
        let Some(Value::Table(inside)) = table.get_mut(word) else {
            let message = format!("--set {key}: `{before}{word}` is no table");
            return Err(BadChange::new(message, format!("such as {before}{word}=VALUE")));
        };
        table = inside;
        before = format!("{before}{word}.");
    }
    whole.try_into().map_err(|error: toml::de::Error| {
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
