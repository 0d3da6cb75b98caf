//! Power lost at any moment, full disks and failing syncs: what was acknowledged is there.

mod common;

use common::{ID, check_records, fill, open, options, payload};
use lindos_journal::{DamagedTail, Error, Fault, Journal, MemoryDisk, Options, Seq, Tail};
use proptest::prelude::*;

/// A life with everything in it: commits, rotation, snapshots, pruning. Returns the last record
/// that was acknowledged and the last snapshot that was.
fn work(journal: &mut Journal<MemoryDisk>) -> (Seq, Option<Seq>) {
    let mut snapshot = None;
    for round in 1..=4 {
        for _ in 0..round {
            let next = journal.durable().0 + u64::from(journal.pending()) + 1;
            let _ = journal.append(&payload(next));
        }
        let _ = journal.commit();
        let durable = journal.durable();
        if round % 2 == 0 && journal.snapshot(durable, &payload(durable.0)).is_ok() {
            snapshot = Some(durable);
        }
    }
    let _ = snapshot.map(|seq| journal.prune(seq));
    (journal.durable(), snapshot)
}

#[test]
fn a_crash_at_every_change_and_every_byte_keeps_what_was_acknowledged() {
    let (mut crashes, mut cuts, mut whole) = (0, 0, 0);
    for changes in 0.. {
        for keep in 0..130 {
            let mut disk = MemoryDisk::new();
            let (mut journal, _) = open(&disk, options(100));
            fill(&mut journal, &[1]);
            disk.power_off_after(changes);
            let (acknowledged, snapshot) = work(&mut journal);
            if disk.has_power() {
                assert!(crashes > 3000, "only {crashes} crashes");
                assert!(cuts > 100 && whole > 100, "{cuts} cut, {whole} whole");
                return; // The power lasted to the end.
            }
            // The first few bytes survive, and names in the pattern of the number's bits.
            let mut bits: u64 = keep;
            disk.crash(Tail::Cut, |most| {
                bits = bits.rotate_right(1);
                if most == 1 { bits % 2 } else { most.min(keep) }
            });
            drop(journal);
            crashes += 1;

            let (journal, recovered) = open(&disk, options(100));
            assert!(recovered.last >= acknowledged, "after {changes} changes, {keep} bytes");
            assert!(recovered.snapshot >= snapshot, "after {changes} changes, {keep} bytes");
            assert_eq!(recovered.warnings, []);
            // Commits end at records 1, 2, 4, 7 and 11, and nowhere else.
            assert!([1, 2, 4, 7, 11].contains(&recovered.last.0), "half a batch was kept");
            check_from(&journal, recovered.first);
            cuts += u32::from(recovered.cut_bytes > 0);
            whole += u32::from(recovered.last > acknowledged);
        }
    }
}

#[test]
fn a_failed_sync_is_final_until_the_journal_is_opened_again() {
    let mut disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, Options::new(ID));
    fill(&mut journal, &[2]);
    journal.append(&payload(3)).unwrap();
    disk.fail(Fault::Sync, 0);
    let error = journal.commit().unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    assert!(error.to_string().contains("injected"), "it does not say why: {error}");
    // The next sync would succeed, having forgotten the bytes. Nothing may lean on it.
    assert!(matches!(journal.append(b"more"), Err(Error::Poisoned { .. })));
    assert!(matches!(journal.commit(), Err(Error::Poisoned { .. })));
    assert!(matches!(journal.snapshot(Seq(2), b"state"), Err(Error::Poisoned { .. })));
    assert_eq!(journal.durable(), Seq(2));
    drop(journal);

    // Reads still show record 3. If `open` reports it, it must now survive a crash.
    let (journal, recovered) = open(&disk, Options::new(ID));
    let reported = recovered.last;
    drop(journal);
    disk.crash(Tail::Cut, |_| 0);
    let (journal, recovered) = open(&disk, Options::new(ID));
    assert_eq!(recovered.last, reported);
    assert_eq!(check_records(&journal, 1), reported.0);
}

