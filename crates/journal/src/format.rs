//! The bytes of a segment, and how a torn tail is told from a damaged one.
//!
//! All numbers are little-endian. A segment is a header and then batches, back to back:
//!
//! ```text
//! segment  magic "LINDOSJL" · version u32 · journal id u128 · first seq u64 · crc u32  (40 bytes)
//! batch    magic "BATC" · body bytes u32 · records u32 · first seq u64 · crc u32   (24 bytes)
//!          body: the records
//!          marker: the header's crc u32 · "DONE"                                  (8 bytes)
//! record   length u32 · crc u32 over (length, seq, payload) · seq u64 · payload
//! ```
//!
//! One commit writes one batch, so a crash leaves a *prefix* of the last batch, which some file
//! systems fill up with zeros to the length they had promised. That, and nothing else, is
//! [`Parsed::Torn`](crate::batch::Parsed::Torn). Bytes that are present and wrong were not left by a crash: they are
//! [`Parsed::Bad`](crate::batch::Parsed::Bad). The marker ends in bytes that are not zero, so no single flipped bit in a
//! whole batch can look like a tear.

use crate::Seq;

/// The newest version of the on-disk format that this code writes, and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The longest payload of one record: larger things belong in a snapshot or an object store.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// The longest batch; its length must fit the header's `u32`.
pub const BATCH_BYTES_MAX: usize = 512 << 20;

pub(crate) const FILE_HEADER: usize = 40;
pub(crate) const BATCH_HEADER: usize = 24;
pub(crate) const BATCH_MARKER: usize = 8;
pub(crate) const RECORD_HEADER: usize = 16;

pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"LINDOSJL";
pub(crate) const SNAPSHOT_MAGIC: [u8; 8] = *b"LINDOSSN";

// ── Reading numbers ─────────────────────────────────────────────────────────────────────────

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    Some(u32::from_le_bytes(bytes.get(at..end)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let end = at.checked_add(8)?;
    Some(u64::from_le_bytes(bytes.get(at..end)?.try_into().ok()?))
}

pub(crate) fn u128_at(bytes: &[u8], at: usize) -> Option<u128> {
    let end = at.checked_add(16)?;
    Some(u128::from_le_bytes(bytes.get(at..end)?.try_into().ok()?))
}

// ── File header ─────────────────────────────────────────────────────────────────────────────

/// What stands at the head of a segment (where `seq` is its first record) and of a snapshot
/// (where it is the last record that the state has taken in).
///
/// **These forty bytes stay as they are in every version to come**, so that an older program can
/// tell a newer folder from a damaged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub magic: [u8; 8],
    pub id: u128,
    pub seq: Seq,
}

/// Why a file's header was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Newer(u32),
    Bad(&'static str),
}

impl FileHeader {
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FILE_HEADER);
        out.extend_from_slice(&self.magic);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.seq.0.to_le_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// A file gets its name only once its header is durable, so a short header is damage too.
    pub fn decode(bytes: &[u8], magic: [u8; 8]) -> Result<Self, HeaderError> {
        const SHORT: HeaderError = HeaderError::Bad("its header is cut short");
        let version = u32_at(bytes, 8).ok_or(SHORT)?;
        let id = u128_at(bytes, 12).ok_or(SHORT)?;
        let seq = Seq(u64_at(bytes, 28).ok_or(SHORT)?);
        let crc = u32_at(bytes, 36).ok_or(SHORT)?;
        if bytes[..8] != magic {
            return Err(HeaderError::Bad("it does not begin as such a file does"));
        }
        if crc != crc32fast::hash(&bytes[..36]) {
            return Err(HeaderError::Bad("its header fails its checksum"));
        }
        match version {
            FORMAT_VERSION => Ok(Self { magic, id, seq }),
            0 => Err(HeaderError::Bad("its version is 0, which never was")),
            newer => Err(HeaderError::Newer(newer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_is_told_from_a_damaged_one() {
        let header = FileHeader { magic: SEGMENT_MAGIC, id: 9, seq: Seq(4) };
        let mut bytes = header.encode();
        assert_eq!(bytes.len(), FILE_HEADER);
        assert_eq!(FileHeader::decode(&bytes, SEGMENT_MAGIC), Ok(header));
        bytes[8] = 2;
        let decoded = FileHeader::decode(&bytes, SEGMENT_MAGIC);
        assert!(matches!(decoded, Err(HeaderError::Bad(_))));
        let crc = crc32fast::hash(&bytes[..36]).to_le_bytes();
        bytes[36..].copy_from_slice(&crc);
        let decoded = FileHeader::decode(&bytes, SEGMENT_MAGIC);
        assert_eq!(decoded, Err(HeaderError::Newer(2)));
    }
}
