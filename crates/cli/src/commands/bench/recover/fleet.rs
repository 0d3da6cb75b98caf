//! A control plane with its agents, in a process of its own so that it can be killed.

use super::{GPUS, LOOK, PATIENCE, stuck};
use crate::connect::Target;
use crate::failure::Failure;
use crate::local::holder;
use crate::state;
use lindos_api::client::Client;
use lindos_hardware::process;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;
use tokio::process::{Child, Command};

/// What a fault costs is to be told at once, and no node is to be taken out for what is done to it.
const POLICY: &str = "progress_interval_ms = 100\n[repair]\nautomatic = false\n";

/// Is in the environment of everything that the bench starts, with its folder.
const OF_BENCH: &str = "LINDOS_BENCH_FOLDER";

pub struct Fleet {
    pub client: Client,
    folder: PathBuf,
    nodes: u32,
    child: Child,
}

impl Fleet {
    pub async fn start(folder: &Path, nodes: u32) -> Result<Fleet, Failure> {
        let policy = folder.join("policy.toml");
        std::fs::write(&policy, POLICY).map_err(|error| stuck(&format!("{error}")))?;
        let mut child = spawn(folder, nodes)?;
        let client = match answers(folder).await {
            Ok(client) => client,
            Err(failure) => {
                end(&mut child, folder).await;
                return Err(failure);
            }
        };
        let fleet = Fleet { client, folder: folder.to_path_buf(), nodes, child };
        match fleet.wait_until_up().await {
            Ok(()) => Ok(fleet),
            Err(failure) => {
                fleet.stop().await;
                Err(failure)
            }
        }
    }

    /// Waits until every agent has reported.
    pub async fn wait_until_up(&self) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let nodes = self.client.nodes().await?;
            if nodes.iter().filter(|node| node.state == "up").count() >= self.nodes as usize {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(stuck("not every agent is up"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The control plane is killed and started again; agents and ranks live on. Returns when it
    /// answers.
    pub async fn kill_control_plane(&mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| stuck(&format!("{error}")))?;
        self.child = spawn(&self.folder, self.nodes)?;
        self.client = answers(&self.folder).await?;
        Ok(())
    }

    pub fn agent(&self, node: &str) -> Option<u32> {
        holder(&state::node_folder(&self.folder, node))?.pid
    }

    /// Whatever has become of it: a control plane that stops leaves its jobs alone, and this bench
    /// may not.
    pub async fn stop(mut self) {
        end(&mut self.child, &self.folder).await;
    }
}

/// Ends the control plane, and then everything that it has left.
async fn end(child: &mut Child, folder: &Path) {
    if let Some(pid) = child.id() {
        let _ = signal(pid, Signal::TERM);
    }
    if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
    let began = Instant::now();
    let variable = format!("{OF_BENCH}={}", folder.display());
    loop {
        let left = process::with_variable(&variable);
        if left.is_empty() || began.elapsed() > PATIENCE {
            return;
        }
        for process in left {
            let _ = process::kill_verified(process);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn spawn(folder: &Path, nodes: u32) -> Result<Child, Failure> {
    let failed = |error: std::io::Error| stuck(&format!("`lindos up` cannot be started: {error}"));
    let log = std::fs::File::create(folder.join("up.log")).map_err(failed)?;
    Command::new(std::env::current_exe().map_err(failed)?)
        .args(["up", "--listen", "127.0.0.1:0", "--nodes", &nodes.to_string()])
        .args(["--gpus", &GPUS.to_string(), "--state"])
        .arg(folder)
        .arg("--policy")
        .arg(folder.join("policy.toml"))
        .env(OF_BENCH, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)
}

/// Waits until the control plane of the folder answers, and not one that was there before it.
async fn answers(folder: &Path) -> Result<Client, Failure> {
    let began = Instant::now();
    let target = Target { server: None, state: Some(folder.to_path_buf()) };
    loop {
        match target.live().await {
            Ok(client) => return Ok(client),
            Err(failure) if began.elapsed() > PATIENCE => return Err(failure),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

pub fn signal(pid: u32, signal: Signal) -> Result<(), Failure> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| stuck("a process has no number"))?;
    kill_process(pid, signal)
        .map_err(|error| stuck(&format!("a signal could not be sent: {error}")))
}
