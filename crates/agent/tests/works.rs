//! What a node does to itself, by a real agent and a real process for each work.

mod common;

use common::{Node, is_alive, kill, until};
use lindos_api::work::{CommandLine, Task, WorkStep};
use lindos_model::{Millis, Outcome};
use rustix::process::Signal;

const LONG: u64 = 60_000;
const BURN_IN: Task = Task::BurnIn { span: Millis(2000) };

fn sh(script: &str) -> Task {
    let words = ["sh", "-c", script].map(String::from).into();
    let environment = [("LINDOS_NODE".to_string(), "n0".to_string())].into();
    Task::Command(CommandLine { words, environment, restarts: false })
}

fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_burn_in_goes_on_without_its_agent_and_is_told_of_until_it_is_forgotten() {
    let mut node = Node::start();
    let work = node.work();
    node.tool(&format!(
        "echo \"$@\" >> {0}/begun\necho $$ > {0}/pid.new\nmv {0}/pid.new {0}/pid\n\
         until test -e {0}/go; do sleep 0.01; done",
        work.display()
    ));
    node.begin(7, BURN_IN, LONG);
    node.wait_under_way(7);
    let pid: u32 = node.wait_file("pid").parse().unwrap();
    node.begin(7, BURN_IN, LONG);
    node.kill_agent();
    node.start_agent();
    node.wait_under_way(7);
    node.begin(7, BURN_IN, LONG);
    assert!(is_alive(pid), "it needs no agent");
    std::fs::write(work.join("go"), "").unwrap();
    assert_eq!(node.wait_outcome(7), Outcome::Done);
    let begun = std::fs::read_to_string(work.join("begun")).unwrap();
    assert_eq!(begun.lines().count(), 1, "asked for three times: {begun}");
    assert!(begun.starts_with("burnin --seconds 2 --node n0 --out "), "{begun}");

    node.kill_agent();
    node.start_agent();
    assert_eq!(node.wait_outcome(7), Outcome::Done, "until it is forgotten");
    node.order_work(7, WorkStep::Forget);
    node.server.wait("it to be forgotten", |report| report.works.is_empty());
    node.kill_agent();
    node.start_agent();
    assert!(node.server.newest().unwrap().works.is_empty());
    assert!(node.dir().join("works/7/plan.json").exists(), "people can read of it");
}

#[test]
fn a_burn_in_that_fails_says_what_failed_first() {
    let node = Node::start();
    let report = r#"{"report":{"version":1,"node":"n0","started_at":1,"took_ms":1,"lindos":"0",
        "kernel":"k","cpu":"p","platform":null,"verdict":"fail","tests":[
        {"name":"cpu.bits","figure":null,"expected":null,"verdict":"pass","detail":"0 errors"},
        {"name":"disk.bits","figure":null,"expected":null,"verdict":"fail","detail":"1 error"}]},
        "signature":null}"#;
    node.tool(&format!("for out; do :; done\ncat > $out <<'E'\n{report}\nE\nexit 1\n"));
    node.begin(1, BURN_IN, LONG);
    assert_eq!(reason(node.wait_outcome(1)), "disk.bits: 1 error");
    node.order_work(1, WorkStep::Forget);
    node.tool("echo 'no memory to be had' >&2; exit 1");
    node.begin(2, BURN_IN, LONG);
    assert_eq!(reason(node.wait_outcome(2)), "no memory to be had", "it has left no report");
}

#[test]
fn a_command_is_done_has_failed_or_cannot_be_done_by_its_status() {
    let node = Node::start();
    let ends = |id: u64, script: &str| {
        node.begin(id, sh(script), LONG);
        let outcome = node.wait_outcome(id);
        node.order_work(id, WorkStep::Forget);
        node.server.wait("it to be forgotten", |report| report.works.is_empty());
        outcome
    };
    assert_eq!(ends(1, "test $LINDOS_NODE = n0"), Outcome::Done);
    assert_eq!(ends(2, "exit 75"), Outcome::Unsupported);
    assert_eq!(reason(ends(3, "echo a >&2; echo b >&2; exit 3")), "b");
    assert_eq!(reason(ends(4, "exit 3")), "sh ended with status 3");
    assert_eq!(reason(ends(5, "kill -9 $$")), "sh was killed by signal 9");
    let words = vec!["/nowhere/ipmitool".to_string()];
    let environment = std::collections::BTreeMap::new();
    node.begin(6, Task::Command(CommandLine { words, environment, restarts: false }), LONG);
    assert!(reason(node.wait_outcome(6)).contains("no such program"));
}

