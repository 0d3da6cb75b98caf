//! Stories of the limits of teams.

use super::queue::{HOUR, MINUTE, class, classes, limited, of, team};
use super::story::{Story, job};
use lindos_model::{JobSpec, JobState, Policy};

#[test]
fn a_job_does_not_take_the_limit_that_a_gang_of_its_team_will_start_in() {
    let teams = vec![team("t", "", 0, Some(16)), team("u", "", 0, None)];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 3);
    let running = story.run(of("u", limited(2, 60)));
    let gang =
        story.submit(of("t", JobSpec { exclude: ["n2".to_string()].into(), ..limited(2, 60) }));
    assert!(story.core.holds().contains_key(&gang), "its start is reserved");
    let _small = story.submit(of("t", job(1)));
    story.after(60 * MINUTE);
    story.complete(running);
    assert_eq!(story.state(gang), JobState::Starting, "{:?}", story.core.why(gang));
}

#[test]
fn small_jobs_of_its_team_do_not_keep_a_gang_out_of_the_limit_for_ever() {
    let teams = vec![team("t", "", 0, Some(16))];
    let policy = Policy { teams, wait_max_ms: HOUR, ..Policy::default() };
    let mut story = Story::under(policy, 4);
    let mut running = vec![story.run(of("t", limited(1, 60)))];
    let gang = story.submit(of("t", limited(2, 60)));
    running.push(story.submit(of("t", limited(1, 60))));
    for _ in 0..50 {
        // Another one waits, and then one that runs is over.
        let next = story.submit(of("t", limited(1, 60)));
        story.after(30 * MINUTE);
        let over = running.remove(0);
        if story.state(over) == JobState::Starting {
            story.all_up(over);
        }
        if story.state(over) == JobState::Running {
            story.complete(over);
        }
        running.push(next);
    }
    assert!(story.core.job(gang).unwrap().started_at.is_some(), "{:?}", story.core.why(gang));
}

#[test]
fn whoever_stopped_another_starts_though_a_job_of_its_team_came_meanwhile() {
    let teams = vec![team("t", "", 0, Some(16)), team("u", "", 0, None)];
    let policy = Policy { teams, classes: classes(), ..Policy::default() };
    let mut story = Story::under(policy, 3);
    let victim = story.run(of("u", class("research", job(2))));
    let production = story.submit(of(
        "t",
        JobSpec { exclude: ["n2".to_string()].into(), ..class("production", job(2)) },
    ));
    assert_eq!(story.state(victim), JobState::Stopping);
    story.submit(of("t", job(1)));
    story.gone(victim);
    assert_eq!(story.state(production), JobState::Starting, "{:?}", story.core.why(production));
}
