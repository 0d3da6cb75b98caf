//! The durable, append-only record of events from which everything else is replayed.
//!
//! Lindos's control plane is a deterministic state machine; its state is what its journal says.
//! So this crate is the one place where a lost, reordered or invented byte would become a lost,
//! reordered or invented fact, and it is written to be *stated and tested byte by byte*:
//!
//! - **Acknowledged is durable.** What [`Journal::commit`] returned is there after any crash.
//! - **A commit is whole or absent.** After a crash, the records of an unfinished batch are gone
//!   all together; none of them had been acknowledged.
//! - **Torn is not damaged.** The beginning of a batch at the very end is what crashes leave: it
//!   is cut off and reported. Anything else that does not verify is [`Error::Corrupt`], names the
//!   file, the byte and the record, and changes nothing on disk.
//! - **Nothing here panics on any bytes**, and no record is ever handed out that was not
//!   committed.
//! - **A failed sync is final.** The kernel may have thrown away what it could not write, so the
//!   journal takes no more until it is opened again ([`Error::Poisoned`]).
//!
//! The journal knows no clock, no threads and no async runtime, and it reaches files only through
//! [`Disk`]: the server runs it on a [`RealDisk`], the simulator on a [`MemoryDisk`] that crashes
//! at any byte. A payload is opaque bytes; [`Record`] is the thin typed layer.
//!
//! ```
//! use lindos_journal::{Journal, MemoryDisk, Options, Seq, Tail};
//!
//! # fn main() -> lindos_journal::Result<()> {
//! let mut disk = MemoryDisk::new();
//! let options = Options::new(0x00c0_1055);
//! let (mut journal, _) = Journal::open(disk.clone(), options)?;
//! journal.append(b"job 1 submitted")?;
//! journal.append(b"node 7 silent")?;
//! assert_eq!(journal.commit()?, Seq(2)); // one write, one sync; now both may be answered
//!
//! journal.append(b"never committed")?;
//! disk.crash(Tail::Cut, |most| most / 2);
//!
//! let (mut journal, recovered) = Journal::open(disk.clone(), options)?;
//! assert_eq!(recovered.last, Seq(2));
//! let second = journal.iter_from(Seq(2))?.next().expect("it was committed")?;
//! assert_eq!(second.payload, b"node 7 silent");
//!
//! journal.snapshot(Seq(2), b"the state after record 2")?;
//! assert_eq!(journal.latest_snapshot()?.expect("just taken").seq, Seq(2));
//! # Ok(())
//! # }
//! ```
//!
//! Why not a database: `docs/decisions/0002-journal.md`.

mod batch;
mod disk;
mod error;
mod event_record;
mod files;
mod format;
mod journal;
mod reader;
mod record;
mod records;
mod scan;
mod snapshot;

pub use disk::{Disk, Fault, Locked, MemoryDisk, RealDisk, Tail};
pub use error::{Error, Result};
pub use event_record::{EventRecord, SnapshotRecord, newer_version};
pub use format::{BATCH_BYTES_MAX, FORMAT_VERSION, PAYLOAD_BYTES_MAX};
pub use journal::{Journal, Options, Pruned};
pub use reader::Reader;
pub use record::{DecodeError, Decoded, Record};
pub use records::{Entry, Records};
pub use scan::{DamagedTail, Recovered, Warning};
pub use snapshot::Snapshot;

/// A record's number. The first one is 1; 0 stands before it, where a new journal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl std::fmt::Display for Seq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
