use crate::failure::Failure;
use crate::local::{nodes, trace};
use crate::state;
use anyhow::Context;
use clap::Args;
use lindos_agent::{AgentConfig, ServerLocation};
use lindos_model::{Location, NodeSpec};
use std::path::PathBuf;
use std::time::Duration;

/// What the supervisor in [`crate::local`] starts, one for each node.
#[derive(Args, Debug, Clone, PartialEq, Eq)]
pub struct AgentArgs {
    /// The node's own folder
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    node: String,
    #[arg(long)]
    gpus: u16,
    /// The state folder, whose server.json tells where the control plane is
    #[arg(long)]
    state: PathBuf,
    #[arg(long, default_value = nodes::PLATFORM)]
    platform: String,
    #[arg(long, default_value = nodes::ADDRESS)]
    address: String,
    #[arg(long, default_value = "")]
    site: String,
    #[arg(long, default_value = "")]
    spine: String,
    #[arg(long, default_value = "")]
    leaf: String,
    #[arg(long, default_value = "")]
    rack: String,
}

const HEARTBEAT: Duration = Duration::from_secs(1);

pub fn run(args: AgentArgs) -> Result<(), Failure> {
    trace::to_stderr();
    let program = std::env::current_exe().context("the program's own path")?;
    lindos_agent::run(AgentConfig {
        node: NodeSpec {
            name: args.node,
            gpus: args.gpus,
            platform: args.platform,
            address: args.address,
            location: Location {
                site: args.site,
                spine: args.spine,
                leaf: args.leaf,
                rack: args.rack,
                ..Location::default()
            },
            labels: std::collections::BTreeMap::new(),
        },
        dir: args.dir,
        checkpoints: args.state.join("checkpoints"),
        server: ServerLocation::File(state::server_path(&args.state)),
        heartbeat: HEARTBEAT,
        program,
    })?;
    Ok(())
}
