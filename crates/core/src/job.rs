//! A job as the core knows it.

use crate::gang::attempt::{Attempt, Doubt, Phase, Shunned};
use crate::queue::teams::TeamId;
use lindos_model::blame::Blame;
use lindos_model::reason::Charge;
use lindos_model::{
    Column, Columns, EndReason, Epoch, JobId, JobSpec, JobState, Millis, NodeId, Rank, Time,
    WaitReason,
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// Past attempts remembered of one job.
pub const HISTORY_MAX: usize = 100;
/// The first step of a job that is known to report steps comes within this time.
const FIRST_STEP: Millis = Millis::from_secs(600);
/// Checkpoints remembered of one job. A broken loss is told after ten steps in a row, so that no more
/// than some ten of the newest are spoilt when that is known.
const CHECKPOINTS_MAX: usize = 16;
/// Of a gang larger than this, only so many attempts remember their nodes.
const GANG_REMEMBERED: usize = 64;
const NODES_REMEMBERED: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub user: String,
    pub spec: Arc<JobSpec>,
    /// Which job of its array it is.
    pub array_index: Option<u32>,
    pub team: TeamId,
    /// Its class's, or its own.
    pub priority: i32,
    pub preempted_at: Option<Time>,
    /// `Some` once it is over.
    pub ended: Option<(JobState, EndReason)>,
    pub submitted_at: Time,
    pub started_at: Option<Time>,
    pub ended_at: Option<Time>,
    /// The present attempt; of a job that is over, the last.
    pub attempt: Option<Attempt>,
    pub epoch: Epoch,
    pub history: Vec<PastAttempt>,
    /// As it was last looked at; `None` while it does not wait.
    pub wait: Option<WaitReason>,
    pub infrastructure_used: u32,
    pub user_used: u32,
    pub faults: u32,
    pub failures_without_progress: u32,
    pub doubt: Option<Doubt>,
    /// Nodes that it keeps away from when it starts again.
    pub shunned: Shunned,
    /// The rank that the others waited for last, and where it was.
    pub was_slow: Option<(Rank, NodeId)>,
    /// Whether any attempt has ever told a step.
    pub reports_steps: bool,
    /// Whether its program has said that it can wait for its rank.
    pub stands_by: bool,
    /// As the last attempt showed it.
    pub step_ms: Option<u64>,
    /// The longest silence that any attempt has shown.
    pub longest_gap_ms: u64,
    /// Whether a checkpoint of a running attempt has shown how long it blocks.
    pub is_pause_known: bool,
    pub best_step: Option<u64>,
    pub total_steps: Option<u64>,
    /// The newest checkpoint that is durable and not spoilt.
    pub checkpoint_step: Option<u64>,
    /// It and those before it, the oldest first.
    pub checkpoints: VecDeque<Checkpoint>,
    /// The last time that its loss broke.
    pub spoilt: Option<Spoilt>,
    /// For which the newest checkpoint blocked training.
    pub checkpoint_cost: Option<Millis>,
    pub first_loss_micro: Option<i64>,
    pub last_loss_micro: Option<i64>,
    /// Time for which earlier attempts have held a gang.
    pub held_ms: u64,
    pub ledger: JobLedger,
}

/// A durable checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub step: u64,
    /// Productive GPU-milliseconds that it made safe, where the ledger could tell.
    pub gpu_ms: u64,
}

/// What attempts up to this one have saved from this step on is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoilt {
    pub epoch: Epoch,
    pub from: u64,
}

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastAttempt {
    pub epoch: Epoch,
    pub launched_at: Time,
    pub first_step_at: Option<Time>,
    pub ended_at: Time,
    pub resumed_from: Option<u64>,
    pub last_step: Option<u64>,
    pub reason: EndReason,
    pub charge: Charge,
    /// Of a fault.
    pub blame: Option<Blame>,
    /// Where it ran, in rank order. Of a large gang, only the newest attempts remember.
    pub nodes: Vec<NodeId>,
}

/// GPU-milliseconds of one job by column: what the fleet's ledger holds on its account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct JobLedger {
    pub totals: Columns,
    /// GPUs that stand on the job's account now, and where.
    pub held: Columns,
    pub at: Time,
}

