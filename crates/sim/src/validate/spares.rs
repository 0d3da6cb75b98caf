//! How many nodes are out at once, against the binomial distribution that spares are sized by.

use super::Options;
use super::check::{Check, Group};
use super::ground::{self, Stage};
use crate::reliability::formulas;
use crate::reliability::stats::{USUAL_CONFIDENCE, mean_interval};
use lindos_core::Event;
use lindos_model::{Millis, Time};
use statrs::distribution::{Binomial, DiscreteCDF};

/// The published confidence of a pool of spares.
const CONFIDENCE: f64 = 0.99;
/// Until as many are out as usually are.
const BEGINS_AFTER: u32 = 10;
const SEEDS: u64 = 24;
const SEEDS_QUICK: u64 = 6;
/// Of the nodes, those that a job is on.
const BUSY: f64 = 0.95;
/// How far the share of time may be from the formula's.
const APART_MAX: f64 = 0.002;

#[derive(Clone, Debug)]
pub struct Pool {
    nodes: u32,
    /// On the mean, of all nodes.
    out: f64,
    /// Repairs of a mean of half a day: as TOML, and in words.
    repair: (&'static str, &'static str),
    days: u32,
    seeds: u64,
}

const FIXED: (&str, &str) = (r#"kind = "technician", takes = { fixed = "12h" }"#, "of 12 h each");
const EXPONENTIAL: (&str, &str) =
    (r#"kind = "technician", takes = { exponential = "12h" }"#, "exponential, mean 12 h");

pub fn all(options: Options) -> Vec<Pool> {
    let seeds = if options.is_quick { SEEDS_QUICK } else { SEEDS };
    let pool = |nodes, out, repair, days| Pool { nodes, out, repair, days, seeds };
    let mut all = vec![pool(1024, 1.25, FIXED, 400)];
    if !options.is_quick {
        all.push(pool(1024, 1.25, EXPONENTIAL, 400));
        all.push(pool(2048, 12.0, EXPONENTIAL, 40));
    }
    all
}

impl Pool {
    pub fn name(&self) -> String {
        format!("spares {} {}", self.nodes, self.repair.1)
    }

    pub fn cost(&self) -> f64 {
        f64::from(self.nodes) * self.out * 2.0 * f64::from(self.days) * self.seeds as f64
    }

    pub fn play(&self) -> Vec<Check> {
        let share = self.out / f64::from(self.nodes);
        // The share that is out is r·R / (1 + r·R).
        let rate = share / (1.0 - share) / 0.5;
        let stage = Stage::usual(self.nodes);
        let joined = stage.joined();
        let profile = ground::one_cause(rate, self.repair.0);
        let until = Time(ground::days(self.days).0);
        let enough = formulas::spares(u64::from(self.nodes), share, CONFIDENCE);
        let runs: Vec<Vec<u64>> = (1..=self.seeds)
            .map(|seed| {
                let hour = Millis(3_600_000);
                let work = ground::endless(Millis(1000), hour, Millis(1000), Millis(60_000));
                let job = ground::one_job((f64::from(self.nodes) * BUSY) as u32, work);
                let plan = stage.plan(&profile, seed, until);
                let setup = stage.setup(vec![job], plan, until);
                let mut watch = Watch::default();
                joined.run(&setup, Some(&mut |at, event| watch.hear(at, event)), &mut |_| {});
                watch.pass(until);
                watch.time_with
            })
            .collect();
        vec![self.judge(share, enough, &runs)]
    }

    fn judge(&self, share: f64, enough: u64, runs: &[Vec<u64>]) -> Check {
        let binomial = Binomial::new(share, u64::from(self.nodes)).expect("it is a probability");
        let within = |time_with: &[u64], most: u64| {
            let all: u64 = time_with.iter().sum();
            let held: u64 = time_with.iter().take(most as usize + 1).sum();
            held as f64 / all as f64
        };
        let shares: Vec<f64> = runs.iter().map(|run| within(run, enough)).collect();
        let ours = mean_interval(&shares, USUAL_CONFIDENCE).expect("there are several seeds");
        let published = binomial.cdf(enough);
        let longest = runs.iter().map(Vec::len).max().unwrap_or(0);
        let together: Vec<u64> = (0..longest)
            .map(|out| runs.iter().map(|run| run.get(out).copied().unwrap_or(0)).sum())
            .collect();
        let twins = (0..longest as u64).find(|&most| within(&together, most) >= CONFIDENCE);
        let twins = twins.expect("all of the time has been counted");
        let is_near = ours.contains(published) || (ours.value - published).abs() <= APART_MAX;
        let name = format!(
            "{} nodes, {} out on the mean, repairs {}: {enough} spares suffice",
            ground::thousands(self.nodes),
            self.out,
            self.repair.1
        );
        Check::new(Group::Spares, name, "", published)
            .source(
                "the binomial distribution that warm standbys are sized by, arXiv:2509.16293 (its \
                 example: 4 for 1,024)",
            )
            .ours(ours)
            .judged(is_near, "in our interval, or within 0.002 of the share of time")
            .note(format!(
                "{} seeds of {} days; 99 % of the time, at most {twins} are out in the twin, and \
                 {enough} by the formula",
                self.seeds, self.days
            ))
    }
}

/// For how long how many nodes were drained.
#[derive(Debug, Default)]
struct Watch {
    out: usize,
    since: Time,
    time_with: Vec<u64>,
}

impl Watch {
    fn hear(&mut self, at: Time, event: &Event) {
        match event {
            Event::NodeDrained { .. } => {
                self.pass(at);
                self.out += 1;
            }
            Event::NodeUndrained { .. } => {
                self.pass(at);
                self.out -= 1;
            }
            _ => {}
        }
    }

    fn pass(&mut self, now: Time) {
        let since = self.since.max(Time(ground::days(BEGINS_AFTER).0));
        if self.time_with.len() <= self.out {
            self.time_with.resize(self.out + 1, 0);
        }
        self.time_with[self.out] += now.since(since).0;
        self.since = now;
    }
}
