//! The writer: records gather in memory, and one write and one sync make a batch of them durable.

use std::io;

use crate::batch::BatchBuffer;
use crate::disk::{Disk, Locked};
use crate::error::{Error, Result};
use crate::files::{FileKind, PublishError, io_error, publish, write_error};
use crate::format::{
    BATCH_BYTES_MAX, BATCH_HEADER, BATCH_MARKER, FileHeader, PAYLOAD_BYTES_MAX, RECORD_HEADER,
    SEGMENT_MAGIC,
};
use crate::records::Records;
use crate::scan::{DamagedTail, Recovered, SEGMENT_BYTES_MAX, Scan, Segment, scan};
use crate::snapshot::{self, Snapshot};
use crate::{Record, Seq};

/// How a journal is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which journal this is. It stands in every file, so that files of two are never mixed. The
    /// caller chooses it when the fleet is founded, and keeps it.
    pub id: u128,
    /// A segment that has reached this size is closed, and the next batch begins a new one.
    /// 64 MiB: half a million records, a tenth of a second to replay, and the unit of pruning.
    pub segment_bytes: u64,
    /// The bound on what may be pending. 64 MiB: a commit of it takes a fraction of a second.
    pub batch_bytes_max: usize,
    /// What to do with a last batch that is all there and does not verify.
    pub damaged_tail: DamagedTail,
}

impl Options {
    /// The usual ones, for the journal `id`.
    pub fn new(id: u128) -> Self {
        Self {
            id,
            segment_bytes: 64 << 20,
            batch_bytes_max: 64 << 20,
            damaged_tail: DamagedTail::Refuse,
        }
    }

    fn check(&self) -> Result<()> {
        let bound = |field, value: u64, min, max| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(Error::BadOption { field, value, min, max })
        };
        let batch = self.batch_bytes_max as u64;
        bound("segment_bytes", self.segment_bytes, 64, SEGMENT_BYTES_MAX)?;
        bound("batch_bytes_max", batch, 256, BATCH_BYTES_MAX as u64)
    }
}

/// What [`Journal::prune`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Segments removed.
    pub segments: u64,
    /// Snapshots removed.
    pub snapshots: u64,
    /// Bytes of segments removed.
    pub bytes: u64,
}

/// The one writer of a folder.
#[derive(Debug)]
pub struct Journal<D: Disk> {
    disk: D,
    options: Options,
    /// Ascending, and never empty: the last one is written to.
    segments: Vec<Segment>,
    snapshots: Vec<Seq>,
    durable: Seq,
    pending: BatchBuffer,
    /// Why nothing may be written any more.
    poisoned: Option<String>,
}

impl<D: Disk> Journal<D> {
    /// Take the folder's lock, check every byte in it, cut an unfinished batch off its end, and
    /// make sure that what is there is durable.
    pub fn open(mut disk: D, options: Options) -> Result<(Self, Recovered)> {
        options.check()?;
        match disk.lock() {
            Ok(Locked::Held) => {}
            Ok(Locked::InUse(pid)) => {
                let folder = disk.folder().to_owned();
                return Err(Error::InUse { folder, pid });
            }
            Err(source) => {
                let path = disk.folder().to_owned();
                return Err(Error::Io { action: "lock", path, source });
            }
        }
        let found = scan(&disk, Some(options.id), options.damaged_tail)?;
        for name in &found.listing.unfinished {
            disk.remove(name).map_err(|source| io_error(&disk, "remove", name, source))?;
        }
        settle(&mut disk, &found)?;
        let mut journal = Self {
            durable: found.recovered.last,
            disk,
            options,
            segments: found.segments,
            snapshots: found.listing.snapshots,
            pending: BatchBuffer::default(),
            poisoned: None,
        };
        if journal.segments.is_empty() {
            journal.begin_segment()?;
        } else {
            let synced = journal.disk.sync_folder();
            synced.map_err(|source| io_error(&journal.disk, "sync", "", source))?;
        }
        Ok((journal, found.recovered))
    }

    /// The last record that is durable; `Seq(0)` while there is none.
    pub fn durable(&self) -> Seq {
        self.durable
    }

    /// How many records wait for [`Self::commit`].
    pub fn pending(&self) -> u32 {
        self.pending.records()
    }

    /// Add a record to the pending batch. It is durable after the next [`Self::commit`], under
    /// the number that is returned here.
    pub fn append(&mut self, payload: &[u8]) -> Result<Seq> {
        self.append_with(|out| out.extend_from_slice(payload))
    }

