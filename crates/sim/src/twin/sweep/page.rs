//! A sweep as one page: the curve with its error bars, the figures, and every assumption.

use super::curve::{Curve, CurvePoint, Standing};
use crate::page::{self, Axis, Plot, SERIES_MAX, Scale, Series, escape};
use crate::reliability::{Hazard, Profile, Shape};
use crate::twin::scenario::FleetScenario;
use lindos_model::{Column, Millis};
use std::fmt::Write as _;

/// Names on an axis that can be read beside each other.
const TICKS_MAX: usize = 11;
/// Points that are named in a sentence.
const NAMED_MAX: usize = 4;

/// What a page tells besides the curve.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Of the scenario file.
    pub name: &'a str,
    pub text: &'a str,
    pub scenario: &'a FleetScenario,
    /// What somebody types to have it again.
    pub command: &'a str,
}

pub fn page(about: &About, curve: &Curve) -> String {
    let mut page = page::head(&format!("{}: {} by {}", about.name, curve.metric, curve.keys[0]));
    for line in about.scenario.table.about.trim().lines() {
        let _ = writeln!(page, "<p>{}</p>", escape(line.trim()));
    }
    let _ = writeln!(page, "<p>{}</p>", escape(&verdict(curve)));
    draw(&mut page, curve);
    figures(&mut page, curve);
    ledger(&mut page, curve);
    assumptions(&mut page, about, curve);
    page.push_str(page::FOOT);
    page
}

/// The best point in a sentence or two, and those that cannot be told from it.
pub fn verdict(curve: &Curve) -> String {
    let Some(best) = curve.best() else { return "No run has this figure.".to_string() };
    let most = if curve.metric.is_better_when_high() { "highest" } else { "lowest" };
    let mut text = format!(
        "The {most} {} is at {}: {}.",
        curve.metric,
        curve.name_of(best),
        estimate(curve, best)
    );
    let equal: Vec<String> = curve
        .points
        .iter()
        .filter(|point| point.standing == Standing::AsGood)
        .map(|point| curve.name_of(point))
        .collect();
    if curve.seeds.len() < 2 {
        text.push_str(" One seed says nothing of chance.");
    } else if equal.is_empty() {
        let _ = write!(text, " On {} seeds no other point is as good.", curve.seeds.len());
    } else {
        let seeds = curve.seeds.len();
        let _ = write!(
            text,
            " {seeds} seeds do not tell it from {}",
            equal[..equal.len().min(NAMED_MAX)].join("; ")
        );
        if equal.len() > NAMED_MAX {
            let _ = write!(text, "; and {} more", equal.len() - NAMED_MAX);
        }
        text.push('.');
    }
    text
}

/// `83.1% (82.8 to 83.4)`
pub fn estimate(curve: &Curve, point: &CurvePoint) -> String {
    let Some(mean) = point.mean else { return "-".to_string() };
    let (times, unit) = if curve.metric.is_share() { (100.0, "%") } else { (1.0, "") };
    let digits = digits(curve, times);
    let mean = mean * times;
    match point.interval {
        Some(interval) => {
            let (low, high) = (interval.low * times, interval.high * times);
            format!("{mean:.digits$}{unit} ({low:.digits$} to {high:.digits$})")
        }
        None => format!("{mean:.digits$}{unit}"),
    }
}

/// So many digits that points can be told apart.
fn digits(curve: &Curve, times: f64) -> usize {
    let means = || curve.points.iter().filter_map(|point| point.mean);
    let spread = means().fold(f64::MIN, f64::max) - means().fold(f64::MAX, f64::min);
    let spread = spread * times;
    if spread > 0.0 { (2 - spread.log10().floor() as i64).clamp(1, 4) as usize } else { 2 }
}

/// Points by the value of the second key; all of them where there is one key.
fn lines(curve: &Curve) -> Vec<(String, Vec<&CurvePoint>)> {
    let mut lines: Vec<(String, Vec<&CurvePoint>)> = Vec::new();
    for point in &curve.points {
        let name = match (curve.keys.get(1), point.values.get(1)) {
            (Some(key), Some(value)) => format!("{key}={value}"),
            _ => curve.metric.to_string(),
        };
        match lines.last_mut() {
            Some((last, points)) if *last == name => points.push(point),
            _ => lines.push((name, vec![point])),
        }
    }
    lines
}

