//! What a person reads of a fleet scenario.

use super::fleet_run::{GroupResult, Interval, SeedsResult};
use crate::output;
use crate::render::number::{apportion, grouped, or_dash, tenths};
use crate::render::table::{Builder, pairs};
use lindos_model::{Column, Millis, Time};
use lindos_sim::twin::figures::{CauseFigures, Figures, GroupFigures, gpu_hours};
use lindos_sim::twin::scenario::FleetScenario;
use std::fmt::Write as _;

/// One run.
pub fn run(scenario: &FleetScenario, run: &Figures) -> String {
    let mut text = about(scenario, &format!("{}, seed {}", run.ended.since(Time::ZERO), run.seed));
    text.push('\n');
    text.push_str(&jobs(scenario, run));
    text.push('\n');
    text.push_str(&ledger(scenario, run));
    text.push('\n');
    text.push_str(&faults(&run.faults));
    text
}

fn about(scenario: &FleetScenario, time: &str) -> String {
    let (nodes, gpus) = (grouped(scenario.nodes() as u64), grouped(scenario.gpus()));
    let faults = &scenario.table.faults;
    let scaled = |what: &str, scale: f64| {
        if (scale - 1.0).abs() < 1e-12 { String::new() } else { format!(", {what} × {scale}") }
    };
    let profile = format!(
        "{}{}{}{}",
        faults.profile,
        scaled("rates", faults.scale),
        scaled("repairs", faults.repair_scale),
        scaled("detection", faults.detect_scale)
    );
    pairs(&[
        ("fleet", format!("{}: {nodes} nodes, {gpus} GPUs", scenario.fleet)),
        ("time", time.to_string()),
        ("faults", profile),
    ])
}

/// A row for each job that stands alone, and a line for each table of many.
fn jobs(scenario: &FleetScenario, run: &Figures) -> String {
    let header = ["JOB", "STATE", "GPUS", "ETTR", "INTERRUPTED", "REPLICAS LOST", "STEPS"];
    let mut table = Builder::new(output::width(), &header).right(&[2, 3, 4, 5, 6]);
    let mut has_rows = false;
    for job in &run.jobs {
        let (is_one, outcome) = (scenario.table.jobs[job.table].count.is_none(), &job.outcome);
        if is_one {
            has_rows = true;
            table.row([
                job.name.clone(),
                outcome.state.to_string(),
                grouped(job.gpus),
                or_dash(outcome.ettr().map(percent)),
                grouped(outcome.tally.interruptions),
                grouped(outcome.tally.replicas_lost),
                grouped(outcome.steps_saved),
            ]);
        }
    }
    let mut text = if has_rows { table.finish() } else { String::new() };
    for (table, group) in scenario.table.jobs.iter().zip(&run.groups) {
        if table.count.is_some() {
            text.push_str(&many(&table.name, group));
        }
    }
    text
}

fn many(name: &str, group: &GroupFigures) -> String {
    let mut text = format!(
        "{name}: {} jobs: {} completed, {} running, {} queued\n",
        grouped(group.jobs),
        grouped(group.completed),
        grouped(group.running),
        grouped(group.queued)
    );
    let _ = writeln!(
        text,
        "  ETTR {}, {} interruptions, {} stops by the queue, mean wait {}",
        or_dash(group.ettr().map(percent)),
        grouped(group.interruptions),
        grouped(group.stops),
        or_dash(group.wait_mean())
    );
    text
}

