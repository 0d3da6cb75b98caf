//! A journal's life in a folder: rotation, snapshots, pruning, locks, readers, typed records.

mod common;

use common::{ID, check_records, fill, open, options, payload, reopen};
use lindos_journal::{
    DecodeError, Disk as _, Error, Fault, Journal, MemoryDisk, Options, Reader, RealDisk, Record,
    Recovered, Seq, Warning,
};

#[test]
fn a_new_journal_is_empty_and_stays_so() {
    let disk = MemoryDisk::new();
    for _ in 0..2 {
        let (mut journal, recovered) = open(&disk, Options::new(ID));
        let expected = Recovered { first: Seq(1), ..Recovered::default() };
        assert_eq!(recovered, expected);
        assert_eq!(journal.commit().unwrap(), Seq(0));
        assert!(journal.iter_from(Seq(0)).unwrap().next().is_none());
        assert!(journal.latest_snapshot().unwrap().is_none());
    }
}

#[test]
fn records_are_read_from_any_number_on_across_segments() {
    let disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, options(100));
    fill(&mut journal, &[1, 4, 2, 3, 1, 5]);
    assert!(disk.files().len() > 3);
    for from in 1..=16 {
        check_records(&journal, from);
    }
    assert!(journal.iter_from(Seq(17)).unwrap().next().is_none());
    assert!(journal.iter_from(Seq(u64::MAX)).unwrap().next().is_none());
    assert_eq!(reopen(&disk, options(100)).unwrap().0, 16);
}

#[test]
fn bounds_are_errors_and_leave_the_batch_as_it_was() {
    let small = Options { batch_bytes_max: 256, ..Options::new(ID) };
    let (mut journal, _) = open(&MemoryDisk::new(), small);
    let too_large = journal.append(&[0; 300]);
    assert!(matches!(too_large, Err(Error::PayloadTooLarge { bytes: 300, .. })));
    journal.append(&[1; 200]).unwrap();
    let full = journal.append(&[2; 100]);
    assert!(matches!(full, Err(Error::BatchFull { max: 256, .. })));
    assert_eq!(journal.commit().unwrap(), Seq(1));
    assert_eq!(journal.append(&[2; 100]).unwrap(), Seq(2));
    assert_eq!(journal.discard(), 1);
    assert_eq!(journal.append(&[3; 100]).unwrap(), Seq(2));
    assert_eq!(journal.commit().unwrap(), Seq(2));

    let wrong = Options { segment_bytes: 0, ..Options::new(ID) };
    let refused = Journal::open(MemoryDisk::new(), wrong);
    assert!(matches!(refused, Err(Error::BadOption { field: "segment_bytes", .. })));
}

#[test]
fn a_snapshot_is_taken_only_of_durable_records() {
    let (mut journal, _) = open(&MemoryDisk::new(), Options::new(ID));
    fill(&mut journal, &[2]);
    journal.append(b"pending").unwrap();
    let ahead = journal.snapshot(Seq(3), b"");
    assert!(matches!(ahead, Err(Error::SnapshotAhead { seq: Seq(3), durable: Seq(2) })));
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_one_before_with_a_warning() {
    let disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, Options::new(ID));
    fill(&mut journal, &[4]);
    journal.snapshot(Seq(2), b"state after two").unwrap();
    journal.snapshot(Seq(4), b"state after four").unwrap();
    drop(journal);
    let name = "00000000000000000004.snapshot";
    let bytes = &disk.files()[name];
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let damaged = disk.fork();
        damaged.put(name, &flipped);
        let (_, recovered) = reopen(&damaged, Options::new(ID)).unwrap();
        assert_eq!(recovered.snapshot, Some(Seq(2)), "bit {bit}");
        assert!(matches!(&recovered.warnings[..], [Warning::SnapshotDamaged { .. }]));
        let (journal, _) = open(&damaged, Options::new(ID));
        assert_eq!(journal.latest_snapshot().unwrap().unwrap().payload, b"state after two");
    }
}

#[test]
fn another_journals_snapshot_is_refused() {
    let disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, Options::new(ID));
    fill(&mut journal, &[2]);
    drop(journal);
    let other = MemoryDisk::new();
    let (mut journal, _) = open(&other, Options::new(7));
    fill(&mut journal, &[2]);
    journal.snapshot(Seq(2), b"another fleet").unwrap();
    disk.put("00000000000000000002.snapshot", &other.files()["00000000000000000002.snapshot"]);
    let refused = reopen(&disk, Options::new(ID));
    assert!(matches!(refused, Err(Error::WrongJournal { found: 7, expected: ID, .. })));
}

#[test]
fn pruning_removes_what_the_snapshot_stands_in_for_and_no_more() {
    let disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, options(64));
    fill(&mut journal, &[2, 2, 2, 2]);
    assert!(matches!(journal.prune(Seq(4)), Err(Error::NoSuchSnapshot { .. })));
    for seq in [2, 5, 7] {
        journal.snapshot(Seq(seq), &payload(seq)).unwrap();
    }
    let pruned = journal.prune(Seq(5)).unwrap();
    assert_eq!((pruned.segments, pruned.snapshots), (2, 1));
    assert_eq!(journal.snapshots(), [Seq(5), Seq(7)]);
    let gone = journal.iter_from(Seq(4));
    assert!(matches!(gone, Err(Error::Pruned { oldest: Seq(5), .. })));
    check_records(&journal, 5);
    drop(journal);

    let (_, recovered) = reopen(&disk, options(64)).unwrap();
    assert_eq!((recovered.first, recovered.snapshot), (Seq(5), Some(Seq(7))));

    // With no snapshot left, nothing tells what records 1 to 4 had done.
    for name in ["00000000000000000005.snapshot", "00000000000000000007.snapshot"] {
        disk.put(name, b"gone bad");
    }
    assert!(matches!(reopen(&disk, options(64)), Err(Error::Corrupt { .. })));
}

