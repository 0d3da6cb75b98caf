//! One attempt of a job: its gang, its ranks, and what the agents say of them.
//!
//! An attempt ends in two moves. First it is *stopping*: the reason is known, every node is told.
//! Then every member is *gone*: its agent has said so, or the node was fenced. Only then may the
//! next epoch begin, so that a job is never alive twice.

use super::standby::Standby;
use crate::blame::evidence::Evidence;
use crate::event::GangWord;
use lindos_model::{
    AttemptReport, Column, EndReason, Epoch, Exit, GpuSet, Millis, NodeId, Policy, Rank, RankExit,
    ReportedPhase, Time,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

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
    pub state: MemberState,
    /// Ranks that ended with status 0.
    pub succeeded: u16,
    /// Empty while nothing is known of them one by one: a large gang tells of all at once.
    pub ranks: Vec<RankState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RankState {
    /// 0 until it is known.
    pub pid: u32,
    pub exit: Option<RankExit>,
}

/// A part of the gang that can be lost and come back while the others go on; most gangs are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Of its newest launch.
    pub epoch: Epoch,
    pub state: ReplicaState,
    pub launched_at: Time,
    pub first_step_at: Option<Time>,
    /// GPUs on nodes that are there.
    pub gpus: u64,
    pub tally: Tally,
    /// How often it has failed since it trained last.
    pub failures: u32,
    /// Its ranks meet here, and its first rank meets the other replicas at the port after it.
    pub master_port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicaState {
    Launched,
    /// It is over for this reason, and the others go on; some member may still live.
    Stopping {
        reason: EndReason,
        since: Time,
    },
    /// Nothing of it lives; it is launched again not before `until`, once it has all its nodes.
    Waiting {
        since: Time,
        until: Time,
    },
}

/// What to keep away from: somewhere a gang can fail and fail again, and no check sees why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shunned {
    pub nodes: BTreeSet<NodeId>,
    last: BTreeSet<NodeId>,
}

impl Shunned {
    /// A launch has failed on a node before its first step.
    pub fn note(&mut self, node: NodeId) {
        if !self.last.insert(node) {
            self.last.remove(&node);
            self.nodes.insert(node);
        }
        while self.nodes.len() > SHUNNED_MAX {
            self.nodes.pop_first();
        }
        while self.last.len() > SHUNNED_MAX {
            self.last.pop_first();
        }
    }

    /// Something else than a launch speaks against a node.
    pub fn avoid(&mut self, node: NodeId) {
        self.nodes.insert(node);
        while self.nodes.len() > SHUNNED_MAX {
            self.nodes.pop_first();
        }
    }

    /// The job trains on these: a launch that failed there before was no sign.
    pub fn forgive(&mut self, nodes: impl Iterator<Item = NodeId>) {
        if !self.last.is_empty() {
            for node in nodes {
                self.last.remove(&node);
            }
        }
    }
}

/// Work that the ledger has called lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    pub since: Time,
    pub until: Time,
    pub gpu_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Of the launch of the whole gang; a replica that came back since has a higher one.
    pub epoch: Epoch,
    pub phase: Phase,
    /// In rank order.
    pub members: Vec<Member>,
    /// As many members each, in their order.
    pub replicas: Vec<Replica>,
    /// Replicas launched since, by their epoch.
    pub back: BTreeMap<Epoch, u32>,
    /// Replicas that are not launched …
    pub down: BTreeSet<u32>,
    /// … and those launched since that have not trained yet.
    pub rejoining: BTreeSet<u32>,
    /// The fewest replicas that may go on without the others.
    pub replicas_min: u32,
    pub ranks_per_node: u16,
    pub gpus: u64,
    /// Whole free nodes that are kept for it.
    pub spares: BTreeSet<NodeId>,
    /// Where processes of it wait for a rank, or should: on spares, and beside its ranks.
    pub standbys: BTreeMap<NodeId, Standby>,
    /// Where such have ended by themselves, in this attempt.
    pub cold: BTreeSet<NodeId>,
    /// Between orders to those of them that have not answered.
    pub standby_wait: Millis,
    /// Nodes of it that it leaves as soon as its work is saved.
    pub leaves: BTreeSet<NodeId>,
    pub tally: Tally,
    /// Members with a rank that ended by itself and not well. Of a snapshot: see
    /// [`Attempt::restore_failed`].
    #[serde(skip)]
    pub failed: BTreeSet<u32>,
    pub launched_at: Time,
    pub all_up_at: Option<Time>,
    pub first_step_at: Option<Time>,
    /// The checkpoint that it went on from.
    pub resumed_from: Option<u64>,
    pub pace: Pace,
    /// Training before this moment is safe in a checkpoint; after it, a fault loses it.
    pub at_risk_since: Time,
    /// Productive GPU-milliseconds since then, counted up to `counted_at`.
    pub at_risk: u64,
    pub counted_at: Time,
    /// For which checkpoints have blocked this attempt, as it says.
    pub blocked_ms: u64,
    /// The same, as the ledger has it.
    pub checkpointing: Millis,
    pub lost: Option<Lost>,
    /// When the newest step or checkpoint was told.
    pub sign_at: Time,
    /// The silence that the present hang timer allows.
    pub hang_limit: Millis,
    /// A replica was dropped for a silence of all, and the others have not got on since.
    pub is_regrouping: bool,
    /// Whoever reads the progress will say when it stops.
    pub is_watched: bool,
    pub resend_wait: Millis,
    /// How often it is told to save its work.
    pub save_every: Option<Millis>,
    /// A node of the gang that went silent, and when it was last heard, if anybody knows.
    pub unheard: Option<(NodeId, Option<Time>)>,
    pub evidence: Evidence,
}