#[test]
fn a_full_disk_keeps_the_batch_with_the_caller() {
    let disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, Options::new(ID));
    fill(&mut journal, &[2]);
    let before = disk.files();
    for seq in 3..6 {
        journal.append(&payload(seq)).unwrap();
    }
    let used: usize = before.values().map(Vec::len).sum();
    for room in 0..100 {
        disk.set_capacity(Some((used + room) as u64));
        let error = journal.commit().unwrap_err();
        match &error {
            Error::DiskFull { needed, available, .. } => {
                assert_eq!(*available, Some(room as u64));
                assert!(*needed > room as u64);
            }
            other => panic!("{other}"),
        }
        assert!(error.to_string().contains("memory"), "which folder? {error}");
        assert_eq!(disk.files(), before, "half a batch stays");
        assert_eq!(journal.pending(), 3);
    }
    disk.set_capacity(None);
    assert_eq!(journal.commit().unwrap(), Seq(5));
    assert_eq!(check_records(&journal, 1), 5);
}

#[test]
fn a_full_disk_at_rotation_or_snapshot_changes_nothing() {
    let disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, options(64));
    fill(&mut journal, &[2]);
    let before = disk.files();
    disk.set_capacity(Some(before.values().map(Vec::len).sum::<usize>() as u64 + 10));
    journal.append(&payload(3)).unwrap();
    assert!(matches!(journal.commit(), Err(Error::DiskFull { .. })));
    assert!(matches!(journal.snapshot(Seq(2), b"state"), Err(Error::DiskFull { .. })));
    assert_eq!(disk.files(), before);
    disk.set_capacity(None);
    assert_eq!(journal.commit().unwrap(), Seq(3));
    journal.snapshot(Seq(2), b"state").unwrap();
    assert_eq!(check_records(&journal, 1), 3);
}

#[test]
fn a_write_that_cannot_be_undone_is_final() {
    let disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, Options::new(ID));
    fill(&mut journal, &[2]);
    journal.append(&payload(3)).unwrap();
    disk.fail(Fault::Write, 0);
    disk.fail(Fault::Truncate, 0);
    assert!(matches!(journal.commit(), Err(Error::Poisoned { .. })));
    drop(journal);
    let (journal, recovered) = open(&disk, Options::new(ID));
    assert!(recovered.cut_bytes > 0);
    assert_eq!(check_records(&journal, 1), 2);
}

#[test]
fn a_segment_whose_name_was_not_synced_is_made_durable_before_it_is_leant_on() {
    let mut disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk, options(64));
    fill(&mut journal, &[2]);
    journal.append(&payload(3)).unwrap();
    disk.fail(Fault::SyncFolder, 0);
    let error = journal.commit().unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    drop(journal);
    let (mut journal, _) = open(&disk, options(64));
    fill(&mut journal, &[1]);
    disk.crash(Tail::Cut, |_| 0);
    drop(journal);
    let (journal, _) = open(&disk, options(64));
    assert_eq!(check_records(&journal, 1), 3);
}

#[derive(Clone, Debug)]
enum Op {
    Append(u8),
    Commit,
    Snapshot,
    Prune,
    Fail(Fault, u32),
    PowerOff(u32),
    Capacity(Option<u16>),
    Reopen,
    Crash(Tail, Vec<u64>),
}

