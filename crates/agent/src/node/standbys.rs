//! Processes that wait for a rank: of each job at most one set, each below a shim of its own.
//!
//! When an attempt of their job is launched here, their shim takes its plan and they go on as its
//! ranks; everybody else comes before them. What of them lives is reported, wanted or not.

use super::actor::Actor;
use super::launch;
use super::shim_link::{ShimEvent, Whose};
use crate::files;
use crate::plan::{Key, Plan, Request, State};
use crate::sweep;
use lindos_api::agent::{Launch, StandBy};
use lindos_model::{EffectId, JobId, StandbyReport, StandbyState};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// Of what a process said last, so much is looked at, and so much told.
const LAST_BYTES: u64 = 4096;
const LAST_CHARS: usize = 200;
/// For the end of all that waits, when the agent ends. Whoever stops an agent gives it longer than this.
const END_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Standby {
    job: JobId,
    /// `None`: they could not be started.
    plan: Option<Plan>,
    /// As their shim said it last.
    said: Option<State>,
    state: StandbyState,
    /// To their shim, while it may live.
    requests: Option<mpsc::UnboundedSender<Request>>,
    /// Their end is asked for: once they are gone, nobody need hear of them.
    is_unwanted: bool,
    /// An earlier agent left them, and nothing has been heard of them since.
    is_left: bool,
}

impl Standby {
    fn new(job: JobId, plan: Option<Plan>, state: StandbyState) -> Standby {
        let (said, requests) = (None, None);
        Standby { job, plan, said, state, requests, is_unwanted: false, is_left: false }
    }

    fn lives(&self) -> bool {
        !matches!(self.state, StandbyState::Ended { .. })
    }
}

#[derive(Debug, Default)]
pub(super) struct Standbys {
    all: BTreeMap<EffectId, Standby>,
    /// Launches that wait until such processes are gone.
    pub(super) postponed: BTreeMap<Key, Launch>,
}

impl Standbys {
    pub(super) fn reports(&self) -> Vec<StandbyReport> {
        let report = |(&id, it): (&EffectId, &Standby)| StandbyReport {
            job: it.job,
            id,
            state: it.state.clone(),
        };
        self.all.iter().map(report).collect()
    }

    fn living(&self) -> impl Iterator<Item = (EffectId, &Standby)> {
        self.all.iter().filter(|(_, it)| it.lives()).map(|(&id, it)| (id, it))
    }
}

impl Actor {
    pub(super) fn on_stand_by(&mut self, key: Key, order: &StandBy) {
        let is_known = self.standbys.all.contains_key(&order.id)
            || self.standbys.living().any(|(_, it)| it.job == key.job);
        // They went on as ranks meanwhile, or should have, for a later attempt.
        let went_on = |plan: &Plan| plan.standby == Some(order.id);
        let is_late = self.floors.newest(key.job) > Some(key.epoch)
            || self.attempts.values().any(|it| it.plan.as_ref().is_some_and(went_on));
        if is_known || is_late || self.stop_works() {
            return;
        }
        // Nobody else is to be disturbed; it is asked for again when they are gone.
        let has_gpus = |plan: &Plan| plan.launch.gpus.intersects(order.gpus);
        let is_taken = self.attempts.iter().any(|(other, attempt)| {
            let is_beside = order.beside && other.job == key.job;
            attempt.state.is_running() && !is_beside && attempt.plan.as_ref().is_some_and(has_gpus)
        });
        if is_taken {
            return;
        }
        let standby = match launch::stand_by(&self.config, &self.dir, key.job, order) {
            Ok(plan) => {
                let requests = Some(self.link_standby(order.id, plan.clone()));
                Standby { requests, ..Standby::new(key.job, Some(plan), StandbyState::Starting) }
            }
            Err(error) => {
                let reason = format!("they could not be started: {error}");
                Standby::new(key.job, None, StandbyState::Ended { reason })
            }
        };
        self.standbys.all.insert(order.id, standby);
    }

    pub(super) fn on_stand_down(&mut self, id: EffectId) {
        let Some(standby) = self.standbys.all.get_mut(&id) else { return };
        standby.is_unwanted = true;
        if standby.lives() {
            self.end_standby(id);
        } else {
            self.forget_standby(id);
        }
    }

    fn end_standby(&self, id: EffectId) {
        if let Some(requests) = self.standbys.all.get(&id).and_then(|it| it.requests.as_ref()) {
            let _ = requests.send(Request::Stop { grace_ms: 0 });
        }
    }

    /// Ends all that wait here. Whether there are any.
    pub(super) fn end_standbys(&mut self) -> bool {
        let living: Vec<EffectId> = self.standbys.living().map(|(id, _)| id).collect();
        for &id in &living {
            self.on_stand_down(id);
        }
        !living.is_empty()
    }

    /// The agent ends, and nobody follows who would take over what waits here. Returns when nothing of it
    /// lives any more, or after a while: its shims have been told then.
    pub(super) async fn end_with_standbys(&mut self) {
        // It is asked for again, of whoever is here next.
        self.standbys.postponed.clear();
        if !self.end_standbys() {
            return;
        }
        // What becomes of attempts meanwhile is found by the next agent, as after any end of this one.
        // Nothing is reported either: a control plane would take it for a failure of the processes.
        let end = async {
            while self.standbys.living().next().is_some() {
                tokio::select! {
                    Some((whose, event)) = self.shim_events_read.recv() => match whose {
                        Whose::Standby(id) => self.on_standby_shim(id, event),
                        Whose::Attempt(_) => {}
                    },
                    Some(whose) = self.swept_read.recv() => match whose {
                        Whose::Standby(id) => self.on_standby_swept(id),
                        Whose::Attempt(_) => {}
                    },
                }
            }
        };
        if tokio::time::timeout(END_MAX, end).await.is_err() {
            tracing::warn!("processes that wait for a rank have not ended yet");
        }
    }

