//! What an agent tells of ranks in trouble: real shims, real processes.

mod common;

use common::{Node, exit_of, kill};
use lindos_api::agent::{RankProgress, Report};
use lindos_model::{Activity, Exit, Rank, Symptom, SymptomKind};
use rustix::process::Signal;
use std::time::Instant;

const KEY_ERROR: &str = "printf 'step 1 loss 2.5\\nTraceback (most recent call last):\\n  File \
                         \"train.py\", line 3, in <module>\\n    x = batch[\"ids\"]\\nKeyError: \
                         %s\\n' \"'ids'\" >&2; exit 1";

fn of(report: &Report, rank: u32) -> Option<&RankProgress> {
    report.progress.iter().find(|progress| progress.rank == Rank(rank))
}

fn does(report: &Report, rank: u32) -> Option<Activity> {
    of(report, rank)?.activity
}

#[test]
fn last_words_come_with_the_exit_that_they_explain() {
    let node = Node::start();
    let mut spec = node.script(&format!(
        "if [ $LINDOS_RANK = 1 ]; then {KEY_ERROR}; fi; echo KeyError: x; exit 3"
    ));
    spec.ranks_per_node = 2;
    node.launch(1, 1, spec);
    let attempt = node.wait_gone(1);
    let exits: Vec<Exit> = attempt.ranks.iter().map(exit_of).collect();
    assert_eq!(exits, [Exit::Code(3), Exit::Code(1)]);
    let reports = node.server.reports();
    let has_exit = |report: &&Report| {
        report
            .attempts
            .iter()
            .flat_map(|it| &it.ranks)
            .any(|it| it.rank == Rank(1) && it.exit.is_some())
    };
    let first = reports.iter().find(has_exit).unwrap();
    let expected = Symptom { kind: SymptomKind::Program, line: "KeyError: 'ids'".into() };
    let told: Vec<(Rank, &Symptom)> =
        first.symptoms.iter().map(|told| (told.rank, &told.symptom)).collect();
    assert_eq!(told, [(Rank(1), &expected)], "and none of a line that is no traceback");
}

#[test]
fn who_was_told_to_stop_has_no_last_words() {
    let node = Node::start();
    let script = format!("trap '{}' TERM; echo ready > ready; while :; do sleep 0.01; done", {
        KEY_ERROR.replace('\'', "'\\''")
    });
    node.launch(1, 1, node.script(&script));
    node.wait_file("ready");
    node.stop(1, 1, 60_000);
    let attempt = node.wait_gone(1);
    assert_eq!(exit_of(&attempt.ranks[0]), Exit::Code(1));
    assert!(node.log(1, 1, 0).contains("KeyError: 'ids'"));
    assert!(node.server.reports().iter().all(|report| report.symptoms.is_empty()));
}

#[test]
fn what_silent_ranks_do_is_told_until_they_get_on() {
    let node = Node::start();
    // Rank 0 spins in a child, 1 sleeps, 2 is stopped; all tell a step first, and 1 again later.
    let script = "echo step 1; if [ $LINDOS_RANK = 0 ]; then (while :; do :; done) & fi; \
                  while ! [ -e go ]; do sleep 0.5; done; i=1; \
                  while :; do i=$((i+1)); echo step $i; sleep 0.5; done";
    let mut spec = node.script(script);
    spec.ranks_per_node = 3;
    spec.progress_pattern = Some("step (?<step>[0-9]+)".into());
    node.launch(1, 1, spec);
    let attempt = node.wait_started(1);
    let stopped = Instant::now();
    kill(attempt.ranks[2].pid, Signal::STOP);
    let expected = [Activity::Busy, Activity::Idle, Activity::Stopped].map(Some);
    let all = |report: &Report| [0, 1, 2].map(|rank| does(report, rank));
    let (report, at) = node.server.wait("what the ranks do", |report| all(report) == expected);
    assert_eq!(of(&report, 1).unwrap().step, Some(1));
    println!("known {:?} after the signal", at - stopped);
    std::fs::write(node.work().join("go"), "").unwrap();
    node.server.wait("it gets on", |report| {
        of(report, 1).is_some_and(|it| it.step > Some(2) && it.activity.is_none())
    });
    kill(attempt.ranks[2].pid, Signal::CONT);
}

#[test]
fn a_loss_that_is_no_number_is_told_from_where_it_began() {
    let node = Node::start();
    let mut spec = node.script(
        "echo step 1 loss 2.5; for i in 2 3 4; do sleep 0.2; echo step $i loss nan; done; exec sleep 100",
    );
    spec.progress_pattern = Some("step (?<step>[0-9]+) loss (?<loss>[^ ]+)".into());
    node.launch(1, 1, spec);
    let (report, _) =
        node.server.wait("the last step", |it| of(it, 0).is_some_and(|it| it.step == Some(4)));
    let progress = of(&report, 0).unwrap();
    assert_eq!((progress.loss, progress.loss_broken_from), (None, Some(2)));
}