fn draw(page: &mut String, curve: &Curve) {
    let lines = lines(curve);
    if lines.len() > 1 {
        page.push_str("<p class=\"legend\">");
        for (colour, (name, _)) in lines.iter().enumerate() {
            let (colour, name) = (colour % SERIES_MAX, escape(name));
            let _ = write!(
                page,
                "<span><svg viewBox=\"0 0 32 8\"><path class=\"line series-{colour}\" d=\"M0 4L32 \
                 4\"/></svg>{name}</span>"
            );
        }
        page.push_str("</p>\n");
    }
    let times = if curve.metric.is_share() { 100.0 } else { 1.0 };
    let x = x_axis(curve);
    let line = |(colour, (name, points)): (usize, &(String, Vec<&CurvePoint>))| {
        let place = |point: &CurvePoint| x_of(curve, point);
        let known = || points.iter().copied().filter_map(|point| Some((point, point.mean?)));
        Series {
            name: name.clone(),
            colour,
            points: known().map(|(point, mean)| (place(point), mean * times)).collect(),
            errors: known()
                .map(|(point, mean)| {
                    let (low, high) = point.interval.map_or((mean, mean), |i| (i.low, i.high));
                    (place(point), low * times, high * times)
                })
                .collect(),
        }
    };
    let series: Vec<Series> = lines.iter().enumerate().map(line).collect();
    let ends = || series.iter().flat_map(|line| &line.errors);
    let low = ends().map(|error| error.1).fold(f64::MAX, f64::min);
    let high = ends().map(|error| error.2).fold(f64::MIN, f64::max);
    if low > high {
        return;
    }
    let unit = if curve.metric.is_share() { ", %" } else { "" };
    let plot = Plot {
        about: format!("{} by {}", curve.metric, curve.keys[0]),
        width: 900.0,
        height: 380.0,
        x,
        y: Axis::around(&format!("{}{unit}", curve.metric), low, high, 6),
        band: None,
        series,
    };
    page.push_str(&plot.svg());
    let _ = writeln!(
        page,
        "<p>Dots are means over {} seeds, bars their 95 % intervals. The upright axis need not \
         begin at 0.</p>",
        curve.seeds.len()
    );
}

/// Where a point stands along the axis: by its value, or by its number where values are words.
fn x_of(curve: &Curve, point: &CurvePoint) -> f64 {
    if let (true, Some(place)) = (has_places(curve), point.values[0].place()) {
        return place;
    }
    let firsts = firsts(curve);
    firsts.iter().position(|value| **value == point.values[0]).unwrap_or(0) as f64
}

fn has_places(curve: &Curve) -> bool {
    curve.points.iter().all(|point| point.values[0].place().is_some())
}

fn firsts(curve: &Curve) -> Vec<&super::Value> {
    let mut firsts: Vec<&super::Value> = Vec::new();
    for point in &curve.points {
        if !firsts.contains(&&point.values[0]) {
            firsts.push(&point.values[0]);
        }
    }
    firsts
}

fn x_axis(curve: &Curve) -> Axis {
    let mut ticks: Vec<(f64, String)> = curve
        .points
        .iter()
        .map(|point| (x_of(curve, point), point.values[0].to_string()))
        .collect();
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    ticks.dedup_by(|a, b| a.0.total_cmp(&b.0).is_eq());
    let (from, to) = (ticks[0].0, ticks[ticks.len() - 1].0);
    let each = ticks.len().div_ceil(TICKS_MAX);
    let ticks = ticks.into_iter().step_by(each).collect();
    let is_log = curve.is_geometric && from > 0.0;
    let scale = if is_log { Scale::Log } else { Scale::Linear };
    // Points at the very edge would have half of their bars cut off.
    let (from, to) = match scale {
        Scale::Log => (from / (to / from).powf(0.03), to * (to / from).powf(0.03)),
        Scale::Linear => (from - (to - from) * 0.03, to + (to - from) * 0.03),
    };
    Axis { label: curve.keys[0].clone(), scale, from, to, ticks }
}

fn figures(page: &mut String, curve: &Curve) {
    page.push_str("<h2>Figures</h2>\n<div class=\"scroll\"><table><tr>");
    for key in &curve.keys {
        let _ = write!(page, "<th>{}</th>", escape(key));
    }
    let _ = writeln!(
        page,
        "<th>{}</th><th>Against the best</th></tr>",
        escape(&curve.metric.to_string())
    );
    for point in &curve.points {
        let is_best = point.standing == Standing::Best;
        let _ = write!(page, "<tr{}>", if is_best { " class=\"best\"" } else { "" });
        for value in &point.values {
            let _ = write!(page, "<td>{}</td>", escape(&value.to_string()));
        }
        let (said, standing) = (estimate(curve, point), point.standing.name());
        let _ = writeln!(page, "<td>{said}</td><td>{standing}</td></tr>");
    }
    page.push_str("</table></div>\n");
}

