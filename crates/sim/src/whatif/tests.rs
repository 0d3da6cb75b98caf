//! Recordings of the twin, replayed and played again.

use super::change::OtherFleet;
use super::draw::{Faults, Nodes};
use super::play::play;
use super::record::record;
use super::tale::Tale;
use super::*;
use crate::twin::answers::{Answer, BurnIn, ByHand, Lasted, UsualMending};
use crate::twin::measure::Outcome;
use crate::twin::scenario::FleetScenario;
use crate::twin::script::{Deed, Script, What};
use lindos_core::Event;
use lindos_journal::{EventRecord, Journal, MemoryDisk, Options, Reader, SnapshotRecord};
use lindos_model::finding::{Action, Device, Finding, FindingSource, Severity};
use lindos_model::job::CheckpointEvery;
use lindos_model::{Column, Mended, Millis, NodeId, Outcome as RemedyOutcome, Remedy, Time};
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
    let lives = [
        ("none", "6.0", 1),
        ("rsc-1", "6.0", 1),
        ("rsc-1", "6.0", 2),
        ("rsc-1", "6.0", 3),
        // Nodes are taken out for the faults of jobs alone.
        ("rsc-1", "20.0", 2),
        ("rsc-1", "20.0", 11),
        ("delta-h100", "6.0", 1),
        ("delta-h100", "6.0", 2),
        ("delta-h100", "6.0", 3),
    ];
    let mut kinds = std::collections::BTreeMap::new();
    for (profile, scale, seed) in lives {
        let text = scenario_text(profile).replace("scale = 6.0", &format!("scale = {scale}"));
        let (disk, _) = recorded(&parse(&text), seed);
        let (history, _) = history(&disk);
        kinds.extend(history.incidents_by_kind());
        assert!(history.unplayed.is_empty(), "{profile} {seed}: {:?}", history.unplayed);
        let again = unchanged(&history);
        assert_eq!(again, history.tale, "{profile} {scale} {seed}");
    }
    let kinds: Vec<&str> = kinds.into_keys().collect();
    let all = ["found by a check", "hang", "node silent", "rank ended", "taken out"];
    assert_eq!(kinds, all);
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
    let of = |rate| {
        super::draw::incidents(&history, Faults::Drawn(5), Nodes::Recorded(nodes), rate, 1.0)
    };
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

fn fleet(nodes: u32, gpus: u16) -> OtherFleet {
    let text = format!(
        "about=\"\"\nuntil=\"1d\"\n[fleet]\nnodes={nodes}\ngpus={gpus}\n\
                        [faults]\nprofile=\"none\"\n[[jobs]]\nname=\"one\"\nnodes=1\ncheckpoint={{every=\"1h\"}}\n"
    );
    let setup = parse(&text).setup(1).unwrap();
    OtherFleet { name: format!("{nodes}x{gpus}"), nodes: setup.nodes }
}

