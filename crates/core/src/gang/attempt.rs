//! One attempt of a job: its gang, its ranks, and what the agents say of them.
//!
//! An attempt ends in two moves. First it is *stopping*: the reason is known, every node is told.
//! Then every member is *gone*: its agent has said so, or the node was fenced. Only then may the
//! next epoch begin, so that a job is never alive twice.

use lindos_model::{
    AttemptReport, Column, EndReason, Epoch, Exit, GpuSet, Millis, NodeId, Policy, Rank, RankExit,
    ReportedPhase, Time,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Launched; some node has not said that its ranks run.
    Launching,
    /// All ranks have run.
    Up,
    /// It is over for this reason; some member may still live.
    Stopping { reason: EndReason, since: Time },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    Launching,
    Up,
    Gone,
}

/// One node of the gang.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub node: NodeId,
    pub gpus: GpuSet,
    pub first_rank: Rank,
    pub state: MemberState,
    pub ranks: Vec<RankState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RankState {
    /// 0 until it is known.
    pub pid: u32,
    pub exit: Option<RankExit>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub epoch: Epoch,
    pub phase: Phase,
    /// In rank order.
    pub members: Vec<Member>,
    pub gpus: u64,
    pub tally: Tally,
    pub master_port: u16,
    pub launched_at: Time,
    pub all_up_at: Option<Time>,
    pub first_step_at: Option<Time>,
    /// The checkpoint that it went on from.
    pub resumed_from: Option<u64>,
    pub pace: Pace,
    /// Training before this moment is safe in a checkpoint; after it, a fault loses it.
    pub at_risk_since: Time,
    /// For which checkpoints have blocked this attempt, as it says.
    pub blocked_ms: u64,
    /// The same, as the ledger has it.
    pub checkpointing: Millis,
    /// The work that the ledger has called lost: since when, until when.
    pub lost: Option<(Time, Time)>,
    /// When the newest step or checkpoint was told.
    pub sign_at: Time,
    /// The silence that the present hang timer allows.
    pub hang_limit: Millis,
    pub resend_wait: Millis,
    /// A node of the gang that went silent, and when it was last heard, if anybody knows.
    pub unheard: Option<(NodeId, Option<Time>)>,
}

/// Sums over the gang, so that a report does not cost a pass over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Tally {
    pub ranks: u32,
    /// Ranks that ended with status 0.
    pub succeeded: u32,
    /// Members of which nothing was heard yet.
    pub launching: u32,
    pub gone: u32,
}

impl Tally {
    pub fn of(members: &[Member]) -> Tally {
        let mut tally = Tally::default();
        for member in members {
            tally.launching += u32::from(member.state == MemberState::Launching);
            tally.gone += u32::from(member.state == MemberState::Gone);
            tally.ranks += member.ranks.len() as u32;
            tally.succeeded += member.succeeded();
        }
        tally
    }
}

/// The hang timeout of a job that has shown one step and never a second.
const PACE_UNKNOWN: Millis = Millis::from_secs(600);
/// The least hang timeout before a job has shown its pace in this attempt, and a checkpoint in any:
/// a first checkpoint may block for as long as this, and nothing before tells so.
const PACE_UNSETTLED: Millis = Millis::from_secs(60);

/// How fast an attempt gets on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Pace {
    pub step: Option<u64>,
    pub step_at: Time,
    /// Smoothed time of one step. It begins with that of the attempt before; `None` in the first
    /// attempt until two steps were seen.
    pub step_ms: Option<u64>,
    /// Whether this attempt itself has shown its pace.
    pub is_settled: bool,
    /// The longest time between two readings of progress, in any attempt; a silence that was
    /// called a hang counts too, so that a pause that comes again is called one only once or twice.
    pub longest_gap_ms: u64,
    /// Whether a checkpoint has shown how long it blocks, in any attempt.
    pub has_checkpointed: bool,
}

impl Pace {
    /// Takes a reading; whether it is progress at all.
    pub fn on_step(&mut self, now: Time, step: u64) -> bool {
        let Some(before) = self.step else {
            self.step = Some(step);
            self.step_at = now;
            return true;
        };
        if step <= before {
            return false;
        }
        let gap = now.since(self.step_at).0;
        let each = gap / (step - before);
        self.step_ms = Some(self.step_ms.map_or(each, |before| (before * 3 + each) / 4));
        self.is_settled = true;
        self.longest_gap_ms = self.longest_gap_ms.max(gap);
        self.step = Some(step);
        self.step_at = now;
        true
    }

