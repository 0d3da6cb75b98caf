//! A whole fleet on this machine: a control plane inside this process, and one agent process for
//! each node. When they stop, or are killed, the ranks run on, and the next control plane in the
//! same state folder adopts them.

mod agents;
mod lock;
mod mender;
pub mod nodes;
pub mod trace;

use crate::failure::{Exit, Failure};
use crate::{output, policy_file, state};
pub use agents::Ending;
pub use lock::holder;

use agents::{Agents, Fencing};
use lindos_api::client::Client;
use lindos_api::user::NodeView;
use lindos_model::{Millis, NodeSpec, Policy};
use lindos_server::alerts::Alerts;
use lindos_server::remedies::Remedies;
use lindos_server::{Fencer, ServerConfig, ServerHandle, StartError};
use mender::LocalMender;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Agents on this machine are up within a second; after this long the job is submitted anyway.
const AGENTS_UP: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);

/// Rendezvous ports of one control plane on this machine. Others may run beside it, each with its
/// own slice of the range, so that their jobs seldom ask for the same port.
const PORTS: u16 = 100;

/// What whoever stops a control plane should know.
pub fn say_what_runs_on(jobs_alive: u32) {
    match jobs_alive {
        0 => {}
        1 => output::message("1 job runs on; `lindos up` adopts it"),
        many => output::message(format!("{many} jobs run on; `lindos up` adopts them")),
    }
}

/// The policy of a fleet on this machine: that of a file, or the default.
pub fn policy_of(file: Option<&Path>) -> Result<Policy, Failure> {
    let given = file.map(policy_file::load).transpose()?.unwrap_or_default();
    let default = Policy::default();
    let ports = |policy: &Policy| (policy.port_base, policy.port_count);
    if ports(&given) != ports(&default) {
        return Ok(given);
    }
    let slices = u32::from(default.port_count / PORTS);
    let slice = (std::process::id() % slices) as u16;
    Ok(Policy { port_base: default.port_base + slice * PORTS, port_count: PORTS, ..given })
}

pub struct Local {
    pub client: Client,
    server: ServerHandle,
    agents: Agents,
}

pub struct Options<'a> {
    pub state: &'a Path,
    pub listen: SocketAddr,
    pub policy: Policy,
    pub alerts: Option<Alerts>,
    pub remedies: Remedies,
    /// Whether the health of this machine is watched. One agent does: what is found on the machine
    /// is not found on each of the nodes that it plays.
    pub health: bool,
}

impl Local {
    /// Starts the control plane, asks `fleet` for the nodes there shall be besides those that the
    /// state knows, and starts their agents.
    pub async fn start(
        options: Options<'_>,
        fleet: impl FnOnce(&[NodeView]) -> Result<Vec<NodeSpec>, Failure>,
    ) -> Result<Local, Failure> {
        state::create(options.state)?;
        trace::to_file(&options.state.join("server.log"))?;
        let fencing = Fencing::default();
        let program = this_program()?;
        let fencer = LocalFencer { nodes: options.state.join("nodes"), fencing: fencing.clone() };
        let config = ServerConfig {
            state_dir: options.state.to_path_buf(),
            listen: options.listen,
            policy: options.policy,
            mender: Arc::new(LocalMender {
                program: program.clone(),
                works: options.state.join("works"),
                remedies: options.remedies,
                fencer: fencer.clone(),
            }),
            fencer: Arc::new(fencer),
            alerts: options.alerts,
            straggler_window: straggler_window()?,
            version: env!("CARGO_PKG_VERSION").to_string(),
        };
        let server =
            lindos_server::start(config).await.map_err(|error| refused(&error, options.state))?;
        let client = Client::new(server.url(), server.token());
        let known = match client.nodes().await {
            Ok(known) => known,
            Err(error) => {
                server.stop().await;
                return Err(error.into());
            }
        };
        let started = fleet(&known).and_then(|nodes| {
            nodes::check_count(nodes.len() as u64)?;
            Agents::start(options.state, &program, &nodes, &fencing, options.health)
        });
        match started {
            Ok(agents) => Ok(Local { client, server, agents }),
            Err(failure) => {
                server.stop().await;
                Err(failure)
            }
        }
    }

    /// Waits until every agent has reported, within a bound: a job submitted before would be told
    /// that no node fits it.
    pub async fn wait_for_agents(&self) -> Result<(), Failure> {
        let began = Instant::now();
        while began.elapsed() < AGENTS_UP {
            let nodes = self.client.nodes().await?;
            let up = nodes.iter().filter(|node| node.state == "up").count();
            if up >= self.agents.count() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        tracing::warn!("not every agent is up yet");
        Ok(())
    }

    /// Resolves if the control plane dies of its own accord.
    pub async fn failed(&self) {
        self.server.failed().await;
    }

    /// Stops agents and control plane; ranks run on.
    pub async fn stop(self, ending: Ending) {
        self.agents.stop(ending).await;
        self.server.stop().await;
    }

    /// Tells the agents to stop and waits for nobody: for whoever is in a hurry.
    pub fn abandon(&self) {
        self.agents.abandon();
    }
}

/// For whoever wants stragglers named sooner, or surer: `LINDOS_STRAGGLER_WINDOW_MS`.
fn straggler_window() -> Result<Option<Millis>, Failure> {
    const NAME: &str = "LINDOS_STRAGGLER_WINDOW_MS";
    let Some(text) = std::env::var_os(NAME) else { return Ok(None) };
    let number = text.to_str().and_then(|text| text.parse().ok());
    // Agents tell every five seconds; a window longer than half an hour is none that ends.
    match number.filter(|ms| (5_000..=1_800_000).contains(ms)) {
        Some(ms) => Ok(Some(Millis(ms))),
        None => Err(Failure::bad_input(
            format!("{NAME} is {}", text.display()),
            "give milliseconds, from 5000 to 1800000, or leave it out: 15000",
        )),
    }
}

/// Why the control plane did not start, and what to do about it.
fn refused(error: &StartError, state_folder: &Path) -> Failure {
    let (exit, hint) = match error {
        StartError::StateInUse { .. } => {
            let hint = match state::server_file(state_folder) {
                Some(file) => format!(
                    "`lindos submit FILE` hands the job to that one, `lindos run FILE --server {}` \
                     also waits for it; or use another folder with --state DIR",
                    file.url
                ),
                None => "use another folder with --state DIR".to_string(),
            };
            let text = error.to_string();
            let message = text.split_once("hint:").map_or(text.as_str(), |(message, _)| message);
            return Failure::state(message.trim_end(), hint);
        }
        StartError::PortInUse { .. } | StartError::Listen { .. } => {
            (Exit::BadInput, "give --listen 127.0.0.1:0, and a free port is chosen")
        }
        _ => (Exit::StateUnusable, "use another folder with --state DIR"),
    };
    Failure::with_hint_inside(exit, &error.to_string(), hint)
}

fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("the path of this program is unknown: {error}"),
            "run it from where it is installed",
        )
    })
}

/// Makes sure, from this machine, that nothing of a node of this machine lives.
#[derive(Clone)]
struct LocalFencer {
    nodes: PathBuf,
    fencing: Fencing,
}

impl Fencer for LocalFencer {
    fn fence(&self, node: &str) -> Result<(), String> {
        self.fencing.begin(node);
        let result = lindos_agent::fence(&self.nodes.join(node));
        self.fencing.end(node);
        result.map_err(|error| format!("{error:#}"))
    }
}
