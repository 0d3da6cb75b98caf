//! The core in virtual time: a world of machines, networks and users around it, faults in it,
//! and checkers beside it.
//!
//! Same input, same output, to the byte: time is counted, chance comes from named streams of a
//! seed, and nothing here reads a clock or touches a file.

mod agent;
pub mod bench;
mod check;
mod control;
pub mod fault;
mod host;
mod page;
mod random;
pub mod reliability;
pub mod scenario;
pub mod script;
pub mod swarm;
pub mod trace;
pub mod twin;
pub mod validate;
pub mod whatif;
pub mod world;

pub use fault::Plant;
pub use scenario::Scenario;
pub use world::{Outcome, Setup, Violation, play, run};
