//! A small journal, and what can be read back of one.
#![allow(dead_code, reason = "each test binary uses some of it")]

use lindos_journal::{Disk, Error, Journal, MemoryDisk, Options, Recovered, Seq};

pub const ID: u128 = 0x00c0_1055;

/// Tiny segments, so that a handful of records span several.
pub fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, ..Options::new(ID) }
}

pub fn open(disk: &MemoryDisk, options: Options) -> (Journal<MemoryDisk>, Recovered) {
    Journal::open(disk.clone(), options).expect("it opens")
}

/// Payloads of several lengths, some of them ending in zeros.
pub fn payload(seq: u64) -> Vec<u8> {
    let mut bytes = format!("record {seq}").into_bytes();
    bytes.extend(std::iter::repeat_n(0, (seq % 3) as usize));
    bytes
}

/// Commit `batches`, a number of records each.
pub fn fill<D: Disk>(journal: &mut Journal<D>, batches: &[u64]) {
    for records in batches {
        for _ in 0..*records {
            let next = journal.durable().0 + u64::from(journal.pending()) + 1;
            journal.append(&payload(next)).expect("there is room");
        }
        journal.commit().expect("there is room");
    }
}

/// Every record that is there, checked to be the one that was written; returns the last.
pub fn check_records<D: Disk>(journal: &Journal<D>, first: u64) -> u64 {
    let mut next = first;
    for entry in journal.iter_from(Seq(first)).expect("it is there") {
        let entry = entry.expect("it verifies");
        assert_eq!(entry.seq, Seq(next));
        assert_eq!(entry.payload, payload(next), "a wrong record");
        next += 1;
    }
    assert_eq!(journal.durable(), Seq(next - 1));
    next - 1
}

/// Open a copy of the folder. On success every record is checked and the last one returned; an
/// error must have left the folder as it was.
pub fn reopen(disk: &MemoryDisk, options: Options) -> Result<(u64, Recovered), Error> {
    let copy = disk.fork();
    let before = copy.files();
    match Journal::open(copy.clone(), options) {
        Ok((journal, recovered)) => {
            let last = check_records(&journal, recovered.first.0);
            Ok((last, recovered))
        }
        Err(error) => {
            assert_eq!(copy.files(), before, "an error changed the folder: {error}");
            assert!(error.to_string().contains("hint: "), "no hint: {error}");
            Err(error)
        }
    }
}
