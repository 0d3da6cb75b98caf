//! Stories of the queue: who goes first, who may overtake, who is stopped for whom.

use super::story::{Story, job, killed};
use crate::Event;
use crate::effect::{Effect, Rejection, Reply};
use lindos_model::job::After;
use lindos_model::policy::{Class, QueueRule, Team};
use lindos_model::{
    Column, EndReason, JobId, JobSpec, JobState, Millis, NodeId, Policy, RequestId, Time,
    TrailKind, WaitReason,
};
use std::sync::Arc;

pub const MINUTE: u64 = 60_000;
pub const HOUR: u64 = 60 * MINUTE;

/// A job that holds its gang for at most so many minutes, and stops at once when told.
pub fn limited(nodes: u32, minutes: u64) -> JobSpec {
    let (stop_grace, hang_timeout) = (Millis::ZERO, Some(Millis(1000 * HOUR)));
    let time_limit = Some(Millis(minutes * MINUTE));
    JobSpec { time_limit, stop_grace, hang_timeout, ..job(nodes) }
}

pub fn of(team: &str, spec: JobSpec) -> JobSpec {
    JobSpec { team: team.into(), ..spec }
}

pub fn team(name: &str, parent: &str, share: u64, limit: Option<u64>) -> Team {
    Team { name: name.into(), parent: parent.into(), share, limit }
}

pub fn classes() -> Vec<Class> {
    vec![
        Class { name: "production".into(), priority: 100, preempts: true },
        Class { name: "research".into(), priority: 0, preempts: false },
    ]
}

pub fn class(name: &str, spec: JobSpec) -> JobSpec {
    JobSpec { class: name.into(), ..spec }
}

#[test]
fn a_job_that_is_over_in_time_overtakes_a_blocked_gang() {
    let mut story = Story::of(4);
    let first = story.run(limited(2, 60));
    let gang = story.submit(limited(4, 60));
    let too_long = story.submit(limited(1, 61));
    let in_time = story.submit(limited(1, 59));
    assert_eq!(story.state(gang), JobState::Queued);
    assert_eq!(story.state(too_long), JobState::Queued);
    assert!(matches!(story.core.why(too_long), Some(WaitReason::Held { nodes_held: 1, .. })));
    assert_eq!(story.state(in_time), JobState::Starting);
    story.after(30 * MINUTE);
    story.complete(first);
    story.complete(in_time);
    assert_eq!(story.state(gang), JobState::Starting);
}

#[test]
fn a_job_without_a_limit_takes_no_held_node() {
    let mut story = Story::of(3);
    let first = story.run(limited(1, 60));
    let gang = story.submit(limited(3, 60));
    let endless = story.submit(job(1));
    assert_eq!(story.state(endless), JobState::Queued);
    story.complete(first);
    assert_eq!(story.state(gang), JobState::Starting);
    story.complete(gang);
    assert_eq!(story.state(endless), JobState::Starting);
}

#[test]
fn nodes_are_gathered_for_a_gang_of_which_no_limit_tells_when_it_starts() {
    let mut story = Story::of(3);
    let running = [story.run(job(1)), story.run(job(1)), story.run(job(1))];
    let gang = story.submit(job(3));
    let small: Vec<JobId> = (0..3).map(|_| story.submit(job(1))).collect();
    for job in running {
        assert_eq!(story.state(gang), JobState::Queued);
        story.complete(job);
    }
    assert_eq!(story.state(gang), JobState::Starting);
    assert!(small.iter().all(|&job| story.state(job) == JobState::Queued));
}

#[test]
fn under_the_fifo_rule_nobody_overtakes() {
    let policy = Policy { queue: QueueRule::Fifo, ..Policy::default() };
    let mut story = Story::under(policy, 2);
    story.run(limited(1, 60));
    let gang = story.submit(limited(2, 60));
    let small = story.submit(limited(1, 1));
    assert_eq!(story.state(small), JobState::Queued);
    assert_eq!(story.core.why(small), Some(WaitReason::Behind { job: gang }));
}

#[test]
fn a_job_that_comes_first_takes_nodes_that_are_held_for_a_later_one() {
    let mut story = Story::of(2);
    story.run(limited(1, 60));
    let gang = story.submit(limited(2, 60));
    let urgent = story.submit(JobSpec { priority: 5, ..limited(1, 300) });
    assert_eq!(story.state(urgent), JobState::Starting);
    assert_eq!(story.state(gang), JobState::Queued);
}

