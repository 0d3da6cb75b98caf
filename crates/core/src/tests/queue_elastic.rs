//! Stories of elastic jobs.

use super::queue::{HOUR, MINUTE, limited};
use super::story::{Story, job};
use crate::Event;
use lindos_model::{JobSpec, JobState, NodeId, RequestId, WaitReason};

#[test]
fn an_elastic_job_runs_on_what_there_is_though_it_wants_more_than_the_fleet_has() {
    let mut story = Story::of(4);
    let id = story.submit(JobSpec { min_nodes: 2, ..job(5) });
    story.wait(HOUR);
    let why = story.core.why(id);
    assert!(!matches!(why, Some(WaitReason::NeverFits { .. })), "{why:?}");
}

#[test]
fn a_node_that_is_drained_does_not_keep_an_elastic_job_from_the_others() {
    let mut story = Story::of(4);
    story.requests += 1;
    let request = RequestId(story.requests);
    story.tell(Event::NodeDrained { request, node: NodeId(3), reason: "x".into() });
    let id = story.submit(JobSpec { min_nodes: 1, ..job(4) });
    assert_eq!(story.state(id), JobState::Starting, "{:?}", story.core.why(id));
}

#[test]
fn a_job_that_never_fits_keeps_no_elastic_one_small() {
    let mut story = Story::of(4);
    let other = story.run(limited(2, 600));
    let elastic = story.submit(JobSpec { min_nodes: 1, ..limited(4, 600) });
    story.all_up(elastic);
    story.after(MINUTE).step(elastic, 1);
    story.submit(job(99));
    story.complete(other);
    story.after(MINUTE).checkpoint(elastic, 2);
    assert_eq!(story.state(elastic), JobState::Stopping, "nobody waits for the nodes");
}

#[test]
fn a_checkpoint_that_is_told_again_grows_nobody() {
    let mut story = Story::of(4);
    let other = story.run(limited(2, 6000));
    let elastic = story.submit(JobSpec { min_nodes: 1, ..limited(4, 6000) });
    story.all_up(elastic);
    story.after(MINUTE).step(elastic, 1);
    story.after(MINUTE).checkpoint(elastic, 2);
    story.after(50 * MINUTE).step(elastic, 3);
    story.complete(other);
    // The control plane has started again, and is told of the newest checkpoint.
    story.checkpoint(elastic, 2);
    assert_eq!(story.state(elastic), JobState::Running, "it would lose 50 minutes");
}
