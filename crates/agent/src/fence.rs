//! Fencing: from outside, so that nothing of a node's folder lives, whatever state it is in.

use crate::files::{self, NodeDir};
use crate::node::lock::NodeLock;
use crate::plan::{Plan, State};
use crate::{sweep, work};
use anyhow::{Context as _, bail};
use lindos_hardware::process::{self, ProcessId};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long everything together may take to die. Only a process that the kernel cannot kill (in
/// an uninterruptible sleep) takes longer than some milliseconds.
const FENCE_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Kills the agent, the shims, the ranks and the works of a node's folder, and returns only when nothing of
/// them lives and no agent has started meanwhile. An error names what is left.
pub fn fence(dir: &Path) -> anyhow::Result<()> {
    let node = NodeDir(dir.to_path_buf());
    if !dir.exists() {
        return Ok(());
    }
    let deadline = Instant::now() + FENCE_TIMEOUT;
    // Held until the end, so that no new agent starts a new shim.
    let _lock = loop {
        match NodeLock::take(&node)? {
            Ok(lock) => break lock,
            Err(holder) => {
                if let Some(holder) = holder {
                    process::kill_verified(holder).context("cannot kill the agent")?;
                }
                wait(deadline, || format!("the agent of {} still lives", dir.display()))?;
            }
        }
    };
    for key in node.keys() {
        fence_attempt(&node.attempt(key), deadline)
            .with_context(|| format!("cannot fence attempt {key}"))?;
    }
    for id in node.standby_ids() {
        fence_attempt(&node.standby(id), deadline)
            .with_context(|| format!("cannot fence what waits for a rank ({id})"))?;
    }
    for id in work::numbers(&node.works()) {
        work::stop(&node.works().join(id.to_string()))?;
    }
    Ok(())
}

fn fence_attempt(attempt: &Path, deadline: Instant) -> anyhow::Result<()> {
    let plan: Option<Plan> = files::read_json(&files::spec_file(attempt)).ok();
    loop {
        // Read again and again: a shim that had only just been started may write more.
        let state: Option<State> = files::read_json(&files::state_file(attempt)).ok();
        let listens = plan.as_ref().is_some_and(|plan| {
            // Connected, or refused for now because its queue is full: in both cases it lives.
            match UnixStream::connect(plan.shim_socket()) {
                Ok(_) => true,
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
        let mut left = shims(attempt, state.as_ref());
        for &shim in &left {
            process::kill_verified(shim).context("cannot kill the shim")?;
        }
        left.extend(sweep::sweep(plan.as_ref(), state.as_ref()));
        if left.is_empty() && !listens {
            break;
        }
        wait(deadline, || {
            let pids: Vec<String> = left.iter().map(|id| id.pid.to_string()).collect();
            format!("these processes still live: {}", pids.join(", "))
        })?;
    }
    if let Some(plan) = &plan {
        sweep::remove_cgroup(plan);
    }
    Ok(())
}

/// The shim of an attempt: by what it wrote down, and by its command line, which it has from its
/// first instruction on.
fn shims(attempt: &Path, state: Option<&State>) -> Vec<ProcessId> {
    let mut found = process::with_last_arguments(&[b"shim", attempt.as_os_str().as_bytes()]);
    if let Some(state) = state.filter(|state| state.boot == process::boot_id()) {
        found.extend(state.shim.filter(|id| id.is_alive() && !found.contains(id)));
    }
    found
}

fn wait(deadline: Instant, left: impl FnOnce() -> String) -> anyhow::Result<()> {
    if Instant::now() >= deadline {
        bail!("{}", left());
    }
    std::thread::sleep(LOOK_INTERVAL);
    Ok(())
}
