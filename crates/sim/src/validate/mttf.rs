//! How long a job of some size runs between two failures, when nodes fail as often as published.

use super::Options;
use super::campaign::{Campaign, Played};
use super::check::{Check, Group};
use super::ground::{self, RESTART_ONLY};
use crate::reliability::stats::{USUAL_CONFIDENCE, ratio_interval};
use crate::reliability::{Profile, ready};
use lindos_model::Millis;

/// Failures that a case is long enough for, over all its fleets; the interval is then ± 5 %.
const FAILURES: f64 = 1500.0;
const FAILURES_QUICK: f64 = 400.0;
/// Fleets at least, each with lemons of its own …
const FLEETS_MIN: f64 = 16.0;
/// … and for so long at most: a job sheds lemons, as those that are out are replaced.
const DAYS_MAX: f64 = 30.0;
const QUICK_NODES_MAX: u32 = 2048;
/// How far the twin may be from the published figure, beside its interval.
const APART_MAX: f64 = 0.05;

#[derive(Clone, Debug)]
pub struct Size {
    name: &'static str,
    profile: Failing,
    nodes: u32,
    spares: u32,
    hours: f64,
    /// Half of the last digit that was printed.
    rounded_by: f64,
    failures: f64,
    source: &'static str,
    note: &'static str,
}

#[derive(Clone, Debug)]
enum Failing {
    As(&'static str),
    /// So often a node and day.
    Rate(f64),
}

pub fn all(options: Options) -> Vec<Size> {
    let failures = if options.is_quick { FAILURES_QUICK } else { FAILURES };
    let kokolis = "arXiv:2410.21680, from 6.5 in 1,000 node-days";
    let rsc = |name, nodes, spares, hours, rounded_by, note| Size {
        name,
        profile: Failing::As("rsc-1"),
        nodes,
        spares,
        hours,
        rounded_by,
        failures,
        source: kokolis,
        note,
    };
    let all = vec![
        rsc(
            "1,024 GPUs, rsc-1",
            128,
            16,
            28.85,
            0.0,
            "by the rate. Measured on RSC-1 at this size were 7.9 h: a quarter of what its own rate \
             gives, and no profile can have both",
        ),
        rsc("16,384 GPUs, rsc-1", 2048, 96, 1.8, 0.05, "projected, not measured"),
        rsc("131,072 GPUs, rsc-1", 16_384, 640, 0.23, 0.005, "projected, not measured"),
        Size {
            name: "16,384 GPUs, byterobust-2025",
            profile: Failing::As("byterobust-2025"),
            nodes: 2048,
            spares: 96,
            hours: 2.78,
            rounded_by: 0.005,
            failures,
            source: "arXiv:2509.16293",
            note: "Llama 3 had 3.09 h and RSC-1's rate gives 1.8 h at this size: fleets differ",
        },
        Size {
            name: "100,000 GPUs, 2.3 a day in 1,000 servers",
            profile: Failing::Rate(0.0023),
            nodes: 12_500,
            spares: 0,
            hours: 24.0 / (12_500.0 * 0.0023),
            rounded_by: 0.0,
            failures,
            source: "arXiv:2602.00277, by its rate for servers of 8 GPUs",
            note: "the same paper gives a failure in 18 min (0.3 h) at 100,000 GPUs: with this rate that \
                   is 34,800 servers of 2.9 GPUs, or 6.4 a day in 1,000 servers of 8",
        },
    ];
    all.into_iter().filter(|size| !options.is_quick || size.nodes <= QUICK_NODES_MAX).collect()
}

impl Size {
    pub fn name(&self) -> String {
        format!("mttf {}", self.name)
    }

    pub fn cost(&self) -> f64 {
        f64::from(self.nodes) * (self.failures + 40.0)
    }

    fn profile(&self) -> Profile {
        match self.profile {
            Failing::As(name) => ready::load(name).expect("it ships").expect("what ships is right"),
            Failing::Rate(rate) => ground::one_cause(rate, RESTART_ONLY),
        }
    }

    pub fn play(&self) -> Vec<Check> {
        let all_days = self.failures * self.hours / 24.0;
        let days = (all_days / FLEETS_MIN).min(DAYS_MAX);
        let fleets = (all_days / days).ceil() as u64;
        let campaign = Campaign {
            profile: self.profile(),
            nodes: self.nodes,
            spares: self.spares,
            span: ground::seconds(days * ground::DAY_S),
            // Of the work, only that it restarts soon matters: faults strike a job that runs.
            work: ground::endless(Millis(1000), Millis(300_000), Millis(1000), Millis(30_000)),
            hang_timeout: Millis(60_000),
        };
        vec![self.judge(days, &campaign.play(fleets))]
    }

    fn judge(&self, days: f64, played: &[Played]) -> Check {
        let stops = |played: &Played| played.stopped_by.iter().sum::<u64>() as f64;
        let fleets: Vec<(f64, f64)> =
            played.iter().map(|played| (24.0 * played.held_days, stops(played))).collect();
        let ours = ratio_interval(&fleets, USUAL_CONFIDENCE).expect("there are several fleets");
        let count: f64 = played.iter().map(stops).sum();
        let held =
            fleets.iter().map(|(hours, _)| hours / 24.0).sum::<f64>() / days / played.len() as f64;
        let slack = self.rounded_by + APART_MAX * self.hours;
        let is_near = ours.low - self.rounded_by <= self.hours
            && self.hours <= ours.high + self.rounded_by
            || (ours.value - self.hours).abs() <= slack;
        Check::new(Group::Mttf, self.name.to_string(), "h", self.hours)
            .source(self.source)
            .ours(ours)
            .judged(is_near, "in our interval, or within 5 %, to the digits that were printed")
            .note(format!(
                "{}; {count} failures on {} fleets, {days:.1} days each, with {} spare nodes; it held its \
                 nodes for {:.1} % of the time",
                self.note,
                played.len(),
                self.spares,
                100.0 * held
            ))
    }
}
