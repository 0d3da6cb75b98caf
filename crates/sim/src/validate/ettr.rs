//! One synchronous job over a whole fleet, against the exact exponential form.
//!
//! The job spans all nodes, saves at Daly's interval, and any failure stops all of it; it restarts on
//! the same nodes. That is what the formula is about, so the twin's figure must be the formula's. The
//! rows are rates that were published, at sizes from 1,024 to a million GPUs.
//!
//! A figure is measured over so many failures that its interval is ± 0.7 points. Where that would
//! take more than [`RESTARTS_OF_NODES_MAX`], it is taken from fewer, and **paired**: each cycle's
//! useful time less what arithmetic gives for the same failure, plus the formula. The luck of the
//! failure times falls out of that, and whatever the twin does otherwise than the formula stays in.
//! Either way, the twin and the arithmetic have to agree on the very same failures.
//!
//! Where nearly no cycle saves anything, a handful of checkpoints makes the whole figure, and an
//! interval from their mean and spread is meaningless: zero of them would even have none. There the
//! number of checkpoints is held against its exact distribution.

use super::Options;
use super::check::{Check, Group};
use super::cycles::{self, Cycle, Habits, Load};
use super::ground::{self, Stage};
use crate::reliability::formulas;
use crate::reliability::stats::{Estimate, USUAL_CONFIDENCE, ratio_interval};
use crate::twin::Joined;
use lindos_model::Millis;
use serde::Deserialize;

/// A published rate with a size, a checkpoint and a restart, and what the formulas give for it.
#[derive(Clone, Debug, Deserialize)]
struct Row {
    gpus: u32,
    rate_source: String,
    r_f_per_node_day: f64,
    w_cp_s: f64,
    u0_s: f64,
    daly_ho_interval_s: f64,
    ettr_exact_exponential_at_daly: f64,
}

/// How far our figure may be from the formula's.
const APART_MAX: f64 = 0.01;
/// How far the twin may be from arithmetic on the same failures: it counts whole milliseconds.
const APART_BY_HAND_MAX: f64 = 0.001;
/// The half-width that the number of failures is chosen for.
const HALF_WIDTH: f64 = 0.007;
/// Of the quick set.
const HALF_WIDTH_QUICK: f64 = 0.005;
/// With fewer, an interval from ratios is too narrow.
const FAILURES_MIN: f64 = 1000.0;
/// So many are played in one go, each go with a seed of its own.
const FAILURES_A_RUN: u64 = 250;
/// Nodes times failures that one row may cost.
const RESTARTS_OF_NODES_MAX: f64 = 12e6;
/// What the quick set leaves out.
const GPUS_QUICK_MAX: u32 = 2048;
/// A figure that is this sure to hold the true one may not leave the formula out: among ninety, one
/// in twenty would by luck.
const CONFIDENCE_OF_CONFLICT: f64 = 0.999;
/// With fewer cycles that save anything, an interval of a ratio says nothing, and the exact
/// distribution of the checkpoints is asked.
const SAVING_CYCLES_MIN: f64 = 30.0;
/// The formulas' figures are given to four digits.
const ROUNDED_BY: f64 = 0.0005;
/// Joining a fleet costs about as much as restarting it so often.
const JOINING_IN_RESTARTS: f64 = 40.0;

/// The rows of one size and one rate, which stand on one fleet.
#[derive(Clone, Debug)]
pub struct Sizes {
    rows: Vec<Row>,
    half_width: f64,
}

pub fn all(options: Options) -> Vec<Sizes> {
    let mut reader = csv::Reader::from_reader(include_str!("../../data/ettr.csv").as_bytes());
    let rows = reader.deserialize().map(|row| row.expect("the file is part of the program"));
    let half_width = if options.is_quick { HALF_WIDTH_QUICK } else { HALF_WIDTH };
    let mut cases: Vec<Sizes> = Vec::new();
    for row in rows.filter(|row: &Row| !options.is_quick || row.gpus <= GPUS_QUICK_MAX) {
        match cases.last_mut() {
            Some(case) if case.is_of(&row) => case.rows.push(row),
            _ => cases.push(Sizes { rows: vec![row], half_width }),
        }
    }
    cases
}

