//! What is one message, when it is complete, and that nothing is lost on the way.

use super::super::alert::{Alert, Grade, Kind};
use super::super::memory::Memory;
use super::super::message::Message;
use super::super::queue::Queue;
use super::{grouper, of_job, of_node};
use lindos_model::Time;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn seqs(messages: &[Message]) -> Vec<Vec<u64>> {
    messages.iter().map(|message| message.seqs.clone()).collect()
}

#[test]
fn a_message_waits_for_quiet_but_not_for_ever() {
    let mut grouper = grouper(Grade::Info);
    assert_eq!(grouper.due(), None);
    for second in 0..9 {
        assert!(grouper.take(of_node(second + 1, second * 7_000, Kind::NodeSilent, second as u32)));
        assert_eq!(grouper.poll(Time(second * 7_000)), []);
    }
    // 56 s after the first: it is sent at 60 s, though the last is 4 s old.
    assert_eq!(grouper.due(), Some(Time(60_000)));
    assert_eq!(grouper.poll(Time(59_999)), []);
    assert_eq!(grouper.poll(Time(60_000)).len(), 1);
    assert_eq!((grouper.due(), grouper.pending().count()), (None, 0));
}

#[test]
fn a_bad_leaf_is_one_message_and_what_happens_elsewhere_is_another() {
    let mut grouper = grouper(Grade::Info);
    for number in 0..30 {
        grouper.take(of_node(u64::from(number) + 1, 1_000, Kind::NodeSilent, number));
    }
    grouper.take(of_job(31, 1_500, Kind::JobFault, 4, Some(3)));
    grouper.take(of_node(32, 2_000, Kind::NodeOut, 95));
    grouper.take(of_job(33, 2_000, Kind::JobFailed, 9, None));
    let messages = grouper.poll(Time(12_000));
    let counts: Vec<usize> = messages.iter().map(|message| message.count).collect();
    assert_eq!(counts, [31, 1, 1]);
    assert_eq!(messages[0].severity, Grade::Critical, "many in one place are an outage");
    assert_eq!(messages[0].place.as_deref(), Some("leaf l0"));
}

#[test]
fn verdicts_that_name_one_switch_are_one_message_with_what_has_happened_there() {
    let mut grouper = grouper(Grade::Warning);
    let blamed = |seq: u64, at: u64| Alert {
        class: "leaf l0".into(),
        grade: Grade::Warning,
        ..of_job(seq, at, Kind::Blamed, seq, None)
    };
    grouper.take(of_node(1, 0, Kind::NodeSilent, 3));
    grouper.take(blamed(2, 1_000));
    grouper.take(blamed(3, 2_000));
    grouper.take(of_node(4, 2_000, Kind::NodeOut, 95));
    let messages = grouper.poll(Time(12_000));
    assert_eq!(messages.iter().map(|message| message.count).collect::<Vec<_>>(), [3, 1]);
    // A job that is hit later by the same switch is the same thing again.
    grouper.take(blamed(5, 20_000));
    assert_eq!(grouper.poll(Time(60_000)), []);
}

#[test]
fn what_happens_again_is_counted_and_told_together() {
    let mut grouper = grouper(Grade::Warning);
    for (seq, at) in [(1, 0), (2, 20_000), (3, 40_000), (4, 500_000)] {
        assert!(grouper.take(of_node(seq, at, Kind::NodeSilent, 1)));
        let told = grouper.poll(Time(at + 10_000));
        assert_eq!(told.len(), usize::from(seq == 1), "{seq}");
    }
    assert_eq!(grouper.due(), Some(Time(610_000)));
    let again = grouper.poll(Time(610_000));
    assert_eq!(seqs(&again), [[2, 3, 4]]);
    assert!(
        again[0].title.ends_with("silent (again, 3 times since it was told)"),
        "{}",
        again[0].title
    );
    // After ten quiet minutes it is news.
    assert_eq!(grouper.poll(Time(1_300_000)), []);
    grouper.take(of_node(5, 1_300_000, Kind::NodeSilent, 1));
    assert_eq!(seqs(&grouper.poll(Time(1_310_000))), [[5]]);
}

