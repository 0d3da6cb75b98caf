//! What a person reads.

use super::Told;
use crate::output;
use crate::render::Style;
use crate::render::number::{grouped, plural};
use crate::render::table::{Builder, pairs};
use lindos_sim::whatif::assume::{assumptions, calibration};
use lindos_sim::whatif::compare::{Row, Unit};
use lindos_sim::whatif::words::{Words, verdict};
use std::fmt::Write as _;

/// A recording that begins before the year 2000 has the time of a simulation, from 0 on.
const REAL_TIME: u64 = 946_684_800_000;

pub fn of(told: &Told) -> String {
    let mut text = about(told);
    if told.change.is_none() {
        text.push_str("\nno change was given: this is how well the twin knows the recording\n\n");
        text.push_str(&unchanged(told));
    } else {
        let _ =
            write!(text, "\n{}\n\n", wrap(&verdict(told.comparison, told.price, told.currency)));
        text.push_str(&changed(told));
        text.push('\n');
        text.push_str(&money(told));
        text.push_str(&on_record(told));
    }
    text.push_str("\nassumptions\n");
    let all = assumptions(
        &told.recording.history,
        told.change,
        told.comparison,
        told.price,
        told.currency,
    );
    for line in all {
        let _ = writeln!(text, "{}", item(&line));
    }
    text
}

fn about(told: &Told) -> String {
    let (history, proof) = (&told.recording.history, &told.recording.proof);
    let began = history.began.0;
    let span = if began >= REAL_TIME {
        format!("{} from {}", history.span(), Style::of_the_reader().local(began))
    } else {
        format!("{}, simulated", history.span())
    };
    let digest = match proof.proved.len() {
        0 => format!("{} (no snapshot to prove it by)", proof.digest),
        1 => format!("{}, proved at 1 snapshot", proof.digest),
        many => format!("{}, proved at {many} snapshots", proof.digest),
    };
    let kinds: Vec<String> = history
        .incidents_by_kind()
        .into_iter()
        .map(|(kind, count)| format!("{kind} {}", grouped(count)))
        .collect();
    let kinds = if kinds.is_empty() { "no fault".to_string() } else { kinds.join(", ") };
    let mut rows = vec![
        ("journal", told.recording.journal.display().to_string()),
        ("time", span),
        (
            "fleet",
            format!(
                "{} nodes, {} GPUs; {} {}",
                grouped(history.nodes.len() as u64),
                grouped(history.gpus()),
                grouped(history.jobs.len() as u64),
                plural(history.jobs.len() as u64, "job")
            ),
        ),
        ("faults", kinds),
        ("replayed", format!("{} records, digest {digest}", grouped(proof.records))),
        ("twin", calibration(told.comparison)),
    ];
    for (seq, reason) in &proof.unread {
        rows.push(("", format!("the snapshot at record {seq} proves nothing: {reason}")));
    }
    if !told.change.is_none() {
        rows.push(("change", told.change.words().join("; ")));
    }
    let mut text = String::new();
    for (name, value) in rows {
        text.push_str(&pairs(&[(&format!("{name:<8}"), hang(&value, 10))]));
    }
    text
}

fn unchanged(told: &Told) -> String {
    let words = Words::of(told.comparison);
    let header = ["FIGURE", "RECORDED", "TWIN", "DIFFERENCE"];
    let mut table = Builder::new(output::width(), &header).right(&[1, 2, 3]);
    for row in figures(told) {
        let said = |value| words.value(row.unit, value);
        let more = words.signed(row.unit, row.before - row.recorded);
        table.row([label(&row), said(row.recorded), said(row.before), more]);
    }
    table.finish()
}

/// All figures that are anything, then the columns and their sum.
fn figures(told: &Told) -> Vec<Row> {
    let comparison = told.comparison;
    let is_shown =
        |row: &Row| row.unit != Unit::Count || row.recorded + row.before + row.after > 0.0;
    let mut rows: Vec<Row> = comparison.figures().into_iter().filter(is_shown).collect();
    rows.extend(comparison.columns());
    rows.push(comparison.total());
    rows
}

fn label(row: &Row) -> String {
    let hours = if row.unit == Unit::GpuHours { ", GPU-hours" } else { "" };
    format!("{}{}", row.name, if row.name == "total" { hours } else { "" })
}

fn changed(told: &Told) -> String {
    let comparison = told.comparison;
    let words = Words::of(comparison);
    let header = ["FIGURE, GPU-HOURS", "RECORDED", "BEFORE", "AFTER", "DIFFERENCE"];
    let mut table = Builder::new(output::width(), &header).right(&[1, 2, 3]);
    for row in figures(told) {
        let said = |value| words.value(row.unit, value);
        table.row([
            row.name.to_string(),
            said(row.recorded),
            said(row.before),
            said(row.after),
            words.difference(&row, comparison.is_drawn()),
        ]);
    }
    let mut text = table.finish();
    if comparison.is_drawn() {
        let note = format!(
            "BEFORE and AFTER are means over {} lives with drawn faults; in brackets, where the \
             true difference is in 95 of 100 cases.",
            comparison.seeds.len()
        );
        let _ = writeln!(text, "{}", wrap(&note));
    }
    text
}

fn money(told: &Told) -> String {
    let comparison = told.comparison;
    let words = Words::of_money(comparison, told.price);
    let title = format!("{} AT {} A GPU-HOUR", told.currency, told.price);
    let header = [title.as_str(), "BEFORE", "AFTER", "DIFFERENCE"];
    let mut table = Builder::new(output::width(), &header).right(&[1, 2]);
    for row in comparison.columns().into_iter().chain([comparison.waste(), comparison.total()]) {
        let row = row.times(told.price);
        let said = |value| words.value(row.unit, value);
        table.row([
            row.name.to_string(),
            said(row.before),
            said(row.after),
            words.difference(&row, comparison.is_drawn()),
        ]);
    }
    table.finish()
}

/// The one life that was lived, if others were drawn too.
fn on_record(told: &Told) -> String {
    let comparison = told.comparison;
    let Some(rows) = comparison.on_record().filter(|_| comparison.is_drawn()) else {
        return String::new();
    };
    let words = Words::of(comparison);
    let header = ["WITH THE FAULTS ON RECORD", "BEFORE", "AFTER", "DIFFERENCE"];
    let mut table = Builder::new(output::width(), &header).right(&[1, 2, 3]);
    let is_other = |row: &Row| row.name == "goodput" || (row.before - row.after).abs() > 1e-9;
    for row in rows.iter().filter(|row| is_other(row)) {
        let said = |value| words.value(row.unit, value);
        let difference = words.difference(row, false);
        table.row([row.name.to_string(), said(row.before), said(row.after), difference]);
    }
    format!("\n{}", table.finish())
}

/// Lines no wider than the reader's.
fn wrap(text: &str) -> String {
    hang(text, 0)
}

fn item(text: &str) -> String {
    format!("- {}", hang(text, 2))
}

/// Wrapped, lines after the first with so many blanks before them.
fn hang(text: &str, indent: usize) -> String {
    let width = usize::from(output::width()).saturating_sub(indent);
    let (mut wrapped, mut length) = (String::new(), 0);
    for word in text.split(' ') {
        let size = word.chars().count();
        if length > 0 && length + 1 + size > width {
            let _ = write!(wrapped, "\n{:indent$}", "");
            length = 0;
        } else if length > 0 {
            wrapped.push(' ');
            length += 1;
        }
        wrapped.push_str(word);
        length += size;
    }
    wrapped
}
