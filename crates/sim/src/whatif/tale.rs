//! What a span of time came to, recorded or played: the figures that are compared.

use super::jobs::JobWatch;
use crate::reliability::stats::quantile;
use crate::twin::measure::Outcome;
use lindos_model::{Column, Columns, JobState, Millis, Time};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tale {
    /// GPU-milliseconds of the fleet by column.
    pub ledger: Columns,
    pub jobs: u64,
    pub started: u64,
    pub completed: u64,
    pub failed: u64,
    /// Attempts that a fault ended.
    pub interruptions: u64,
    /// Attempts that the queue ended.
    pub stops: u64,
    pub replicas_lost: u64,
    /// From the submission to the first start, or to the end of all.
    pub waits: Vec<Millis>,
    /// Jobs that the core did not take.
    pub refused: u64,
}

impl Tale {
    pub(super) fn recorded<'j>(
        ledger: Columns,
        jobs: impl Iterator<Item = &'j JobWatch>,
        until: Time,
    ) -> Tale {
        let mut tale = Tale { ledger, ..Tale::default() };
        for job in jobs {
            tale.interruptions += job.interruptions;
            tale.stops += job.stops;
            tale.replicas_lost += job.replicas_lost;
            let state = job.ended.map(|(state, _)| state);
            tale.add(state, job.at, job.started, until);
        }
        tale
    }

    pub(super) fn played(outcome: &Outcome) -> Tale {
        let refused = outcome.refused.len() as u64;
        let mut tale = Tale { ledger: outcome.ledger, refused, ..Tale::default() };
        for job in &outcome.jobs {
            tale.interruptions += job.tally.interruptions;
            tale.stops += job.tally.stops;
            tale.replicas_lost += job.tally.replicas_lost;
            tale.add(Some(job.state), job.submitted, job.started, outcome.ended);
        }
        tale
    }

    fn add(&mut self, state: Option<JobState>, at: Time, started: Option<Time>, until: Time) {
        self.jobs += 1;
        self.started += u64::from(started.is_some());
        self.completed += u64::from(state == Some(JobState::Completed));
        self.failed += u64::from(state == Some(JobState::Failed));
        self.waits.push(started.unwrap_or(until).since(at));
    }

    /// Attempts after the first of each job.
    pub fn restarts(&self) -> u64 {
        self.interruptions + self.stops
    }

    /// Productive GPU-time by all GPU-time of the fleet.
    pub fn goodput(&self) -> f64 {
        self.ledger[Column::Productive] as f64 / self.ledger.total().max(1) as f64
    }

    /// In hours, what such a share of the jobs has waited at most; 0 where there are none.
    pub fn wait_hours(&self, share: f64) -> f64 {
        let waits: Vec<f64> = self.waits.iter().map(|wait| wait.0 as f64 / 3_600_000.0).collect();
        quantile(&waits, share).unwrap_or(0.0)
    }

    /// By what share of all GPU-time two ledgers differ: what stands in another column.
    pub fn distance(&self, other: &Tale) -> f64 {
        let all = self.ledger.total().max(other.ledger.total()).max(1);
        let sum: u64 = Column::ALL
            .iter()
            .map(|&column| self.ledger[column].abs_diff(other.ledger[column]))
            .sum();
        sum as f64 / 2.0 / all as f64
    }
}
