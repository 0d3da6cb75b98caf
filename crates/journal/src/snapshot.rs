//! Snapshots: a state, written whole, from which a replay may begin.
//!
//! ```text
//! snapshot  header (40 bytes, magic "LINDOSSN", seq = last record taken in)
//!           payload length u64 · payload crc u32 · payload
//! ```
//!
//! A snapshot is written beside its name and renamed onto it once durable, so under its name
//! there is always a whole one, unless the disk has damaged it. Then the one before it serves,
//! which is why [`Journal::prune`](crate::Journal::prune) is never called by the journal itself.

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::files::{FileKind, io_error, refused_header};
use crate::format::{FILE_HEADER, FileHeader, SNAPSHOT_MAGIC, u32_at, u64_at};
use crate::{Seq, Warning};

const LENGTH_AND_CRC: usize = 12;

/// A state and the last record that it has taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Replay begins at the record after this one.
    pub seq: Seq,
    /// The state's bytes.
    pub payload: Vec<u8>,
}

/// The bytes that stand before the payload.
pub(crate) fn encode_header(id: u128, seq: Seq, payload: &[u8]) -> Vec<u8> {
    let header = FileHeader { magic: SNAPSHOT_MAGIC, id, seq };
    let mut out = header.encode();
    out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    out
}

/// Read a snapshot: `Ok(Err(reason))` when it is damaged.
pub(crate) fn read<D: Disk>(
    disk: &D,
    id: Option<u128>,
    seq: Seq,
) -> Result<std::result::Result<Snapshot, &'static str>> {
    let name = FileKind::Snapshot.name(seq);
    let mut bytes = disk.read(&name).map_err(|source| io_error(disk, "read", &name, source))?;
    let header = match FileHeader::decode(&bytes, SNAPSHOT_MAGIC) {
        Ok(header) => header,
        Err(error) => match refused_header(disk, &name, &error) {
            Some(newer) => return Err(newer),
            None => return Ok(Err("its header is damaged")),
        },
    };
    if let Some(expected) = id.filter(|id| *id != header.id) {
        return Err(Error::WrongJournal {
            file: disk.folder().join(&name),
            found: header.id,
            expected,
        });
    }
    let payload = FILE_HEADER + LENGTH_AND_CRC;
    let whole = bytes.len().checked_sub(payload).map(|length| length as u64);
    if whole.is_none() || u64_at(&bytes, FILE_HEADER) != whole {
        return Ok(Err("it is not as long as it says"));
    }
    if u32_at(&bytes, FILE_HEADER + 8) != Some(crc32fast::hash(&bytes[payload..])) {
        return Ok(Err("it fails its checksum"));
    }
    if header.seq != seq {
        return Ok(Err("it was renamed: its header names another record"));
    }
    bytes.drain(..payload);
    Ok(Ok(Snapshot { seq, payload: bytes }))
}

/// The newest of `snapshots` (ascending) that can be read back and from which the records that
/// are there (`oldest` and later) continue. What had to be passed over is added to `warnings`.
pub(crate) fn newest<D: Disk>(
    disk: &D,
    id: Option<u128>,
    snapshots: &[Seq],
    oldest: Seq,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Snapshot>> {
    for seq in snapshots.iter().rev() {
        if seq.next() < oldest {
            break;
        }
        match read(disk, id, *seq)? {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(reason) => warnings.push(Warning::SnapshotDamaged {
                file: disk.folder().join(FileKind::Snapshot.name(*seq)),
                reason,
            }),
        }
    }
    Ok(None)
}