#[test]
fn the_team_that_has_used_least_goes_first() {
    let mut story = Story::of(2);
    let busy = story.run(of("a", job(2)));
    let again = story.submit(of("a", job(2)));
    let other = story.submit(of("b", job(2)));
    story.after(HOUR);
    story.complete(busy);
    assert_eq!(story.state(again), JobState::Queued);
    assert_eq!(story.state(other), JobState::Starting);
}

#[test]
fn a_job_that_waited_too_long_goes_before_everybody() {
    let policy = Policy { wait_max_ms: HOUR, ..Policy::default() };
    let mut story = Story::under(policy, 1);
    let first = story.run(job(1));
    let low = story.submit(JobSpec { priority: -5, ..job(1) });
    story.after(2 * HOUR);
    let high = story.submit(JobSpec { priority: 5, ..job(1) });
    story.complete(first);
    assert_eq!(story.state(low), JobState::Starting);
    assert_eq!(story.state(high), JobState::Queued);
}

#[test]
fn a_team_and_its_parts_stay_within_their_limit() {
    let teams =
        vec![team("lab", "", 8, Some(16)), team("x", "lab", 8, None), team("y", "lab", 0, None)];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 4);
    story.run(of("x", job(1)));
    let second = story.run(of("y", job(1)));
    let third = story.submit(of("y", job(1)));
    assert_eq!(
        story.core.why(third),
        Some(WaitReason::TeamLimit { team: "lab".into(), limit: 16, held: 16, wanted: 8 })
    );
    story.complete(second);
    assert_eq!(story.state(third), JobState::Starting);
}

#[test]
fn a_team_or_class_that_nobody_knows_is_refused() {
    let policy = Policy { teams: vec![team("a", "", 8, None)], ..Policy::default() };
    let mut story = Story::under(policy, 1);
    for spec in [of("b", job(1)), JobSpec { class: "gold".into(), ..of("a", job(1)) }] {
        let request = RequestId(77 + u128::from(spec.class.len() as u32));
        story.tell(Event::JobSubmitted { request, user: "me".into(), spec: Arc::new(spec) });
        assert!(story.out.iter().any(|effect| matches!(
            effect,
            Effect::Reply { reply: Reply::Rejected { reason: Rejection::InvalidJob { .. } }, .. }
        )));
    }
}

#[test]
fn a_share_is_had_back_from_those_who_borrow_it() {
    let teams = vec![team("a", "", 16, None), team("b", "", 16, None)];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 4);
    let own = story.run(of("a", job(2)));
    let lent = story.run(of("a", job(1)));
    let lent_too = story.run(of("a", job(1)));
    story.after(5 * MINUTE);
    story.checkpoint(lent, 100);
    story.after(MINUTE);
    let wants = story.submit(of("b", job(1)));
    assert_eq!(story.state(wants), JobState::Queued);
    assert_eq!(story.state(lent), JobState::Stopping, "it loses least");
    assert_eq!(story.state(lent_too), JobState::Running);
    let lost = story.column(Column::Lost);
    assert_eq!(lost, 8 * MINUTE, "the work since its checkpoint");
    story.gone(lent);
    assert_eq!(story.state(wants), JobState::Starting);
    let victim = story.core.job(lent).unwrap();
    assert_eq!((victim.infrastructure_used, victim.user_used, victim.faults), (0, 0, 0));
    assert_eq!(story.state(lent), JobState::Queued);
    // What is within a team's own share is never taken.
    let more = story.submit(of("b", job(2)));
    assert_eq!(story.state(more), JobState::Queued);
    assert_eq!(story.state(own), JobState::Running);
    assert_eq!(story.state(lent_too), JobState::Running);
}

