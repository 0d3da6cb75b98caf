//! Whole behaviours of the core, told as stories: events in, effects out.

mod blame;
mod queue;
mod queue_after;
mod queue_alike;
mod queue_elastic;
mod queue_holds;
mod queue_kinds;
mod queue_limits;
mod queue_outlook;
mod queue_reserved;
mod queue_shares;
mod repairs;
mod replicas;
mod replicas_silent;
mod slow;
mod spares;
mod standbys;
mod story;
mod suspects;

use crate::Event;
use crate::effect::Effect;
use lindos_model::report::Refusal;
use lindos_model::{
    Column, EndReason, Epoch, Exit, JobState, Millis, NodeId, Policy, ReportedPhase, RequestId,
    Time, WaitReason,
};

use story::{Story, job, killed};

#[test]
fn a_job_is_launched_runs_and_completes() {
    let mut story = Story::of(3);
    let id = story.submit(job(2));
    assert_eq!(story.orders(), "launch 1/1 on n0, launch 1/1 on n1");
    assert_eq!(story.state(id), JobState::Starting);
    story.after(100).all_up(id);
    assert_eq!(story.state(id), JobState::Running);
    story.after(100).step(id, 1);
    story.after(1000).all_end(id, &Exit::Code(0), false);
    assert_eq!(story.state(id), JobState::Completed);
    assert_eq!(story.orders(), "forget 1/1 on n0, forget 1/1 on n1");
    assert_eq!(story.column(Column::Startup), 200 * 16);
    assert_eq!(story.column(Column::Productive), 1000 * 16);
}

#[test]
fn a_killed_rank_stops_the_gang_and_the_next_epoch_waits_for_all_to_be_gone() {
    let mut story = Story::of(3);
    let id = story.submit(job(2));
    story.all_up(id);
    story.step(id, 1);
    story.after(500).step(id, 11);
    story.checkpoint(id, 11);
    story.after(300);
    let report = story.ended(id, NodeId(0), &killed(), false);
    story.report(0, vec![report]);
    assert_eq!(story.orders(), "stop 1/1 on n1", "n0 has said that it is gone");
    assert_eq!(story.state(id), JobState::Stopping);
    story.after(200);
    let report = story.ended(id, NodeId(1), &Exit::Signal(15), true);
    story.report(1, vec![report]);
    assert_eq!(
        story.orders(),
        "forget 1/1 on n0, forget 1/1 on n1, launch 1/2 on n0, launch 1/2 on n1"
    );
    assert_eq!(story.column(Column::Lost), 300 * 16, "the work since the checkpoint");
    assert_eq!(story.column(Column::Waiting), 200 * 16);
    let job = story.core.job(id).unwrap();
    assert_eq!((job.infrastructure_used, job.user_used), (1, 0));
    assert_eq!(job.attempt.as_ref().unwrap().resumed_from, Some(11));
}

#[test]
fn a_users_bug_is_charged_to_the_user_and_ends_the_job() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    for _ in 0..2 {
        story.all_up(id);
        story.after(10).all_end(id, &Exit::Code(1), false);
    }
    assert_eq!(story.state(id), JobState::Failed);
    let job = story.core.job(id).unwrap();
    assert_eq!((job.user_used, job.infrastructure_used), (1, 0));
}

#[test]
fn peers_that_exit_because_one_was_killed_are_not_to_blame() {
    let mut story = Story::of(2);
    let id = story.submit(job(2));
    story.all_up(id);
    story.after(100);
    let peer = story.ended(id, NodeId(1), &Exit::Code(1), false);
    story.report(1, vec![peer]);
    story.after(5);
    let victim = story.ended(id, NodeId(0), &killed(), false);
    story.report(0, vec![victim]);
    let job = story.core.job(id).unwrap();
    assert_eq!((job.infrastructure_used, job.user_used), (1, 0), "{:?}", job.history);
    assert!(matches!(&job.history[0].reason, EndReason::RankExited { node, .. } if node == "n0"));
}

