//! A control plane that stays, and every command that asks it.

mod support;

use rustix::process::Signal;
use serde_json::Value;
use support::{Lab, is_alive, is_over, steps, steps_until, wait_until};

#[test]
fn every_command_has_its_answer_and_its_exit_status() {
    let lab = Lab::new();
    let up = lab.up(&["--nodes", "2", "--gpus", "1"]);

    let job = lab.job("answers", 2, &steps(10_000, "0.1"), "");
    let submitted = lab.output(["submit", job.to_str().unwrap()]);
    assert_eq!((submitted.code, submitted.stdout.as_str()), (0, "1\n"), "{submitted:?}");
    wait_until("it runs", || (lab.json(["job", "1"])["state"] == "running").then_some(()));
    let text = lab.output(["job", "1"]).stdout;
    assert!(text.contains("answers") && text.contains("RANK"), "{text}");
    assert!(lab.output(["jobs"]).stdout.contains("running"));
    assert_eq!(lab.json(["jobs"]).as_array().unwrap().len(), 1);

    let waiting = lab.job("waits", 1, "true", "");
    assert_eq!(lab.json(["submit", waiting.to_str().unwrap()])["job"], 2);
    let why = lab.output(["why", "2"]);
    assert_eq!(why.code, 0);
    assert!(why.stdout.starts_with("job 2 waits: "), "{why:?}");
    assert_eq!(lab.json(["why", "2"])["wait_reason"]["busy"]["nodes_wanted"], 1);
    let node = lab.output(["why", "local-0"]);
    assert!(node.stdout.starts_with("local-0 is busy: its GPU is taken\n"), "{node:?}");
    assert_eq!(lab.json(["why", "local-0"])["jobs"][0]["job"], 1);
    lab.output(["why", "nowhere"]).fails(3, &["nowhere", "hint:"]);
    let dry = lab.output(["submit", "--dry-run", waiting.to_str().unwrap()]);
    assert!(dry.stdout.starts_with("it would wait: "), "{dry:?}");
    assert_eq!(lab.json(["jobs"]).as_array().unwrap().len(), 2, "nothing was submitted");
    assert!(lab.output(["teams"]).stdout.contains("(no team)"));

    assert!(lab.output(["nodes"]).stdout.contains("local-1"));
    assert_eq!(lab.output(["drain", "local-1", "--reason", "fan 3"]).code, 0);
    assert_eq!(drained(&lab, "local-1"), "fan 3");
    assert_eq!(lab.output(["undrain", "local-1"]).code, 0);
    assert_eq!(drained(&lab, "local-1"), Value::Null);

    let reserve = ["reserve", "psu", "--maintenance", "--from", "in 2h", "--for", "30m", "--nodes"];
    let reserved = lab.output(reserve.into_iter().chain(["local-[0-1]"]));
    assert_eq!(reserved.code, 0, "{reserved:?}");
    assert!(reserved.stderr.starts_with("psu: 2 nodes reserved for maintenance from "));
    // In the order in which the nodes joined, which is nobody's choice.
    let nodes = lab.json(["reservations"])[0]["nodes"].clone();
    assert!(
        ["local-0", "local-1"].iter().all(|&name| nodes.as_array().unwrap().contains(&name.into()))
    );
    assert!(lab.output(["reservations"]).stdout.contains("local-[0-1]"));
    lab.output(reserve.into_iter().chain(["local-9"])).fails(3, &["local-9", "hint:"]);
    lab.output(reserve.into_iter().chain(["local-[1"])).fails(2, &["local-[1", "hint:"]);
    assert_eq!(lab.output(["unreserve", "psu"]).code, 0);
    lab.output(["unreserve", "psu"]).fails(3, &["psu", "hint:"]);
    assert_eq!(lab.json(["reservations"]).as_array().unwrap().len(), 0);

    let logs = lab.output(["logs", "1", "--rank", "1"]);
    assert!(logs.stdout.starts_with("step 1 loss 999.5\n"), "{logs:?}");
    let events = lab.output(["events", "--job", "1", "--json"]);
    let kinds: Vec<Value> = events
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone())
        .collect();
    assert_eq!(kinds[0], "submitted");
    assert!(kinds.contains(&Value::from("placed")), "{kinds:?}");
    wait_until("it has trained", || {
        lab.output(["goodput"]).stdout.contains("productive").then_some(())
    });
    let goodput = lab.json(["goodput"]);
    let sum: u64 =
        goodput["columns"].as_object().unwrap().values().map(|ms| ms.as_u64().unwrap()).sum();
    assert_eq!(sum, goodput["total_gpu_ms"].as_u64().unwrap());

    for words in [["job", "99"], ["why", "99"], ["cancel", "99"], ["logs", "99"]] {
        lab.output(words).fails(3, &["hint:"]);
    }
    lab.output(["drain", "nowhere"]).fails(3, &["nowhere", "hint:"]);
    lab.output(["logs", "1", "--rank", "99"]).fails(3, &["hint:"]);
    lab.output(["up", "--listen", "127.0.0.1:0"]).fails(5, &["in use", "hint:"]);
    lab.output(["run", job.to_str().unwrap()]).fails(5, &["in use", "hint:", "--server http://"]);

    // The way that the hint of the last one names.
    let server: Value =
        serde_json::from_str(&std::fs::read_to_string(lab.state().join("server.json")).unwrap())
            .unwrap();
    let url = server["url"].as_str().unwrap();
    assert_eq!(lab.output(["cancel", "1"]).code, 0);
    let ended = lab.output(["run", waiting.to_str().unwrap(), "--server", url]);
    assert_eq!(ended.code, 0, "{ended:?}");
    lab.output(["cancel", "1"]).fails(1, &["hint:"]);

    up.signal(Signal::INT);
    let ended = up.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!lab.state().join("server.json").exists());
    assert_eq!(lab.processes(), Vec::<i32>::new());
}

