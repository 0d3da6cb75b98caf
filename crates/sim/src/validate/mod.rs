//! The twin, held against what has been published: the proofs that its figures may be believed.
//!
//! A [`Case`] is played by itself, without a clock, a file or a thread, and gives [`Check`]s: a
//! published figure, ours with its interval, and whether they agree by a rule that was written down
//! before. [`cases`] lists them. The groups:
//!
//! - [`ettr`]: one synchronous job of up to a million GPUs against the exact formula;
//! - [`months`]: 54 days on 16,384 GPUs, with the causes of Llama 3's interruptions and the RSCs';
//! - [`mttf`]: the time between interruptions at several sizes, from published rates;
//! - [`interval`]: which checkpoint interval is best, against Daly's;
//! - [`spares`]: how many nodes are out at once, against the binomial distribution;
//! - [`itself`]: a recorded run of the training example, against what was measured.
//!
//! `docs/twin.md` is the manual. Where published figures contradict each other, the note of
//! the check says so; nothing is tuned until they fit.

pub mod blame;
mod campaign;
mod check;
mod cycles;
mod ettr;
mod ground;
mod interval;
mod itself;
mod months;
mod mttf;
mod spares;
#[cfg(test)]
mod tests;

pub use check::{Check, Group};

/// Seeds of a group that is played over seeds, when nobody says how many.
pub const SEEDS_USUAL: u64 = 20;
/// The same of the quick set.
pub const SEEDS_QUICK: u64 = 3;

/// Which cases, and how thorough they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Small sizes and few seeds: seconds in place of minutes.
    pub is_quick: bool,
    /// Seeds of what is played over seeds.
    pub seeds: u64,
}

impl Options {
    pub fn full() -> Options {
        Options { is_quick: false, seeds: SEEDS_USUAL }
    }

    pub fn quick() -> Options {
        Options { is_quick: true, seeds: SEEDS_QUICK }
    }
}

/// Something that can be played by itself.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is found by.
    pub name: String,
    /// About how long it takes, in any unit: the long ones are best begun first.
    pub cost: f64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Ettr(ettr::Sizes),
    Months(months::Months),
    Mttf(mttf::Size),
    Interval(interval::Sweep),
    Spares(spares::Pool),
    Itself(itself::Recorded),
}

impl Case {
    pub fn play(&self) -> Vec<Check> {
        match &self.what {
            What::Ettr(case) => case.play(),
            What::Months(case) => case.play(),
            What::Mttf(case) => case.play(),
            What::Interval(case) => case.play(),
            What::Spares(case) => case.play(),
            What::Itself(case) => case.play(),
        }
    }

    /// Whether a word that somebody looks for is in its name; capitals make no difference.
    pub fn is_named(&self, word: &str) -> bool {
        self.name.to_lowercase().contains(&word.to_lowercase())
    }
}

/// All cases, in the order in which their checks are told.
pub fn cases(options: Options) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, cost: f64, what: What| cases.push(Case { name, cost, what });
    for case in ettr::all(options) {
        add(case.name(), case.cost(), What::Ettr(case));
    }
    for case in months::all(options) {
        add(case.name(), case.cost(), What::Months(case));
    }
    for case in mttf::all(options) {
        add(case.name(), case.cost(), What::Mttf(case));
    }
    for case in interval::all(options) {
        add(case.name(), case.cost(), What::Interval(case));
    }
    for case in spares::all(options) {
        add(case.name(), case.cost(), What::Spares(case));
    }
    for case in itself::all(options) {
        add(itself::Recorded::NAME.to_string(), case.cost(), What::Itself(case));
    }
    cases
}
