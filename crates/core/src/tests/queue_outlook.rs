//! Stories of what people are told: what is suggested would start the job, and what is promised comes.

use super::queue::{limited, of, reserved::reserve, team};
use super::story::{Story, job};
use crate::explain::outlook::{Change, DryRun};
use lindos_model::job::After;
use lindos_model::reservation::Purpose;
use lindos_model::{JobSpec, JobState, Millis, Policy};

#[test]
fn a_shorter_limit_that_is_suggested_starts_the_job() {
    let mut story = Story::of(3);
    story.run(limited(2, 600));
    let gang = story.submit(JobSpec { exclude: ["n2".to_string()].into(), ..limited(2, 60) });
    assert!(story.core.holds().contains_key(&gang));
    reserve(&mut story, "psu", Purpose::Maintenance, &[2], [1, 2]);
    let waits = story.submit(job(1));
    let outlook = story.core.outlook(waits).unwrap();
    let limits: Vec<Millis> = outlook
        .changes
        .iter()
        .filter_map(|c| match c {
            Change::ShorterLimit { limit } => Some(*limit),
            _ => None,
        })
        .collect();
    for limit in limits {
        let id = story.submit(JobSpec { time_limit: Some(limit), ..job(1) });
        assert_eq!(story.state(id), JobState::Starting, "with {limit}");
    }
}

#[test]
fn a_shorter_limit_is_told_for_a_reservation() {
    let mut story = Story::of(1);
    reserve(&mut story, "psu", Purpose::Maintenance, &[0], [1, 2]);
    let waits = story.submit(job(1));
    let outlook = story.core.outlook(waits).unwrap();
    assert!(
        outlook.changes.iter().any(|c| matches!(c, Change::ShorterLimit { .. })),
        "{outlook:?}"
    );
}

#[test]
fn a_higher_limit_is_not_suggested_while_there_is_no_room() {
    let teams = vec![team("a", "", 0, Some(8)), team("b", "", 0, None)];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 2);
    story.run(of("a", job(1)));
    story.run(of("b", job(1)));
    let waits = story.submit(of("a", job(1)));
    let outlook = story.core.outlook(waits).unwrap();
    assert!(outlook.changes.is_empty(), "a higher limit starts nothing: {:?}", outlook.changes);
}

#[test]
fn what_would_be_cancelled_does_not_start_in_a_dry_run() {
    let mut story = Story::of(1);
    let failed = story.run(job(1));
    story.cancel(failed);
    story.gone(failed);
    let after = vec![After { job: failed, any_end: false }];
    let dry = story.core.dry_run(&JobSpec { after, ..job(1) });
    assert!(!matches!(dry, DryRun::Starts { .. }), "{dry:?}");
}

#[test]
fn a_dry_run_knows_the_limit_of_an_elastic_job() {
    let teams = vec![team("a", "", 0, Some(16))];
    let mut story = Story::under(Policy { teams, ..Policy::default() }, 4);
    let spec = of("a", JobSpec { min_nodes: 1, ..job(4) });
    let DryRun::Starts { nodes, .. } = story.core.dry_run(&spec) else { panic!() };
    let id = story.submit(spec);
    assert_eq!(story.gang(id).len(), nodes.len());
}
