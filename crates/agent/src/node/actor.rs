//! All that the agent decides: what each command does, and how things stand.

use super::control::Control;
use super::floors::Floors;
use super::housekeeping;
use super::launch::{self, NotLaunched};
use super::read_log::read_log;
use super::reporter::Standing;
use super::shim_link::{self, ShimEvent, Whose};
use super::standbys::Standbys;
use super::works::Works;
use crate::config::AgentConfig;
use crate::files::{self, NodeDir};
use crate::plan::{Key, Plan, Request, State};
use crate::sweep;
use lindos_api::agent::{Command, LOG_CHUNK_PATH, Launch, Message, Order, ReadLog};
use lindos_model::report::Refusal;
use lindos_model::{EffectId, Exit, JobId, RankExit, ReportedPhase};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between looks at processes that were killed and still live.
const SWEEP_INTERVAL_MIN: Duration = Duration::from_millis(5);
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(1);
const SHIM_EVENTS: usize = 64;

/// An attempt that is not forgotten.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) state: State,
    pub(super) plan: Option<Plan>,
    /// To its shim, while one may live.
    requests: Option<mpsc::UnboundedSender<Request>>,
    warned: bool,
}

#[derive(Debug)]
pub struct Actor {
    pub(super) config: AgentConfig,
    pub(super) dir: NodeDir,
    pub(super) incarnation: u64,
    control: Arc<Control>,
    pub(super) floors: Floors,
    pub(super) attempts: BTreeMap<Key, Attempt>,
    pub(super) works: Works,
    pub(super) standbys: Standbys,
    standing: watch::Sender<Arc<Standing>>,
    shim_events: mpsc::Sender<(Whose, ShimEvent)>,
    pub(super) shim_events_read: mpsc::Receiver<(Whose, ShimEvent)>,
    swept: mpsc::UnboundedSender<Whose>,
    pub(super) swept_read: mpsc::UnboundedReceiver<Whose>,
}

impl Actor {
    pub fn new(
        config: AgentConfig,
        dir: NodeDir,
        incarnation: u64,
        control: Arc<Control>,
        standing: watch::Sender<Arc<Standing>>,
        mended: mpsc::UnboundedSender<()>,
    ) -> anyhow::Result<Actor> {
        let (shim_events, shim_events_read) = mpsc::channel(SHIM_EVENTS);
        let (swept, swept_read) = mpsc::unbounded_channel();
        Ok(Actor {
            floors: Floors::load(dir.floors())?,
            config,
            dir,
            incarnation,
            control,
            attempts: BTreeMap::new(),
            works: Works::new(mended),
            standbys: Standbys::default(),
            standing,
            shim_events,
            shim_events_read,
            swept,
            swept_read,
        })
    }

    /// Takes over what an earlier agent left, alive or not.
    pub fn adopt(&mut self) {
        for key in self.dir.keys() {
            let attempt = self.dir.attempt(key);
            let state: Option<State> = files::read_json(&files::state_file(&attempt)).ok();
            let plan: Option<Plan> = files::read_json(&files::spec_file(&attempt)).ok();
            let state = match (state, &plan) {
                (Some(state), _) => state,
                (None, Some(plan)) => State::starting(plan),
                // Nothing was started before its plan was written.
                (None, None) => {
                    let _ = std::fs::remove_dir_all(&attempt);
                    continue;
                }
            };
            let running = state.is_running();
            self.attempts.insert(key, Attempt { state, plan, requests: None, warned: false });
            if running {
                self.link(key);
            }
        }
        self.adopt_works();
        self.adopt_standbys();
        self.publish();
    }