#[test]
fn a_control_plane_that_stops_leaves_jobs_alone() {
    let lab = Lab::new();
    let end = lab.path("end");
    let job = lab.job("stays", 1, &steps_until(&end), "");
    let up = lab.up(&["--nodes", "1", "--gpus", "1"]);
    lab.output(["submit", job.to_str().unwrap()]);
    let rank = wait_until("it runs", || {
        let detail = lab.json(["job", "1"]);
        let pid = i32::try_from(detail["ranks"][0]["pid"].as_i64()?).ok()?;
        // The process id is known once the agent has told it.
        (detail["state"] == "running" && pid > 0).then_some(pid)
    });
    up.signal(Signal::TERM);
    let ended = up.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("1 job runs on; `lindos up` adopts it"), "{}", ended.stderr);
    assert!(is_alive(rank), "rank {rank} is gone");
    let again = lab.up(&["--nodes", "1", "--gpus", "1"]);
    std::fs::write(end, "").unwrap();
    let over = wait_until("it is over", || {
        let detail = lab.json(["job", "1"]);
        is_over(&detail).then_some(detail)
    });
    assert_eq!((&over["state"], &over["epoch"]), (&Value::from("completed"), &Value::from(1)));
    again.signal(Signal::TERM);
    let ended = again.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("adopted from before: 1 job"), "{}", ended.stderr);
}

#[test]
fn logs_are_followed_over_attempts() {
    let lab = Lab::new();
    let up = lab.up(&["--nodes", "1", "--gpus", "1"]);
    let script = "echo this is attempt $LINDOS_EPOCH; echo step 1 loss 1.0; \
                  [ $LINDOS_EPOCH = 2 ] || exit 1";
    let job = lab.job("twice", 1, script, "");
    lab.output(["submit", job.to_str().unwrap()]);
    let ended = lab.start(["logs", "1", "-f"]).end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("this is attempt 2"), "{ended:?}");
    let ended = lab.output(["logs", "1", "--epoch", "1"]);
    assert!(ended.stdout.contains("this is attempt 1"), "{ended:?}");
    up.signal(Signal::TERM);
    assert_eq!(up.end().code, 0);
}

fn drained(lab: &Lab, name: &str) -> Value {
    let nodes = lab.json(["nodes"]);
    let node = nodes.as_array().unwrap().iter().find(|node| node["name"] == name);
    node.unwrap()["drained"].clone()
}
