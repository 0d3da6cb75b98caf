//! Whole runs: real processes, real faults.

mod support;

use rustix::process::Signal;
use serde_json::Value;
use support::{Lab, is_alive, is_over, kill, repository, steps, steps_until, wait_until};

fn pid(value: &Value) -> i32 {
    i32::try_from(value["pid"].as_i64().unwrap()).unwrap()
}

fn summary(stdout: &str) -> Value {
    let last = stdout.lines().last().unwrap();
    let summary: Value = serde_json::from_str(last).unwrap();
    assert_eq!(summary["type"], "summary", "{stdout}");
    let columns = summary["ledger"]["columns"].as_object().unwrap();
    let sum: u64 = columns.values().map(|ms| ms.as_u64().unwrap()).sum();
    assert_eq!(sum, summary["ledger"]["total_gpu_ms"].as_u64().unwrap());
    summary
}

#[test]
fn a_job_runs_to_its_end_and_leaves_nothing_behind() {
    let lab = Lab::new();
    let job = lab.job("short", 2, &steps(5, "0.1"), "");
    let ended = lab.output(["run", job.to_str().unwrap(), "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.is_empty(), "it is quiet when nobody looks: {}", ended.stderr);
    let summary = summary(&ended.stdout);
    assert_eq!(summary["result"], "completed");
    assert_eq!(summary["attempts"], 1);
    assert_eq!(summary["last_loss"], 995.5);
    assert!(summary["ledger"]["total_gpu_ms"].as_u64().unwrap() > 0);
    let ranks = ended.stdout.lines().filter(|line| line.contains(r#""rank_started""#)).count();
    assert_eq!(ranks, 2);
    assert_eq!(lab.processes(), Vec::<i32>::new());

    // Without a control plane, the journal answers.
    let jobs = lab.output(["jobs"]);
    assert_eq!(jobs.code, 0);
    assert!(jobs.stdout.contains("short") && jobs.stdout.contains("completed"), "{jobs:?}");
    assert!(jobs.stderr.contains("from the journal"), "{jobs:?}");
    let logs = lab.output(["logs", "1", "--rank", "1"]);
    assert!(logs.stdout.starts_with("step 1 loss 999.5\n"), "{logs:?}");
    lab.output(["job", "99"]).fails(3, &["no job 99", "hint:"]);
    lab.output(["logs", "1", "--rank", "9"]).fails(3, &["rank 9", "hint:"]);
    lab.output(["cancel", "1"]).fails(4, &["no control plane", "hint:"]);
}

#[test]
fn the_summary_is_for_people() {
    let lab = Lab::new();
    // Long enough for its progress to be read while it runs, on a busy machine too.
    let job = lab.job("short", 1, &steps(20, "0.1"), "");
    let ended = lab.output(["run", job.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for words in
        ["job 1 (short) completed", "1 (no faults)", "productive", "total", "100.0", "logs"]
    {
        assert!(ended.stdout.contains(words), "no `{words}` in {}", ended.stdout);
    }
    assert!(ended.stdout.lines().filter(|line| !line.contains('/')).all(|line| line.len() <= 80));
}

#[test]
fn a_job_that_fails_is_a_failure_with_its_reason() {
    let lab = Lab::new();
    let job = lab.job("bad", 1, "echo step 1 loss 1.0; exit 3", "[retry]\nuser = 0\n");
    let ended = lab.output(["run", job.to_str().unwrap(), "--json"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(summary(&ended.stdout)["result"], "failed");
    assert!(ended.stderr.contains("exit status 3"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
}

#[test]
fn a_killed_rank_is_a_fault_and_the_job_resumes() {
    let lab = Lab::new();
    let job = lab.job("victim", 2, &steps(30, "0.1"), "");
    let mut run = lab.start(["run", job.to_str().unwrap(), "--json"]);
    let rank = run.wait_for("rank_started", |line| line["rank"] == 1);
    run.wait_for("progress", |line| line["step"].as_u64() >= Some(5));
    kill(pid(&rank), Signal::KILL);
    let fault = run.wait_for("fault", |line| line["epoch"] == 1);
    assert!(fault["text"].as_str().unwrap().contains("SIGKILL"), "{fault}");
    assert_eq!(fault["reason"]["rank_exited"]["rank"], 1, "{fault}");
    run.wait_for("resumes", |_| true);
    let again = run.wait_for("rank_started", |line| line["rank"] == 1 && line["epoch"] == 2);
    assert_ne!(pid(&again), pid(&rank));
    let ended = run.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    let summary = summary(&ended.stdout);
    assert_eq!((&summary["attempts"], &summary["faults"]), (&Value::from(2), &Value::from(1)));
    assert!(summary["ledger"]["columns"]["lost"].as_u64().unwrap() > 0, "{summary}");
}

#[test]
fn a_killed_replica_comes_back_and_the_others_never_stop() {
    let lab = Lab::new();
    let who = "echo \"replica $LINDOS_REPLICA of $LINDOS_REPLICAS: rank $RANK of $WORLD_SIZE, \
               $LINDOS_RANK of $LINDOS_WORLD_SIZE\"";
    let end = lab.path("end");
    let job = lab.job_of_replicas("parts", 3, &format!("{who}; {}", steps_until(&end)), "");
    let mut run = lab.start(["run", job.to_str().unwrap(), "--json"]);
    let rank = run.wait_for("rank_started", |line| line["rank"] == 1);
    run.wait_for("progress", |line| line["step"].as_u64() >= Some(5));
    let before = lab.json(["job", "1"]);
    kill(pid(&rank), Signal::KILL);
    let lost = run.wait_for("replica_lost", |_| true);
    assert_eq!((&lost["replica"], &lost["left"]), (&Value::from(1), &Value::from(2)), "{lost}");
    run.wait_for("rank_started", |line| line["rank"] == 1 && line["epoch"] == 2);
    run.wait_for("replica_back", |line| line["replica"] == 1);
    let table = lab.output(["job", "1"]).stdout;
    assert!(table.contains("REPLICA  EPOCH  STATE"), "{table}");
    let why = lab.output(["why", "1"]).stdout;
    assert!(why.contains("all 3 replicas train"), "{why}");
    let after = lab.json(["job", "1"]);
    let epochs: Vec<&Value> =
        after["ranks"].as_array().unwrap().iter().map(|rank| &rank["epoch"]).collect();
    assert_eq!(epochs, [1, 2, 1]);
    for other in [0, 2] {
        assert_eq!(pid(&before["ranks"][other]), pid(&after["ranks"][other]));
    }
    std::fs::write(end, "").unwrap();
    let ended = run.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    let summary = summary(&ended.stdout);
    assert_eq!((&summary["attempts"], &summary["faults"]), (&Value::from(1), &Value::from(1)));
    for rank in 0..3 {
        let logs = lab.output(["logs", "1", "--rank", &rank.to_string()]);
        let line = format!("replica {rank} of 3: rank 0 of 1, {rank} of 3\n");
        assert!(logs.stdout.starts_with(&line), "{logs:?}");
    }
}

#[test]
fn a_killed_agent_comes_back_and_its_ranks_never_notice() {
    let lab = Lab::new();
    let end = lab.path("end");
    let job = lab.job("calm", 1, &steps_until(&end), "");
    let mut run = lab.start(["run", job.to_str().unwrap(), "--json"]);
    let rank = run.wait_for("rank_started", |_| true);
    run.wait_for("progress", |_| true);
    let lock = lab.state().join("nodes").join(rank["node"].as_str().unwrap()).join("agent.lock");
    let agent = |lock: &std::path::Path| -> Option<i32> {
        std::fs::read_to_string(lock).ok()?.split_whitespace().next()?.parse().ok()
    };
    let first = agent(&lock).unwrap();
    kill(first, Signal::KILL);
    wait_until("another agent serves the node", || agent(&lock).filter(|&pid| pid != first));
    assert!(is_alive(pid(&rank)));
    std::fs::write(end, "").unwrap();
    let ended = run.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(summary(&ended.stdout)["attempts"], 1);
}

#[test]
fn a_killed_run_leaves_its_ranks_alive_and_the_next_control_plane_adopts_them() {
    let lab = Lab::new();
    let end = lab.path("end");
    let job = lab.job("orphan", 2, &steps_until(&end), "");
    let mut run = lab.start(["run", job.to_str().unwrap(), "--json"]);
    let mut started = [(); 2].map(|()| run.wait_for("rank_started", |_| true));
    started.sort_by_key(|line| line["rank"].as_u64());
    let ranks: Vec<i32> = started.iter().map(pid).collect();
    run.wait_for("progress", |line| line["step"].as_u64() >= Some(3));
    run.kill();
    assert!(ranks.iter().all(|&pid| is_alive(pid)));
    let offline = lab.output(["job", "1"]);
    assert!(offline.stdout.contains("running"), "{offline:?}");

    let up = lab.up(&["--nodes", "1", "--gpus", "1"]);
    let detail = lab.json(["job", "1"]);
    assert_eq!((&detail["state"], &detail["epoch"]), (&Value::from("running"), &Value::from(1)));
    let adopted: Vec<i32> = detail["ranks"].as_array().unwrap().iter().map(pid).collect();
    assert_eq!(adopted, ranks);
    assert_eq!(lab.json(["nodes"]).as_array().unwrap().len(), 3, "no node was added");
    std::fs::write(end, "").unwrap();
    let over = wait_until("the adopted job is over", || {
        let detail = lab.json(["job", "1"]);
        is_over(&detail).then_some(detail)
    });
    assert_eq!((&over["state"], &over["epoch"]), (&Value::from("completed"), &Value::from(1)));
    up.signal(Signal::TERM);
    assert_eq!(up.end().code, 0);
    assert_eq!(lab.processes(), Vec::<i32>::new());
}

#[test]
fn a_second_run_queues_beside_what_a_killed_one_left() {
    let lab = Lab::new();
    let end = lab.path("end");
    let first = lab.job("first", 1, &steps_until(&end), "");
    let mut run = lab.start(["run", first.to_str().unwrap(), "--json"]);
    run.wait_for("progress", |_| true);
    run.kill();
    let second = lab.job("second", 1, &steps(3, "0.1"), "");
    let run = lab.start(["run", second.to_str().unwrap(), "--json"]);
    wait_until("the second job to wait", || {
        let jobs = lab.output(["jobs", "--json"]);
        let jobs: Value = serde_json::from_str(&jobs.stdout).ok()?;
        let is_second = |job: &&Value| job["name"] == "second";
        (jobs.as_array()?.iter().find(is_second)?["state"] == "queued").then_some(())
    });
    std::fs::write(end, "").unwrap();
    let ended = run.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stderr.contains("alive from before in this state folder: 1 job"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_first_interrupt_cancels_the_job_and_waits_for_its_stop() {
    let lab = Lab::new();
    let job = lab.job("long", 2, &steps(10_000, "0.1"), "");
    let mut run = lab.start(["run", job.to_str().unwrap(), "--json"]);
    let rank = run.wait_for("rank_started", |_| true);
    run.wait_for("progress", |_| true);
    run.signal(Signal::INT);
    let ended = run.end();
    assert_eq!(ended.code, 130, "{ended:?}");
    assert_eq!(summary(&ended.stdout)["result"], "cancelled");
    assert!(!is_alive(pid(&rank)));
    assert_eq!(lab.processes(), Vec::<i32>::new());
}

#[test]
fn the_second_interrupt_leaves_at_once() {
    let lab = Lab::new();
    // It takes no notice of SIGTERM, and its grace time is long.
    let script = format!("trap '' TERM; {}", steps(10_000, "0.1"));
    let job = lab.job("deaf", 1, &script, "[stop]\ngrace = \"1h\"\n");
    let mut run = lab.start(["run", job.to_str().unwrap(), "--json"]);
    run.wait_for("progress", |_| true);
    run.signal(Signal::INT);
    wait_until("the job is being stopped", || {
        (lab.json(["job", "1"])["state"] == "stopping").then_some(())
    });
    run.signal(Signal::INT);
    assert_eq!(run.end().code, 130);
}

#[test]
fn an_unmodified_pytorch_script_survives_a_killed_rank() {
    let has_torch = std::process::Command::new("/usr/bin/python3")
        .args(["-c", "import torch.distributed"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_torch {
        let is_required = std::env::var("LINDOS_TEST_TORCH").is_ok_and(|value| value == "required");
        assert!(!is_required, "PyTorch is required and not there");
        eprintln!("skipped: /usr/bin/python3 has no torch (apt-get install python3-torch)");
        return;
    }
    let lab = Lab::new();
    let job = repository().join("examples/pytorch-ddp/job.toml");
    let mut run = lab.start(["run", job.to_str().unwrap(), "--json"]);
    let rank = run.wait_for("rank_started", |line| line["rank"] == 1);
    run.wait_for("progress", |line| line["step"].as_u64() >= Some(5));
    kill(pid(&rank), Signal::KILL);
    run.wait_for("resumes", |_| true);
    let ended = run.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    let summary = summary(&ended.stdout);
    assert_eq!(summary["attempts"], 2, "{}", ended.stdout);
    assert!(summary["last_loss"].as_f64() < summary["first_loss"].as_f64(), "{summary}");
}

#[test]
fn an_unmodified_jax_script_runs() {
    let Ok(python) = std::env::var("LINDOS_TEST_JAX") else {
        eprintln!("skipped: LINDOS_TEST_JAX names no Python with jax");
        return;
    };
    let lab = Lab::new();
    let folder = repository().join("examples/jax");
    let text = std::fs::read_to_string(folder.join("job.toml")).unwrap();
    let text = text
        .replace("\"python3\"", &format!("{python:?}"))
        .replace("workdir = \".\"", &format!("workdir = {folder:?}"));
    let job = lab.write("job.toml", text);
    let ended = lab.output(["run", job.to_str().unwrap(), "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(summary(&ended.stdout)["result"], "completed");
}
