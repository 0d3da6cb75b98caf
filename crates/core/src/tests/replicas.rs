//! Stories of gangs that start again in place, and of replicas that are lost and come back.

use super::story::{Story, job, killed, stepped};
use crate::effect::Effect;
use crate::event::{Event, GangWord};
use lindos_model::policy::Repair;
use lindos_model::{
    Column, EndReason, Epoch, Exit, JobId, JobSpec, JobState, Millis, NodeId, Policy, RequestId,
    Time, TrailKind,
};

pub(super) fn replicated(nodes: u32, replicas: u32, replicas_min: u32) -> JobSpec {
    JobSpec { replicas, replicas_min, ..job(nodes) }
}

/// Four replicas of two nodes each train on a fleet of ten; step 1 was told at 10 s.
pub(super) fn training(replicas_min: u32) -> (Story, JobId) {
    training_under(Policy::default(), replicas_min)
}

pub(super) fn training_under(policy: Policy, replicas_min: u32) -> (Story, JobId) {
    let mut story = Story::under(policy, 10);
    let id = story.submit(replicated(8, 4, replicas_min));
    story.all_up(id);
    story.wait(10_000);
    story.step(id, 1);
    story.wait(1000);
    story.step(id, 2);
    (story, id)
}

pub(super) fn epochs(story: &Story, id: JobId) -> Vec<u32> {
    let attempt = story.core.job(id).unwrap().attempt.as_ref().unwrap();
    attempt.replicas.iter().map(|replica| replica.epoch.0).collect()
}

/// A rank on one of the job's nodes dies, and then what is left of its replica.
pub(super) fn kill_replica(story: &mut Story, id: JobId, nodes: [usize; 2]) {
    let gang = story.gang(id);
    let died = story.ended(id, gang[nodes[0]], &killed(), false);
    story.report(gang[nodes[0]].0, vec![died]);
    let stopped = story.ended(id, gang[nodes[1]], &Exit::Signal(15), true);
    story.report(gang[nodes[1]].0, vec![stopped]);
}

#[test]
fn a_lost_replica_is_launched_under_the_next_epoch_and_the_others_never_stop() {
    let (mut story, id) = training(2);
    let gang = story.gang(id);
    let died = story.ended(id, gang[2], &killed(), false);
    story.report(gang[2].0, vec![died]);
    assert_eq!(story.orders(), format!("stop {id}/1 on n{}", gang[3]), "only its own peer");
    assert_eq!(story.state(id), JobState::Running);
    let stopped = story.ended(id, gang[3], &Exit::Signal(15), true);
    story.report(gang[3].0, vec![stopped]);
    assert_eq!(epochs(&story, id), [1, 2, 1, 1]);
    let productive = story.column(Column::Productive);
    story.wait(5000);
    assert_eq!(story.column(Column::Productive) - productive, 3 * 2 * 8 * 5000);
    story.all_up(id);
    story.tell(stepped(id, Epoch(2), 7));
    let productive = story.column(Column::Productive);
    story.wait(1000);
    assert_eq!(story.column(Column::Productive) - productive, 4 * 2 * 8 * 1000);
    let known = story.core.job(id).unwrap();
    assert_eq!((known.history.len(), known.infrastructure_used), (0, 0), "no attempt is over");
    story.all_end(id, &Exit::Code(0), false);
    assert_eq!(story.state(id), JobState::Completed);
}

#[test]
fn a_replica_whose_node_is_silent_comes_back_on_another_once_that_is_fenced() {
    let (mut story, id) = training(3);
    let gang = story.gang(id);
    story.wait(4000);
    story.silent(gang[7].0, story.now);
    let stopped = story.ended(id, gang[6], &Exit::Signal(15), true);
    story.report(gang[6].0, vec![stopped]);
    assert_eq!(epochs(&story, id), [1, 1, 1, 1], "its ranks may still live");
    story.fenced(gang[7].0);
    assert_eq!(epochs(&story, id), [1, 1, 1, 2]);
    let after = story.gang(id);
    assert_eq!(after[..7], gang[..7]);
    assert!(!gang.contains(&after[7]), "a free node stands in");
}

