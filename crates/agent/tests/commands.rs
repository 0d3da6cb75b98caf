//! Commands: late, repeated, and such that cannot be carried out.

mod common;

use common::{Node, exit_of, find, is_alive, launch_order};
use lindos_api::agent::{Command, Message, Order};
use lindos_model::report::Refusal;
use lindos_model::{Epoch, Exit, JobId, LaunchMode, Millis, ReportedPhase};
use std::net::TcpListener;

fn refusal(node: &Node, job: u64) -> Refusal {
    let (attempt, _) =
        node.wait(job, "a refusal", |it| matches!(it.phase, ReportedPhase::Refused(_)));
    match attempt.phase {
        ReportedPhase::Refused(refusal) => refusal,
        _ => unreachable!(),
    }
}

#[test]
fn a_launch_repeated_is_a_launch() {
    let node = Node::start();
    let spec = node.script("echo started >> starts; exec sleep 1000");
    for _ in 0..3 {
        node.launch(1, 1, spec.clone());
    }
    node.wait_file("starts");
    node.launch(1, 1, spec);
    // Commands are carried out in turn: when the next one has been, so were those before.
    node.launch(2, 1, node.script("true"));
    node.wait_gone(2);
    assert_eq!(node.wait_file("starts"), "started");
    assert_eq!(node.server.newest().unwrap().attempts.len(), 2);
}

#[test]
fn an_older_epoch_is_refused_also_by_the_next_agent() {
    let mut node = Node::start();
    node.launch(1, 3, node.script("true"));
    node.wait_gone(1);
    node.order(1, 3, Order::Forget);
    node.server.wait("it to be forgotten", |report| find(report, 1).is_none());
    node.kill_agent();
    node.start_agent();
    for epoch in [2, 3] {
        node.launch(1, epoch, node.script("echo ran > ran"));
        assert_eq!(refusal(&node, 1), Refusal::StaleEpoch { newest: Epoch(3) });
        node.order(1, epoch, Order::Forget);
        node.server.wait("it to be forgotten", |report| find(report, 1).is_none());
    }
    node.launch(1, 4, node.script("exit 8"));
    assert_eq!(exit_of(&node.wait_gone(1).ranks[0]), Exit::Code(8));
    assert!(!node.work().join("ran").exists());
}

#[test]
fn a_stop_that_comes_before_its_launch_wins() {
    let mut node = Node::start();
    node.stop(1, 2, 1000);
    let attempt = node.wait_gone(1);
    assert_eq!((attempt.epoch, attempt.ranks.len()), (Epoch(2), 0));
    node.launch(1, 2, node.script("echo ran > ran"));
    node.launch(2, 1, node.script("true"));
    node.wait_gone(2);
    node.kill_agent();
    node.start_agent();
    let report = node.server.newest().unwrap();
    assert_eq!(find(&report, 1), Some(attempt), "the tombstone stays until it is forgotten");
    node.order(1, 2, Order::Forget);
    node.server.wait("it to be forgotten", |report| find(report, 1).is_none());
    node.launch(1, 2, node.script("echo ran > ran"));
    assert_eq!(refusal(&node, 1), Refusal::StaleEpoch { newest: Epoch(2) });
    assert!(!node.work().join("ran").exists());
}

#[test]
fn a_command_to_another_incarnation_is_dropped() {
    let node = Node::start();
    let incarnation = node.server.newest().unwrap().incarnation - 1;
    node.server.send(&Message::Command(Command {
        id: 1,
        incarnation,
        job: JobId(1),
        epoch: Epoch(1),
        order: launch_order(node.script("echo ran > ran"), 0),
    }));
    node.launch(2, 1, node.script("true"));
    node.wait_gone(2);
    assert_eq!(find(&node.server.newest().unwrap(), 1), None);
}

#[test]
fn a_newer_epoch_does_not_start_beside_an_older_one() {
    let node = Node::start();
    node.launch(1, 1, node.script("exec sleep 1000"));
    let old = node.wait_started(1).ranks[0].pid;
    node.launch(1, 2, node.script("exec sleep 1000"));
    let (gone, _) = node.wait(1, "the old one to be gone", |it| {
        it.epoch == Epoch(1) && it.phase == ReportedPhase::Gone
    });
    assert!(!is_alive(old) && gone.ranks[0].exit.is_some());
    node.launch(1, 2, node.script("exec sleep 1000"));
    node.wait(1, "the new one", |it| it.epoch == Epoch(2) && it.ranks[0].pid != 0);
}

#[test]
fn a_taken_port_is_refused() {
    let node = Node::start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut spec = node.script("echo port $MASTER_PORT");
    spec.launch = LaunchMode::Torchrun;
    node.order(1, 1, launch_order(spec.clone(), port));
    assert_eq!(refusal(&node, 1), Refusal::PortInUse { port });
    // A mode without a rendezvous does not mind.
    let mut plain = spec.clone();
    plain.launch = LaunchMode::Plain;
    node.order(2, 1, launch_order(plain, port));
    node.wait_gone(2);
    drop(taken);
    node.order(1, 2, launch_order(spec, port));
    node.wait(1, "it to run", |it| it.epoch == Epoch(2) && it.phase == ReportedPhase::Gone);
    assert_eq!(node.log(1, 2, 0), format!("port {port}\n"));
}

#[test]
fn a_checkpoint_folder_that_cannot_be_is_refused() {
    let node = Node::start();
    std::fs::write(node.work().join("file"), "").unwrap();
    let mut spec = node.script("true");
    spec.checkpoint_dir = Some(node.work().join("file/below").to_str().unwrap().to_string());
    node.launch(1, 1, spec);
    match refusal(&node, 1) {
        Refusal::CheckpointDir { reason } => {
            assert!(reason.contains("file/below cannot be made"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    node.launch(2, 1, node.script("cd $LINDOS_CHECKPOINT_DIR && pwd"));
    node.wait_gone(2);
    assert!(node.log(2, 1, 0).ends_with("checkpoints/demo-2\n"));
}

#[test]
fn stop_without_grace_is_at_once_and_may_be_repeated() {
    let node = Node::start();
    node.launch(1, 1, node.script("trap '' TERM; echo > ready; while :; do sleep 1; done"));
    node.wait_file("ready");
    node.stop(1, 1, 3_600_000);
    node.stop(1, 1, 0);
    node.order(1, 1, Order::Stop { grace: Millis(3_600_000) });
    assert_eq!(exit_of(&node.wait_gone(1).ranks[0]), Exit::Signal(9));
}
