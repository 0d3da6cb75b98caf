//! A run of Lindos itself: the training example with killed ranks, recorded by the control plane
//! that drove it, and lived again in the twin.
//!
//! How the recording was made stands in `recordings/README.md`.

use super::Options;
use super::check::{Check, Group};
use crate::reliability::stats::{Estimate, USUAL_CONFIDENCE, ratio_interval};
use crate::whatif::draw::Faults;
use crate::whatif::play::play;
use crate::whatif::tale::Tale;
use crate::whatif::{Change, History, Watch, replay};
use flate2::read::GzDecoder;
use lindos_journal::{MemoryDisk, Reader};
use lindos_model::Column;
use std::io::Read;

/// The journal's only segment.
const RECORDING: &[u8] = include_bytes!("../../recordings/tiny-gpt.journal.gz");
/// What the journal calls a segment that begins with its first record.
const SEGMENT: &str = "00000000000000000001.journal";
/// How far the twin's goodput may be from the measured one.
const APART_MAX: f64 = 0.02;
/// A life of some minutes takes a moment to play, and luck has much say in it.
const LIVES_A_SEED: u64 = 50;

#[derive(Clone, Debug)]
pub struct Recorded {
    lives: u64,
}

pub fn all(options: Options) -> Vec<Recorded> {
    vec![Recorded { lives: options.seeds * LIVES_A_SEED }]
}

impl Recorded {
    /// What it is found by.
    pub const NAME: &str = "itself tiny-gpt, ranks killed";

    pub fn cost(&self) -> f64 {
        self.lives as f64
    }

    pub fn play(&self) -> Vec<Check> {
        let history = history();
        vec![lived_again(&history), self.lived_with_others(&history)]
    }

    /// With faults like those on record, drawn anew for each life.
    fn lived_with_others(&self, history: &History) -> Check {
        let lives: Vec<(f64, f64)> =
            (1..=self.lives).map(|seed| held(&played(history, Faults::Drawn(seed)))).collect();
        let ours = ratio_interval(&lives, USUAL_CONFIDENCE).expect("there are many lives");
        let (productive, all) = held(&history.tale);
        let measured = productive / all;
        let is_near = ours.contains(measured) || (ours.value - measured).abs() <= APART_MAX;
        check("of the time on the job, with faults like them", measured)
            .ours(ours)
            .judged(is_near, "in our interval or within 0.02 of what was measured")
            .note(format!("{} lives, in each of which faults are drawn anew", self.lives))
    }
}

/// With the very faults on record.
fn lived_again(history: &History) -> Check {
    let tale = played(history, Faults::Recorded);
    let (measured, ours) = (history.tale.goodput(), tale.goodput());
    let distance = history.tale.distance(&tale);
    let is_near = (ours - measured).abs() <= APART_MAX && distance <= APART_MAX;
    check("of the fleet, with the faults on record", measured)
        .ours(Estimate { value: ours, low: ours, high: ours })
        .judged(
            is_near,
            "within 0.02 of what was measured, and no more than 0.02 of the GPU-time stands in \
             another column of the ledger",
        )
        .note(format!(
            "{} s, {} killed ranks; {:.2} % of the GPU-time stands in another column",
            history.span().0 / 1000,
            history.incidents.len(),
            distance * 100.0
        ))
}

fn check(figure: &str, measured: f64) -> Check {
    Check::new(Group::Itself, format!("tiny-gpt: goodput {figure}"), "", measured)
        .source("measured: the ledger of the control plane that drove the run")
}

fn played(history: &History, faults: Faults) -> Tale {
    let played = play(history, &Change::default(), faults, &mut |_| {});
    played.expect("no change is one that makes sense")
}

/// GPU-time that was productive, and all that stood on the job's account.
fn held(tale: &Tale) -> (f64, f64) {
    let on_the_job = tale.ledger.iter().filter(|(column, _)| column.is_on_a_job());
    let all: u64 = on_the_job.map(|(_, gpu_ms)| gpu_ms).sum();
    (tale.ledger[Column::Productive] as f64, all as f64)
}

/// What the journal tells, from its first record to the last.
fn history() -> History {
    let mut segment = Vec::new();
    GzDecoder::new(RECORDING).read_to_end(&mut segment).expect("it was packed whole");
    let disk = MemoryDisk::new();
    disk.put(SEGMENT, &segment);
    let (reader, _) = Reader::open(disk, None).expect("it is a journal");
    let mut watch = Watch::default();
    let replayed = replay(&reader, &mut |moment| watch.on_moment(moment), &mut |_| {});
    let (_, core) = replayed.unwrap_or_else(|error| panic!("the recording: {error}"));
    watch.into_history(&core)
}