#[test]
fn the_end_is_told_to_whom_the_trouble_was_told() {
    let mut grouper = grouper(Grade::Warning);
    assert!(!grouper.take(of_node(1, 0, Kind::NodeBack, 1)), "a node that joins is no news");
    assert!(!grouper.take(of_node(2, 0, Kind::Repair, 1)), "below the minimal severity");
    grouper.take(of_node(3, 0, Kind::NodeSilent, 1));
    grouper.poll(Time(10_000));
    assert!(grouper.take(of_node(4, 60_000, Kind::NodeBack, 1)));
    let over = grouper.poll(Time(70_000));
    assert!(over[0].over && over[0].title.starts_with("n001"), "{over:?}");
    assert!(!grouper.take(of_node(5, 80_000, Kind::NodeBack, 1)), "it is over already");
}

#[test]
fn a_node_that_is_back_at_once_is_one_message() {
    let mut grouper = grouper(Grade::Warning);
    grouper.take(of_node(1, 0, Kind::NodeSilent, 1));
    grouper.take(of_node(2, 3_000, Kind::NodeBack, 1));
    let messages = grouper.poll(Time(13_000));
    assert_eq!(seqs(&messages), [[1, 2]]);
    assert!(!messages[0].over && messages[0].title.ends_with("; it is back already"));
    for (seq, kind) in [(3, Kind::NodeOut), (4, Kind::NodeSilent), (5, Kind::NodeBack)] {
        grouper.take(of_node(seq, 20_000, kind, 2));
    }
    grouper.take(of_node(6, 21_000, Kind::NodeSilent, 2));
    let messages = grouper.poll(Time(31_000));
    assert!(messages[0].title.ends_with(" went silent"), "it is away again: {messages:?}");
}

#[test]
fn what_is_no_message_of_its_own_is_told_with_what_it_belongs_to() {
    let mut grouper = grouper(Grade::Warning);
    assert!(!grouper.take(of_job(1, 0, Kind::JobFault, 4, Some(1))), "jobs are restarted daily");
    grouper.take(of_node(2, 0, Kind::NodeSilent, 1));
    assert!(grouper.take(of_job(3, 1_000, Kind::JobFault, 4, Some(1))));
    assert!(!grouper.take(of_job(4, 1_000, Kind::JobFault, 5, Some(99))), "it is elsewhere");
    let messages = grouper.poll(Time(10_000));
    assert_eq!(seqs(&messages), [[2, 3]], "and holds nothing up");
    assert!(messages[0].title.ends_with("; job 4 (gpt) is hit"), "{}", messages[0].title);
    assert!(!grouper.take(of_job(5, 11_000, Kind::JobFault, 4, Some(1))));
}

#[test]
fn who_wants_only_what_is_critical_hears_of_a_leaf_and_not_of_a_node() {
    let mut grouper = grouper(Grade::Critical);
    assert!(grouper.take(of_node(1, 0, Kind::NodeSilent, 40)));
    assert_eq!(grouper.poll(Time(10_000)), [], "one node is a warning");
    assert!(!grouper.take(of_node(2, 11_000, Kind::NodeBack, 40)), "nor is its end told");
    for number in 0..3 {
        grouper.take(of_node(u64::from(number) + 3, 20_000, Kind::NodeSilent, number));
    }
    assert_eq!(seqs(&grouper.poll(Time(30_000))), [[3, 4, 5]]);
    assert!(grouper.take(of_node(6, 31_000, Kind::NodeBack, 2)));
    assert!(grouper.poll(Time(41_000))[0].over);
    grouper.take(of_node(7, 50_000, Kind::PersonWanted, 40));
    assert_eq!(seqs(&grouper.poll(Time(60_000))), [[7]]);
}

#[test]
fn what_was_told_in_another_life_is_not_told_again_but_its_end_is() {
    let mut grouper = grouper(Grade::Warning);
    grouper.recall(&of_node(1, 0, Kind::NodeSilent, 1));
    assert_eq!((grouper.due(), grouper.pending().count()), (None, 0));
    assert!(grouper.take(of_node(2, 5_000, Kind::NodeBack, 1)));
    assert!(grouper.poll(Time(15_000))[0].over);
    // What was only counted then is still to be told, whatever was told around it.
    assert!(grouper.take(of_node(3, 20_000, Kind::NodeSilent, 1)));
    grouper.recall(&of_node(4, 30_000, Kind::NodeSilent, 1));
    assert_eq!(seqs(&grouper.poll(Time(600_000))), [[3]]);
}

