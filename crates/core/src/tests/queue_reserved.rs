//! Stories of nodes that are reserved for a team.

use super::queue::{HOUR, MINUTE, limited, of, reserved::reserve};
use super::story::{Story, job};
use lindos_model::reservation::Purpose;
use lindos_model::{JobState, NodeId, Policy};

#[test]
fn a_teams_jobs_go_to_its_reserved_nodes_first() {
    let mut story = Story::of(2);
    reserve(&mut story, "demo", Purpose::Team("a".into()), &[1], [0, 4]);
    let its = story.submit(of("a", job(1)));
    assert_eq!(story.gang(its), [NodeId(1)]);
    let other = story.submit(of("b", job(1)));
    assert_eq!(story.gang(other), [NodeId(0)]);
}

#[test]
fn within_a_reservation_a_gang_is_not_overtaken_for_ever() {
    let policy = Policy { wait_max_ms: HOUR, ..Policy::default() };
    let mut story = Story::under(policy, 2);
    reserve(&mut story, "demo", Purpose::Team("a".into()), &[0, 1], [0, 400]);
    let mut running = vec![story.run(of("a", limited(1, 60))), story.run(of("a", limited(1, 90)))];
    let gang = story.submit(of("a", limited(2, 60)));
    for _ in 0..50 {
        let next = story.submit(of("a", limited(1, 90)));
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
