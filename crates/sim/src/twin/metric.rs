//! The figures of a run that have a name, for those who compare runs by one of them.

use super::figures::{Figures, GroupFigures, share};
use super::scenario::FleetScenario;
use lindos_model::Column;
use lindos_model::file::nearest;
use std::fmt;

/// One number of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metric {
    Goodput,
    /// A column of the fleet's ledger, as a share of all GPU-time.
    Column(Column),
    /// What the fleet's GPU-time cost that was not productive, by the scenario's price.
    Waste,
    /// Of the jobs of one table of the scenario.
    Of {
        what: JobMetric,
        table: usize,
        name: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobMetric {
    Ettr,
    Interruptions,
    ReplicasLost,
    /// Safe at the end.
    Steps,
    Completed,
    /// Until the first start, in hours.
    WaitHours,
}

const OF_JOBS: [(&str, JobMetric); 6] = [
    ("ettr", JobMetric::Ettr),
    ("interruptions", JobMetric::Interruptions),
    ("replicas-lost", JobMetric::ReplicasLost),
    ("steps", JobMetric::Steps),
    ("completed", JobMetric::Completed),
    ("wait-hours", JobMetric::WaitHours),
];

impl Metric {
    /// `goodput`, `waste`, a column of the ledger, or one of a job: `ettr` of the first in the
    /// scenario, `ettr.main` of the job or jobs of that name.
    ///
    /// # Errors
    ///
    /// What is wrong, and what to do.
    pub fn parse(name: &str, scenario: &FleetScenario) -> Result<Metric, (String, String)> {
        let (what, job) = name.split_once('.').map_or((name, None), |(a, b)| (a, Some(b)));
        if let Some(&(_, what)) = OF_JOBS.iter().find(|(known, _)| *known == what) {
            let jobs = &scenario.table.jobs;
            let table = job.map_or(Some(0), |job| jobs.iter().position(|table| table.name == job));
            return table.map_or_else(
                || {
                    let names: Vec<&str> = jobs.iter().map(|table| table.name.as_str()).collect();
                    let said = format!("the scenario has no job `{}`", job.unwrap_or_default());
                    Err((said, format!("its jobs: {}", names.join(", "))))
                },
                |table| Ok(Metric::Of { what, table, name: jobs[table].name.clone() }),
            );
        }
        match (name, Column::ALL.iter().find(|column| column.name() == name)) {
            ("goodput", _) => Ok(Metric::Goodput),
            ("waste", _) if scenario.table.prices.is_some() => Ok(Metric::Waste),
            ("waste", _) => {
                Err(("the scenario has no prices".into(), "[prices] gpu_hour = 2.0".into()))
            }
            (_, Some(&column)) => Ok(Metric::Column(column)),
            _ => {
                let known = || {
                    let columns = Column::ALL.iter().map(|column| column.name());
                    let jobs = OF_JOBS.iter().map(|(name, _)| *name);
                    ["goodput", "waste"].into_iter().chain(jobs).chain(columns)
                };
                let hint = match nearest(what, known()) {
                    Some(best) => format!("did you mean `{best}`?"),
                    None => known().collect::<Vec<_>>().join(", "),
                };
                Err((format!("`{name}` is no figure of a run"), hint))
            }
        }
    }

    /// `None` where a run has no such figure: a job that held no gang has no ETTR.
    pub fn of(&self, scenario: &FleetScenario, figures: &Figures) -> Option<f64> {
        match self {
            Metric::Goodput => Some(figures.goodput()),
            Metric::Column(column) => Some(share(&figures.ledger, *column)),
            Metric::Waste => {
                let price = scenario.table.prices.as_ref()?.gpu_hour;
                Some(figures.gpu_hours() * (1.0 - figures.goodput()) * price)
            }
            Metric::Of { what, table, .. } => of_jobs(*what, figures.groups.get(*table)?),
        }
    }

    /// Whether more of it is what people want.
    pub fn is_better_when_high(&self) -> bool {
        use JobMetric::{Completed, Ettr, Steps};
        match self {
            Metric::Goodput => true,
            Metric::Column(column) => *column == Column::Productive,
            Metric::Waste => false,
            Metric::Of { what, .. } => matches!(what, Ettr | Steps | Completed),
        }
    }

    /// Whether it is from 0 to 1, and people say it in percent.
    pub fn is_share(&self) -> bool {
        match self {
            Metric::Goodput | Metric::Column(_) => true,
            Metric::Waste => false,
            Metric::Of { what, .. } => *what == JobMetric::Ettr,
        }
    }
}

fn of_jobs(what: JobMetric, group: &GroupFigures) -> Option<f64> {
    match what {
        JobMetric::Ettr => group.ettr(),
        JobMetric::Interruptions => Some(group.interruptions as f64),
        JobMetric::ReplicasLost => Some(group.replicas_lost as f64),
        JobMetric::Steps => Some(group.steps_saved as f64),
        JobMetric::Completed => Some(group.completed as f64),
        JobMetric::WaitHours => group.wait_mean().map(|wait| wait.0 as f64 / 3_600_000.0),
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Metric::Goodput => f.write_str("goodput"),
            Metric::Column(column) => f.write_str(column.name()),
            Metric::Waste => f.write_str("waste"),
            Metric::Of { what, name, .. } => {
                let known = OF_JOBS.iter().find(|(_, known)| known == what);
                write!(f, "{}.{name}", known.map_or("", |(word, _)| word))
            }
        }
    }
}
