//! Stories of replicas that stand still: of one that keeps all others waiting, of one that the others go on
//! without, and of one that comes to no first step.

use super::replicas::{epochs, kill_replica, training, training_under};
use super::story::{Story, stepped};
use crate::edges::{RankReading, StallWatch};
use crate::event::Event;
use lindos_model::policy::Repair;
use lindos_model::{
    Activity, Apart, Column, Epoch, Exit, JobId, JobState, Millis, NodeId, Policy, Stall,
};

/// A look at a silence that began with the newest step: the first rank on one node is stopped, or nobody
/// stands apart.
fn looked(story: &mut Story, id: JobId, stopped: Option<NodeId>) {
    let attempt = story.core.job(id).unwrap().attempt.as_ref().unwrap();
    let (epoch, step, since) = (attempt.epoch, attempt.pace.step.unwrap(), attempt.sign_at);
    let member = |node| attempt.members.iter().position(|member| member.node == node).unwrap();
    let rank = |node| attempt.first_rank(member(node));
    let apart = stopped.map(|node| Apart {
        rank: rank(node),
        step: Some(step),
        activity: Some(Activity::Stopped),
    });
    let (apart, told) = (apart.into_iter().collect(), attempt.world_size());
    let most = Some(Activity::Idle);
    let stall = Box::new(Stall { since, step, told, at_step: told, most, apart });
    story.tell(Event::StallSeen { job: id, epoch, stall });
}

/// Nobody gets on from now on, and a look says this much of it.
fn hangs(story: &mut Story, id: JobId, stopped: Option<NodeId>) {
    let epoch = story.core.job(id).unwrap().attempt.as_ref().unwrap().epoch;
    story.tell(Event::ProgressStopped { job: id, epoch, since: story.now });
    story.wait(5000);
    looked(story, id, stopped);
    story.out.clear();
    let is_called = |story: &Story| {
        let attempt = story.core.job(id).unwrap().attempt.as_ref().unwrap();
        attempt.is_stopping() || !attempt.down.is_empty()
    };
    let since = story.now;
    while !is_called(story) {
        story.wait(1000);
        assert!(story.now.since(since) < Millis(120_000), "nobody calls it");
    }
}

#[test]
fn a_silence_that_points_at_one_replica_costs_that_one_alone() {
    let (mut story, id) = training(2);
    let gang = story.gang(id);
    let productive = story.column(Column::Productive);
    hangs(&mut story, id, Some(gang[3]));
    let orders = story.orders();
    assert!(orders.contains(&format!("stop {id}/1 on n{}", gang[3])), "{orders}");
    assert!(!orders.contains(&format!("on n{}", gang[4])), "{orders}");
    assert_eq!(story.state(id), JobState::Running);
    let silent = story.column(Column::Detect);
    assert!(silent > 0 && silent.is_multiple_of(4 * 2 * 8), "all of them stood still: {silent}");
    assert!(story.column(Column::Productive) - productive < 70_000 * 3 * 2 * 8);
    for node in [gang[2], gang[3]] {
        let stopped = story.ended(id, node, &Exit::Signal(9), true);
        story.report(node.0, vec![stopped]);
    }
    assert_eq!(epochs(&story, id), [1, 2, 1, 1]);
    let patience = |story: &Story| {
        let attempt = story.core.job(id).unwrap().attempt.as_ref().unwrap();
        attempt.pace.hang_timeout(None, story.core.policy())
    };
    let before = patience(&story);
    story.step(id, 3);
    assert_eq!(patience(&story), before, "the silence was no pause");
    story.wait(1000);
    story.all_up(id);
    story.tell(stepped(id, Epoch(2), 3));
    let known = story.core.job(id).unwrap();
    assert_eq!((known.history.len(), known.infrastructure_used), (0, 0), "no attempt is over");
    assert_eq!(story.core.health(gang[3]).unwrap().strikes.len(), 1);
}

#[test]
fn a_silence_that_goes_on_without_the_dropped_replica_ends_the_attempt() {
    let (mut story, id) = training(2);
    let gang = story.gang(id);
    hangs(&mut story, id, Some(gang[3]));
    assert_eq!(story.state(id), JobState::Running);
    let dropped_at = story.now;
    // The others find together again: that they sleep meanwhile is no second hang.
    looked(&mut story, id, None);
    let limit = story.core.job(id).unwrap().attempt.as_ref().unwrap().hang_limit;
    assert!(limit > Millis(5000), "{limit}");
    looked(&mut story, id, Some(gang[0]));
    while story.state(id) == JobState::Running {
        story.wait(1000);
        assert!(story.now.since(dropped_at) <= limit, "nobody calls it");
    }
    assert_eq!(story.state(id), JobState::Stopping, "not a replica after another");
}

