//! Recordings of the twin, replayed and played again.

use super::draw::Faults;
use super::play::play;
use super::record::record;
use super::tale::Tale;
use super::*;
use crate::twin::scenario::FleetScenario;
use lindos_core::Event;
use lindos_journal::{EventRecord, Journal, MemoryDisk, Options, Reader, SnapshotRecord};
use lindos_model::job::CheckpointEvery;
use lindos_model::{Column, Millis};
use std::path::Path;

fn scenario_text(faults: &str) -> String {
    format!(
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
"#
    )
}

fn parse(text: &str) -> FleetScenario {
    let files = |_: &str| Err(std::io::ErrorKind::NotFound.into());
    FleetScenario::parse(Path::new("test.toml"), text, &files).unwrap_or_else(|e| panic!("{e}"))
}

fn scenario(faults: &str) -> FleetScenario {
    parse(&scenario_text(faults))
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
    let scenario = scenario("rsc-1");
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
        let (disk, _) = recorded(&scenario(profile), seed);
        let (history, _) = history(&disk);
        kinds.extend(history.incidents_by_kind());
        assert!(history.unplayed.is_empty(), "{profile} {seed}: {:?}", history.unplayed);
        let again = unchanged(&history);
        assert_eq!(again, history.tale, "{profile} {seed}");
    }
    let kinds: Vec<&str> = kinds.into_keys().collect();
    assert_eq!(kinds, ["drained for a fault", "hang", "node silent", "rank ended"]);
}

#[test]
fn slow_nodes_and_replicas_are_lived_again_within_a_thousandth() {
    let replicas = "replicas = 7\nmin_replicas = 5\nregroup = \"2s\"\njoin = \"40s\"\n";
    for (profile, seed, more) in [("llama3-2024", 2, ""), ("rsc-1", 2, replicas)] {
        let text =
            scenario_text(profile).replacen("priority = 5\n", &format!("priority = 5\n{more}"), 1);
        let (disk, figures) = recorded(&parse(&text), seed);
        let (history, _) = history(&disk);
        let again = unchanged(&history);
        let distance = history.tale.distance(&again);
        assert!(distance < 1e-3, "{profile} {seed}: {distance}");
        let lost: u64 = figures.groups.iter().map(|group| group.replicas_lost).sum();
        assert_eq!(again.replicas_lost, lost, "{profile} {seed}");
    }
}

/// The fleet of a history under a change, with the faults on record.
fn under(history: &History, change: &Change) -> Tale {
    play(history, change, Faults::Recorded, &mut |_| {}).unwrap()
}

fn crashes() -> History {
    let (disk, _) = recorded(&scenario("delta-h100"), 2);
    history(&disk).0
}

#[test]
fn spares_stand_by_and_a_policy_that_is_not_changed_changes_nothing() {
    let history = crashes();
    let before = unchanged(&history);
    let with = |key: &str, value: i64| Change {
        set: vec![(key.to_string(), toml::Value::Integer(value))],
        ..Change::default()
    };
    let same = under(&history, &with("spares", i64::from(history.policy.spares)));
    assert_eq!(same, before);
    let after = under(&history, &with("spares", 4));
    assert_eq!(before.ledger[Column::Spare], 0);
    assert!(after.ledger[Column::Spare] > 0);
    let free = |tale: &Tale| tale.ledger[Column::Idle] + tale.ledger[Column::Stranded];
    assert!(free(&after) < free(&before), "what stands by is free no more");
    assert_eq!(after.ledger.total(), before.ledger.total());
}

#[test]
fn work_that_is_saved_less_often_is_lost_more_often() {
    let history = crashes();
    let every = |span| {
        let checkpoint_every = Some(CheckpointEvery::Given(span));
        under(&history, &Change { checkpoint_every, ..Change::default() })
    };
    let (often, seldom) = (every(Millis::from_secs(600)), every(Millis::from_secs(6 * 3600)));
    assert!(often.ledger[Column::Checkpoint] > seldom.ledger[Column::Checkpoint]);
    assert!(often.ledger[Column::Lost] * 3 < seldom.ledger[Column::Lost]);
}

#[test]
fn more_faults_are_the_same_ones_and_more_besides() {
    let history = crashes();
    let nodes = history.nodes.len();
    let of = |rate| super::draw::incidents(&history, Faults::Drawn(5), nodes, rate, 1.0);
    let (once, twice) = (of(1.0), of(2.0));
    assert!(once.iter().all(|incident| twice.contains(incident)));
    let share = twice.len() as f64 / once.len() as f64;
    assert!((1.6..2.4).contains(&share), "{} and {}", once.len(), twice.len());
    let lives = |fault_rate: f64| -> u64 {
        let change = Change { fault_rate, ..Change::default() };
        let life = |seed| play(&history, &change, Faults::Drawn(seed), &mut |_| {}).unwrap();
        (1..4).map(|seed| life(seed).interruptions).sum()
    };
    let (usual, double) = (lives(1.0), lives(2.0));
    let recorded = history.tale.interruptions * 3;
    let near = usual as f64 / recorded as f64;
    assert!((0.7..1.3).contains(&near), "three drawn lives have {usual}, three times {recorded}");
    assert!(double * 2 > usual * 3, "{usual} and {double}");
}

