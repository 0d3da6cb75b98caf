//! Every cut, every flipped bit, and arbitrary harm: what `open` says of each.

mod common;

use common::{check_records, fill, open, options, payload, reopen};
use lindos_journal::{DamagedTail, Error, Journal, MemoryDisk, Options, Seq, Warning};
use proptest::prelude::*;
use proptest::sample::Index;

/// 5 batches over 3 segments: records 1–3, 4 | 5–6, 7–9 | 10–11.
fn journal_of_three_segments() -> (MemoryDisk, Options) {
    let disk = MemoryDisk::new();
    let options = options(180);
    let (mut journal, _) = open(&disk, options);
    fill(&mut journal, &[3, 1, 2, 3, 2]);
    assert_eq!(segments(&disk).len(), 3, "{:?}", segments(&disk));
    (disk, options)
}

fn segments(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.files().into_keys();
    names.filter(|name| name.ends_with(".journal")).collect()
}

fn with_file(disk: &MemoryDisk, name: &str, bytes: &[u8]) -> MemoryDisk {
    let copy = disk.fork();
    copy.put(name, bytes);
    copy
}

#[test]
fn a_cut_in_the_last_segment_leaves_whole_batches_and_elsewhere_is_damage() {
    let (disk, options) = journal_of_three_segments();
    let names = segments(&disk);
    for name in &names {
        let bytes = &disk.files()[name];
        for cut in 0..bytes.len() {
            let cut_disk = with_file(&disk, name, &bytes[..cut]);
            let result = reopen(&cut_disk, options);
            let is_last = Some(name) == names.last();
            match result {
                Ok((last, recovered)) => {
                    assert!(is_last && cut >= 40, "{name} cut at {cut}");
                    assert_eq!(last, 9, "half a batch was kept");
                    assert_eq!(recovered.cut_bytes, cut as u64 - 40);
                }
                Err(Error::Corrupt { seq, .. }) => {
                    assert!(!is_last || cut < 40, "{name} cut at {cut}");
                    assert!(seq.0 >= 1 && seq.0 <= 10);
                }
                Err(other) => panic!("{name} cut at {cut}: {other}"),
            }
        }
    }
}

