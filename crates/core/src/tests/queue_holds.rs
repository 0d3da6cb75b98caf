//! Stories of nodes that are held: nobody is overtaken for ever, and nothing waits for nothing.

use super::queue::{HOUR, MINUTE, limited};
use super::story::{Story, job};
use lindos_model::policy::QueueRule;
use lindos_model::{JobId, JobSpec, JobState, Millis, Policy};

#[test]
fn a_large_gang_is_not_kept_waiting_by_reservations_of_younger_ones() {
    let policy = Policy { queue: QueueRule::Backfill, ..Policy::default() };
    let mut story = Story::under(policy, 2);
    let mut running = vec![story.run(limited(1, 10)), story.run(limited(1, 20))];
    let mut waiting = vec![story.submit(limited(1, 29))];
    let large = story.submit(limited(2, 20));
    for at in 0..40u64 {
        // Each of another kind: their limits differ.
        waiting.push(story.submit(limited(1, 20 + at % 7)));
        story.after(10 * MINUTE);
        let over = running.remove(0);
        story.complete(over);
        let started: Vec<JobId> =
            waiting.iter().copied().filter(|&job| story.state(job) == JobState::Starting).collect();
        for job in started {
            story.all_up(job);
            waiting.retain(|&other| other != job);
            running.push(job);
        }
        if running.is_empty() || story.state(large) != JobState::Queued {
            break;
        }
    }
    assert!(story.core.job(large).unwrap().started_at.is_some(), "{:?}", story.core.why(large));
}

#[test]
fn of_two_gangs_alike_the_second_has_its_start_reserved_too() {
    let policy = Policy { queue: QueueRule::Backfill, ..Policy::default() };
    let mut story = Story::under(policy, 4);
    let r1 = story.run(limited(2, 100));
    let r2 = story.run(limited(1, 20));
    let r3 = story.run(limited(1, 110));
    let a = story.submit(limited(2, 600));
    let b = story.submit(limited(2, 600));
    story.submit(limited(1, 6000));
    story.after(20 * MINUTE);
    story.complete(r2);
    story.after(80 * MINUTE);
    story.complete(r1);
    assert_eq!(story.state(a), JobState::Starting);
    story.after(10 * MINUTE);
    story.complete(r3);
    assert_eq!(story.state(b), JobState::Starting, "it is the second of those that are blocked");
}

#[test]
fn a_job_that_has_waited_too_long_goes_first_without_another_event() {
    let policy = Policy { wait_max_ms: HOUR, ..Policy::default() };
    let mut story = Story::under(policy, 2);
    let quiet = JobSpec { hang_timeout: Some(Millis(1000 * HOUR)), ..job(1) };
    let blocker = story.run(JobSpec { exclude: ["n1".to_string()].into(), ..quiet.clone() });
    let filler = story.run(quiet.clone());
    let low = story.submit(JobSpec { priority: -5, ..quiet.clone() });
    story.wait(30 * MINUTE);
    let gang = story.submit(JobSpec { priority: 5, ..limited(2, 60) });
    story.complete(filler);
    assert!(story.core.holds().contains_key(&gang));
    assert_eq!(story.state(low), JobState::Queued, "n1 is held for the gang");
    story.wait(10 * HOUR);
    let _ = blocker;
    assert_eq!(story.state(low), JobState::Starting, "{:?}", story.core.why(low));
}
