//! A recorded trace of jobs, replayed against a fleet and a policy through the real core.
//!
//! [`read`] takes a trace from the bytes of a file; [`shape`] turns its rows into gangs that the
//! fleet could hold; [`world`] is an **ideal world** around the core: no heartbeats, no network, no
//! faults; a node reports at the very moment in which it is told something, a rank runs at once,
//! and a stop takes no time. What is left is the queue, the policy and the placement, and those are
//! the core's own. [`measure`] makes figures of what happened, [`report`] a page with plots,
//! [`job_table`] a table of all jobs.
//!
//! `docs/sim-trace.md` defines every figure. Same input, same output, to the byte.

pub mod job_table;
pub mod measure;
pub mod read;
pub mod report;
pub mod shape;
pub mod world;

#[cfg(test)]
mod tests;

pub use measure::{Measures, Spread};
pub use read::{Format, ReadOptions, Row, Skipped, Trace, TraceError};
pub use shape::{LimitRule, TeamShares, TraceJob};
pub use world::{Outcome, Setup, replay};