impl Sizes {
    fn is_of(&self, row: &Row) -> bool {
        let first = &self.rows[0];
        (first.gpus, &first.rate_source) == (row.gpus, &row.rate_source)
    }

    pub fn name(&self) -> String {
        format!("ettr {} {}", self.rows[0].gpus, self.rows[0].rate_source)
    }

    pub fn cost(&self) -> f64 {
        let nodes = f64::from(self.rows[0].nodes());
        let failures = |row: &Row| row.failures(self.half_width).0 as f64;
        nodes * (JOINING_IN_RESTARTS + self.rows.iter().map(failures).sum::<f64>())
    }

    pub fn play(&self) -> Vec<Check> {
        let nodes = self.rows[0].nodes();
        let stage = Stage::without_delays(nodes);
        let joined = stage.joined();
        self.rows.iter().map(|row| row.play(&stage, &joined, self.half_width)).collect()
    }
}

impl Row {
    fn nodes(&self) -> u32 {
        self.gpus / u32::from(ground::GPUS_PER_NODE)
    }

    fn mttf_s(&self) -> f64 {
        formulas::mttf(f64::from(self.nodes()), self.r_f_per_node_day / ground::DAY_S)
    }

    fn habits(&self) -> Habits {
        Habits {
            interval: ground::seconds(self.daly_ho_interval_s),
            checkpoint: ground::seconds(self.w_cp_s),
            restart: ground::seconds(self.u0_s),
        }
    }

    /// How many failures are played, and whether they are enough for the figure by itself.
    fn failures(&self, half_width: f64) -> (u64, bool) {
        let quantile = 1.96;
        let each = quantile * self.habits().deviation(self.mttf_s()) / half_width;
        let wanted = each * each;
        let most = RESTARTS_OF_NODES_MAX / f64::from(self.nodes());
        (wanted.max(FAILURES_MIN).min(most).ceil() as u64, wanted <= most)
    }

    fn play(&self, stage: &Stage, joined: &Joined, half_width: f64) -> Check {
        let (failures, is_enough) = self.failures(half_width);
        let seeds = failures.div_ceil(FAILURES_A_RUN);
        let interval = self.habits().interval;
        let cycles: Vec<Cycle> = (0..seeds)
            .flat_map(|run| {
                let failures = FAILURES_A_RUN.min(failures - run * FAILURES_A_RUN);
                cycles::play(stage, joined, &self.load(interval), self.seed(run), failures)
            })
            .collect();
        self.judge(&cycles, failures, is_enough)
    }

    fn load(&self, interval: Millis) -> Load {
        let habits = Habits { interval, ..self.habits() };
        Load { nodes: self.nodes(), rate: self.r_f_per_node_day, habits, is_advised: false }
    }

    /// No two rows share their luck.
    fn seed(&self, run: u64) -> u64 {
        let row = format!("{} {} {}", self.gpus, self.rate_source, self.w_cp_s);
        // FNV-1a.
        let hash = row.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash.wrapping_add(run)
    }

