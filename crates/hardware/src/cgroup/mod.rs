//! Control groups: a set of processes that the kernel keeps together, whatever they do to their
//! sessions and parents.
//!
//! A [`Place`] is where the group of one attempt stands in the file system; it can be written
//! down and found again by another process. [`Hierarchies`] finds out where this process may
//! make groups: version 2, the hybrid of both, or version 1. Where it may make none, process
//! groups and sessions have to do.

mod fake;
mod kernel;

pub use fake::FakeCgroup;
pub use kernel::{Hierarchies, KernelCgroup, Place};

use std::fmt;
use std::fs::File;
use std::io;

/// One control group. Children of its members are members.
pub trait Cgroup: fmt::Debug {
    /// Files into which a process writes `0` to become a member.
    fn entrances(&self) -> io::Result<Vec<File>>;
    /// The members, also of groups below it.
    fn pids(&self) -> io::Result<Vec<u32>>;
    /// Sends SIGKILL to every member, and to those that they start meanwhile.
    fn kill(&self) -> io::Result<()>;
    /// How many of its members the kernel has killed for want of memory so far.
    fn oom_kills(&self) -> u64;
    /// At most this much memory for all members together, where the kernel can.
    fn limit_memory(&self, bytes: u64) -> io::Result<()>;
    /// Takes the group away. It must have no members.
    fn remove(&self) -> io::Result<()>;
}
