//! Warm spares and warm restarts over the real binary: a node is lost, and the processes that waited on
//! the spare go on in its place, under their own numbers, to the same losses.

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::path::PathBuf;
use support::{Lab, Running, is_alive, kill, repository, steps, wait_until};

/// A state that depends on every step before it, saved every five steps. The pid is told with each loss.
const TRAIN: &str = r#"
import json, os, pathlib, time
import lindos
lindos.stand_by()
rank = int(os.environ["RANK"])
folder = pathlib.Path(lindos.checkpoint_dir())
step, path = lindos.resume("step-*.json")
state = json.loads(pathlib.Path(path).read_text()) if path else 1.0
print("epoch", os.environ["LINDOS_EPOCH"], "pid", os.getpid(), "from", step, flush=True)
while step < 100_000:
    time.sleep(0.02)
    step += 1
    state = state * 0.999 + ((step * 7919) % 101) / 1e5
    lindos.step(step, loss=state)
    print("loss", step, repr(state), flush=True)
    if rank == 0 and step % 5 == 0:
        path = folder / f"step-{step}.json"
        with lindos.atomic_save(path) as partial:
            pathlib.Path(partial).write_text(json.dumps(state))
        lindos.checkpoint(step, path)
"#;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("train.py", TRAIN);
    // A node is called lost sooner, so that the test is.
    lab.write("policy.toml", "node_silent_ms = 1500\n[repair]\nautomatic = false\n");
    lab
}

fn up(lab: &Lab, nodes: &str) -> Running {
    lab.up(&["--nodes", nodes, "--gpus", "1", "--policy", "policy.toml", "--no-health"])
}

/// Ends it as a person would.
fn end(running: Running) {
    running.signal(Signal::TERM);
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended:?}");
}