#[test]
fn a_silence_that_points_at_nobody_ends_the_attempt_and_one_without_the_rest_too() {
    for (replicas_min, is_seen) in [(2, false), (4, true)] {
        let (mut story, id) = training(replicas_min);
        let gang = story.gang(id);
        hangs(&mut story, id, Some(gang[3]).filter(|_| is_seen));
        assert_eq!(story.state(id), JobState::Stopping);
    }
}

#[test]
fn a_replica_that_comes_and_goes_in_a_silence_hides_nothing_of_it() {
    let (mut story, id) = training(2);
    let gang = story.gang(id);
    let epoch = story.core.job(id).unwrap().epoch;
    story.tell(Event::ProgressStopped { job: id, epoch, since: story.now });
    story.wait(5000);
    looked(&mut story, id, Some(gang[3]));
    kill_replica(&mut story, id, [4, 5]);
    assert_eq!(epochs(&story, id), [1, 1, 2, 1], "it is launched again meanwhile");
    let is_down =
        |story: &Story| story.core.job(id).unwrap().attempt.as_ref().unwrap().down.contains(&1);
    let since = story.now;
    while !is_down(&story) {
        assert_eq!(story.state(id), JobState::Running);
        story.wait(1000);
        assert!(story.now.since(since) < Millis(120_000), "nobody calls it");
    }
}

#[test]
fn a_silence_that_a_lost_replica_explains_is_no_pause_to_learn_from() {
    let (mut story, id) = training(2);
    let longest =
        |story: &Story| story.core.job(id).unwrap().attempt.as_ref().unwrap().pace.longest_gap_ms;
    let before = longest(&story);
    story.wait(before + 2000);
    kill_replica(&mut story, id, [4, 5]);
    story.step(id, 3);
    assert_eq!(longest(&story), before);
    story.wait(before + 2000);
    story.step(id, 4);
    assert_eq!(longest(&story), before + 2000, "and another is one");
}

/// The replicas that tell steps get on for `seconds`, one step each, and the others stand still. What
/// is seen of it is told; all that the core does is in `out`.
fn get_on(story: &mut Story, watch: &mut StallWatch, id: JobId, tell: &[usize], seconds: u64) {
    let mut seen = Vec::new();
    for _ in 0..seconds {
        story.wait(1000);
        seen.append(&mut story.out);
        let attempt = story.core.job(id).unwrap().attempt.as_ref().unwrap();
        let (epoch, step) = (attempt.epoch, attempt.pace.step.unwrap() + 1);
        let reading = RankReading { step: Some(step), ..RankReading::default() };
        for &replica in tell {
            let rank = attempt.first_rank(attempt.members_of(replica).start);
            let launch = attempt.replicas[replica].epoch;
            watch.on_reading(story.now, id, epoch, launch, rank, &reading);
        }
        story.tell(stepped(id, epoch, step));
        seen.append(&mut story.out);
        for event in watch.due(story.now, &story.core) {
            story.tell(event);
            seen.append(&mut story.out);
        }
    }
    story.out = seen;
}

#[test]
fn a_replica_that_stands_still_while_the_others_go_on_is_lost_alone() {
    let (mut story, id) = training(2);
    let (gang, mut watch) = (story.gang(id), StallWatch::default());
    get_on(&mut story, &mut watch, id, &[0, 1, 2, 3], 30);
    let attempt = story.core.job(id).unwrap().attempt.as_ref().unwrap();
    let patience = attempt.pace.hang_timeout(None, story.core.policy()).0 / 1000;
    let before = story.column(Column::Productive);
    get_on(&mut story, &mut watch, id, &[0, 1, 3], patience - 1);
    assert_eq!(story.orders(), "", "it may be a pause");
    get_on(&mut story, &mut watch, id, &[0, 1, 3], 6);
    let orders = story.orders();
    assert!(orders.contains(&format!("stop {id}/1 on n{}", gang[4])), "{orders}");
    assert!(!orders.contains(&format!("n{}", gang[2])), "{orders}");
    assert_eq!(story.state(id), JobState::Running);
    // Only its own two nodes stood still, and the others have lost nothing.
    let detect = story.column(Column::Detect);
    let of_one = 2 * 8 * 1000;
    assert!((patience - 1) * of_one <= detect && detect <= (patience + 6) * of_one, "{detect}");
    assert_eq!(story.column(Column::Lost), 0);
    let productive = story.column(Column::Productive) - before;
    assert!(productive >= (patience + 4) * 3 * of_one, "{productive}");
    for node in [gang[4], gang[5]] {
        let stopped = story.ended(id, node, &Exit::Signal(9), true);
        story.report(node.0, vec![stopped]);
    }
    assert_eq!(epochs(&story, id), [1, 1, 2, 1]);
    story.all_up(id);
    let step = story.core.job(id).unwrap().attempt.as_ref().unwrap().pace.step.unwrap();
    story.tell(stepped(id, Epoch(2), step));
    get_on(&mut story, &mut watch, id, &[0, 1, 2, 3], 2 * patience);
    assert_eq!(story.orders(), "", "all get on");
}