#[test]
fn a_class_preempts_lower_ones_only_when_that_starts_its_job() {
    let mut story = Story::under(Policy { classes: classes(), ..Policy::default() }, 3);
    let small = story.run(class("research", job(1)));
    let large = story.run(class("research", job(2)));
    let too_large = story.submit(class("production", job(4)));
    assert_eq!(story.state(small), JobState::Running);
    let two = story.submit(class("production", job(2)));
    assert_eq!(story.state(large), JobState::Stopping);
    assert_eq!(story.state(small), JobState::Running, "the large one alone is enough");
    story.gone(large);
    assert_eq!(story.state(two), JobState::Starting);
    assert!(matches!(story.core.why(too_large), Some(WaitReason::NeverFits { .. })));
    let preempted = |entry: &&lindos_model::TrailEntry| matches!(entry.what, TrailKind::Preempted { by, .. } if by == two);
    assert_eq!(story.core.trail_after(0).filter(preempted).count(), 1);
}

#[test]
fn nobody_is_preempted_twice_within_the_grace_time() {
    let policy = Policy { classes: classes(), preempt_grace_ms: HOUR, ..Policy::default() };
    let mut story = Story::under(policy, 1);
    let victim = story.run(class("research", job(1)));
    let first = story.submit(class("production", job(1)));
    story.gone(victim);
    story.all_up(first);
    story.complete(first);
    story.all_up(victim);
    story.step(victim, 2);
    let second = story.submit(class("production", job(1)));
    assert_eq!(story.state(victim), JobState::Running);
    assert_eq!(story.state(second), JobState::Queued);
    story.after(HOUR);
    story.report(0, vec![story.running(victim, NodeId(0))]);
    let third = story.submit(class("production", job(1)));
    assert_eq!(story.state(victim), JobState::Stopping);
    story.gone(victim);
    assert_eq!(story.state(second), JobState::Starting);
    assert_eq!(story.state(third), JobState::Queued);
}

#[test]
fn a_job_comes_after_those_that_it_names() {
    let mut story = Story::of(2);
    let first = story.run(job(1));
    let after = |job, any_end| vec![After { job, any_end }];
    let second = story.submit(JobSpec { after: after(first, false), ..job(1) });
    let third = story.submit(JobSpec { after: after(second, false), ..job(1) });
    let anyway = story.submit(JobSpec { after: after(second, true), ..job(1) });
    assert_eq!(story.core.why(second), Some(WaitReason::After { job: first }));
    story.complete(first);
    assert_eq!(story.state(second), JobState::Starting);
    story.cancel(second);
    story.gone(second);
    assert_eq!(story.state(third), JobState::Cancelled);
    let ended = story.core.job(third).unwrap().ended.clone();
    assert_eq!(ended, Some((JobState::Cancelled, EndReason::AfterFailed { job: second })));
    assert_eq!(story.state(anyway), JobState::Starting);
}

#[test]
fn an_array_is_many_jobs_with_numbers() {
    let mut story = Story::of(2);
    let first = story.submit(JobSpec { array: Some(3), ..job(1) });
    let ids: Vec<JobId> = story.core.jobs().map(|job| job.id).collect();
    assert_eq!(ids, [first, JobId(first.0 + 1), JobId(first.0 + 2)]);
    let indices: Vec<Option<u32>> = story.core.jobs().map(|job| job.array_index).collect();
    assert_eq!(indices, [Some(0), Some(1), Some(2)]);
    assert_eq!(story.state(ids[1]), JobState::Starting);
    assert_eq!(story.state(ids[2]), JobState::Queued);
}

#[test]
fn a_job_in_its_backoff_keeps_its_nodes_when_the_fault_was_not_its_own() {
    let mut story = Story::of(1);
    let id = story.run(job(1));
    let other = story.submit(job(1));
    for _ in 0..3 {
        story.all_end(id, &killed(), false);
        if story.state(id) == JobState::Queued {
            break;
        }
        story.all_up(id);
    }
    assert!(matches!(story.core.why(id), Some(WaitReason::Backoff { .. })));
    assert_eq!(story.state(other), JobState::Queued);
    story.wait(60_000);
    assert_eq!(story.state(id), JobState::Starting);
    assert_eq!(story.state(other), JobState::Queued);
}