    /// May be dropped at any moment: nothing of it is left half done.
    pub async fn run(&mut self, mut messages: mpsc::Receiver<Message>) {
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => return,
                },
                Some((whose, event)) = self.shim_events_read.recv() => match whose {
                    Whose::Attempt(key) => self.on_shim(key, event),
                    Whose::Standby(id) => self.on_standby_shim(id, event),
                },
                Some(whose) = self.swept_read.recv() => match whose {
                    Whose::Attempt(key) => self.on_swept(key),
                    Whose::Standby(id) => self.on_standby_swept(id),
                },
                Some(news) = self.works.news_read.recv() => self.on_work_news(news),
            }
            self.publish();
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Command(command) => self.on_command(command),
            Message::ReadLog(ask) => self.on_read_log(&ask),
            Message::Work(order) => self.on_work(order),
        }
    }

    fn on_command(&mut self, command: Command) {
        if command.incarnation != self.incarnation {
            tracing::info!(id = command.id, "a command to another incarnation is dropped");
            return;
        }
        let key = Key { job: command.job, epoch: command.epoch };
        match command.order {
            Order::Launch(launch) => self.on_launch(key, *launch),
            Order::Stop { grace } => self.on_stop(key, grace.0),
            Order::Forget => self.on_forget(key),
            Order::StandBy(order) => self.on_stand_by(key, &order),
            Order::StandDown { standby } => self.on_stand_down(standby),
        }
    }

    pub(super) fn on_launch(&mut self, key: Key, launch: Launch) {
        if self.attempts.contains_key(&key) {
            return; // Again.
        }
        if let Some(newest) = self.floors.newest(key.job).filter(|newest| *newest >= key.epoch) {
            self.refuse(key, Refusal::StaleEpoch { newest });
            return;
        }
        // The node was put back in the middle of it: first that, then this, when it is asked for
        // again.
        if self.stop_works() {
            return;
        }
        // It must not be alive twice: the older one first, this one when it is asked for again.
        let older: Vec<Key> = self
            .attempts
            .iter()
            .filter(|(other, attempt)| other.job == key.job && attempt.state.is_running())
            .map(|(other, _)| *other)
            .collect();
        if !older.is_empty() {
            for other in older {
                self.request(other, Request::Stop { grace_ms: 0 });
            }
            return;
        }
        // So must what waits in vain for a rank: once it is gone, this is looked at again.
        if self.makes_room(key, &launch) {
            self.standbys.postponed.insert(key, launch);
            return;
        }
        if let Err(error) = self.floors.raise(key.job, key.epoch, &self.alive()) {
            let reason = format!("{} cannot be written: {error}", self.dir.floors().display());
            self.refuse(key, Refusal::Node { reason });
            return;
        }
        let launched = match self.take_standby(key.job) {
            Some(waiting) => launch::go_on(&self.config, &self.dir, key, launch, &waiting),
            None => launch::launch(&self.config, &self.dir, key, launch),
        };
        self.on_launched(key, launched);
    }

    fn on_launched(&mut self, key: Key, launched: Result<Plan, NotLaunched>) {
        match launched {
            Ok(plan) => {
                let state = State::starting(&plan);
                let attempt = Attempt { state, plan: Some(plan), requests: None, warned: false };
                self.attempts.insert(key, attempt);
                self.link(key);
            }
            Err(NotLaunched(refusal)) => self.refuse(key, refusal),
        }
    }

    fn on_stop(&mut self, key: Key, grace_ms: u64) {
        self.standbys.postponed.remove(&key);
        match self.attempts.get(&key) {
            Some(attempt) if attempt.state.is_running() => {
                self.request(key, Request::Stop { grace_ms });
            }
            Some(_) => {}
            None => {
                // Never launched, and now it never will be. Not without having that on disk.
                match self.floors.raise(key.job, key.epoch, &self.alive()) {
                    Ok(()) => self.record(key, State::without_ranks(ReportedPhase::Gone)),
                    Err(error) => tracing::warn!("cannot note that {key} is stopped: {error}"),
                }
            }
        }
    }

    fn on_forget(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get(&key) else { return };
        if attempt.state.is_running() {
            tracing::warn!("told to forget {key}, which still lives");
            return;
        }
        self.request(key, Request::Release);
        if let Some(attempt) = self.attempts.remove(&key)
            && let Some(plan) = attempt.plan
        {
            files::remove_sockets(&plan.socket_dir, &self.dir.attempt(key));
            sweep::remove_cgroup(&plan);
            if let Some(id) = plan.standby {
                let _ = std::fs::remove_dir_all(self.dir.standby(id));
            }
        }
        if let Err(error) = std::fs::remove_dir_all(self.dir.attempt(key))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove what is left of {key}: {error}");
        }
        let keep: BTreeSet<Key> = self.attempts.keys().copied().collect();
        housekeeping::prune_logs(&self.dir, &keep, housekeeping::LOG_BYTES_MAX);
    }

    fn on_read_log(&self, ask: &ReadLog) {
        let is_running =
            |key| self.attempts.get(&key).is_some_and(|attempt| attempt.state.is_running());
        let chunk = read_log(&self.dir, ask, is_running);
        let control = self.control.clone();
        tokio::spawn(async move {
            // Whoever asked asks again; an old answer is of no use to them.
            if let Err(error) = control.post(LOG_CHUNK_PATH, &chunk).await {
                tracing::warn!("cannot send a piece of a log: {error:#}");
            }
        });
    }

    fn on_shim(&mut self, key: Key, event: ShimEvent) {
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        match event {
            // What still waits for the rank that this attempt gives it is none yet.
            ShimEvent::State(state) => {
                if attempt.state.is_running() && state.ready.is_none() {
                    attempt.state = *state;
                    warn_once(key, attempt);
                }
            }
            ShimEvent::Ended => {
                attempt.requests = None;
                if attempt.state.is_running() {
                    self.after_shim(key);
                }
            }
        }
    }

    /// The shim is no more: either it has written down how all ended, or it was killed.
    fn after_shim(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        match files::read_json::<State>(&files::state_file(&self.dir.attempt(key))) {
            Ok(state) => attempt.state = state,
            Err(error) => tracing::warn!("{key} left no state: {error:#}"),
        }
        if !attempt.state.is_running() {
            return;
        }
        tracing::warn!("the shim of {key} is gone; making sure that nothing of it lives");
        let (plan, state) = (attempt.plan.clone(), attempt.state.clone());
        self.sweep(Whose::Attempt(key), plan, Some(state));
    }

    /// Says so when nothing of it lives.
    pub(super) fn sweep(&self, whose: Whose, plan: Option<Plan>, state: Option<State>) {
        let swept = self.swept.clone();
        tokio::spawn(async move {
            let mut interval = SWEEP_INTERVAL_MIN;
            loop {
                let left = sweep::sweep(plan.as_ref(), state.as_ref());
                if left.is_empty() {
                    break;
                }
                tokio::time::sleep(interval).await;
                interval = (interval * 2).min(SWEEP_INTERVAL_MAX);
            }
            let _ = swept.send(whose);
        });
    }

    /// Nothing of an attempt whose shim was killed lives any more.
    fn on_swept(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        if let Some(plan) = &attempt.plan {
            sweep::remove_cgroup(plan);
        }
        if let Some(plan) = attempt.plan.take_if(|plan| plan.standby.is_some())
            && !files::state_file(&self.dir.attempt(key)).exists()
        {
            // What waited was gone before it became a rank: nothing of this attempt has ever run.
            tracing::warn!("what was to go on as {key} was gone; its ranks are started instead");
            self.drop_standby_folder(&plan);
            let launched = launch::launch(&self.config, &self.dir, key, plan.launch);
            self.on_launched(key, launched);
            return;
        }
        let mut state = attempt.state.clone();
        let at = crate::shim::now();
        for rank in &mut state.ranks {
            let lost = || RankExit { exit: Exit::Lost, at, stopping: false };
            rank.exit.get_or_insert_with(lost);
        }
        state.phase = ReportedPhase::Gone;
        self.record(key, state);
    }

    fn refuse(&mut self, key: Key, refusal: Refusal) {
        tracing::warn!("{key} is refused: {refusal}");
        self.record(key, State::refused(refusal));
    }

    /// Notes how an attempt stands, on disk if it can be.
    fn record(&mut self, key: Key, state: State) {
        let dir = self.dir.attempt(key);
        let written = files::private_dir(&dir)
            .and_then(|()| files::replace_json(&files::state_file(&dir), &state, true))
            .and_then(|()| files::sync_parent(&dir));
        if let Err(error) = written {
            // Told all the same. An agent that starts after us finds a running attempt without a
            // shim, or none at all, and the control plane knows what to make of either.
            tracing::warn!("cannot write down the state of {key}: {error}");
        }
        if let Some(attempt) = self.attempts.get_mut(&key) {
            attempt.state = state;
        } else {
            let attempt = Attempt { state, plan: None, requests: None, warned: false };
            self.attempts.insert(key, attempt);
        }
    }

    fn request(&self, key: Key, request: Request) {
        if let Some(requests) = self.attempts.get(&key).and_then(|it| it.requests.as_ref()) {
            let _ = requests.send(request);
        }
    }

    /// Connects to the shim of an attempt.
    fn link(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        let events = self.shim_events.clone();
        let Some(plan) = attempt.plan.clone() else {
            // Without its plan we do not know the socket; what is written down must do.
            self.after_shim(key);
            return;
        };
        let (requests, requests_read) = mpsc::unbounded_channel();
        attempt.requests = Some(requests);
        // Processes that wait may not have heard of it yet.
        let first = plan.standby.map(|_| Request::Launch { attempt: self.dir.attempt(key) });
        let whose = Whose::Attempt(key);
        tokio::spawn(
            async move { shim_link::run(&plan, whose, first, events, requests_read).await },
        );
    }

    /// Connects to the shim of processes that wait for a rank.
    pub(super) fn link_standby(&self, id: EffectId, plan: Plan) -> mpsc::UnboundedSender<Request> {
        let events = self.shim_events.clone();
        let (requests, requests_read) = mpsc::unbounded_channel();
        let whose = Whose::Standby(id);
        tokio::spawn(
            async move { shim_link::run(&plan, whose, None, events, requests_read).await },
        );
        requests
    }

    fn alive(&self) -> BTreeSet<JobId> {
        self.attempts.keys().map(|key| key.job).collect()
    }

    fn publish(&self) {
        let standing = Standing {
            attempts: self.attempts.iter().map(|(key, it)| it.state.report(*key)).collect(),
            progress: self.attempts.iter().flat_map(|(key, it)| it.state.progress(*key)).collect(),
            symptoms: self.attempts.iter().flat_map(|(key, it)| it.state.symptoms(*key)).collect(),
            works: self.works.reports(),
            standbys: self.standbys.reports(),
        };
        self.standing.send_if_modified(|current| {
            let changed = **current != standing;
            if changed {
                *current = Arc::new(standing);
            }
            changed
        });
    }
}

fn warn_once(key: Key, attempt: &mut Attempt) {
    let lost: u64 = attempt.state.ranks.iter().map(|rank| rank.output_lost_bytes).sum();
    if lost > 0 && !attempt.warned {
        attempt.warned = true;
        tracing::warn!("output of {key} is being lost: its log cannot be written (disk full?)");
    }
}
