//! One page that shows replays side by side: figures, plots and the definition of each figure, with
//! nothing loaded from anywhere.

use super::measure::{Bin, Measures, SIZE_CLASSES, Timeline, Window, waits};
use super::shape::TraceJob;
use super::world::Outcome;
use crate::page::{self, Axis, Plot, SERIES_MAX, Scale, Series, escape};
use lindos_model::{Millis, Time};
use std::fmt::Write as _;

/// Points of a line over time: more cannot be seen.
const POINTS: usize = 360;
/// Steps of a distribution.
const STEPS: usize = 200;
/// Teams in the table: those with most GPU-time.
const TEAMS_SHOWN: usize = 20;
const WIDE: f64 = 900.0;
const HALF: f64 = 440.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// One replay.
#[derive(Clone, Debug)]
pub struct Run {
    pub measures: Measures,
    pub outcome: Outcome,
}

/// The whole page.
pub fn page(trace: &str, jobs: &[TraceJob], runs: &[Run]) -> String {
    let mut page = page::head(&format!("Replay of {trace}"));
    if let Some(first) = runs.first() {
        head(&mut page, &first.measures);
        figures(&mut page, runs);
        sizes(&mut page, runs);
        teams(&mut page, runs);
        over_time(&mut page, runs);
        distributions(&mut page, jobs, runs);
        definitions(&mut page);
    }
    page.push_str(page::FOOT);
    page
}

fn head(page: &mut String, first: &Measures) {
    let _ = writeln!(
        page,
        "<p>{} jobs on {} nodes with {} GPUs ({}). Without any wait, {:.0} of \
         them would be held in the busy period.</p>",
        first.jobs,
        first.nodes,
        first.gpus,
        escape(&first.fleet),
        first.demand_gpus_busy
    );
    for skipped in &first.skipped {
        let _ = writeln!(
            page,
            "<p>Left out: {} rows, {} (the first is line {}).</p>",
            skipped.count,
            escape(&skipped.reason),
            skipped.first_line
        );
    }
}