#[test]
fn every_single_flipped_bit_is_reported_as_damage_where_it_is() {
    let (disk, options) = journal_of_three_segments();
    for name in segments(&disk) {
        let bytes = &disk.files()[&name];
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match reopen(&with_file(&disk, &name, &flipped), options) {
                Err(Error::Corrupt { file, offset, .. }) => {
                    assert!(file.ends_with(&name));
                    assert!(offset <= (bit / 8) as u64, "bit {bit} found at {offset}");
                }
                other => panic!("{name} bit {bit}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_damaged_last_batch_is_cut_only_when_asked() {
    let (disk, options) = journal_of_three_segments();
    let cut = Options { damaged_tail: DamagedTail::Cut, ..options };
    let names = segments(&disk);
    for name in &names {
        let bytes = &disk.files()[name];
        for at in 40..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let damaged = with_file(&disk, name, &flipped);
            let result = reopen(&damaged, cut);
            if Some(name) == names.last() {
                let (last, recovered) = result.expect("nothing valid follows it");
                assert_eq!(last, 9);
                let dropped = &recovered.warnings[..];
                assert!(
                    matches!(dropped, [Warning::DamagedTailCut { seq: Seq(10), .. }]),
                    "{dropped:?}"
                );
                let refused = reopen(&damaged, options).unwrap_err().to_string();
                assert!(refused.contains("DamagedTail::Cut"), "{refused}");
            } else {
                assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
            }
        }
    }
}

#[test]
fn a_damaged_batch_before_a_good_one_is_never_cut() {
    let disk = MemoryDisk::new();
    let one_segment = Options { damaged_tail: DamagedTail::Cut, ..Options::new(common::ID) };
    let (mut journal, _) = open(&disk, one_segment);
    fill(&mut journal, &[2]);
    let second_batch = disk.files()[&segments(&disk)[0]].len();
    fill(&mut journal, &[2]);
    drop(journal);
    let name = &segments(&disk)[0];
    let bytes = &disk.files()[name];
    for at in 40..second_batch {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let result = reopen(&with_file(&disk, name, &flipped), one_segment);
        assert!(matches!(result, Err(Error::Corrupt { .. })), "byte {at}: {result:?}");
    }
}

#[test]
fn a_missing_or_renamed_segment_is_damage() {
    let (disk, options) = journal_of_three_segments();
    let names = segments(&disk);
    for gone in &names[..2] {
        let left = MemoryDisk::new();
        for (name, bytes) in disk.files().iter().filter(|(name, _)| *name != gone) {
            left.put(name, bytes);
        }
        let error = reopen(&left, options).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
    let renamed = with_file(&disk, "00000000000000000012.journal", &disk.files()[&names[2]]);
    let error = reopen(&renamed, options).unwrap_err();
    assert!(error.to_string().contains("renamed"), "{error}");
}

#[test]
fn bytes_behind_a_closed_segment_are_damage_even_when_they_are_zeros() {
    let (disk, options) = journal_of_three_segments();
    let name = &segments(&disk)[0];
    for extra in [1, 24, 100] {
        let mut longer = disk.files()[name].clone();
        longer.resize(longer.len() + extra, 0);
        let error = reopen(&with_file(&disk, name, &longer), options).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}

#[test]
fn another_journals_folder_is_refused() {
    let (disk, options) = journal_of_three_segments();
    let other = Options { id: 7, ..options };
    assert!(matches!(reopen(&disk, other), Err(Error::WrongJournal { found: common::ID, .. })));
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let (disk, options) = journal_of_three_segments();
    let name = &segments(&disk)[1];
    let mut bytes = disk.files()[name].clone();
    bytes[8] = 9;
    let crc = crc32fast::hash(&bytes[..36]);
    bytes[36..40].copy_from_slice(&crc.to_le_bytes());
    let error = reopen(&with_file(&disk, name, &bytes), options).unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found: 9, supported: 1, .. }), "{error}");
}

#[test]
fn a_journal_that_ends_before_its_snapshot_is_damage() {
    let (disk, options) = journal_of_three_segments();
    let (mut journal, _) = open(&disk, options);
    journal.snapshot(Seq(11), b"state").unwrap();
    drop(journal);
    let name = segments(&disk).pop().unwrap();
    let bytes = &disk.files()[&name];
    let error = reopen(&with_file(&disk, &name, &bytes[..bytes.len() - 1]), options).unwrap_err();
    assert!(matches!(error, Error::Corrupt { seq: Seq(10), .. }), "{error}");
}

#[derive(Clone, Debug)]
enum Harm {
    Flip(Index, u8),
    Overwrite(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    Delete(Index, Index),
    Cut(Index),
    CopyWithin(Index, Index, Index),
    Remove,
}

fn harm() -> impl Strategy<Value = Harm> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..60);
    let zeros = (1usize..60).prop_map(|length| vec![0; length]);
    prop_oneof![
        4 => (any::<Index>(), 1u8..).prop_map(|(at, bits)| Harm::Flip(at, bits)),
        2 => (any::<Index>(), bytes()).prop_map(|(at, bytes)| Harm::Overwrite(at, bytes)),
        1 => (any::<Index>(), zeros).prop_map(|(at, bytes)| Harm::Overwrite(at, bytes)),
        2 => (any::<Index>(), bytes()).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        2 => any::<(Index, Index)>().prop_map(|(from, to)| Harm::Delete(from, to)),
        2 => any::<Index>().prop_map(Harm::Cut),
        2 => any::<(Index, Index, Index)>().prop_map(|(a, b, to)| Harm::CopyWithin(a, b, to)),
        1 => Just(Harm::Remove),
    ]
}

