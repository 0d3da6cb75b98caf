//! By how much what is played under a change differs from what is played without it.

use super::tale::Tale;
use crate::reliability::stats::{Estimate, USUAL_CONFIDENCE, difference_interval, mean};
use lindos_model::Column;

/// The same history, as it was and under a change.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub recorded: Tale,
    /// With the faults on record: as the twin has it, without the change and with it.
    pub twin: Tale,
    /// `None` where the change is about how many faults there are.
    pub changed: Option<Tale>,
    /// With drawn faults, seed by seed.
    pub seeds: Vec<u64>,
    pub before: Vec<Tale>,
    pub after: Vec<Tale>,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    GpuHours,
    /// From 0 to 1.
    Share,
    Hours,
    Count,
}

/// One figure, before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: &'static str,
    /// Of the ledger.
    pub column: Option<Column>,
    pub unit: Unit,
    pub recorded: f64,
    pub before: f64,
    pub after: f64,
    /// The mean over the seeds, and where the true one is in 95 of 100 cases; without seeds, the
    /// difference itself.
    pub difference: Estimate,
}

type Figure = (&'static str, Unit, fn(&Tale) -> f64);

const FIGURES: [Figure; 9] = [
    ("goodput", Unit::Share, Tale::goodput),
    ("wait, half of jobs", Unit::Hours, |tale| tale.wait_hours(0.5)),
    ("wait, 95% of jobs", Unit::Hours, |tale| tale.wait_hours(0.95)),
    ("interruptions", Unit::Count, |tale| tale.interruptions as f64),
    ("replicas lost", Unit::Count, |tale| tale.replicas_lost as f64),
    ("stops by the queue", Unit::Count, |tale| tale.stops as f64),
    ("restarts", Unit::Count, |tale| tale.restarts() as f64),
    ("jobs completed", Unit::Count, |tale| tale.completed as f64),
    ("jobs failed", Unit::Count, |tale| tale.failed as f64),
];

impl Comparison {
    /// Goodput, waits, restarts.
    pub fn figures(&self) -> Vec<Row> {
        FIGURES.iter().map(|&(name, unit, value)| self.row(name, None, unit, &value)).collect()
    }

    /// The columns of the ledger in GPU-hours, those in which anything stands.
    pub fn columns(&self) -> Vec<Row> {
        let rows = Column::ALL.iter().map(|&column| {
            let hours = move |tale: &Tale| hours(tale.ledger[column]);
            self.row(column.name(), Some(column), Unit::GpuHours, &hours)
        });
        rows.filter(|row| row.recorded + row.before + row.after > 0.0).collect()
    }

    /// All GPU-time of the fleet.
    pub fn total(&self) -> Row {
        self.row("total", None, Unit::GpuHours, &|tale| hours(tale.ledger.total()))
    }

    /// What was not productive, which is what money is wasted on.
    pub fn waste(&self) -> Row {
        let waste = |tale: &Tale| hours(tale.ledger.total() - tale.ledger[Column::Productive]);
        self.row("not productive", None, Unit::GpuHours, &waste)
    }

    /// Whether before and after are means over drawn faults.
    pub fn is_drawn(&self) -> bool {
        !self.before.is_empty()
    }

    fn row(
        &self,
        name: &'static str,
        column: Option<Column>,
        unit: Unit,
        value: &dyn Fn(&Tale) -> f64,
    ) -> Row {
        let recorded = value(&self.recorded);
        let of = |tales: &[Tale]| tales.iter().map(value).collect::<Vec<f64>>();
        let (before, after) = if self.is_drawn() {
            (of(&self.before), of(&self.after))
        } else {
            let changed = self.changed.as_ref().unwrap_or(&self.twin);
            (vec![value(&self.twin)], vec![value(changed)])
        };
        let (first, last) = (mean(&before).unwrap_or(0.0), mean(&after).unwrap_or(0.0));
        let plain = Estimate { value: last - first, low: last - first, high: last - first };
        let difference = difference_interval(&before, &after, USUAL_CONFIDENCE).unwrap_or(plain);
        Row { name, column, unit, recorded, before: first, after: last, difference }
    }

    /// The same figures with the faults on record: as the twin has it, with the change, and what
    /// that is more.
    pub fn on_record(&self) -> Option<Vec<Row>> {
        let changed = self.changed.clone()?;
        let alone = Comparison {
            recorded: self.recorded.clone(),
            twin: self.twin.clone(),
            changed: Some(changed),
            seeds: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
        };
        Some(alone.figures().into_iter().chain(alone.columns()).collect())
    }
}

pub fn hours(gpu_ms: u64) -> f64 {
    gpu_ms as f64 / 3_600_000.0
}

impl Row {
    /// In money, for so much a GPU-hour.
    pub fn times(&self, price: f64) -> Row {
        let Estimate { value, low, high } = self.difference;
        Row {
            recorded: self.recorded * price,
            before: self.before * price,
            after: self.after * price,
            difference: Estimate { value: value * price, low: low * price, high: high * price },
            ..self.clone()
        }
    }

    /// Whether the seeds tell the two apart.
    pub fn is_told_apart(&self) -> bool {
        !self.difference.contains(0.0)
    }
}