#[test]
fn new_nodes_take_what_waits_and_leave_the_faults_where_they_were() {
    let history = crashes();
    let before = unchanged(&history);
    let more = under(&history, &Change { nodes: 6, ..Change::default() });
    let gpu_ms = history.span().0 * 8 * 6;
    assert_eq!(more.ledger.total(), before.ledger.total() + gpu_ms);
    assert!(more.wait_hours(0.95) < before.wait_hours(0.95));
    let fewer = under(&history, &Change { nodes: -6, ..Change::default() });
    assert_eq!(fewer.ledger.total(), before.ledger.total() - gpu_ms);
    assert!(fewer.wait_hours(0.95) >= before.wait_hours(0.95));
}

#[test]
fn a_job_more_is_one_job_more_and_its_work_is_done() {
    let history = crashes();
    let files = |_: &str| Err(std::io::ErrorKind::NotFound.into());
    let text = "[[jobs]]\nname = \"urgent\"\nnodes = 2\npriority = 50\ndays = 0.5\n\
                checkpoint = { every = \"1h\" }\n";
    let after = Millis::from_secs(3600);
    let jobs = super::change::added_jobs(&history, text, after, &files).unwrap();
    assert_eq!((jobs.len(), jobs[0].at), (1, lindos_model::Time(3_600_000)));
    let with = under(&history, &Change { jobs, ..Change::default() });
    assert_eq!(with.jobs, history.tale.jobs + 1);
    let bad = super::change::added_jobs(&history, "spares = 2", after, &files).unwrap_err();
    assert!(bad.message.contains("`spares`"), "{bad:?}");
}

#[test]
fn a_change_that_makes_no_sense_is_told() {
    let history = crashes();
    let said = |change: Change| {
        let bad = change.check(&history).unwrap_err();
        format!("{} | {}", bad.message, bad.hint)
    };
    let set = |text: &str| Change {
        set: vec![super::change::parse_set(text).unwrap()],
        ..Change::default()
    };
    assert!(said(set("spare=2")).ends_with("did you mean `spares`?"));
    assert!(said(set("spares=many")).contains("--set spares=\"many\": invalid type"));
    assert!(said(set("queue=fiar")).contains("unknown variant `fiar`"));
    assert!(said(Change { nodes: -20, ..Change::default() }).contains("the fleet has 20 nodes"));
    assert!(said(Change { fault_rate: -1.0, ..Change::default() }).contains("from 0 to 1000"));
    assert!(super::change::parse_set("spares").is_err());
}

#[test]
fn another_state_than_the_snapshots_is_found() {
    let (mut disk, _) = recorded(&scenario("none"), 1);
    let (reader, _) = Reader::open(disk.clone(), None).unwrap();
    let last = *reader.snapshots().last().unwrap();
    let other = SnapshotRecord::V1 { core: lindos_core::Core::new().snapshot() }.encode();
    drop(reader);
    disk.crash(lindos_journal::Tail::Cut, |most| most);
    let (mut journal, _) = Journal::open(disk.clone(), Options::new(7)).unwrap();
    journal.snapshot(last, &other).unwrap();
    drop(journal);
    let (reader, _) = Reader::open(disk, None).unwrap();
    let error = replay(&reader, &mut |_| {}, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ReplayError::Differs { seq, .. } if seq == last), "{error}");
    assert!(error.to_string().contains("hint: "));
}

#[test]
fn what_is_no_whole_journal_of_a_control_plane_is_refused() {
    let said = |events: &[(u64, Event)]| {
        let disk = MemoryDisk::new();
        let (mut journal, _) = Journal::open(disk.clone(), Options::new(7)).unwrap();
        for (at, event) in events {
            let (at, event) = (lindos_model::Time(*at), event.clone());
            journal.append_record(&EventRecord::new(at, event)).unwrap();
        }
        journal.commit().unwrap();
        let (reader, _) = Reader::open(disk, None).unwrap();
        let replayed = replay(&reader, &mut |_| {}, &mut |_| {});
        replayed.map_or_else(|error| error.to_string(), |(proof, _)| proof.records.to_string())
    };
    let start = Event::ControlPlaneStarted { policy: Box::default() };
    assert!(said(&[]).starts_with("the journal has no records"));
    assert!(said(&[(1, Event::Tick)]).starts_with("the first record is `tick`"));
    assert_eq!(said(&[(1, start.clone()), (5, Event::Tick)]), "2");
    let back = said(&[(5, start), (4, Event::Tick)]);
    assert!(back.starts_with("the time of record 2 lies before"), "{back}");
}