    fn judge(&self, cycles: &[Cycle], failures: u64, is_enough: bool) -> Check {
        let habits = self.habits();
        let spans = |pair: &dyn Fn(f64, f64) -> f64, confidence: f64| {
            let pairs: Vec<(f64, f64)> = cycles
                .iter()
                .map(|cycle| {
                    let by_hand = habits.saved_in(cycle.whole).0 as f64;
                    (pair(cycle.saved.0 as f64, by_hand), cycle.whole.0 as f64)
                })
                .collect();
            ratio_interval(&pairs, confidence).unwrap_or(NOTHING)
        };
        let itself = spans(&|twin, _| twin, USUAL_CONFIDENCE);
        let by_hand = spans(&|_, by_hand| by_hand, USUAL_CONFIDENCE);
        let difference = spans(&|twin, by_hand| twin - by_hand, USUAL_CONFIDENCE);
        let surest = spans(&|twin, _| twin, CONFIDENCE_OF_CONFLICT);
        let published = self.ettr_exact_exponential_at_daly;
        let formula =
            formulas::ettr(self.daly_ho_interval_s, self.w_cp_s, self.u0_s, self.mttf_s());
        let ours = if is_enough { itself } else { moved(difference, formula) };
        let is_near = (ours.value - published).abs() <= APART_MAX;
        let heard = cycles.len();
        let saving = habits.chances(self.mttf_s()).0 * heard as f64;
        let saves = cycles.iter().map(|cycle| cycle.saved.0).sum::<u64>() / habits.interval.0;
        let (no_more, at_least) = habits.chances_of(saves, heard as u64, self.mttf_s());
        let is_counted = saving < SAVING_CYCLES_MIN;
        let is_consistent = if is_counted {
            no_more.min(at_least) >= (1.0 - CONFIDENCE_OF_CONFLICT) / 2.0
        } else {
            surest.low - ROUNDED_BY <= published && published <= surest.high + ROUNDED_BY
        };
        let is_by_hand = difference.value.abs() <= APART_BY_HAND_MAX;
        let counted = format!(
            "; {saves} checkpoints in all, where {saving:.1} cycles are expected to save any: as few or fewer \
             come with a chance of {no_more:.3}, as many or more of {at_least:.3}"
        );
        let paired = format!(
            "; paired with it, as the twin's own figure is {:.4} [{:.4}, {:.4}]",
            itself.value, itself.low, itself.high
        );
        let note = format!(
            "{failures} failures ({heard} seen by the job); by hand on the same failures {:.4}{}{}",
            by_hand.value,
            if is_enough { "" } else { &paired },
            if is_counted { &counted } else { "" }
        );
        let name = format!(
            "{} GPUs, {}, checkpoint {} s, restart {} s",
            ground::thousands(self.gpus),
            self.rate_source,
            self.w_cp_s,
            self.u0_s
        );
        Check::new(Group::Ettr, name, "", published)
            .source("Daly 2006's exact form, at the node rates of arXiv:2410.21680 and arXiv:2407.21783")
            .ours(ours)
            .judged(
                is_near && is_consistent && is_by_hand,
                "within 0.01, not outside its own 99.9 % interval (or, where fewer than 30 cycles \
                 save anything, as many checkpoints as 99.9 % of such runs have), and within 0.001 of \
                 arithmetic on the same failures",
            )
            .note(note)
    }
}

/// Of no cycles: agrees with nothing.
const NOTHING: Estimate = Estimate { value: f64::NAN, low: f64::NAN, high: f64::NAN };

fn moved(estimate: Estimate, by: f64) -> Estimate {
    Estimate { value: estimate.value + by, low: estimate.low + by, high: estimate.high + by }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smallest() -> Sizes {
        all(Options::quick()).remove(0)
    }

    #[test]
    fn every_worked_row_is_a_check() {
        let rows: usize = all(Options::full()).iter().map(|case| case.rows.len()).sum();
        assert_eq!(rows, 90);
    }

    #[test]
    fn the_twin_is_the_exact_form_at_a_published_rate() {
        for check in smallest().play() {
            assert!(check.ok, "{check:?}");
        }
    }

    #[test]
    fn nodes_that_fail_more_often_than_the_formula_knows_are_found() {
        let mut case = smallest();
        case.rows.truncate(1);
        case.rows[0].r_f_per_node_day *= 3.0;
        let check = case.play().remove(0);
        assert!(!check.ok && check.ours < check.published - 0.01, "{check:?}");
    }
}
