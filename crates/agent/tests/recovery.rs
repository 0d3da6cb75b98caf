//! Agents, shims and control planes that die, and what is known afterwards.

mod common;

use common::{Node, exit_of, find, is_alive, kill, until};
use lindos_api::agent::Order;
use lindos_model::{Exit, ReportedPhase};
use rustix::process::Signal;
use std::process::Stdio;

#[test]
fn ranks_live_on_without_an_agent_and_the_next_one_knows_how_they_ended() {
    let mut node = Node::start();
    let wait = "while ! [ -e go ]; do sleep 0.01; done; exit";
    node.launch(1, 1, node.script(&format!("{wait} 41")));
    node.launch(2, 1, node.script("exec sleep 1000"));
    node.launch(3, 1, node.script("exit 9"));
    let first = node.wait_started(1);
    let second = node.wait_started(2);
    node.wait_gone(3);
    node.kill_agent();
    // One ends while nobody looks, one lives on, one had ended before.
    std::fs::write(node.work().join("go"), "").unwrap();
    until("the rank to end", || !is_alive(first.ranks[0].pid));
    assert!(is_alive(second.ranks[0].pid));
    node.start_agent();
    let incarnation = node.server.newest().unwrap().incarnation;
    let (report, _) = node.server.wait("both exits", |report| {
        report.incarnation == incarnation
            && find(report, 1).is_some_and(|it| it.phase == ReportedPhase::Gone)
    });
    assert_eq!(exit_of(&find(&report, 1).unwrap().ranks[0]), Exit::Code(41));
    assert_eq!(exit_of(&find(&report, 3).unwrap().ranks[0]), Exit::Code(9));
    assert_eq!(find(&report, 2).unwrap().ranks, second.ranks);
    // The new agent's word counts, and the shim obeys it.
    node.stop(2, 1, 60_000);
    assert_eq!(exit_of(&node.wait_gone(2).ranks[0]), Exit::Signal(15));
}

#[test]
fn every_report_of_a_new_agent_has_all_that_lives() {
    let mut node = Node::start();
    for job in 1..=5 {
        node.launch(job, 1, node.script("exec sleep 1000"));
        node.wait_started(job);
    }
    let before = node.server.reports().len();
    node.kill_agent();
    node.start_agent();
    for report in &node.server.reports()[before..] {
        if report.incarnation == node.server.newest().unwrap().incarnation {
            assert_eq!(report.attempts.len(), 5);
            assert!(report.attempts.iter().all(|it| it.ranks[0].pid != 0), "{report:?}");
        }
    }
}

#[test]
fn a_killed_shim_takes_its_ranks_with_it() {
    for node in [Node::start(), Node::without_cgroups()] {
        let script = "setsid sh -c 'echo $$ > daemon; exec sleep 1000' > /dev/null 2>&1 & \
                      exec sleep 1000";
        let mut spec = node.script(script);
        spec.ranks_per_node = 2;
        node.launch(1, 1, spec);
        let attempt = node.wait_started(1);
        let daemon: u32 = node.wait_file("daemon").parse().unwrap();
        kill(attempt.ranks[0].pid, Signal::KILL);
        node.wait(1, "the first exit", |it| it.ranks[0].exit.is_some());
        kill(node.shim_pid(1, 1), Signal::KILL);
        let attempt = node.wait_gone(1);
        assert_eq!(exit_of(&attempt.ranks[0]), Exit::Signal(9));
        assert_eq!(exit_of(&attempt.ranks[1]), Exit::Lost);
        assert!(attempt.ranks.iter().all(|rank| !is_alive(rank.pid)));
        assert!(!is_alive(daemon));
    }
}

#[test]
fn a_shim_killed_while_there_is_no_agent_is_found_out() {
    let mut node = Node::start();
    node.launch(1, 1, node.script("exec sleep 1000"));
    let rank = node.wait_started(1).ranks[0].pid;
    node.kill_agent();
    kill(node.shim_pid(1, 1), Signal::KILL);
    until("the rank to die with its shim", || !is_alive(rank));
    node.start_agent();
    assert_eq!(exit_of(&node.wait_gone(1).ranks[0]), Exit::Lost);
}

#[test]
fn a_control_plane_that_is_away_is_told_afterwards() {
    let mut node = Node::start();
    node.launch(1, 1, node.script("while ! [ -e go ]; do sleep 0.01; done; exit 5"));
    node.launch(2, 1, node.script("exec sleep 1000"));
    let rank = node.wait_started(1).ranks[0].pid;
    let other = node.wait_started(2).ranks[0].pid;
    node.server.go_away();
    std::fs::write(node.work().join("go"), "").unwrap();
    until("the rank to end", || !is_alive(rank));
    node.server.come_back();
    assert_eq!(exit_of(&node.wait_gone(1).ranks[0]), Exit::Code(5));
    assert!(is_alive(other), "a control plane that is away stops nothing");
    // And it is obeyed again.
    node.stop(2, 1, 0);
    node.wait_gone(2);
    node.order(2, 1, Order::Forget);
    node.server.wait("it to be forgotten", |report| find(report, 2).is_none());
}

#[test]
fn a_report_that_was_not_acknowledged_is_sent_again() {
    let node = Node::start();
    node.server.refuse_next(3);
    node.launch(1, 1, node.script("exit 6"));
    assert_eq!(exit_of(&node.wait_gone(1).ranks[0]), Exit::Code(6));
    let seqs: Vec<u64> = node.server.reports().iter().map(|report| report.seq).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
}

#[test]
fn a_second_agent_is_told_who_is_first() {
    let node = Node::start();
    let second = node.spawn_agent(Stdio::piped()).wait_with_output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    let pid = node.agent.as_ref().unwrap().id();
    assert!(!second.status.success());
    assert!(said.contains(&format!("another agent (pid {pid}) already runs")), "{said}");
}

#[test]
fn a_fence_leaves_nothing_alive() {
    let mut node = Node::start();
    // It ignores what can be ignored, left its session, and wiped its environment's traces.
    let script = "trap '' TERM; (setsid env -i sh -c 'echo $$ > daemon; exec sleep 1000' &) ; \
                  while :; do sleep 1; done";
    let mut spec = node.script(script);
    spec.ranks_per_node = 2;
    node.launch(1, 1, spec);
    let attempt = node.wait_started(1);
    let daemon: u32 = node.wait_file("daemon").parse().unwrap();
    let shim = node.shim_pid(1, 1);
    // Frozen processes cannot be asked; they can be killed.
    kill(shim, Signal::STOP);
    kill(node.agent.as_ref().unwrap().id(), Signal::STOP);
    lindos_agent::fence(&node.dir()).unwrap();
    assert!(!is_alive(shim));
    assert!(attempt.ranks.iter().all(|rank| !is_alive(rank.pid)));
    let has_cgroup = std::fs::read_to_string(node.dir().join("attempts/1-1/spec.json"))
        .is_ok_and(|spec| !spec.contains("\"cgroup\":null"));
    assert!(!has_cgroup || !is_alive(daemon), "without a control group it may escape");
    if !has_cgroup {
        kill(daemon, Signal::KILL);
    }
    // Again, and for a folder that never was.
    lindos_agent::fence(&node.dir()).unwrap();
    lindos_agent::fence(&node.work().join("nothing")).unwrap();
    node.agent.take().unwrap().wait().unwrap();
    node.start_agent();
    assert!(node.wait_gone(1).ranks.iter().all(|rank| exit_of(rank) == Exit::Lost));
}
