//! The part of Lindos that lives on a node.
//!
//! Two kinds of process. The **agent** ([`run`]) speaks to the control plane: it reads commands
//! from a stream, carries them out, and reports the whole state of the node, again and again,
//! until it is heard. The **shim** ([`shim`]) is the parent of the ranks of one attempt: it starts
//! them, keeps their output and their readings, sees how they end, and stops them. The shim needs
//! no agent, and the agent no control plane: whichever of them is killed, upgraded or away, ranks
//! go on, and nothing that was seen is lost.
//!
//! Everything that the agent knows stands in the node's folder ([`files`]):
//!
//! | file | what |
//! |---|---|
//! | `agent.lock` | held by the agent that runs |
//! | `incarnation` | grows with every start |
//! | `floors.json` | job → newest epoch launched or stopped here: older ones are refused |
//! | `attempts/JOB-EPOCH/spec.json` | what the shim is to run ([`plan::Plan`]) |
//! | `attempts/JOB-EPOCH/state.json` | what became of it ([`plan::State`]) |
//! | `attempts/JOB-EPOCH/shim.sock` | the shim listens here for as long as it lives |
//! | `works/ID/` | a remedy or a burn-in ([`work`]) |
//! | `logs/JOB-EPOCH/rank-R.log` | output; `rank-R.log.N` are older pieces that end at byte N |
//!
//! A shim inherits the listening socket from the agent that starts it, so that "the socket
//! refuses" and "no shim lives, and none ever will" are the same fact.

pub mod config;
pub mod environment;
pub mod files;
pub mod health;
pub mod logs;
pub mod plan;
pub mod work;

mod fence;
mod node;
mod shim;
mod sweep;

pub use config::{AgentConfig, ServerLocation};
pub use fence::fence;
pub use health::HealthConfig;
pub use node::run;
pub use shim::run as shim;
