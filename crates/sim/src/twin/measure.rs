//! What a run of the twin tells: the ledger, and what became of each job.

use super::Setup;
use super::life::Life;
use lindos_core::{Core, Digest};
use lindos_model::{Column, Columns, JobId, JobState, Time};
use std::collections::{BTreeMap, BTreeSet};

/// Counted while the world goes on.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    /// Jobs that are over.
    pub over: usize,
    pub refused: Vec<String>,
    /// Faults that have struck, by cause, whether or not anything ran there.
    pub strikes: Vec<u64>,
    /// Incidents of the script that have struck a job, and those that found none.
    pub felt: BTreeSet<u32>,
    pub unfelt: BTreeSet<u32>,
    jobs: BTreeMap<JobId, JobTally>,
}

/// What has befallen one job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobTally {
    /// Faults that have ended what it did, or a replica's, by cause; each fault once.
    pub causes: BTreeMap<usize, u64>,
    /// How often one of them has done so again, as nobody had taken the node out yet.
    pub again: u64,
    /// Attempts that a fault has ended.
    pub interruptions: u64,
    pub replicas_lost: u64,
    /// Attempts that the queue has ended.
    pub stops: u64,
}

impl Tallies {
    pub fn new(setup: &Setup) -> Tallies {
        let causes = setup.faults.profile().causes.len();
        Tallies { strikes: vec![0; causes], ..Tallies::default() }
    }

    pub fn job(&mut self, job: JobId) -> &mut JobTally {
        self.jobs.entry(job).or_default()
    }

    pub fn note_cause(&mut self, job: JobId, cause: usize) {
        *self.job(job).causes.entry(cause).or_default() += 1;
    }
}

/// One job at the end of a run.
#[derive(Clone, Debug)]
pub struct JobOutcome {
    pub name: String,
    pub state: JobState,
    pub submitted: Time,
    pub started: Option<Time>,
    pub ended: Option<Time>,
    /// Of its steps, those that are safe.
    pub steps_saved: u64,
    pub ledger: Columns,
    pub tally: JobTally,
}

impl JobOutcome {
    /// Effective training time ratio: productive time by the time in which it held its gang.
    /// `None` before it has held one.
    pub fn ettr(&self) -> Option<f64> {
        let held: u64 = self.ledger.iter().map(|(_, gpu_ms)| gpu_ms).sum();
        (held > 0).then(|| self.ledger[Column::Productive] as f64 / held as f64)
    }
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub jobs: Vec<JobOutcome>,
    pub ended: Time,
    /// GPU-milliseconds of the fleet by column.
    pub ledger: Columns,
    /// Why GPU-time was stranded, by the kind of wait.
    pub stranded_by: BTreeMap<String, u64>,
    pub strikes: Vec<u64>,
    pub refused: Vec<String>,
    /// Events that the core took.
    pub events: u64,
    pub digest: Digest,
}

impl Outcome {
    pub(super) fn new(
        core: &Core,
        ended: Time,
        events: u64,
        lives: &BTreeMap<JobId, Life>,
        mut tallies: Tallies,
    ) -> Outcome {
        let jobs = core.jobs().map(|job| JobOutcome {
            name: job.spec.name.clone(),
            state: job.state(),
            submitted: job.submitted_at,
            started: job.started_at,
            ended: job.ended_at,
            steps_saved: lives.get(&job.id).map_or(0, |life| life.saved),
            ledger: job.ledger.at(ended),
            tally: std::mem::take(tallies.job(job.id)),
        });
        Outcome {
            jobs: jobs.collect(),
            ended,
            ledger: core.ledger_at(ended),
            stranded_by: core.stranded_by().clone(),
            strikes: tallies.strikes,
            refused: tallies.refused,
            events,
            digest: core.digest(),
        }
    }

    /// Productive GPU-time by all GPU-time of the fleet.
    pub fn goodput(&self) -> f64 {
        self.ledger[Column::Productive] as f64 / self.ledger.total().max(1) as f64
    }
}