    /// As [`Self::append`], encoding in place.
    pub fn append_record<R: Record>(&mut self, record: &R) -> Result<Seq> {
        self.append_with(|out| record.encode(out))
    }

    fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Seq> {
        self.check_sound()?;
        let seq = Seq(self.durable.0 + u64::from(self.pending.records()) + 1);
        let batch_max = self.options.batch_bytes_max;
        let alone = batch_max - BATCH_HEADER - BATCH_MARKER - RECORD_HEADER;
        let payload_max = PAYLOAD_BYTES_MAX.min(alone);
        let mut batch = 0;
        let pushed = self.pending.push(seq, write, |payload, bytes| {
            batch = bytes;
            payload <= payload_max && bytes <= batch_max
        });
        match pushed {
            Ok(()) => Ok(seq),
            Err(bytes) if bytes > payload_max => {
                Err(Error::PayloadTooLarge { bytes, max: payload_max })
            }
            Err(_) => Err(Error::BatchFull { bytes: batch, max: batch_max }),
        }
    }

    /// Drop the pending batch; its numbers will be given out again. Returns how many records
    /// it had.
    pub fn discard(&mut self) -> u32 {
        let dropped = self.pending.records();
        self.pending.clear();
        dropped
    }

    /// Make the pending batch durable, with one write and one sync: all of it or, after a crash,
    /// none of it. Returns the last durable record.
    ///
    /// When the write fails ([`Error::DiskFull`], [`Error::Io`]) the file is cut back to what it
    /// was and the batch stays pending: the next commit tries again. When the *sync* fails, what
    /// the disk has is unknown, and every further call says [`Error::Poisoned`] until the journal
    /// is opened again; the batch may or may not be there then.
    pub fn commit(&mut self) -> Result<Seq> {
        self.check_sound()?;
        let records = self.pending.records();
        if records == 0 {
            return Ok(self.durable);
        }
        let active = self.active();
        if active.bytes >= self.options.segment_bytes && active.last >= active.first {
            self.begin_segment()?;
        }
        let (name, at) = (self.active().name(), self.active().bytes);
        let batch = self.pending.seal(self.durable.next());
        let length = batch.len() as u64;
        let written = self.disk.write_at(&name, at, batch);
        self.pending.unseal();
        if let Err(source) = written {
            return Err(self.undo_write(&name, at, length, source));
        }
        if let Err(error) = self.disk.sync(&name) {
            return Err(self.poison(format!("syncing {name} failed: {error}")));
        }
        self.pending.clear();
        self.durable = Seq(self.durable.0 + u64::from(records));
        let durable = self.durable;
        let active = self.segments.last_mut().expect("there is always one");
        active.bytes = at + length;
        active.last = durable;
        Ok(durable)
    }