#[test]
fn the_last_segment_is_never_pruned() {
    let disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, options(64));
    fill(&mut journal, &[2, 2]);
    journal.snapshot(Seq(4), b"all").unwrap();
    journal.prune(Seq(4)).unwrap();
    fill(&mut journal, &[2]);
    assert_eq!(reopen(&disk, options(64)).unwrap().0, 6);
}

#[test]
fn files_that_are_not_ours_are_left_alone_and_unfinished_ones_are_removed() {
    let disk = MemoryDisk::new();
    for name in ["notes.txt", "1.journal", "x.tmp", "00000000000000000009.snapshot.tmp"] {
        disk.put(name, b"?");
    }
    open(&disk, Options::new(ID));
    let names: Vec<_> = disk.files().into_keys().collect();
    let expected = ["00000000000000000001.journal", "1.journal", "notes.txt", "x.tmp"];
    assert_eq!(names, expected);
}

#[test]
fn a_second_writer_is_refused_and_a_reader_is_not() {
    let disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, Options::new(ID));
    fill(&mut journal, &[2]);
    let second = Journal::open(disk.clone(), Options::new(ID));
    assert!(matches!(second, Err(Error::InUse { .. })));
    let (reader, recovered) = Reader::open(disk.clone(), None).unwrap();
    assert_eq!((reader.id(), recovered.last), (Some(ID), Seq(2)));
    drop(journal);
    open(&disk, Options::new(ID));
}

#[test]
fn a_reader_leaves_a_torn_tail_where_it_is() {
    let disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, Options::new(ID));
    fill(&mut journal, &[2]);
    // Half a batch, as seen while a commit is being written.
    journal.append(&payload(3)).unwrap();
    disk.fail(Fault::Write, 0);
    disk.fail(Fault::Truncate, 0);
    journal.commit().unwrap_err();
    let before = disk.files();
    let (reader, recovered) = Reader::open(disk.clone(), Some(ID)).unwrap();
    assert!(recovered.cut_bytes > 0);
    assert_eq!(reader.iter_from(Seq(1)).unwrap().count(), 2);
    assert_eq!(disk.files(), before);
}

#[derive(Debug, PartialEq, Eq)]
struct Even(u64);

impl Record for Even {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let bytes = bytes.try_into().map_err(|_| DecodeError("not eight bytes".into()))?;
        Ok(Self(u64::from_le_bytes(bytes)))
    }
}

#[test]
fn typed_records_come_back_and_strange_ones_are_named() {
    let (mut journal, _) = open(&MemoryDisk::new(), Options::new(ID));
    for number in [2, 4] {
        journal.append_record(&Even(number)).unwrap();
    }
    journal.append(b"strange").unwrap();
    journal.append_record(&Even(6)).unwrap();
    journal.commit().unwrap();
    let mut decoded = journal.iter_from(Seq(1)).unwrap().decoded::<Even>();
    assert_eq!(decoded.next().unwrap().unwrap(), (Seq(1), Even(2)));
    assert_eq!(decoded.next().unwrap().unwrap(), (Seq(2), Even(4)));
    let strange = decoded.next().unwrap();
    assert!(matches!(strange, Err(Error::Undecodable { seq: Seq(3), .. })));
    assert!(decoded.next().is_none(), "it went on after an error");
}

#[test]
fn a_real_folder_behaves_as_the_simulated_one() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("var/lindos");
    let disk = RealDisk::create(&state).unwrap();
    let (mut journal, _) = Journal::open(disk, options(100)).unwrap();
    fill(&mut journal, &[1, 4, 2, 3]);
    journal.snapshot(Seq(6), b"six").unwrap();

    let second = Journal::open(RealDisk::existing(&state).unwrap(), options(100));
    match second {
        Err(Error::InUse { pid, folder }) => {
            assert_eq!(pid, Some(std::process::id()));
            assert_eq!(folder, state);
        }
        other => panic!("{other:?}"),
    }
    let (reader, _) = Reader::open(RealDisk::existing(&state).unwrap(), Some(ID)).unwrap();
    assert_eq!(reader.snapshot_at(Seq(6)).unwrap().unwrap().payload, b"six");
    assert!(journal.disk().available().unwrap() > 0);
    let pruned = journal.prune(Seq(6)).unwrap();
    assert!(pruned.segments > 0);
    fill(&mut journal, &[2]);
    drop(journal);

    // A torn tail, as a crash leaves it.
    let mut names: Vec<_> = std::fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "journal"))
        .collect();
    names.sort();
    let last = std::fs::OpenOptions::new().write(true).open(names.last().unwrap()).unwrap();
    last.set_len(last.metadata().unwrap().len() - 1).unwrap();
    let (journal, recovered) =
        Journal::open(RealDisk::existing(&state).unwrap(), options(100)).unwrap();
    assert!(recovered.cut_bytes > 0);
    assert_eq!(recovered.last, Seq(10));
    check_records(&journal, 7);

    let missing = RealDisk::existing(folder.path().join("typo")).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
}
