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
}

/// The process of a node's agent.
fn agent(lab: &Lab, node: &str) -> Option<i32> {
    let lock = lab.state().join(format!("nodes/{node}/agent.lock"));
    let text = std::fs::read_to_string(lock).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Kills a node's agent, and returns when the next one is there.
fn replace_agent(lab: &Lab, node: &str) {
    let first = agent(lab, node).expect("it has an agent");
    kill(first, Signal::KILL);
    wait_until("the next agent", || {
        agent(lab, node).filter(|&pid| pid != first && support::is_alive(pid))
    });
}

#[test]
fn a_remedy_goes_on_when_its_agent_is_killed_and_the_next_one_tells_of_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "cd {}; echo begun >> begun; until test -e go; do sleep 0.02; done",
        folder.path().display()
    );
    let lab = lab(&remedy("reboot", "node", &script, "restarts = false\n"));
    let _up = up(&lab);
    plant(&lab);
    let begun = folder.path().join("begun");
    wait_until("the remedy to begin", || begun.exists().then_some(()));
    replace_agent(&lab, "local-0");
    assert!(texts(&lab, "remedy_over").is_empty(), "nobody has said yet that it may end");
    std::fs::write(folder.path().join("go"), "").unwrap();
    wait_for(&lab, "back_in_service");
    assert_eq!(std::fs::read_to_string(begun).unwrap(), "begun\n", "once");
    let over = texts(&lab, "remedy_over");
    assert!(over.len() == 1 && over[0].contains("is done"), "{over:?}");
}

#[test]
fn a_burn_in_goes_on_when_its_agent_is_killed() {
    let lab = lab(&remedy("reboot", "control", "true", ""));
    lab.write("policy.toml", POLICY.replace("burn_in_ms = 1000", "burn_in_ms = 5000"));
    let _up = up(&lab);
    plant(&lab);
    let works = lab.state().join("nodes/local-0/works");
    let plans = || {
        let all = std::fs::read_dir(&works).into_iter().flatten().flatten();
        all.filter(|work| work.path().join("plan.json").exists()).map(|work| work.path()).collect()
    };
    let begun: Vec<_> = wait_until("the burn-in to begin", || {
        let plans: Vec<_> = plans();
        (!plans.is_empty()).then_some(plans)
    });
    replace_agent(&lab, "local-0");
    wait_for(&lab, "back_in_service");
    let over = texts(&lab, "burn_in_over");
    assert!(over.len() == 1 && over[0].contains("passed"), "{over:?}");
    assert_eq!(plans(), begun, "it was begun once");
    assert!(begun[0].join("burnin.json").exists());
}

#[test]
fn what_stood_in_the_log_before_a_remedy_takes_no_node_out_that_is_not_burnt_in() {
    // The first remedy takes longer than the monitor does to read what was planted; the next one is
    // not over before it has been looked at.
    let folder = tempfile::tempdir().unwrap();
    let waits = format!("while test -d {}; do sleep 0.1; done", folder.path().display());
    let lab = lab(&format!(
        "{}{}",
        remedy("reboot", "control", "sleep 3", ""),
        remedy("power_cycle", "control", &waits, "")
    ));
    lab.write("policy.toml", POLICY.replace("burn_in_ms = 1000", "burn_in_ms = 0"));
    let _up = up(&lab);
    plant(&lab);
    wait_for(&lab, "back_in_service");
    // A finding that is new shows that the agent has gone on telling what it finds.
    let path = lab.path("machine/dev/kmsg");
    let other = "NVRM: Xid (PCI:0000:65:00): 79, GPU has fallen off the bus.\n";
    wait_until("another GPU to be found", || {
        let mut log = std::fs::File::options().append(true).open(&path).unwrap();
        log.write_all(other.as_bytes()).unwrap();
        (texts(&lab, "taken_out").len() > 1).then_some(())
    });
    let device = lab.json(["repairs"])["open"][0]["device"].to_string();
    assert!(device.contains("65:00"), "and not the one from before: {device}");
}

#[test]
fn idle_nodes_are_burnt_in_give_way_to_a_job_and_the_one_that_fails_is_taken_out() {
    let lab = lab("");
    let idle = "idle_burn_in_every_ms = 2000\nidle_burn_in_max_percent = 100\n";
    lab.write("policy.toml", POLICY.replace("burn_in_ms = 1000", "burn_in_ms = 3000") + idle);
    // Idle nodes are looked at once a minute: in the same look are one that fails, one that passes, and
    // the only one that the job fits.
    let group = |name, count, gpus| {
        format!("[[nodes]]\nname = \"{name}\"\ncount = {count}\ngpus = {gpus}\n")
    };
    lab.write("fleet.toml", group("small", 2, 1) + &group("large", 1, 2));
    let words = ["--fleet", "fleet.toml", "--policy", "policy.toml"];
    let _up = lab.up_with(&words, &[("LINDOS_BURNIN_FAULTS", "product:small1")]);
    wait_until("all to be tried", || (texts(&lab, "idle_burn_in").len() == 3).then_some(()));
    let gang = "nodes = 1\ngpus_per_node = 2";
    let job = lab.job_of("trains", gang, &steps(100_000, "0.05"), "");
    assert_eq!(lab.output(["submit", job.to_str().unwrap()]).code, 0);
    wait_until("it trains", || {
        let job = lab.json(["job", "1"]);
        (job["state"] == "running" && job["step"].as_u64() > Some(2)).then_some(())
    });
    let works = lab.state().join("nodes/large0/works");
    for work in std::fs::read_dir(works).unwrap().flatten() {
        assert!(work.path().join("result.json").exists(), "a burn-in goes on beside a job");
    }
    let out = wait_for(&lab, "taken_out");
    assert!(out.contains("small1") && out.contains("node.burn_in"), "{out}");
    let over = |node: &str| texts(&lab, "burn_in_over").into_iter().find(|it| it.contains(node));
    let passed = wait_until("the other one to pass", || over("small0"));
    assert!(passed.contains("passed"), "{passed}");
    assert!(!over("large0").is_some_and(|it| it.contains("passed")), "it has given way");
}