/// GPU-hours, percent and money by column. Each sums to its last line.
fn ledger(scenario: &FleetScenario, run: &Figures) -> String {
    let rows: Vec<(Column, u64)> = run.ledger.iter().filter(|&(_, ms)| ms > 0).collect();
    let parts: Vec<u64> = rows.iter().map(|&(_, ms)| ms).collect();
    let hours = gpu_hours(run.ledger.total()).round() as u64;
    let (amounts, shares) = (apportion(&parts, hours), apportion(&parts, 1000));
    let prices = scenario.table.prices.as_ref();
    let mut header = vec!["COLUMN", "GPU-HOURS", "%"];
    header.extend(prices.map(|prices| prices.currency.as_str()));
    let mut table = Builder::new(output::width(), &header).right(&[1, 2, 3]);
    let money = |gpu_ms: u64| {
        prices.map(|prices| grouped((gpu_hours(gpu_ms) * prices.gpu_hour).round() as u64))
    };
    for (index, &(column, gpu_ms)) in rows.iter().enumerate() {
        let mut row = vec![column.name().into(), grouped(amounts[index]), tenths(shares[index])];
        row.extend(money(gpu_ms));
        table.row(row);
    }
    let mut total = vec!["total".to_string(), grouped(hours), tenths(1000)];
    total.extend(money(run.ledger.total()));
    table.row(total);
    let mut text = format!("goodput {}\n\n{}", percent(run.goodput()), table.finish());
    let stranded: Vec<String> = run
        .stranded_by
        .iter()
        .filter(|&(_, &ms)| ms > 0)
        .map(|(why, &ms)| format!("{why} {}", grouped(gpu_hours(ms).round() as u64)))
        .collect();
    if !stranded.is_empty() {
        let _ = writeln!(text, "stranded, in GPU-hours: {}", stranded.join(", "));
    }
    text
}

fn faults(faults: &[CauseFigures]) -> String {
    let struck: Vec<&CauseFigures> = faults.iter().filter(|cause| cause.struck > 0).collect();
    if struck.is_empty() {
        return "no fault has struck\n".to_string();
    }
    let header = ["CAUSE", "STRUCK", "HIT A JOB"];
    let mut table = Builder::new(output::width(), &header).right(&[1, 2]);
    for cause in &struck {
        table.row([cause.name.clone(), grouped(cause.struck), grouped(cause.hit)]);
    }
    let sum = |value: fn(&CauseFigures) -> u64| struck.iter().map(|cause| value(cause)).sum();
    table.row([
        "total".to_string(),
        grouped(sum(|cause| cause.struck)),
        grouped(sum(|cause| cause.hit)),
    ]);
    table.finish()
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Several seeds.
pub fn seeds(scenario: &FleetScenario, told: &SeedsResult) -> String {
    let until = Millis(scenario.until().0);
    let mut text = about(scenario, &format!("{until}, {} seeds", told.seeds.len()));
    text.push_str("\nmeans, and the intervals that hold the true one in 95 of 100 cases\n\n");
    let header = ["FIGURE", "MEAN", "FROM", "TO"];
    let mut table = Builder::new(output::width(), &header).right(&[1, 2, 3]);
    let mut row = |name: &str, mean: Option<Interval>, said: fn(f64) -> String| {
        let Some(Interval { mean, low, high }) = mean else { return };
        table.row([name.to_string(), said(mean), said(low), said(high)]);
    };
    row("goodput", told.goodput, fine_percent);
    for column in Column::ALL {
        let share = told.columns.get(column.name()).copied();
        row(&format!("  {}", column.name()), share.filter(|share| share.mean > 0.0), fine_percent);
    }
    for group in &told.jobs {
        row(&format!("{}: ETTR", group.name), group.ettr, fine_percent);
        for (what, mean) in counts(group) {
            row(&format!("  {what}"), mean.filter(|mean| mean.mean > 0.0), count);
        }
    }
    text.push_str(&table.finish());
    text.push('\n');
    text.push_str(&causes(told));
    text
}

fn causes(told: &SeedsResult) -> String {
    let header = ["CAUSE", "STRUCK", "HIT A JOB"];
    let mut table = Builder::new(output::width(), &header).right(&[1, 2]);
    for cause in told.faults.iter().filter(|cause| cause.struck.is_some_and(|m| m.mean > 0.0)) {
        let said = |mean: Option<Interval>| {
            let said = |mean: Interval| {
                format!("{} ({} to {})", count(mean.mean), count(mean.low), count(mean.high))
            };
            or_dash(mean.map(said))
        };
        table.row([cause.cause.to_string(), said(cause.struck), said(cause.hit)]);
    }
    table.finish()
}

fn counts(group: &GroupResult<'_>) -> [(&'static str, Option<Interval>); 6] {
    [
        ("interruptions", group.interruptions),
        ("replicas lost", group.replicas_lost),
        ("stops by the queue", group.stops),
        ("completed", group.completed),
        ("wait, hours", group.wait_hours),
        ("steps saved", group.steps_saved),
    ]
}

fn fine_percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

fn count(value: f64) -> String {
    if value.abs() >= 10_000.0 {
        grouped(value.round().abs() as u64)
    } else {
        format!("{value:.1}")
    }
}
