//! An agent and the processes of its node, as they are, without the processes.
//!
//! The rules are those of the real agent: all that it must know is durable on its node, a launch
//! of an epoch that is not above the job's floor is refused, whatever is gone is reported until
//! the core says `Forget`.

use crate::fault::Plant;
use lindos_core::effect::{Command, Launch, Order, StandBy, Target};
use lindos_model::finding::Finding;
use lindos_model::report::Refusal;
use lindos_model::{
    AttemptReport, EffectId, Epoch, Exit, GpuSet, JobId, Rank, RankExit, RankPace, RankReport,
    ReportedPhase, StandbyReport, StandbyState, Time,
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
    /// Processes that wait for a rank, by job.
    pub standbys: BTreeMap<JobId, LocalStandby>,
    next_pid: u32,
    /// A bug that is put into its agent.
    pub plant: Option<Plant>,
}

/// Processes of a job that wait for a rank, or will.
#[derive(Clone, Debug)]
pub struct LocalStandby {
    pub id: EffectId,
    pub gpus: GpuSet,
    pub state: StandbyState,
    /// Their process numbers, which stay when they become ranks.
    pub pids: Vec<u32>,
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
#[expect(clippy::struct_excessive_bools, reason = "each is so or not, whatever the others are")]
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
    /// Its ranks had waited for it.
    pub was_warm: bool,
}

#[derive(Clone, Debug)]
pub struct LocalRank {
    pub rank: Rank,
    pub pid: u32,
    pub exit: Option<RankExit>,
    /// How it has spent its time, up to `pace_at`.
    pub pace: RankPace,
    pub pace_at: Time,
    /// What it has waited in collectives until then.
    pub waited_ms: u64,
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
    /// Nothing, and there is nothing new to be told of it.
    AsBefore,
    /// Ranks started: the node has its part of the attempt.
    Started,
    /// Processes were started that are to wait for a rank.
    StandingBy,
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
            Order::StandBy(order) => self.on_stand_by(key, order, &command.to),
            Order::StandDown { standby } => self.on_stand_down(*standby),
        }
    }

    fn on_stand_by(&mut self, (job, epoch): (JobId, Epoch), order: &StandBy, to: &Target) -> Doing {
        let is_late = self.floors.get(&job).is_some_and(|&floor| floor > epoch);
        let is_taken = self.attempts.iter().any(|((other, _), attempt)| {
            let is_beside = order.beside && *other == job;
            attempt.is_alive() && !is_beside && attempt.gpus.intersects(to.gpus)
        });
        if is_late || is_taken || self.standbys.contains_key(&job) {
            return Doing::Nothing;
        }
        let pids = (0..order.spec.ranks_per_node).map(|_| self.new_pid()).collect();
        let state = StandbyState::Starting;
        self.standbys.insert(job, LocalStandby { id: order.id, gpus: to.gpus, state, pids });
        Doing::StandingBy
    }

    /// What waits here is answered with this order, so one that changes nothing is not answered: the two
    /// would go to and fro as fast as the network takes them.
    fn on_stand_down(&mut self, standby: EffectId) -> Doing {
        let before = self.standbys.len();
        if self.plant != Some(Plant::StandbyDeaf) {
            self.standbys.retain(|_, waiting| waiting.id != standby);
        }
        if self.standbys.len() == before { Doing::AsBefore } else { Doing::Nothing }
    }

    fn new_pid(&mut self) -> u32 {
        self.next_pid += 1;
        1000 + self.next_pid
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
            was_warm: false,
        };
        if let Some(&newest) = self.floors.get(&key.0).filter(|&&floor| floor >= key.1) {
            attempt.refused = Some(Refusal::StaleEpoch { newest });
            self.attempts.insert(key, attempt);
            return Doing::Nothing;
        }
        self.floors.insert(key.0, key.1);
        // What waits for others gives way.
        let is_in_the_way =
            |job: JobId, waiting: &LocalStandby| job != key.0 && waiting.gpus.intersects(to.gpus);
        if self.plant != Some(Plant::StandbyInTheWay) {
            self.standbys.retain(|&job, waiting| !is_in_the_way(job, waiting));
        }
        let mut waiting = self.standbys.remove(&key.0).filter(|it| it.gpus == to.gpus);
        attempt.was_warm =
            waiting.as_ref().is_some_and(|waiting| waiting.state == StandbyState::Ready);
        for index in 0..launch.ranks_per_node() {
            let rank = Rank(launch.first_rank(to.member).0 + index);
            let kept = waiting.as_mut().filter(|_| attempt.was_warm).and_then(|it| it.pids.pop());
            let pid = kept.unwrap_or_else(|| self.new_pid());
            let pace = RankPace::default();
            attempt.ranks.push(LocalRank {
                rank,
                pid,
                exit: None,
                pace,
                pace_at: Time::ZERO,
                waited_ms: 0,
            });
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
                    was_warm: false,
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
        self.standbys.clear();
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

    /// All that waits here for a rank.
    pub fn standby_reports(&self) -> Vec<StandbyReport> {
        let report = |(&job, waiting): (&JobId, &LocalStandby)| StandbyReport {
            job,
            id: waiting.id,
            state: waiting.state.clone(),
        };
        self.standbys.iter().map(report).collect()
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