#[test]
fn a_command_that_does_not_exist_is_not_tried_again() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.all_end(id, &Exit::not_started("no such file"), false);
    assert_eq!(story.state(id), JobState::Failed);
}

#[test]
fn a_silent_node_is_fenced_before_the_job_goes_on_elsewhere() {
    let mut story = Story::of(3);
    let id = story.submit(job(2));
    story.all_up(id);
    story.step(id, 1);
    let last_heard = story.now;
    story.after(5000).tell(Event::NodeSilent { node: NodeId(1), last_heard });
    assert_eq!(story.orders(), "fence n1, stop 1/1 on n0");
    let report = story.ended(id, NodeId(0), &Exit::Signal(15), true);
    story.report(0, vec![report]);
    assert_eq!(story.orders(), "", "its ranks on n1 may still be alive");
    story.after(1000).fenced(1);
    assert_eq!(story.orders(), "forget 1/1 on n0, launch 1/2 on n0, launch 1/2 on n2");
    assert_eq!(story.column(Column::Detect), 5000 * 16);
    assert_eq!(story.column(Column::Repair), 1000 * 8);
    assert_eq!(story.column(Column::Waiting), 1000 * 8);
}

#[test]
fn peers_of_a_dead_node_are_not_to_blame_though_they_end_first() {
    let mut story = Story::of(3);
    let id = story.submit(job(2));
    story.all_up(id);
    let last_heard = story.now;
    let peer = story.ended(id, NodeId(0), &Exit::Code(1), false);
    story.report(0, vec![peer]);
    story.after(5000).tell(Event::NodeSilent { node: NodeId(1), last_heard });
    story.fenced(1);
    let job = story.core.job(id).unwrap();
    assert_eq!((job.infrastructure_used, job.user_used), (1, 0));
}

/// Its agent comes back before its silence is noticed, and never says how its ranks ended.
#[test]
fn peers_of_a_node_that_died_and_forgot_are_not_to_blame() {
    let mut story = Story::of(2);
    let id = story.submit(job(2));
    story.all_up(id);
    let peer = story.ended(id, NodeId(0), &Exit::Code(1), false);
    story.report(0, vec![peer]);
    let mut gone = story.ended(id, NodeId(1), &Exit::Lost, true);
    gone.ranks.clear();
    story.after(9000);
    for (seq, attempts) in [(1, vec![]), (2, vec![gone])] {
        story.tell(Event::NodeReported { node: NodeId(1), incarnation: 2, seq, attempts });
    }
    let job = story.core.job(id).unwrap();
    assert_eq!((job.infrastructure_used, job.user_used), (1, 0), "{:?}", job.history);
    assert_eq!(job.history[0].reason, EndReason::NodeSilent { node: "n1".into() });
}

#[test]
fn a_hang_is_progress_that_stops_for_three_steps() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.all_up(id);
    story.checkpoint(id, 0);
    for step in 1..6 {
        story.after(4000).step(id, step);
    }
    story.wait(12_999);
    assert_eq!(story.state(id), JobState::Running);
    story.wait(1);
    assert_eq!(story.state(id), JobState::Stopping);
    assert_eq!(story.orders(), "stop 1/1 on n0");
    assert_eq!(story.column(Column::Detect), 9000 * 8, "from when the next step was due");
}

#[test]
fn a_control_plane_that_was_away_does_not_take_its_own_absence_for_a_hang() {
    let mut story = Story::of(1);
    let mut spec = job(1);
    spec.time_limit = Some(Millis(100_000));
    let id = story.submit(spec);
    story.all_up(id);
    story.step(id, 1);
    let started = story.core.job(id).unwrap().started_at;
    story.after(50_000).tell(Event::ControlPlaneStarted { policy: Box::default() });
    assert_eq!(story.state(id), JobState::Running);
    assert_eq!(story.core.job(id).unwrap().started_at, started);
    for step in 2..52 {
        story.after(1000).step(id, step);
    }
    assert_eq!(story.state(id), JobState::Stopping, "the time limit counts from the first start");
}

