use crate::failure::{Exit, Failure};
use crate::output;
use crate::render::table::Builder;
use clap::Args;
use lindos_hardware::health::{self, Check, Monitor, Reading, Standing, State};
use lindos_hardware::kernel_log::source::From;
use lindos_hardware::nvml::NvmlSource;
use lindos_hardware::system::{Expectations, Root};
use lindos_model::Finding;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Args, Debug)]
pub struct CheckArgs {
    /// What this machine should have: a TOML file, as docs/health.md describes it
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Another library in place of libnvidia-ml.so.1
    #[arg(long, value_name = "FILE", env = "LINDOS_NVML")]
    nvml: Option<PathBuf>,
    /// Look at a machine whose /dev, /proc and /sys are below this folder
    #[arg(long, value_name = "DIR", env = "LINDOS_HEALTH_ROOT", hide = true)]
    root: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub struct ChecksArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const HINT: &str = "the keys of an expectations file: docs/health.md";
/// Longer than the monitor waits for any check.
const ALL_DONE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

fn expectations(path: Option<&PathBuf>) -> Result<Expectations, Failure> {
    let Some(path) = path else { return Ok(Expectations::default()) };
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::bad_input(format!("{} cannot be read: {error}", path.display()), HINT)
    })?;
    Expectations::parse(path, &text).map_err(|error| {
        let hint = error.hint.clone();
        Failure { hint: hint.or_else(|| Some(HINT.to_string())), ..Failure::from(error) }
    })
}

/// Runs every check once. The kernel log is read from the boot on.
pub fn check(args: &CheckArgs) -> Result<(), Failure> {
    let expected = expectations(args.expect.as_ref())?;
    let nvml = args.nvml.clone().map_or_else(NvmlSource::of_the_driver, NvmlSource::at);
    let root = args.root.as_deref().map_or_else(Root::of_this_machine, Root::at);
    let checks = health::checks(&root, &expected, From::Boot, nvml);
    let count = checks.len();
    // A single look takes what it sees at its word.
    let mut monitor = Monitor::new(checks.into_iter().map(Once::wrap).collect());
    let began = Instant::now();
    let mut edges = Vec::new();
    while monitor.standings().count() < count && began.elapsed() < ALL_DONE {
        monitor.poll(began.elapsed(), &mut edges);
        std::thread::sleep(LOOK_AGAIN.min(ALL_DONE));
    }
    let standings: Vec<&Standing> = monitor.standings().collect();
    if args.json {
        let lines: Vec<Line> = standings.iter().map(|standing| Line::of(standing)).collect();
        return output::json(&lines);
    }
    output::data(&table(&standings))
}

/// A check whose first reading counts.
#[derive(Debug)]
struct Once(Box<dyn Check>);

impl Once {
    fn wrap(check: Box<dyn Check>) -> Box<dyn Check> {
        Box::new(Once(check))
    }
}

impl Check for Once {
    fn about(&self) -> health::About {
        // It is not run again while others are waited for.
        health::About { interval: Duration::from_secs(3600), confirmations: 1, ..self.0.about() }
    }

    fn read(&mut self, now: Duration) -> Reading {
        self.0.read(now)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    check: &'a str,
    state: &'static str,
    seen: &'a str,
    findings: &'a [Finding],
    took_us: u64,
}

impl<'a> Line<'a> {
    fn of(standing: &'a Standing) -> Line<'a> {
        let (state, findings): (&str, &[Finding]) = match &standing.state {
            State::Ok => ("ok", &[]),
            State::Absent => ("absent", &[]),
            State::Unknown => ("unknown", &[]),
            State::Found(findings) => ("finding", findings),
        };
        let took_us = u64::try_from(standing.took.as_micros()).unwrap_or(u64::MAX);
        Line { check: standing.about, state, seen: &standing.words, findings, took_us }
    }
}

fn table(standings: &[&Standing]) -> String {
    let mut table = Builder::new(output::width(), &["CHECK", "STATE", "SEEN"]);
    let mut details = String::new();
    for standing in standings {
        let line = Line::of(standing);
        table.row([line.check.to_string(), line.state.to_string(), line.seen.to_string()]);
        for finding in line.findings {
            let _ = write!(details, "\n{}", describe(finding));
        }
    }
    table.finish() + &details
}

fn describe(finding: &Finding) -> String {
    let device = finding.device.as_ref().map_or(String::new(), |device| format!(" {device}"));
    let cause = finding.cause.as_ref().map_or(String::new(), |c| format!(", follows {c}"));
    let head = format!("{}{device}: {}{cause}", finding.class, finding.severity);
    format!("{head}, suggests {}\n  {}\n", finding.action, finding.detail)
}

#[derive(Serialize)]
struct AboutLine {
    check: &'static str,
    meaning: &'static str,
    source: &'static str,
    thresholds: &'static str,
    interval_seconds: u64,
    confirmations: u32,
    cost: &'static str,
}

/// What is checked, and what it means.
pub fn checks(args: &ChecksArgs) -> Result<(), Failure> {
    let nvml = NvmlSource::of_the_driver();
    let root = Root::of_this_machine();
    let checks = health::checks(&root, &Expectations::default(), From::Now, nvml);
    let lines: Vec<AboutLine> = checks
        .iter()
        .map(|check| {
            let about = check.about();
            AboutLine {
                check: about.name,
                meaning: about.meaning,
                source: about.source,
                thresholds: about.thresholds,
                interval_seconds: about.interval.as_secs(),
                confirmations: about.confirmations,
                cost: about.cost,
            }
        })
        .collect();
    if args.json {
        return output::json(&lines);
    }
    if lines.is_empty() {
        return Err(Failure::new(Exit::Failed, "there is no check", "this is a bug"));
    }
    output::data(&describe_all(&lines))
}

fn describe_all(lines: &[AboutLine]) -> String {
    let width = usize::from(output::width());
    let mut text = String::new();
    for line in lines {
        let again = match line.confirmations {
            1 => String::new(),
            times => format!(", {times} times in a row"),
        };
        let _ = writeln!(text, "{}", line.check);
        let every = format!("{} s{again}", line.interval_seconds);
        for (name, value) in [
            ("finds", line.meaning),
            ("source", line.source),
            ("from", line.thresholds),
            ("every", &every),
            ("cost", line.cost),
        ] {
            text += &wrap(&format!("  {name:<7} "), value, width);
        }
        text.push('\n');
    }
    text
}

/// Words in lines of a width, the later ones set in as deep as the first.
fn wrap(head: &str, words: &str, width: usize) -> String {
    let mut text = String::new();
    let mut line = head.to_string();
    let mut is_empty = true;
    for word in words.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
            let _ = writeln!(text, "{line}");
            line = " ".repeat(head.len());
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    text + &format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped_under_their_beginning() {
        assert_eq!(wrap("  a  ", "one two three", 12), "  a  one two\n     three\n");
    }
}
