//! What an agent writes down for a shim ([`Plan`]), what a shim says of its attempt ([`State`]),
//! and what an agent asks of a shim ([`Request`]). All of it is JSON; keys that are not known are
//! ignored, because a shim may be older or newer than the agent that speaks with it.

use lindos_api::agent::{CheckpointNote, Launch, RankProgress, RankSymptom};
use lindos_hardware::cgroup::Place;
use lindos_hardware::process::ProcessId;
use lindos_model::report::Refusal;
use lindos_model::{
    Activity, AttemptReport, EffectId, Epoch, JobId, Rank, RankExit, RankPace, RankReport,
    RankStack, ReportedPhase, Symptom, Waited,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// One attempt; also the name of its folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub job: JobId,
    pub epoch: Epoch,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.job, self.epoch)
    }
}

impl Key {
    pub fn parse(name: &str) -> Option<Key> {
        let (job, epoch) = name.split_once('-')?;
        let key = Key { job: job.parse().ok()?, epoch: epoch.parse().ok()? };
        // Only the one way of writing it.
        (key.to_string() == name).then_some(key)
    }
}

/// `spec.json`: all that a shim needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub job: JobId,
    pub epoch: Epoch,
    /// The node's name.
    pub node: String,
    pub launch: Launch,
    /// Unlike that of any other attempt on this machine. Every process of the attempt carries it
    /// in its environment, so that one that left session and parent is still found.
    pub cookie: String,
    pub checkpoint_dir: PathBuf,
    pub log_dir: PathBuf,
    /// Holds `shim.sock` and the ranks' `rRANK.sock`: short enough for a socket's path.
    pub socket_dir: PathBuf,
    pub cgroup: Option<Place>,
    /// Processes that wait for a rank: of this plan, when its epoch is 0; otherwise those that go on
    /// as its ranks, and whose cookie, control group and sockets it has.
    #[serde(default)]
    pub standby: Option<EffectId>,
    /// Of processes that wait for a rank: whether ranks of the job have the GPUs meanwhile.
    #[serde(default)]
    pub beside: bool,
}

impl Plan {
    pub fn key(&self) -> Key {
        Key { job: self.job, epoch: self.epoch }
    }

    pub fn ranks(&self) -> impl Iterator<Item = Rank> + use<> {
        let first = self.launch.first_rank.0;
        (first..first.saturating_add(self.launch.rank_count)).map(Rank)
    }

    /// Whether its processes wait for a rank.
    pub fn is_standby(&self) -> bool {
        self.epoch == Epoch(0)
    }

    /// Where the process that will be this node's rank number `local` says that it waits.
    pub fn standby_socket(&self, local: u32) -> PathBuf {
        self.socket_dir.join(format!("s{local}.sock"))
    }

    pub fn shim_socket(&self) -> PathBuf {
        self.socket_dir.join("shim.sock")
    }

    pub fn rank_socket(&self, rank: Rank) -> PathBuf {
        self.socket_dir.join(format!("r{rank}.sock"))
    }
}

/// `state.json`, and each line that a shim sends: the whole state of one attempt on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub phase: ReportedPhase,
    /// Process numbers mean something only within one boot of the machine.
    #[serde(default)]
    pub boot: String,
    #[serde(default)]
    pub shim: Option<ProcessId>,
    #[serde(default)]
    pub ranks: Vec<RankState>,
    /// Of processes that wait for a rank: whether all of them do. `None` of an attempt.
    #[serde(default)]
    pub ready: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankState {
    pub rank: Rank,
    #[serde(default)]
    pub process: Option<ProcessId>,
    #[serde(default)]
    pub exit: Option<RankExit>,
    #[serde(default)]
    pub reading: Option<Reading>,
    /// What its processes do, while it tells no step.
    #[serde(default)]
    pub activity: Option<Activity>,
    /// Where it stands in a silence, if it says so.
    #[serde(default)]
    pub stack: Option<RankStack>,
    /// How it spends its time.
    #[serde(default)]
    pub pace: Option<RankPace>,
    /// What its last words say, if it failed.
    #[serde(default)]
    pub symptom: Option<Symptom>,
    /// Output that could not be written to the log.
    #[serde(default)]
    pub output_lost_bytes: u64,
    /// Messages on its socket that made no sense.
    #[serde(default)]
    pub messages_ignored: u64,
}

