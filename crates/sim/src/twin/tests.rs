//! What faults do in the world of the twin, one cause at a time.

use super::measure::Outcome;
use super::work::{Checkpoints, Every};
use super::{Delays, Joined, Setup, TwinJob, Work, run};
use crate::reliability::{FaultPlan, Profile};
use lindos_core::Event;
use lindos_model::fleet::{NodeGroup, expand};
use lindos_model::policy::Repair;
use lindos_model::{Column, Millis, Policy, Time, job};
use std::path::Path;
use std::sync::Arc;

const DAYS: Time = Time(30 * 86_400_000);

/// A job without an end on four of eight nodes for thirty days, with a cause that strikes a node
/// every ten days, and is found and mended as these say.
fn setup(effect: &str, seen: f64, repair: &str) -> Setup {
    setup_of(1, effect, seen, repair)
}

fn setup_of(replicas: u32, effect: &str, seen: f64, repair: &str) -> Setup {
    let text = format!(
        r#"
        about = "one cause"
        [[causes]]
        name = "fault"
        per = "node"
        rate = 100
        effect = {effect}
        detect = "check"
        repair = "only"
        source = "made up"
        [[detections]]
        name = "check"
        after = {{ fixed = "10m" }}
        seen = {seen}
        source = "made up"
        [[repairs]]
        name = "only"
        by = [{{ {repair}, chance = 1.0 }}]
        source = "made up"
        "#
    );
    let profile = Profile::parse(Path::new("one.toml"), &text).unwrap();
    let group = NodeGroup {
        name: "n".into(),
        count: 8,
        gpus: 8,
        platform: "generic".into(),
        address: "127.0.0.1".into(),
        site: String::new(),
        nodes_per_rack: Some(4),
        racks_per_leaf: None,
        leaves_per_spine: None,
    };
    let nodes = expand(&[group]).unwrap();
    let checkpoints = Checkpoints {
        every: Every::Span(Millis(600_000)),
        blocks: Millis(1000),
        durable_after: Millis::ZERO,
    };
    let mut spec = job::sample("main", 4, 8);
    (spec.retry_infrastructure, spec.retry_user) = (u32::MAX, u32::MAX);
    (spec.replicas, spec.replicas_min) = (replicas, 1);
    let work = Work { checkpoints, ..Work::of(1 << 40, Millis(1000)) };
    Setup {
        faults: FaultPlan::new(&profile, &nodes, 1, Time::ZERO, DAYS).unwrap(),
        nodes,
        policy: Policy { repair: as_many_out_as_may_be(), ..Policy::default() },
        jobs: vec![TwinJob {
            at: Time::ZERO,
            spec: Arc::new(spec),
            work,
            tells_steps: true,
            tells_saves: true,
            fails: None,
        }],
        delays: Delays::default(),
        until: DAYS,
        script: None,
        check_every: 1,
    }
}

/// A fleet of eight nodes has one out at most, by the usual policy.
fn as_many_out_as_may_be() -> Repair {
    Repair {
        rack_out_max_percent: 100,
        leaf_out_max_percent: 100,
        platform_out_max_percent: 100,
        fleet_out_max_percent: 100,
        ..Repair::default()
    }
}

fn play(setup: &Setup) -> Outcome {
    run(setup, None, &mut |_| {})
}

const TWICE_AS_SLOW: &str = "{ slow = { factor = [2.0, 2.0] } }";
const CRASH: &str = "{ crash = { signal = 9 } }";
/// Nothing is broken but the process.
const PROCESS: &str = "kind = \"process_restart\"";
const A_DAY: &str = r#"kind = "replacement", takes = { fixed = "1d" }"#;

#[test]
fn a_job_leaves_a_slow_node_once_that_is_found_and_not_before() {
    let found = &play(&setup(TWICE_AS_SLOW, 1.0, A_DAY)).jobs[0];
    let struck = found.tally.causes[&0];
    assert!(struck > 4, "{struck}");
    assert_eq!((found.tally.stops, found.tally.interruptions), (struck, 0));
    // What it loses is ten minutes at half the speed, and a restart.
    assert!(found.steps_saved as f64 > 0.97 * DAYS.0 as f64 / 1000.0, "{}", found.steps_saved);
    let never = &play(&setup(TWICE_AS_SLOW, 0.0, A_DAY)).jobs[0];
    assert_eq!((never.tally.stops, never.tally.interruptions), (0, 0));
    assert!((never.steps_saved as f64) < 0.6 * DAYS.0 as f64 / 1000.0, "{}", never.steps_saved);
}

#[test]
fn of_a_job_of_replicas_only_the_one_on_a_slow_node_leaves() {
    let found = &play(&setup_of(4, TWICE_AS_SLOW, 1.0, A_DAY)).jobs[0];
    let struck = found.tally.causes[&0];
    assert_eq!((found.tally.stops, found.tally.interruptions), (0, 0));
    assert!(struck > 4 && found.tally.replicas_lost == struck, "{:?}", found.tally);
    // Once it has left, nobody waits for the slow node.
    assert!(found.steps_saved as f64 > 0.97 * DAYS.0 as f64 / 1000.0, "{}", found.steps_saved);
}

