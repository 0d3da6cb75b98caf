//! Which checkpoint interval is best, against Daly's: the same failures for each of several.

use super::Options;
use super::check::{Check, Group};
use super::cycles::{self, Cycle, Habits, Load};
use super::ground::{self, Stage};
use crate::reliability::formulas;
use crate::reliability::stats::{
    Estimate, USUAL_CONFIDENCE, difference_interval, mean, mean_interval,
};
use lindos_model::Millis;

/// Intervals that are tried, as parts of Daly's: each √2 times the one before.
const HALVES_OF_DOUBLING: std::ops::RangeInclusive<i32> = -4..=4;
/// The best may be this many of them off.
const OFF_MAX: i32 = 1;
/// What the advice may cost.
const ADVICE_LOSES_MAX: f64 = 0.01;
const SEEDS: u64 = 16;
const SEEDS_QUICK: u64 = 6;
const FAILURES: u64 = 250;

/// One job with several intervals.
#[derive(Clone, Debug)]
pub struct Sweep {
    gpus: u32,
    rate: f64,
    checkpoint: f64,
    restart: f64,
    seeds: u64,
}

pub fn all(options: Options) -> Vec<Sweep> {
    let seeds = if options.is_quick { SEEDS_QUICK } else { SEEDS };
    let sweep = |gpus, rate, checkpoint, restart| Sweep { gpus, rate, checkpoint, restart, seeds };
    let mut all = vec![sweep(1024, 0.0065, 60.0, 300.0)];
    if !options.is_quick {
        all.push(sweep(16_384, 0.0065, 60.0, 300.0));
        all.push(sweep(65_536, 0.0065, 10.0, 120.0));
    }
    all
}

impl Sweep {
    pub fn name(&self) -> String {
        format!("interval {}", self.gpus)
    }

    pub fn cost(&self) -> f64 {
        f64::from(self.nodes()) * (FAILURES * self.seeds) as f64 * 10.0
    }

    fn nodes(&self) -> u32 {
        self.gpus / u32::from(ground::GPUS_PER_NODE)
    }

    pub fn play(&self) -> Vec<Check> {
        let mttf = formulas::mttf(f64::from(self.nodes()), self.rate / ground::DAY_S);
        let daly = formulas::daly_interval(self.checkpoint, mttf);
        let stage = Stage::without_delays(self.nodes());
        let joined = stage.joined();
        let shares_with = |interval: f64, is_advised: bool| -> Vec<f64> {
            let habits = Habits {
                interval: ground::seconds(interval),
                checkpoint: ground::seconds(self.checkpoint),
                restart: ground::seconds(self.restart),
            };
            let load = Load { nodes: self.nodes(), rate: self.rate, habits, is_advised };
            (1..=self.seeds)
                .map(|seed| share(&cycles::play(&stage, &joined, &load, seed, FAILURES)))
                .collect()
        };
        let tried: Vec<Tried> = HALVES_OF_DOUBLING
            .map(|halves| {
                // To whole steps.
                let interval = (daly * libm::exp2(f64::from(halves) / 2.0) * 10.0).round() / 10.0;
                Tried { halves, interval, shares: shares_with(interval, false) }
            })
            .collect();
        let advised = shares_with(daly, true);
        vec![self.judge(daly, &tried), self.judge_advice(&tried, &advised)]
    }

    fn judge(&self, daly: f64, all: &[Tried]) -> Check {
        let best = best(all);
        let at_daly = at_daly(all);
        // Those that the same failures cannot tell from the best.
        let alike: Vec<f64> = all
            .iter()
            .filter(|tried| {
                let behind = difference_interval(&tried.shares, &best.shares, USUAL_CONFIDENCE);
                tried.halves == best.halves || behind.is_none_or(|behind| behind.low <= 0.0)
            })
            .map(|tried| tried.interval)
            .collect();
        let ours = Estimate {
            value: best.interval,
            low: alike.iter().copied().fold(f64::INFINITY, f64::min),
            high: alike.iter().copied().fold(0.0, f64::max),
        };
        let told: Vec<String> = all
            .iter()
            .map(|tried| format!("{:.0} s {:.4}", tried.interval, tried.mean()))
            .collect();
        Check::new(Group::Interval, format!("{}: the best", self.about()), "s", daly)
            .source("J. T. Daly, FGCS 22 (2006), higher order")
            .ours(ours)
            .judged(best.halves.abs() <= OFF_MAX, "one of the three tried that are nearest to it")
            .note(format!(
                "{} seeds of {FAILURES} failures, the same for each interval; in brackets, those that \
                 cannot be told from the best. ETTR at {}; Daly's loses {:.4} against the best",
                self.seeds,
                told.join(", "),
                best.mean() - at_daly.mean()
            ))
    }

    /// What a job keeps that saves as Lindos advises, which has to learn how often nodes fail.
    fn judge_advice(&self, all: &[Tried], advised: &[f64]) -> Check {
        let at_daly = at_daly(all);
        let ours = mean_interval(advised, USUAL_CONFIDENCE).expect("there are several seeds");
        let is_near = at_daly.mean() - ours.value <= ADVICE_LOSES_MAX;
        Check::new(Group::Interval, format!("{}: as advised", self.about()), "", at_daly.mean())
            .source("the twin at Daly's interval, on the same failures")
            .ours(ours)
            .judged(is_near, "no more than 0.01 below")
            .note(format!(
                "the share of useful time with the interval that Lindos itself advises; each seed begins \
                 with a fleet of which nothing is known, and has {FAILURES} failures"
            ))
    }

    fn about(&self) -> String {
        let gpus = ground::thousands(self.gpus);
        format!("{gpus} GPUs, RSC-1, checkpoint {} s, restart {} s", self.checkpoint, self.restart)
    }
}

/// An interval, and what it keeps of the time with each seed.
#[derive(Debug)]
struct Tried {
    halves: i32,
    interval: f64,
    shares: Vec<f64>,
}

impl Tried {
    fn mean(&self) -> f64 {
        mean(&self.shares).expect("there are seeds")
    }
}

fn best(all: &[Tried]) -> &Tried {
    all.iter().max_by(|a, b| a.mean().total_cmp(&b.mean())).expect("several are tried")
}

fn at_daly(all: &[Tried]) -> &Tried {
    all.iter().find(|tried| tried.halves == 0).expect("it is tried")
}

fn share(cycles: &[Cycle]) -> f64 {
    let sum = |part: &dyn Fn(&Cycle) -> Millis| -> f64 {
        cycles.iter().map(|cycle| part(cycle).0 as f64).sum()
    };
    sum(&|cycle| cycle.saved) / sum(&|cycle| cycle.whole)
}
