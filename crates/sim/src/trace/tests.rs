//! Whole replays: one worked out by hand, and what holds for all.

use super::measure::{About, Measures, Timeline, Window, measure};
use super::read::{ReadOptions, SkippedRows, read};
use super::world::{End, Outcome, Setup, replay};
use super::{LimitRule, TeamShares, TraceJob, shape};
use lindos_model::policy::{Class, QueueRule};
use lindos_model::{Column, Location, Millis, NodeSpec, Policy, Time};
use proptest::prelude::*;

fn fleet(sizes: &[u16]) -> Vec<NodeSpec> {
    sizes
        .iter()
        .enumerate()
        .map(|(index, &gpus)| NodeSpec {
            name: format!("n{index}"),
            gpus,
            platform: "p".into(),
            address: "127.0.0.1".into(),
            location: Location::default(),
            labels: std::collections::BTreeMap::new(),
        })
        .collect()
}

/// Jobs from `submit,duration,gpus[,team]` lines, in seconds.
fn jobs(nodes: &[NodeSpec], lines: &str, rule: LimitRule) -> (Vec<TraceJob>, SkippedRows) {
    let text = format!("submit,duration,gpus,team\n{lines}");
    let trace = read("t.csv", text.as_bytes(), &ReadOptions::default()).unwrap();
    shape::jobs(&trace.rows, nodes, rule)
}

fn fifo() -> Policy {
    Policy { queue: QueueRule::Fifo, ..Policy::default() }
}

