//! What one run of a fleet scenario comes to: small enough to keep for each of many seeds.

use super::measure::{JobOutcome, Outcome};
use super::scenario::FleetScenario;
use lindos_model::{Column, Columns, JobState, Millis, Time};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Figures {
    pub seed: u64,
    pub ended: Time,
    /// Of the whole fleet, in GPU-milliseconds.
    pub ledger: Columns,
    pub stranded_by: BTreeMap<String, u64>,
    pub jobs: Vec<JobFigures>,
    /// By table of the scenario.
    pub groups: Vec<GroupFigures>,
    /// By cause of the profile.
    pub faults: Vec<CauseFigures>,
    /// Events that the core took.
    pub events: u64,
    /// Why the core took some jobs not at all.
    pub refused: Vec<String>,
    pub digest: String,
}

#[derive(Clone, Debug)]
pub struct JobFigures {
    pub name: String,
    /// Its table in the scenario.
    pub table: usize,
    pub gpus: u64,
    pub steps: u64,
    pub outcome: JobOutcome,
}

/// All jobs of one table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupFigures {
    pub jobs: u64,
    pub gpus: u64,
    pub completed: u64,
    /// Had no gang when the run ended, and were not over.
    pub queued: u64,
    pub running: u64,
    pub interruptions: u64,
    pub replicas_lost: u64,
    /// Attempts that the queue has ended.
    pub stops: u64,
    pub steps: u64,
    pub steps_saved: u64,
    pub ledger: Columns,
    /// From the submission to the first start, of those that have started.
    pub wait: Millis,
    pub started: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseFigures {
    pub name: String,
    /// Those that have struck, whether or not anything ran there.
    pub struck: u64,
    /// How often one has ended what a job did, or a replica of it.
    pub hit: u64,
}

impl Figures {
    /// `jobs` are those that were played, in any order.
    pub fn new(
        scenario: &FleetScenario,
        setup: &super::Setup,
        seed: u64,
        outcome: Outcome,
    ) -> Figures {
        let tables = scenario.tables();
        let specs: BTreeMap<&str, &super::TwinJob> =
            setup.jobs.iter().map(|job| (job.spec.name.as_str(), job)).collect();
        let mut groups = vec![GroupFigures::default(); scenario.table.jobs.len()];
        let mut faults: Vec<CauseFigures> = scenario
            .profile
            .causes
            .iter()
            .zip(&outcome.strikes)
            .map(|(cause, &struck)| CauseFigures { name: cause.name.clone(), struck, hit: 0 })
            .collect();
        let mut jobs = Vec::with_capacity(outcome.jobs.len());
        for job in outcome.jobs {
            let (table, twin) = (tables[&job.name], specs[job.name.as_str()]);
            let gpus = u64::from(twin.spec.nodes) * u64::from(twin.spec.gpus_per_node);
            groups[table].add(&job, gpus, twin.work.steps);
            for (&cause, &hits) in &job.tally.causes {
                faults[cause].hit += hits;
            }
            let (name, steps) = (job.name.clone(), twin.work.steps);
            jobs.push(JobFigures { name, table, gpus, steps, outcome: job });
        }
        Figures {
            seed,
            ended: outcome.ended,
            ledger: outcome.ledger,
            stranded_by: outcome.stranded_by,
            jobs,
            groups,
            faults,
            events: outcome.events,
            refused: outcome.refused,
            digest: outcome.digest.to_string(),
        }
    }

    pub fn goodput(&self) -> f64 {
        share(&self.ledger, Column::Productive)
    }

    pub fn gpu_hours(&self) -> f64 {
        gpu_hours(self.ledger.total())
    }
}

/// What a column is of all, from 0 to 1; 0 of nothing.
pub fn share(ledger: &Columns, column: Column) -> f64 {
    ledger[column] as f64 / ledger.total().max(1) as f64
}

pub fn gpu_hours(gpu_ms: u64) -> f64 {
    gpu_ms as f64 / 3_600_000.0
}

impl GroupFigures {
    fn add(&mut self, job: &JobOutcome, gpus: u64, steps: u64) {
        self.jobs += 1;
        self.gpus += gpus;
        self.completed += u64::from(job.state == JobState::Completed);
        self.queued += u64::from(job.state == JobState::Queued);
        let is_up = [JobState::Starting, JobState::Running, JobState::Stopping];
        self.running += u64::from(is_up.contains(&job.state));
        self.interruptions += job.tally.interruptions;
        self.replicas_lost += job.tally.replicas_lost;
        self.stops += job.tally.stops;
        self.steps = self.steps.saturating_add(steps);
        self.steps_saved += job.steps_saved;
        for (column, gpu_ms) in job.ledger.iter() {
            self.ledger[column] += gpu_ms;
        }
        if let Some(started) = job.started {
            self.started += 1;
            self.wait = self.wait + started.since(job.submitted);
        }
    }

    /// Productive time by the time in which they held their gangs.
    pub fn ettr(&self) -> Option<f64> {
        let held = self.ledger.total();
        (held > 0).then(|| share(&self.ledger, Column::Productive))
    }

    /// The mean wait of those that have started.
    pub fn wait_mean(&self) -> Option<Millis> {
        (self.started > 0).then(|| Millis(self.wait.0 / self.started))
    }
}
