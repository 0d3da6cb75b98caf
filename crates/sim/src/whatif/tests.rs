//! Recordings of the twin, replayed and played again.

use super::draw::Faults;
use super::play::play;
use super::record::record;
use super::tale::Tale;
use super::*;
use crate::twin::scenario::FleetScenario;
use lindos_journal::{Journal, MemoryDisk, Options, Reader};
use std::path::Path;

fn scenario(faults: &str, more: &str) -> FleetScenario {
    let text = format!(
        r#"
about = "a test"
until = "6d"
[fleet]
nodes = 20
gpus = 8
nodes_per_rack = 4
[faults]
profile = "{faults}"
scale = 6.0
[[jobs]]
name = "main"
nodes = 14
priority = 5
step = "8s"
startup = "150s"
restore = "70s"
checkpoint = {{ every = "30m", blocks = "12s", durable_after = "45s" }}
[[jobs]]
name = "small"
count = 12
spread = "4d"
nodes = [1, 3]
days = [0.2, 0.9]
checkpoint = {{ every = "1h" }}
{more}"#
    );
    let files = |_: &str| Err(std::io::ErrorKind::NotFound.into());
    FleetScenario::parse(Path::new("test.toml"), &text, &files).unwrap_or_else(|e| panic!("{e}"))
}

fn recorded(scenario: &FleetScenario, seed: u64) -> (MemoryDisk, crate::twin::figures::Figures) {
    let disk = MemoryDisk::new();
    let (mut journal, _) = Journal::open(disk.clone(), Options::new(7)).unwrap();
    let figures = record(&mut journal, || Ok(disk.clone()), scenario, seed, &mut |_| {}).unwrap();
    drop(journal);
    (disk, figures)
}

fn history(disk: &MemoryDisk) -> (History, Proof) {
    let (reader, _) = Reader::open(disk.clone(), None).unwrap();
    let mut watch = Watch::default();
    let (proof, core) =
        replay(&reader, &mut |moment| watch.on_moment(moment), &mut |_| {}).unwrap();
    (watch.into_history(&core), proof)
}

fn unchanged(history: &History) -> Tale {
    play(history, &Change::default(), Faults::Recorded, &mut |_| {}).unwrap()
}

#[test]
fn a_recording_replays_to_what_was_played() {
    let scenario = scenario("rsc-1", "");
    let (disk, figures) = recorded(&scenario, 3);
    let (history, proof) = history(&disk);
    assert_eq!(proof.digest.to_string(), figures.digest);
    assert_eq!((proof.records, proof.proved.len()), (figures.events, 2));
    assert_eq!(history.tale.ledger, figures.ledger);
    let interruptions: u64 = figures.groups.iter().map(|group| group.interruptions).sum();
    assert_eq!(history.tale.interruptions, interruptions);
}

/// Nothing in these profiles, or in these lives of them, is slow for a while: that would only be
/// known of in the mean.
#[test]
fn the_twin_lives_a_recording_again_to_the_millisecond() {
    let lives = [("none", 1), ("rsc-1", 1), ("rsc-1", 2), ("rsc-1", 3), ("delta-h100", 2)];
    let mut kinds = std::collections::BTreeMap::new();
    for (profile, seed) in lives {
        let (disk, _) = recorded(&scenario(profile, ""), seed);
        let (history, _) = history(&disk);
        kinds.extend(history.incidents_by_kind());
        assert!(history.unplayed.is_empty(), "{profile} {seed}: {:?}", history.unplayed);
        let again = unchanged(&history);
        assert_eq!(again, history.tale, "{profile} {seed}");
    }
    let kinds: Vec<&str> = kinds.into_keys().collect();
    assert_eq!(kinds, ["drained for a fault", "hang", "node silent", "rank ended"]);
}