#[test]
fn another_fleet_does_the_same_jobs_with_drawn_faults_alone() {
    let history = crashes();
    let before = unchanged(&history);
    let on = |nodes, gpus| Change { fleet: Some(fleet(nodes, gpus)), ..Change::default() };
    let twice = on(40, 8);
    assert!(!twice.keeps_faults(&history) && !twice.is_none());
    let quiet = under(&history, &twice);
    assert_eq!(quiet.ledger.total(), 2 * before.ledger.total());
    assert_eq!((quiet.jobs, quiet.interruptions), (before.jobs, 0), "the very ones cannot strike");
    assert!(quiet.wait_hours(0.95) < before.wait_hours(0.95));
    let lives = |change: &Change| -> u64 {
        let life = |seed| play(&history, change, Faults::Drawn(seed), &mut |_| {}).unwrap();
        (1..5).map(|seed| life(seed).interruptions).sum()
    };
    let (usual, other) = (lives(&Change::default()), lives(&on(40, 8)));
    // Node for node as many, and no more of the nodes are used than before.
    let share = other as f64 / usual as f64;
    assert!((0.6..1.6).contains(&share), "{usual} and {other}");
    let bad = on(10, 8).check(&history).unwrap_err();
    assert!(
        bad.message.starts_with("--fleet 10x8: main could never start there (main: "),
        "{bad:?}"
    );
    assert!(bad.message.contains("it can have 10 at most"), "{bad:?}");
    let bad = on(200, 4).check(&history).unwrap_err();
    assert!(bad.message.contains("small-11") && bad.message.contains(" more "), "{bad:?}");
    let both = Change { nodes: 2, ..on(40, 8) };
    assert!(both.check(&history).unwrap_err().hint.contains("one of the two"));
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

fn set(text: &str) -> Change {
    Change { set: vec![super::change::parse_set(text).unwrap()], ..Change::default() }
}

#[test]
fn another_policy_of_repairs_shows_in_their_columns() {
    let history = crashes();
    let before = unchanged(&history);
    let (repair, burn_in) = (Column::Repair, Column::BurnIn);
    assert!(before.ledger[repair] > 0 && before.ledger[burn_in] > 0, "{:?}", before.ledger);
    let unproved = under(&history, &set("repair.burn_in_ms=0"));
    assert_eq!(unproved.ledger[burn_in], 0);
    let longer = under(&history, &set("repair.burn_in_ms=3_600_000"));
    assert!(longer.ledger[burn_in] > 3 * before.ledger[burn_in]);
    let slower = under(&history, &Change { repair_time: 3.0, ..Change::default() });
    assert!(slower.ledger[repair] > 2 * before.ledger[repair]);
    let by_hand = under(&history, &set("repair.automatic=false"));
    assert_eq!(by_hand.ledger[burn_in], 0);
    assert!(by_hand.ledger[Column::Maintenance] > before.ledger[Column::Maintenance]);
}

/// A control plane that can mend nothing by itself, as the first servers were: one node is found
/// broken, a technician is wanted, and comes.
fn found_and_mended_by_hand() -> (MemoryDisk, Outcome) {
    let text = scenario_text("none").replace("nodes = 14", "nodes = 6");
    let mut setup = parse(&text).setup(1).unwrap();
    let finding = |class: &str, severity, action| {
        Box::new(Finding {
            device: Some(Device::Gpu(3)),
            ..Finding::new(class.parse().unwrap(), severity, action, FindingSource::Nvml, "a test")
        })
    };
    let lost = finding("gpu.missing", Severity::GpuFatal, Action::ResetGpu);
    let harmless = finding("gpu.clock", Severity::Info, Action::None);
    let node = NodeId(2);
    let hours = |hours: u64| Time(hours * 3_600_000);
    let deed = |at, what| Deed { at, what, is_first: false, incident: None };
    let joins = setup.nodes.iter().map(|spec| What::Joins(Box::new(spec.clone())));
    let mut deeds: Vec<Deed> =
        joins.map(|what| Deed { is_first: true, ..deed(Time(0), what) }).collect();
    deeds.push(deed(hours(20), What::Finds { node: NodeId(9), finding: harmless }));
    deeds.push(deed(hours(30), What::Finds { node, finding: lost.clone() }));
    let (class, device) = (lost.class.clone(), lost.device.clone());
    deeds.push(deed(hours(37), What::FindsNoMore { node, class, device }));
    let cannot = Answer { outcome: RemedyOutcome::Unsupported, after: Some(Millis(700)) };
    let remedies = Remedy::ALL.into_iter().filter(|remedy| !remedy.is_by_hand());
    let burn_in = BurnIn { outcome: RemedyOutcome::Unsupported, lasted: Lasted::Only(Millis(400)) };
    let usual = UsualMending {
        remedies: remedies.map(|remedy| (remedy, cannot.clone())).collect(),
        burn_in: Some(burn_in),
        by_hand: Some(ByHand { how: Mended::Repaired, after: Some(Millis(9 * 3_600_000)) }),
    };
    setup.script = Some(Script { deeds, usual });
    let disk = MemoryDisk::new();
    let (mut journal, _) = Journal::open(disk.clone(), Options::new(7)).unwrap();
    let mut keep = |at: Time, event: &Event| {
        journal.append_record(&EventRecord::V1 { at, event: event.clone() }).unwrap();
        if journal.pending() > 1000 {
            journal.commit().unwrap();
        }
    };
    let outcome = crate::twin::run(&setup, Some(&mut keep), &mut |_| {});
    journal.commit().unwrap();
    drop(journal);
    (disk, outcome)
}

#[test]
fn a_node_that_a_person_mended_comes_back_when_it_did() {
    let (disk, outcome) = found_and_mended_by_hand();
    let (history, _) = history(&disk);
    assert_eq!(history.tale.ledger, outcome.ledger);
    assert_eq!(history.incidents_by_kind().into_keys().collect::<Vec<_>>(), ["found by a check"]);
    let incident = &history.incidents[0];
    let (ladder, people) = (incident.mending.remedies.len(), incident.mending.by_hand.len());
    // A reset, a reboot, a power cycle and diagnostics, none of which anybody can do.
    assert_eq!((ladder, people, incident.findings.len()), (4, 1, 2), "{incident:?}");
    let before = unchanged(&history);
    assert_eq!(before, history.tale);
    let out = |tale: &Tale| tale.ledger[Column::Repair] as f64 / 8.0 / 3_600_000.0;
    assert!((out(&before) - 9.0).abs() < 0.01, "{} hours", out(&before));
    let twice = under(&history, &Change { repair_time: 2.0, ..Change::default() });
    assert!((out(&twice) - 18.0).abs() < 0.01, "{} hours", out(&twice));
    // Who cannot burn in answers at once, whatever is asked for.
    let longer = under(&history, &set("repair.burn_in_ms=3_600_000"));
    assert_eq!(longer.ledger[Column::BurnIn], before.ledger[Column::BurnIn]);
    let by_hand = under(&history, &set("repair.automatic=false"));
    assert_eq!(by_hand.ledger[Column::Repair], 0);
    let drained = by_hand.ledger[Column::Maintenance];
    assert!(drained > 0 && by_hand.ledger.total() == before.ledger.total());
    // Drawn, it comes to other nodes at other times, and is mended likewise.
    let life = play(&history, &Change::default(), Faults::Drawn(3), &mut |_| {}).unwrap();
    assert!(out(&life).fract() < 0.1 || life.ledger[Column::Repair] == 0, "{}", out(&life));
}

#[test]
fn a_change_that_makes_no_sense_is_told() {
    let history = crashes();
    let said = |change: Change| {
        let bad = change.check(&history).unwrap_err();
        format!("{} | {}", bad.message, bad.hint)
    };
    assert!(said(set("repair.burnin_ms=0")).ends_with("did you mean `repair.burn_in_ms`?"));
    assert!(said(set("repairs.burn_in_ms=0")).ends_with("did you mean `repair`?"));
    assert!(said(set("spares.max=0")).contains("`spares` is no table"));
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
