//! `lindos agent` and `lindos shim` without the rest of Lindos, for this crate's tests.
//!
//! `lindos-agent-test agent NAME DIR CHECKPOINTS SERVER_JSON HEARTBEAT_MS`, `… shim DIR`,
//! `… fence DIR`. In production the `lindos` program does this.

use anyhow::{Context as _, bail};
use lindos_agent::{AgentConfig, ServerLocation};
use lindos_model::{Location, NodeSpec};
use std::path::Path;
use std::time::Duration;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["agent", name, dir, checkpoints, server, heartbeat_ms] => lindos_agent::run(AgentConfig {
            node: NodeSpec {
                name: (*name).to_string(),
                gpus: 8,
                platform: "generic".to_string(),
                address: "127.0.0.1".to_string(),
                location: Location::default(),
                labels: std::collections::BTreeMap::new(),
            },
            dir: dir.into(),
            checkpoints: checkpoints.into(),
            server: ServerLocation::File(server.into()),
            heartbeat: Duration::from_millis(heartbeat_ms.parse()?),
            program: std::env::current_exe().context("who am I?")?,
            health: None,
        }),
        ["work", dir] => lindos_agent::work::run(Path::new(dir)),
        // What a test wants a burn-in and the checks of the machine to be.
        ["burnin" | "health", ..] => {
            let script = std::env::var("LINDOS_TEST_TOOL").context("a tool without a script")?;
            let mut tool = std::process::Command::new("sh");
            let status = tool.args(["-c", &script, "sh"]).args(words).status()?;
            std::process::exit(status.code().unwrap_or(1));
        }
        ["shim", dir] => lindos_agent::shim(Path::new(dir)),
        ["fence", dir] => lindos_agent::fence(Path::new(dir)),
        _ => bail!("agent …, shim DIR or fence DIR"),
    }
}
