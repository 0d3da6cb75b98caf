//! What an agent is told at its start.

use crate::health::HealthConfig;
use anyhow::Context as _;
use lindos_model::NodeSpec;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct AgentConfig {
    pub node: NodeSpec,
    /// This node's own folder; made when it is not there.
    pub dir: PathBuf,
    /// Checkpoints of jobs that name no folder go to `NAME-ID` below this one.
    pub checkpoints: PathBuf,
    pub server: ServerLocation,
    /// A report goes out at least this often.
    pub heartbeat: Duration,
    /// The program that is started as `PROGRAM shim DIR`.
    pub program: PathBuf,
    /// Whether, and with what in mind, it watches the health of the machine.
    pub health: Option<HealthConfig>,
}

/// Where the control plane is.
#[derive(Clone, Debug)]
pub enum ServerLocation {
    Url {
        url: String,
        token: String,
    },
    /// The control plane's own `server.json`. It is read again at every connection, because a
    /// control plane comes back on another port with another token.
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Endpoint {
    pub url: String,
    pub token: String,
}

impl ServerLocation {
    pub fn endpoint(&self) -> anyhow::Result<Endpoint> {
        match self {
            ServerLocation::Url { url, token } => {
                Ok(Endpoint { url: url.clone(), token: token.clone() })
            }
            ServerLocation::File(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("no control plane: cannot read {}", path.display()))?;
                serde_json::from_str(&text).with_context(|| {
                    format!("{} is not what a control plane writes", path.display())
                })
            }
        }
    }
}
