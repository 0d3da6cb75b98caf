//! What `lindos bench schedule` prints, from the object that a program gets.

use crate::output;
use crate::render::number::rate;
use crate::render::table::{Builder, pairs};
use lindos_sim::bench::{Figure, Measures};
use serde_json::{Map, Value, json};

/// Every figure by its key, and what it is for a person. The key ends in the unit.
const FIGURES: [(&str, &str, &str); 23] = [
    ("one_node_us", "place one node", "us"),
    ("one_node_step_us", "  whole step", "us"),
    ("gang_1250_ms", "place 1,250 nodes", "ms"),
    ("gang_1250_step_ms", "  whole step", "ms"),
    ("gang_10000_ms", "place 10,000 nodes", "ms"),
    ("gang_10000_step_ms", "  whole step", "ms"),
    ("whole_fleet_ms", "place the whole fleet", "ms"),
    ("whole_fleet_step_ms", "  whole step", "ms"),
    ("unplaceable_ms", "say there is no place", "ms"),
    ("unplaceable_step_ms", "  whole step", "ms"),
    ("why_ms", "  why", "ms"),
    ("outlook_ms", "  why, with the outlook", "ms"),
    ("pass_100k_ms", "pass over the queue", "ms"),
    ("pass_starts", "  jobs started in it", ""),
    ("pass_new_hold_ms", "  with a new hold", "ms"),
    ("pass_every_job_ms", "  without `backfill_max`", "ms"),
    ("durable_jobs_per_s", "small jobs, durable", "/s"),
    ("durable_core_us", "  core, a job", "us"),
    ("durable_journal_us", "  journal, a job", "us"),
    ("durable_events", "  events, a job", ""),
    ("state_mb", "state in memory", "MB"),
    ("snapshot_mb", "  as a snapshot", "MB"),
    ("snapshot_ms", "  to make one", "ms"),
];

/// The medians by key, then what they are worth.
pub fn object(measures: &Measures) -> Value {
    let mut object = Map::new();
    object.insert("gpus".into(), json!(measures.gpus));
    object.insert("nodes".into(), json!(measures.nodes));
    object.insert("occupancy".into(), json!(rounded(measures.occupancy)));
    object.insert("whole_free_nodes".into(), json!(measures.whole_free_nodes));
    object.insert("build_s".into(), json!(rounded(measures.build_s)));
    put_figures(&mut object, &measures.figures);
    Value::Object(object)
}

/// Medians by key, and then what they are worth.
pub fn put_figures(object: &mut Map<String, Value>, figures: &[Figure]) {
    let by_key = |value: fn(&Figure) -> Value| {
        figures.iter().map(move |figure| (figure.key.to_string(), value(figure)))
    };
    object.extend(by_key(|figure| json!(figure.median().map(rounded))));
    object.insert("p95".into(), by_key(|figure| json!(figure.p95().map(rounded))).collect());
    object.insert("samples".into(), by_key(|figure| json!(figure.samples())).collect());
    let goals = by_key(|figure| json!(figure.goal)).filter(|(_, goal)| !goal.is_null());
    object.insert("goals".into(), goals.collect());
    let met = by_key(|figure| json!(figure.is_met())).filter(|(_, met)| !met.is_null());
    object.insert("met".into(), met.collect());
}

pub fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// One fleet.
pub fn alone(told: &Value, is_verbose: bool) -> String {
    about(std::slice::from_ref(told)) + "\n" + &in_full(told, is_verbose)
}

/// Fleets of several sizes, the largest last.
pub fn compared(all: &[Value], is_verbose: bool) -> String {
    let mut text = about(all) + "\n" + &growth(all);
    if is_verbose {
        for told in all {
            text.push('\n');
            text.push_str(&in_full(told, true));
        }
    }
    text
}

/// What was measured on.
fn about(all: &[Value]) -> String {
    let fleets: Vec<(String, String)> = all
        .iter()
        .map(|told| {
            let said = format!(
                "{} nodes, {} of them wholly free, {:.1}% of the GPUs in use",
                told["nodes"],
                told["whole_free_nodes"],
                told["occupancy"].as_f64().unwrap_or(0.0) * 100.0,
            );
            (format!("{} GPUs", told["gpus"]), said)
        })
        .collect();
    let rows: Vec<(&str, String)> =
        fleets.iter().map(|(name, said)| (name.as_str(), said.clone())).collect();
    pairs(&rows)
}

