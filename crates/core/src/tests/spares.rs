//! Stories of spares that a job keeps for itself.

use super::queue::{HOUR, class, classes, limited, team};
use super::story::{Story, job, killed};
use lindos_model::{Column, JobId, JobSpec, JobState, NodeId, Policy, RequestId};

fn with_spares(nodes: u32, spares: u32) -> JobSpec {
    JobSpec { spares, ..job(nodes) }
}

fn spares(story: &Story, id: JobId) -> Vec<u32> {
    let attempt = story.core.job(id).unwrap().attempt.as_ref().expect("it runs");
    attempt.spares.iter().map(|node| node.0).collect()
}

/// Two racks of four nodes.
fn in_racks(policy: Policy) -> Story {
    let mut story = Story::under(policy, 0);
    for node in 0..8 {
        story.join_in_rack(node, node / 4);
    }
    story
}

#[test]
fn a_gang_keeps_free_nodes_near_it_and_others_do_not_start_there() {
    let mut story = in_racks(Policy::default());
    let id = story.run(with_spares(2, 2));
    let gang = story.gang(id);
    let rack = |node: u32| node / 4;
    let kept = spares(&story, id);
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|&node| rack(node) == rack(gang[0].0)), "{kept:?} near {gang:?}");
    story.wait(1000);
    let before = story.column(Column::Spare);
    story.wait(1000);
    assert_eq!(story.column(Column::Spare) - before, 2 * 8 * 1000);
    let other = story.run(job(4));
    assert!(story.gang(other).iter().all(|node| rack(node.0) != rack(gang[0].0)));
    let late = story.submit(job(1));
    assert_eq!(story.state(late), JobState::Queued, "only spares are free");
    story.complete(id);
    assert_eq!(story.state(late), JobState::Starting, "they go when the gang does");
}

#[test]
fn a_spare_stands_in_for_a_lost_node_and_another_is_kept_as_soon_as_one_is_free() {
    let mut story = Story::of(5);
    let id = story.run(with_spares(2, 1));
    let other = story.run(job(2));
    let spare = spares(&story, id)[0];
    let lost = story.gang(id)[1];
    story.silent(lost.0, story.now);
    let survivor = story.gang(id)[0];
    let stopped = story.ended(id, survivor, &killed(), true);
    story.report(survivor.0, vec![stopped]);
    story.fenced(lost.0);
    assert_eq!(story.gang(id), [survivor, NodeId(spare)], "the spare has the lost one's number");
    assert_eq!(spares(&story, id), Vec::<u32>::new(), "there is no other");
    story.all_up(id);
    story.step(id, 2);
    story.report(lost.0, vec![]);
    assert_eq!(spares(&story, id), [lost.0], "back in service, it is the spare now");
    story.complete(other);
    assert_eq!(spares(&story, id), [lost.0]);
}

#[test]
fn a_spare_that_is_drained_or_reserved_is_replaced() {
    let mut story = Story::of(4);
    let id = story.run(with_spares(1, 1));
    let first = spares(&story, id)[0];
    story.tell(drained(first));
    let second = spares(&story, id)[0];
    assert_ne!(first, second);
    story.silent(second, story.now);
    let third = spares(&story, id)[0];
    assert!(third != first && third != second);
}

fn drained(node: u32) -> crate::Event {
    let (request, node) = (RequestId(9_100 + u128::from(node)), NodeId(node));
    crate::Event::NodeDrained { request, node, reason: "bad".into() }
}

#[test]
fn the_start_of_a_large_gang_is_promised_with_spares_that_will_be_free() {
    let mut story = Story::of(4);
    let first = story.run(JobSpec { spares: 1, ..limited(2, 60) });
    let large = story.submit(limited(4, 60));
    let small = story.submit(limited(1, 600));
    assert_eq!(story.state(small), JobState::Queued, "it would delay the large one");
    story.after(HOUR);
    story.complete(first);
    assert_eq!(story.state(large), JobState::Starting);
}

#[test]
fn spares_are_on_the_teams_account() {
    let teams = vec![team("a", "", 0, Some(24))];
    let policy = Policy { teams, ..Policy::default() };
    let mut story = Story::under(policy, 6);
    let spec = JobSpec { team: "a".into(), ..with_spares(2, 2) };
    let id = story.run(spec);
    assert_eq!(spares(&story, id).len(), 1, "more would be above the team's limit");
    let next = story.submit(JobSpec { team: "a".into(), ..job(1) });
    assert_eq!(story.state(next), JobState::Queued);
}

#[test]
fn the_policys_spares_are_left_for_all() {
    let mut story = Story::under(Policy { spares: 2, ..Policy::default() }, 5);
    let id = story.run(with_spares(2, 2));
    assert_eq!(spares(&story, id).len(), 1);
}

#[test]
fn a_job_is_not_moved_for_one_that_would_then_be_short_of_spares() {
    let mut story = Story::under(Policy { spares: 2, ..Policy::default() }, 4);
    let id = story.run(JobSpec { spares: 1, ..limited(1, 600) });
    assert_eq!(spares(&story, id).len(), 1);
    story.checkpoint(id, 5);
    // Were the first over, there would be four free nodes: two for this, and two spares.
    let gang = story.submit(limited(2, 60));
    assert_eq!(story.state(gang), JobState::Queued);
    assert_eq!(story.state(id), JobState::Running, "it takes one of the four itself");
    story.complete(id);
    assert_eq!(story.state(gang), JobState::Starting);
}

#[test]
fn what_was_stopped_for_a_job_does_not_come_back_to_what_the_fleet_needs_as_spares() {
    let policy = Policy { spares: 1, classes: classes(), preempt_grace_ms: 1, ..Policy::default() };
    let mut story = Story::under(policy, 3);
    // So that they are not on the node that a gang of one comes to first.
    story.tell(drained(0));
    let small = || class("research", JobSpec { gpus_per_node: 1, ..job(1) });
    let (one, other) = (story.submit(small()), story.submit(small()));
    let node = story.gang(one)[0];
    assert_eq!(story.gang(other), [node]);
    story.tell(crate::Event::NodeUndrained { request: RequestId(9_001), node: NodeId(0) });
    story.tell(drained(2));
    story.report(node.0, vec![story.running(one, node), story.running(other, node)]);
    story.wait(1000);
    let whole = story.submit(class("production", job(1)));
    let is = |story: &Story, state| [one, other].map(|id| story.state(id) == state);
    assert_eq!(is(&story, JobState::Stopping), [true, true]);
    story.wait(100);
    let ended = story.ended(one, node, &killed(), true);
    story.report(node.0, vec![ended, story.running(other, node)]);
    assert_eq!(is(&story, JobState::Queued), [true, false], "its place is held");
    story.wait(100);
    story.gone(other);
    assert_eq!(story.state(whole), JobState::Starting);
    assert_eq!(is(&story, JobState::Queued), [true, true], "one spare is left");
    story.all_up(whole);
    story.complete(whole);
    assert_eq!(is(&story, JobState::Starting), [true, true]);
}
