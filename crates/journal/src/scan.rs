//! Reading a whole folder back: what is good, what is torn, what is damaged.
//!
//! A scan changes nothing. [`Journal::open`](crate::Journal::open) carries out what it found;
//! [`Reader::open`](crate::Reader::open) only looks.

use std::path::PathBuf;

use crate::Seq;
use crate::batch::{Parsed, later_batch, parse_batch};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::files::{FileKind, Listing, io_error, refused_header};
use crate::format::{BATCH_BYTES_MAX, FILE_HEADER, FileHeader, HeaderError, SEGMENT_MAGIC};
use crate::snapshot;

/// The largest size at which a segment may be closed; with one batch more, no file is longer.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 1 << 30;

const HINT_MIDDLE: &str = "acknowledged records are damaged: restore this file from a copy or a \
     standby, or the whole folder from a backup; nothing was changed on disk";
const HINT_TAIL: &str = "this is the last batch, and it may never have been acknowledged: restore \
     the file from a copy, or open with `DamagedTail::Cut` to drop the batch; nothing was \
     changed on disk";
const HINT_GONE: &str = "restore the missing files from a copy or a standby; nothing was changed \
     on disk";

/// What to do with a last batch that is all there and does not verify.
///
/// A crash on a disk that keeps its word leaves a *short* last batch, which is always cut. A
/// damaged one of full length is either an acknowledged batch gone bad, or the work of a disk
/// that writes out of order; from the bytes alone nobody can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DamagedTail {
    /// Report [`Error::Corrupt`] and let a person decide.
    #[default]
    Refuse,
    /// Drop that batch, if nothing valid follows it.
    Cut,
}

/// Something a person should look at, though the journal opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A snapshot cannot be read back; an older one, or a longer replay, stands in for it.
    SnapshotDamaged {
        /// Its file.
        file: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// [`DamagedTail::Cut`] dropped a damaged last batch, which may have been acknowledged.
    DamagedTailCut {
        /// The segment.
        file: PathBuf,
        /// The first record that was dropped.
        seq: Seq,
        /// What was wrong with it.
        reason: &'static str,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SnapshotDamaged { file, reason } => {
                let file = file.display();
                write!(f, "the snapshot {file} was passed over: {reason}")
            }
            Self::DamagedTailCut { file, seq, reason } => {
                let file = file.display();
                write!(f, "the last batch of {file}, from record {seq}, was dropped: {reason}")
            }
        }
    }
}

/// What was found in the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The oldest record that is there; one past [`Self::last`] when there is none.
    pub first: Seq,
    /// The last record; `Seq(0)` in a new journal.
    pub last: Seq,
    /// The newest snapshot that can be read back: replay from it.
    pub snapshot: Option<Seq>,
    /// Bytes of an unfinished batch at the very end. None of its records had been acknowledged.
    /// The journal has cut them off; a reader leaves them there.
    pub cut_bytes: u64,
    /// What a person should look at.
    pub warnings: Vec<Warning>,
}

/// A segment, and how far into it the good bytes reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub first: Seq,
    /// `first - 1` when it holds no record.
    pub last: Seq,
    pub bytes: u64,
}

impl Segment {
    pub fn name(&self) -> String {
        FileKind::Segment.name(self.first)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub id: Option<u128>,
    pub segments: Vec<Segment>,
    /// The last segment's last batch, if it has one: where it begins, and its bytes.
    pub last_batch: Option<(u64, Vec<u8>)>,
    pub listing: Listing,
    pub recovered: Recovered,
}

/// Read and check everything in the folder. `id`: the journal that it must be.
pub(crate) fn scan<D: Disk>(disk: &D, id: Option<u128>, tail: DamagedTail) -> Result<Scan> {
    let listing = Listing::of(disk)?;
    let mut scan = Scan { id, ..Scan::default() };
    for (index, first) in listing.segments.iter().enumerate() {
        scan.check_follows(disk, *first)?;
        let is_last = index + 1 == listing.segments.len();
        scan.read_segment(disk, *first, is_last, tail)?;
    }
    let end = scan.segments.last();
    scan.recovered.last = end.map_or(Seq(0), |segment| segment.last);
    let oldest = scan.segments.first();
    scan.recovered.first = oldest.map_or(Seq(1), |segment| segment.first);
    scan.check_snapshots(disk, &listing)?;
    scan.listing = listing;
    Ok(scan)
}

impl Scan {
    /// No segment is missing before the one that begins at `first`.
    fn check_follows<D: Disk>(&self, disk: &D, first: Seq) -> Result<()> {
        let Some(before) = self.segments.last() else {
            return Ok(());
        };
        let expected = before.last.next();
        if first == expected {
            return Ok(());
        }
        Err(Error::Corrupt {
            file: disk.folder().join(before.name()),
            offset: before.bytes,
            seq: expected,
            reason: format!("the next segment begins at record {first}: those between are missing"),
            hint: HINT_GONE,
        })
    }

