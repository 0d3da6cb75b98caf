use crate::failure::Failure;
use crate::local::trace;
use crate::state;
use anyhow::Context;
use clap::Args;
use lindos_agent::{AgentConfig, HealthConfig, ServerLocation};
use lindos_hardware::nvml::NvmlSource;
use lindos_hardware::system::{Expectations, Root};
use lindos_model::NodeSpec;
use std::path::PathBuf;
use std::time::Duration;

/// What the supervisor in [`crate::local`] starts, one for each node.
#[derive(Args, Debug, Clone, PartialEq, Eq)]
pub struct AgentArgs {
    /// The node's own folder
    #[arg(long)]
    dir: PathBuf,
    /// The node as JSON: its name, GPUs, platform, address, place and labels
    #[arg(long, value_name = "JSON", value_parser = parse_node)]
    node: NodeSpec,
    /// The state folder, whose server.json tells where the control plane is
    #[arg(long)]
    state: PathBuf,
    /// Watch the health of the machine
    #[arg(long)]
    health: bool,
    /// Look for the machine's files below this folder
    #[arg(long, value_name = "DIR", env = "LINDOS_HEALTH_ROOT")]
    health_root: Option<PathBuf>,
    /// Another library in place of libnvidia-ml.so.1
    #[arg(long, value_name = "FILE", env = "LINDOS_NVML")]
    nvml: Option<PathBuf>,
}

const HEARTBEAT: Duration = Duration::from_secs(1);

fn parse_node(text: &str) -> Result<NodeSpec, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

pub fn run(args: AgentArgs) -> Result<(), Failure> {
    trace::to_stderr();
    let program = std::env::current_exe().context("the program's own path")?;
    lindos_agent::run(AgentConfig {
        node: args.node,
        dir: args.dir,
        checkpoints: args.state.join("checkpoints"),
        server: ServerLocation::File(state::server_path(&args.state)),
        heartbeat: HEARTBEAT,
        program,
        health: args.health.then(|| HealthConfig {
            root: args.health_root.map_or_else(Root::of_this_machine, |root| Root::at(&root)),
            expected: Expectations::default(),
            nvml: args.nvml.map_or_else(NvmlSource::of_the_driver, NvmlSource::at),
        }),
    })?;
    Ok(())
}