#[test]
fn of_a_job_of_replicas_a_hang_that_shows_costs_one_and_another_costs_all() {
    let hangs = |hang_shows| {
        let mut setup = setup_of(4, "\"hang\"", 0.0, PROCESS);
        setup.jobs[0].work.hang_shows = hang_shows;
        let tally = play(&setup).jobs.remove(0).tally;
        (tally.causes[&0], tally.replicas_lost, tally.interruptions)
    };
    let (struck, replicas_lost, interruptions) = hangs(1.0);
    assert!(struck > 4, "{struck}");
    assert_eq!((replicas_lost, interruptions), (struck, 0));
    assert_eq!(hangs(0.0), (struck, 0, struck));
}

/// What the core was told of stragglers.
fn told_of_stragglers(setup: &Setup) -> (Outcome, Vec<(Time, Event)>) {
    let mut told = Vec::new();
    let mut record = |at: Time, event: &Event| {
        if matches!(event, Event::StragglerSeen { .. } | Event::StragglerGone { .. }) {
            told.push((at, event.clone()));
        }
    };
    let outcome = run(setup, Some(&mut record), &mut |_| {});
    (outcome, told)
}

#[test]
fn a_slow_node_is_told_of_as_a_straggler_and_so_is_its_end() {
    let for_an_hour = "{ slow = { factor = [2.0, 2.0], lasts = { fixed = \"1h\" } } }";
    let (_, told) = told_of_stragglers(&setup(for_an_hour, 0.0, A_DAY));
    let first: Vec<_> = told.iter().take(2).collect();
    let [(seen_at, Event::StragglerSeen { straggler, .. }), (gone_at, gone)] = first[..] else {
        panic!("seen, and gone: {told:?}");
    };
    assert_eq!((straggler.own, straggler.peers, straggler.cost_permille), (0, 500, 500));
    assert_eq!(straggler.ranks, 8, "all of its node");
    // Three windows of 15 s.
    assert_eq!(seen_at.since(straggler.since), Millis::from_secs(45));
    assert!(matches!(gone, Event::StragglerGone { rank, .. } if *rank == straggler.rank));
    assert_eq!(gone_at.since(*seen_at), Millis::from_secs(3600), "it went away by itself");
}

#[test]
fn who_costs_little_is_not_told_of() {
    let (outcome, told) =
        told_of_stragglers(&setup("{ slow = { factor = [1.1, 1.1] } }", 0.0, A_DAY));
    assert_eq!(told, []);
    assert!((outcome.jobs[0].steps_saved as f64) < 0.95 * DAYS.0 as f64 / 1000.0, "it is slow");
}

#[test]
fn a_policy_can_have_a_job_leave_a_straggler_that_no_check_finds() {
    let mut setup = setup(TWICE_AS_SLOW, 0.0, A_DAY);
    let (stays, told) = told_of_stragglers(&setup);
    assert!(stays.jobs[0].tally.stops == 0 && !told.is_empty(), "without, it is only told of");
    setup.policy.repair.straggler_cost_percent = 20;
    let (leaves, _) = told_of_stragglers(&setup);
    let (stays, leaves) = (&stays.jobs[0], &leaves.jobs[0]);
    let tally = &leaves.tally;
    assert!(tally.stops >= 3 && tally.interruptions == 0, "{tally:?}");
    assert_eq!(tally.causes[&0], tally.stops, "each time because it was slow: {tally:?}");
    let (stays, leaves) = (stays.steps_saved, leaves.steps_saved);
    // Not all that is lost comes back: where two of its nodes are slow at once, none is named.
    assert!(leaves * 5 > stays * 6, "a fifth more: {leaves} steps, and {stays} without");
}

#[test]
fn a_fault_that_breaks_starts_too_is_counted_once() {
    let job = &play(&setup(CRASH, 0.0, A_DAY)).jobs[0];
    let (struck, tally) = (job.tally.causes[&0], &job.tally);
    assert!(struck > 1 && tally.again > 0, "{tally:?}");
    assert_eq!(tally.interruptions, struck + tally.again);
}

#[test]
fn a_run_that_begins_with_a_fleet_that_has_joined_is_the_same_run() {
    let setup = setup(CRASH, 1.0, A_DAY);
    let joined = Joined::new(&setup);
    let (alone, from_joined) = (play(&setup), joined.run(&setup, None, &mut |_| {}));
    let again = joined.run(&setup, None, &mut |_| {});
    assert!(alone.jobs[0].tally.interruptions > 0);
    for other in [from_joined, again] {
        assert_eq!((alone.digest, alone.events), (other.digest, other.events));
        assert_eq!(alone.jobs[0].tally, other.jobs[0].tally);
    }
}

