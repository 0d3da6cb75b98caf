//! Stories of shares that are had back, and of classes: who is stopped for whom.

use super::queue::{HOUR, MINUTE, class, classes, limited, of, team};
use super::story::{Story, job};
use crate::Event;
use lindos_model::policy::QueueRule;
use lindos_model::{JobId, JobSpec, JobState, Millis, Policy};

#[test]
fn two_jobs_take_back_no_more_than_the_share_of_their_team() {
    let teams = vec![team("a", "", 8, None), team("b", "", 0, None)];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 2);
    let lent = [story.run(of("b", job(1))), story.run(of("b", job(1)))];
    story.submit(of("a", limited(1, 60)));
    story.submit(of("a", limited(1, 90)));
    let stopping = lent.iter().filter(|&&job| story.state(job) == JobState::Stopping).count();
    assert_eq!(stopping, 1, "what is above the asking team's share stops nobody");
}

#[test]
fn two_that_ask_leave_a_team_its_share() {
    let teams = vec![
        team("a", "", 8, None),
        team("b", "", 8, None),
        team("c", "", 8, None),
        team("d", "", 0, None),
    ];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 3);
    let d = story.run(of("d", job(1)));
    story.after(5 * MINUTE);
    let bs = [story.run(of("b", job(1))), story.run(of("b", job(1)))];
    story.submit(of("a", job(1)));
    story.submit(of("c", job(1)));
    let stopping = bs.iter().filter(|&&job| story.state(job) == JobState::Stopping).count();
    assert_eq!(stopping, 1, "b keeps its share");
    assert_eq!(story.state(d), JobState::Stopping, "d has none");
}

#[test]
fn a_part_is_not_robbed_while_its_whole_holds_no_more_than_its_share() {
    let teams = vec![
        team("lab", "", 8, None),
        team("x", "lab", 0, None),
        team("b", "", 8, None),
        team("z", "", 0, None),
    ];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 2);
    let z = story.run(of("z", job(1)));
    story.after(5 * MINUTE);
    let x = story.run(of("x", job(1)));
    story.submit(of("b", job(1)));
    assert_eq!(story.state(x), JobState::Running, "the lab holds just its share");
    assert_eq!(story.state(z), JobState::Stopping);
}

#[test]
fn a_part_has_its_share_back_from_its_wholes_own_jobs() {
    let teams = vec![team("lab", "", 16, None), team("x", "lab", 8, None)];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 2);
    let own = [story.run(of("lab", job(1))), story.run(of("lab", job(1)))];
    story.submit(of("x", job(1)));
    let stopping = own.iter().filter(|&&job| story.state(job) == JobState::Stopping).count();
    assert_eq!(stopping, 1, "x has its share whenever it wants it");
}

#[test]
fn whoever_stops_a_part_has_taken_from_its_whole() {
    let teams = vec![
        team("lab", "", 8, None),
        team("x", "lab", 0, None),
        team("b", "", 16, None),
        team("z", "", 0, None),
    ];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 3);
    let z = story.run(of("z", job(1)));
    story.after(5 * MINUTE);
    let own = story.run(of("lab", job(1)));
    story.after(MINUTE);
    let x = story.run(of("x", job(1)));
    story.submit(of("b", job(2)));
    assert_eq!(story.state(x), JobState::Stopping);
    assert_eq!(story.state(z), JobState::Stopping);
    assert_eq!(story.state(own), JobState::Running, "the lab is left its share");
}

#[test]
fn a_gang_that_gathers_nodes_keeps_nobody_from_its_share() {
    let teams = vec![team("a", "", 16, None), team("b", "", 16, None)];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 5);
    let lent: Vec<JobId> = (0..4).map(|_| story.run(of("b", job(1)))).collect();
    let _more = story.submit(of("b", job(2)));
    let own = story.submit(of("a", job(2)));
    let stopping = lent.iter().filter(|&&job| story.state(job) == JobState::Stopping).count();
    assert!(stopping > 0, "a has none of its share, and b borrows: {:?}", story.core.why(own));
}

