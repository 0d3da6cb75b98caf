//! The kinds of faults: how each is done, what is waited for, and how long each phase may take.

use super::fleet::{Fleet, signal};
use super::phases::{Phases, Recovery, phases};
use super::{LOOK, PATIENCE, now_ms, stuck, wait_for};
use crate::failure::Failure;
use clap::ValueEnum;
use lindos_api::user::{JobDetail, RankView};
use lindos_hardware::process;
use rustix::process::Signal;
use std::path::Path;
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Kind {
    /// A rank is killed with SIGKILL
    RankKilled,
    /// The parent of a node's ranks is killed, and they with it
    ShimKilled,
    /// A rank is stopped with SIGSTOP, and the others wait for it
    RankHung,
    /// Agent and shim of a node are stopped: nobody hears of it any more
    NodeSilent,
    /// The same, with a spare on which the job's processes wait, and others beside its ranks
    NodeSilentWarm,
    /// The loss is no number any more
    LossNan,
    /// A node's agent is killed; the job is to go on
    AgentKilled,
    /// The control plane is killed and started again; the job is to go on
    ControlPlaneKilled,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::RankKilled,
        Kind::ShimKilled,
        Kind::RankHung,
        Kind::NodeSilent,
        Kind::NodeSilentWarm,
        Kind::LossNan,
        Kind::AgentKilled,
        Kind::ControlPlaneKilled,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Kind::RankKilled => "rank_killed",
            Kind::ShimKilled => "shim_killed",
            Kind::RankHung => "rank_hung",
            Kind::NodeSilent => "node_silent",
            Kind::NodeSilentWarm => "node_silent_warm",
            Kind::LossNan => "loss_nan",
            Kind::AgentKilled => "agent_killed",
            Kind::ControlPlaneKilled => "control_plane_killed",
        }
    }

    /// Whether its job has processes that wait for a rank.
    pub const fn is_warm(self) -> bool {
        matches!(self, Kind::NodeSilentWarm)
    }

    /// What each phase may take in 95 of 100 cases, in milliseconds; see `docs/bench.md`.
    pub const fn budget(self) -> Phases {
        // Killed ranks are told of by SIGCHLD; survivors here end at SIGTERM at once.
        let quick =
            Phases { detect: 200.0, stop: 250.0, decide: 10.0, launch: 400.0, resume: 1000.0 };
        match self {
            Kind::RankKilled | Kind::ShimKilled => quick,
            // Five seconds of silence (`node_silent_ms`, or of steps) and one look; a stopped process
            // ends only when its grace is over.
            Kind::RankHung | Kind::NodeSilent | Kind::NodeSilentWarm => {
                Phases { detect: 6500.0, stop: 1500.0, ..quick }
            }
            // Ten steps of about 60 ms.
            Kind::LossNan => Phases { detect: 2000.0, ..quick },
            // The wait before it is started again, and its start; then the next step is told.
            Kind::AgentKilled => {
                Phases { detect: 0.0, stop: 0.0, decide: 0.0, launch: 1000.0, resume: 1500.0 }
            }
            Kind::ControlPlaneKilled => {
                Phases { detect: 0.0, stop: 0.0, decide: 0.0, launch: 2000.0, resume: 1500.0 }
            }
        }
    }

    /// Does it to a job that trains, and times what follows.
    pub async fn strike(
        self,
        fleet: &mut Fleet,
        folder: &Path,
        job: &JobDetail,
        run: u32,
    ) -> Result<Recovery, Failure> {
        let victim = &job.ranks[run as usize % job.ranks.len()];
        let id = job.summary.job;
        let seen = fleet.client.events(0, Some(id)).await?.last().map_or(0, |event| event.seq);
        let at = now_ms();
        match self {
            Kind::RankKilled => signal(victim.pid, Signal::KILL)?,
            Kind::ShimKilled => signal(shim_of(victim)?, Signal::KILL)?,
            Kind::RankHung => signal(victim.pid, Signal::STOP)?,
            Kind::LossNan => {
                let made = std::fs::File::create(folder.join("nan"));
                made.map_err(|error| stuck(&format!("{error}")))?;
            }
            Kind::NodeSilent | Kind::NodeSilentWarm => {
                let agent =
                    fleet.agent(&victim.node).ok_or_else(|| stuck("a node has no agent"))?;
                signal(agent, Signal::STOP)?;
                signal(shim_of(victim)?, Signal::STOP)?;
                let recovery = recovered(fleet, id, seen, at, job.ranks.len()).await?;
                // The fence has killed it; then its keeper starts another, and the node is back.
                let _ = signal(agent, Signal::KILL);
                fleet.wait_until_up().await?;
                return Ok(recovery);
            }
            Kind::AgentKilled => return agent_killed(fleet, job, at).await,
            Kind::ControlPlaneKilled => {
                fleet.kill_control_plane().await?;
                return goes_on(fleet, job, at).await;
            }
        }
        recovered(fleet, id, seen, at, job.ranks.len()).await
    }
}

fn shim_of(rank: &RankView) -> Result<u32, Failure> {
    let parent = process::stat(rank.pid).map(|stat| stat.parent);
    parent.ok_or_else(|| stuck(&format!("rank {} is not there", rank.rank)))
}

/// Waits for the next attempt's first step.
async fn recovered(
    fleet: &Fleet,
    id: u64,
    seen: u64,
    at: f64,
    ranks: usize,
) -> Result<Recovery, Failure> {
    let began = Instant::now();
    loop {
        let events = fleet.client.events(seen, Some(id)).await?;
        if let Some(recovery) = phases(&events, at, ranks) {
            return Ok(recovery);
        }
        if began.elapsed() > PATIENCE {
            return Err(stuck("the job did not come back"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The agent that hears of the steps is killed: they are told again when another is there.
async fn agent_killed(fleet: &Fleet, job: &JobDetail, at: f64) -> Result<Recovery, Failure> {
    let node = &job.ranks[0].node;
    let before = fleet.agent(node).ok_or_else(|| stuck("a node has no agent"))?;
    signal(before, Signal::KILL)?;
    let began = Instant::now();
    while fleet.agent(node).is_none_or(|agent| agent == before) {
        if began.elapsed() > PATIENCE {
            return Err(stuck("the agent is not started again"));
        }
        tokio::time::sleep(LOOK).await;
    }
    goes_on(fleet, job, at).await
}

/// What was killed is there again: the job has to have gone on, and its steps are told.
async fn goes_on(fleet: &Fleet, job: &JobDetail, at: f64) -> Result<Recovery, Failure> {
    let (id, epoch) = (job.summary.job, job.summary.epoch);
    let launch = now_ms() - at;
    let step = fleet.client.job(id).await?.summary.step.max(job.summary.step);
    let after = wait_for(&fleet.client, id, |job| job.summary.step > step).await?;
    if after.summary.epoch != epoch {
        return Err(stuck("the job was stopped, though none of its ranks had died"));
    }
    let resume = now_ms() - at - launch;
    Ok(Phases { detect: 0.0, stop: 0.0, decide: 0.0, launch, resume })
}