#[test]
fn an_elastic_job_starts_with_what_there_is_and_grows_at_a_checkpoint_when_that_pays() {
    let mut story = Story::of(4);
    let other = story.run(limited(2, 600));
    let elastic = story.submit(JobSpec { min_nodes: 1, ..limited(4, 600) });
    assert_eq!(story.gang(elastic).len(), 2);
    story.all_up(elastic);
    story.after(MINUTE).step(elastic, 1);
    story.complete(other);
    story.after(MINUTE).checkpoint(elastic, 2);
    assert_eq!(story.state(elastic), JobState::Stopping);
    story.gone(elastic);
    assert_eq!(story.gang(elastic).len(), 4);
    let job = story.core.job(elastic).unwrap();
    assert_eq!((job.faults, job.user_used, job.infrastructure_used), (0, 0, 0));
    assert_eq!(job.history[0].reason, EndReason::Grows { from: 2, to: 4 });
}

#[test]
fn an_elastic_job_does_not_grow_when_too_little_is_left_of_it_or_others_wait() {
    let mut story = Story::of(2);
    let other = story.run(limited(1, 600));
    let elastic = story.submit(JobSpec { min_nodes: 1, ..limited(2, 10) });
    story.all_up(elastic);
    story.after(3 * MINUTE).step(elastic, 1);
    story.complete(other);
    story.after(4 * MINUTE).checkpoint(elastic, 2);
    assert_eq!(story.state(elastic), JobState::Running, "3 minutes are left, and a start takes 3");
}

#[test]
fn a_job_is_moved_when_that_saves_more_than_it_loses() {
    // Two racks of two nodes, and in each rack one node that is broken by a small job.
    let mut story = Story::of(0);
    for index in 0..4 {
        story.join_in_rack(index, index / 2);
    }
    let part = JobSpec { gpus_per_node: 5, ranks_per_node: 5, ..limited(1, 600) };
    let whole: Vec<JobId> = (0..4).map(|_| story.run(limited(1, 600))).collect();
    let mut movers = Vec::new();
    story.after(300 * MINUTE);
    for at in [0, 2] {
        story.complete(whole[at]);
        movers.push(story.run(part.clone()));
    }
    story.complete(whole[1]);
    story.complete(whole[3]);
    story.after(2 * MINUTE);
    for &job in &movers {
        story.checkpoint(job, 5);
    }
    let gang = story.submit(JobSpec { within: lindos_model::Level::Rack, ..limited(2, 60) });
    let moved: Vec<&JobId> =
        movers.iter().filter(|&&job| story.state(job) == JobState::Stopping).collect();
    assert_eq!(moved.len(), 1, "one of the two makes room for the other's rack");
    let moved = *moved[0];
    story.gone(moved);
    assert_eq!(story.state(gang), JobState::Starting);
    assert_eq!(story.state(moved), JobState::Starting, "it goes on at once, elsewhere");
    assert_eq!(story.core.job(moved).unwrap().history[0].reason, EndReason::Moved { by: gang });
}

#[test]
fn numbers_that_make_no_sense_harm_nobody() {
    let teams = vec![team("a", "", u64::MAX, Some(u64::MAX)), team("b", "", u64::MAX - 1, None)];
    for usage_half_life_ms in [0, 1, u64::MAX] {
        let wait_max_ms = u64::MAX;
        let teams = teams.clone();
        let policy = Policy { teams, usage_half_life_ms, wait_max_ms, ..Policy::default() };
        let mut story = Story::under(policy, 2);
        let endless = Some(Millis(u64::MAX / 2));
        let other = story.run(of("b", job(1)));
        let elastic =
            JobSpec { min_nodes: 1, time_limit: endless, hang_timeout: endless, ..job(2) };
        let elastic = story.run(of("a", elastic));
        let waiting = [story.submit(of("b", job(1))), story.submit(of("a", job(1)))];
        story.after(5 * MINUTE);
        story.complete(other);
        for job in waiting {
            if story.state(job) == JobState::Queued {
                story.cancel(job);
            } else {
                story.complete(job);
            }
        }
        story.checkpoint(elastic, 7);
        assert_ne!(story.state(elastic), JobState::Failed);
    }
}

mod never_delayed {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    struct Plan {
        nodes: u32,
        limit: u64,
        /// Of the limit, in percent.
        runs: u64,
        at: u64,
        team: u8,
    }

    fn plan() -> impl Strategy<Value = Plan> {
        (1u32..7, 1u64..90, 1u64..=100, 0u64..120, 0u8..3)
            .prop_map(|(nodes, limit, runs, at, team)| Plan { nodes, limit, runs, at, team })
    }

