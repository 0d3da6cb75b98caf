//! Reading records in order, from any of them on.

use crate::Seq;
use crate::batch::{Parsed, checked_record, parse_batch};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::files::io_error;
use crate::format::FILE_HEADER;
use crate::scan::Segment;

/// One record, with a payload of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: Seq,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// Durable records in order.
///
/// As an [`Iterator`] it hands out copies; [`Records::next_record`] lends each payload instead,
/// which is what a replay of a hundred million records wants. Every byte is checked again as it
/// is read. After an error there is nothing more.
#[derive(Debug)]
pub struct Records<'a, D> {
    disk: &'a D,
    /// Those not begun yet.
    segments: &'a [Segment],
    name: String,
    bytes: Vec<u8>,
    /// The next record in `bytes`, and where the checked batch around it ends.
    at: usize,
    body_end: usize,
    batch_end: usize,
    /// The number of the record at `at`.
    next: Seq,
    /// The first to hand out.
    from: Seq,
}

impl<'a, D: Disk> Records<'a, D> {
    pub(crate) fn new(disk: &'a D, segments: &'a [Segment], from: Seq) -> Result<Self> {
        let from = from.max(Seq(1));
        if let Some(first) = segments.first().filter(|segment| from < segment.first) {
            return Err(Error::Pruned { asked: from, oldest: first.first });
        }
        let skipped = segments.partition_point(|segment| segment.last < from);
        Ok(Self {
            disk,
            segments: &segments[skipped..],
            name: String::new(),
            bytes: Vec::new(),
            at: 0,
            body_end: 0,
            batch_end: 0,
            next: from,
            from,
        })
    }

    /// The next record, its payload lent until the next call; `None` after the last.
    pub fn next_record(&mut self) -> Result<Option<(Seq, &[u8])>> {
        loop {
            while self.at == self.body_end {
                match self.next_batch() {
                    Ok(true) => {}
                    Ok(false) => return Ok(None),
                    Err(error) => {
                        self.stop();
                        return Err(error);
                    }
                }
            }
            let (seq, payload) = checked_record(&self.bytes, self.at);
            assert_eq!(seq, self.next, "parse_batch accepted the order");
            self.at = payload.end;
            self.next = seq.next();
            if seq >= self.from {
                return Ok(Some((seq, &self.bytes[payload])));
            }
        }
    }

    /// Hand out nothing more.
    pub(crate) fn stop(&mut self) {
        self.segments = &[];
        self.at = self.body_end;
        self.batch_end = self.bytes.len();
    }

    /// Step into the next batch, in this segment or the next; `false` after the last.
    fn next_batch(&mut self) -> Result<bool> {
        while self.batch_end == self.bytes.len() {
            let Some((segment, rest)) = self.segments.split_first() else {
                return Ok(false);
            };
            self.segments = rest;
            self.name = segment.name();
            self.bytes = self
                .disk
                .read(&self.name)
                .map_err(|source| io_error(self.disk, "read", &self.name, source))?;
            // What lies beyond was not there, or not durable, when the folder was opened.
            self.bytes.truncate(segment.bytes as usize);
            self.batch_end = FILE_HEADER.min(self.bytes.len());
            self.next = segment.first;
            if (self.bytes.len() as u64) < segment.bytes {
                return Err(self.changed(self.bytes.len(), segment.first, "it is shorter now"));
            }
        }
        match parse_batch(&self.bytes, self.batch_end, self.next) {
            Parsed::Batch(batch) => {
                self.at = batch.body;
                self.body_end = batch.body_end;
                self.batch_end = batch.end;
                Ok(true)
            }
            Parsed::Bad { offset, seq, reason } => Err(self.changed(offset, seq, reason)),
            Parsed::Torn | Parsed::End => {
                Err(self.changed(self.batch_end, self.next, "a batch lacks its end"))
            }
        }
    }

    fn changed(&self, offset: usize, seq: Seq, reason: &str) -> Error {
        Error::Corrupt {
            file: self.disk.folder().join(&self.name),
            offset: offset as u64,
            seq,
            reason: reason.to_owned(),
            hint: "the file changed after it was opened and checked: check the disk, and that no \
                   other program writes there",
        }
    }
}

impl<D: Disk> Iterator for Records<'_, D> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.next_record().transpose()?;
        Some(record.map(|(seq, payload)| Entry { seq, payload: payload.to_vec() }))
    }
}