fn ledger(page: &mut String, curve: &Curve) {
    let used: Vec<usize> = (0..Column::ALL.len())
        .filter(|&index| curve.points.iter().any(|point| point.shares[index].1 > 0.0))
        .collect();
    page.push_str(
        "<h2>Where the GPU-time went</h2>\n<p>Mean share of all GPU-time of the fleet, \
                   in percent.</p>\n<div class=\"scroll\"><table><tr>",
    );
    for key in &curve.keys {
        let _ = write!(page, "<th>{}</th>", escape(key));
    }
    for &index in &used {
        let _ = write!(page, "<th>{}</th>", Column::ALL[index].name());
    }
    page.push_str("</tr>\n");
    for point in &curve.points {
        page.push_str("<tr>");
        for value in &point.values {
            let _ = write!(page, "<td>{}</td>", escape(&value.to_string()));
        }
        for &index in &used {
            let _ = write!(page, "<td>{:.2}</td>", point.shares[index].1 * 100.0);
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

fn assumptions(page: &mut String, about: &About, curve: &Curve) {
    let scenario = about.scenario;
    let seeds: Vec<String> = curve.seeds.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        page,
        "<h2>Assumptions</h2>\n<dl><dt>Fleet</dt><dd>{}: {} nodes, {} GPUs</dd>\
         <dt>Time</dt><dd>{}</dd><dt>Seeds</dt><dd>{}. Each point is played on all of them, and \
         what two points have in common they share fault by fault.</dd>\
         <dt>As good</dt><dd>Seed by seed, the 95 % interval of the difference to the best point \
         holds 0.</dd><dt>Command</dt><dd><code>{}</code></dd></dl>",
        escape(&scenario.fleet),
        scenario.nodes(),
        scenario.gpus(),
        scenario.table.until.0,
        seeds.join(", "),
        escape(about.command)
    );
    let _ = writeln!(
        page,
        "<h3>The scenario, as it stands in {}</h3>\n<pre>{}</pre>",
        escape(about.name),
        escape(about.text.trim_end())
    );
    profile(page, &scenario.table.faults.profile, &scenario.profile);
}

fn profile(page: &mut String, name: &str, profile: &Profile) {
    let _ = writeln!(
        page,
        "<h3>The fault profile {}</h3>\n<p>{}</p>\n<p>Rates and times are with the scales of the \
         scenario as it stands.</p>",
        escape(name),
        escape(&profile.about)
    );
    for note in &profile.notes {
        let _ = writeln!(page, "<p>{}</p>", escape(note));
    }
    if let Some(lemons) = &profile.lemons {
        let _ = writeln!(
            page,
            "<p>Lemons: {:.2} % of the nodes fail {} times as often ({}).</p>",
            lemons.share * 100.0,
            lemons.factor,
            escape(&lemons.source)
        );
    }
    page.push_str(
        "<div class=\"scroll\"><table class=\"causes\"><tr><th>Cause</th><th>Per</th><th>In 1,000 \
         days</th><th>Effect</th><th>Seen after</th><th>Mended after</th><th>Source</th></tr>\n",
    );
    for cause in &profile.causes {
        let seen = cause.detect.as_ref().map_or("-".to_string(), |detect| {
            format!("{} ({:.0} %)", span(detect.after.mean()), detect.seen * 100.0)
        });
        let takes: f64 = cause.repair.iter().map(|rule| rule.chance * rule.takes.mean()).sum();
        let mended = if cause.repair.is_empty() { "-".to_string() } else { span(takes) };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{seen}</td><td>{mended}</td>\
             <td>{}</td></tr>",
            escape(&cause.name),
            cause.per,
            rate(&cause.hazard),
            cause.effect.name(),
            escape(&sources(cause))
        );
    }
    page.push_str("</table></div>\n");
}

fn sources(cause: &crate::reliability::Cause) -> String {
    let mut all = vec![("rate", cause.source.as_str())];
    all.extend(cause.detect.iter().map(|detect| ("seen", detect.source.as_str())));
    all.extend(cause.repair.first().map(|rule| ("mended", rule.source.as_str())));
    let said = all.iter().map(|(what, source)| format!("{what}: {}", source.trim()));
    said.collect::<Vec<_>>().join("; ")
}

fn rate(hazard: &Hazard) -> String {
    let thousand_days = hazard.per_day * 1000.0;
    match hazard.shape {
        Shape::Constant => format!("{thousand_days:.3}"),
        Shape::Infant { .. } => format!("{thousand_days:.3}, more when new"),
        Shape::Wear { life_days, .. } => format!("once in {life_days:.0} days, by age"),
    }
}

/// Of milliseconds.
fn span(ms: f64) -> String {
    Millis(ms.round() as u64).to_string()
}
