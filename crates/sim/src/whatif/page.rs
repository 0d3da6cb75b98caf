//! The answer as one page: the ledger before and after, the figures, and every assumption.

use super::assume::{assumptions, calibration};
use super::change::Change;
use super::chart::{self, Pair};
use super::compare::{Comparison, Row, Unit};
use super::history::History;
use super::replay::Proof;
use super::tale::Tale;
use super::words::{Words, verdict};
use crate::page::{self, Axis, Plot, Series, escape};
use lindos_model::Column;
use std::fmt::Write as _;

/// Points of a curve of waits.
const WAIT_POINTS: usize = 200;

/// What a page tells besides the comparison.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub journal: &'a str,
    pub history: &'a History,
    pub proof: &'a Proof,
    pub change: &'a Change,
    pub price: f64,
    pub currency: &'a str,
    /// What somebody types to have it again.
    pub command: &'a str,
}

pub fn page(about: &About, comparison: &Comparison) -> String {
    let change = about.change.words();
    let title =
        if change.is_empty() { "nothing is changed".to_string() } else { change.join("; ") };
    let mut page = page::head(&format!("What if: {title}"));
    let answer = verdict(comparison, about.price, about.currency);
    let _ = writeln!(page, "<p><strong>{}</strong></p>", escape(&answer));
    let _ = writeln!(page, "<p>How well the twin knows it: {}.</p>", calibration(comparison));
    legend(&mut page, comparison);
    ledger(&mut page, about, comparison);
    if comparison.is_drawn() {
        lives(&mut page, comparison);
    }
    waits(&mut page, comparison);
    figures(&mut page, about, comparison);
    on_record(&mut page, comparison);
    rest(&mut page, about, comparison);
    page.push_str(page::FOOT);
    page
}

fn legend(page: &mut String, comparison: &Comparison) {
    page.push_str("<p class=\"legend\">");
    for (colour, name) in ["before", "after"].into_iter().enumerate() {
        let _ = write!(
            page,
            "<span><svg viewBox=\"0 0 32 8\"><rect class=\"bar fill-{colour}\" width=\"32\" \
             height=\"8\"/></svg>{name}</span>"
        );
    }
    let what = if comparison.is_drawn() {
        format!(
            "Both are means over {} lives with drawn faults, the same for both. Intervals hold the \
             true difference in 95 of 100 cases.",
            comparison.seeds.len()
        )
    } else {
        "Both have the faults on record; nothing is said of chance.".to_string()
    };
    let _ = writeln!(page, "</p>\n<p>{what}</p>");
}

fn ledger(page: &mut String, about: &About, comparison: &Comparison) {
    let words = Words::of(comparison);
    let money = Words::of_money(comparison, about.price);
    let rows = comparison.columns();
    let said = |value| words.value(Unit::GpuHours, value);
    let other = rows.iter().filter(|row| row.column != Some(Column::Productive));
    let pairs: Vec<Pair> = other
        .map(|row| Pair {
            name: row.name.to_string(),
            before: row.before,
            after: row.after,
            said: format!("{} → {}", said(row.before), said(row.after)),
        })
        .collect();
    page.push_str("<h2>What is not productive</h2>\n");
    page.push_str(&chart::bars("GPU-hours by column, before and after", "GPU-hours", &pairs));
    let changes: Vec<chart::Change> = rows
        .iter()
        .map(|row| {
            let cost = row.times(about.price).difference.value;
            let cost = format!("{} {}", money.signed(Unit::GpuHours, cost), about.currency);
            let said = words.signed(Unit::GpuHours, row.difference.value);
            let said = format!("{said} ({cost})");
            chart::Change { name: row.name.to_string(), difference: row.difference, said }
        })
        .collect();
    page.push_str("<h2>What the change moves</h2>\n");
    let label = "GPU-hours more than before";
    page.push_str(&chart::differences("GPU-hours more than before, by column", label, &changes));
}

/// Goodput of each life, before and after.
fn lives(page: &mut String, comparison: &Comparison) {
    let line = |colour: usize, name: &str, tales: &[Tale]| Series {
        name: name.to_string(),
        colour,
        points: (1..).zip(tales).map(|(n, tale)| (f64::from(n), tale.goodput() * 100.0)).collect(),
        errors: (1..)
            .zip(tales)
            .map(|(n, tale)| (f64::from(n), tale.goodput() * 100.0, tale.goodput() * 100.0))
            .collect(),
    };
    let series = vec![line(0, "before", &comparison.before), line(1, "after", &comparison.after)];
    let all = || series.iter().flat_map(|line| &line.points).map(|(_, goodput)| *goodput);
    let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
    let count = comparison.seeds.len();
    let each = count.div_ceil(12);
    let ticks = (1..=count).step_by(each).map(|number| (number as f64, number.to_string()));
    let plot = Plot {
        about: "goodput of each life, before and after".to_string(),
        width: 900.0,
        height: 260.0,
        x: Axis {
            from: 0.5,
            to: count as f64 + 0.5,
            ticks: ticks.collect(),
            ..Axis::from_zero("life", count as f64, 1)
        },
        y: Axis::around("goodput, %", low, high, 5),
        band: None,
        series,
    };
    page.push_str("<h2>Goodput, life by life</h2>\n");
    page.push_str(&plot.svg());
}