#[test]
fn a_blocked_job_of_a_higher_priority_keeps_nobody_from_its_share() {
    let teams = vec![team("a", "", 16, None), team("b", "", 0, None)];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 2);
    let lent: Vec<JobId> = (0..2).map(|_| story.run(of("b", job(1)))).collect();
    let _more = story.submit(of("b", JobSpec { priority: 1, ..job(2) }));
    let _own = story.submit(of("a", job(1)));
    let stopping = lent.iter().filter(|&&job| story.state(job) == JobState::Stopping).count();
    assert_eq!(stopping, 1, "a has none of its share, and b borrows");
}

#[test]
fn shares_are_had_back_without_reservations() {
    let teams = vec![team("a", "", 8, None), team("b", "", 0, None)];
    let policy = Policy { teams, reservations_max: 0, ..Policy::default() };
    let mut story = Story::under(policy, 1);
    let lent = story.run(of("b", job(1)));
    story.submit(of("a", job(1)));
    assert_eq!(story.state(lent), JobState::Stopping);
}

#[test]
fn a_class_stops_those_first_that_leave_their_team_its_share() {
    let teams = vec![team("a", "", 8, None), team("b", "", 0, None), team("c", "", 0, None)];
    let policy = Policy { teams, classes: classes(), ..Policy::default() };
    let mut story = Story::under(policy, 2);
    let borrowed = story.run(of("b", class("research", job(1))));
    story.after(5 * MINUTE);
    let own = story.run(of("a", class("research", job(1))));
    story.submit(of("c", class("production", job(1))));
    assert_eq!(story.state(own), JobState::Running);
    assert_eq!(story.state(borrowed), JobState::Stopping);
}

#[test]
fn a_class_preempts_under_the_fifo_rule() {
    let policy = Policy { classes: classes(), queue: QueueRule::Fifo, ..Policy::default() };
    let mut story = Story::under(policy, 1);
    let low = story.run(class("research", job(1)));
    story.submit(class("production", job(1)));
    assert_eq!(story.state(low), JobState::Stopping);
}

#[test]
fn when_the_grace_time_is_over_the_victim_is_stopped_without_another_event() {
    let policy = Policy { classes: classes(), preempt_grace_ms: HOUR, ..Policy::default() };
    let mut story = Story::under(policy, 1);
    let spec =
        |name: &str| JobSpec { hang_timeout: Some(Millis(1000 * HOUR)), ..class(name, job(1)) };
    let victim = story.run(spec("research"));
    let first = story.submit(spec("production"));
    story.gone(victim);
    story.all_up(first);
    story.complete(first);
    story.all_up(victim);
    story.step(victim, 2);
    let second = story.submit(spec("production"));
    assert_eq!(story.state(victim), JobState::Running);
    story.wait(10 * HOUR);
    assert_eq!(story.state(victim), JobState::Stopping, "{:?}", story.core.why(second));
}

#[test]
fn a_job_that_is_moved_finds_its_place_though_another_came() {
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
    let _gang = story.submit(JobSpec { within: lindos_model::Level::Rack, ..limited(2, 60) });
    let moved: Vec<JobId> =
        movers.iter().copied().filter(|&job| story.state(job) == JobState::Stopping).collect();
    assert_eq!(moved.len(), 1);
    // While it is being stopped, another job comes.
    story.submit(limited(1, 600));
    story.gone(moved[0]);
    assert_eq!(story.state(moved[0]), JobState::Starting, "it goes on at once, elsewhere");
}

#[test]
fn jobs_of_no_team_do_not_stand_above_the_teams_of_a_later_policy() {
    let mut story = Story::of(2);
    let busy = story.run(job(2));
    let teams = vec![team("a", "", 8, None), team("b", "", 8, None)];
    let policy = Policy { teams, ..Policy::default() };
    let teamless = story.submit(job(2));
    story.tell(Event::ControlPlaneStarted { policy: Box::new(policy) });
    let own = story.submit(of("a", JobSpec { priority: 0, ..job(1) }));
    let above = story.core.teams().upwards(story.core.teams().find("a").unwrap()).count();
    assert_eq!(above, 1, "a is part of nothing");
    let account = story.core.teams().account(story.core.teams().find("").unwrap());
    assert_eq!(account.held, 16);
    story.gone(busy);
    assert_eq!(story.state(own), JobState::Starting, "a is below its share");
    assert_eq!(story.state(teamless), JobState::Queued);
}
