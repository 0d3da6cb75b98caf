//! Files of every format version there ever was, byte for byte.
//!
//! The bytes under `golden/v1` are what version 1 writes. They must stay readable for ever; when
//! a version 2 comes, they stay where they are and get a neighbour. To write them for a new
//! version: `UPDATE_GOLDEN=1 cargo test -p lindos-journal --test golden`.

mod common;

use common::{check_records, fill, open, options};
use lindos_journal::{MemoryDisk, Seq};

fn golden() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

#[test]
fn version_1_is_read_and_written_byte_for_byte() {
    let disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, options(150));
    fill(&mut journal, &[3, 1, 2]);
    journal.snapshot(Seq(4), b"the state after record 4").unwrap();
    drop(journal);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden()).unwrap();
        for (name, bytes) in disk.files() {
            std::fs::write(golden().join(name), bytes).unwrap();
        }
    }

    let stored = MemoryDisk::new();
    for entry in std::fs::read_dir(golden()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        stored.put(&name, &std::fs::read(entry.path()).unwrap());
    }
    assert_eq!(stored.files().len(), 3);
    assert_eq!(stored.files(), disk.files(), "version 1 is no longer written as it was");
    let (journal, _) = open(&stored, options(150));
    assert_eq!(check_records(&journal, 1), 6);
    let snapshot = journal.latest_snapshot().unwrap().unwrap();
    assert_eq!(snapshot.payload, b"the state after record 4");
}