#[test]
fn a_driver_that_could_not_write_for_a_while_does_not_take_that_for_a_hang() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.all_up(id);
    story.step(id, 1);
    story.after(1000).step(id, 2);
    story.checkpoint(id, 2);
    story.after(1000).step(id, 3);
    story.after(60_000).tell(Event::Tick);
    assert_eq!(story.state(id), JobState::Running, "its steps are still to be written down");
    story.wait(6000);
    assert_eq!(story.state(id), JobState::Stopping, "now it was listened to, and is silent");
}

#[test]
fn word_of_a_checkpoint_that_comes_after_the_death_does_not_hide_the_time_in_between() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.all_up(id);
    story.step(id, 1);
    story.after(10_000);
    let died = story.ended(id, NodeId(0), &killed(), false);
    story.after(30_000).step(id, 11);
    story.checkpoint(id, 11);
    story.report(0, vec![died]);
    assert_eq!(story.column(Column::Productive), 10_000 * 8);
    assert_eq!(story.column(Column::Detect), 30_000 * 8);
}

#[test]
fn a_lost_launch_is_sent_again_and_a_late_answer_is_taken_once() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.wait(1000);
    assert_eq!(story.orders(), "launch 1/1 on n0");
    story.all_up(id);
    story.wait(60_000);
    assert_eq!(story.orders(), "");
}

#[test]
fn an_older_report_changes_nothing() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    let old = story.running(id, NodeId(0));
    story.all_end(id, &Exit::Code(0), false);
    let seq = story.seq - 1;
    story.tell(Event::NodeReported { node: NodeId(0), incarnation: 1, seq, attempts: vec![old] });
    assert_eq!(story.orders(), "");
}

#[test]
fn processes_of_an_attempt_that_is_over_are_stopped_wherever_they_turn_up() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    let zombie = story.running(id, NodeId(0));
    story.all_end(id, &Exit::Code(0), false);
    story.report(0, vec![zombie]);
    assert_eq!(story.orders(), "stop 1/1 on n0");
}

#[test]
fn an_agent_that_came_back_without_the_attempt_ends_it() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.all_up(id);
    story.tell(Event::NodeReported { node: NodeId(0), incarnation: 2, seq: 1, attempts: vec![] });
    assert_eq!(story.orders(), "stop 1/1 on n0");
    assert_eq!(story.state(id), JobState::Stopping, "it is gone when the agent says so");
}

#[test]
fn a_gang_whose_first_ranks_end_before_the_last_have_started_completes() {
    let mut story = Story::of(2);
    let id = story.submit(job(2));
    let first = story.ended(id, NodeId(0), &Exit::Code(0), false);
    story.report(0, vec![first]);
    assert_eq!(story.state(id), JobState::Starting);
    let last = story.ended(id, NodeId(1), &Exit::Code(0), false);
    story.report(1, vec![last]);
    assert_eq!(story.state(id), JobState::Completed);
}

#[test]
fn a_taken_port_costs_nobody_a_retry_and_the_next_port_is_tried() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    let port = story.core.job(id).unwrap().attempt.as_ref().unwrap().replicas[0].master_port;
    let mut report = story.running(id, NodeId(0));
    report.phase = ReportedPhase::Refused(Refusal::PortInUse { port });
    report.ranks.clear();
    story.report(0, vec![report]);
    let job = story.core.job(id).unwrap();
    assert_eq!((job.infrastructure_used, job.user_used), (0, 0));
    assert_eq!(job.attempt.as_ref().unwrap().replicas[0].master_port, port + 1);
}

#[test]
fn a_cancel_during_a_restart_is_not_forgotten() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.all_up(id);
    story.step(id, 1);
    story.wait(600_000);
    assert_eq!(story.state(id), JobState::Stopping, "it hangs");
    story.cancel(id);
    story.all_end(id, &Exit::Signal(15), true);
    assert_eq!(story.state(id), JobState::Cancelled);
}

#[test]
fn the_same_request_twice_is_one_job() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.requests -= 1;
    assert_eq!(story.submit(job(1)), id);
    assert_eq!(story.core.jobs().count(), 1);
}