    /// Ends what waits here and is in the way of a launch. Whether there was any.
    pub(super) fn makes_room(&mut self, key: Key, launch: &Launch) -> bool {
        let is_in_the_way = |it: &Standby| {
            let Some(plan) = &it.plan else { return false };
            let other = &plan.launch;
            let is_for_it = it.job == key.job
                && !it.is_unwanted
                && other.gpus == launch.gpus
                && other.rank_count == launch.rank_count
                && other.spec == launch.spec;
            !is_for_it && (it.job == key.job || other.gpus.intersects(launch.gpus))
        };
        let in_the_way: Vec<EffectId> =
            self.standbys.living().filter(|(_, it)| is_in_the_way(it)).map(|(id, _)| id).collect();
        for &id in &in_the_way {
            self.on_stand_down(id);
        }
        !in_the_way.is_empty()
    }

    /// The plan of processes of a job that wait here, which are nobody's but the caller's from now on.
    pub(super) fn take_standby(&mut self, job: JobId) -> Option<Plan> {
        let (id, _) = self.standbys.living().find(|(_, it)| it.job == job)?;
        self.standbys.all.remove(&id)?.plan
    }

    /// Takes over what an earlier agent left waiting.
    pub(super) fn adopt_standbys(&mut self) {
        let plans = self.attempts.values().filter_map(|attempt| attempt.plan.as_ref());
        let went_on: Vec<EffectId> = plans.filter_map(|plan| plan.standby).collect();
        for id in self.dir.standby_ids().into_iter().filter(|id| !went_on.contains(id)) {
            let folder = self.dir.standby(id);
            // Nothing was started before its plan was written.
            let Ok(plan) = files::read_json::<Plan>(&files::spec_file(&folder)) else {
                let _ = std::fs::remove_dir_all(&folder);
                continue;
            };
            let requests = Some(self.link_standby(id, plan.clone()));
            let standby = Standby::new(plan.job, Some(plan), StandbyState::Starting);
            self.standbys.all.insert(id, Standby { requests, is_left: true, ..standby });
        }
    }

    pub(super) fn on_standby_shim(&mut self, id: EffectId, event: ShimEvent) {
        let Some(standby) = self.standbys.all.get_mut(&id).filter(|it| it.lives()) else { return };
        match event {
            ShimEvent::State(state) => {
                if state.is_running() {
                    let is_ready = state.ready == Some(true);
                    let ready = if is_ready { StandbyState::Ready } else { StandbyState::Starting };
                    standby.state = ready;
                    standby.is_left = false;
                }
                standby.said = Some(*state);
            }
            ShimEvent::Ended => {
                standby.requests = None;
                let written = files::read_json(&files::state_file(&self.dir.standby(id))).ok();
                standby.said = written.or(standby.said.take());
                let (plan, said) = (standby.plan.clone(), standby.said.clone());
                // Its shim may have been killed.
                self.sweep(Whose::Standby(id), plan, said);
            }
        }
    }

    /// Nothing of them lives any more.
    pub(super) fn on_standby_swept(&mut self, id: EffectId) {
        let Some(standby) = self.standbys.all.get_mut(&id) else { return };
        let logs = standby.plan.as_ref().map(|plan| plan.log_dir.as_path());
        standby.state = StandbyState::Ended { reason: reason(standby.said.as_ref(), logs) };
        if standby.is_unwanted || standby.is_left {
            // What ended while no agent was there, perhaps because none was, is asked for again.
            self.forget_standby(id);
        } else {
            tracing::warn!(id = id.0, "processes that were to wait for a rank have ended");
        }
        for (key, launch) in std::mem::take(&mut self.standbys.postponed) {
            self.on_launch(key, launch);
        }
    }

    fn forget_standby(&mut self, id: EffectId) {
        match self.standbys.all.remove(&id).and_then(|it| it.plan) {
            Some(plan) => self.drop_standby_folder(&plan),
            None => drop(std::fs::remove_dir_all(self.dir.standby(id))),
        }
    }

    /// Takes away what processes that waited have left.
    pub(super) fn drop_standby_folder(&self, plan: &Plan) {
        let Some(id) = plan.standby else { return };
        sweep::remove_cgroup(plan);
        let folder = self.dir.standby(id);
        files::remove_sockets(&plan.socket_dir, &folder);
        let _ = std::fs::remove_dir_all(&folder);
    }
}

/// Why they ended, by the first of them that did, and what it said last.
fn reason(said: Option<&State>, logs: Option<&Path>) -> String {
    let ended = said.into_iter().flat_map(|state| &state.ranks).enumerate();
    let ended = ended.filter_map(|(local, rank)| Some((local, rank, rank.exit.as_ref()?)));
    let Some((local, rank, exit)) = ended.min_by_key(|(local, _, exit)| (exit.at, *local)) else {
        return "they were killed with their parent".to_string();
    };
    let words = rank.symptom.as_ref().map(|symptom| symptom.line.clone());
    let words = words.or_else(|| last_line(&logs?.join(format!("rank-{local}.log"))));
    match words {
        Some(words) => format!("process {local}, {}: {words}", exit.exit),
        None => format!("process {local}, {}", exit.exit),
    }
}

/// The end of what a process has said, for people: the rest is gone with it.
fn last_line(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let begin = file.metadata().ok()?.len().saturating_sub(LAST_BYTES);
    file.seek(SeekFrom::Start(begin)).ok()?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(LAST_CHARS).collect())
}
