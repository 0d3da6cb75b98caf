//! Reading a folder that another process may be writing to.

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::records::Records;
use crate::scan::{DamagedTail, Recovered, Scan, scan};
use crate::snapshot::{self, Snapshot};
use crate::{Seq, format::FILE_HEADER};

/// How often a folder that changes under the reader's eyes is read again: a segment can be
/// pruned, or a snapshot come, between listing the folder and reading it.
const TRIES: u32 = 3;

/// A look at a journal as it was when it was opened. It takes no lock and changes nothing.
///
/// An unfinished batch at the end, which is what a reader sees of a commit that is being written,
/// is left out and left there. The last batch that it does see may not be durable yet: whoever
/// acts on it must not assume that it outlives a crash.
#[derive(Debug)]
pub struct Reader<D> {
    disk: D,
    found: Scan,
}

impl<D: Disk> Reader<D> {
    /// Check every byte in the folder. With an `id`, it must be that journal.
    pub fn open(disk: D, id: Option<u128>) -> Result<(Self, Recovered)> {
        let mut tries = 1;
        let found = loop {
            match scan(&disk, id, DamagedTail::Refuse) {
                Ok(found) => break found,
                Err(Error::Io { .. } | Error::Corrupt { .. }) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        };
        debug_assert!(found.segments.iter().all(|segment| segment.bytes >= FILE_HEADER as u64));
        let recovered = found.recovered.clone();
        Ok((Self { disk, found }, recovered))
    }

    /// The journal's id; `None` while it has no segment.
    pub fn id(&self) -> Option<u128> {
        self.found.id
    }

    /// The records from `seq` on, up to the last that was there at opening.
    pub fn iter_from(&self, seq: Seq) -> Result<Records<'_, D>> {
        Records::new(&self.disk, &self.found.segments, seq)
    }

    /// The records at which there are snapshots, ascending, damaged ones included.
    pub fn snapshots(&self) -> &[Seq] {
        &self.found.listing.snapshots
    }

    /// The newest snapshot that can be read back.
    pub fn latest_snapshot(&self) -> Result<Option<Snapshot>> {
        let oldest = self.found.recovered.first;
        let snapshots = &self.found.listing.snapshots;
        snapshot::newest(&self.disk, self.found.id, snapshots, oldest, &mut Vec::new())
    }

    /// The snapshot at `seq`, for replaying to a moment in the past; `None` if it is damaged.
    pub fn snapshot_at(&self, seq: Seq) -> Result<Option<Snapshot>> {
        Ok(snapshot::read(&self.disk, self.found.id, seq)?.ok())
    }
}