#[test]
fn with_fewer_than_the_least_left_the_whole_attempt_is_over() {
    let (mut story, id) = training(4);
    let gang = story.gang(id);
    let died = story.ended(id, gang[0], &killed(), false);
    story.report(gang[0].0, vec![died]);
    assert_eq!(story.state(id), JobState::Stopping);
    story.all_end(id, &Exit::Signal(15), true);
    assert_eq!(epochs(&story, id), [2, 2, 2, 2]);
}

#[test]
fn a_replica_without_a_node_to_stand_in_waits_and_the_others_go_on() {
    let mut story = Story::of(8);
    let id = story.submit(replicated(8, 4, 2));
    story.all_up(id);
    story.step(id, 1);
    let gang = story.gang(id);
    story.wait(100);
    story.silent(gang[0].0, story.now);
    story.fenced(gang[0].0);
    let stopped = story.ended(id, gang[1], &Exit::Signal(15), true);
    story.report(gang[1].0, vec![stopped]);
    assert_eq!(epochs(&story, id), [1, 1, 1, 1]);
    assert_eq!(story.state(id), JobState::Running);
    story.report(gang[0].0, Vec::new());
    assert_eq!(epochs(&story, id), [2, 1, 1, 1], "its own node is back");
}

#[test]
fn two_replicas_may_be_away_at_once_and_the_job_completes_without_one() {
    let (mut story, id) = training(2);
    kill_replica(&mut story, id, [0, 1]);
    kill_replica(&mut story, id, [4, 5]);
    assert_eq!(epochs(&story, id), [2, 1, 3, 1]);
    story.all_up(id);
    story.tell(stepped(id, Epoch(3), 9));
    // Replica 0 has not trained yet when it is lost again, and the others finish.
    let gang = story.gang(id);
    let died = story.ended(id, gang[0], &killed(), false);
    story.report(gang[0].0, vec![died]);
    for &node in &gang[2..] {
        let done = story.ended(id, node, &Exit::Code(0), false);
        story.report(node.0, vec![done]);
    }
    let stopped = story.ended(id, gang[1], &Exit::Signal(15), true);
    story.report(gang[1].0, vec![stopped]);
    assert_eq!(story.state(id), JobState::Completed);
}

#[test]
fn a_program_that_fails_in_every_replica_ends_the_attempt_as_its_own_fault() {
    let (mut story, id) = training(2);
    let gang = story.gang(id);
    for node in [0, 2, 4] {
        let failed = story.ended(id, gang[node], &Exit::Code(1), false);
        story.report(gang[node].0, vec![failed]);
    }
    assert_eq!(story.state(id), JobState::Stopping);
    story.all_end(id, &Exit::Signal(15), true);
    assert_eq!(story.core.job(id).unwrap().user_used, 1);
}

#[test]
fn a_program_that_tells_no_steps_and_fails_in_every_replica_is_not_brought_back_piece_by_piece() {
    let mut story = Story::of(8);
    let id = story.submit(replicated(8, 8, 2));
    story.all_up(id);
    story.after(100_000);
    for node in story.gang(id) {
        let failed = story.ended(id, node, &Exit::Code(1), false);
        story.report(node.0, vec![failed]);
    }
    assert_eq!(story.state(id), JobState::Stopping);
}

#[test]
fn replicas_that_tell_no_steps_are_lost_one_by_one_for_as_long_as_one_likes() {
    let mut story = Story::of(8);
    let id = story.submit(replicated(4, 4, 3));
    story.all_up(id);
    for _ in 0..4 {
        for replica in 0..4 {
            story.wait(100_000);
            let node = story.gang(id)[replica];
            let failed = story.ended(id, node, &killed(), false);
            story.report(node.0, vec![failed]);
            assert_eq!(story.state(id), JobState::Running);
        }
    }
}

