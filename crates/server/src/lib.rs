//! The real-time driver of the core: HTTP for people, streams for agents, the journal beneath.
//!
//! [`start`] takes a state folder, replays its journal, and serves until [`ServerHandle::stop`].
//! One thread owns the core and the journal (`driver/mod.rs` says how); the HTTP
//! side only hands it inputs and questions. Stopping, or losing, this server stops no job: agents
//! keep the ranks, report again to the next one, and that one adopts what it finds.
//!
//! [`views`] turns a core into what people see; [`read_offline`] does so without a server.

mod agents;
pub mod alerts;
mod clock;
mod driver;
mod error;
mod fault;
mod fences;
mod http;
mod location;
mod mender;
mod offline;
mod open;
pub mod remedies;
mod server;
mod tally;
mod telemetry;
mod token;
pub mod views;
mod world;

pub use error::{OfflineError, StartError};
pub use http::openapi;
pub use location::Location;
pub use mender::{AgentsAlone, Case, Mender, Way};
pub use offline::{Offline, read_offline};
pub use server::{ServerConfig, ServerHandle, start, start_on};
pub use telemetry::Telemetry;

/// Makes sure from outside that nothing on a node can run.
pub trait Fencer: Send + Sync {
    /// Returns only once nothing that ran on the node before lives any more, or says why it
    /// cannot be sure. It may block for as long as it takes; it is called again after an error.
    fn fence(&self, node: &str) -> Result<(), String>;
}