#[test]
fn each_wait_names_its_constraint() {
    let mut story = Story::of(2);
    let first = story.submit(job(2));
    let second = story.submit(job(1));
    let third = story.submit(job(1));
    let never = story.submit(job(3));
    assert!(story.core.why(first).is_none());
    assert!(matches!(story.core.why(second), Some(WaitReason::Busy { nodes_free: 0, .. })));
    assert!(matches!(story.core.why(third), Some(WaitReason::Busy { nodes_free: 0, .. })));
    story.cancel(second);
    story.cancel(third);
    assert!(matches!(
        story.core.why(never),
        Some(WaitReason::NeverFits { nodes_wanted: 3, nodes_that_could: 2, .. })
    ));
}

#[test]
fn what_is_left_is_enough_when_the_job_says_so() {
    let mut story = Story::of(2);
    let mut spec = job(2);
    spec.min_nodes = 1;
    let id = story.submit(spec);
    story.all_up(id);
    story.after(5000).tell(Event::NodeSilent { node: NodeId(1), last_heard: Time(0) });
    let report = story.ended(id, NodeId(0), &Exit::Signal(15), true);
    story.report(0, vec![report]);
    story.fenced(1);
    assert_eq!(story.orders(), "forget 1/1 on n0, launch 1/2 on n0");
    assert_eq!(story.core.job(id).unwrap().attempt.as_ref().unwrap().world_size(), 8);
}

#[test]
fn a_job_that_fails_again_and_again_waits_longer_each_time() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    for _ in 0..3 {
        story.all_up(id);
        story.all_end(id, &killed(), false);
        story.wait(10_000);
    }
    let waits: Vec<u64> = story
        .core
        .trail_after(0)
        .filter_map(|entry| match entry.what {
            lindos_model::TrailKind::Resumes { backoff, .. } => Some(backoff.0),
            _ => None,
        })
        .collect();
    assert_eq!(waits, [0, 1000, 2000]);
}

#[test]
fn a_drained_node_takes_no_new_work_and_stands_in_maintenance() {
    let mut story = Story::of(1);
    let request = RequestId(999);
    story.tell(Event::NodeDrained { request, node: NodeId(0), reason: "fan".into() });
    let id = story.submit(job(1));
    assert_eq!(story.state(id), JobState::Queued);
    assert!(matches!(story.core.why(id), Some(WaitReason::NodesOut { nodes_out: 1, .. })));
    let request = RequestId(1000);
    story.after(100).tell(Event::NodeUndrained { request, node: NodeId(0) });
    assert_eq!(story.orders(), "launch 1/1 on n0");
    assert_eq!(story.column(Column::Maintenance), 800);
}

#[test]
fn free_gpus_are_idle_stranded_or_spare() {
    let mut story = Story::under(Policy { spares: 1, ..Policy::default() }, 3);
    story.after(10);
    assert_eq!(story.column(Column::Idle), 10 * 16);
    assert_eq!(story.column(Column::Spare), 10 * 8);
    let id = story.submit(job(3));
    story.after(10);
    assert_eq!(story.column(Column::Stranded), 10 * 16);
    story.tell(Event::Tick);
    assert_eq!(story.core.stranded_by()["never_fits"], 10 * 16);
    story.cancel(id);
}

#[test]
fn a_slow_first_checkpoint_is_no_hang_and_a_pause_is_learned() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.all_up(id);
    for step in 1..=10 {
        story.after(1000).step(id, step);
    }
    story.wait(60_000);
    assert_eq!(story.state(id), JobState::Running, "a checkpoint that blocks");
    story.after(0).step(id, 11);
    story.checkpoint(id, 10);
    story.wait(119_000);
    assert_eq!(story.state(id), JobState::Running, "twice the longest pause");
}

#[test]
fn an_attempt_that_is_named_twice_in_a_report_ends_once() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    let gone = story.ended(id, NodeId(0), &Exit::Code(0), false);
    story.report(0, vec![gone.clone(), gone]);
    assert_eq!(story.state(id), JobState::Completed);
}

