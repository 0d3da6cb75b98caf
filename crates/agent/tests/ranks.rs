//! What ranks do, and what becomes of it: real shims, real processes.

mod common;

use common::{Node, exit_of, is_alive, kill, until};
use lindos_api::agent::{Message, ReadLog};
use lindos_model::{Epoch, Exit, JobId, Rank, ReportedPhase};
use rustix::process::Signal;
use std::time::{Duration, Instant};

#[test]
fn output_and_exit_status_arrive() {
    let node = Node::start();
    let mut spec = node.script("echo out $LINDOS_RANK; echo err >&2; exit $((LINDOS_RANK + 3))");
    spec.ranks_per_node = 2;
    node.launch(1, 1, spec);
    let attempt = node.wait_gone(1);
    let exits: Vec<Exit> = attempt.ranks.iter().map(exit_of).collect();
    assert_eq!(exits, [Exit::Code(3), Exit::Code(4)]);
    assert!(attempt.ranks.iter().all(|rank| !rank.exit.as_ref().unwrap().stopping));
    assert_eq!(node.log(1, 1, 1), "out 1\nerr\n");
}

#[test]
fn a_killed_rank_is_reported_in_less_than_100_ms() {
    // Only an urgent report can be that early.
    let node = Node::with_heartbeat(60_000);
    let mut spec = node.script("exec sleep 1000");
    spec.ranks_per_node = 2;
    node.launch(1, 1, spec);
    let attempt = node.wait_started(1);
    let killed = Instant::now();
    kill(attempt.ranks[1].pid, Signal::KILL);
    let (attempt, at) = node.wait(1, "the exit", |attempt| attempt.ranks[1].exit.is_some());
    let took = at - killed;
    assert_eq!(exit_of(&attempt.ranks[1]), Exit::Signal(9));
    assert_eq!((attempt.phase, attempt.ranks[0].exit.is_none()), (ReportedPhase::Running, true));
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[test]
fn agent_and_shim_are_small() {
    let node = Node::start();
    node.launch(1, 1, node.script("exec sleep 1000"));
    node.wait_started(1);
    let megabytes =
        |pid| lindos_hardware::process::resident_bytes(pid).unwrap() as f64 / f64::from(1 << 20);
    let (agent, shim) =
        (megabytes(node.agent.as_ref().unwrap().id()), megabytes(node.shim_pid(1, 1)));
    assert!(agent < 25.0 && shim < 12.0, "agent {agent:.1} MB, shim {shim:.1} MB");
}

#[test]
fn a_rank_that_ignores_sigterm_is_killed_after_the_grace() {
    let node = Node::start();
    node.launch(1, 1, node.script("trap '' TERM; echo ready > ready; while :; do sleep 1; done"));
    node.wait_file("ready");
    let began = Instant::now();
    node.stop(1, 1, 300);
    let attempt = node.wait_gone(1);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(exit_of(&attempt.ranks[0]), Exit::Signal(9));
    assert!(attempt.ranks[0].exit.as_ref().unwrap().stopping);
}

#[test]
fn a_rank_may_end_well_within_the_grace() {
    let node = Node::start();
    let script = "trap 'echo saved; exit 7' TERM; echo ready > ready; while :; do sleep 0.01; done";
    node.launch(1, 1, node.script(script));
    node.wait_file("ready");
    node.stop(1, 1, 60_000);
    let attempt = node.wait_gone(1);
    assert_eq!(exit_of(&attempt.ranks[0]), Exit::Code(7));
    // Its `sleep` got the signal too, and the shell may say so.
    assert!(node.log(1, 1, 0).ends_with("saved\n"));
}

#[test]
fn what_a_rank_leaves_behind_is_killed() {
    for node in [Node::start(), Node::without_cgroups()] {
        // A daemon: another session, no parent, its output closed.
        let script = "setsid sh -c 'echo $$ > daemon; exec sleep 1000' > /dev/null 2>&1 & \
                      while ! [ -s daemon ]; do sleep 0.01; done";
        node.launch(1, 1, node.script(script));
        let daemon: u32 = node.wait_file("daemon").parse().unwrap();
        let attempt = node.wait_gone(1);
        assert_eq!(exit_of(&attempt.ranks[0]), Exit::Code(0));
        assert!(!is_alive(daemon));
    }
}

#[test]
fn a_shim_whose_folder_is_gone_ends_with_its_ranks() {
    let mut node = Node::start();
    node.launch(1, 1, node.script("exec sleep 1000"));
    let rank = node.wait_started(1).ranks[0].pid;
    let shim = node.shim_pid(1, 1);
    node.kill_agent();
    std::fs::remove_dir_all(node.dir()).unwrap();
    kill(rank, Signal::KILL);
    // There is nowhere to keep the final state, and nobody who will ask for it.
    until("the shim to end", || !is_alive(shim));
}

#[test]
fn progress_comes_over_the_socket() {
    let node = Node::start();
    let script = r#"exec python3 -c '
import json, os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["LINDOS_SOCKET"])
s.send(b"nonsense")
s.send(json.dumps({"step": 7, "loss": 2.5, "tokens": 70, "total_steps": 100}).encode())
s.send(json.dumps({"checkpoint": {"step": 7, "path": "/c/7", "seconds": 0.25}}).encode())
s.send(json.dumps({"step": 8, "loss": float("nan")}).encode())
time.sleep(1000)
'"#;
    node.launch(1, 1, node.script(script));
    let (report, _) =
        node.server.wait("progress", |report| report.progress.iter().any(|it| it.step == Some(8)));
    let progress = &report.progress[0];
    assert_eq!((progress.loss, progress.tokens, progress.total_steps), (None, Some(70), Some(100)));
    assert_eq!(progress.checkpoint.as_ref().unwrap().path, "/c/7");
    assert_eq!(progress.checkpoint_blocked_ms, 250);
}