#[test]
fn all_that_a_command_started_is_killed_at_its_limit_and_when_it_is_called_off() {
    let node = Node::start();
    let work = node.work();
    let hang = format!("sleep 1000 & echo $! > {0}/child; exec sleep 1000", work.display());
    node.begin(1, sh(&hang), 300);
    assert!(reason(node.wait_outcome(1)).contains("not over in time"));
    let child: u32 = node.wait_file("child").parse().unwrap();
    until("the child to die", || !is_alive(child));
    node.order_work(1, WorkStep::Forget);

    std::fs::remove_file(work.join("child")).unwrap();
    node.begin(2, sh(&hang), LONG);
    node.wait_under_way(2);
    let child: u32 = node.wait_file("child").parse().unwrap();
    node.order_work(2, WorkStep::Stop);
    reason(node.wait_outcome(2));
    until("the child to die", || !is_alive(child));
}

#[test]
fn a_work_whose_process_is_killed_has_failed_also_while_no_agent_looks() {
    let mut node = Node::start();
    let runner = |id: u64| {
        let dir = node.dir().join(format!("works/{id}"));
        let dir = dir.as_os_str().as_encoded_bytes();
        let found = lindos_hardware::process::with_last_arguments(&[b"work", dir]);
        found[0].pid
    };
    let hang =
        |name: &str| sh(&format!("echo $$ > {0}/{name}; exec sleep 1000", node.work().display()));
    node.begin(1, hang("first"), LONG);
    node.wait_under_way(1);
    let first: u32 = node.wait_file("first").parse().unwrap();
    kill(runner(1), Signal::KILL);
    assert!(reason(node.wait_outcome(1)).contains("killed"));
    assert!(!is_alive(first), "nothing of it is left");
    node.order_work(1, WorkStep::Forget);

    node.begin(2, hang("second"), LONG);
    node.wait_under_way(2);
    let second: u32 = node.wait_file("second").parse().unwrap();
    let process = runner(2);
    node.kill_agent();
    kill(process, Signal::KILL);
    node.start_agent();
    assert!(reason(node.wait_outcome(2)).contains("killed"));
    assert!(!is_alive(second));
}

#[test]
fn works_and_ranks_are_never_on_a_node_at_once() {
    let node = Node::start();
    node.launch(1, 1, node.script("exec sleep 1000"));
    node.wait_started(1);
    node.begin(1, sh("true"), LONG);
    // What comes after it in the stream shows that it was read.
    node.stop(9, 1, 0);
    let (report, _) = node.server.wait("a later order to be carried out", |report| {
        report.attempts.iter().any(|attempt| attempt.job.0 == 9)
    });
    assert!(report.works.is_empty(), "{report:?}");
    node.stop(1, 1, 0);
    node.wait_gone(1);
    let hang = format!("echo $$ > {}/work; exec sleep 1000", node.work().display());
    node.begin(1, sh(&hang), LONG);
    node.wait_under_way(1);
    let process: u32 = node.wait_file("work").parse().unwrap();

    node.launch(2, 1, node.script("exec sleep 1000"));
    reason(node.wait_outcome(1));
    assert!(!is_alive(process), "the work goes first");
    node.launch(2, 1, node.script("exec sleep 1000"));
    node.wait_started(2);
}

#[test]
fn an_order_for_an_earlier_start_of_the_agent_is_dropped_and_a_fence_ends_works() {
    let mut node = Node::start();
    let old = node.server.newest().unwrap().incarnation;
    node.kill_agent();
    node.start_agent();
    let work = lindos_api::work::Work { task: sh("true"), limit: Millis(LONG) };
    let order =
        lindos_api::work::WorkOrder { id: 1, incarnation: old, step: WorkStep::Begin(work) };
    node.server.send(&lindos_api::agent::Message::Work(order));
    node.begin(2, sh(&format!("echo $$ > {}/two; exec sleep 1000", node.work().display())), LONG);
    node.wait_under_way(2);
    assert_eq!(node.server.newest().unwrap().works.len(), 1);
    let process: u32 = node.wait_file("two").parse().unwrap();
    lindos_agent::fence(&node.dir()).unwrap();
    assert!(!is_alive(process));
}
