//! Stories of jobs that look alike and are not.

use super::queue::{HOUR, class, classes, limited, of, team};
use super::story::{Story, job};
use crate::Event;
use lindos_model::{JobSpec, JobState, Millis, NodeSpec, Policy};

#[test]
fn a_job_of_no_class_does_not_hide_one_that_may_preempt() {
    let mut story = Story::under(Policy { classes: classes(), ..Policy::default() }, 1);
    let low = story.run(class("research", job(1)));
    let _plain = story.submit(JobSpec { priority: 100, ..job(1) });
    let _production = story.submit(class("production", job(1)));
    assert_eq!(story.state(low), JobState::Stopping);
}

#[test]
fn a_job_with_a_long_grace_does_not_hide_one_that_is_over_in_time() {
    let mut story = Story::of(3);
    story.run(limited(2, 60));
    story.submit(limited(3, 60));
    let _long = story.submit(JobSpec { stop_grace: Millis(HOUR), ..limited(1, 30) });
    let in_time = story.submit(limited(1, 30));
    assert_eq!(story.state(in_time), JobState::Starting);
}

#[test]
fn what_one_team_has_no_place_for_another_may_have_within_its_limit() {
    let teams = vec![team("a", "", 0, Some(16)), team("b", "", 0, None)];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 3);
    // One more is to come, and whoever may have all four waits for it.
    let spec = NodeSpec { name: "n3".into(), ..story.core.nodes()[0].spec.clone() };
    story.tell(Event::NodeJoined { spec: Box::new(spec) });
    let elastic = JobSpec { min_nodes: 1, ..job(4) };
    let _b = story.submit(of("b", JobSpec { priority: 1, ..elastic.clone() }));
    let a = story.submit(of("a", elastic.clone()));
    assert_eq!(story.state(a), JobState::Starting, "{:?}", story.core.why(a));
}
