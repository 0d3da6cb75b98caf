//! What a program reads.

use super::Told;
use lindos_sim::whatif::assume::assumptions;
use lindos_sim::whatif::compare::{Row, Unit};
use lindos_sim::whatif::words::verdict;
use serde::Serialize;
use std::collections::BTreeMap;

/// Columns are in GPU-hours, spans in hours, shares from 0 to 1.
#[derive(Serialize)]
pub struct WhatifResult {
    journal: String,
    records: u64,
    digest: String,
    /// Records at whose snapshots the replay came to the same state.
    proved: Vec<u64>,
    began_ms: u64,
    span_ms: u64,
    nodes: usize,
    gpus: u64,
    jobs: usize,
    incidents: BTreeMap<&'static str, u64>,
    /// The share of all GPU-time that stands in another column in the twin than on record.
    twin_distance: f64,
    change: Vec<String>,
    seeds: Vec<u64>,
    verdict: String,
    figures: BTreeMap<&'static str, Figure>,
    columns: BTreeMap<&'static str, Figure>,
    total: Figure,
    not_productive: Figure,
    /// With the faults on record, and so without an interval.
    on_record: BTreeMap<&'static str, Figure>,
    price: Price,
    assumptions: Vec<String>,
}

#[derive(Serialize)]
struct Price {
    gpu_hour: f64,
    currency: String,
}

#[derive(Serialize)]
struct Figure {
    unit: &'static str,
    recorded: f64,
    before: f64,
    after: f64,
    difference: f64,
    low: f64,
    high: f64,
    /// Of GPU-hours, what the difference costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference_cost: Option<f64>,
}

pub fn of(told: &Told) -> WhatifResult {
    let (history, proof) = (&told.recording.history, &told.recording.proof);
    let (comparison, price) = (told.comparison, told.price);
    let named = |rows: Vec<Row>| -> BTreeMap<&'static str, Figure> {
        rows.into_iter().map(|row| (row.name, figure(&row, price))).collect()
    };
    WhatifResult {
        journal: told.recording.journal.display().to_string(),
        records: proof.records,
        digest: proof.digest.to_string(),
        proved: proof.proved.iter().map(|seq| seq.0).collect(),
        began_ms: history.began.0,
        span_ms: history.span().0,
        nodes: history.nodes.len(),
        gpus: history.gpus(),
        jobs: history.jobs.len(),
        incidents: history.incidents_by_kind(),
        twin_distance: comparison.recorded.distance(&comparison.twin),
        change: told.change.words(),
        seeds: comparison.seeds.clone(),
        verdict: verdict(comparison, price, told.currency),
        figures: named(comparison.figures()),
        columns: named(comparison.columns()),
        total: figure(&comparison.total(), price),
        not_productive: figure(&comparison.waste(), price),
        on_record: named(comparison.on_record().unwrap_or_default()),
        price: Price { gpu_hour: price, currency: told.currency.to_string() },
        assumptions: assumptions(history, told.change, comparison, price, told.currency),
    }
}

fn figure(row: &Row, price: f64) -> Figure {
    let unit = match row.unit {
        Unit::GpuHours => "gpu_hours",
        Unit::Share => "share",
        Unit::Hours => "hours",
        Unit::Count => "count",
    };
    let difference = row.difference;
    Figure {
        unit,
        recorded: row.recorded,
        before: row.before,
        after: row.after,
        difference: difference.value,
        low: difference.low,
        high: difference.high,
        difference_cost: (row.unit == Unit::GpuHours).then_some(difference.value * price),
    }
}