#[test]
fn an_agent_that_says_it_stopped_what_nobody_stopped_is_not_believed() {
    let mut story = Story::of(2);
    let id = story.submit(job(2));
    story.all_up(id);
    let report = story.ended(id, NodeId(0), &Exit::Signal(15), true);
    story.report(0, vec![report]);
    assert_eq!(story.state(id), JobState::Stopping);
    let report = story.ended(id, NodeId(1), &Exit::Signal(15), true);
    story.report(1, vec![report]);
    assert_eq!(story.state(id), JobState::Starting);
}

#[test]
fn a_fence_of_the_silence_before_proves_nothing_now() {
    let mut story = Story::of(3);
    story.after(5000).silent(1, Time(0));
    let old = story.fences[&NodeId(1)];
    story.after(1000).report(1, vec![]);
    let id = story.submit(job(3));
    story.all_up(id);
    story.after(5000).silent(1, Time(0));
    for node in [0, 2] {
        let report = story.ended(id, NodeId(node), &Exit::Signal(15), true);
        story.report(node, vec![report]);
    }
    story.tell(Event::NodeFenced { node: NodeId(1), fence: old });
    assert_eq!(story.state(id), JobState::Stopping, "its ranks on n1 may be alive");
    story.fenced(1);
    assert_eq!(story.state(id), JobState::Queued);
}

#[test]
fn a_free_node_that_falls_silent_unblocks_those_behind() {
    let mut story = Story::of(3);
    let first = story.submit(job(1));
    story.all_up(first);
    story.submit(job(3));
    let small = story.submit(job(1));
    let taken = story.gang(first)[0];
    let free = (0..3).find(|&node| NodeId(node) != taken).unwrap();
    story.after(5000).silent(free, Time(0));
    assert_eq!(story.state(small), JobState::Starting);
}

#[test]
fn a_policy_that_makes_no_sense_harms_nobody() {
    let strange = Policy {
        resend_ms: 0,
        hang_floor_ms: u64::MAX,
        port_base: 65_500,
        port_count: 60_000,
        ..Policy::default()
    };
    let mut story = Story::under(strange, 1);
    for _ in 0..50 {
        let id = story.submit(job(1));
        story.wait(10);
        story.all_up(id);
        for step in 1..4 {
            story.after(1000).step(id, step);
        }
        story.all_end(id, &Exit::Code(0), false);
    }
    let fewer = Policy { port_base: 65_500, port_count: 10, ..Policy::default() };
    story.tell(Event::ControlPlaneStarted { policy: Box::new(fewer) });
    story.submit(job(1));
}

#[test]
fn a_script_that_counts_to_the_end_of_numbers_harms_nobody() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.all_up(id);
    for step in [1, 2, u64::MAX] {
        story.after(1000).step(id, step);
    }
    story.after(1000).checkpoint(id, 5);
}

#[test]
fn an_agent_may_be_away_for_as_long_as_silence_is_allowed() {
    let mut story = Story::under(Policy { node_silent_ms: 15_000, ..Policy::default() }, 1);
    let id = story.submit(job(1));
    story.all_up(id);
    story.checkpoint(id, 0);
    for step in 1..=10 {
        story.after(1000).step(id, step);
    }
    story.wait(14_000);
    assert_eq!(story.state(id), JobState::Running);
}

#[test]
fn a_node_that_was_heard_long_after_a_users_bug_is_not_blamed_for_it() {
    let mut story = Story::of(2);
    let id = story.submit(job(2));
    story.all_up(id);
    story.step(id, 1);
    story.after(1000);
    let bug = story.ended(id, NodeId(0), &Exit::Code(1), false);
    story.report(0, vec![bug]);
    let last_heard = story.after(10_000).now;
    story.after(5000).silent(1, last_heard);
    story.fenced(1);
    let job = story.core.job(id).unwrap();
    assert_eq!((job.infrastructure_used, job.user_used), (0, 1));
}

