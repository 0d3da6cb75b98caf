//! An agent and the processes of its node, as they are, without the processes.
//!
//! The rules are those of the real agent: all that it must know is durable on its node, a launch
//! of an epoch that is not above the job's floor is refused, whatever is gone is reported until
//! the core says `Forget`.

use crate::fault::Plant;
use lindos_core::effect::{Command, Launch, Order, Target};
use lindos_model::finding::Finding;
use lindos_model::report::Refusal;
use lindos_model::{
    AttemptReport, EffectId, Epoch, Exit, GpuSet, JobId, Rank, RankExit, RankPace, RankReport,
    ReportedPhase, Time,
};
use std::collections::BTreeMap;

/// One node's disk, processes and agent.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is so or not, whatever the others are")]
pub struct SimNode {
    /// Durable: grows with every start of the agent.
    pub incarnation: u64,
    /// Durable: the newest epoch of each job that was seen or stopped here.
    floors: BTreeMap<JobId, Epoch>,
    /// Durable: what is not forgotten.
    pub attempts: BTreeMap<(JobId, Epoch), LocalAttempt>,
    /// Of the running agent; a new one begins anew.
    pub seq: u64,
    pub agent_alive: bool,
    pub powered: bool,
    /// It is off, and is given a new disk: that takes its time.
    pub in_repair: bool,
    /// Messages to and from it are lost until then.
    pub cut_off_until: Option<Time>,
    /// What its checks find, and until when.
    pub findings: Vec<(Time, Finding)>,
    /// It is slow until then: what runs there with others keeps them waiting.
    pub slow_until: Option<Time>,
    /// What is done to it now, from outside.
    pub remedy: Option<EffectId>,
    /// It fails every test, and nothing else shows it.
    pub is_weak: bool,
    next_pid: u32,
    /// A bug that is put into its agent.
    pub plant: Option<Plant>,
}

/// An order as one agent hears it.
#[derive(Clone, Debug)]
pub struct Told {
    pub job: JobId,
    pub epoch: Epoch,
    pub order: Order,
    pub to: Target,
}

impl Told {
    pub fn all(command: &Command) -> impl Iterator<Item = Told> + '_ {
        let (job, epoch) = (command.job, command.epoch);
        command.to.iter().map(move |&to| Told { job, epoch, order: command.order.clone(), to })
    }
}

#[derive(Clone, Debug)]
pub struct LocalAttempt {
    pub gpus: GpuSet,
    /// Which replica of its job it is a part of; 0 of a job that is one.
    pub replica: u32,
    pub has_replicas: bool,
    pub refused: Option<Refusal>,
    pub ranks: Vec<LocalRank>,
    /// SIGTERM was sent.
    pub stopping: bool,
    /// Its ranks came to a bug of their own, and say so.
    pub came_to_bug: bool,
}

#[derive(Clone, Debug)]
pub struct LocalRank {
    pub rank: Rank,
    pub pid: u32,
    pub exit: Option<RankExit>,
    /// How it has spent its time, up to `pace_at`.
    pub pace: RankPace,
    pub pace_at: Time,
}

impl LocalAttempt {
    pub fn is_alive(&self) -> bool {
        self.ranks.iter().any(|rank| rank.exit.is_none())
    }

    /// Ends every rank that still lives.
    pub fn end(&mut self, exit: &Exit, at: Time) {
        let stopping = self.stopping;
        for rank in &mut self.ranks {
            rank.exit.get_or_insert_with(|| RankExit { exit: exit.clone(), at, stopping });
        }
    }
}

/// What a command makes the node do, for the world to time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    Nothing,
    /// Ranks started: the node has its part of the attempt.
    Started,
    /// Ranks are to be gone after the grace time.
    Stopping {
        grace_ms: u64,
    },
}

impl SimNode {
    /// The number of a start is above all before it, on whatever disk: it is the time at least.
    pub fn start_agent(&mut self, now: Time) {
        self.incarnation += 1;
        if self.plant != Some(Plant::IncarnationReset) {
            self.incarnation = self.incarnation.max(now.0);
        }
        self.seq = 0;
        self.in_repair = false;
        self.agent_alive = true;
    }