/// The newest that a rank said of itself.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    pub step: Option<u64>,
    /// Finite.
    pub loss: Option<f64>,
    pub tokens: Option<u64>,
    pub total_steps: Option<u64>,
    pub checkpoint: Option<CheckpointNote>,
    pub checkpoint_blocked_ms: u64,
    /// The first step of those whose told losses were no numbers, without one since that was.
    pub loss_broken_from: Option<u64>,
    /// Its program can wait for its rank.
    pub stands_by: bool,
    pub waited: Option<Waited>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// SIGTERM now, SIGKILL after the grace; asked again, the earlier end counts.
    Stop { grace_ms: u64 },
    /// Nobody needs to know how it ended: a shim that only waits to write that down may go.
    Release,
    /// The processes that wait go on as the ranks of the attempt in this folder.
    Launch { attempt: PathBuf },
}

impl State {
    /// Of an attempt that never ran here.
    pub fn without_ranks(phase: ReportedPhase) -> State {
        State { phase, boot: String::new(), shim: None, ranks: Vec::new(), ready: None }
    }

    pub fn refused(refusal: Refusal) -> State {
        State::without_ranks(ReportedPhase::Refused(refusal))
    }

    /// Of an attempt that was launched and has not said anything yet.
    pub fn starting(plan: &Plan) -> State {
        let rank = |rank| RankState {
            rank,
            process: None,
            exit: None,
            reading: None,
            activity: None,
            stack: None,
            pace: None,
            symptom: None,
            output_lost_bytes: 0,
            messages_ignored: 0,
        };
        State {
            phase: ReportedPhase::Running,
            boot: lindos_hardware::process::boot_id(),
            shim: None,
            ranks: plan.ranks().map(rank).collect(),
            ready: plan.is_standby().then_some(false),
        }
    }

    pub fn is_running(&self) -> bool {
        self.phase == ReportedPhase::Running
    }

    pub fn report(&self, key: Key) -> AttemptReport {
        let rank = |rank: &RankState| RankReport {
            rank: rank.rank,
            pid: rank.process.map_or(0, |process| process.pid),
            exit: rank.exit.clone(),
        };
        AttemptReport {
            job: key.job,
            epoch: key.epoch,
            phase: self.phase.clone(),
            ranks: self.ranks.iter().map(rank).collect(),
        }
    }

    pub fn progress(&self, key: Key) -> impl Iterator<Item = RankProgress> + '_ {
        let is_known = |rank: &&RankState| {
            rank.reading.is_some() || rank.activity.is_some() || rank.pace.is_some()
        };
        self.ranks.iter().filter(is_known).map(move |rank| {
            let reading = rank.reading.clone().unwrap_or_default();
            RankProgress {
                job: key.job,
                epoch: key.epoch,
                rank: rank.rank,
                step: reading.step,
                loss: reading.loss,
                tokens: reading.tokens,
                total_steps: reading.total_steps,
                checkpoint: reading.checkpoint,
                checkpoint_blocked_ms: reading.checkpoint_blocked_ms,
                loss_broken_from: reading.loss_broken_from,
                activity: rank.activity,
                stack: rank.stack.clone(),
                pace: rank.pace,
                stands_by: reading.stands_by,
            }
        })
    }

    pub fn symptoms(&self, key: Key) -> impl Iterator<Item = RankSymptom> + '_ {
        self.ranks.iter().filter_map(move |rank| {
            let symptom = rank.symptom.clone()?;
            Some(RankSymptom { job: key.job, epoch: key.epoch, rank: rank.rank, symptom })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_only_as_it_is_written() {
        let key = Key { job: JobId(12), epoch: Epoch(3) };
        assert_eq!(Key::parse("12-3"), Some(key));
        for other in ["12-03", "+12-3", "12", "12-3.tmp", "-3", ""] {
            assert_eq!(Key::parse(other), None, "{other}");
        }
    }
}