#[test]
fn a_replica_that_fails_twice_on_a_node_before_it_trains_comes_back_on_another() {
    let (mut story, id) = training(2);
    let gang = story.gang(id);
    for _ in 0..3 {
        assert_eq!(story.gang(id), gang);
        story.wait(5000);
        kill_replica(&mut story, id, [0, 1]);
    }
    story.wait(5000);
    let after = story.gang(id);
    assert!(after[0] != gang[0] && after[1..] == gang[1..], "{after:?}");
    assert_eq!(story.state(id), JobState::Running);
}

#[test]
fn a_replica_that_fails_again_and_again_comes_back_where_it_was_when_there_is_no_other_node() {
    // Lindos would take the node out.
    let repair = Repair { automatic: false, ..Repair::default() };
    let mut story = Story::under(Policy { repair, ..Policy::default() }, 8);
    let id = story.submit(replicated(8, 4, 2));
    story.all_up(id);
    story.step(id, 1);
    let gang = story.gang(id);
    for epoch in 2..6 {
        kill_replica(&mut story, id, [0, 1]);
        story.wait(60_000);
        assert_eq!(story.gang(id), gang);
        assert_eq!(epochs(&story, id), [epoch, 1, 1, 1]);
    }
}

#[test]
fn a_replica_of_one_node_that_is_drained_comes_back_on_another() {
    let mut story = Story::of(5);
    let id = story.submit(replicated(4, 4, 2));
    story.all_up(id);
    story.step(id, 1);
    let gang = story.gang(id);
    let (request, node) = (RequestId(99), gang[2]);
    story.tell(Event::NodeDrained { request, node, reason: "slow".into() });
    let died = story.ended(id, node, &killed(), false);
    story.report(node.0, vec![died]);
    story.wait(5000);
    let after = story.gang(id);
    assert!(after[2] != node && after[..2] == gang[..2] && after[3] == gang[3], "{after:?}");
    assert_eq!(epochs(&story, id), [1, 1, 2, 1]);
}