fn do_harm(harm: &Harm, bytes: &mut Vec<u8>) {
    let place = |index: &Index, bytes: &Vec<u8>| index.index(bytes.len() + 1);
    match harm {
        Harm::Flip(at, bits) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        Harm::Overwrite(at, with) => {
            let at = place(at, bytes);
            let end = bytes.len().min(at + with.len());
            bytes.splice(at..end, with.iter().copied());
        }
        Harm::Insert(at, what) => {
            let at = place(at, bytes);
            bytes.splice(at..at, what.iter().copied());
        }
        Harm::Delete(a, b) => {
            let (a, b) = (place(a, bytes), place(b, bytes));
            bytes.drain(a.min(b)..a.max(b));
        }
        Harm::Cut(at) => bytes.truncate(place(at, bytes)),
        Harm::CopyWithin(a, b, to) => {
            let (a, b) = (place(a, bytes), place(b, bytes));
            let copied = bytes[a.min(b)..a.max(b)].to_vec();
            let to = place(to, bytes);
            bytes.splice(to..to, copied);
        }
        Harm::Flip(..) | Harm::Remove => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever is done to the files, what opens is a prefix of what was committed (`reopen`
    /// compares every record) and what does not says why and changes nothing.
    #[test]
    fn no_harm_yields_a_wrong_record_or_a_panic(
        harms in prop::collection::vec((any::<Index>(), harm()), 1..4),
        tail in prop_oneof![Just(DamagedTail::Refuse), Just(DamagedTail::Cut)],
        with_snapshot: bool,
    ) {
        let (disk, options) = journal_of_three_segments();
        if with_snapshot {
            let (mut journal, _) = open(&disk, options);
            journal.snapshot(Seq(4), b"state 4").unwrap();
            journal.snapshot(Seq(9), b"state 9").unwrap();
        }
        let mut files = disk.files();
        for (file, harm) in &harms {
            let names: Vec<_> = files.keys().cloned().collect();
            let Some(name) = (!names.is_empty()).then(|| file.get(&names)) else { continue };
            if matches!(harm, Harm::Remove) {
                files.remove(name);
            } else {
                do_harm(harm, files.get_mut(name).unwrap());
            }
        }
        let harmed = MemoryDisk::new();
        for (name, bytes) in &files {
            harmed.put(name, bytes);
        }
        let options = Options { damaged_tail: tail, ..options };
        if let Ok((last, recovered)) = reopen(&harmed, options) {
            prop_assert!(last <= 11);
            prop_assert!(!with_snapshot || recovered.snapshot.is_none_or(|seq| seq.0 <= last));
            // And it goes on from there.
            let (mut journal, _) = open(&harmed, options);
            prop_assert_eq!(journal.append(&payload(last + 1)).unwrap(), Seq(last + 1));
            journal.commit().unwrap();
            check_records(&journal, recovered.first.0);
            if let Some(snapshot) = journal.latest_snapshot().unwrap() {
                prop_assert_eq!(snapshot.payload, format!("state {}", snapshot.seq).into_bytes());
            }
        }
    }

    /// Bytes that never were a journal.
    #[test]
    fn arbitrary_files_are_refused_without_a_panic(
        files in prop::collection::btree_map(
            prop_oneof![
                Just("00000000000000000001.journal"),
                Just("00000000000000000003.journal"),
                Just("18446744073709551615.journal"),
                Just("00000000000000000000.journal"),
                Just("00000000000000000003.snapshot"),
                Just("18446744073709551615.snapshot"),
                Just("00000000000000000003.snapshot.tmp"),
                Just("lost+found"),
            ],
            prop::collection::vec(any::<u8>(), 0..200),
            1..5,
        ),
    ) {
        let disk = MemoryDisk::new();
        for (name, bytes) in &files {
            disk.put(name, bytes);
        }
        match Journal::open(disk, Options::new(common::ID)) {
            Ok((journal, _)) => prop_assert_eq!(journal.durable(), Seq(0)),
            Err(Error::Corrupt { .. }) => {}
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }
}
