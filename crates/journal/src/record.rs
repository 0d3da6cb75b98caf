//! The typed layer: what a record must be able to do to be journalled.
//!
//! It is thin on purpose. Which records there are, and how their versions evolve, is the matter
//! of whoever owns the type (`RecordV1`…, with golden files of every version); here is only the
//! place where bytes become a type again, and a refusal names the record.

use crate::Seq;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::records::Records;

/// Something that can be journalled.
pub trait Record: Sized {
    /// Append this record's bytes to `out`, and do nothing else to it.
    fn encode(&self, out: &mut Vec<u8>);

    /// The record of these bytes, all of them.
    fn decode(bytes: &[u8]) -> std::result::Result<Self, DecodeError>;
}

/// Why bytes, though undamaged, are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

impl<'a, D: Disk> Records<'a, D> {
    /// The same records, decoded.
    pub fn decoded<R: Record>(self) -> Decoded<'a, D, R> {
        Decoded { records: self, record: std::marker::PhantomData }
    }
}

/// Records of a type, in order. After an error there is nothing more.
#[derive(Debug)]
pub struct Decoded<'a, D, R> {
    records: Records<'a, D>,
    record: std::marker::PhantomData<fn() -> R>,
}

impl<D: Disk, R: Record> Iterator for Decoded<'_, D, R> {
    type Item = Result<(Seq, R)>;

    fn next(&mut self) -> Option<Self::Item> {
        let (seq, payload) = match self.records.next_record().transpose()? {
            Ok(record) => record,
            Err(error) => return Some(Err(error)),
        };
        let decoded = R::decode(payload);
        if decoded.is_err() {
            self.records.stop();
        }
        let named = |DecodeError(reason)| Error::Undecodable { seq, reason };
        Some(decoded.map(|record| (seq, record)).map_err(named))
    }
}