    /// The longest silence that is not a hang: three step times, twice the longest pause seen, or
    /// the floor, and the interval at which readings come; and never shorter than the silence that
    /// an agent is allowed. Longer while the pace is not known: after the first step of an attempt,
    /// programs still compile and warm up.
    pub fn hang_timeout(&self, given: Option<Millis>, policy: &Policy) -> Millis {
        given.unwrap_or_else(|| {
            let Some(step_ms) = self.step_ms else { return PACE_UNKNOWN };
            let bound = Millis(policy.hang_floor_ms.max(policy.node_silent_ms))
                .max(Millis(step_ms).times(3))
                .max(Millis(self.longest_gap_ms).times(2));
            let is_known = self.is_settled && self.has_checkpointed;
            let bound = if is_known { bound } else { bound.max(PACE_UNSETTLED) };
            bound + Millis(policy.progress_interval_ms)
        })
    }

    /// When `step` was reached, as far as the pace tells.
    pub fn reached_at(&self, step: u64, now: Time) -> Time {
        match self.step {
            Some(newest) if step < newest => {
                let step_ms = self.step_ms.unwrap_or(0);
                let behind = (newest - step).saturating_mul(step_ms);
                Time(self.step_at.0.saturating_sub(behind))
            }
            _ => now,
        }
    }
}

/// What a report changed in a member, for the control flow to act on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub started: Vec<(Rank, u32)>,
    /// The end that stops the attempt, if there is one: the first that is not a success.
    pub fault: Option<EndReason>,
}

impl Attempt {
    /// Where the time of its GPUs goes.
    pub fn column(&self) -> Column {
        if self.is_stopping() {
            Column::Waiting
        } else if self.first_step_at.is_some() {
            Column::Productive
        } else {
            Column::Startup
        }
    }

    pub fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping { .. })
    }

    pub fn all_gone(&self) -> bool {
        self.tally.gone as usize == self.members.len()
    }

    /// Whether every rank has ended with status 0.
    pub fn all_succeeded(&self) -> bool {
        self.tally.succeeded == self.tally.ranks
    }

    pub fn world_size(&self) -> u32 {
        self.tally.ranks
    }

    pub fn check(&self) {
        assert_eq!(self.tally, Tally::of(&self.members), "the gang's tally is wrong");
    }

    /// Every rank with the node it is on.
    pub fn ranks(&self) -> impl Iterator<Item = (Rank, NodeId, MemberState, &RankState)> {
        self.members.iter().flat_map(|member| {
            member.ranks.iter().enumerate().map(|(index, rank)| {
                (Rank(member.first_rank.0 + index as u32), member.node, member.state, rank)
            })
        })
    }

    /// Takes over what the agent of a member says.
    pub fn on_report(
        &mut self,
        index: usize,
        node_name: &str,
        report: &AttemptReport,
        now: Time,
    ) -> Changes {
        let mut changes = Changes::default();
        let launched_at = self.launched_at;
        let is_stopping = self.is_stopping();
        let member = &mut self.members[index];
        if member.state == MemberState::Gone {
            return changes;
        }
        let before = Tally::of(std::slice::from_ref(member));
        let first = member.first_rank.0;
        for said in &report.ranks {
            let Some(rank) =
                said.rank.0.checked_sub(first).and_then(|at| member.ranks.get_mut(at as usize))
            else {
                continue;
            };
            if rank.pid == 0 && said.pid != 0 {
                rank.pid = said.pid;
                changes.started.push((said.rank, said.pid));
            }
            if let (None, Some(exit)) = (&rank.exit, &said.exit) {
                // A node's clock may be off; an end is neither before the launch nor to come.
                let at = exit.at.max(launched_at).min(now);
                // Nor was anybody told to stop of whom we did not ask it.
                let stopping = exit.stopping && is_stopping;
                rank.exit = Some(RankExit { exit: exit.exit.clone(), at, stopping });
            }
        }
        match &report.phase {
            ReportedPhase::Running => {
                if member.state == MemberState::Launching {
                    member.state = MemberState::Up;
                }
            }
            ReportedPhase::Gone => {
                member.state = MemberState::Gone;
                member.lose_ranks(now, is_stopping);
            }
            ReportedPhase::Refused(refusal) => {
                member.state = MemberState::Gone;
                member.lose_ranks(now, true);
                changes.fault = Some(EndReason::Refused {
                    node: node_name.to_string(),
                    refusal: refusal.clone(),
                });
            }
        }
        if changes.fault.is_none() {
            changes.fault = member.first_failure().map(|(rank, exit)| EndReason::RankExited {
                rank,
                node: node_name.to_string(),
                exit: exit.exit.clone(),
            });
        }
        let after = Tally::of(std::slice::from_ref(member));
        self.count(before, after);
        changes
    }

    /// A member went from one tally to another.
    fn count(&mut self, before: Tally, after: Tally) {
        let tally = &mut self.tally;
        tally.succeeded = tally.succeeded + after.succeeded - before.succeeded;
        tally.launching = tally.launching + after.launching - before.launching;
        tally.gone = tally.gone + after.gone - before.gone;
    }

    /// The member's node was fenced: whatever ran there is over.
    pub fn on_fenced(&mut self, index: usize, now: Time) {
        let member = &mut self.members[index];
        if member.state != MemberState::Gone {
            let before = Tally::of(std::slice::from_ref(member));
            member.state = MemberState::Gone;
            member.lose_ranks(now, true);
            let after = Tally::of(std::slice::from_ref(member));
            self.count(before, after);
        }
    }
}