#[test]
fn messages_that_do_not_fit_become_one_that_counts_them() {
    let mut queue = Queue::default();
    let mut told = grouper(Grade::Info);
    for seq in 0..120 {
        let at = seq * 1_000_000;
        told.take(of_node(seq, at, Kind::NodeSilent, seq as u32));
        told.poll(Time(at + 10_000)).into_iter().for_each(|message| queue.push(message));
    }
    assert_eq!((queue.len(), queue.merged), (50, 70));
    let oldest = queue.pop().unwrap();
    assert_eq!((oldest.count, oldest.nodes.first.len()), (71, 20));
    assert!(oldest.title.starts_with("71 more events"), "{}", oldest.title);
    let rest: Vec<u64> = queue.pending().collect();
    assert_eq!([oldest.seqs, rest].concat(), (0..120).collect::<Vec<u64>>());
}

/// What may happen, and how long after the last.
fn happening() -> impl Strategy<Value = (u64, u8, u32)> {
    let span = prop_oneof![4 => 0..3_000u64, 2 => 3_000..30_000u64, 1 => 30_000..900_000u64];
    (span, 0..8u8, 0..40u32)
}

fn alert(seq: u64, at: u64, what: u8, number: u32) -> Alert {
    match what {
        0 | 1 => of_node(seq, at, Kind::NodeSilent, number),
        2 => of_node(seq, at, Kind::NodeOut, number),
        3 => of_node(seq, at, Kind::PersonWanted, number),
        4 => of_node(seq, at, Kind::NodeBack, number),
        5 => of_node(seq, at, Kind::Repair, number),
        6 => of_job(seq, at, Kind::JobFault, u64::from(number % 5), Some(number)),
        _ => of_job(seq, at, Kind::JobFailed, u64::from(number), None),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, and whenever anybody looks: each event that was taken is in exactly one
    /// message, none is held for longer than it may be, and the same in gives the same out.
    #[test]
    fn each_event_is_in_exactly_one_message(
        events in prop::collection::vec(happening(), 1..120),
        look_every in 1..20usize,
        min in prop_oneof![Just(Grade::Info), Just(Grade::Warning)],
    ) {
        let run = || {
            let mut grouper = grouper(min);
            let (mut taken, mut messages, mut at) = (BTreeSet::new(), Vec::new(), 0);
            for (index, (span, what, number)) in events.iter().enumerate() {
                at += span;
                let seq = index as u64 + 1;
                if grouper.take(alert(seq, at, *what, *number)) {
                    taken.insert(seq);
                }
                if index % look_every == 0 {
                    messages.extend(grouper.poll(Time(at)));
                    prop_assert!(grouper.due().is_none_or(|due| due > Time(at)));
                }
                let told: BTreeSet<u64> = messages.iter().flat_map(|m: &Message| m.seqs.clone()).collect();
                let open: BTreeSet<u64> = grouper.pending().collect();
                prop_assert!(told.is_disjoint(&open));
                prop_assert_eq!(&told | &open, taken.clone());
                let memory = Memory::new("s", seq, open);
                prop_assert!(taken.iter().all(|seq| memory.is_settled(*seq) == told.contains(seq)));
            }
            messages.extend(grouper.poll(Time(at + 600_000)));
            prop_assert_eq!((grouper.pending().count(), grouper.due()), (0, None));
            let mut told: Vec<u64> = messages.iter().flat_map(|m| m.seqs.clone()).collect();
            prop_assert_eq!(messages.iter().map(|m| m.count).sum::<usize>(), told.len());
            told.sort_unstable();
            prop_assert_eq!(told, taken.into_iter().collect::<Vec<u64>>());
            Ok(messages)
        };
        prop_assert_eq!(run()?, run()?);
    }
}
