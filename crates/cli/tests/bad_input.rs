//! What a person can do wrong: each is answered at once, with the exit status that docs/cli.md
//! promises, the place, and what to do about it.

mod support;

use std::net::TcpListener;
use std::time::{Duration, Instant};
use support::Lab;

const MINIMAL: &str = "name = \"a\"\ncommand = [\"true\"]\n[gang]\nnodes = 1\ngpus_per_node = 1\n";

#[test]
fn a_command_that_does_not_exist() {
    Lab::new().output(["goodputt"]).fails(2, &["similar subcommand exists: 'goodput'"]);
    Lab::new().output(["jobs", "--jsn"]).fails(2, &["--json"]);
}

#[test]
fn an_unknown_key_is_shown_where_it_stands() {
    let lab = Lab::new();
    lab.write("job.toml", MINIMAL.replace("nodes =", "nods ="));
    for command in ["run", "submit"] {
        lab.output([command, "job.toml"])
            .fails(2, &["job.toml:4:1", "unknown field `nods`", "hint: did you mean `nodes`?"]);
    }
}

#[test]
fn files_that_are_no_job_files() {
    let lab = Lab::new();
    lab.output(["run", "nowhere.toml"]).fails(2, &["nowhere.toml: there is no such file", "hint:"]);
    lab.output(["run", "."]).fails(2, &["it is not a file", "hint:"]);
    lab.write("bytes.toml", [0xff, 0xfe, 0x00]);
    lab.output(["run", "bytes.toml"]).fails(2, &["not UTF-8", "hint:"]);
    lab.write("long.toml", vec![b'#'; 2 << 20]);
    lab.output(["run", "long.toml"]).fails(2, &["at most", "hint:"]);
    lab.write("empty.toml", "");
    lab.output(["run", "empty.toml"]).fails(2, &["missing field", "hint:"]);
}

#[test]
fn a_million_ranks_are_refused_at_once_and_nothing_is_begun() {
    let lab = Lab::new();
    let text = MINIMAL
        .replace("nodes = 1", "nodes = 1000000")
        .replace("name =", "prepare = [\"touch\", \"prepared\"]\nname =");
    lab.write("job.toml", text);
    let began = Instant::now();
    lab.output(["run", "job.toml"])
        .fails(2, &["1000000 ranks", "at most 64", "hint: gang.nodes (1000000)", "--server"]);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(!lab.state().exists() && !lab.path("prepared").exists());
}

#[test]
fn a_fleet_that_this_machine_cannot_carry() {
    let lab = Lab::new();
    lab.write("job.toml", MINIMAL);
    lab.output(["run", "job.toml", "--nodes", "100000"]).fails(2, &["1 to 65 nodes", "hint:"]);
    lab.output(["up", "--nodes", "0"]).fails(2, &["1 to 65 nodes", "hint:"]);
    lab.output(["up", "--gpus", "65"]).fails(2, &["1 to 64 GPUs", "hint:"]);
    lab.output(["up", "--listen", "0.0.0.0:7070"]).fails(2, &["this machine alone", "hint:"]);
    lab.output(["up", "--listen", "nonsense"]).fails(2, &["--listen"]);
    lab.write("fleet.toml", "[[nodes]]\ncuont = 1\ngpus = 8\n");
    lab.output(["up", "--fleet", "fleet.toml"])
        .fails(2, &["fleet.toml:2:1", "did you mean `count`"]);
}

#[test]
fn webhooks_that_nobody_can_reach() {
    let lab = Lab::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let webhook = |key: &str| {
        format!(
            "[[webhooks]]\nname = \"chat\"\n{key} = \"http://127.0.0.1:{port}\"\nformat = \"slack\"\n"
        )
    };
    lab.write("alerts.toml", webhook("ulr"));
    for command in [&["alerts", "test", "alerts.toml"][..], &["up", "--alerts", "alerts.toml"]] {
        lab.output(command).fails(2, &["alerts.toml:3:1", "hint: did you mean `url`?"]);
    }
    lab.write("alerts.toml", webhook("url"));
    let refused = lab.output(["alerts", "test", "alerts.toml", "--json"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("1 of 1 did not take it\nhint: "), "{refused:?}");
    let tried: serde_json::Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!((&tried[0]["webhook"], &tried[0]["ok"]), (&"chat".into(), &false.into()));
}

#[test]
fn a_port_in_use() {
    let lab = Lab::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    lab.output(["up", "--listen", &address]).fails(2, &[&address, "in use", "hint:"]);
    assert!(lab.processes().is_empty(), "agents were left behind");
}

#[test]
fn a_state_folder_that_cannot_be_used() {
    let lab = Lab::new();
    lab.write("job.toml", MINIMAL);
    lab.write("file", "not a folder");
    for command in [["run", "job.toml"], ["up", "--nodes=1"]] {
        let words = command.into_iter().chain(["--state", "file/below"]);
        lab.output(words).fails(5, &["file/below", "hint:"]);
    }
    lab.output(["up", "--state", ""]).fails(2, &["--state"]);
}

#[test]
fn nobody_to_ask() {
    let lab = Lab::new();
    for command in ["jobs", "nodes", "goodput", "events"] {
        lab.output([command]).fails(4, &["no control plane", "hint: start one with `lindos up`"]);
    }
    for command in ["job", "why", "cancel", "logs"] {
        lab.output([command, "1"]).fails(4, &["no control plane", "hint:"]);
    }
    // Bound and dropped: nobody else has it, and nobody listens.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    lab.output(["jobs", "--server", &url]).fails(4, &[&url, "hint:"]);
    lab.write("job.toml", MINIMAL);
    lab.output(["run", "job.toml", "--server", &url]).fails(4, &[&url, "hint:"]);
}

#[test]
fn a_preparation_that_fails() {
    let lab = Lab::new();
    let with = |prepare: &str| lab.write("job.toml", format!("prepare = {prepare}\n{MINIMAL}"));
    with(r#"["sh", "-c", "echo out; echo err >&2; exit 3"]"#);
    lab.output(["run", "job.toml"]).fails(1, &["out\n", "err\n", "exit status: 3", "hint:"]);
    with(r#"["there-is-no-such-program"]"#);
    lab.output(["run", "job.toml"]).fails(2, &["there-is-no-such-program", "hint:"]);
}

#[test]
fn an_output_that_nobody_reads_is_no_failure() {
    let lab = Lab::new();
    let mut command = lab.lindos(["--help"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = command.stdout(writer).status().unwrap();
    assert!(status.code().is_some(), "{status}");
}

#[test]
fn a_policy_that_makes_no_sense() {
    let lab = Lab::new();
    lab.write("job.toml", MINIMAL.replace("command", "array = 3\ncommand"));
    lab.write("policy.toml", "[[teams]]\nname = \"vision\"\nshrae = 64\n");
    lab.output(["up", "--policy", "policy.toml"])
        .fails(2, &["policy.toml:3:1", "unknown field `shrae`", "hint: did you mean `share`?"]);
    lab.write("policy.toml", "[[teams]]\nname = \"vision\"\nshare = 64\nlimit = 8\n");
    lab.output(["up", "--policy", "policy.toml"])
        .fails(2, &["policy.toml:2:8", "`vision` has a share of 64 GPUs above", "docs/queue.md"]);
    lab.output(["up", "--policy", "nowhere.toml"]).fails(2, &["nowhere.toml", "hint:"]);
    lab.output(["run", "job.toml"]).fails(2, &["an array of 3", "hint:", "lindos submit"]);
    assert!(!lab.state().exists());
}