/// Which share of the jobs has waited at most so long.
fn waits(page: &mut String, comparison: &Comparison) {
    let (before, after): (Vec<&Tale>, Vec<&Tale>) = if comparison.is_drawn() {
        (comparison.before.iter().collect(), comparison.after.iter().collect())
    } else {
        (vec![&comparison.twin], comparison.changed.iter().collect())
    };
    let all = [("before", before), ("after", after)];
    let curves: Vec<(&str, Vec<f64>)> = all
        .into_iter()
        .map(|(name, tales)| {
            let waits = tales.iter().flat_map(|tale| &tale.waits);
            let mut hours: Vec<f64> = waits.map(|wait| wait.0 as f64 / 3_600_000.0).collect();
            hours.sort_unstable_by(f64::total_cmp);
            (name, hours)
        })
        .collect();
    let most = curves.iter().filter_map(|(_, hours)| hours.last()).copied().fold(0.0, f64::max);
    if most <= 0.0 {
        page.push_str("<h2>Waits</h2>\n<p>No job has waited.</p>\n");
        return;
    }
    let series = curves.iter().enumerate().map(|(colour, (name, hours))| Series {
        name: (*name).to_string(),
        colour,
        points: shares(hours),
        errors: Vec::new(),
    });
    let plot = Plot {
        about: "share of jobs that have started by so long after their submission".to_string(),
        width: 900.0,
        height: 260.0,
        x: Axis::from_zero("hours from the submission to the first start", most, 8),
        y: Axis::from_zero("jobs, %", 100.0, 5),
        band: None,
        series: series.collect(),
    };
    page.push_str("<h2>Waits</h2>\n");
    page.push_str(&plot.svg());
}

fn shares(hours: &[f64]) -> Vec<(f64, f64)> {
    let each = hours.len().div_ceil(WAIT_POINTS).max(1);
    let mut points: Vec<(f64, f64)> = (0..hours.len())
        .step_by(each)
        .map(|index| (hours[index], (index + 1) as f64 * 100.0 / hours.len() as f64))
        .collect();
    points.extend(hours.last().map(|&last| (last, 100.0)));
    points
}

fn figures(page: &mut String, about: &About, comparison: &Comparison) {
    let (words, drawn) = (Words::of(comparison), comparison.is_drawn());
    page.push_str(
        "<h2>Figures</h2>\n<div class=\"scroll\"><table><tr><th>Figure</th><th>Recorded</th>\
         <th>Before</th><th>After</th><th>Difference</th></tr>\n",
    );
    let rows = || comparison.columns().into_iter().chain([comparison.waste(), comparison.total()]);
    for row in comparison.figures() {
        table_row(page, &row, words, drawn, row.name);
    }
    for row in rows() {
        table_row(page, &row, words, drawn, &format!("{}, GPU-hours", row.name));
    }
    let money = Words::of_money(comparison, about.price);
    for row in rows() {
        let name = format!("{}, {}", row.name, about.currency);
        table_row(page, &row.times(about.price), money, drawn, &name);
    }
    page.push_str("</table></div>\n");
}

fn table_row(page: &mut String, row: &Row, words: Words, is_drawn: bool, name: &str) {
    let said = |value| words.value(row.unit, value);
    let is_best = row.name == "goodput";
    let _ = writeln!(
        page,
        "<tr{}><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        if is_best { " class=\"best\"" } else { "" },
        escape(name),
        said(row.recorded),
        said(row.before),
        said(row.after),
        words.difference(row, is_drawn)
    );
}

/// The one life that was lived, if others were drawn too.
fn on_record(page: &mut String, comparison: &Comparison) {
    let Some(rows) = comparison.on_record().filter(|_| comparison.is_drawn()) else { return };
    let words = Words::of(comparison);
    page.push_str(
        "<h2>With the faults on record</h2>\n<p>The life that was lived, again and under the \
         change: one life, so nothing is said of chance.</p>\n<div class=\"scroll\"><table><tr>\
         <th>Figure</th><th>Recorded</th><th>Before</th><th>After</th><th>Difference</th></tr>\n",
    );
    for row in rows {
        table_row(page, &row, words, false, row.name);
    }
    page.push_str("</table></div>\n");
}

fn rest(page: &mut String, about: &About, comparison: &Comparison) {
    let About { history, change, price, currency, .. } = *about;
    page.push_str("<h2>Assumptions</h2>\n<ul>\n");
    for line in assumptions(history, change, comparison, price, currency) {
        let _ = writeln!(page, "<li>{}</li>", escape(&line));
    }
    let proved: Vec<String> = about.proof.proved.iter().map(ToString::to_string).collect();
    let proved = if proved.is_empty() {
        "there is no snapshot to prove it by".to_string()
    } else {
        format!("proved at the snapshots of records {}", proved.join(", "))
    };
    let seeds: Vec<String> = comparison.seeds.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        page,
        "</ul>\n<h2>The recording</h2>\n<dl><dt>Journal</dt><dd>{}</dd><dt>Time</dt><dd>{}</dd>\
         <dt>Fleet</dt><dd>{} nodes, {} GPUs</dd><dt>Jobs</dt><dd>{}</dd><dt>Replayed \
         unchanged</dt><dd>{} records, digest {}; {proved}</dd><dt>Seeds</dt><dd>{}</dd>\
         <dt>Command</dt><dd><code>{}</code></dd></dl>",
        escape(about.journal),
        history.span(),
        history.nodes.len(),
        history.gpus(),
        history.jobs.len(),
        about.proof.records,
        about.proof.digest,
        if seeds.is_empty() { "none".to_string() } else { seeds.join(", ") },
        escape(about.command)
    );
}
