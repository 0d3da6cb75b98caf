//! What a case says: a published figure, and ours.

use crate::reliability::stats::Estimate;
use serde::Serialize;

/// What belongs together in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    Ettr,
    Months,
    Mttf,
    Interval,
    Spares,
    Itself,
}

impl Group {
    pub const ALL: [Group; 6] =
        [Group::Ettr, Group::Months, Group::Mttf, Group::Interval, Group::Spares, Group::Itself];

    pub fn title(self) -> &'static str {
        match self {
            Group::Ettr => "Effective training time of one synchronous job",
            Group::Months => "54 days on 16,384 GPUs",
            Group::Mttf => "Mean time to failure",
            Group::Interval => "The best checkpoint interval",
            Group::Spares => "Nodes that are out at once",
            Group::Itself => "Goodput of a run of Lindos itself",
        }
    }
}

/// One figure of the twin beside a published one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub group: Group,
    pub name: String,
    /// Of `published`, `ours`, `low` and `high`; empty for a share or a number.
    pub unit: &'static str,
    pub published: f64,
    /// The document that has the published figure, or the formula that it follows from.
    pub source: String,
    pub ours: f64,
    /// Of our figure: an interval that holds the true one in 95 of 100 cases.
    pub low: f64,
    pub high: f64,
    pub ok: bool,
    /// What `ok` asks for.
    pub rule: String,
    /// What was played, what was assumed, and what does not fit.
    pub note: String,
}

impl Check {
    /// To be judged by [`Check::judged`]; not ok until then.
    pub fn new(group: Group, name: String, unit: &'static str, published: f64) -> Check {
        Check {
            group,
            name,
            unit,
            published,
            source: String::new(),
            ours: f64::NAN,
            low: f64::NAN,
            high: f64::NAN,
            ok: false,
            rule: String::new(),
            note: String::new(),
        }
    }

    pub fn source(self, source: impl Into<String>) -> Check {
        Check { source: source.into(), ..self }
    }

    pub fn ours(self, estimate: Estimate) -> Check {
        Check { ours: estimate.value, low: estimate.low, high: estimate.high, ..self }
    }

    pub fn judged(self, ok: bool, rule: impl Into<String>) -> Check {
        Check { ok, rule: rule.into(), ..self }
    }

    pub fn note(self, note: impl Into<String>) -> Check {
        Check { note: note.into(), ..self }
    }
}
