//! How many nodes are out at once, against the binomial distribution that spares are sized by.

use super::Options;
use super::check::{Check, Group};
use super::ground::{self, Stage};
use crate::reliability::stats::{self, USUAL_CONFIDENCE, mean_interval};
use crate::reliability::{FaultPlan, Target, formulas};
use lindos_core::Event;
use lindos_model::{Millis, NodeId, Time};
use statrs::distribution::{Binomial, DiscreteCDF};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// The published confidence of a pool of spares.
const CONFIDENCE: f64 = 0.99;
/// Until as many are out as usually are.
const BEGINS_AFTER: u32 = 10;
const SEEDS: u64 = 24;
const SEEDS_QUICK: u64 = 6;
/// How far the share of time may be from the formula's.
const APART_MAX: f64 = 0.002;
/// How far it may be from arithmetic on the same faults: a job takes a second to leave a node.
const APART_BY_HAND_MAX: f64 = 0.0005;

#[derive(Clone, Debug)]
pub struct Pool {
    nodes: u32,
    /// On the mean, of all nodes.
    out: f64,
    /// Repairs of a mean of half a day: as TOML, and in words.
    repair: (&'static str, &'static str),
    days: u32,
    /// Of the nodes, those that a job is on.
    busy: f64,
    seeds: u64,
}

const FIXED: (&str, &str) = (r#"kind = "technician", takes = { fixed = "12h" }"#, "of 12 h each");
const EXPONENTIAL: (&str, &str) =
    (r#"kind = "technician", takes = { exponential = "12h" }"#, "exponential, mean 12 h");

pub fn all(options: Options) -> Vec<Pool> {
    let seeds = if options.is_quick { SEEDS_QUICK } else { SEEDS };
    let pool = |nodes, out, repair, busy| Pool { nodes, out, repair, days: 400, busy, seeds };
    let mut all = vec![pool(1024, 1.25, FIXED, 0.95)];
    if !options.is_quick {
        all.push(pool(1024, 1.25, EXPONENTIAL, 0.95));
        // More than 21 out at once are rare, and such spans come in bunches: it takes years to see
        // enough of them. What runs there does not matter to that, and a small job restarts faster.
        all.push(pool(2048, 12.0, EXPONENTIAL, 0.05));
    }
    all
}

impl Pool {
    pub fn name(&self) -> String {
        format!("spares {} {}", self.nodes, self.repair.1)
    }

    pub fn cost(&self) -> f64 {
        f64::from(self.nodes)
            * self.busy
            * self.out
            * 2.0
            * f64::from(self.days)
            * self.seeds as f64
    }

    pub fn play(&self) -> Vec<Check> {
        let share = self.out / f64::from(self.nodes);
        // The share that is out is r·R / (1 + r·R).
        let rate = share / (1.0 - share) / 0.5;
        let stage = Stage::usual(self.nodes).with_every_node_out_that_is_broken();
        let joined = stage.joined();
        let profile = ground::one_cause(rate, self.repair.0);
        let until = Time(ground::days(self.days).0);
        let enough = formulas::spares(u64::from(self.nodes), share, CONFIDENCE);
        let runs: Vec<Run> = (1..=self.seeds)
            .map(|seed| {
                let hour = Millis(3_600_000);
                let work = ground::endless(Millis(1000), hour, Millis(1000), Millis(60_000));
                let job = ground::one_job((f64::from(self.nodes) * self.busy) as u32, work);
                let plan = stage.plan(&profile, seed, until);
                let by_hand = by_hand(&plan, until);
                let setup = stage.setup(vec![job], plan, until);
                let mut watch = Watch::default();
                joined.run(&setup, Some(&mut |at, event| watch.hear(at, event)), &mut |_| {});
                watch.count.pass(until);
                Run { twin: watch.count.time_with, by_hand }
            })
            .collect();
        vec![self.judge(share, enough, &runs)]
    }

    fn judge(&self, share: f64, enough: u64, runs: &[Run]) -> Check {
        let binomial = Binomial::new(share, u64::from(self.nodes)).expect("it is a probability");
        let within = |time_with: &[u64], most: u64| {
            let all: u64 = time_with.iter().sum();
            let held: u64 = time_with.iter().take(most as usize + 1).sum();
            held as f64 / all as f64
        };
        let shares: Vec<f64> = runs.iter().map(|run| within(&run.twin, enough)).collect();
        let apart: Vec<f64> = runs
            .iter()
            .map(|run| within(&run.twin, enough) - within(&run.by_hand, enough))
            .collect();
        let apart = stats::mean(&apart).expect("there are several seeds");
        let ours = mean_interval(&shares, USUAL_CONFIDENCE).expect("there are several seeds");
        let published = binomial.cdf(enough);
        let longest = runs.iter().map(|run| run.twin.len()).max().unwrap_or(0);
        let together: Vec<u64> = (0..longest)
            .map(|out| runs.iter().map(|run| run.twin.get(out).copied().unwrap_or(0)).sum())
            .collect();
        let twins = (0..longest as u64).find(|&most| within(&together, most) >= CONFIDENCE);
        let twins = twins.expect("all of the time has been counted");
        let is_near = ours.contains(published) || (ours.value - published).abs() <= APART_MAX;
        let is_by_hand = apart.abs() <= APART_BY_HAND_MAX;
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
            .judged(
                is_near && is_by_hand,
                "in our interval, or within 0.002 of the share of time; and within 0.0005 of \
                 arithmetic on the same faults",
            )
            .note(format!(
                "{} seeds of {} days; 99 % of the time, at most {twins} are out in the twin, and \
                 {enough} by the formula; {apart:+.5} from arithmetic on the same faults",
                self.seeds, self.days
            ))
    }
}

/// For how long how many nodes were out: in the twin, and by arithmetic on the same faults.
struct Run {
    twin: Vec<u64>,
    by_hand: Vec<u64>,
}

/// Each fault takes its node out until it is mended, unless it is out already.
fn by_hand(plan: &FaultPlan, until: Time) -> Vec<u64> {
    let mut back: BinaryHeap<Reverse<(Time, NodeId)>> = BinaryHeap::new();
    let mut count = Count::default();
    for fault in plan.faults() {
        while let Some(&Reverse((at, _))) = back.peek().filter(|Reverse((at, _))| *at <= fault.at) {
            back.pop();
            count.change(at, back.len());
        }
        let (Target::Node(node), Some(repair)) = (fault.target, fault.repair) else { continue };
        if back.iter().all(|Reverse((_, other))| *other != node) {
            back.push(Reverse((fault.at + repair.takes, node)));
            count.change(fault.at, back.len());
        }
    }
    while let Some(Reverse((at, _))) = back.pop().filter(|Reverse((at, _))| *at <= until) {
        count.change(at, back.len());
    }
    count.pass(until);
    count.time_with
}

/// Hears which nodes are found broken, and which are mended: by a person, as these repairs are.
#[derive(Debug, Default)]
struct Watch {
    out: BTreeSet<NodeId>,
    count: Count,
}

impl Watch {
    fn hear(&mut self, at: Time, event: &Event) {
        match event {
            Event::FindingSeen { node, .. } => self.out.insert(*node),
            Event::NodeMended { node, .. } => self.out.remove(node),
            _ => return,
        };
        self.count.change(at, self.out.len());
    }
}

/// For how long how many were out.
#[derive(Debug, Default)]
struct Count {
    out: usize,
    since: Time,
    time_with: Vec<u64>,
}

impl Count {
    fn change(&mut self, at: Time, out: usize) {
        self.pass(at);
        self.out = out;
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
