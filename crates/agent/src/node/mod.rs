//! The agent: one thread, and a few tasks that speak by channels.
//!
//! [`actor::Actor`] owns all state and decides; [`messages`] and [`reporter`] speak with the
//! control plane, [`shim_link`] with one shim each. Commands are levels, not edges: carried out
//! twice they do what they do once, and how things stand is told again until it is heard.

mod actor;
mod control;
mod floors;
mod housekeeping;
mod launch;
pub(crate) mod lock;
mod messages;
mod read_log;
mod reporter;
mod shim_link;
mod standbys;
mod works;

use crate::config::AgentConfig;
use crate::files::{self, NodeDir};
use actor::Actor;
use anyhow::{Context as _, bail};
use control::Control;
use lock::NodeLock;
use messages::MessageReader;
use reporter::{Reporter, Standing};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

/// Messages and states that wait for the actor.
const QUEUE: usize = 64;

/// Runs the agent of one node until SIGTERM or SIGINT, or until SIGHUP, which says that another agent of
/// the node follows at once. Shims and ranks go on without it; what waits for a rank only after SIGHUP.
pub fn run(config: AgentConfig) -> anyhow::Result<()> {
    let dir = NodeDir(config.dir.clone());
    dir.create()?;
    let _lock = match NodeLock::take_soon(&dir)? {
        Ok(lock) => lock,
        Err(holder) => {
            let who = holder.map_or(String::new(), |holder| format!(" (pid {})", holder.pid));
            bail!(
                "another agent{who} already runs for {}\n\
                 hint: a node has one agent; stop that one, or give this one another name",
                dir.0.display()
            );
        }
    };
    let incarnation = next_incarnation(&dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, dir, incarnation))
}

/// Greater than every earlier one, also when the clock was set back; and, by the clock, also when
/// the folder was lost.
fn next_incarnation(dir: &NodeDir) -> anyhow::Result<u64> {
    let path = dir.incarnation();
    let stored: u64 = match std::fs::read_to_string(&path) {
        Ok(text) => {
            text.trim().parse().with_context(|| format!("{} holds no number", path.display()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let incarnation = (stored + 1).max(crate::shim::now().0);
    files::replace(&path, format!("{incarnation}\n").as_bytes(), true)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(incarnation)
}

async fn serve(config: AgentConfig, dir: NodeDir, incarnation: u64) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let control = Arc::new(Control::new(config.server.clone())?);
    let reconnected = Arc::new(Notify::new());
    let (standing, standing_seen) = watch::channel(Arc::new(Standing::default()));
    let (found, findings) = watch::channel(Arc::default());
    let (messages, messages_read) = mpsc::channel(QUEUE);
    let reporter = Reporter {
        control: control.clone(),
        node: config.node.clone(),
        incarnation,
        heartbeat: config.heartbeat,
        standing: standing_seen,
        findings,
        reconnected: reconnected.clone(),
    };
    let reader = MessageReader {
        control: control.clone(),
        node: config.node.name.clone(),
        incarnation,
        messages,
        reconnected,
    };
    tracing::info!(node = config.node.name, incarnation, "agent started");
    let health = config.health.as_ref().map(crate::health::watch).transpose()?;
    let (mended, is_mended) = mpsc::unbounded_channel();
    let mut actor = Actor::new(config, dir, incarnation, control, standing, mended)?;
    // Before anything is reported: a report that leaves out what lives here would be a lie.
    actor.adopt();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(reporter.run());
    tasks.spawn(reader.run());
    if let Some(health) = health {
        tasks.spawn(crate::health::tell(health, found.clone(), is_mended));
    }
    let another_follows = tokio::select! {
        () = actor.run(messages_read) => bail!("the agent lost its own tasks"),
        Some(ended) = tasks.join_next() => {
            ended.context("a task of the agent failed")?;
            bail!("a task of the agent ended");
        }
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        _ = hang_up.recv() => true,
    };
    if !another_follows {
        actor.end_with_standbys().await;
    }
    tracing::info!("agent stopped; what it started goes on");
    Ok(())
}
