//! What the journal needs of a folder of files, and nothing more.
//!
//! The journal runs on a [`RealDisk`] in the server and on a [`MemoryDisk`] in the simulator: the
//! same code above, so that a crash found by the simulator is a crash of the real thing. The
//! contract is POSIX's, without its comforts: a write is durable after `sync` of its file, a
//! name after `sync_folder`, and neither one before.

mod memory;
mod real;

use std::fmt::Debug;
use std::io;
use std::path::Path;

pub use memory::{Fault, MemoryDisk, Tail};
pub use real::RealDisk;

/// A flat folder of files. Names are plain file names, without separators.
pub trait Disk: Debug {
    /// Where the folder is, for messages.
    fn folder(&self) -> &Path;

    /// Take the folder for this process until the disk is dropped.
    fn lock(&mut self) -> io::Result<Locked>;

    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The length of a file, in bytes.
    fn size(&self, name: &str) -> io::Result<u64>;

    /// The whole of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Create an empty file, replacing one of that name.
    fn create(&mut self, name: &str) -> io::Result<()>;

    /// Write all of `bytes` at `offset`, or fail having written any part of them.
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cut a file to `length` bytes.
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;

    /// Make the bytes and the length of a file durable.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Make the creations, renames and removals so far durable.
    fn sync_folder(&mut self) -> io::Result<()>;

    /// Give a file a new name, atomically replacing one that has it.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Remove a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Bytes that may still be written, when the disk can tell.
    fn available(&self) -> Option<u64>;
}

/// The outcome of [`Disk::lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    /// The folder is ours.
    Held,
    /// Another has it; its process id, when it can be told.
    InUse(Option<u32>),
}
