//! `lindos sim swarm`, and `sim run` of a case that fails, as a person and as a program see them.

mod support;

use support::Lab;

/// A ledger that leaks, in the first case.
const LEAKS: [&str; 8] =
    ["sim", "swarm", "--first-seed", "0", "--seeds", "1", "--plant", "LedgerLeak"];

#[test]
fn a_violation_is_told_with_what_happened_before_it() {
    let ended = Lab::new().output(LEAKS);
    assert_eq!(ended.code, 1);
    let text = ended.stderr;
    let (what, before) = text.split_once("\nbefore it:\n").expect("what went before");
    assert!(what.starts_with("seed 0: ") && what.contains("violation: "), "{text}");
    let (before, again) = before.split_once("\nto see it again: ").expect("how to see it again");
    assert_eq!(again.trim(), "lindos sim swarm --first-seed 0 --seeds 1");
    let lines: Vec<&str> = before.lines().collect();
    assert!((5..=20).contains(&lines.len()), "{before}");
    assert!(lines.iter().all(|line| line.starts_with("  0:")), "each has its time: {before}");
    assert!(before.contains("completed"), "the end of a job was the last: {before}");
}

#[test]
fn a_program_gets_it_too() {
    let ended = Lab::new().output(LEAKS.into_iter().chain(["--json"]));
    assert_eq!(ended.code, 1);
    let told: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let before = told["found"][0]["before"].as_array().unwrap();
    assert!((5..=20).contains(&before.len()), "{told}");
    let last = before.last().unwrap();
    assert!(last["at_ms"].as_u64().is_some_and(|at| at > 0) && last["what"].is_string());
}

const TOO_SHORT: &str = r#"about = "It has no time to end."
limit = "5m"

[[nodes]]
count = 2
gpus = 1

[[jobs]]
name = "train"
nodes = 2
gpus_per_node = 1
steps = 100
step = "10s"

[[faults]]
at = "1m"
kind = "kill_rank"
job = "train"
rank = 1
"#;

#[test]
fn a_run_that_does_not_end_says_what_it_came_to() {
    let lab = Lab::new();
    lab.write("short.toml", TOO_SHORT);
    let ended = lab.output(["sim", "run", "short.toml"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    for words in ["some job did not end", "fault: kill_rank: job train, rank 1", "hint: "] {
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
    let ended = lab.output(["sim", "run", "short.toml", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(told["violation"].as_str().unwrap().contains("some job did not end"));
    assert_eq!(ended.code, 1);
}
