//! Keeps one agent process alive for each node of the fleet on this machine.
//!
//! An agent that dies is started again. One that lives already, because whoever started it was
//! killed, is left alone and watched: two agents never serve one node. When agents are told to
//! stop, the ranks of their node run on.

use super::{lock, trace};
use crate::failure::{Exit, Failure};
use crate::state;
use lindos_model::NodeSpec;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Before an agent that died is started again; doubled while it keeps dying.
const RESTART: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(5);
/// An agent that lived this long was well.
const WELL: Duration = Duration::from_secs(10);
/// How often an agent that is not our child is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Before an agent that was told to stop is killed.
const STOP: Duration = Duration::from_secs(5);

/// What agents are told when they are to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nobody is known to follow: what waits on their nodes for a rank ends with them.
    ForGood,
    /// Others will follow soon, and take over what waits.
    OthersFollow,
}

impl Ending {
    fn signal(self) -> Signal {
        match self {
            Ending::ForGood => Signal::TERM,
            Ending::OthersFollow => Signal::HUP,
        }
    }
}

/// Nodes that are being fenced: no agent is started there meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Fencing(Arc<Mutex<BTreeSet<String>>>);

impl Fencing {
    pub fn begin(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node.to_string());
    }

    pub fn end(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    fn is_under_way(&self, node: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(node)
    }
}

pub struct Agents {
    stop: watch::Sender<Option<Ending>>,
    tasks: JoinSet<()>,
    folders: Vec<PathBuf>,
}

impl Agents {
    pub fn start(
        state: &Path,
        program: &Path,
        nodes: &[NodeSpec],
        fencing: &Fencing,
        health: bool,
    ) -> Result<Agents, Failure> {
        let (stop, stopping) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let mut folders = Vec::new();
        // Of all that this machine plays, one speaks for its health; always the same one.
        let watches = nodes.iter().map(|node| node.name.as_str()).min().filter(|_| health);
        for node in nodes {
            let folder = state::node_folder(state, &node.name);
            state::create(&folder)?;
            // Opened here once, so that a folder that cannot be written fails at the start.
            trace::open(&folder.join("agent.log"))?;
            let keeper = Keeper {
                program: program.to_path_buf(),
                state: state.to_path_buf(),
                folder: folder.clone(),
                node: node.clone(),
                fencing: fencing.clone(),
                health: watches == Some(node.name.as_str()),
            };
            folders.push(folder);
            tasks.spawn(keeper.keep(stopping.clone()));
        }
        Ok(Agents { stop, tasks, folders })
    }

    pub fn count(&self) -> usize {
        self.folders.len()
    }

    /// Stops every agent, and waits until all are gone. The ranks run on.
    pub async fn stop(mut self, ending: Ending) {
        self.stop.send_replace(Some(ending));
        while self.tasks.join_next().await.is_some() {}
    }

    /// Tells every agent to stop for good, and waits for none.
    pub fn abandon(&self) {
        for folder in &self.folders {
            lock::signal(folder, Ending::ForGood.signal());
        }
    }
}

struct Keeper {
    program: PathBuf,
    state: PathBuf,
    folder: PathBuf,
    node: NodeSpec,
    fencing: Fencing,
    health: bool,
}

impl Keeper {
    async fn keep(self, mut stopping: watch::Receiver<Option<Ending>>) {
        let mut wait = RESTART;
        while stopping.borrow().is_none() {
            if self.fencing.is_under_way(&self.node.name) {
                pause(LOOK, &mut stopping).await;
                continue;
            }
            let began = Instant::now();
            if let Some(holder) = lock::holder(&self.folder) {
                tracing::info!(
                    node = self.node.name,
                    pid = holder.pid,
                    "an agent lives here already"
                );
                self.watch_another(&mut stopping).await;
            } else {
                self.run_one(&mut stopping).await;
            }
            if began.elapsed() > WELL {
                wait = RESTART;
            }
            pause(wait, &mut stopping).await;
            wait = (wait * 2).min(RESTART_MAX);
        }
    }

    /// Until the agent that is not our child is gone.
    async fn watch_another(&self, stopping: &mut watch::Receiver<Option<Ending>>) {
        while lock::holder(&self.folder).is_some() && stopping.borrow().is_none() {
            pause(LOOK, stopping).await;
        }
        let Some(ending) = *stopping.borrow() else { return };
        let told_at = Instant::now();
        lock::signal(&self.folder, ending.signal());
        while lock::holder(&self.folder).is_some() && told_at.elapsed() < STOP {
            tokio::time::sleep(LOOK / 4).await;
        }
    }

    /// Until our own agent is gone.
    async fn run_one(&self, stopping: &mut watch::Receiver<Option<Ending>>) {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(failure) => {
                tracing::error!(node = self.node.name, "{failure}");
                return;
            }
        };
        let ending = tokio::select! {
            status = child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |s| s.to_string());
                tracing::warn!(node = self.node.name, status, "the agent died");
                return;
            }
            ending = told_to_stop(stopping) => ending,
        };
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // Ours, and not waited for yet: the number cannot be anybody else's.
            let _ = kill_process(pid, ending.signal());
        }
        if tokio::time::timeout(STOP, child.wait()).await.is_err() {
            tracing::warn!(node = self.node.name, "the agent does not stop; killing it");
            let _ = child.kill().await;
        }
    }

    fn spawn(&self) -> Result<Child, Failure> {
        let log = trace::open(&self.folder.join("agent.log"))?;
        let node = &self.node;
        let failed = |error: std::io::Error| {
            Failure::new(
                Exit::Failed,
                format!("the agent of {} cannot be started: {error}", node.name),
                "check the limits of processes and open files (ulimit -a)",
            )
        };
        Command::new(&self.program)
            .arg("agent")
            .arg("--node")
            .arg(serde_json::to_string(node).expect("a node has string keys"))
            .arg("--dir")
            .arg(&self.folder)
            .arg("--state")
            .arg(&self.state)
            .args(self.health.then_some("--health"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            // A group of its own: Ctrl-C in the terminal is ours to act upon, not the agents'.
            .process_group(0)
            .spawn()
            .map_err(failed)
    }
}

/// Waits, but not longer than until the stop.
async fn pause(span: Duration, stopping: &mut watch::Receiver<Option<Ending>>) {
    let _ = tokio::time::timeout(span, told_to_stop(stopping)).await;
}

/// Resolves when agents are to stop. When whoever could say so is gone, that is so for good.
async fn told_to_stop(stopping: &mut watch::Receiver<Option<Ending>>) -> Ending {
    let told = stopping.wait_for(Option::is_some).await;
    told.ok().and_then(|ending| *ending).unwrap_or(Ending::ForGood)
}