#[test]
fn guardrails_keep_broken_nodes_in_service_and_without_them_none_stays() {
    let free = setup(CRASH, 1.0, A_DAY);
    let mut guarded = free.clone();
    guarded.policy.repair =
        Repair { platform_out_max_percent: 1, fleet_out_max_percent: 1, ..Repair::default() };
    let (free, guarded) = (play(&free), play(&guarded));
    // One of eight at once is a node-month at most.
    let node_month = 8 * DAYS.0;
    let out = |outcome: &Outcome| outcome.ledger[Column::Repair] + outcome.ledger[Column::BurnIn];
    assert!(out(&guarded) <= node_month, "{} of {node_month}", out(&guarded));
    assert!(out(&free) > out(&guarded));
    // What is kept in breaks what starts there.
    assert!(guarded.jobs[0].tally.again > free.jobs[0].tally.again);
}

#[test]
fn a_repair_takes_what_the_profile_says_and_a_burn_in_what_the_policy_says() {
    let mut setup = setup(CRASH, 1.0, A_DAY);
    let proved = play(&setup);
    let (burn_in, repair) = (proved.ledger[Column::BurnIn], proved.ledger[Column::Repair]);
    // Ten minutes for each day.
    let share = burn_in as f64 / repair as f64;
    assert!((share - 10.0 / 1440.0).abs() < 0.0005, "{share}");
    setup.policy.repair.burn_in_ms = 0;
    let unproved = play(&setup);
    assert_eq!(unproved.ledger[Column::BurnIn], 0);
    assert!(unproved.ledger[Column::Repair] > 0);
}

#[test]
fn a_remedy_that_outlasts_its_time_is_followed_by_the_next_and_mends_all_the_same() {
    let reboot = r#"kind = "reboot", takes = { fixed = "45m" }"#;
    let mut setup = setup(CRASH, 1.0, reboot);
    let mut tried = std::collections::BTreeMap::new();
    let mut hear = |_: Time, event: &lindos_core::Event| {
        if let lindos_core::Event::RemedyOver { outcome, .. } = event {
            *tried.entry(format!("{outcome:?}")).or_insert(0) += 1;
        }
    };
    let outcome = run(&setup, Some(&mut hear), &mut |_| {});
    let tickets = outcome.strikes[0];
    // The power is cycled after half an hour, and that the node is back is told of both.
    assert!(tried["Done"] > 2 * tickets, "{tried:?} of {tickets}");
    let an_hour = outcome.ledger[Column::Repair] / 8 / tickets;
    assert!((2_600_000..2_800_000).contains(&an_hour), "{an_hour}");
    setup.policy.repair.remedy_timeout_ms = 3_600_000;
    let patient = play(&setup);
    assert!(patient.ledger[Column::Repair] / 8 / patient.strikes[0] < 2_800_000);
}

#[test]
fn without_automatic_repair_people_drain_what_is_found() {
    let mut setup = setup(CRASH, 1.0, A_DAY);
    setup.policy.repair.automatic = false;
    let outcome = play(&setup);
    assert_eq!((outcome.ledger[Column::Repair], outcome.ledger[Column::BurnIn]), (0, 0));
    assert!(outcome.ledger[Column::Maintenance] > 0);
    assert!(outcome.jobs[0].tally.interruptions > 4);
}

#[test]
fn a_gang_whose_processes_wait_starts_in_what_needs_a_rank() {
    let played = |replicas, warm_spares, warm_restarts| {
        let mut setup = setup_of(replicas, "\"node_down\"", 1.0, A_DAY);
        setup.check_every = 97;
        let job = &mut setup.jobs[0];
        let spec = Arc::make_mut(&mut job.spec);
        (spec.spares, spec.warm_spares, spec.warm_restarts) = (2, warm_spares, warm_restarts);
        job.work.startup = Millis(300_000);
        job.work.startup_warm = Some(Millis(20_000));
        let outcome = play(&setup);
        let tally = &outcome.jobs[0].tally;
        let starts = 1 + tally.interruptions + tally.replicas_lost;
        (outcome.ledger[Column::Startup] / (4 * 8) / starts, starts)
    };
    // The nodes that are left start theirs anew, and the last of all counts.
    let (cold, starts) = played(1, 0, false);
    assert!(starts > 10, "{starts}");
    let (half, _) = played(1, 2, false);
    assert!(cold > 280_000 && half > 280_000, "{cold} {half}");
    let (warm, _) = played(1, 2, true);
    // The first start is a cold one.
    assert!((20_000..60_000).contains(&warm), "{warm}");
    // Of replicas only the one that was lost starts.
    let (cold, _) = played(4, 0, false);
    let (warm, starts) = played(4, 2, false);
    assert!(warm * 3 < cold, "{warm} {cold} {starts}");
}