impl JobLedger {
    pub fn accrue(&mut self, now: Time) {
        let span = now.since(self.at).0;
        if span > 0 {
            for (column, gpus) in self.held.iter() {
                self.totals[column] += gpus * span;
            }
        }
        self.at = now;
    }

    pub fn at(&self, now: Time) -> Columns {
        let mut ledger = self.clone();
        ledger.accrue(now.max(self.at));
        ledger.totals
    }

    pub fn transfer(&mut self, from: Column, to: Column, gpu_ms: u64) {
        assert!(self.totals[from] >= gpu_ms, "a job's {} column went below zero", from.name());
        self.totals[from] -= gpu_ms;
        self.totals[to] += gpu_ms;
    }
}

impl Job {
    pub fn state(&self) -> JobState {
        if let Some((state, _)) = &self.ended {
            return *state;
        }
        match self.attempt.as_ref().map(|attempt| &attempt.phase) {
            None => JobState::Queued,
            Some(Phase::Launching) => JobState::Starting,
            Some(Phase::Up) => JobState::Running,
            Some(Phase::Stopping { .. }) => JobState::Stopping,
        }
    }

    /// GPUs that the whole gang takes.
    pub fn gpus(&self) -> u64 {
        u64::from(self.spec.nodes) * u64::from(self.spec.gpus_per_node)
    }

    /// GPUs that it makes do with.
    pub fn least_gpus(&self) -> u64 {
        u64::from(self.spec.min_nodes) * u64::from(self.spec.gpus_per_node)
    }

    /// Whether a first step is to be expected at all.
    pub fn is_expected_to_report(&self) -> bool {
        self.reports_steps || self.spec.progress_pattern.is_some()
    }

    /// How long after a launch the first step may come, if one is to be expected at all.
    pub fn first_step_within(&self) -> Option<Millis> {
        self.spec.startup_timeout.or(self.is_expected_to_report().then_some(FIRST_STEP))
    }

    /// A checkpoint is durable; whether it is newer than all, and of use.
    pub fn note_checkpoint(&mut self, epoch: Epoch, step: u64) -> bool {
        let is_spoilt = |spoilt: Spoilt| epoch <= spoilt.epoch && step >= spoilt.from;
        if self.checkpoint_step >= Some(step) || self.spoilt.is_some_and(is_spoilt) {
            return false;
        }
        self.checkpoint_step = Some(step);
        self.checkpoints.push_back(Checkpoint { step, gpu_ms: 0 });
        while self.checkpoints.len() > CHECKPOINTS_MAX {
            self.checkpoints.pop_front();
        }
        true
    }

    /// The loss was no number from a step on: checkpoints since are forgotten. The work that they
    /// had made safe; `None` when there are none.
    pub fn spoil(&mut self, epoch: Epoch, from: u64) -> Option<u64> {
        self.spoilt = Some(Spoilt { epoch, from });
        let kept = self.checkpoints.partition_point(|checkpoint| checkpoint.step < from);
        let spoilt = self.checkpoints.split_off(kept);
        self.checkpoint_step = self.checkpoints.back().map(|checkpoint| checkpoint.step);
        let work = || spoilt.iter().map(|checkpoint| checkpoint.gpu_ms).sum();
        (!spoilt.is_empty()).then(work)
    }

    /// What the next launch is told to go on from: 0, from the beginning, where all that was saved is
    /// spoilt.
    pub fn resume_step(&self) -> Option<u64> {
        self.checkpoint_step.or(self.spoilt.map(|_| 0))
    }

    /// Where the last attempt ran.
    pub fn last_nodes(&self) -> &[NodeId] {
        self.history.last().map_or(&[], |past| &past.nodes)
    }

    /// Remembers an attempt that is over.
    pub fn remember(&mut self, past: PastAttempt) {
        if self.history.len() == HISTORY_MAX {
            self.history.remove(0);
        }
        self.history.push(past);
        let old = self.history.len().checked_sub(NODES_REMEMBERED + 1);
        if let Some(past) = old.map(|old| &mut self.history[old])
            && past.nodes.len() > GANG_REMEMBERED
        {
            past.nodes = Vec::new();
        }
    }

    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }
}