#[test]
fn a_replica_that_is_needed_is_not_called_silent() {
    let (mut story, id) = training(4);
    let mut watch = StallWatch::default();
    get_on(&mut story, &mut watch, id, &[0, 1, 2, 3], 30);
    get_on(&mut story, &mut watch, id, &[0, 1, 3], 300);
    assert_eq!(story.orders(), "");
    assert_eq!(story.column(Column::Detect), 0);
}

/// As [`get_on`], and nothing but that it is there is heard of the others.
fn get_on_without(
    story: &mut Story,
    watch: &mut StallWatch,
    id: JobId,
    tell: &[usize],
    seconds: u64,
) {
    let attempt = story.core.job(id).unwrap().attempt.as_ref().unwrap();
    for replica in (0..attempt.replicas.len()).filter(|replica| !tell.contains(replica)) {
        let rank = attempt.first_rank(attempt.members_of(replica).start);
        let launch = attempt.replicas[replica].epoch;
        watch.on_reading(story.now, id, attempt.epoch, launch, rank, &RankReading::default());
    }
    get_on(story, watch, id, tell, seconds);
}

#[test]
fn a_replica_that_comes_to_no_first_step_when_the_others_begin_is_launched_again() {
    let (mut story, id) = training(2);
    let (gang, mut watch) = (story.gang(id), StallWatch::default());
    get_on_without(&mut story, &mut watch, id, &[0, 1, 3], 590);
    assert_eq!(story.orders(), "", "it may be loading still");
    get_on(&mut story, &mut watch, id, &[0, 1, 3], 20);
    let orders = story.orders();
    assert!(orders.contains(&format!("stop {id}/1 on n{}", gang[4])), "{orders}");
    assert!(!orders.contains(&format!("n{}", gang[2])), "{orders}");
    for node in [gang[4], gang[5]] {
        let stopped = story.ended(id, node, &Exit::Signal(9), true);
        story.report(node.0, vec![stopped]);
    }
    story.wait(60_000);
    assert_eq!(epochs(&story, id), [1, 1, 2, 1]);
    let of_one = 2 * 8 * 1000;
    let detect = story.column(Column::Detect);
    assert!((590 * of_one..=612 * of_one).contains(&detect), "{detect}: it never trained");
}

#[test]
fn where_only_some_replicas_tell_steps_those_that_tell_none_are_let_be() {
    for tell in [&[0][..], &[0, 2]] {
        let (mut story, id) = training(1);
        let mut watch = StallWatch::default();
        get_on_without(&mut story, &mut watch, id, tell, 1000);
        assert_eq!(story.orders(), "");
        assert_eq!(story.column(Column::Detect), 0);
    }
}

#[test]
fn the_replica_that_does_not_end_where_the_others_have_is_lost_and_no_lemon_that_has_ended() {
    let repair = Repair { strikes_max: 0, ..Repair::default() };
    let policy = Policy { repair, ..Policy::default() };
    let (mut story, id) = training_under(policy, 2);
    for step in 3..6 {
        kill_replica(&mut story, id, [0, 1]);
        story.wait(1000);
        story.all_up(id);
        let epoch = story.core.job(id).unwrap().epoch;
        story.tell(stepped(id, epoch, step));
    }
    let gang = story.gang(id);
    assert_eq!(story.core.health(gang[0]).unwrap().strikes.len(), 3);
    for &node in &gang[..6] {
        let ended = story.ended(id, node, &Exit::Code(0), false);
        story.report(node.0, vec![ended]);
    }
    assert_eq!(story.orders(), "", "the last may end at any moment");
    let since = story.now;
    while story.orders().is_empty() {
        story.wait(1000);
        assert!(story.now.since(since) < Millis(1_000_000), "nobody calls it");
    }
    let epoch = story.core.job(id).unwrap().attempt.as_ref().unwrap().epoch;
    let stop = |node: NodeId| format!("stop {id}/{epoch} on n{node}");
    assert_eq!(story.orders(), format!("{}, {}", stop(gang[6]), stop(gang[7])));
    for node in [gang[6], gang[7]] {
        let stopped = story.ended(id, node, &Exit::Signal(9), true);
        story.report(node.0, vec![stopped]);
    }
    assert_eq!(story.state(id), JobState::Completed, "three of at least two are done");
}