#[test]
fn what_ended_a_replica_before_is_not_to_blame_for_the_end_of_the_gang() {
    let mut story = Story::of(8);
    let id = story.submit(replicated(8, 4, 3));
    story.all_up(id);
    story.step(id, 1);
    let gang = story.gang(id);
    let (request, node) = (RequestId(99), gang[0]);
    story.tell(Event::NodeDrained { request, node, reason: "old".into() });
    kill_replica(&mut story, id, [0, 1]);
    story.wait(1000);
    let died = story.ended(id, gang[4], &Exit::Code(3), false);
    story.report(gang[4].0, vec![died]);
    for &node in gang[2..].iter().filter(|&&node| node != gang[4]) {
        let stopped = story.ended(id, node, &Exit::Signal(15), true);
        story.report(node.0, vec![stopped]);
    }
    let past = story.core.job(id).unwrap().history.last().expect("it is over").clone();
    let blamed = |reason: &EndReason| match reason {
        EndReason::RankExited { node, exit, .. } => (node.clone(), exit.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(blamed(&past.reason), (format!("n{}", gang[4]), Exit::Code(3)));
}

#[test]
fn a_fault_after_a_lost_replica_takes_back_only_what_was_productive() {
    let (mut story, id) = training(3);
    story.checkpoint(id, 2);
    let before = (story.column(Column::Productive), story.column(Column::Lost));
    kill_replica(&mut story, id, [0, 1]);
    story.wait(10_000);
    // Replica 0 is not back: three trained, and a second loss is more than the job can bear.
    let gang = story.gang(id);
    let died = story.ended(id, gang[2], &killed(), false);
    story.report(gang[2].0, vec![died]);
    assert_eq!(story.state(id), JobState::Stopping);
    let after = (story.column(Column::Productive), story.column(Column::Lost));
    assert_eq!(after, (before.0, before.1 + 3 * 2 * 8 * 10_000));
}

#[test]
fn a_gang_starts_again_where_it_was_with_the_nearest_node_in_place_of_the_lost_one() {
    let mut story = Story::of(5);
    let id = story.submit(job(3));
    let other = story.submit(job(1));
    story.all_up(id);
    story.all_up(other);
    story.step(id, 1);
    let gang = story.gang(id);
    story.silent(gang[1].0, Time::ZERO);
    for node in [gang[0], gang[2]] {
        let stopped = story.ended(id, node, &Exit::Signal(15), true);
        story.report(node.0, vec![stopped]);
    }
    story.fenced(gang[1].0);
    let after = story.gang(id);
    assert_eq!((after[0], after[2]), (gang[0], gang[2]), "the ranks keep their numbers");
    assert!(after[1] != gang[1] && !story.gang(other).contains(&after[1]));
    assert_eq!(story.core.job(id).unwrap().epoch, Epoch(2));
}

/// A rank on this node dies, and the others are stopped.
fn kill_gang(story: &mut Story, id: JobId, node: NodeId) {
    let gang = story.gang(id);
    let died = story.ended(id, node, &killed(), false);
    story.report(node.0, vec![died]);
    for &other in gang.iter().filter(|&&other| other != node) {
        let stopped = story.ended(id, other, &Exit::Signal(15), true);
        story.report(other.0, vec![stopped]);
    }
}

/// How many nodes were replaced when the job was last started in place, if that came last.
fn replaced(story: &Story) -> Option<u32> {
    let said = story.out.iter().filter_map(|effect| match effect {
        Effect::Trail(entry) => Some(&entry.what),
        _ => None,
    });
    said.filter_map(|what| match what {
        TrailKind::PlacedAgain { replaced, .. } => Some(*replaced),
        _ => None,
    })
    .next_back()
}

#[test]
fn a_gang_without_a_node_to_spare_starts_in_place_on_one_where_it_failed_twice() {
    for (nodes, is_spare) in [(3, false), (4, true)] {
        let mut story = Story::of(nodes);
        let id = story.submit(job(3));
        let bad = story.gang(id)[1];
        for _ in 0..2 {
            kill_gang(&mut story, id, bad);
            story.wait(5000);
        }
        story.all_up(id);
        story.step(id, 1);
        let gang = story.gang(id);
        assert_eq!(gang.contains(&bad), !is_spare, "on {nodes} nodes: the queue keeps away");
        kill_gang(&mut story, id, gang[2]);
        assert_eq!(replaced(&story), Some(0), "on {nodes} nodes");
        assert_eq!(story.gang(id), gang, "on {nodes} nodes");
    }
}

#[test]
fn what_all_nodes_of_a_gang_say_can_be_said_at_once() {
    let mut story = Story::of(3);
    let id = story.submit(job(3));
    let say = |story: &mut Story, epoch, word, but| {
        story.tell(Event::GangReported { job: id, epoch: Epoch(epoch), word, but });
    };
    let last = story.gang(id)[2];
    say(&mut story, 1, GangWord::Stopped, vec![]);
    assert_eq!(story.state(id), JobState::Starting, "nobody has asked them to stop");
    say(&mut story, 1, GangWord::Running, vec![last]);
    assert_eq!(story.state(id), JobState::Starting);
    say(&mut story, 1, GangWord::Running, vec![]);
    assert_eq!(story.state(id), JobState::Running);
    story.step(id, 1);
    let died = story.ended(id, last, &killed(), false);
    story.report(last.0, vec![died]);
    say(&mut story, 1, GangWord::Stopped, vec![]);
    assert_eq!(story.core.job(id).unwrap().epoch, Epoch(2));
    say(&mut story, 1, GangWord::Succeeded, vec![]);
    assert_eq!(story.state(id), JobState::Starting, "that epoch is over");
    say(&mut story, 2, GangWord::Running, vec![]);
    say(&mut story, 2, GangWord::Succeeded, vec![]);
    assert_eq!(story.state(id), JobState::Completed);
}

#[test]
fn silence_of_a_watched_job_is_a_hang_only_once_its_watcher_says_so() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.all_up(id);
    story.step(id, 1);
    story.wait(1000);
    let watched = Event::StepReached {
        job: id,
        epoch: Epoch(1),
        step: 2,
        total_steps: None,
        loss_micro: None,
        is_watched: true,
    };
    story.tell(watched);
    story.wait(3_600_000);
    assert_eq!(story.state(id), JobState::Running);
    let since = story.now;
    story.wait(500);
    story.tell(Event::ProgressStopped { job: id, epoch: Epoch(1), since });
    let due = story.core.next_wakeup().unwrap();
    story.wait(due.since(story.now).0);
    let job = story.core.job(id).unwrap();
    let attempt = job.attempt.as_ref().unwrap();
    let crate::gang::attempt::Phase::Stopping { reason, .. } = &attempt.phase else {
        panic!("it is not stopped")
    };
    assert!(matches!(reason, EndReason::Hang { last_step: 2, .. }), "{reason:?}");
    assert!(due > since && due.since(since).0 < 70_000);
}

#[test]
fn a_job_that_hangs_again_and_again_is_not_waited_for_ever_longer() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    let mut waits = Vec::new();
    let mut step = 1;
    for _ in 0..6 {
        story.all_up(id);
        story.step(id, step);
        story.wait(1000);
        story.step(id, step + 1);
        let began = story.now;
        while story.state(id) == JobState::Running {
            story.wait(1000);
        }
        waits.push(story.now.since(began).0);
        story.all_end(id, &Exit::Signal(15), true);
        while story.state(id) == JobState::Queued {
            story.wait(1000);
        }
        // It gets past the place each time, and then hangs at another.
        step += 2;
    }
    assert_eq!(waits[1..], [waits[1]; 5], "{waits:?}");
}

