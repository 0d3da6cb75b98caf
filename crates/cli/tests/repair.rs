//! From a fault in the kernel's log to a node that is back, over the real binary: its own burn-in,
//! commands of the operators' as remedies, and whatever is killed on the way.

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::io::Write as _;
use support::{Lab, Running, kill, steps, wait_until};

/// Short spans, and nothing but what a test names.
const POLICY: &str = "[repair]\nburn_in_ms = 1000\nreset_gpu_max = 1\nreboot_max = 1\n\
                      power_cycle_max = 1\ndiagnose_max = 0\n";

/// A GPU that has fallen off the bus: a reboot, in the words of the driver.
const FALLEN_OFF: &str = "NVRM: Xid (PCI:0000:17:00): 79, GPU has fallen off the bus.\n";

fn lab(remedies: &str) -> Lab {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("machine/dev")).unwrap();
    lab.write("machine/dev/kmsg", "");
    lab.write("policy.toml", POLICY);
    lab.write("remedies.toml", remedies);
    lab
}

fn up(lab: &Lab) -> Running {
    let words = ["--nodes", "2", "--gpus", "1", "--policy", "policy.toml"];
    lab.up(&[&words[..], &["--remedies", "remedies.toml"]].concat())
}

fn events(lab: &Lab) -> Vec<Value> {
    let ended = lab.output(["events", "--json"]);
    ended.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn texts(lab: &Lab, kind: &str) -> Vec<String> {
    let of_kind = events(lab).into_iter().filter(|event| event["kind"] == kind);
    of_kind.map(|event| event["text"].as_str().unwrap().to_string()).collect()
}

/// The kernel says it again and again until the monitor, which reads from its own start on, has seen
/// it; then no more.
fn plant(lab: &Lab) {
    let path = lab.path("machine/dev/kmsg");
    wait_until("the node to be taken out", || {
        let mut log = std::fs::File::options().append(true).open(&path).unwrap();
        log.write_all(FALLEN_OFF.as_bytes()).unwrap();
        (!texts(lab, "taken_out").is_empty()).then_some(())
    });
}

fn wait_for(lab: &Lab, kind: &str) -> String {
    wait_until(kind, || texts(lab, kind).into_iter().next())
}

fn remedy(name: &str, on: &str, script: &str, more: &str) -> String {
    format!("[{name}]\non = \"{on}\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n{more}")
}

#[test]
fn a_job_leaves_a_faulty_node_which_is_mended_by_a_command_proved_and_back() {
    let script = "echo $LINDOS_REMEDY $LINDOS_NODE >> done.txt; cd / && true";
    let folder = tempfile::tempdir().unwrap();
    let script = format!("cd {}; {script}", folder.path().display());
    let lab = lab(&remedy("reboot", "control", &script, ""));
    let _up = up(&lab);
    let job = lab.job("trains", 1, &steps(100_000, "0.05"), "");
    assert_eq!(lab.output(["drain", "local-1", "--reason", "later"]).code, 0);
    assert_eq!(lab.output(["submit", job.to_str().unwrap()]).code, 0);
    wait_until("it runs", || (lab.json(["job", "1"])["state"] == "running").then_some(()));
    assert_eq!(lab.output(["undrain", "local-1"]).code, 0);
    plant(&lab);
    let back = wait_for(&lab, "back_in_service");
    assert!(back.contains("local-0"), "{back}");
    let done = std::fs::read_to_string(folder.path().join("done.txt")).unwrap();
    assert_eq!(done, "reboot local-0\n", "once");
    let told = texts(&lab, "burn_in_over");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(!told[0].contains("not burnt in"), "{told:?}");
    wait_until("the job to go on", || {
        let job = lab.json(["job", "1"]);
        (job["state"] == "running" && job["epoch"] == 2).then_some(())
    });
    // The report of its burn-in is kept where the node is.
    let works = lab.state().join("nodes/local-0/works");
    let kept = std::fs::read_dir(works).unwrap().flatten();
    let report = kept.map(|it| it.path().join("burnin.json")).find(|path| path.exists()).unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["report"]["node"], "local-0");
    let works = lab.state().join("works");
    wait_until("what the remedy left to be removed", || {
        std::fs::read_dir(&works).unwrap().next().is_none().then_some(())
    });
}

#[test]
fn a_remedy_that_hangs_is_killed_and_the_next_one_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let hangs = format!("echo $$ > {}; sleep 1000 & wait", pid.display());
    let lab = lab(&format!(
        "{}{}",
        remedy("reboot", "node", &hangs, "limit_ms = 300\n"),
        remedy("power_cycle", "control", "echo the BMC is dumb >&2; exit 3", "")
    ));
    let _up = up(&lab);
    plant(&lab);
    let person = wait_until("a person to be wanted", || {
        texts(&lab, "remedy_begun").into_iter().find(|text| text.contains("technician"))
    });
    assert!(person.contains("local-0"), "{person}");
    let over = texts(&lab, "remedy_over");
    assert!(over[0].contains("not over in time"), "{over:?}");
    assert!(over[1].contains("the BMC is dumb"), "{over:?}");
    let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    assert!(!support::is_alive(pid));
    assert_eq!(lab.output(["repairs", "done", "local-0"]).code, 0);
    wait_for(&lab, "back_in_service");
}

#[test]
fn a_control_plane_that_is_killed_in_the_middle_of_a_remedy_neither_loses_nor_repeats_it() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "cd {}; echo begun >> begun; until test -e go; do sleep 0.02; done",
        folder.path().display()
    );
    let lab = lab(&remedy("reboot", "control", &script, ""));
    let first = up(&lab);
    plant(&lab);
    let begun = folder.path().join("begun");
    wait_until("the remedy to begin", || begun.exists().then_some(()));
    first.kill();
    let _second = up(&lab);
    std::fs::write(folder.path().join("go"), "").unwrap();
    wait_for(&lab, "back_in_service");
    assert_eq!(std::fs::read_to_string(begun).unwrap(), "begun\n");
    assert_eq!(texts(&lab, "remedy_over").len(), 1);
}

#[test]
fn a_node_of_this_machine_is_rebooted_by_starting_its_agent_anew() {
    let lab = lab("");
    let _up = up(&lab);
    let agent = || {
        let text = std::fs::read_to_string(lab.state().join("nodes/local-0/agent.lock")).unwrap();
        text.split_whitespace().next().unwrap().parse::<i32>().unwrap()
    };
    let before = agent();
    plant(&lab);
    wait_for(&lab, "back_in_service");
    assert!(!support::is_alive(before));
    assert_ne!(agent(), before);
    // An agent that is killed in the middle of a burn-in is started again; the burn-in needs none.
    kill(agent(), Signal::KILL);
    assert_eq!(lab.output(["nodes"]).code, 0);
}
