//! The jobs of a scenario, each with the nodes and the work that its seed gives it.

use super::amount::Amount;
use super::{CheckpointTable, FleetScenario, Invalid, JobsTable, at};
use crate::random::Stream;
use crate::twin::work::{Checkpoints, Every};
use crate::twin::{TwinJob, Work};
use lindos_model::file::nearest;
use lindos_model::job::{self, CheckpointEvery};
use lindos_model::{JobSpec, Millis, NodeSpec, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Of one table.
const COUNT_MAX: u32 = 1_000_000;
/// Work is counted in millionths of a step, in 64 bits.
const STEPS_MAX: u64 = 1_000_000_000_000;
/// Nobody gives a job up here: somebody would submit it again.
const RETRIES: u32 = 1_000_000_000;
/// The core gives a start up after ten minutes by itself, once it knows that a job tells its steps.
const STARTUP_MIN: Millis = Millis(600_000);
/// So many times as long as a start should take, it may.
const STARTUP_TIMES: u64 = 3;
const MILLIONTHS: f64 = 1e6;

impl FleetScenario {
    pub(super) fn check_jobs(&self) -> Result<(), Invalid> {
        for (index, table) in self.table.jobs.iter().enumerate() {
            let invalid = |invalid: Invalid| {
                let message = format!("{}: {}", table.name, invalid.message);
                Invalid { message, ..invalid }.of_entry(index)
            };
            self.check_table(table).map_err(invalid)?;
        }
        let mut names = BTreeSet::new();
        for (index, table) in self.table.jobs.iter().enumerate() {
            if let Some(name) = table.names().find(|name| !names.insert(name.clone())) {
                let error = Invalid::new("jobs", format!("two jobs are named `{name}`"));
                return Err(error.of_entry(index));
            }
        }
        Ok(())
    }

    fn check_table(&self, table: &JobsTable) -> Result<(), Invalid> {
        let bad = |message: String| Err(Invalid::new("jobs", message));
        if table.count.is_some_and(|count| count == 0 || count > COUNT_MAX) {
            return bad(format!("`count` is 1 to {COUNT_MAX}"));
        }
        if table.spread.is_some() && table.count.is_none() {
            return bad("`spread` is for a `count` of jobs".to_string());
        }
        if table.step.0 == Millis::ZERO {
            return bad("a step takes time".to_string());
        }
        if table.steps.is_some() && table.days.is_some() {
            return bad("give `steps` or `days`, not both".to_string());
        }
        if table.days.is_some_and(|days| !(days.low > 0.0 && days.high.is_finite())) {
            return bad("`days` of work are more than 0".to_string());
        }
        let steps = table.work_steps(self.until());
        if steps.low == 0 || steps.high > STEPS_MAX {
            return bad(format!("a job has 1 to {STEPS_MAX} steps"));
        }
        if table.startup_warm.is_some_and(|warm| warm.0 > table.startup.0) {
            return bad("`startup_warm` is a part of `startup`".to_string());
        }
        if !(0.0..=1.0).contains(&table.hang_shows) {
            return bad("`hang_shows` is a part of all hangs: 0 to 1".to_string());
        }
        self.check_policy(table)?;
        let nodes = self.nodes_of(table)?;
        let there = self.nodes_for(table, self.gpus_of(table)?.low);
        if u64::from(nodes.high) > there {
            return bad(format!(
                "it wants {} nodes, and the fleet has {there} of one design",
                nodes.high
            ));
        }
        for (nodes, gpus) in
            [(nodes.low, self.gpus_of(table)?.low), (nodes.high, self.gpus_of(table)?.high)]
        {
            let spec = Self::spec(table, &table.name, nodes, gpus);
            spec.validate_at_edge().map_err(|invalid| Invalid::new("jobs", invalid.to_string()))?;
        }
        Ok(())
    }

    /// The core refuses a class or a team that its policy does not have.
    fn check_policy(&self, table: &JobsTable) -> Result<(), Invalid> {
        let policy = &self.table.policy;
        let classes: Vec<&str> = policy.classes.iter().map(|class| class.name.as_str()).collect();
        let teams: Vec<&str> = policy.teams.iter().map(|team| team.name.as_str()).collect();
        let refused = |what: &str, name: &str, known: &[&str]| {
            let error = Invalid::new("jobs", format!("the policy has no {what} `{name}`"));
            Err(match nearest(name, known.iter().copied()) {
                Some(best) => error.hint(format!("did you mean `{best}`?")),
                None => error
                    .hint(format!("add it to the policy of the scenario, or leave the {what} out")),
            })
        };
        if !table.class.is_empty() && !classes.contains(&table.class.as_str()) {
            return refused("class", &table.class, &classes);
        }
        if !table.team.is_empty() && !teams.is_empty() && !teams.contains(&table.team.as_str()) {
            return refused("team", &table.team, &teams);
        }
        Ok(())
    }

    /// The most nodes that such a job may have: one gang is of one design.
    fn nodes_for(&self, table: &JobsTable, gpus: u16) -> u64 {
        let fits = |node: &&NodeSpec| {
            node.gpus >= gpus
                && (table.platforms.is_empty() || table.platforms.contains(&node.platform))
        };
        let mut designs: BTreeMap<&str, u64> = BTreeMap::new();
        for node in self.grounds.nodes.iter().filter(fits) {
            *designs.entry(&node.platform).or_default() += 1;
        }
        designs.into_values().max().unwrap_or(0)
    }

    /// What each of its nodes gives; all of it, if nothing else is said.
    fn gpus_of(&self, table: &JobsTable) -> Result<Amount<u16>, Invalid> {
        if let Some(gpus) = table.gpus_per_node {
            return Ok(gpus);
        }
        let fits = |node: &&NodeSpec| {
            table.platforms.is_empty() || table.platforms.contains(&node.platform)
        };
        let all: BTreeSet<u16> =
            self.grounds.nodes.iter().filter(fits).map(|node| node.gpus).collect();
        match (all.first(), all.len()) {
            (Some(&gpus), 1) => Ok(Amount::one(gpus)),
            (None, _) => {
                let platforms = table.platforms.join(", ");
                Err(Invalid::new("jobs", format!("the fleet has no node of {platforms}")))
            }
            _ => Err(Invalid::new("jobs", "nodes of this fleet differ in their GPUs")
                .hint("say `gpus_per_node`, and perhaps `platforms`")),
        }
    }

    fn nodes_of(&self, table: &JobsTable) -> Result<Amount<u32>, Invalid> {
        let bad = |message: &str| Err(Invalid::new("jobs", message));
        match (table.nodes, table.share) {
            (Some(nodes), None) if nodes.is_range() && table.replicas.is_some() => {
                bad("a range of nodes cannot be cut into replicas: give one number")
            }
            (Some(nodes), None) => Ok(nodes),
            (None, Some(share)) if share > 0.0 && share <= 1.0 => {
                let all = self.nodes_for(table, self.gpus_of(table)?.low);
                // Millionths, so that 0.7 of 10 is 7 on every machine.
                let millionths = (share * MILLIONTHS).round() as u64;
                let nodes = (all * millionths / MILLIONTHS as u64) as u32;
                let whole = table.replicas.unwrap_or(1).max(1) * table.segment.unwrap_or(1).max(1);
                Ok(Amount::one(nodes / whole * whole))
            }
            (None, Some(_)) => bad("a `share` of the fleet is above 0 and at most 1"),
            _ => bad("a job has `nodes`, or a `share` of the fleet"),
        }
    }

    fn spec(table: &JobsTable, name: &str, nodes: u32, gpus: u16) -> JobSpec {
        let mut spec = job::sample(name, nodes, gpus);
        spec.replicas = table.replicas.unwrap_or(1);
        spec.replicas_min = table.min_replicas.unwrap_or(spec.replicas / 2 + 1);
        spec.spares = table.spares.unwrap_or(table.warm_spares);
        spec.warm_spares = table.warm_spares;
        spec.warm_restarts = table.warm_restarts;
        spec.within = table.within;
        spec.segment = table.segment;
        spec.platforms.clone_from(&table.platforms);
        spec.team.clone_from(&table.team);
        spec.class.clone_from(&table.class);
        spec.priority = table.priority;
        spec.time_limit = table.time_limit.map(|limit| limit.0);
        if table.checkpoint.every == Every::Advised {
            spec.checkpoint_every = Some(CheckpointEvery::Auto);
        }
        spec.retry_infrastructure = RETRIES;
        spec.retry_user = RETRIES;
        let start = table.work(1).starts_in(nodes as usize, true, false);
        spec.startup_timeout = Some(start.times(STARTUP_TIMES).max(STARTUP_MIN));
        spec
    }

    /// Those of one seed: table by table.
    pub(super) fn jobs(&self, seed: u64) -> Vec<TwinJob> {
        let mut jobs = Vec::new();
        for table in &self.table.jobs {
            // Tables were checked when the scenario was made.
            let nodes = self.nodes_of(table).expect("the table was checked");
            let gpus = self.gpus_of(table).expect("the table was checked");
            let steps = table.work_steps(self.until());
            let stream = |what: &str| Stream::new(seed, &format!("jobs {}: {what}", table.name));
            let mut streams = ["at", "nodes", "gpus", "steps"].map(stream);
            for name in table.names() {
                let [come, node, gpu, step] = &mut streams;
                let spread = table.spread.map_or(0, |spread| spread.0.0);
                let nodes = node.between(nodes.low.into(), nodes.high.into()) as u32;
                let gpus = gpu.between(gpus.low.into(), gpus.high.into()) as u16;
                let work = table.work(step.between(steps.low, steps.high));
                let at = at(table.at) + Millis(come.between(0, spread));
                jobs.push(TwinJob {
                    at,
                    spec: Arc::new(Self::spec(table, &name, nodes, gpus)),
                    work,
                    tells_steps: true,
                    tells_saves: true,
                    fails: None,
                });
            }
        }
        jobs
    }

    /// The table of each job, by the job's name.
    pub(crate) fn tables(&self) -> BTreeMap<String, usize> {
        let tables = self.table.jobs.iter().enumerate();
        tables.flat_map(|(index, table)| table.names().map(move |name| (name, index))).collect()
    }
}

impl JobsTable {
    fn names(&self) -> impl Iterator<Item = String> {
        let name = |index| match self.count {
            Some(_) => format!("{}-{index}", self.name),
            None => self.name.clone(),
        };
        (0..self.count.unwrap_or(1)).map(name)
    }

    fn work_steps(&self, until: Time) -> Amount<u64> {
        let step_ms = self.step.0.0.max(1);
        if let Some(steps) = self.steps {
            return steps;
        }
        let of_days = |days: f64| ((days * 86_400_000.0 / step_ms as f64).round() as u64).max(1);
        match self.days {
            Some(days) => Amount { low: of_days(days.low), high: of_days(days.high) },
            // More than there is time for.
            None => Amount::one((until.0 / step_ms + 1) * 2),
        }
    }

    fn work(&self, steps: u64) -> Work {
        let CheckpointTable { every, blocks, durable_after } = self.checkpoint;
        Work {
            steps,
            step: self.step.0,
            startup: self.startup.0,
            startup_per_doubling: self.startup_per_doubling.0,
            startup_warm: self.startup_warm.map(|span| span.0),
            restore: self.restore.0,
            join: self.join.0,
            regroup: self.regroup.0,
            hang_shows: self.hang_shows,
            checkpoints: Checkpoints { every, blocks: blocks.0, durable_after: durable_after.0 },
        }
    }
}
