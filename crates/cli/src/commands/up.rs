use crate::failure::{Exit, Failure};
use crate::fleet_file;
use crate::local::nodes::{self, Wanted};
use crate::local::{self, Ending, Local, Options};
use crate::render::number::counted;
use crate::{output, remedies_file, state};
use clap::Args;
use lindos_model::NodeSpec;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Args, Debug)]
pub struct UpArgs {
    /// Nodes, each with an agent of its own
    #[arg(long, default_value_t = 3, value_name = "N")]
    nodes: u32,
    /// GPUs of each node
    #[arg(long, default_value_t = 2, value_name = "G")]
    gpus: u16,
    /// Take the nodes from a fleet file instead, or from a ready-made fleet
    #[arg(long, value_name = "FILE|NAME", conflicts_with_all = ["nodes", "gpus"])]
    fleet: Option<String>,
    /// Take the policy from a file: teams, classes, spares, who goes first
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Tell people what happens over the webhooks of a file
    #[arg(long, value_name = "FILE")]
    alerts: Option<PathBuf>,
    /// Mend nodes with the commands of a file
    #[arg(long, value_name = "FILE")]
    remedies: Option<PathBuf>,
    /// Do not watch the health of this machine
    #[arg(long)]
    no_health: bool,
    /// Address to listen at, on this machine
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// State folder [default: ~/.local/state/lindos]
    #[arg(long, value_name = "DIR", env = "LINDOS_STATE")]
    state: Option<PathBuf>,
}

pub async fn run(args: UpArgs) -> Result<(), Failure> {
    if !args.listen.ip().is_loopback() {
        return Err(Failure::bad_input(
            format!("--listen {}: that is not an address of this machine alone", args.listen),
            "listen at 127.0.0.1:PORT; reach it from elsewhere through an SSH tunnel",
        ));
    }
    if args.gpus == 0 || args.gpus > lindos_model::node::GPUS_PER_NODE_MAX {
        return Err(Failure::bad_input(
            format!("--gpus {}: a node has 1 to {} GPUs", args.gpus, 64),
            "a machine without GPUs has slots that stand for them",
        ));
    }
    nodes::check_count(u64::from(args.nodes))?;
    let file = args.fleet.as_deref().map(fleet_on_this_machine).transpose()?;
    let policy = local::policy_of(args.policy.as_deref())?;
    let alerts = args.alerts.as_deref().map(super::alerts::load).transpose()?;
    let remedies = remedies_file::load(args.remedies.as_deref())?;
    let folder = state::folder(args.state.as_deref())?;
    let mut signals = Signals::new()?;
    let (state, listen, health) = (&folder, args.listen, !args.no_health);
    let options = Options { state, listen, policy, alerts, remedies, health };
    let wanted = Wanted { nodes: args.nodes, gpus: args.gpus };
    let local = Local::start(options, |known| match file {
        Some(file) => nodes::fleet_of_file(known, file),
        None => Ok(nodes::fleet(known, wanted)),
    })
    .await?;
    let result = serve(&local, &folder, &mut signals).await;
    let alive = local.client.status().await.map(|status| status.jobs_alive);
    // Jobs that run on are for the next control plane, and so is what waits for their ranks.
    let is_over = alive.as_ref().is_ok_and(|&alive| alive == 0);
    local.stop(if is_over { Ending::ForGood } else { Ending::OthersFollow }).await;
    local::say_what_runs_on(alive.unwrap_or(0));
    result
}

async fn serve(local: &Local, folder: &Path, signals: &mut Signals) -> Result<(), Failure> {
    let adopted = local.client.status().await?.jobs_alive;
    local.wait_for_agents().await?;
    let status = local.client.status().await?;
    output::message(format!(
        "control plane at {} with {} of {} nodes up, {} GPUs",
        local.client.url(),
        status.nodes_up,
        status.nodes,
        status.gpus
    ));
    output::message(format!("state in {}; Ctrl-C stops it, jobs run on", folder.display()));
    if adopted > 0 {
        output::message(format!("adopted from before: {}", counted(adopted, "job")));
    }
    tokio::select! {
        () = signals.next() => Ok(()),
        () = local.failed() => Err(control_plane_died(folder)),
    }
}

/// The control plane ended of its own accord.
pub fn control_plane_died(folder: &Path) -> Failure {
    Failure::new(
        Exit::StateUnusable,
        "the control plane has stopped: its state could not be kept",
        format!(
            "{} says why; jobs run on, and `lindos up` adopts them",
            folder.join("server.log").display()
        ),
    )
}

/// SIGINT and SIGTERM, each as often as it comes.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub fn new() -> Result<Signals, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("signals cannot be received: {error}"),
                    "check the limits of open files (ulimit -n)",
                )
            })
        };
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The nodes of a fleet file, as agents on this machine can play them.
fn fleet_on_this_machine(fleet: &str) -> Result<Vec<NodeSpec>, Failure> {
    let mut fleet = fleet_file::load(fleet)?;
    nodes::check_count(fleet.nodes.len() as u64)?;
    for node in &mut fleet.nodes {
        // The agents are all here, so that their ranks reach each other nowhere else.
        let is_here = node.address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !is_here {
            node.address = nodes::ADDRESS.to_string();
        }
    }
    Ok(fleet.nodes)
}
