//! One commit's records as bytes, and back: see [`format`](crate::format) for the layout.
//!
//! [`parse_batch`] is the one place where torn is told from damaged. It trusts nothing that it
//! has not checked, and does not panic on any bytes.

use crate::Seq;
use crate::format::{BATCH_BYTES_MAX, BATCH_HEADER, BATCH_MARKER, RECORD_HEADER, u32_at, u64_at};

const BATCH_MAGIC: &[u8; 4] = b"BATC";
const DONE: &[u8; 4] = b"DONE";

// ── Writing a batch ─────────────────────────────────────────────────────────────────────────

/// One commit's records, laid out as they will stand on disk.
#[derive(Debug)]
pub(crate) struct BatchBuffer {
    /// Room for the header, then the records.
    bytes: Vec<u8>,
    records: u32,
}

impl Default for BatchBuffer {
    fn default() -> Self {
        Self { bytes: vec![0; BATCH_HEADER], records: 0 }
    }
}

impl BatchBuffer {
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Length on disk, header and marker included.
    pub fn disk_bytes(&self) -> usize {
        self.bytes.len() + BATCH_MARKER
    }

    pub fn clear(&mut self) {
        self.bytes.truncate(BATCH_HEADER);
        self.records = 0;
    }

    /// Let `write` append one payload in place. Returns the length that it wrote; when
    /// `accept(payload length, batch length)` refuses, the batch is as it was before.
    pub fn push(
        &mut self,
        seq: Seq,
        write: impl FnOnce(&mut Vec<u8>),
        accept: impl FnOnce(usize, usize) -> bool,
    ) -> Result<(), usize> {
        let start = self.bytes.len();
        self.bytes.resize(start + RECORD_HEADER, 0);
        write(&mut self.bytes);
        let body = start + RECORD_HEADER;
        assert!(self.bytes.len() >= body, "an encoder may only append to the buffer it is given");
        let payload = self.bytes.len() - body;
        if !accept(payload, self.disk_bytes()) {
            self.bytes.truncate(start);
            return Err(payload);
        }
        let length = (payload as u32).to_le_bytes();
        self.bytes[start..start + 4].copy_from_slice(&length);
        self.bytes[start + 8..body].copy_from_slice(&seq.0.to_le_bytes());
        let crc = record_crc(length, &self.bytes[start + 8..]);
        self.bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        self.records += 1;
        Ok(())
    }

    /// The whole batch, header and marker filled in. Call [`Self::unseal`] before pushing again.
    pub fn seal(&mut self, first: Seq) -> &[u8] {
        let body = (self.bytes.len() - BATCH_HEADER) as u32;
        self.bytes[..4].copy_from_slice(BATCH_MAGIC);
        self.bytes[4..8].copy_from_slice(&body.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&self.records.to_le_bytes());
        self.bytes[12..20].copy_from_slice(&first.0.to_le_bytes());
        let crc = crc32fast::hash(&self.bytes[..20]).to_le_bytes();
        self.bytes[20..24].copy_from_slice(&crc);
        self.bytes.extend_from_slice(&crc);
        self.bytes.extend_from_slice(DONE);
        &self.bytes
    }

    pub fn unseal(&mut self) {
        self.bytes.truncate(self.bytes.len() - BATCH_MARKER);
    }
}

fn record_crc(length: [u8; 4], seq_and_payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(seq_and_payload);
    hasher.finalize()
}

// ── Reading a batch ─────────────────────────────────────────────────────────────────────────

/// A batch whose every byte has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Where its first record begins.
    pub body: usize,
    /// Where its marker begins.
    pub body_end: usize,
    /// Where the next batch begins.
    pub end: usize,
    pub last: Seq,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Batch(Batch),
    /// The file ends here, between two batches.
    End,
    /// What is here is the beginning of a batch whose end was never written.
    Torn,
    /// What is here was written and is not what was written.
    Bad {
        offset: usize,
        seq: Seq,
        reason: &'static str,
    },
}

