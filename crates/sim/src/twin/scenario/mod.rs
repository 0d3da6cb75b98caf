//! A fleet scenario: a fleet, its faults, its jobs and its policy in a file that a person writes.
//!
//! `table` is the file as it is written. [`FleetScenario`] is what it means, with the fleet and
//! the profile that it names: it gives the [`Setup`] of each seed. `docs/twin.md` is the manual.
//! Nothing here opens a file: whoever does hands in [`Files`].

mod amount;
pub mod edit;
mod faults;
mod fleet;
mod jobs;
mod table;
#[cfg(test)]
mod tests;

pub use table::{
    CauseTable, CheckpointTable, DelaysTable, FaultsTable, FleetTable, JobsTable, OutageTable,
    PricesTable, ScenarioTable,
};

use super::figures::Figures;
use super::{Delays, Record, Setup, run};
use crate::reliability::{FaultPlan, PlanError, Profile};
use fleet::Grounds;
use lindos_model::file::{FileError, Source};
use lindos_model::job::HumanSpan;
use lindos_model::{Millis, Time};
use std::path::Path;

/// Reads the file of this path, as the scenario names it.
pub type Files<'f> = &'f dyn Fn(&str) -> std::io::Result<String>;

/// What is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// A dotted key of the scenario; of a list, the list's.
    pub key: String,
    /// Which entry of the list.
    pub entry: Option<usize>,
    pub message: String,
    pub hint: Option<String>,
}

impl Invalid {
    pub(super) fn new(key: &str, message: impl Into<String>) -> Invalid {
        Invalid { key: key.to_string(), entry: None, message: message.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Invalid {
        Invalid { hint: Some(hint.into()), ..self }
    }

    pub(super) fn of_entry(self, entry: usize) -> Invalid {
        Invalid { entry: Some(entry), ..self }
    }
}

/// A scenario that makes sense, with all that it names.
#[derive(Clone, Debug)]
pub struct FleetScenario {
    pub table: ScenarioTable,
    /// What the fleet is called: its name, or its size.
    pub fleet: String,
    /// With every scale of the scenario applied; the causes of its outages come last.
    pub profile: Profile,
    grounds: Grounds,
}

impl FleetScenario {
    /// Whether the text is a fleet scenario: it has a table `fleet`. The other kind, of
    /// [`crate::scenario`], has `nodes`.
    pub fn is_one(text: &str) -> bool {
        toml::from_str::<toml::Table>(text).is_ok_and(|table| table.contains_key("fleet"))
    }

    /// # Errors
    ///
    /// That point into the text.
    pub fn parse(path: &Path, text: &str, files: Files) -> Result<FleetScenario, FileError> {
        let source = Source { path, text };
        FleetScenario::new(source.parse()?, files).map_err(|invalid| {
            let Invalid { key, entry, message, hint } = invalid;
            source.error_at_entry(&key, entry, message, hint)
        })
    }

    pub fn new(table: ScenarioTable, files: Files) -> Result<FleetScenario, Invalid> {
        table.check()?;
        let grounds = Grounds::new(&table.fleet, files)?;
        let mut profile = faults::profile(&table.faults, files)?;
        faults::add_outages(&table.outages, &grounds, &mut profile)?;
        let scenario = FleetScenario { fleet: grounds.name.clone(), table, profile, grounds };
        scenario.check_jobs()?;
        Ok(scenario)
    }

    pub fn nodes(&self) -> usize {
        self.grounds.nodes.len()
    }

    pub fn gpus(&self) -> u64 {
        self.grounds.nodes.iter().map(|node| u64::from(node.gpus)).sum()
    }

    pub fn until(&self) -> Time {
        Time::ZERO + self.table.until.0
    }

    /// Everything for one run.
    pub fn setup(&self, seed: u64) -> Result<Setup, PlanError> {
        let until = self.until();
        let nodes = self.grounds.nodes.clone();
        let mut faults = FaultPlan::new(&self.profile, &nodes, seed, Time::ZERO, until)?;
        self.add_outages_to(&mut faults);
        let jobs = self.jobs(seed);
        let mut policy = self.table.policy.clone();
        // Every job is told of at the end, also the first of a hundred thousand.
        policy.finished_jobs_max = policy.finished_jobs_max.max(jobs.len() as u32);
        let DelaysTable { launch, stop, fence } = self.table.delays;
        let delays = Delays { launch: launch.0, stop: stop.0, fence: fence.0 };
        let script = None;
        Ok(Setup { nodes, policy, jobs, faults, delays, until, script, check_every: 0 })
    }
}

impl FleetScenario {
    /// Plays one seed to its end. `tell` hears how far it is.
    pub fn play(&self, seed: u64, tell: &mut dyn FnMut(Time)) -> Result<Figures, PlanError> {
        self.play_recorded(seed, None, tell)
    }

    /// The same, and every event is kept.
    pub fn play_recorded(
        &self,
        seed: u64,
        record: Option<Record<'_>>,
        tell: &mut dyn FnMut(Time),
    ) -> Result<Figures, PlanError> {
        let setup = self.setup(seed)?;
        let outcome = run(&setup, record, tell);
        Ok(Figures::new(self, &setup, seed, outcome))
    }
}

impl ScenarioTable {
    fn check(&self) -> Result<(), Invalid> {
        if self.until.0 == Millis::ZERO {
            return Err(Invalid::new("until", "a run takes some time").hint("such as \"90d\""));
        }
        self.policy.validate().map_err(|invalid| {
            Invalid::new(&format!("policy.{}", invalid.key), invalid.to_string())
        })?;
        if let Some(prices) = &self.prices
            && !(prices.gpu_hour >= 0.0 && prices.gpu_hour.is_finite())
        {
            return Err(Invalid::new("prices.gpu_hour", "a price is 0 or above"));
        }
        if self.jobs.is_empty() {
            return Err(Invalid::new("jobs", "there is no job").hint("add a [[jobs]] table"));
        }
        Ok(())
    }
}

fn at(span: Option<HumanSpan>) -> Time {
    Time::ZERO + span.map_or(Millis::ZERO, |span| span.0)
}
