//! Processes that wait for a rank: real shims, real processes, with the package for scripts.

mod common;

use common::{Node, exit_of, is_alive, kill, launch_order};
use lindos_api::agent::{Order, Report, StandBy};
use lindos_model::{AttemptReport, EffectId, Exit, GpuSet, JobSpec, ReportedPhase, StandbyState};
use rustix::process::Signal;
use std::sync::Arc;

/// Two ranks, each of which says who it is once it knows, and then goes on for as long as it is let.
const SCRIPT: &str = "import lindos, os, sys, time
print('loaded', os.environ['LOCAL_RANK'], os.environ.get('RANK'), flush=True)
waited = lindos.stand_by()
print('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], waited, flush=True)
lindos.step(1)
while not os.path.exists('end'): time.sleep(0.01)";

fn waiting(node: &Node, script: &str) -> JobSpec {
    let mut spec = node.script("");
    spec.launch = lindos_model::LaunchMode::Torchrun;
    spec.command = ["python3", "-c", script].map(String::from).into();
    (spec.gpus_per_node, spec.ranks_per_node) = (2, 2);
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python");
    spec.env.insert("PYTHONPATH".into(), package.into());
    spec
}

fn stand_by(node: &Node, job: u64, id: u64, spec: &JobSpec, beside: bool) {
    let order = StandBy {
        id: EffectId(id),
        spec: Arc::new(spec.clone()),
        gpus: GpuSet::first(spec.gpus_per_node),
        array_index: None,
        beside,
    };
    // As the control plane does: of the newest epoch, so that one that was on its way is told.
    let newest = node.server.newest().unwrap();
    let epochs = newest.attempts.iter().filter(|it| it.job.0 == job).map(|it| it.epoch.0);
    node.order(job, epochs.max().unwrap_or(0), Order::StandBy(Box::new(order)));
}

fn stand_down(node: &Node, id: u64) {
    node.order(1, 0, Order::StandDown { standby: EffectId(id) });
}

fn state(report: &Report, id: u64) -> Option<StandbyState> {
    report.standbys.iter().find(|it| it.id == EffectId(id)).map(|it| it.state.clone())
}

fn wait_ready(node: &Node, id: u64) {
    node.server.wait("them to wait", |report| state(report, id) == Some(StandbyState::Ready));
}

fn wait_ended(node: &Node, id: u64) -> String {
    let is_over = |report: &Report| matches!(state(report, id), Some(StandbyState::Ended { .. }));
    let (report, _) = node.server.wait("them to end", is_over);
    match state(&report, id) {
        Some(StandbyState::Ended { reason }) => reason,
        _ => unreachable!("it was just looked at"),
    }
}

fn wait_none(node: &Node) {
    node.server.wait("them to be forgotten", |report| report.standbys.is_empty());
}

/// What stands in the state of the shim.
fn shim_state(node: &Node, id: u64) -> serde_json::Value {
    let path = node.dir().join(format!("standbys/{id}/state.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn pids(node: &Node, id: u64) -> Vec<u32> {
    let state = shim_state(node, id);
    let ranks = state["ranks"].as_array().unwrap().iter();
    ranks.map(|rank| rank["process"]["pid"].as_u64().unwrap() as u32).collect()
}

fn pids_of(attempt: &AttemptReport) -> Vec<u32> {
    attempt.ranks.iter().map(|rank| rank.pid).collect()
}

fn end(node: &Node, job: u64) -> AttemptReport {
    std::fs::write(node.work().join("end"), "").unwrap();
    node.wait_gone(job)
}

#[test]
fn processes_that_wait_go_on_as_the_ranks_of_a_launch() {
    let node = Node::start();
    let spec = waiting(&node, SCRIPT);
    stand_by(&node, 1, 70, &spec, false);
    wait_ready(&node, 70);
    let before = pids(&node, 70);
    // Asked again, they are there.
    stand_by(&node, 1, 70, &spec, false);
    node.order(1, 3, launch_order(spec, 0));
    let attempt = node.wait_started(1);
    assert_eq!((attempt.epoch.0, pids_of(&attempt)), (3, before));
    node.wait(1, "both to know who they are", |_| {
        [0, 1].iter().all(|&rank| node.log(1, 3, rank) == format!("rank {rank} of 2 True\n"))
    });
    let report = node.server.newest().unwrap();
    assert!(report.standbys.is_empty(), "they are ranks now: {:?}", report.standbys);
    node.server.wait("their steps and their offer", |report| {
        report.progress.iter().filter(|it| it.step == Some(1) && it.stands_by).count() == 2
    });
    let attempt = end(&node, 1);
    assert!(attempt.ranks.iter().all(|rank| exit_of(rank) == Exit::Code(0)));
    node.order(1, 3, Order::Forget);
    node.server.wait("it to be forgotten", |report| report.attempts.is_empty());
    assert_eq!(std::fs::read_dir(node.dir().join("standbys")).unwrap().count(), 0);
}

#[test]
fn they_outlive_their_agent_before_and_after_they_are_ranks() {
    let mut node = Node::start();
    let spec = waiting(&node, SCRIPT);
    stand_by(&node, 1, 70, &spec, false);
    wait_ready(&node, 70);
    let before = pids(&node, 70);
    node.kill_agent();
    node.start_agent();
    wait_ready(&node, 70);
    assert_eq!(pids(&node, 70), before);
    node.order(1, 1, launch_order(spec, 0));
    assert_eq!(pids_of(&node.wait_started(1)), before);
    node.kill_agent();
    node.start_agent();
    let attempt = node.wait_started(1);
    assert_eq!((&attempt.phase, pids_of(&attempt)), (&ReportedPhase::Running, before.clone()));
    assert!(node.server.newest().unwrap().standbys.is_empty());
    kill(before[0], Signal::KILL);
    let (attempt, _) = node.wait(1, "its end", |attempt| attempt.ranks[0].exit.is_some());
    assert_eq!(exit_of(&attempt.ranks[0]), Exit::Signal(9));
    node.stop(1, 1, 0);
    node.wait_gone(1);
    assert!(before.iter().all(|&pid| !is_alive(pid)));
}

#[test]
fn an_agent_that_ends_for_good_ends_them_first_unless_another_one_follows() {
    let mut node = Node::start();
    stand_by(&node, 1, 70, &waiting(&node, SCRIPT), false);
    wait_ready(&node, 70);
    let before = pids(&node, 70);
    node.end_agent(Signal::HUP);
    assert!(before.iter().all(|&pid| is_alive(pid)));
    node.start_agent();
    wait_ready(&node, 70);
    assert_eq!(pids(&node, 70), before);
    node.end_agent(Signal::TERM);
    assert!(!before.iter().any(|&pid| is_alive(pid)));
    assert!(!node.dir().join("standbys/70").exists());
}

#[test]
fn what_ended_while_no_agent_was_there_is_no_failure_of_the_program() {
    let mut node = Node::start();
    let spec = waiting(&node, SCRIPT);
    stand_by(&node, 1, 70, &spec, false);
    wait_ready(&node, 70);
    let (waited, shim) = (pids(&node, 70), &shim_state(&node, 70)["shim"]["pid"]);
    let before = node.server.newest().unwrap().incarnation;
    node.kill_agent();
    let all = waited.iter().copied().chain(shim.as_u64().map(|pid| pid as u32));
    all.for_each(|pid| kill(pid, Signal::KILL));
    node.start_agent();
    node.server.wait("it to be forgotten", |report| {
        assert!(!matches!(state(report, 70), Some(StandbyState::Ended { .. })), "it is told of");
        report.incarnation > before && report.standbys.is_empty()
    });
    assert!(!node.dir().join("standbys/70").exists());
    stand_by(&node, 1, 71, &spec, false);
    wait_ready(&node, 71);
}

#[test]
fn a_program_that_ends_instead_is_reported_with_its_last_words_and_forgotten() {
    let node = Node::start();
    let script = "import os, sys, time
if os.environ['LOCAL_RANK'] == '1': raise RuntimeError('no such data')
time.sleep(1000)";
    stand_by(&node, 1, 70, &waiting(&node, script), false);
    let reason = wait_ended(&node, 70);
    assert_eq!(reason, "process 1, exit status 1: RuntimeError: no such data");
    let left = pids(&node, 70);
    assert!(left.iter().all(|&pid| !is_alive(pid)), "the other one waits in vain");
    stand_down(&node, 70);
    wait_none(&node);
    assert!(!node.dir().join("standbys/70").exists());
}

#[test]
fn what_is_not_wanted_any_more_ends_and_so_does_what_has_lost_its_parent() {
    let node = Node::start();
    let spec = waiting(&node, SCRIPT);
    stand_by(&node, 1, 70, &spec, false);
    wait_ready(&node, 70);
    let left = pids(&node, 70);
    stand_down(&node, 70);
    wait_none(&node);
    assert!(left.iter().all(|&pid| !is_alive(pid)));

    stand_by(&node, 1, 71, &spec, false);
    wait_ready(&node, 71);
    let left = pids(&node, 71);
    kill(shim_state(&node, 71)["shim"]["pid"].as_u64().unwrap() as u32, Signal::KILL);
    assert!(wait_ended(&node, 71).contains("with their parent"));
    assert!(left.iter().all(|&pid| !is_alive(pid)));
}

#[test]
fn they_make_way_for_another_job() {
    let node = Node::start();
    let spec = waiting(&node, SCRIPT);
    stand_by(&node, 1, 70, &spec, false);
    wait_ready(&node, 70);
    let left = pids(&node, 70);
    // Told once: whoever is in the way is ended first.
    node.launch(2, 1, node.script("exec sleep 1000"));
    node.wait_started(2);
    assert!(left.iter().all(|&pid| !is_alive(pid)));
    // And while that runs, nothing waits on its GPUs, unless it is its own.
    stand_by(&node, 1, 71, &spec, false);
    node.launch(3, 1, node.script("exit 0"));
    node.wait_gone(3);
    assert!(node.server.newest().unwrap().standbys.is_empty());
}

#[test]
fn beside_its_ranks_a_job_waits_for_its_own_next_attempt() {
    let node = Node::start();
    let spec = waiting(&node, SCRIPT);
    node.order(1, 1, launch_order(spec.clone(), 0));
    let first = pids_of(&node.wait_started(1));
    stand_by(&node, 1, 70, &spec, true);
    wait_ready(&node, 70);
    let before = pids(&node, 70);
    let waits = std::fs::read_to_string(node.dir().join("standbys/70/logs/rank-1.log")).unwrap();
    assert_eq!(waits, "loaded 1 None\n");
    kill(first[0], Signal::KILL);
    node.stop(1, 1, 0);
    node.wait_gone(1);
    node.order(1, 1, Order::Forget);
    node.order(1, 2, launch_order(spec, 0));
    let (second, _) = node.wait(1, "the next attempt", |attempt| {
        attempt.epoch.0 == 2 && attempt.ranks.iter().all(|rank| rank.pid != 0)
    });
    assert_eq!(pids_of(&second), before);
}

#[test]
fn a_launch_for_which_nobody_waits_any_more_starts_its_ranks() {
    let node = Node::start();
    let spec = waiting(&node, SCRIPT);
    stand_by(&node, 1, 70, &spec, false);
    wait_ready(&node, 70);
    let before = pids(&node, 70);
    let shim = shim_state(&node, 70)["shim"]["pid"].as_u64().unwrap() as u32;
    // It hears of the launch no more.
    kill(shim, Signal::STOP);
    node.order(1, 1, launch_order(spec, 0));
    node.wait(1, "the launch", |attempt| attempt.phase == ReportedPhase::Running);
    kill(shim, Signal::KILL);
    let attempt = node.wait_started(1);
    assert_eq!(attempt.phase, ReportedPhase::Running);
    assert!(pids_of(&attempt).iter().all(|pid| !before.contains(pid)));
    assert!(before.iter().all(|&pid| !is_alive(pid)));
    node.wait(1, "it to know who it is", |_| node.log(1, 1, 0).ends_with("rank 0 of 2 False\n"));
}

#[test]
fn a_fence_ends_what_waits() {
    let node = Node::start();
    stand_by(&node, 1, 70, &waiting(&node, SCRIPT), false);
    wait_ready(&node, 70);
    let left = pids(&node, 70);
    lindos_agent::fence(&node.dir()).unwrap();
    assert!(left.iter().all(|&pid| !is_alive(pid)));
}