/// Parse and check the batch at `at`, whose first record must be `expected`.
pub(crate) fn parse_batch(bytes: &[u8], at: usize, expected: Seq) -> Parsed {
    if at == bytes.len() {
        return Parsed::End;
    }
    let body = at + BATCH_HEADER;
    if body > bytes.len() {
        return Parsed::Torn;
    }
    // `end` is where the unit that looks wrong ends: if its last byte and all that follows are
    // zeros, it was never written to its end.
    let bad = |end: usize, offset: usize, seq: Seq, reason: &'static str| {
        if bytes[end - 1..].iter().all(|byte| *byte == 0) {
            Parsed::Torn
        } else {
            Parsed::Bad { offset, seq, reason }
        }
    };
    let Some(header) = BatchHeader::decode(&bytes[at..body]) else {
        return bad(body, at, expected, "the batch header fails its checksum");
    };
    if header.first != expected {
        let reason = "the batch is not the next one: records are missing, or stand twice";
        return bad(body, at, expected, reason);
    }
    let body_end = body + header.body_bytes;
    let mut next = body;
    let mut seq = expected;
    for _ in 0..header.records {
        let payload = next + RECORD_HEADER;
        if payload > body_end {
            return bad(body, next, seq, "the batch holds fewer records than it says");
        }
        if payload > bytes.len() {
            return Parsed::Torn;
        }
        let length = [bytes[next], bytes[next + 1], bytes[next + 2], bytes[next + 3]];
        let end = payload + u32::from_le_bytes(length) as usize;
        if end > body_end {
            return bad(payload, next, seq, "the record is longer than its batch");
        }
        if end > bytes.len() {
            return Parsed::Torn;
        }
        if u32_at(bytes, next + 4) != Some(record_crc(length, &bytes[next + 8..end])) {
            return bad(end, next, seq, "the record fails its checksum");
        }
        if u64_at(bytes, next + 8) != Some(seq.0) {
            return bad(end, next, seq, "the record has another one's number");
        }
        next = end;
        seq = seq.next();
    }
    if next != body_end {
        return bad(next, next, seq, "the batch holds more bytes than its records");
    }
    let end = body_end + BATCH_MARKER;
    if end > bytes.len() {
        return Parsed::Torn;
    }
    let header_crc = &bytes[body - 4..body];
    if &bytes[body_end..body_end + 4] != header_crc || &bytes[body_end + 4..end] != DONE {
        return bad(end, body_end, seq, "the batch's end marker is damaged");
    }
    Parsed::Batch(Batch { body, body_end, end, last: Seq(seq.0 - 1) })
}

/// The record at `at` in the body of a batch that [`parse_batch`] accepted, and where it ends.
pub(crate) fn checked_record(bytes: &[u8], at: usize) -> (Seq, std::ops::Range<usize>) {
    let length = u32_at(bytes, at).expect("parse_batch accepted the length") as usize;
    let seq = u64_at(bytes, at + 8).expect("parse_batch accepted the seq");
    let payload = at + RECORD_HEADER;
    (Seq(seq), payload..payload + length)
}

/// Whether a batch that begins after `after` starts anywhere in `bytes[from..]`: then what stands
/// before it was once acknowledged, and is not a tail that may be cut.
pub(crate) fn later_batch(bytes: &[u8], from: usize, after: Seq) -> Option<Seq> {
    let tail = bytes.get(from..)?;
    tail.windows(BATCH_HEADER)
        .filter(|window| window.starts_with(BATCH_MAGIC))
        .filter_map(BatchHeader::decode)
        .map(|header| header.first)
        .find(|first| *first > after)
}

struct BatchHeader {
    body_bytes: usize,
    records: u32,
    first: Seq,
}

