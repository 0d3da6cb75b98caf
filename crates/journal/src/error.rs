//! What can go wrong, where, and what the person at the keyboard does next.

use std::io;
use std::path::PathBuf;

use crate::Seq;

/// Why the journal refused. Every message ends in what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused; nothing that was acknowledged is affected.
    #[error("cannot {action} {}: {source}\n  hint: check that the folder exists, that this user may write there, and `dmesg` for disk errors", path.display())]
    Io {
        /// What was being done: "read", "create", …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's word for it.
        source: io::Error,
    },

    /// Another process holds the folder's lock.
    #[error("{} is in use by {}\n  hint: stop that process first, or open another folder; reading needs no lock", folder.display(), owner(*pid))]
    InUse {
        /// The state folder.
        folder: PathBuf,
        /// The owner, when its `LOCK` file says so.
        pid: Option<u32>,
    },

    /// The folder was written by a newer Lindos.
    #[error("{} has format version {found}, this program reads up to {supported}\n  hint: run the newer Lindos that wrote it; going back needs a copy from before the upgrade", file.display())]
    NewerFormat {
        /// The file that says so.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this code reads.
        supported: u32,
    },

    /// The folder belongs to another journal.
    #[error("{} belongs to journal {found:032x}, not {expected:032x}\n  hint: files of two journals were mixed, or the wrong state folder was named; nothing was changed", file.display())]
    WrongJournal {
        /// The file that says so.
        file: PathBuf,
        /// Its journal's id.
        found: u128,
        /// The id in [`Options`](crate::Options), or that of the folder's first segment.
        expected: u128,
    },

    /// Bytes that were once written are no longer what was written. Nothing was changed on disk.
    #[error("{} is damaged at byte {offset}, at record {seq}: {reason}\n  hint: {hint}", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// The first record that cannot be trusted.
        seq: Seq,
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: &'static str,
    },

    /// There is no room. The batch is still pending: commit again once there is.
    #[error("no space left in {}: {needed} bytes are needed, {} are free\n  hint: free space there, or prune the journal; nothing is lost, and the next commit tries again", folder.display(), free(*available))]
    DiskFull {
        /// The state folder.
        folder: PathBuf,
        /// What this write needs.
        needed: u64,
        /// What the file system has, if it says.
        available: Option<u64>,
    },

    /// A sync failed before, so what is durable is no longer known.
    #[error("the journal in {} takes no more records: {reason}\n  hint: check the disk (`dmesg`, SMART), then restart, which reads back what is really there", folder.display())]
    Poisoned {
        /// The state folder.
        folder: PathBuf,
        /// What failed.
        reason: String,
    },

    /// One payload is longer than a record may be.
    #[error(
        "a record of {bytes} bytes is longer than the {max} that one may have\n  hint: keep large things in a snapshot or an object store, and journal their name"
    )]
    PayloadTooLarge {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },

    /// The pending batch has reached its bound.
    #[error(
        "the pending batch would grow to {bytes} bytes, {max} is its bound\n  hint: commit before appending more"
    )]
    BatchFull {
        /// What it would have been.
        bytes: usize,
        /// The bound.
        max: usize,
    },

    /// A snapshot was offered of a state that is not durable yet.
    #[error(
        "a snapshot at record {seq} is ahead of the last durable record, {durable}\n  hint: commit first"
    )]
    SnapshotAhead {
        /// The state's last record.
        seq: Seq,
        /// The last durable one.
        durable: Seq,
    },

    /// There is no snapshot to prune to.
    #[error("{} has no snapshot at record {seq} that can be read back\n  hint: prune only to a snapshot; `snapshots()` lists them", folder.display())]
    NoSuchSnapshot {
        /// The state folder.
        folder: PathBuf,
        /// The one that was named.
        seq: Seq,
    },

    /// Records were asked for that have been pruned.
    #[error(
        "record {asked} has been pruned, the oldest is {oldest}\n  hint: begin from a snapshot, at its record plus one"
    )]
    Pruned {
        /// The record asked for.
        asked: Seq,
        /// The oldest there is.
        oldest: Seq,
    },

    /// A whole and undamaged record does not decode.
    #[error(
        "record {seq} is undamaged but cannot be decoded: {reason}\n  hint: it was written by another version of Lindos; use that one, or report this as a bug"
    )]
    Undecodable {
        /// The record.
        seq: Seq,
        /// The decoder's word for it.
        reason: String,
    },

    /// [`Options`](crate::Options) ask for what cannot be.
    #[error(
        "{field} is {value}, it must be between {min} and {max}\n  hint: correct the journal's options"
    )]
    BadOption {
        /// Which one.
        field: &'static str,
        /// What it was.
        value: u64,
        /// The least it may be.
        min: u64,
        /// The most it may be.
        max: u64,
    },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

fn free(available: Option<u64>) -> String {
    available.map_or_else(|| "an unknown number".into(), |bytes| bytes.to_string())
}

/// The result of a journal operation.
pub type Result<T> = std::result::Result<T, Error>;