/// Sums over members, so that a report does not cost a pass over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Tally {
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
            tally.succeeded += u32::from(member.succeeded);
        }
        tally
    }

    /// A member went from one tally to another.
    fn change(&mut self, before: Tally, after: Tally) {
        self.succeeded = self.succeeded + after.succeeded - before.succeeded;
        self.launching = self.launching + after.launching - before.launching;
        self.gone = self.gone + after.gone - before.gone;
    }
}

/// A job that would keep away from more nodes than this has something else.
pub(crate) const SHUNNED_MAX: usize = 64;
/// The hang timeout of a job that has shown one step and never a second.
const PACE_UNKNOWN: Millis = Millis::from_secs(600);
/// Hangs in a row at one place that may have been pauses.
const HANGS_DOUBTED: u32 = 2;
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
    /// The longest time between two readings of progress, in any attempt.
    pub longest_gap_ms: u64,
    /// Whether a checkpoint has shown how long it blocks, in any attempt.
    pub has_checkpointed: bool,
    /// A silence that was called a hang and may have been a pause, which is to come again.
    pub doubted_ms: u64,
}

/// A hang that may have been a pause: known once the job is past the step at which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    pub step: u64,
    pub silent_ms: u64,
    times: u32,
}

impl Doubt {
    /// A pause is called a hang once or twice, and then waited for; a true hang that comes again and
    /// again at one step is not waited for ever longer.
    pub fn after_hang(before: Option<Doubt>, step: u64, silent_ms: u64) -> Option<Doubt> {
        match before {
            Some(doubt) if doubt.times >= HANGS_DOUBTED => Some(doubt),
            before => {
                let times = before.map_or(0, |doubt| doubt.times) + 1;
                Some(Doubt { step, silent_ms, times })
            }
        }
    }
}

