//! Suspects of a fault that are tested with each other, over the real binary: which of two nodes it is, or
//! the link between them, whatever is killed on the way.

mod support;

use rustix::process::Signal;
use serde_json::Value;
use support::{Lab, Running, kill, wait_until};

const POLICY: &str = "[repair]\nburn_in_ms = 1000\npair_test_ms = 2000\ndiagnose_max = 0\n\
    reset_gpu_max = 0\nreboot_max = 0\npower_cycle_max = 0\n\
    rack_out_max_percent = 100\nleaf_out_max_percent = 100\n\
    platform_out_max_percent = 100\nfleet_out_max_percent = 100\n";

/// Both ranks of the first attempt sleep for ever, alike; those of the next do not.
const HANGS: &str = "i=0; while :; do i=$((i+1)); echo \"step $i loss 1.5\"; sleep 0.1; \
    if [ $i = 20 ] && [ $LINDOS_EPOCH = 1 ]; then exec sleep 1000; fi; done";

struct Trial {
    lab: Lab,
    up: Running,
}

impl Trial {
    /// A fleet of six, of which two have hung, with this fault planted in their tests.
    fn begin(faults: &str) -> Trial {
        let lab = Lab::new();
        std::fs::create_dir_all(lab.path("machine/dev")).unwrap();
        lab.write("policy.toml", POLICY);
        let up = up(&lab, faults);
        let others = ["local-2", "local-3", "local-4", "local-5"];
        for node in others {
            assert_eq!(lab.output(["drain", node, "--reason", "later"]).code, 0);
        }
        let job = lab.job("hangs", 2, HANGS, "");
        assert_eq!(lab.output(["submit", job.to_str().unwrap()]).code, 0);
        wait_until("it runs", || (lab.json(["job", "1"])["state"] == "running").then_some(()));
        for node in others {
            assert_eq!(lab.output(["undrain", node]).code, 0);
        }
        Trial { lab, up }
    }

    fn texts(&self, kind: &str) -> Vec<String> {
        let ended = self.lab.output(["events", "--json"]);
        let events = ended.stdout.lines().filter_map(|line| serde_json::from_str(line).ok());
        let of_kind = events.filter(|event: &Value| event["kind"] == kind);
        of_kind.map(|event| event["text"].as_str().unwrap().to_string()).collect()
    }

    fn wait_for(&self, kind: &str) -> String {
        wait_until(kind, || self.texts(kind).into_iter().next())
    }

    /// Until both nodes of a pair are at their test.
    fn wait_for_both(&self) {
        wait_until("both are tested", || {
            let at = |node: &str| self.lab.state().join(format!("nodes/{node}/works"));
            let has_work = |node: &str| {
                std::fs::read_dir(at(node)).is_ok_and(|mut works| works.next().is_some())
            };
            (has_work("local-0") && has_work("local-1")).then_some(())
        });
    }

    fn is_out(&self, node: &str) -> bool {
        let repairs = self.lab.json(["repairs"]).to_string();
        repairs.contains(&format!("\"{node}\""))
    }
}

fn up(lab: &Lab, faults: &str) -> Running {
    let words = ["--nodes", "6", "--gpus", "1", "--policy", "policy.toml"];
    lab.up_with(&words, &[("LINDOS_BURNIN_FAULTS", faults)])
}

#[test]
fn the_link_between_two_that_are_well_with_others_is_found_though_the_control_plane_is_killed() {
    let mut trial = Trial::begin("wire:local-0+local-1");
    let out = trial.wait_for("suspects_out");
    assert!(["local-0, local-1", "local-1, local-0"].iter().any(|it| out.contains(it)), "{out}");
    trial.wait_for_both();
    trial.up.kill();
    trial.up = up(&trial.lab, "wire:local-0+local-1");
    let over = trial.wait_for("suspects_over");
    assert!(over.contains("the link between local-") && over.contains("neither"), "{over}");
    let tested = trial.texts("suspect_tested");
    assert!(tested[0].contains("failed: between local-"), "{tested:?}");
    assert!(tested[0].contains("network.bits"), "{tested:?}");
    assert!(tested[1..].iter().all(|it| it.contains("passed")), "{tested:?}");
    assert!(trial.texts("link_not_tested").is_empty());
    assert!(!trial.is_out("local-0") && !trial.is_out("local-1"));
}

#[test]
fn the_node_of_the_two_that_computes_wrong_is_found_and_taken_out_though_its_agent_is_killed() {
    let trial = Trial::begin("product:local-1");
    trial.wait_for_both();
    let lock = trial.lab.state().join("nodes/local-1/agent.lock");
    let text = std::fs::read_to_string(lock).unwrap();
    kill(text.split_whitespace().next().unwrap().parse().unwrap(), Signal::KILL);
    let over = trial.wait_for("suspects_over");
    assert!(over.contains("local-1 failed them"), "{over}");
    let tested = trial.texts("suspect_tested");
    assert_eq!(tested.len(), 1, "it failed by itself: {tested:?}");
    assert!(tested[0].contains("failed: local-1 by itself: "), "{tested:?}");
    assert!(trial.is_out("local-1") && !trial.is_out("local-0"));
}