/// One fleet, a line a figure.
fn in_full(told: &Value, is_verbose: bool) -> String {
    let fleet = format!("{} GPUs", rate(told["gpus"].as_f64().unwrap_or(0.0)));
    let header = [fleet.as_str(), "median", "p95", "samples", "goal", ""];
    let mut table = Builder::new(output::width(), &header).right(&[1, 2, 3, 4]);
    for (key, name, unit) in FIGURES {
        let goal = &told["goals"][key];
        if is_verbose || !goal.is_null() {
            table.row([
                name.to_string(),
                said(&told[key], unit),
                said(&told["p95"][key], unit),
                told["samples"][key].to_string(),
                if goal.is_null() { String::new() } else { said(goal, unit) },
                verdict(told, key).to_string(),
            ]);
        }
    }
    table.finish()
}

/// All fleets side by side; the verdict is on the largest.
fn growth(all: &[Value]) -> String {
    let Some(largest) = all.last() else { return String::new() };
    let with_goals: Vec<(&str, &str, &str)> =
        FIGURES.into_iter().filter(|(key, ..)| !largest["goals"][*key].is_null()).collect();
    side_by_side(all, ("gpus", "GPUs"), &with_goals)
}

/// Fleets of several sizes, a column each, told apart by `size` and counted in what stands beside it.
pub fn side_by_side(all: &[Value], size: (&str, &str), figures: &[(&str, &str, &str)]) -> String {
    let Some(largest) = all.last() else { return String::new() };
    let fleet = |told: &Value| format!("{} {}", rate(told[size.0].as_f64().unwrap_or(0.0)), size.1);
    let mut header = vec!["medians".to_string()];
    header.extend(all.iter().map(fleet));
    header.extend(["goal".to_string(), String::new()]);
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let numbers: Vec<usize> = (1..=all.len() + 1).collect();
    let mut table = Builder::new(output::width(), &header).right(&numbers);
    for (key, name, unit) in figures {
        let goal = &largest["goals"][*key];
        let mut row = vec![(*name).to_string()];
        row.extend(all.iter().map(|told| said(&told[*key], unit)));
        row.push(if goal.is_null() { String::new() } else { said(goal, unit) });
        row.push(verdict(largest, key).to_string());
        table.row(row);
    }
    table.finish()
}

fn verdict(told: &Value, key: &str) -> &'static str {
    match told["met"][key].as_bool() {
        Some(true) => "ok",
        Some(false) => "missed",
        None => "",
    }
}

fn said(value: &Value, unit: &str) -> String {
    let Some(value) = value.as_f64() else { return "-".to_string() };
    match unit {
        "/s" => format!("{}/s", rate(value)),
        unit => format!("{} {unit}", digits(value)).trim_end().to_string(),
    }
}

/// Three digits of it, and all of a whole number.
fn digits(value: f64) -> String {
    match value {
        value if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_sim::bench::Unit;

    fn measures() -> Measures {
        let us =
            |values: &[f64]| Figure::new("one_node_us", Unit::Micros, Some(5.0), values.into());
        let rates = Figure::new("durable_jobs_per_s", Unit::PerSecond, Some(1e5), vec![41_234.0]);
        let none = Figure::new("gang_10000_ms", Unit::Millis, Some(5.0), vec![]);
        Measures {
            gpus: 10_000,
            nodes: 1_250,
            occupancy: 0.85,
            whole_free_nodes: 100,
            build_s: 1.0,
            figures: vec![us(&[1.0, 2.0, 12.34]), none, rates],
        }
    }

    #[test]
    fn a_program_gets_medians_by_key_and_null_where_there_is_none() {
        let object = object(&measures());
        assert_eq!(object["one_node_us"], 2.0);
        assert_eq!(object["gang_10000_ms"], Value::Null);
        assert_eq!(object["p95"]["one_node_us"], 12.34);
        assert_eq!(object["met"], json!({"one_node_us": true, "durable_jobs_per_s": false}));
    }

    #[test]
    fn a_person_reads_goals_and_verdicts() {
        let told = object(&measures());
        let text = growth(&[told.clone(), told]);
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[1].join(" "), "place one node 2 us 2 us 5 us ok");
        assert_eq!(lines[2].join(" "), "place 10,000 nodes - - 5 ms");
        assert_eq!(lines[3].join(" "), "small jobs, durable 41.2k/s 41.2k/s 100.0k/s missed");
    }
}