impl Pace {
    /// Takes a reading; whether it is progress at all.
    ///
    /// Of a job that is watched, readings come seldom: the time between two is no pause.
    pub fn on_step(&mut self, now: Time, step: u64, is_watched: bool) -> bool {
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
        if !is_watched {
            self.longest_gap_ms = self.longest_gap_ms.max(gap);
        }
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
                .max(Millis(self.longest_gap_ms.max(self.doubted_ms)).times(2));
            let is_known = self.is_settled && self.has_checkpointed;
            let bound = if is_known { bound } else { bound.max(PACE_UNSETTLED) };
            bound + Millis(policy.progress_interval_ms)
        })
    }

    /// When `step` was reached, as far as the pace tells.
    pub fn reached_at(&self, step: u64, now: Time) -> Time {
        match self.step {
            Some(newest) if step <= newest => {
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
    /// All its ranks run and are known: as long as it says the same, there is nothing to learn.
    pub is_quiet: bool,
}

/// The state of a rank of which nothing is known.
static UNKNOWN: RankState = RankState { pid: 0, exit: None };

impl Attempt {
    /// Where the time of a replica's GPUs goes.
    pub fn column(&self, replica: usize) -> Column {
        let replica = &self.replicas[replica];
        if self.is_stopping() || replica.state != ReplicaState::Launched {
            Column::Waiting
        } else if replica.first_step_at.is_some() {
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

    /// Whether every rank has ended with status 0, but for those of replicas that are not there.
    pub fn all_succeeded(&self) -> bool {
        if self.tally.succeeded == self.world_size() {
            return true;
        }
        if self.replicas.len() == 1 || self.tally.succeeded == 0 {
            return false;
        }
        let all = self.ranks_in_replica();
        let mut launched = self.replicas.iter().filter(|r| r.state == ReplicaState::Launched);
        let done = self.replicas.iter().filter(|r| r.tally.succeeded == all).count();
        done >= self.replicas_min as usize && launched.all(|r| r.tally.succeeded == all)
    }

    /// Ranks of the whole gang.
    pub fn world_size(&self) -> u32 {
        self.members.len() as u32 * u32::from(self.ranks_per_node)
    }

    pub fn nodes_in_replica(&self) -> usize {
        self.members.len() / self.replicas.len()
    }

    pub fn ranks_in_replica(&self) -> u32 {
        self.nodes_in_replica() as u32 * u32::from(self.ranks_per_node)
    }

    pub fn replica_of(&self, member: usize) -> usize {
        member / self.nodes_in_replica()
    }

    pub fn members_of(&self, replica: usize) -> Range<usize> {
        let nodes = self.nodes_in_replica();
        replica * nodes..(replica + 1) * nodes
    }

    /// The epoch of a member's newest launch.
    pub fn epoch_of(&self, member: usize) -> Epoch {
        self.replicas[self.replica_of(member)].epoch
    }

    /// The replica that was launched under an epoch; the first of them when it was the whole gang.
    pub fn replica_at(&self, epoch: Epoch) -> Option<usize> {
        if epoch == self.epoch {
            return self.replicas.iter().position(|replica| replica.epoch == epoch);
        }
        self.back.get(&epoch).map(|&replica| replica as usize)
    }

    /// Whether this was launched under an epoch and is not over.
    pub fn has_epoch(&self, epoch: Epoch) -> bool {
        epoch == self.epoch || self.back.contains_key(&epoch)
    }

    /// How many replicas train.
    pub fn training(&self) -> usize {
        let all = if self.first_step_at.is_some() { self.replicas.len() } else { 0 };
        all.saturating_sub(self.down.len() + self.rejoining.len())
    }

    pub fn first_rank(&self, member: usize) -> Rank {
        Rank(member as u32 * u32::from(self.ranks_per_node))
    }

    /// Finds out who has failed, after a snapshot was read.
    pub fn restore_failed(&mut self) {
        self.failed = self.counted_failed();
    }

    fn counted_failed(&self) -> BTreeSet<u32> {
        let members = self.members.iter().zip(0..);
        members.filter(|(member, _)| member.has_failed()).map(|(_, index)| index).collect()
    }

    pub fn check(&self) {
        assert_eq!(self.tally, Tally::of(&self.members), "the gang's tally is wrong");
        assert_eq!(self.failed, self.counted_failed(), "who has failed is not kept in mind");
        for (index, replica) in self.replicas.iter().enumerate() {
            let members = &self.members[self.members_of(index)];
            assert_eq!(replica.tally, Tally::of(members), "a replica's tally is wrong");
            let is_down = replica.state != ReplicaState::Launched;
            assert_eq!(self.down.contains(&(index as u32)), is_down);
            let is_new = !is_down && replica.epoch > self.epoch && replica.first_step_at.is_none();
            assert_eq!(self.rejoining.contains(&(index as u32)), is_new);
            let is_back = self.back.get(&replica.epoch) == Some(&(index as u32));
            assert!(is_back || replica.epoch == self.epoch, "an epoch leads to no replica");
        }
        for member in &self.members {
            let known = member.ranks.iter().filter(|r| r.succeeded()).count() as u16;
            assert!(member.ranks.is_empty() || known == member.succeeded);
        }
    }

    /// Every rank with the node it is on.
    pub fn ranks(&self) -> impl Iterator<Item = (Rank, NodeId, MemberState, &RankState)> {
        let ranks_per_node = usize::from(self.ranks_per_node);
        self.members.iter().enumerate().flat_map(move |(place, member)| {
            let first = self.first_rank(place).0;
            (0..ranks_per_node).map(move |index| {
                let state = member.ranks.get(index).unwrap_or(&UNKNOWN);
                (Rank(first + index as u32), member.node, member.state, state)
            })
        })
    }

    /// What is known of one rank.
    pub fn rank(&self, rank: Rank) -> Option<&RankState> {
        let ranks_per_node = u32::from(self.ranks_per_node);
        let member = self.members.get((rank.0 / ranks_per_node) as usize)?;
        member.ranks.get((rank.0 % ranks_per_node) as usize)
    }

    /// The ranks that ended by themselves and not well, of replicas that are there.
    pub fn failures(&self) -> impl Iterator<Item = (Rank, NodeId, &RankExit)> {
        let is_there =
            |&place: &usize| self.replicas[self.replica_of(place)].state == ReplicaState::Launched;
        let failed = self.failed.iter().map(|&place| place as usize).filter(is_there);
        failed.flat_map(|place| {
            let (first, member) = (self.first_rank(place).0, &self.members[place]);
            let ranks = member.ranks.iter().enumerate();
            ranks.filter_map(move |(index, rank)| {
                Some((Rank(first + index as u32), member.node, rank.failure()?))
            })
        })
    }

    /// Changes a member and keeps the sums true.
    fn change<R>(&mut self, index: usize, change: impl FnOnce(&mut Member) -> R) -> R {
        let replica = self.replica_of(index);
        let member = &mut self.members[index];
        let before = Tally::of(std::slice::from_ref(member));
        let result = change(member);
        let after = Tally::of(std::slice::from_ref(member));
        if member.has_failed() {
            self.failed.insert(index as u32);
        } else {
            self.failed.remove(&(index as u32));
        }
        self.tally.change(before, after);
        self.replicas[replica].tally.change(before, after);
        result
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
        if self.members[index].state == MemberState::Gone {
            return changes;
        }
        let replica = &self.replicas[self.replica_of(index)];
        let launched_at = replica.launched_at;
        let is_stopping = self.is_stopping() || replica.state != ReplicaState::Launched;
        let (first, ranks) = (self.first_rank(index), usize::from(self.ranks_per_node));
        self.change(index, |member| {
            if member.ranks.is_empty() && !report.ranks.is_empty() {
                member.ranks = vec![RankState::default(); ranks];
            }
            for said in &report.ranks {
                let Some(rank) = said
                    .rank
                    .0
                    .checked_sub(first.0)
                    .and_then(|at| member.ranks.get_mut(at as usize))
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
                    member.succeeded += u16::from(exit.exit.is_success());
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
                    member.lose_ranks(ranks, now, is_stopping);
                }
                ReportedPhase::Refused(refusal) => {
                    member.state = MemberState::Gone;
                    member.lose_ranks(ranks, now, true);
                    let (node, refusal) = (node_name.to_string(), refusal.clone());
                    changes.fault = Some(EndReason::Refused { node, refusal });
                }
            }
            changes.is_quiet = member.state == MemberState::Up
                && member.ranks.len() == ranks
                && member.ranks.iter().all(|rank| rank.pid != 0 && rank.exit.is_none());
            if changes.fault.is_none() {
                let node = node_name.to_string();
                changes.fault = member.first_failure(first).map(|(rank, exit)| {
                    EndReason::RankExited { rank, node, exit: exit.exit.clone() }
                });
            }
        });
        changes
    }

    /// All members that were launched under an epoch, but for some nodes, have said the same.
    pub fn on_gang_report(&mut self, epoch: Epoch, word: GangWord, but: &[NodeId]) {
        let ranks = self.ranks_per_node;
        let of_it = match self.back.get(&epoch) {
            Some(&replica) => replica as usize..replica as usize + 1,
            None => 0..self.replicas.len(),
        };
        for replica in of_it {
            let is_launched = self.replicas[replica].state == ReplicaState::Launched;
            // Nobody stops by order whom nobody has told to.
            let is_unasked = word == GangWord::Stopped && is_launched && !self.is_stopping();
            if self.replicas[replica].epoch != epoch || is_unasked {
                continue;
            }
            let members = self.members_of(replica);
            let first = members.start as u32;
            let before = self.replicas[replica].tally;
            for (member, index) in self.members[members.clone()].iter_mut().zip(first..) {
                if member.state != MemberState::Gone && !but.contains(&member.node) {
                    let had_ranks = !member.ranks.is_empty();
                    member.on_word(word, ranks);
                    if had_ranks && !member.has_failed() {
                        self.failed.remove(&index);
                    }
                }
            }
            let after = Tally::of(&self.members[members]);
            self.replicas[replica].tally = after;
            self.tally.change(before, after);
        }
    }

    /// The member's node was fenced: whatever ran there is over.
    pub fn on_fenced(&mut self, index: usize, now: Time) {
        let ranks = usize::from(self.ranks_per_node);
        if self.members[index].state != MemberState::Gone {
            self.change(index, |member| {
                member.state = MemberState::Gone;
                member.lose_ranks(ranks, now, true);
            });
        }
    }

    /// A member starts anew, on this node.
    pub fn renew(&mut self, index: usize, node: NodeId, gpus: GpuSet) {
        self.change(index, |member| *member = Member::launched(node, gpus));
    }
}

impl RankState {
    /// Its end, if it ended by itself and not well.
    pub fn failure(&self) -> Option<&RankExit> {
        self.exit.as_ref().filter(|exit| !exit.exit.is_success() && !exit.stopping)
    }

    fn succeeded(&self) -> bool {
        self.exit.as_ref().is_some_and(|exit| exit.exit.is_success())
    }
}

impl Member {
    pub fn launched(node: NodeId, gpus: GpuSet) -> Member {
        Member { node, gpus, state: MemberState::Launching, succeeded: 0, ranks: Vec::new() }
    }

    fn on_word(&mut self, word: GangWord, ranks: u16) {
        match word {
            GangWord::Running => {
                if self.state == MemberState::Launching {
                    self.state = MemberState::Up;
                }
            }
            GangWord::Succeeded => {
                self.state = MemberState::Gone;
                self.succeeded = ranks;
                self.ranks = Vec::new();
            }
            GangWord::Stopped => {
                self.state = MemberState::Gone;
            }
        }
    }

    /// Ranks of which nobody has seen the end are lost.
    fn lose_ranks(&mut self, ranks: usize, at: Time, stopping: bool) {
        if self.ranks.is_empty() {
            self.ranks = vec![RankState::default(); ranks];
        }
        for rank in &mut self.ranks {
            rank.exit.get_or_insert(RankExit { exit: Exit::Lost, at, stopping });
        }
    }

    fn first_failure(&self, first: Rank) -> Option<(Rank, &RankExit)> {
        let failed = self.ranks.iter().enumerate().filter_map(|(index, rank)| {
            let exit = rank.failure()?;
            Some((Rank(first.0 + index as u32), exit))
        });
        failed.min_by_key(|(rank, exit)| (exit.at, *rank))
    }

    fn has_failed(&self) -> bool {
        self.ranks.iter().any(|rank| rank.failure().is_some())
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
        assert!(pace.on_step(Time(0), 1, false));
        assert_eq!(pace.hang_timeout(None, &policy), PACE_UNKNOWN);
        assert!(pace.on_step(Time(4000), 2, false));
        assert_eq!(pace.hang_timeout(None, &policy), Millis(3 * 4000 + 1000));
        assert!(pace.on_step(Time(34_000), 3, false));
        assert_eq!(pace.longest_gap_ms, 30_000);
        assert_eq!(pace.hang_timeout(None, &policy), Millis(61_000));
        assert_eq!(pace.hang_timeout(Some(Millis(7)), &policy), Millis(7));
        let mut next = Pace { step_ms: Some(10), has_checkpointed: true, ..Pace::default() };
        next.on_step(Time(0), 5, false);
        assert_eq!(next.hang_timeout(None, &policy), PACE_UNSETTLED + Millis(1000));
        next.on_step(Time(10), 6, false);
        assert_eq!(next.hang_timeout(None, &policy), Millis(6000));
    }

    #[test]
    fn a_step_that_was_seen_before_is_no_progress() {
        let mut pace = Pace::default();
        assert!(pace.on_step(Time(0), 10, false));
        assert!(!pace.on_step(Time(10), 10, false));
        assert!(!pace.on_step(Time(20), 9, false));
        assert_eq!(pace.step_at, Time(0));
    }

    #[test]
    fn the_time_of_an_earlier_step_is_told_by_the_pace() {
        let mut pace = Pace::default();
        pace.on_step(Time(1000), 10, false);
        pace.on_step(Time(2000), 20, false);
        assert_eq!(pace.reached_at(15, Time(2500)), Time(1500));
        assert_eq!(pace.reached_at(20, Time(2500)), Time(2000));
        assert_eq!(pace.reached_at(21, Time(2500)), Time(2500));
    }
}
