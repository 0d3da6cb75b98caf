//! The whole bench on a small fleet, with a clock that counts how often it is asked.

use super::*;
use lindos_journal::{MemoryDisk, Options};
use std::cell::Cell;

#[derive(Default)]
struct Counting(Cell<u64>);

impl Machine for Counting {
    fn nanos(&self) -> u64 {
        self.0.set(self.0.get() + 1_000);
        self.0.get()
    }

    fn resident_bytes(&self) -> u64 {
        self.nanos()
    }
}

fn measure(gpus: u64) -> Measures {
    let effort = Effort { queued_jobs: 2_500, durable_jobs: 400, ..Effort::quick() };
    let (mut journal, _) = Journal::open(MemoryDisk::new(), Options::new(1)).unwrap();
    run(gpus, &effort, &Counting::default(), &mut journal, &mut |_, _, _| {}).unwrap()
}

#[test]
fn a_small_fleet_has_every_figure_that_it_can_have() {
    let measures = measure(800);
    assert_eq!((measures.gpus, measures.nodes), (800, 100));
    assert!((0.75..=0.95).contains(&measures.occupancy), "{}", measures.occupancy);
    for key in ["gang_1250_ms", "gang_1250_step_ms", "gang_10000_ms", "gang_10000_step_ms"] {
        let figure = measures.figure(key).unwrap();
        assert_eq!(figure.median(), None, "{key} on a fleet of 100 nodes");
    }
    for figure in measures.figures.iter().filter(|figure| !figure.key.starts_with("gang_")) {
        let least = if figure.key == "pass_starts" { 0.0 } else { f64::MIN_POSITIVE };
        assert!(figure.median().is_some_and(|median| median >= least), "{figure:?}");
        assert!(figure.p95() >= figure.median() || figure.unit.is_more_better(), "{figure:?}");
    }
    let goals: Vec<&str> =
        measures.figures.iter().filter(|f| f.goal.is_some()).map(|f| f.key).collect();
    let expected = [
        "one_node_us",
        "gang_1250_ms",
        "gang_10000_ms",
        "whole_fleet_ms",
        "unplaceable_ms",
        "pass_100k_ms",
        "durable_jobs_per_s",
        "state_mb",
    ];
    assert_eq!(goals, expected);
}

#[test]
fn an_aged_fleet_is_fragmented_and_keeps_every_invariant() {
    let mut world = World::new(800).unwrap();
    let mut history = History::new(7);
    history.age(&mut world, &mut |_, _| {});
    world.core.check();
    let broken = world.core.nodes().iter().filter(|node| {
        let free = node.free().len();
        free > 0 && free < node.spec.gpus
    });
    assert!(broken.count() > 2, "no node is in part free");
    history.end_all(&mut world, &mut |_, _| {});
    world.core.check();
}

#[test]
fn every_node_that_is_condemned_is_out_and_every_one_that_is_mended_is_back() {
    let measures = health(100, 3, &Counting::default(), &mut |_, _| {}).unwrap();
    assert_eq!((measures.nodes, measures.cordons), (100, 6));
    assert!(measures.busy > 0 && measures.busy < measures.cordons, "{measures:?}");
    assert!(measures.figures.iter().all(|figure| figure.median().is_some()), "{measures:?}");
}
