//! A bounded swarm, and the proof that each checker can fail.

use lindos_sim::scenario::{Scenario, to_text};
use lindos_sim::swarm::shrink::shrink;
use lindos_sim::{Plant, Setup, Violation, swarm};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = 250;
/// A planted bug is found within so many seeds.
const SEEDS_PLANTED: u64 = 60;

#[test]
fn the_swarm_finds_nothing() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (next, node_ms) = (AtomicU64::new(0), AtomicU64::new(0));
    let play = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                break;
            }
            let result = swarm::play(seed, None);
            if let Some(violation) = result.violation {
                next.store(SEEDS, Ordering::Relaxed);
                panic!("{violation}\nto see it again: {}", swarm::reproduce(seed));
            }
            node_ms.fetch_add(result.node_ms, Ordering::Relaxed);
        }
    };
    // It is the longest test of all: whichever cores have nothing else to do take part in it.
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(play))));
    assert!(node_ms.into_inner() > 0);
}

#[test]
fn every_checker_sees_the_bug_that_was_planted_for_it() {
    for (plant, words) in Plant::ALL {
        let seen = (0..SEEDS_PLANTED)
            .filter_map(|seed| swarm::play(seed, Some(plant)).violation)
            .find(|violation| violation.what.contains(words));
        assert!(seen.is_some(), "{plant:?} was not found: nothing said `{words}`");
    }
}

#[test]
fn a_seed_plays_the_same_twice() {
    let play = || lindos_sim::run(swarm::setup(7, None));
    let (a, b) = (play(), play());
    assert_eq!((a.trail, a.ledger, a.happenings), (b.trail, b.ledger, b.happenings));
}

/// The first case in which a planted bug is found by these words, and what is said of it.
fn first_found(plant: Plant, words: &str) -> (Setup, Violation) {
    let mut found = (0..SEEDS_PLANTED).filter_map(|seed| {
        let violation =
            swarm::play(seed, Some(plant)).violation.filter(|v| v.what.contains(words))?;
        Some((swarm::setup(seed, Some(plant)), violation))
    });
    found.next().expect("it is found")
}

#[test]
fn a_case_that_fails_is_made_small_and_its_file_fails_in_the_same_way() {
    let (setup, violation) = first_found(Plant::FloorsForgotten, "two epochs");
    let before = &violation.before;
    assert_eq!(before.len(), 20, "{violation}");
    assert!(violation.to_string().ends_with(&before[19].to_string()), "{violation}");
    let drawn = (setup.faults.len(), setup.jobs.len(), setup.nodes.len());
    let mut runs = 0;
    let small = shrink(setup, violation, &mut |run, _| runs = run);
    assert!(runs > 0 && runs == small.runs);
    let left = &small.setup;
    assert!(left.faults.len() <= 6 && left.jobs.len() <= 2, "{left:?} of {drawn:?}");
    assert!(small.violation.what.contains("two epochs"), "{}", small.violation);

    let text = to_text(left, "two epochs");
    let (scenario, again) = Scenario::parse(Path::new("small.toml"), &text).expect("it is a file");
    assert_eq!(scenario.about, "two epochs");
    let played = swarm::play_setup(Setup { plant: Some(Plant::FloorsForgotten), ..again.clone() });
    assert_eq!(played.violation, Some(small.violation), "the same, and the same before it");
    assert_eq!(swarm::play_setup(again).violation, None, "without the bug, nothing is wrong");
}

#[test]
fn every_case_of_the_swarm_can_be_written_to_a_file_and_read_again() {
    for seed in 0..200 {
        let setup = swarm::setup(seed, None);
        let text = to_text(&setup, "a case");
        let (_, again) = Scenario::parse(Path::new("case.toml"), &text)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        assert_eq!(format!("{again:?}"), format!("{setup:?}"), "seed {seed}");
    }
}