fn op() -> impl Strategy<Value = Op> {
    let fault = prop_oneof![
        Just(Fault::Create),
        Just(Fault::Write),
        Just(Fault::Truncate),
        Just(Fault::Sync),
        Just(Fault::SyncFolder),
        Just(Fault::Rename),
        Just(Fault::Remove),
    ];
    let picks = || prop::collection::vec(any::<u64>(), 4);
    prop_oneof![
        8 => (1u8..5).prop_map(Op::Append),
        8 => Just(Op::Commit),
        2 => Just(Op::Snapshot),
        2 => Just(Op::Prune),
        3 => (fault, 0u32..4).prop_map(|(fault, after)| Op::Fail(fault, after)),
        3 => (0u32..6).prop_map(Op::PowerOff),
        1 => (0u16..400).prop_map(|bytes| Op::Capacity(Some(bytes))),
        1 => Just(Op::Capacity(None)),
        1 => Just(Op::Reopen),
        3 => picks().prop_map(|picks| Op::Crash(Tail::Cut, picks)),
        1 => picks().prop_map(|picks| Op::Crash(Tail::Garbled, picks)),
    ]
}

/// Open until it works: an injected fault may hit the opening itself.
fn open_through_faults(disk: &MemoryDisk, options: Options) -> Journal<MemoryDisk> {
    disk.set_capacity(None);
    for _ in 0..20 {
        match Journal::open(disk.clone(), options) {
            Ok((journal, _)) => return journal,
            Err(Error::Io { .. } | Error::Poisoned { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    panic!("it never opens");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Any sequence of work, faults and crashes: the journal that opens afterwards has every
    /// acknowledged record, no record that was not appended, and goes on.
    #[test]
    fn acknowledged_records_survive_anything(ops in prop::collection::vec(op(), 1..60)) {
        let mut disk = MemoryDisk::new();
        // A garbled tail needs a person's word; here it is given beforehand, which must never
        // cost an acknowledged record.
        let options = Options { damaged_tail: DamagedTail::Cut, ..options(200) };
        let mut journal = open_through_faults(&disk, options);
        let mut acknowledged = 0;
        let mut snapshots = Vec::new();
        for op in ops {
            match op {
                Op::Append(records) => for _ in 0..records {
                    let next = journal.durable().0 + u64::from(journal.pending()) + 1;
                    let _ = journal.append(&payload(next));
                },
                Op::Commit => if let Ok(seq) = journal.commit() {
                    prop_assert!(seq.0 >= acknowledged);
                    acknowledged = seq.0;
                },
                Op::Snapshot => {
                    let seq = journal.durable();
                    if journal.snapshot(seq, &payload(seq.0)).is_ok() {
                        snapshots.push(seq);
                    }
                },
                Op::Prune => if let Some(seq) = snapshots.last() {
                    let _ = journal.prune(*seq);
                },
                Op::Fail(fault, after) => disk.fail(fault, after),
                Op::PowerOff(after) => if disk.has_power() { disk.power_off_after(after) },
                Op::Capacity(bytes) => disk.set_capacity(bytes.map(|room| {
                    let used: usize = disk.files().values().map(Vec::len).sum();
                    used as u64 + u64::from(room)
                })),
                Op::Reopen => {
                    drop(journal);
                    if let Ok((reopened, _)) = Journal::open(disk.clone(), options) {
                        journal = reopened;
                    } else {
                        disk.crash(Tail::Cut, |most| most / 2);
                        journal = open_through_faults(&disk, options);
                    }
                },
                Op::Crash(tail, picks) => {
                    let mut picks = picks.into_iter().cycle();
                    disk.crash(tail, |most| picks.next().unwrap() % (most + 1));
                    drop(journal);
                    journal = open_through_faults(&disk, options);
                },
            }
            prop_assert!(journal.durable().0 >= acknowledged, "an acknowledged record is gone");
            // What is reported durable may be answered from now on.
            acknowledged = journal.durable().0;
            let newest = journal.latest_snapshot().unwrap();
            prop_assert!(newest.as_ref().map(|newest| newest.seq) >= snapshots.last().copied());
            if let Some(newest) = newest {
                prop_assert_eq!(newest.payload, payload(newest.seq.0));
                check_from(&journal, newest.seq.next());
            } else {
                check_records(&journal, 1);
            }
        }
    }
}

fn check_from(journal: &Journal<MemoryDisk>, from: Seq) {
    if from <= journal.durable() {
        check_records(journal, from.0);
    }
}
