//! What Lindos asks of one machine: its processes, its control groups, and whether it is well.
//!
//! [`burnin`] finds out whether a node computes rightly and as fast as it should.
//! [`cgroup`] holds a group of processes together, behind a trait with a faithful fake.
//! [`process`] names a process so that a number that was given out again is never mistaken for
//! it. [`child`] is what happens between fork and exec, and how the end of a child is seen.
//! [`signals`] turns signals into a file to wait on. [`kernel_log`] reads what drivers and the
//! kernel say of faults, [`nvml`] asks the GPUs, [`system`] looks at everything around them, and [`health`] has the
//! monitor that runs all such checks and tells what changed.
//!
//! This crate and `agent` are the only ones with `unsafe` code.

pub mod burnin;
pub mod cgroup;
pub mod child;
pub mod health;
pub mod kernel_log;
pub mod nvml;
pub mod process;
pub mod signals;
pub mod system;
