//! How ranks spend their time while their job gets on, and the rank that is slower than its peers.
//!
//! Where all ranks meet at every step, each makes as many steps as the slowest: step times do not
//! tell who that is. What tells is waiting. All but the slowest wait for it.

use crate::{Rank, Time};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a rank has spent its time since its shim first looked, by its node's clock: sums that only
/// grow, so that a reading that is lost loses nothing.
///
/// `delayed`, `held` and `slept` are of one thread: the main thread of that of its processes which
/// uses the CPU most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RankPace {
    /// The time that was looked at.
    pub span_ms: u64,
    /// CPU time of all its processes.
    pub ran_ms: u64,
    /// It was ready to run, and no processor was free for it.
    pub delayed_ms: u64,
    /// It was stopped, or in a wait that nothing can interrupt: a disk, a file server.
    pub held_ms: u64,
    /// It slept: it waited for other ranks, for data, or for a GPU.
    pub slept_ms: u64,
    /// By how much its messages of steps came later than that of the first rank of its node, in
    /// microseconds, summed over steps.
    pub late_us: u64,
    /// What it says itself that it has waited for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited: Option<Waited>,
}

/// What a rank has waited for others in collectives, by its own word: since it began, up to the end of a
/// step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    pub step: u64,
    pub ms: u64,
}

/// A rank that its peers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Straggler {
    /// The slowest.
    pub rank: Rank,
    /// How many ranks on its node are slow, with it.
    pub ranks: u32,
    pub sign: SlowSign,
    pub by: SlowBy,
    /// The beginning of the first window in which it was seen.
    pub since: Time,
    /// The newest step of the job.
    pub step: u64,
    /// Thousandths of the time that it waits; of one that makes fewer steps, its steps in 1,000 s.
    pub own: u32,
    /// The same of the median of all ranks.
    pub peers: u32,
    /// Thousandths of the gang's time that are lost by it: for so long the others wait because of it, or so
    /// much behind them it is. At most, where they tell it themselves: they may do something else meanwhile.
    pub cost_permille: u32,
}

/// What it is seen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlowSign {
    /// All ranks make the same steps, and it waits least.
    WaitsLeast,
    /// Ranks make their steps each at its own pace.
    FewerSteps,
}

/// What it does instead of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlowBy {
    /// It uses more CPU time than the others.
    Working,
    /// It has to share its processor: something else runs there, or it is limited.
    WantingProcessor,
    /// It is stopped again and again, or waits for a disk or a file server.
    Held,
    /// Nothing of that: its messages come last, or its own word is all that is known.
    Unknown,
}

impl fmt::Display for SlowBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SlowBy::Working => "it works longer",
            SlowBy::WantingProcessor => "it has to wait for a processor",
            SlowBy::Held => "it is stopped, or held by a disk",
            SlowBy::Unknown => "nothing shows why",
        })
    }
}

impl Straggler {
    /// In whole percent.
    pub fn cost_percent(&self) -> u32 {
        (self.cost_permille + 5) / 10
    }
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |permille: u32| (permille + 5) / 10;
        let is_one = self.ranks <= 1;
        write!(f, "rank {}", self.rank)?;
        if !is_one {
            write!(f, " and {} more of its node", self.ranks - 1)?;
        }
        let cost = self.cost_percent();
        match self.sign {
            SlowSign::WaitsLeast => {
                let wait = if is_one { "waits" } else { "wait" };
                let (own, peers) = (percent(self.own), percent(self.peers));
                write!(f, " {wait} {own} % of the time, the others {peers} %, who lose {cost} %")?;
                f.write_str(" by that")?;
            }
            SlowSign::FewerSteps => {
                let are = if is_one { "is" } else { "are" };
                write!(f, " {are} {cost} % slower than the others")?;
            }
        }
        write!(f, "; {}", self.by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straggler_is_told_in_a_sentence() {
        let waits = Straggler {
            rank: Rank(3),
            ranks: 1,
            sign: SlowSign::WaitsLeast,
            by: SlowBy::WantingProcessor,
            since: Time(0),
            step: 100,
            own: 24,
            peers: 468,
            cost_permille: 444,
        };
        assert_eq!(
            waits.to_string(),
            "rank 3 waits 2 % of the time, the others 47 %, who lose 44 % by that; it has to wait \
             for a processor"
        );
        let (sign, by) = (SlowSign::FewerSteps, SlowBy::Unknown);
        let alone = Straggler { ranks: 8, sign, by, cost_permille: 250, ..waits };
        assert_eq!(
            alone.to_string(),
            "rank 3 and 7 more of its node are 25 % slower than the others; nothing shows why"
        );
    }
}
