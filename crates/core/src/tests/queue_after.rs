//! Stories of jobs that come after others.

use super::queue::HOUR;
use super::story::{Story, job};
use crate::job::Job;
use lindos_model::job::After;
use lindos_model::{JobId, JobSpec, JobState, Millis, Policy, WaitReason};

#[test]
fn a_failure_is_not_missed_though_it_is_forgotten_before_the_others_are_over() {
    let policy = Policy { finished_jobs_max: 1, ..Policy::default() };
    let mut story = Story::under(policy, 3);
    let first = story.run(job(1));
    let second = story.run(JobSpec { retry_user: 0, ..job(1) });
    let after = [first, second].map(|job| After { job, any_end: false }).to_vec();
    let third = story.submit(JobSpec { after, ..job(1) });
    story.all_end(second, &lindos_model::Exit::Code(1), false);
    let other = story.run(job(1));
    story.complete(other);
    story.complete(first);
    assert!(story.core.job(third).is_none_or(|job| job.state() == JobState::Cancelled));
    assert_eq!(story.core.jobs().filter(|job| !job.is_over()).count(), 0);
}

#[test]
fn a_job_is_cancelled_as_soon_as_one_that_it_comes_after_has_failed() {
    let mut story = Story::of(3);
    let first = story.run(job(1));
    let second = story.run(JobSpec { retry_user: 0, ..job(1) });
    let after = [first, second].map(|job| After { job, any_end: false }).to_vec();
    let third = story.submit(JobSpec { after, ..job(1) });
    story.all_end(second, &lindos_model::Exit::Code(1), false);
    assert_eq!(story.state(third), JobState::Cancelled);
}

#[test]
fn an_array_after_a_failed_job_is_cancelled_as_a_whole() {
    let policy = Policy { finished_jobs_max: 2, ..Policy::default() };
    let mut story = Story::under(policy, 3);
    let failed = story.run(JobSpec { retry_user: 0, ..job(1) });
    story.all_end(failed, &lindos_model::Exit::Code(1), false);
    let done = story.run(job(1));
    story.complete(done);
    let after = vec![After { job: failed, any_end: false }];
    let first = story.submit(JobSpec { after, array: Some(3), ..job(1) });
    let states: Vec<JobState> =
        (1..3).filter_map(|n| story.core.job(JobId(first.0 + n))).map(Job::state).collect();
    assert!(states.iter().all(|&state| state == JobState::Cancelled), "{states:?}");
}

#[test]
fn waiting_for_another_job_is_not_waiting_for_a_turn() {
    let policy = Policy { wait_max_ms: HOUR, ..Policy::default() };
    let mut story = Story::under(policy, 1);
    let first = story.run(JobSpec { hang_timeout: Some(Millis(1000 * HOUR)), ..job(1) });
    let after = vec![After { job: first, any_end: true }];
    let late = story.submit(JobSpec { after, priority: -5, ..job(1) });
    story.after(2 * HOUR);
    let urgent = story.submit(JobSpec { priority: 5, ..job(1) });
    story.complete(first);
    assert_eq!(story.state(urgent), JobState::Starting);
    assert_eq!(story.state(late), JobState::Queued);
}

#[test]
fn an_array_waits_for_every_job_that_it_comes_after_and_an_end_costs_a_look_at_it_once() {
    let mut story = Story::of(8);
    let before = [story.run(job(1)), story.run(job(1))];
    let after = before.map(|job| After { job, any_end: true }).to_vec();
    let first = story.submit(JobSpec { after, array: Some(3), ..job(1) });
    let last = JobId(first.0 + 2);
    assert_eq!(story.core.why(last), Some(WaitReason::After { job: before[0] }));
    story.complete(before[0]);
    assert_eq!(story.core.why(last), Some(WaitReason::After { job: before[1] }));
    story.cancel(first);
    story.complete(before[1]);
    assert_eq!(story.state(first), JobState::Cancelled);
    assert_eq!(story.state(last), JobState::Starting);
}