#[test]
fn a_replica_that_comes_to_no_first_step_is_launched_again_and_the_others_go_on() {
    let (mut story, id) = training(2);
    kill_replica(&mut story, id, [2, 3]);
    story.all_up(id);
    let (gang, mut watch) = (story.gang(id), StallWatch::default());
    let startup = story.column(Column::Startup);
    get_on(&mut story, &mut watch, id, &[0, 2, 3], 590);
    assert_eq!(story.orders(), "", "it may be loading still");
    get_on(&mut story, &mut watch, id, &[0, 2, 3], 15);
    let stop = |node: NodeId| format!("stop {id}/2 on n{node}");
    assert!(story.orders().contains(&stop(gang[2])), "{}", story.orders());
    assert!(!story.orders().contains(&format!("{id}/1")), "{}", story.orders());
    let of_it = story.column(Column::Startup) - startup;
    assert!((599_000..=602_000).contains(&(of_it / (2 * 8))), "{of_it}");
    for node in [gang[2], gang[3]] {
        let stopped = story.ended(id, node, &Exit::Signal(9), true);
        story.report(node.0, vec![stopped]);
    }
    story.wait(60_000);
    assert_eq!(epochs(&story, id), [1, 3, 1, 1]);
    assert_eq!(story.state(id), JobState::Running);
}

#[test]
fn a_control_plane_that_was_away_gives_a_replica_time_for_its_first_step() {
    let (mut story, id) = training(2);
    kill_replica(&mut story, id, [2, 3]);
    story.all_up(id);
    story.after(700_000);
    story.tell(Event::ControlPlaneStarted { policy: Box::default() });
    story.out.clear();
    story.wait(29_000);
    assert_eq!(story.orders(), "", "it may have told one that nobody heard");
    story.tell(stepped(id, Epoch(2), 30));
    story.wait(20_000);
    assert_eq!(epochs(&story, id), [1, 2, 1, 1]);
}

#[test]
fn a_replica_that_starts_again_when_the_others_end_has_its_time_and_is_not_called_hung() {
    let (mut story, id) = training(2);
    let gang = story.gang(id);
    let (epoch, loss_micro, is_watched) = (Epoch(1), None, false);
    let last = Event::StepReached {
        job: id,
        epoch,
        step: 3,
        total_steps: Some(3),
        loss_micro,
        is_watched,
    };
    story.tell(last);
    story.wait(400_000);
    kill_replica(&mut story, id, [2, 3]);
    story.all_up(id);
    for node in [0, 1, 4, 5, 6, 7].map(|at| gang[at]) {
        let ended = story.ended(id, node, &Exit::Code(0), false);
        story.report(node.0, vec![ended]);
    }
    story.wait(300_000);
    assert_eq!(story.orders(), "", "it may be loading still");
    story.tell(stepped(id, Epoch(2), 3));
    story.wait(590_000);
    assert_eq!(story.orders(), "", "it has the time after the last step, too");
    story.wait(20_000);
    assert!(story.orders().contains(&format!("stop {id}/2 on n{}", gang[2])), "{}", story.orders());
}

#[test]
fn what_else_is_lost_while_the_others_find_together_puts_off_nothing() {
    let (mut story, id) = training(2);
    let gang = story.gang(id);
    hangs(&mut story, id, Some(gang[3]));
    for node in [gang[2], gang[3]] {
        let stopped = story.ended(id, node, &Exit::Signal(9), true);
        story.report(node.0, vec![stopped]);
    }
    let attempt = |story: &Story| story.core.job(id).unwrap().attempt.clone().unwrap();
    let (patience, since) = (attempt(&story).hang_limit, story.now);
    story.wait(patience.0 / 2);
    kill_replica(&mut story, id, [0, 1]);
    assert!(attempt(&story).is_regrouping && attempt(&story).training() == 2);
    while !attempt(&story).is_stopping() {
        story.wait(1000);
        assert!(story.now.since(since) < patience + Millis(5000), "it waits for ever");
    }
}