    /// The durable records from `seq` on.
    pub fn iter_from(&self, seq: Seq) -> Result<Records<'_, D>> {
        Records::new(&self.disk, &self.segments, seq)
    }

    /// Keep `payload` as the state after record `seq`, which must be durable. Afterwards it is
    /// there whole, or, after an error or a crash, perhaps not at all.
    pub fn snapshot(&mut self, seq: Seq, payload: &[u8]) -> Result<()> {
        self.check_sound()?;
        if seq > self.durable {
            let durable = self.durable;
            return Err(Error::SnapshotAhead { seq, durable });
        }
        let header = snapshot::encode_header(self.options.id, seq, payload);
        self.publish(&FileKind::Snapshot.name(seq), &[&header, payload])?;
        if let Err(place) = self.snapshots.binary_search(&seq) {
            self.snapshots.insert(place, seq);
        }
        Ok(())
    }

    /// The records at which there are snapshots, ascending, damaged ones included.
    pub fn snapshots(&self) -> &[Seq] {
        &self.snapshots
    }

    /// The newest snapshot that can be read back.
    pub fn latest_snapshot(&self) -> Result<Option<Snapshot>> {
        let oldest = self.segments[0].first;
        let id = Some(self.options.id);
        snapshot::newest(&self.disk, id, &self.snapshots, oldest, &mut Vec::new())
    }

    /// Remove what the snapshot at `seq` stands in for: older snapshots, and the segments all of
    /// whose records it has taken in. The journal never does so by itself; to keep one snapshot
    /// to fall back on, name the last but one.
    pub fn prune(&mut self, seq: Seq) -> Result<Pruned> {
        self.check_sound()?;
        let known = self.snapshots.binary_search(&seq);
        let readable =
            known.is_ok() && snapshot::read(&self.disk, Some(self.options.id), seq)?.is_ok();
        // Replay must be able to go on where the snapshot ends.
        if !readable || seq.next() < self.segments[0].first {
            let folder = self.disk.folder().to_owned();
            return Err(Error::NoSuchSnapshot { folder, seq });
        }
        let mut pruned =
            Pruned { snapshots: self.drop_snapshots_before(seq)?, ..Pruned::default() };
        while self.segments.len() > 1 && self.segments[0].last <= seq {
            self.remove(&self.segments[0].name())?;
            let removed = self.segments.remove(0);
            pruned.segments += 1;
            pruned.bytes += removed.bytes;
        }
        Ok(pruned)
    }

    /// Remove the snapshots before `seq`, and no record: the whole history stays. How many.
    pub fn drop_snapshots_before(&mut self, seq: Seq) -> Result<u64> {
        self.check_sound()?;
        let mut dropped = 0;
        while self.snapshots.first().is_some_and(|&first| first < seq) {
            self.remove(&FileKind::Snapshot.name(self.snapshots[0]))?;
            self.snapshots.remove(0);
            dropped += 1;
        }
        Ok(dropped)
    }

    /// The disk beneath, for its own figures (`available`, `size`).
    pub fn disk(&self) -> &D {
        &self.disk
    }

    fn active(&self) -> &Segment {
        self.segments.last().expect("there is always one")
    }

    fn check_sound(&self) -> Result<()> {
        let Some(reason) = self.poisoned.clone() else {
            return Ok(());
        };
        let folder = self.disk.folder().to_owned();
        Err(Error::Poisoned { folder, reason })
    }

    fn poison(&mut self, reason: String) -> Error {
        let folder = self.disk.folder().to_owned();
        self.poisoned = Some(reason.clone());
        Error::Poisoned { folder, reason }
    }

    /// Cut off what a failed write left behind, so that the next one begins at a good end.
    fn undo_write(&mut self, name: &str, at: u64, needed: u64, source: io::Error) -> Error {
        match self.disk.truncate(name, at) {
            Ok(()) => write_error(&self.disk, name, needed, source),
            Err(error) => self.poison(format!(
                "writing to {name} failed ({source}), and so did cutting it back ({error})"
            )),
        }
    }

    fn begin_segment(&mut self) -> Result<()> {
        let first = self.durable.next();
        let header = FileHeader { magic: SEGMENT_MAGIC, id: self.options.id, seq: first };
        let header = header.encode();
        self.publish(&FileKind::Segment.name(first), &[&header])?;
        self.segments.push(Segment { first, last: self.durable, bytes: header.len() as u64 });
        Ok(())
    }

    fn publish(&mut self, name: &str, parts: &[&[u8]]) -> Result<()> {
        match publish(&mut self.disk, name, parts) {
            Ok(()) => Ok(()),
            Err(PublishError::NotNamed(error)) => Err(error),
            // Pruning, or the next batch, would lean on a file that a crash may take away.
            Err(PublishError::NameNotSynced(error)) => {
                Err(self
                    .poison(format!("syncing the folder after creating {name} failed: {error}")))
            }
        }
    }

    /// Remove a file, durably before the next one: a crash between two must not leave a gap.
    fn remove(&mut self, name: &str) -> Result<()> {
        let removed = self.disk.remove(name);
        removed.map_err(|source| io_error(&self.disk, "remove", name, source))?;
        if let Err(error) = self.disk.sync_folder() {
            let reason = format!("syncing the folder after removing {name} failed: {error}");
            return Err(self.poison(reason));
        }
        Ok(())
    }
}

/// Make what a scan found durable, and cut off what it found torn.
///
/// The last batch is written once more, as it is: were the sync that should have made it durable
/// the one that failed, the kernel would show its bytes and hold them for clean, and no sync
/// would ever write them. Every earlier batch has a later one to prove that its sync succeeded.
fn settle<D: Disk>(disk: &mut D, found: &Scan) -> Result<()> {
    let Some(segment) = found.segments.last() else {
        return Ok(());
    };
    let name = segment.name();
    if found.recovered.cut_bytes > 0 {
        disk.truncate(&name, segment.bytes)
            .map_err(|source| io_error(disk, "truncate", &name, source))?;
    }
    if let Some((at, bytes)) = &found.last_batch {
        disk.write_at(&name, *at, bytes)
            .map_err(|source| write_error(disk, &name, bytes.len() as u64, source))?;
    }
    disk.sync(&name).map_err(|source| io_error(disk, "sync", &name, source))
}
