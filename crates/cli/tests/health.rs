//! `lindos health`: kernel logs that are read, and the checks of the machine that this runs on.

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use support::Lab;

const LOST: &str = "NVRM: Xid (PCI:0000:17:00): 79, GPU has fallen off the bus.";

fn classify(lab: &Lab, log: &str, flags: &[&str]) -> (String, String) {
    let file = lab.path("kern.log");
    std::fs::write(&file, log).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lindos"))
        .args(["health", "classify"])
        .arg(&file)
        .args(flags)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn every_line_has_one_object_in_the_same_order() {
    let lab = Lab::new();
    let log = format!("nothing\n{LOST}\n\nmd/raid1:md0: Disk failure on sda1, disabling device.");
    let (data, _) = classify(&lab, &log, &["--json"]);
    let lines: Vec<Value> = data.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let classes: Vec<&Value> = lines.iter().map(|line| &line["class"]).collect();
    assert_eq!(classes, ["none", "gpu.xid.79", "none", "disk.raid_failure"]);
    let lost = &lines[1];
    assert_eq!(lost["severity"], "node-fatal");
    assert_eq!(lost["action"], "reboot");
    assert_eq!(lost["device"], "0000:17:00");
    assert_eq!(lost["code"], 79);
    assert_eq!(lost["source"], "kernel_log");
    assert_eq!(lines[0]["device"], Value::Null);
}

#[test]
fn a_pipe_has_its_answer_before_the_next_line_comes() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lindos"))
        .args(["health", "classify", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    for (line, class) in [(LOST, "gpu.xid.79"), ("hello", "none")] {
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert!(answer.contains(&format!(r#""class":"{class}""#)), "{answer}");
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn people_get_a_table_of_what_means_something() {
    let lab = Lab::new();
    let (data, message) = classify(&lab, &format!("nothing\n{LOST}\n"), &[]);
    assert!(data.starts_with("LINE "), "{data}");
    assert_eq!(data.lines().count(), 2);
    assert!(data.lines().all(|line| line.len() <= 80), "{data}");
    assert_eq!(message, "2 lines, 1 finding\n");
    let (data, message) = classify(&lab, "nothing\n", &[]);
    assert_eq!((data.as_str(), message.as_str()), ("", "1 line: nothing that tells of a fault\n"));
}

#[test]
fn a_log_that_is_not_there_is_bad_input() {
    let output = Command::new(env!("CARGO_BIN_EXE_lindos"))
        .args(["health", "classify", "/nonexistent/kern.log"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("\nhint: "), "{message}");
}

#[test]
fn this_machine_is_checked_and_every_check_says_how_it_stands() {
    let lab = Lab::new();
    let checks = lab.json(["health", "checks"]);
    let standings = lab.json(["health", "check", "--root", "/"]);
    let names = |of: &Value| -> Vec<String> {
        let list = of.as_array().unwrap().iter();
        let mut names: Vec<String> =
            list.map(|entry| entry["check"].as_str().unwrap().to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&checks), names(&standings));
    assert!(names(&checks).len() > 20);
    for standing in standings.as_array().unwrap() {
        let state = standing["state"].as_str().unwrap();
        assert!(["ok", "finding", "unknown", "absent"].contains(&state), "{standing}");
        let findings = standing["findings"].as_array().unwrap();
        assert_eq!(state == "finding", !findings.is_empty(), "{standing}");
    }
}

#[test]
fn an_idle_agent_with_all_checks_on_is_measured() {
    let lab = Lab::new();
    let result = lab.json(["bench", "agent", "--seconds", "5"]);
    assert!(result["cpu_percent"].as_f64().unwrap() >= 0.0, "{result}");
    assert!(result["rss_mb"].as_f64().unwrap() > 1.0, "{result}");
    let checks = lab.json(["health", "checks"]);
    assert_eq!(result["checks"], checks.as_array().unwrap().len());
}

#[test]
fn what_a_machine_should_have_is_compared() {
    let lab = Lab::new();
    let file = lab.path("expect.toml");
    let text = "memory_bytes = 1_000_000_000_000_000\n[devices]\ngpu = 99\n";
    std::fs::write(&file, text).unwrap();
    let standings =
        lab.json(["health", "check", "--root", "/", "--expect", file.to_str().unwrap()]);
    let found = standings.to_string();
    assert!(found.contains("mem.less_than_expected"), "{found}");
    assert!(found.contains("pcie.device_missing"), "{found}");
}
