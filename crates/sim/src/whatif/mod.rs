//! What would have been, if: a recorded journal, played again under a change.
//!
//! [`replay`] takes the records as they are and proves that the core comes to the same state.
//! [`watch`] looks on and writes down what came from outside: nodes, jobs, drains, faults
//! ([`history`]), and what the jobs showed of themselves ([`measure`]). [`play`] gives that back to
//! the twin, as it was or under a [`change`], with the faults on record or with faults like them
//! ([`draw`]); [`compare`] says by how much the two differ. `docs/whatif.md` is the manual.
//!
//! Nothing here opens a file or knows a clock.

pub mod assume;
pub mod change;
mod chart;
pub mod compare;
pub mod draw;
mod fit;
pub mod history;
mod jobs;
pub mod measure;
pub mod page;
pub mod play;
pub mod record;
pub mod repairs;
pub mod replay;
mod settle;
pub mod tale;
#[cfg(test)]
mod tests;
pub mod watch;
pub mod words;

pub use change::Change;
pub use compare::Comparison;
pub use history::History;
pub use replay::{Moment, Proof, ReplayError, replay};
pub use watch::Watch;