#[test]
fn word_of_a_checkpoint_after_the_end_is_taken_and_gives_back_what_it_saved() {
    let mut story = Story::of(2);
    let id = story.submit(job(2));
    story.all_up(id);
    story.step(id, 1);
    story.after(1000).step(id, 11);
    let report = story.ended(id, NodeId(0), &killed(), false);
    story.report(0, vec![report]);
    assert_eq!(story.column(Column::Lost), 16_000);
    story.checkpoint(id, 11);
    assert_eq!(story.column(Column::Lost), 0);
    let report = story.ended(id, NodeId(1), &killed(), true);
    story.report(1, vec![report]);
    let (epoch, step) = (Epoch(1), 12);
    story.tell(Event::CheckpointSaved { job: id, epoch, step, blocked_ms: 0 });
    assert_eq!(story.core.job(id).unwrap().checkpoint_step, Some(12));
}

#[test]
fn a_job_that_tells_no_steps_loses_what_a_fault_takes() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.all_up(id);
    story.wait(36_000_000);
    story.all_end(id, &killed(), false);
    assert_eq!((story.column(Column::Startup), story.column(Column::Lost)), (0, 288_000_000));
}

#[test]
fn a_drained_node_that_is_switched_off_stays_in_maintenance() {
    let mut story = Story::of(1);
    let request = RequestId(9);
    story.tell(Event::NodeDrained { request, node: NodeId(0), reason: "fan".into() });
    let now = story.now;
    story.silent(0, now);
    story.after(1000);
    assert_eq!(story.column(Column::Maintenance), 8000);
}

#[test]
fn a_request_that_comes_again_is_answered_the_same_and_not_carried_out() {
    let mut story = Story::of(1);
    let drain = Event::NodeDrained { request: RequestId(901), node: NodeId(0), reason: "x".into() };
    story.tell(drain.clone());
    story.tell(Event::NodeUndrained { request: RequestId(902), node: NodeId(0) });
    story.tell(drain);
    assert!(story.core.node(NodeId(0)).unwrap().drained.is_none());

    story.submit(job(1));
    let waiting = story.submit(job(1));
    let reply = |story: &Story| {
        story.out.iter().find(|effect| matches!(effect, Effect::Reply { .. })).cloned()
    };
    story.cancel(waiting);
    let first = reply(&story);
    story.requests -= 1;
    story.cancel(waiting);
    assert_eq!(reply(&story), first);
}

#[test]
fn spares_may_be_nodes_that_the_job_could_not_use() {
    let mut story = Story::under(Policy { spares: 1, ..Policy::default() }, 2);
    let mut spec = story.core.nodes()[0].spec.clone();
    (spec.name, spec.gpus) = ("small".into(), 1);
    story.tell(Event::NodeJoined { spec: Box::new(spec) });
    story.report(2, vec![]);
    let first = story.submit(job(1));
    let both = story.submit(job(2));
    assert!(matches!(story.core.why(both), Some(WaitReason::Busy { .. })));
    story.all_end(first, &Exit::Code(0), false);
    assert_eq!(story.state(both), JobState::Starting);
}

#[test]
fn a_time_limit_that_ran_out_while_stopping_is_the_end() {
    let mut story = Story::of(1);
    let mut spec = job(1);
    spec.time_limit = Some(Millis(10_000));
    let id = story.submit(spec);
    story.all_up(id);
    story.step(id, 1);
    story.after(9000);
    let mut report = story.ended(id, NodeId(0), &killed(), false);
    report.phase = ReportedPhase::Running;
    story.report(0, vec![report]);
    story.after(2000).all_end(id, &killed(), true);
    assert_eq!(story.state(id), JobState::Failed);
}

#[test]
fn an_agent_that_remembers_more_than_the_journal_is_overtaken_in_one_step() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    let mut report = story.running(id, NodeId(0));
    report.phase = ReportedPhase::Refused(Refusal::StaleEpoch { newest: Epoch(40) });
    report.ranks.clear();
    story.report(0, vec![report]);
    assert_eq!(story.core.job(id).unwrap().epoch, Epoch(41));
}
