//! Append + commit at several batch sizes, and replay. `cargo bench -p lindos-journal`.
//!
//! The folder is a temporary one: set `TMPDIR` to the disk that is to be measured, since on a
//! tmpfs a sync costs nothing.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use lindos_journal::{Journal, MemoryDisk, Options, Reader, RealDisk, Seq};

/// An event's usual size once encoded.
const PAYLOAD: [u8; 120] = [0x5a; 120];
const REPLAYED: u64 = 200_000;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 64, 1024], sample_count = 200, sample_size = 1)]
fn append_and_commit(bencher: Bencher, batch: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = RealDisk::create(folder.path()).expect("just made");
    let (mut journal, _) = Journal::open(disk, Options::new(1)).expect("it is empty");
    bencher.counter(ItemsCount::new(batch)).bench_local(|| {
        for _ in 0..batch {
            journal.append(black_box(&PAYLOAD)).expect("there is room");
        }
        journal.commit().expect("there is room")
    });
}

/// What the journal itself costs, without the disk.
#[divan::bench(args = [1, 64, 1024])]
fn append_alone(bencher: Bencher, batch: usize) {
    let (mut journal, _) = Journal::open(MemoryDisk::new(), Options::new(1)).expect("it is empty");
    bencher.counter(ItemsCount::new(batch)).bench_local(|| {
        for _ in 0..batch {
            journal.append(black_box(&PAYLOAD)).expect("there is room");
        }
        journal.discard()
    });
}

fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = RealDisk::create(folder.path()).expect("just made");
    let (mut journal, _) = Journal::open(disk, Options::new(1)).expect("it is empty");
    for record in 1..=REPLAYED {
        journal.append(&PAYLOAD).expect("there is room");
        if record % 1024 == 0 {
            journal.commit().expect("there is room");
        }
    }
    journal.commit().expect("there is room");
    folder
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn open_and_check(bencher: Bencher) {
    let folder = filled();
    bencher.counter(BytesCount::new(REPLAYED * 136)).bench_local(|| {
        let disk = RealDisk::existing(folder.path()).expect("just filled");
        Reader::open(disk, None).expect("it is sound").1
    });
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn replay(bencher: Bencher) {
    let folder = filled();
    let disk = RealDisk::existing(folder.path()).expect("just filled");
    let (reader, _) = Reader::open(disk, None).expect("it is sound");
    bencher.counter(ItemsCount::new(REPLAYED)).bench_local(|| {
        let mut records = reader.iter_from(Seq(1)).expect("it is there");
        let mut sum = 0;
        while let Some((seq, payload)) = records.next_record().expect("it is sound") {
            sum += seq.0 + u64::from(payload[7]);
        }
        sum
    });
}