#[test]
fn progress_comes_from_a_pattern_and_outlives_the_rank() {
    let node = Node::start();
    let mut spec = node.script("for i in 1 2 3; do echo \"step $i | loss 0.$i\"; done");
    spec.progress_pattern = Some(r"step (?<step>\d+) \| loss (?<loss>\S+)".into());
    node.launch(1, 1, spec);
    let (report, _) = node.server.wait("the end", |report| {
        common::find(report, 1).is_some_and(|it| it.phase == ReportedPhase::Gone)
    });
    assert_eq!((report.progress[0].step, report.progress[0].loss), (Some(3), Some(0.3)));
}

/// For a piece of the newest log of a job's rank 0.
fn ask(request: u64, job: u64, offset: Option<u64>, bytes_max: u64) -> ReadLog {
    let (job, rank) = (JobId(job), Rank(0));
    ReadLog { request, job, epoch: None, epoch_min: None, rank, offset, bytes_max }
}

#[test]
fn logs_rotate_and_are_read_by_offset() {
    let node = Node::start();
    let mut spec = node.script("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done");
    spec.log_bytes_max = 4096;
    spec.log_files_max = 2;
    node.launch(1, 1, spec);
    node.wait_gone(1);
    let whole: String = (0..2000).map(|i| format!("line {i}\n")).collect::<Vec<_>>().concat();
    let read = |request, offset, bytes_max| {
        node.server.send(&Message::ReadLog(ask(request, 1, offset, bytes_max)));
        node.server.wait_chunk(request)
    };
    let tail = read(1, None, 100);
    assert_eq!(tail.text, whole[whole.len() - 100..]);
    assert_eq!((tail.end, tail.open, tail.epoch), (whole.len() as u64, false, Some(Epoch(1))));
    let all = read(2, Some(0), 1 << 20);
    assert!(all.offset > 0 && all.text.len() <= 8192, "{} bytes", all.text.len());
    assert_eq!(all.text, whole[all.offset as usize..]);
    let files = std::fs::read_dir(node.dir().join("logs/1-1")).unwrap().count();
    assert_eq!(files, 2);
    assert!(read(3, None, 100).error.is_none());
    node.server.send(&Message::ReadLog(ask(4, 2, None, 10)));
    assert!(node.server.wait_chunk(4).error.unwrap().contains("no log of rank 0 of job 2"));
}

#[test]
fn a_command_that_cannot_run_says_why() {
    let node = Node::start();
    let mut missing = node.script("");
    missing.command = vec!["no-such-program".into()];
    let mut relative = node.script("");
    std::fs::write(node.work().join("train.sh"), "#!/bin/sh\nexit 5\n").unwrap();
    relative.command = vec!["./train.sh".into()];
    let mut nowhere = node.script("true");
    nowhere.workdir = "/no/such/folder".into();
    let mut bad_interpreter = node.script("");
    let script = node.work().join("bad.sh");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, executable).unwrap();
    bad_interpreter.command = vec!["./bad.sh".into()];
    let cases = [
        (missing, "there is no `no-such-program` in any folder of PATH"),
        (relative, "`./train.sh` may not be executed"),
        (nowhere, "there is no folder /no/such/folder"),
        (bad_interpreter, "interpreter"),
    ];
    for (job, (spec, expected)) in (1..).zip(cases) {
        node.launch(job, 1, spec);
        let attempt = node.wait_gone(job);
        match exit_of(&attempt.ranks[0]) {
            Exit::NotStarted(reason) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?} instead of {expected}"),
        }
        assert_eq!(attempt.ranks[0].pid, 0);
    }
}

#[test]
fn a_relative_command_is_relative_to_its_folder() {
    let node = Node::start();
    let script = node.work().join("train.sh");
    std::fs::write(&script, "#!/bin/sh\n[ -z \"$RANK\" ] && exit 5\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, executable).unwrap();
    let mut spec = node.script("");
    spec.command = vec!["./train.sh".into()];
    node.launch(1, 1, spec);
    assert_eq!(exit_of(&node.wait_gone(1).ranks[0]), Exit::Code(5));
}

/// Only where this user may make control groups that limit memory.
#[test]
fn a_rank_that_the_kernel_kills_for_memory_is_known() {
    let node = Node::start();
    let script = "echo ready > ready; while ! [ -e go ]; do sleep 0.01; done; \
                  exec python3 -c 'x = bytearray(1 << 30)'";
    node.launch(1, 1, node.script(script));
    node.wait_file("ready");
    let spec = std::fs::read(node.dir().join("attempts/1-1/spec.json")).unwrap();
    let spec: serde_json::Value = serde_json::from_slice(&spec).unwrap();
    let Some(memory) = spec["cgroup"]["memory"].as_str() else { return };
    std::fs::write(format!("{memory}/memory.limit_in_bytes"), "33554432").unwrap();
    std::fs::write(node.work().join("go"), "").unwrap();
    assert_eq!(exit_of(&node.wait_gone(1).ranks[0]), Exit::OutOfMemory);
    until("the control group to be removed", || !std::path::Path::new(memory).exists());
}