impl BatchHeader {
    /// `None` for anything that no commit ever wrote, a checksum that happens to fit included.
    fn decode(bytes: &[u8]) -> Option<Self> {
        if !bytes.starts_with(BATCH_MAGIC) || u32_at(bytes, 20)? != crc32fast::hash(&bytes[..20]) {
            return None;
        }
        let header = Self {
            body_bytes: u32_at(bytes, 4)? as usize,
            records: u32_at(bytes, 8)?,
            first: Seq(u64_at(bytes, 12)?),
        };
        let possible = header.records > 0
            && header.body_bytes >= header.records as usize * RECORD_HEADER
            && header.body_bytes <= BATCH_BYTES_MAX
            && header.first.0.checked_add(u64::from(header.records)).is_some();
        possible.then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first: u64, payloads: &[&[u8]]) -> Vec<u8> {
        let mut buffer = BatchBuffer::default();
        for (index, payload) in payloads.iter().enumerate() {
            let seq = Seq(first + index as u64);
            buffer.push(seq, |out| out.extend_from_slice(payload), |_, _| true).unwrap();
        }
        buffer.seal(Seq(first)).to_vec()
    }

    #[test]
    fn a_batch_reads_back_as_it_was_written() {
        let bytes = batch(7, &[b"one", b"", b"three"]);
        let Parsed::Batch(parsed) = parse_batch(&bytes, 0, Seq(7)) else {
            panic!("not accepted");
        };
        assert_eq!(parsed.end, bytes.len());
        assert_eq!(parsed.last, Seq(9));
        let (seq, payload) = checked_record(&bytes, parsed.body);
        assert_eq!((seq, &bytes[payload]), (Seq(7), &b"one"[..]));
        assert_eq!(parse_batch(&bytes, bytes.len(), Seq(10)), Parsed::End);
    }

    #[test]
    fn every_prefix_is_torn_even_when_zeros_fill_it_up() {
        // Payloads that end in zeros make the tear hardest to see.
        let bytes = batch(1, &[b"a\0\0\0", b"\0\0\0\0", b"zz"]);
        for cut in 1..bytes.len() {
            assert_eq!(parse_batch(&bytes[..cut], 0, Seq(1)), Parsed::Torn, "{cut}");
            for filled in [cut + 1, bytes.len(), bytes.len() + 100] {
                let mut zeros = bytes[..cut].to_vec();
                zeros.resize(filled.max(cut), 0);
                assert_eq!(parse_batch(&zeros, 0, Seq(1)), Parsed::Torn, "{cut} {filled}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_damage_and_not_a_tear() {
        let bytes = batch(1, &[b"a\0\0\0", b"\0\0\0\0", b"zz"]);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let parsed = parse_batch(&flipped, 0, Seq(1));
            assert!(matches!(parsed, Parsed::Bad { .. }), "bit {bit}: {parsed:?}");
        }
    }

    #[test]
    fn a_number_is_checked_in_the_header_and_in_the_record() {
        for (header, record) in [(4, 5), (5, 4), (4, 4), (6, 6)] {
            let mut buffer = BatchBuffer::default();
            buffer.push(Seq(record), |out| out.push(1), |_, _| true).unwrap();
            let bytes = buffer.seal(Seq(header));
            let parsed = parse_batch(bytes, 0, Seq(5));
            assert!(matches!(parsed, Parsed::Bad { seq: Seq(5), .. }), "{parsed:?}");
        }
    }

    #[test]
    fn a_refused_record_leaves_the_batch_as_it_was() {
        let mut buffer = BatchBuffer::default();
        let before = buffer.disk_bytes();
        let refused = buffer.push(Seq(1), |out| out.extend_from_slice(b"xyz"), |_, _| false);
        assert_eq!(refused, Err(3));
        assert_eq!((buffer.disk_bytes(), buffer.records()), (before, 0));
    }

    #[test]
    fn a_later_batch_is_found_behind_damage() {
        let mut bytes = batch(1, &[b"first"]);
        bytes[3] ^= 1;
        assert_eq!(later_batch(&bytes, 1, Seq(1)), None);
        bytes.extend(batch(2, &[b"second"]));
        assert_eq!(later_batch(&bytes, 1, Seq(1)), Some(Seq(2)));
    }
}