/// A name and what it is for each run.
type Figure = (&'static str, fn(&Measures) -> String);

const FIGURES: [Figure; 17] = [
    ("Utilisation", |m| percent(m.utilisation)),
    ("Utilisation, busy period", |m| percent(m.utilisation_busy)),
    ("Wait, mean", |m| span(m.wait_s.mean)),
    ("Wait, median", |m| span(m.wait_s.p50)),
    ("Wait, p95", |m| span(m.wait_s.p95)),
    ("Wait, p99", |m| span(m.wait_s.p99)),
    ("Slowdown, mean", |m| format!("{:.2}", m.slowdown_mean)),
    ("Bounded slowdown, mean", |m| format!("{:.2}", m.slowdown_bounded_mean)),
    ("Stranded GPU-hours", |m| format!("{:.0}", m.stranded_gpu_hours)),
    ("Lost GPU-hours", |m| format!("{:.1}", m.lost_gpu_hours)),
    ("Fragmentation", |m| percent(m.fragmentation_mean)),
    ("Preemptions", |m| m.preemptions.to_string()),
    ("Longest queue", |m| m.queue_max.to_string()),
    ("Makespan", |m| span(m.makespan_s)),
    ("Completed", |m| m.completed.to_string()),
    ("Failed", |m| m.failed.to_string()),
    ("Unfinished", |m| m.unfinished.to_string()),
];

fn figures(page: &mut String, runs: &[Run]) {
    page.push_str("<h2>Figures</h2>\n<div class=\"scroll\"><table><tr><th></th>");
    for run in runs {
        let _ = write!(page, "<th>{}</th>", escape(&run.measures.policy));
    }
    page.push_str("</tr>\n");
    for (name, value) in FIGURES {
        let _ = write!(page, "<tr><td>{name}</td>");
        for run in runs {
            let _ = write!(page, "<td>{}</td>", value(&run.measures));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

fn sizes(page: &mut String, runs: &[Run]) {
    page.push_str(
        "<h2>Waits by size</h2>\n<div class=\"scroll\"><table><tr><th>Policy</th><th>GPUs</th>\
         <th>Jobs</th><th>Mean</th><th>Median</th><th>p95</th><th>p99</th><th>Longest</th></tr>\n",
    );
    for run in runs {
        for class in &run.measures.wait_by_size {
            let wait = &class.wait_s;
            let _ = writeln!(
                page,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
                 <td>{}</td><td>{}</td></tr>",
                escape(&run.measures.policy),
                class.gpus,
                wait.jobs,
                span(wait.mean),
                span(wait.p50),
                span(wait.p95),
                span(wait.p99),
                span(wait.max)
            );
        }
    }
    page.push_str("</table></div>\n");
}

fn teams(page: &mut String, runs: &[Run]) {
    let first = &runs[0].measures.wait_by_team;
    if first.len() < 2 {
        return;
    }
    page.push_str(
        "<h2>Waits by team</h2>\n<div class=\"scroll\"><table><tr><th>Team</th><th>Jobs</th>\
         <th>GPU-hours</th>",
    );
    for run in runs {
        let name = escape(&run.measures.policy);
        let _ = write!(page, "<th>{name}, mean</th><th>{name}, p95</th>");
    }
    page.push_str("</tr>\n");
    for (index, team) in first.iter().enumerate().take(TEAMS_SHOWN) {
        let name = if team.team.is_empty() { "(none)".into() } else { escape(&team.team) };
        let hours = team.gpu_hours;
        let _ = write!(page, "<tr><td>{name}</td><td>{}</td><td>{hours:.0}</td>", team.wait_s.jobs);
        for run in runs {
            let wait = &run.measures.wait_by_team[index].wait_s;
            let _ = write!(page, "<td>{}</td><td>{}</td>", span(wait.mean), span(wait.p95));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

fn legend(page: &mut String, runs: &[Run]) {
    page.push_str("<p class=\"legend\">");
    for (index, run) in runs.iter().enumerate() {
        let (colour, name) = (index % SERIES_MAX, escape(&run.measures.policy));
        let _ = write!(
            page,
            "<span><svg viewBox=\"0 0 32 8\"><path class=\"line series-{colour}\" d=\"M0 4L32 4\"/>\
             </svg>{name}</span>"
        );
    }
    page.push_str("</p>\n");
}

fn over_time(page: &mut String, runs: &[Run]) {
    let longest = runs.iter().map(|run| run.measures.makespan_s).fold(0.0, f64::max);
    let (unit_s, unit) = if longest > 3.0 * DAY { (DAY, "days") } else { (HOUR, "hours") };
    let x = Axis::from_zero(&format!("{unit} since the first submission"), longest / unit_s, 10);
    let x = Axis { to: (longest / unit_s).max(1e-9), ..x };
    let x = Axis { ticks: x.ticks.iter().filter(|tick| tick.0 <= x.to).cloned().collect(), ..x };
    let lines = |level: &dyn Fn(&Run, &Bin) -> f64| -> Vec<Series> {
        let line = |(colour, run): (usize, &Run)| Series {
            name: run.measures.policy.clone(),
            colour,
            points: points(&run.outcome.meter.timeline, unit_s, |bin| level(run, bin)),
            errors: Vec::new(),
        };
        runs.iter().enumerate().map(line).collect()
    };
    let band = band(runs[0].outcome.meter.window, runs[0].outcome.began, unit_s);
    let mut draw = |title: &str, y: &str, most: Option<f64>, series: Vec<Series>| {
        let values = series.iter().flat_map(|line| &line.points).map(|point| point.1);
        let most = most.unwrap_or_else(|| values.fold(0.0, f64::max));
        let plot = Plot {
            about: title.to_string(),
            width: WIDE,
            height: 250.0,
            x: x.clone(),
            y: Axis::from_zero(y, most, 5),
            band: band.clone(),
            series,
        };
        let _ = writeln!(page, "<h2>{title}</h2>");
        legend(page, runs);
        page.push_str(&plot.svg());
    };
    let share = |run: &Run, bin: &Bin| bin.held as f64 * 100.0 / run.measures.gpus as f64;
    draw("Utilisation over time", "% of GPUs held", Some(100.0), lines(&share));
    draw("Queue over time", "jobs waiting", None, lines(&|_, bin| bin.waiting as f64));
    draw("Stranded over time", "GPUs stranded", None, lines(&|_, bin| bin.stranded as f64));
}

fn band(window: Window, began: Time, unit_s: f64) -> Option<(f64, f64, String)> {
    let at = |time: Time| time.since(began).0 as f64 / 1000.0 / unit_s;
    (window.from < window.to).then(|| (at(window.from), at(window.to), "busy period".to_string()))
}

/// A level over time: the mean of each of at most [`POINTS`] spans, at its middle.
fn points(timeline: &Timeline, unit_s: f64, level: impl Fn(&Bin) -> f64) -> Vec<(f64, f64)> {
    let each = timeline.bins.len().div_ceil(POINTS).max(1);
    let bin_s = timeline.bin_ms as f64 / 1000.0;
    let spans = timeline.bins.chunks(each).enumerate();
    spans
        .map(|(index, bins)| {
            let middle = (index * each) as f64 + bins.len() as f64 / 2.0;
            let sum: f64 = bins.iter().map(&level).sum();
            let mean = sum / (bins.len() as f64 * timeline.bin_ms as f64);
            (middle * bin_s / unit_s, mean)
        })
        .collect()
}

fn distributions(page: &mut String, jobs: &[TraceJob], runs: &[Run]) {
    let all: Vec<_> = runs.iter().map(|run| waits(jobs, &run.outcome)).collect();
    page.push_str("<h2>Waits by size, cumulative</h2>\n");
    legend(page, runs);
    page.push_str("<div class=\"pair\">\n");
    for (class, (gpus, ..)) in SIZE_CLASSES.iter().enumerate() {
        let count = all[0][class].len();
        if count == 0 {
            continue;
        }
        let longest = all.iter().flat_map(|waits| &waits[class]).copied().fold(0.0, f64::max);
        let x = wait_axis(longest);
        let line = |(colour, waits): (usize, &[Vec<f64>; SIZE_CLASSES.len()])| Series {
            name: runs[colour].measures.policy.clone(),
            colour,
            points: cumulative(&waits[class], &x),
            errors: Vec::new(),
        };
        let plot = Plot {
            about: format!("Cumulative waits of jobs of {gpus} GPUs"),
            width: HALF,
            height: 230.0,
            y: Axis::from_zero("% of jobs", 100.0, 5),
            band: None,
            series: all.iter().enumerate().map(line).collect(),
            x,
        };
        let plural = if *gpus == "1" { "GPU" } else { "GPUs" };
        let _ = write!(page, "<div><h3>{gpus} {plural} ({count} jobs)</h3>{}</div>", plot.svg());
    }
    page.push_str("</div>\n");
}

/// Waits from a second up, by powers that people know.
fn wait_axis(longest: f64) -> Axis {
    const TICKS: [(f64, &str); 9] = [
        (1.0, "1s"),
        (10.0, "10s"),
        (60.0, "1m"),
        (600.0, "10m"),
        (HOUR, "1h"),
        (6.0 * HOUR, "6h"),
        (DAY, "1d"),
        (7.0 * DAY, "7d"),
        (60.0 * DAY, "60d"),
    ];
    let end = TICKS.iter().map(|tick| tick.0).find(|&tick| tick >= longest.max(10.0));
    let to = end.unwrap_or(longest);
    let ticks = TICKS.iter().filter(|tick| tick.0 <= to);
    Axis {
        label: "waited at most".to_string(),
        scale: Scale::Log,
        from: 1.0,
        to,
        ticks: ticks.map(|&(at, name)| (at, name.to_string())).collect(),
    }
}

/// The share of the values that are not above each of some points of the axis, in percent.
fn cumulative(values: &[f64], axis: &Axis) -> Vec<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let ratio = axis.to / axis.from;
    (0..=STEPS)
        .map(|step| {
            let at = axis.from * ratio.powf(step as f64 / STEPS as f64);
            // The last point is the end of the axis, whatever the powers were rounded to.
            let at = if step == STEPS { axis.to } else { at };
            let below = sorted.partition_point(|&value| value <= at);
            (at, below as f64 * 100.0 / sorted.len().max(1) as f64)
        })
        .collect()
}

const DEFINITIONS: [(&str, &str); 12] = [
    (
        "Utilisation",
        "GPU-time of attempts whose work counted (the ledger's column productive) ÷ GPU-time of \
         the fleet, from the first submission to the last end.",
    ),
    (
        "Busy period",
        "From the submission at which 10% of all GPU-time was submitted to the one at which 90% \
         was; the same for every policy. Its utilisation is the GPU-time that gangs held in it ÷ \
         that of the fleet.",
    ),
    ("Wait", "From the submission to the first start, of every job that started."),
    (
        "Median, p95, p99",
        "Nearest rank: the smallest value that is not below that share of all values.",
    ),
    ("Slowdown", "(End − submission) ÷ duration, the mean over all jobs that completed."),
    ("Bounded slowdown", "The same with a duration of at least 10 s, and never below 1."),
    (
        "Stranded GPU-hours",
        "GPU-time that was free while jobs waited, at most what they asked for together (the \
         ledger's column stranded).",
    ),
    (
        "Lost GPU-hours",
        "Work since the last checkpoint of attempts that were stopped, which had to be done again \
         (the ledger's column lost).",
    ),
    (
        "Fragmentation",
        "GPU-time that was free on nodes of which some GPUs were held ÷ all free GPU-time.",
    ),
    ("Preemptions", "Attempts that the policy stopped, and whose jobs went on later."),
    ("Makespan", "From the first submission to the last end."),
    (
        "The world",
        "It is ideal: ranks run as soon as they are launched, a stop takes no time, nothing fails. \
         What is left is the queue, the policy and the placement.",
    ),
];

fn definitions(page: &mut String) {
    page.push_str("<h2>What the figures are</h2>\n<dl>\n");
    for (name, meaning) in DEFINITIONS {
        let _ = writeln!(page, "<dt>{name}</dt><dd>{meaning}</dd>");
    }
    page.push_str("</dl>\n");
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn span(seconds: f64) -> String {
    Millis((seconds * 1000.0).round() as u64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cumulative_line_ends_at_all_and_counts_what_is_below() {
        let axis = wait_axis(500.0);
        assert_eq!(axis.ticks.last().map(|tick| tick.1.as_str()), Some("10m"));
        let line = cumulative(&[0.0, 0.5, 30.0, 500.0], &axis);
        assert_eq!(line.first(), Some(&(1.0, 50.0)));
        assert_eq!(line.last(), Some(&(600.0, 100.0)));
        assert!(
            line.iter().any(|&(at, share)| at > 30.0 && at < 60.0 && (share - 75.0).abs() < 1e-9)
        );
    }

    #[test]
    fn a_longer_timeline_is_thinned_without_losing_any_of_it() {
        let bins = vec![Bin { held: 60_000, ..Bin::default() }; POINTS * 2 + 1];
        let timeline = Timeline { began: Time(0), bin_ms: 60_000, bins };
        let line = points(&timeline, HOUR, |bin| bin.held as f64);
        assert!(line.len() <= POINTS);
        assert!(line.iter().all(|&(_, level)| (level - 1.0).abs() < 1e-9));
    }
}