    fn read_segment<D: Disk>(
        &mut self,
        disk: &D,
        first: Seq,
        is_last: bool,
        tail: DamagedTail,
    ) -> Result<()> {
        let name = FileKind::Segment.name(first);
        let file = disk.folder().join(&name);
        let corrupt = |offset: usize, seq: Seq, reason: &str, hint| Error::Corrupt {
            file: file.clone(),
            offset: offset as u64,
            seq,
            reason: reason.to_owned(),
            hint,
        };
        let size = disk.size(&name).map_err(|source| io_error(disk, "read", &name, source))?;
        if size > SEGMENT_BYTES_MAX + BATCH_BYTES_MAX as u64 {
            let reason = "the file is longer than a segment can be";
            return Err(corrupt(0, first, reason, HINT_MIDDLE));
        }
        let bytes = disk.read(&name).map_err(|source| io_error(disk, "read", &name, source))?;
        let header = FileHeader::decode(&bytes, SEGMENT_MAGIC).map_err(|error| {
            refused_header(disk, &name, &error).unwrap_or_else(|| {
                let HeaderError::Bad(reason) = error else { unreachable!("refused above") };
                corrupt(0, first, reason, HINT_MIDDLE)
            })
        })?;
        let expected = *self.id.get_or_insert(header.id);
        if header.id != expected {
            let found = header.id;
            return Err(Error::WrongJournal { file, found, expected });
        }
        if header.seq != first || first == Seq(0) {
            let reason = "the file was renamed: its header names another record";
            return Err(corrupt(0, first, reason, HINT_MIDDLE));
        }

        let mut at = FILE_HEADER;
        let mut next = first;
        let mut last_batch = None;
        loop {
            match parse_batch(&bytes, at, next) {
                Parsed::Batch(batch) => {
                    last_batch = Some(at..batch.end);
                    at = batch.end;
                    next = batch.last.next();
                }
                Parsed::End => break,
                Parsed::Torn if is_last => break,
                Parsed::Torn => {
                    let reason = "the segment ends within a batch, and another segment follows";
                    return Err(corrupt(at, next, reason, HINT_MIDDLE));
                }
                Parsed::Bad { offset, seq, reason } => {
                    if !is_last || later_batch(&bytes, at + 1, next).is_some() {
                        return Err(corrupt(offset, seq, reason, HINT_MIDDLE));
                    }
                    if tail == DamagedTail::Refuse {
                        return Err(corrupt(offset, seq, reason, HINT_TAIL));
                    }
                    let warning = Warning::DamagedTailCut { file, seq: next, reason };
                    self.recovered.warnings.push(warning);
                    break;
                }
            }
        }
        self.recovered.cut_bytes = (bytes.len() - at) as u64;
        self.last_batch = last_batch.map(|range| (range.start as u64, bytes[range].to_vec()));
        self.segments.push(Segment { first, last: Seq(next.0 - 1), bytes: at as u64 });
        Ok(())
    }

    /// There is a state to begin from, and the records reach as far as the snapshots.
    fn check_snapshots<D: Disk>(&mut self, disk: &D, listing: &Listing) -> Result<()> {
        let Recovered { first, last, .. } = self.recovered;
        let warnings = &mut self.recovered.warnings;
        let found = snapshot::newest(disk, self.id, &listing.snapshots, first, warnings)?;
        let missing = |seq: Seq, reason: String| Error::Corrupt {
            file: disk.folder().to_owned(),
            offset: 0,
            seq,
            reason,
            hint: HINT_GONE,
        };
        self.recovered.snapshot = found.map(|snapshot| snapshot.seq);
        if self.segments.is_empty() && !listing.snapshots.is_empty() {
            let reason = "there are snapshots, but no segment".to_owned();
            return Err(missing(Seq(1), reason));
        }
        match self.recovered.snapshot {
            Some(seq) if seq > last => {
                let reason = format!("the records end here, but a snapshot was taken at {seq}");
                Err(missing(last.next(), reason))
            }
            None if first > Seq(1) => {
                let reason = format!(
                    "the records before {first} are gone, and no snapshot that can be read back \
                     stands in for them"
                );
                Err(missing(Seq(1), reason))
            }
            _ => Ok(()),
        }
    }
}