impl Member {
    fn succeeded(&self) -> u32 {
        let ended_well =
            |rank: &&RankState| rank.exit.as_ref().is_some_and(|e| e.exit.is_success());
        self.ranks.iter().filter(ended_well).count() as u32
    }

    /// Ranks of which nobody has seen the end are lost.
    fn lose_ranks(&mut self, at: Time, stopping: bool) {
        for rank in &mut self.ranks {
            rank.exit.get_or_insert(RankExit { exit: Exit::Lost, at, stopping });
        }
    }

    fn first_failure(&self) -> Option<(Rank, &RankExit)> {
        self.ranks
            .iter()
            .enumerate()
            .filter_map(|(index, rank)| {
                let exit = rank.exit.as_ref()?;
                let failed = !exit.exit.is_success() && !exit.stopping;
                failed.then_some((Rank(self.first_rank.0 + index as u32), exit))
            })
            .min_by_key(|(rank, exit)| (exit.at, *rank))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hang_timeout_follows_the_jobs_own_pace() {
        let policy =
            Policy { hang_floor_ms: 5000, progress_interval_ms: 1000, ..Policy::default() };
        let mut pace = Pace { has_checkpointed: true, ..Pace::default() };
        assert!(pace.on_step(Time(0), 1));
        assert_eq!(pace.hang_timeout(None, &policy), PACE_UNKNOWN);
        assert!(pace.on_step(Time(4000), 2));
        assert_eq!(pace.hang_timeout(None, &policy), Millis(3 * 4000 + 1000));
        assert!(pace.on_step(Time(34_000), 3));
        assert_eq!(pace.longest_gap_ms, 30_000);
        assert_eq!(pace.hang_timeout(None, &policy), Millis(61_000));
        assert_eq!(pace.hang_timeout(Some(Millis(7)), &policy), Millis(7));
        let mut next = Pace { step_ms: Some(10), has_checkpointed: true, ..Pace::default() };
        next.on_step(Time(0), 5);
        assert_eq!(next.hang_timeout(None, &policy), PACE_UNSETTLED + Millis(1000));
        next.on_step(Time(10), 6);
        assert_eq!(next.hang_timeout(None, &policy), Millis(6000));
    }

    #[test]
    fn a_step_that_was_seen_before_is_no_progress() {
        let mut pace = Pace::default();
        assert!(pace.on_step(Time(0), 10));
        assert!(!pace.on_step(Time(10), 10));
        assert!(!pace.on_step(Time(20), 9));
        assert_eq!(pace.step_at, Time(0));
    }

    #[test]
    fn the_time_of_an_earlier_step_is_told_by_the_pace() {
        let mut pace = Pace::default();
        pace.on_step(Time(1000), 10);
        pace.on_step(Time(2000), 20);
        assert_eq!(pace.reached_at(15, Time(2500)), Time(1500));
        assert_eq!(pace.reached_at(20, Time(2500)), Time(2500));
    }
}