    /// Plays the jobs to their ends; what was promised to each, and when it started.
    fn play(mut plans: Vec<Plan>, policy: Policy) -> Vec<(Option<Time>, Time)> {
        plans.sort_by_key(|plan| plan.at);
        let mut story = Story::under(policy, 6);
        let begin = story.now;
        let mut jobs: Vec<(JobId, Plan)> = Vec::new();
        let mut ends: BTreeMap<JobId, Time> = BTreeMap::new();
        let mut promised: BTreeMap<JobId, Time> = BTreeMap::new();
        let mut coming = plans.into_iter().peekable();
        loop {
            let next_end = ends.iter().map(|(&job, &end)| (end, job)).min();
            let next_come = coming.peek().map(|plan| begin + Millis(plan.at * MINUTE));
            match (next_end, next_come) {
                (None, None) => break,
                (Some((end, job)), come) if come.is_none_or(|come| end <= come) => {
                    story.now = end;
                    ends.remove(&job);
                    story.complete(job);
                }
                _ => {
                    let plan = coming.next().unwrap();
                    story.now = begin + Millis(plan.at * MINUTE);
                    let id = story
                        .submit(of(&format!("t{}", plan.team), limited(plan.nodes, plan.limit)));
                    jobs.push((id, plan));
                }
            }
            for (id, plan) in &jobs {
                if story.state(*id) == JobState::Starting {
                    story.all_up(*id);
                    let runs = (plan.limit * MINUTE * plan.runs / 100).max(1);
                    ends.insert(*id, story.now + Millis(runs));
                }
            }
            // What those further back are promised, those before them may take: also one that comes
            // first and waits for its team's limit.
            let mut waiting = jobs.iter().map(|&(id, _)| id);
            let foremost = waiting.find(|&id| story.state(id) == JobState::Queued);
            if let Some(job) = foremost
                && let Some(hold) = story.core.holds().get(&job)
            {
                let from = hold.from.expect("every job has a limit");
                promised.entry(job).or_insert(from);
            }
        }
        jobs.iter()
            .map(|(id, _)| {
                let started = story.core.job(*id).unwrap().started_at;
                (promised.get(id).copied(), started.expect("every job starts"))
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// With priority and age alone nothing comes before the foremost of the blocked but what was
        /// there, so the first promise to it holds to the end.
        #[test]
        fn backfill_never_delays_a_promised_start(plans in prop::collection::vec(plan(), 1..30)) {
            let policy = Policy { queue: QueueRule::Backfill, ..Policy::default() };
            for (promised, started) in play(plans, policy) {
                prop_assert!(promised.is_none_or(|promised| started <= promised));
            }
        }

        /// A job of its own team does not take the room in the team's limit either that a promised
        /// start needs.
        #[test]
        fn a_teams_own_jobs_never_delay_a_promised_start(
            plans in prop::collection::vec(plan(), 1..30),
        ) {
            let teams: Vec<Team> =
                (0..3).map(|index| team(&format!("t{index}"), "", 0, Some(32))).collect();
            let plans = plans.into_iter().map(|plan| Plan { nodes: plan.nodes.min(4), ..plan });
            let plans = plans.collect();
            let policy = Policy { queue: QueueRule::Backfill, teams, ..Policy::default() };
            for (promised, started) in play(plans, policy) {
                prop_assert!(promised.is_none_or(|promised| started <= promised));
            }
        }

        /// However unfair the jobs that keep coming, each starts: once it has waited too long, only
        /// those that have waited longer come before it.
        #[test]
        fn every_job_starts_in_bounded_time(plans in prop::collection::vec(plan(), 1..40)) {
            let wait_max_ms = 2 * HOUR;
            let work: u64 = plans.iter().map(|plan| plan.limit * MINUTE).sum();
            let submitted: Vec<u64> = {
                let mut at: Vec<u64> = plans.iter().map(|plan| plan.at).collect();
                at.sort_unstable();
                at
            };
            let started = play(plans, Policy { wait_max_ms, ..Policy::default() });
            for ((_, started), at) in started.into_iter().zip(submitted) {
                let waited = started.since(Time(1_000_000 + at * MINUTE));
                prop_assert!(waited.0 <= wait_max_ms + work);
            }
        }
    }
}

#[test]
fn a_job_that_comes_before_any_node_waits_for_one() {
    let mut story = Story::of(0);
    let id = story.submit(job(1));
    assert!(matches!(story.core.why(id), Some(WaitReason::NeverFits { nodes_that_could: 0, .. })));
}

pub mod reserved {
    use super::*;
    use lindos_model::reservation::{Purpose, Reservation};

    pub fn reserve(
        story: &mut Story,
        name: &str,
        purpose: Purpose,
        nodes: &[u32],
        hours: [u64; 2],
    ) {
        story.requests += 1;
        let (request, begin) = (RequestId(story.requests), story.now);
        let [from, until] = hours.map(|hours| begin + Millis(hours * HOUR));
        let nodes = nodes.iter().map(|&node| NodeId(node)).collect();
        let reservation = Box::new(Reservation { name: name.into(), purpose, nodes, from, until });
        story.tell(Event::NodesReserved { request, reservation });
    }

    fn was_refused(story: &Story) -> bool {
        let refused =
            |effect: &Effect| matches!(effect, Effect::Reply { reply: Reply::Rejected { .. }, .. });
        story.out.iter().any(refused)
    }

    #[test]
    fn until_it_begins_only_jobs_that_end_before_use_reserved_nodes() {
        let mut story = Story::of(2);
        reserve(&mut story, "demo", Purpose::Team("a".into()), &[0], [2, 4]);
        let short = story.submit(limited(2, 119));
        assert_eq!(story.state(short), JobState::Starting);
        story.complete(short);
        let long = story.submit(limited(2, 121));
        assert_eq!(story.state(long), JobState::Queued);
        let endless = story.submit(job(1));
        assert_eq!(story.gang(endless), [NodeId(1)]);
    }

    #[test]
    fn when_it_begins_others_make_way_and_its_team_goes_in() {
        let mut story = Story::of(2);
        let other = story.run(JobSpec { hang_timeout: Some(Millis(99 * HOUR)), ..job(2) });
        reserve(&mut story, "demo", Purpose::Team("a".into()), &[0, 1], [2, 4]);
        let its = story.submit(of("a", job(2)));
        assert_eq!(story.state(its), JobState::Queued);
        story.checkpoint(other, 5);
        story.wait(2 * HOUR);
        assert_eq!(story.state(other), JobState::Stopping);
        story.gone(other);
        assert_eq!(story.state(its), JobState::Starting);
        let made_way = story.core.job(other).unwrap();
        assert_eq!((made_way.faults, made_way.infrastructure_used), (0, 0));
        assert_eq!(made_way.history[0].reason, EndReason::Reserved { name: "demo".into() });
        story.complete(its);
        assert_eq!(story.state(other), JobState::Queued);
        story.wait(2 * HOUR);
        assert_eq!(story.state(other), JobState::Starting, "it is over");
    }

    #[test]
    fn a_maintenance_window_stands_in_the_ledger_and_ends_by_itself() {
        let mut story = Story::of(1);
        reserve(&mut story, "psu", Purpose::Maintenance, &[0], [1, 2]);
        story.wait(HOUR);
        let before = story.column(Column::Maintenance);
        let waiting = story.submit(limited(1, 5));
        assert!(matches!(story.core.why(waiting), Some(WaitReason::NodesOut { .. })));
        story.wait(HOUR);
        assert_eq!(story.column(Column::Maintenance) - before, 8 * HOUR);
        assert_eq!(story.state(waiting), JobState::Starting);
    }

    #[test]
    fn a_reservation_that_cannot_be_is_refused() {
        let mut story = Story::of(2);
        reserve(&mut story, "a", Purpose::Maintenance, &[0], [1, 2]);
        assert!(!was_refused(&story));
        for (name, nodes, hours) in [
            ("a", &[1][..], [1, 2]),
            ("b", &[0], [3, 4]),
            ("b", &[1, 1], [1, 2]),
            ("b", &[7], [1, 2]),
            ("b", &[1], [2, 2]),
            ("b", &[], [1, 2]),
        ] {
            reserve(&mut story, name, Purpose::Maintenance, nodes, hours);
            assert!(was_refused(&story), "{name} {nodes:?} {hours:?}");
        }
        story.requests += 1;
        let request = RequestId(story.requests);
        story.tell(Event::ReservationCancelled { request, name: "a".into() });
        assert!(!was_refused(&story) && story.core.reservations().is_empty());
    }
}