#[test]
fn a_node_that_says_the_same_again_is_not_looked_into_and_what_is_missing_is_still_seen() {
    let mut story = Story::of(1);
    let id = story.submit(job(1));
    story.all_up(id);
    let node = story.gang(id)[0];
    let same = story.running(id, node);
    story.report(node.0, vec![same]);
    assert_eq!(story.state(id), JobState::Running);
    story.report(node.0, Vec::new());
    assert_eq!(story.state(id), JobState::Stopping, "the attempt is lost on {}", NodeId(node.0));
}

#[test]
fn a_job_that_leaves_its_checkpoints_to_lindos_is_told_by_what_they_cost_and_how_often_it_fails() {
    use lindos_model::job::CheckpointEvery;
    let mut story = Story::of(3);
    let spec = JobSpec { checkpoint_every: Some(CheckpointEvery::Auto), ..job(2) };
    let id = story.submit(spec);
    let told = |story: &Story| {
        story.core.job(id).unwrap().attempt.as_ref().unwrap().save_every.expect("it asked").0
    };
    let first = told(&story);
    story.all_up(id);
    story.step(id, 1);
    story.wait(60_000);
    story.step(id, 60);
    let (epoch, blocked_ms) = (Epoch(1), 160_000);
    story.tell(Event::CheckpointSaved { job: id, epoch, step: 60, blocked_ms });
    let died = story.ended(id, NodeId(0), &killed(), false);
    story.report(0, vec![died]);
    story.all_end(id, &Exit::Signal(15), true);
    let second = told(&story);
    // Sixteen times the cost makes it four times as long; the fault, which counts for the job and
    // for the fleet, half of that.
    assert!(second > first * 19 / 10 && second < first * 21 / 10, "{first} {second}");
    let given = JobSpec { checkpoint_every: Some(CheckpointEvery::Given(Millis(7))), ..job(1) };
    let given = story.submit(given);
    let attempt = story.core.job(given).unwrap().attempt.as_ref().unwrap();
    assert_eq!(attempt.save_every, Some(Millis(7)));
}