fn play(nodes: &[NodeSpec], jobs: &[TraceJob], policy: Policy) -> (Outcome, Measures) {
    let setup = Setup {
        nodes,
        policy,
        jobs,
        checkpoint: Some(Millis::from_secs(1800)),
        window: Window::busy(jobs),
        check_every: 1,
    };
    let outcome = replay(setup, &mut |_, _| ());
    let about = About {
        policy: "p",
        fleet: "f",
        nodes: nodes.len() as u64,
        gpus: nodes.iter().map(|node| u64::from(node.gpus)).sum(),
        skipped: &SkippedRows::default(),
    };
    let measures = measure(&about, jobs, &outcome);
    (outcome, measures)
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

/// Two nodes of 8. A takes one node at once; B wants both and waits for A until 100; C wants half a
/// node for 30 s, and is not let past B: it starts when B has ended, at 150.
#[test]
fn a_replay_worked_out_by_hand() {
    let nodes = fleet(&[8, 8]);
    let (jobs, _) = jobs(&nodes, "0,100,8,a\n0,50,16,b\n10,30,4,a\n", LimitRule::Given);
    let (outcome, m) = play(&nodes, &jobs, fifo());
    let starts: Vec<_> = outcome.jobs.iter().map(|job| job.started.unwrap().0).collect();
    assert_eq!(starts, [0, 100_000, 150_000]);
    assert_eq!((m.jobs, m.completed, m.failed, m.unfinished, m.preemptions), (3, 3, 0, 0, 0));
    close(m.makespan_s, 180.0);
    close(m.utilisation, (8.0 * 100.0 + 16.0 * 50.0 + 4.0 * 30.0) / (16.0 * 180.0));
    close(m.wait_s.mean, 80.0);
    assert_eq!((m.wait_s.p50, m.wait_s.p95, m.wait_s.max), (100.0, 140.0, 140.0));
    close(m.slowdown_mean, (1.0 + 150.0 / 50.0 + 170.0 / 30.0) / 3.0);
    close(m.slowdown_bounded_mean, m.slowdown_mean);
    close(m.stranded_gpu_hours, 8.0 * 100.0 / 3600.0);
    close(m.fragmentation_mean, 4.0 * 30.0 / (8.0 * 100.0 + 12.0 * 30.0));
    close(m.lost_gpu_hours, 0.0);
    assert_eq!(m.queue_max, 2);
    let by_size: Vec<_> =
        m.wait_by_size.iter().map(|class| (class.gpus, class.wait_s.jobs)).collect();
    let teams: Vec<_> = m.wait_by_team.iter().map(|t| (&*t.team, t.wait_s.jobs)).collect();
    // Of a and b, a asked for more: 920 GPU-seconds against 800.
    assert_eq!(teams, [("a", 2), ("b", 1)]);
    close(m.wait_by_team[1].wait_s.mean, 100.0);
    assert_eq!(by_size, [("1", 0), ("2-8", 2), ("9-64", 1), ("65+", 0)]);
}

#[test]
fn the_ledger_of_a_replay_holds_all_of_the_fleets_time() {
    let nodes = fleet(&[8, 4]);
    let (jobs, _) = jobs(&nodes, "0,100,8,\n5,50,2,\n300,10,12,\n310,9,1,\n", LimitRule::Given);
    let (outcome, m) = play(&nodes, &jobs, fifo());
    assert_eq!(m.completed, 3);
    assert_eq!(outcome.ledger.total(), 12 * outcome.ended.since(outcome.began).0);
    let held: u64 = outcome.meter.timeline.bins.iter().map(|bin| bin.held).sum();
    assert_eq!(held, outcome.ledger[Column::Productive]);
    assert_eq!(outcome.ledger[Column::Productive], (8 * 100 + 2 * 50 + 9) * 1000);
}

#[test]
fn a_job_that_no_fleet_like_this_can_hold_is_left_out() {
    let nodes = fleet(&[8, 8, 2]);
    let lines = "0,10,16,\n0,10,17,\n0,10,2,\n1,10,99,\n";
    let (jobs, skipped) = jobs(&nodes, lines, LimitRule::Given);
    let gangs: Vec<_> = jobs.iter().map(|job| (job.spec.nodes, job.spec.gpus_per_node)).collect();
    assert_eq!(gangs, [(2, 8), (1, 2)]);
    let told: Vec<_> = skipped.list().iter().map(|s| (&*s.reason, s.count, s.first_line)).collect();
    assert_eq!(told, [("it is larger than the fleet", 2, 3)]);
}

#[test]
fn more_gpus_than_a_node_has_are_whole_nodes() {
    let nodes = fleet(&[8; 4]);
    let (jobs, _) = jobs(&nodes, "0,10,12,\n", LimitRule::Given);
    assert_eq!((jobs[0].gpus, jobs[0].held_gpus()), (12, 16));
}

#[test]
fn limits_are_never_below_the_duration() {
    let nodes = fleet(&[8]);
    let limits = |rule| -> Vec<Option<u64>> {
        let (jobs, _) = jobs(&nodes, "0,60,1,\n0,3600,1,\n0,40000000,1,\n", rule);
        jobs.iter().map(|job| job.spec.time_limit.map(|limit| limit.0 / 1000)).collect()
    };
    let (hour, year) = (3600, 365 * 86_400);
    assert_eq!(limits(LimitRule::Given), [Some(hour), Some(4 * hour), Some(2 * year)]);
    assert_eq!(limits(LimitRule::Exact), [Some(61), Some(3601), Some(40_000_001)]);
    assert_eq!(limits(LimitRule::Factor(1.0)), limits(LimitRule::Exact));
    assert_eq!(limits(LimitRule::Factor(2.0)), [Some(120), Some(7200), Some(80_000_000)]);
    assert_eq!(limits(LimitRule::None), [None, None, None]);
    let text = "submit,duration,gpus,limit\n0,100,1,500\n0,100,1,50\n0,100,1,\n";
    let rows = read("t.csv", text.as_bytes(), &ReadOptions::default()).unwrap().rows;
    let (given, _) = shape::jobs(&rows, &nodes, LimitRule::Given);
    let given: Vec<_> = given.iter().map(|job| job.spec.time_limit.unwrap().0).collect();
    assert_eq!(given, [500_000, 101_000, 3_600_000]);
    assert_eq!("factor:1.5".parse(), Ok(LimitRule::Factor(1.5)));
    for wrong in ["factor:0.5", "factor:x", "exactly"] {
        assert!(wrong.parse::<LimitRule>().is_err(), "{wrong}");
    }
}

#[test]
fn teams_share_the_fleet_as_told() {
    let nodes = fleet(&[8, 8]);
    let (jobs, _) = jobs(&nodes, "0,30,1,a\n0,10,1,b\n0,99,4,\n", LimitRule::Given);
    let shares = |rule| -> Vec<(String, u64)> {
        let teams = shape::teams(&jobs, 16, rule);
        teams.into_iter().map(|team| (team.name, team.share)).collect()
    };
    assert_eq!(shares(TeamShares::None), []);
    assert_eq!(shares(TeamShares::Equal), [("a".to_string(), 8), ("b".to_string(), 8)]);
    assert_eq!(shares(TeamShares::Usage), [("a".to_string(), 12), ("b".to_string(), 4)]);
}

/// Team b wants its half back from a, which holds all since 0 and saved its work at 1800 s: the 200
/// s since then are done again, after b has ended.
#[test]
fn a_preempted_job_goes_on_from_its_last_checkpoint() {
    let nodes = fleet(&[8]);
    let (jobs, _) = jobs(&nodes, "0,5000,8,a\n2000,100,4,b\n", LimitRule::None);
    let teams = shape::teams(&jobs, 8, TeamShares::Equal);
    let (outcome, m) = play(&nodes, &jobs, Policy { teams, ..Policy::default() });
    assert_eq!((m.completed, m.preemptions, m.preempted_jobs), (2, 1, 1));
    close(m.lost_gpu_hours, 8.0 * 200.0 / 3600.0);
    assert_eq!(outcome.jobs[1].started, Some(Time(2_000_000)));
    assert_eq!(outcome.jobs[0].ended, Some(Time((2100 + 5000 - 1800) * 1000)));
    close(m.slowdown_mean, f64::midpoint(5300.0 / 5000.0, 1.0));
    // A wait is the one before the first start.
    close(m.wait_s.max, 0.0);
}

#[test]
fn what_can_never_start_is_unfinished_and_the_replay_ends() {
    let nodes = fleet(&[8, 8]);
    let (jobs, _) = jobs(&nodes, "0,10,8,\n0,10,16,\n", LimitRule::Given);
    // One node is kept as a spare: the second job fits never.
    let (outcome, m) = play(&nodes, &jobs, Policy { spares: 1, ..fifo() });
    assert_eq!((m.completed, m.unfinished), (1, 1));
    assert_eq!(outcome.jobs[1].end, End::None);
    assert_eq!(m.wait_s.jobs, 1);
}

#[test]
fn a_job_that_the_policy_does_not_take_is_told() {
    let nodes = fleet(&[8]);
    let (mut jobs, _) = jobs(&nodes, "0,10,8,\n0,20,8,\n", LimitRule::Given);
    let mut spec = (*jobs[1].spec).clone();
    spec.class = "nobody knows it".into();
    jobs[1].spec = std::sync::Arc::new(spec);
    let class = Class { name: "known".into(), priority: 0, preempts: false };
    let (_, m) = play(&nodes, &jobs, Policy { classes: vec![class], ..fifo() });
    assert_eq!((m.completed, m.rejected, m.unfinished), (1, 1, 0));
    assert_eq!((m.skipped[0].first_line, m.queue_max), (3, 0));
}

#[test]
fn the_busy_period_is_between_a_tenth_and_nine_tenths_of_the_work() {
    let nodes = fleet(&[8]);
    let lines = "0,10,1,\n100,100,8,\n200,100,8,\n300,10,1,\n400,10,1,\n";
    let (jobs, _) = jobs(&nodes, lines, LimitRule::Given);
    let window = Window::busy(&jobs);
    assert_eq!((window.from, window.to), (Time(100_000), Time(200_000)));
    close(window.demand_gpus(&jobs), 8.0);
    let (_, m) = play(&nodes, &jobs, fifo());
    close(m.utilisation_busy, 1.0);
}

#[test]
fn a_timeline_keeps_its_sums_when_its_bins_double() {
    let nodes = fleet(&[8]);
    // 4096 bins of a minute are less than three days.
    let (jobs, _) = jobs(&nodes, "0,1000000,4,\n2000000,1000000,8,\n", LimitRule::Given);
    let (outcome, _) = play(&nodes, &jobs, fifo());
    let Timeline { bin_ms, bins, .. } = &outcome.meter.timeline;
    assert!(*bin_ms > 60_000 && bins.len() <= 4096);
    assert_eq!(bins.iter().map(|bin| bin.held).sum::<u64>(), 12_000_000_000);
    assert_eq!(bins[0].held, 4 * bin_ms);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Under any policy every job of a random trace ends, none runs shorter than it must, and the
    /// same trace ends in the same state.
    #[test]
    fn every_job_runs_for_its_time_and_a_second_replay_is_the_same(
        rows in prop::collection::vec((0u64..5000, 1u64..4000, 1u64..20, 0usize..3), 1..40),
        queue in prop::sample::select(vec![QueueRule::Fifo, QueueRule::Backfill, QueueRule::Fair]),
        shares in prop::sample::select(vec![TeamShares::None, TeamShares::Equal]),
    ) {
        let nodes = fleet(&[8, 8, 4]);
        let lines: Vec<String> = rows
            .iter()
            .map(|(submit, duration, gpus, team)| {
                format!("{submit},{duration},{},t{team}", gpus.min(&16))
            })
            .collect();
        let lines = lines.join("\n");
        let (jobs, _) = jobs(&nodes, &lines, LimitRule::None);
        let policy = Policy { queue, teams: shape::teams(&jobs, 20, shares), ..Policy::default() };
        let (outcome, m) = play(&nodes, &jobs, policy.clone());
        prop_assert_eq!(m.completed as usize, rows.len());
        for (job, became) in jobs.iter().zip(&outcome.jobs) {
            let (started, ended) = (became.started.unwrap(), became.ended.unwrap());
            prop_assert!(started >= job.submit);
            let took = ended.since(started);
            prop_assert!(took >= job.duration);
            prop_assert!(became.preempted > 0 || took == job.duration);
        }
        prop_assert_eq!(outcome.ledger.total(), 20 * outcome.ended.since(outcome.began).0);
        let (again, _) = play(&nodes, &jobs, policy);
        prop_assert_eq!(again.digest, outcome.digest);
        prop_assert_eq!(again.events, outcome.events);
    }
}