    pub fn on_command(&mut self, command: &Told) -> Doing {
        if command.to.incarnation != self.incarnation {
            return Doing::Nothing;
        }
        let key = (command.job, command.epoch);
        match &command.order {
            Order::Launch(launch) => self.on_launch(key, launch, &command.to),
            Order::Stop { grace } => self.on_stop(key, grace.0),
            Order::Forget => {
                if self.attempts.get(&key).is_some_and(|attempt| !attempt.is_alive()) {
                    self.attempts.remove(&key);
                    if self.plant == Some(Plant::FloorsForgotten) {
                        self.floors.remove(&key.0);
                    }
                }
                Doing::Nothing
            }
        }
    }

    fn on_launch(&mut self, key: (JobId, Epoch), launch: &Launch, to: &Target) -> Doing {
        if self.attempts.contains_key(&key) {
            return Doing::Nothing;
        }
        let mut attempt = LocalAttempt {
            gpus: to.gpus,
            replica: launch.replica.as_ref().map_or(0, |replica| replica.index),
            has_replicas: launch.replica.is_some(),
            refused: None,
            ranks: Vec::new(),
            stopping: false,
            came_to_bug: false,
        };
        if let Some(&newest) = self.floors.get(&key.0).filter(|&&floor| floor >= key.1) {
            attempt.refused = Some(Refusal::StaleEpoch { newest });
            self.attempts.insert(key, attempt);
            return Doing::Nothing;
        }
        self.floors.insert(key.0, key.1);
        for index in 0..launch.ranks_per_node() {
            self.next_pid += 1;
            let rank = Rank(launch.first_rank(to.member).0 + index);
            let (pid, pace) = (1000 + self.next_pid, RankPace::default());
            attempt.ranks.push(LocalRank { rank, pid, exit: None, pace, pace_at: Time::ZERO });
        }
        self.attempts.insert(key, attempt);
        Doing::Started
    }

    fn on_stop(&mut self, key: (JobId, Epoch), grace_ms: u64) -> Doing {
        let floor = self.floors.entry(key.0).or_default();
        *floor = (*floor).max(key.1);
        match self.attempts.get_mut(&key) {
            Some(attempt) if attempt.is_alive() => {
                let again = std::mem::replace(&mut attempt.stopping, true);
                if again { Doing::Nothing } else { Doing::Stopping { grace_ms } }
            }
            Some(_) => Doing::Nothing,
            None => {
                let tombstone = LocalAttempt {
                    gpus: GpuSet::EMPTY,
                    replica: 0,
                    has_replicas: false,
                    refused: None,
                    ranks: Vec::new(),
                    stopping: true,
                    came_to_bug: false,
                };
                self.attempts.insert(key, tombstone);
                Doing::Nothing
            }
        }
    }

    /// The node loses power, or is fenced: nothing on it lives any more.
    pub fn power_off(&mut self, at: Time) {
        self.powered = false;
        self.agent_alive = false;
        for attempt in self.attempts.values_mut() {
            attempt.end(&Exit::Lost, at);
        }
    }

    /// The node gets a new disk, with nothing on it. It is off, so nothing lives there.
    pub fn lose_disk(&mut self) {
        assert!(!self.powered);
        self.in_repair = true;
        self.incarnation = 0;
        self.floors.clear();
        self.attempts.clear();
    }

    /// Everything that the agent knows.
    /// What its checks find now.
    pub fn found(&mut self, now: Time) -> Vec<Finding> {
        self.findings.retain(|(until, _)| *until > now);
        self.findings.iter().map(|(_, finding)| finding.clone()).collect()
    }

    pub fn report(&mut self) -> (u64, Vec<AttemptReport>) {
        self.seq += 1;
        let attempts = self
            .attempts
            .iter()
            .map(|(&(job, epoch), attempt)| AttemptReport {
                job,
                epoch,
                phase: match &attempt.refused {
                    Some(refusal) => ReportedPhase::Refused(refusal.clone()),
                    None if attempt.is_alive() => ReportedPhase::Running,
                    None => ReportedPhase::Gone,
                },
                ranks: attempt
                    .ranks
                    .iter()
                    .map(|rank| RankReport {
                        rank: rank.rank,
                        pid: rank.pid,
                        exit: rank.exit.clone(),
                    })
                    .collect(),
            })
            .collect();
        (self.seq, attempts)
    }
}
