//! A bounded swarm, and the proof that each checker can fail.

use lindos_sim::{Plant, swarm};

const SEEDS: u64 = 300;
/// A planted bug is found within so many seeds.
const SEEDS_PLANTED: u64 = 60;

#[test]
fn the_swarm_finds_nothing() {
    let mut node_ms = 0;
    for seed in 0..SEEDS {
        let result = swarm::play(seed, None);
        if let Some(violation) = result.violation {
            panic!("{violation}\nto see it again: {}", swarm::reproduce(seed));
        }
        node_ms += result.node_ms;
    }
    assert!(node_ms > 0);
}

#[test]
fn every_checker_sees_the_bug_that_was_planted_for_it() {
    for (plant, words) in Plant::ALL {
        let seen = (0..SEEDS_PLANTED)
            .filter_map(|seed| swarm::play(seed, Some(plant)).violation)
            .find(|violation| violation.contains(words));
        assert!(seen.is_some(), "{plant:?} was not found: nothing said `{words}`");
    }
}

#[test]
fn a_seed_plays_the_same_twice() {
    let play = || lindos_sim::run(swarm::setup(7, None));
    let (a, b) = (play(), play());
    assert_eq!((a.trail, a.ledger, a.happenings), (b.trail, b.ledger, b.happenings));
}