fn submit(lab: &Lab, gang: &str) {
    let package = repository().join("python");
    let text = format!(
        "name = \"warm\"\ncommand = [\"python3\", \"train.py\"]\n[gang]\nnodes = 2\n\
         gpus_per_node = 1\n{gang}\n[env]\nPYTHONPATH = \"{}\"\n",
        package.display()
    );
    let job = lab.write("warm.toml", text);
    let ended = lab.output(["submit", job.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

fn job(lab: &Lab, id: u64) -> Value {
    lab.json(["job", &id.to_string()])
}

fn newest(job: &Value) -> &Value {
    job["attempts"].as_array().unwrap().last().unwrap()
}

/// Waits until all that should wait does; the name of the spare on which it does.
fn wait_warm(lab: &Lab, id: u64, epoch: u64, beside: u64) -> String {
    wait_until("processes to wait for a rank", || {
        let job = job(lab, id);
        let warm = &newest(&job)["warm"];
        let spare = warm["spares"].as_array()?.iter().find(|it| it["ready"] == true)?;
        let is_so = newest(&job)["epoch"] == epoch && warm["beside_ready"] == beside;
        is_so.then(|| spare["node"].as_str().unwrap().to_string())
    })
}

fn wait_past(lab: &Lab, epoch: u64, step: u64) {
    wait_until("the job to get on", || {
        let job = job(lab, 1);
        let is_up = job["ranks"].as_array()?.iter().all(|rank| rank["state"] == "running");
        let is_so = job["epoch"] == epoch && job["step"].as_u64()? > step;
        (is_so && is_up && job["state"] == "running").then_some(())
    });
}

fn state_files(lab: &Lab, node: &str, kind: &str) -> Vec<Value> {
    let folder = lab.state().join("nodes").join(node).join(kind);
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let states = entries.filter_map(|entry| std::fs::read(entry.path().join("state.json")).ok());
    states.filter_map(|bytes| serde_json::from_slice(&bytes).ok()).collect()
}

/// The process that waits on a node.
fn waiting_pid(lab: &Lab, node: &str) -> i64 {
    let states = state_files(lab, node, "standbys");
    let waiting: Vec<&Value> = states.iter().filter(|state| state["ready"] == true).collect();
    assert_eq!(waiting.len(), 1, "on {node}: {states:?}");
    waiting[0]["ranks"][0]["process"]["pid"].as_i64().unwrap()
}

fn pid_of(job: &Value, rank: usize) -> i64 {
    job["ranks"][rank]["pid"].as_i64().unwrap()
}

/// Nothing is heard of a node any more, and what runs there goes on.
fn cut_off(lab: &Lab, node: &str) {
    let lock = lab.state().join("nodes").join(node).join("agent.lock");
    let agent = std::fs::read_to_string(lock).unwrap();
    kill(agent.split_whitespace().next().unwrap().parse().unwrap(), Signal::STOP);
    for state in state_files(lab, node, "attempts") {
        kill(state["shim"]["pid"].as_i64().unwrap() as i32, Signal::STOP);
    }
}

/// Every loss that rank 0 has told, in every attempt: by step, one value each.
fn losses(lab: &Lab, node: &str) -> Vec<(u64, String)> {
    let logs = lab.state().join("nodes").join(node).join("logs");
    let attempts = std::fs::read_dir(logs).unwrap().flatten();
    let logs: Vec<PathBuf> = attempts.map(|entry| entry.path().join("rank-0.log")).collect();
    let texts = logs.iter().filter_map(|log| std::fs::read_to_string(log).ok());
    let mut told: Vec<(u64, String)> = Vec::new();
    for text in texts {
        let lines = text.lines().filter_map(|line| line.strip_prefix("loss "));
        let pair = |line: &str| line.split_once(' ').map(|(a, b)| (a.parse(), b.to_string()));
        told.extend(lines.filter_map(pair).filter_map(|(step, loss)| Some((step.ok()?, loss))));
    }
    told.sort();
    told.dedup();
    told
}

#[test]
fn a_warm_spare_takes_the_place_of_a_lost_node_and_its_processes_keep_their_numbers() {
    let lab = lab();
    let _up = up(&lab, "4");
    submit(&lab, "warm_spares = 1\nwarm_restarts = true");
    let spare = wait_warm(&lab, 1, 1, 2);
    wait_past(&lab, 1, 20);
    let before = job(&lab, 1);
    let (kept, lost) = (before["ranks"][0]["node"].clone(), before["ranks"][1]["node"].clone());
    let (kept, lost) = (kept.as_str().unwrap(), lost.as_str().unwrap());
    let warm = [waiting_pid(&lab, kept), waiting_pid(&lab, &spare)];
    let why = lab.output(["why", &spare]).stdout;
    assert!(why.contains("it is warm: the job's processes wait there"), "{why}");
    let shown = lab.output(["job", "1"]).stdout;
    assert!(shown.contains(&format!("{spare}; beside its ranks on 2 of 2 nodes")), "{shown}");

    cut_off(&lab, lost);
    wait_past(&lab, 2, 40);
    let after = job(&lab, 1);
    assert_eq!([pid_of(&after, 0), pid_of(&after, 1)], warm, "they were started before");
    assert_eq!(after["ranks"][0]["node"], kept, "who is left keeps its number");
    assert_eq!(after["ranks"][1]["node"], *spare);
    assert!(!is_alive(pid_of(&before, 1) as i32), "what ran on the lost node was fenced");
    let events = lab.output(["events"]).stdout;
    assert!(events.contains("goes on warm on 2 of 2 nodes"), "{events}");

    let told = losses(&lab, kept);
    let steps: Vec<u64> = told.iter().map(|(step, _)| *step).collect();
    let expected: Vec<u64> = (1..=*steps.last().unwrap()).collect();
    assert_eq!(steps, expected, "each step has one loss, in whatever attempt it was made");
    assert!(*steps.last().unwrap() > 40);
}

#[test]
fn what_waits_outlives_the_control_plane_and_ends_with_its_job() {
    let lab = lab();
    let first = up(&lab, "3");
    submit(&lab, "warm_spares = 1");
    let spare = wait_warm(&lab, 1, 1, 0);
    let pid = waiting_pid(&lab, &spare);
    first.kill();
    assert!(is_alive(pid as i32));
    let second = up(&lab, "3");
    assert_eq!(wait_warm(&lab, 1, 1, 0), spare);
    assert_eq!(waiting_pid(&lab, &spare), pid);
    // One that is stopped leaves it to the next, with the job.
    end(second);
    let _third = up(&lab, "3");
    assert_eq!(wait_warm(&lab, 1, 1, 0), spare);
    assert_eq!(waiting_pid(&lab, &spare), pid);
    // An agent that is killed is started again, and finds it.
    let lock = lab.state().join("nodes").join(&spare).join("agent.lock");
    let agent = |text: String| text.split_whitespace().next().unwrap().parse::<i32>().unwrap();
    let before = agent(std::fs::read_to_string(&lock).unwrap());
    kill(before, Signal::KILL);
    wait_until("another agent", || {
        let now = agent(std::fs::read_to_string(&lock).ok().filter(|text| !text.is_empty())?);
        (now != before).then_some(())
    });
    assert_eq!(wait_warm(&lab, 1, 1, 0), spare);
    assert!(is_alive(pid as i32));
    assert_eq!(lab.output(["cancel", "1"]).code, 0);
    wait_until("it to end", || (!is_alive(pid as i32)).then_some(()));
    let folder = lab.state().join("nodes").join(&spare).join("standbys");
    wait_until("nothing to be left of it", || {
        std::fs::read_dir(&folder).unwrap().next().is_none().then_some(())
    });
}

#[test]
fn when_a_run_is_over_nothing_waits_any_more_and_ranks_of_other_jobs_go_on() {
    let lab = lab();
    let short = lab.job("short", 2, &steps(1, "0"), "");
    let words = ["--keep", "--nodes", "4", "--policy", "policy.toml", "--no-health"];
    let run = lab.start(["run", short.to_str().unwrap()].iter().chain(&words));
    wait_until("the first job to be over", || {
        let ended = lab.output(["job", "1", "--json"]);
        let job: Value = serde_json::from_str(&ended.stdout).ok()?;
        support::is_over(&job).then_some(())
    });
    submit(&lab, "warm_spares = 1\nwarm_restarts = true");
    let spare = wait_warm(&lab, 2, 1, 2);
    let trains = job(&lab, 2);
    let nodes =
        trains["ranks"].as_array().unwrap().iter().map(|rank| rank["node"].as_str().unwrap());
    let waiting: Vec<i64> = nodes.chain([&*spare]).map(|node| waiting_pid(&lab, node)).collect();
    end(run);
    assert!(!waiting.iter().any(|&pid| is_alive(pid as i32)), "of {waiting:?}");
    assert!([0, 1].iter().all(|&rank| is_alive(pid_of(&trains, rank) as i32)));
}

#[test]
fn a_program_that_cannot_wait_is_started_as_ever() {
    let lab = lab();
    let _up = up(&lab, "3");
    // It would train, without a rank, on the spare.
    lab.write("train.py", TRAIN.replace("lindos.stand_by()", ""));
    submit(&lab, "warm_spares = 1");
    wait_past(&lab, 1, 30);
    let shown = lab.output(["job", "1"]).stdout;
    assert!(shown.contains("nothing: its program has not called lindos.stand_by"), "{shown}");
    for node in ["local-0", "local-1", "local-2"] {
        assert!(state_files(&lab, node, "standbys").is_empty());
    }
}
