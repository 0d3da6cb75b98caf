//! What each task comes to: which programs are run, and what is made of their ends.

use super::runner::{End, Shop};
use super::{ANSWERS_AT, Ended, Plan};
use crate::files;
use anyhow::Context as _;
use lindos_api::work::{CommandLine, Met, Peer, Task};
use lindos_hardware::burnin::network::PEER_DIGEST;
use lindos_model::burnin::{BurninReport, Verdict};
use lindos_model::finding::{Device, Finding};
use lindos_model::{Millis, Outcome};
use serde::Deserialize;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Of `lindos`: a flag or a file is not right.
const BAD_INPUT: i32 = 2;
/// `EX_TEMPFAIL` of sysexits.h: it cannot be done here.
const UNSUPPORTED: i32 = 75;
/// Between looks at whether the machine goes down.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The programs that tasks are made of.
#[derive(Debug)]
pub(super) struct Tools {
    /// This program: it has the burn-in and the checks.
    pub(super) lindos: PathBuf,
    pub(super) nvidia_smi: PathBuf,
}

impl Tools {
    pub(super) fn installed() -> anyhow::Result<Tools> {
        let lindos = std::env::current_exe().context("the program's own path")?;
        Ok(Tools { lindos, nvidia_smi: "nvidia-smi".into() })
    }
}

fn failed(reason: impl Into<String>) -> Outcome {
    Outcome::Failed { reason: reason.into() }
}

pub(super) fn carry_out(plan: &Plan, shop: &Shop, tools: &Tools) -> Ended {
    let alone = |span| burn_in(plan, span, &[], shop, tools).of_all();
    match &plan.work.task {
        Task::BurnIn { span } => alone(*span).into(),
        Task::Diagnose { span } => match checks(shop, tools) {
            Outcome::Done => alone(*span).into(),
            found => found.into(),
        },
        Task::ResetGpu { device } => reset_gpu(device.as_ref(), shop, tools).into(),
        Task::Command(line) => command(line, shop).into(),
        Task::Mended => Outcome::Done.into(),
        Task::AnswerPeer { span, address } => {
            let at = shop.dir.join(ANSWERS_AT);
            let within = plan.work.limit.0.div_ceil(1000).max(1).to_string();
            let at = at.to_string_lossy();
            let more = ["--answer", address, "--answers-at", &at, "--answer-within", &within];
            match burn_in(plan, *span, &more, shop, tools) {
                // It cannot listen on that address, which says nothing of the machine.
                Burnt::Refused(_) => Outcome::Unsupported.into(),
                ended => ended.of_all().into(),
            }
        }
        Task::MeetPeer { span, peer: Peer { name, address } } => {
            let more = ["--peer", address, "--peer-name", name];
            burn_in(plan, *span, &more, shop, tools).by_whom()
        }
    }
}

/// How a burn-in ended.
enum Burnt {
    /// With a report, and this is the first of its tests that failed of each kind: `None`, none did.
    Tried { own: Option<String>, peer: Option<String>, link: Option<String> },
    /// Before it had one, for what was asked cannot be done here.
    Refused(Outcome),
    /// Before it had one.
    Not(Outcome),
}

impl Burnt {
    fn of_all(self) -> Outcome {
        match self {
            Burnt::Tried { own, peer, link } => own.or(peer).or(link).map_or(Outcome::Done, failed),
            Burnt::Refused(outcome) | Burnt::Not(outcome) => outcome,
        }
    }

    fn by_whom(self) -> Ended {
        let said = |reason: Option<String>| reason.map_or(Outcome::Done, failed);
        match self {
            Burnt::Tried { own, peer, link } => {
                Ended { outcome: said(own), met: Some(Met { peer: said(peer), link: said(link) }) }
            }
            Burnt::Refused(outcome) | Burnt::Not(outcome) => outcome.into(),
        }
    }
}

/// Whom a failed test speaks against: what is carried between two nodes is neither's.
fn is_of_link(test: &str) -> bool {
    ["network.bits", "network.send", "network.receive", "network.round_trip"].contains(&test)
}

fn burn_in(plan: &Plan, span: Millis, more: &[&str], shop: &Shop, tools: &Tools) -> Burnt {
    #[derive(Deserialize)]
    struct Sealed {
        report: BurninReport,
    }
    let out = shop.dir.join("burnin.json");
    let seconds = span.0.div_ceil(1000).max(1).to_string();
    let mut command = Command::new(&tools.lindos);
    command.args(["burnin", "--seconds", &seconds, "--node", &plan.node, "--out"]).arg(&out);
    command.args(plan.expected.iter().flat_map(|expected| ["--platform", expected])).args(more);
    let end = shop.run(command, None);
    if end.code() == Some(0) {
        return Burnt::Tried { own: None, peer: None, link: None };
    }
    let report = files::read_json::<Sealed>(&out).ok().map(|sealed| sealed.report);
    let Some(report) = report.filter(|_| end.code().is_some()) else {
        let is_refused = end.code() == Some(BAD_INPUT);
        let outcome = end.failed("the burn-in");
        return if is_refused { Burnt::Refused(outcome) } else { Burnt::Not(outcome) };
    };
    let first = |is_such: &dyn Fn(&str) -> bool| {
        let mut fails = report.tests.iter().filter(|test| test.verdict == Verdict::Fail);
        let first = fails.find(|test| is_such(&test.name))?;
        Some(format!("{}: {}", first.name, first.detail))
    };
    let peer = first(&|test| test == PEER_DIGEST);
    let link = first(&is_of_link);
    let own = first(&|test| test != PEER_DIGEST && !is_of_link(test));
    if own.is_none() && peer.is_none() && link.is_none() {
        return Burnt::Not(end.failed("the burn-in"));
    }
    Burnt::Tried { own, peer, link }
}

/// Every check of the machine once. What stands in the kernel log from before says nothing of how
/// the machine is now.
fn checks(shop: &Shop, tools: &Tools) -> Outcome {
    #[derive(Deserialize)]
    struct Line {
        check: String,
        findings: Vec<Finding>,
    }
    let path = shop.dir.join("checks.json");
    let output = match File::create(&path) {
        Ok(file) => file,
        Err(error) => return failed(format!("{}: {error}", path.display())),
    };
    let mut command = Command::new(&tools.lindos);
    command.args(["health", "check", "--json"]);
    let end = shop.run(command, Some(output));
    if end.code() != Some(0) {
        return end.failed("`lindos health check`");
    }
    let lines: Vec<Line> = match files::read_json(&path) {
        Ok(lines) => lines,
        Err(error) => return failed(format!("{error:#}")),
    };
    let now = lines.into_iter().filter(|line| line.check != "kernel.log");
    let grave = now.flat_map(|line| line.findings).find(Finding::condemns);
    grave.map_or(Outcome::Done, |finding| failed(format!("{}: {}", finding.class, finding.detail)))
}

/// Not while a process holds it: a reset takes away from under it what it computes on.
fn reset_gpu(device: Option<&Device>, shop: &Shop, tools: &Tools) -> Outcome {
    let which = match device {
        Some(Device::Pci(address)) => Some(address.to_string()),
        Some(Device::Gpu(index)) => Some(index.to_string()),
        _ => None,
    };
    let of_it = which.iter().flat_map(|which| ["-i", which]);
    let path = shop.dir.join("processes.csv");
    let output = match File::create(&path) {
        Ok(file) => file,
        Err(error) => return failed(format!("{}: {error}", path.display())),
    };
    let mut query = Command::new(&tools.nvidia_smi);
    query.args(["--query-compute-apps=pid,process_name", "--format=csv,noheader"]);
    query.args(of_it.clone());
    match shop.run(query, Some(output)) {
        End::NoSuchProgram => return Outcome::Unsupported,
        end if end.code() != Some(0) => return end.failed("nvidia-smi"),
        _ => {}
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some(process) = held.lines().map(str::trim).find(|line| !line.is_empty()) {
        return failed(format!("a process holds it: {process}"));
    }
    let mut reset = Command::new(&tools.nvidia_smi);
    reset.arg("--gpu-reset").args(of_it);
    match shop.run(reset, None) {
        end if end.code() == Some(0) => Outcome::Done,
        end => end.failed("nvidia-smi --gpu-reset"),
    }
}

fn command(line: &CommandLine, shop: &Shop) -> Outcome {
    let Some((program, arguments)) = line.words.split_first() else {
        return failed("the command has no words");
    };
    let mut command = Command::new(program);
    command.args(arguments).envs(&line.environment);
    let end = shop.run(command, None);
    match end.code() {
        Some(0) if line.restarts => wait_for_the_end(program, shop),
        Some(0) => Outcome::Done,
        Some(UNSUPPORTED) => Outcome::Unsupported,
        _ => end.failed(program),
    }
}

/// `systemctl reboot` is over long before the machine is down. This process goes down with it.
fn wait_for_the_end(program: &str, shop: &Shop) -> Outcome {
    while !shop.is_over_time() {
        std::thread::sleep(LOOK_AGAIN);
    }
    failed(format!("{program} ended well, and the machine did not start anew in time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_api::work::Work;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::time::Instant;

    struct Bench {
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { folder: tempfile::tempdir().unwrap() }
        }

        fn program(&self, name: &str, script: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            let text = format!("#!/bin/sh\necho \"$@\" >> \"$0.log\"\n{script}\n");
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            path
        }

        fn log(&self, name: &str) -> String {
            std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
        }

        /// With these two scripts in place of `lindos` and `nvidia-smi`.
        fn carry_out(&self, task: Task, lindos: &str, nvidia_smi: Option<&str>) -> Outcome {
            let dir = self.folder.path().to_path_buf();
            let deadline = Instant::now() + Duration::from_secs(30);
            let missing = Path::new("/nowhere/nvidia-smi").to_path_buf();
            let tools = Tools {
                lindos: self.program("lindos", lindos),
                nvidia_smi: nvidia_smi.map_or(missing, |it| self.program("nvidia-smi", it)),
            };
            let plan = Plan::new(1, "n0", Work { task, limit: Millis(30_000) });
            carry_out(&plan, &Shop { dir, deadline }, &tools).outcome
        }
    }

    fn reason(outcome: Outcome) -> String {
        match outcome {
            Outcome::Failed { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_gpu_is_reset_unless_a_process_holds_it() {
        let bench = Bench::new();
        let task = || Task::ResetGpu { device: Some(Device::Gpu(3)) };
        assert_eq!(bench.carry_out(task(), "", None), Outcome::Unsupported);
        assert_eq!(bench.carry_out(task(), "", Some("exit 0")), Outcome::Done);
        let log = bench.log("nvidia-smi.log");
        assert!(log.ends_with("--gpu-reset -i 3\n"), "{log}");

        let bench = Bench::new();
        let held = "case $1 in --query*) echo 4711, python;; esac";
        let why = reason(bench.carry_out(task(), "", Some(held)));
        assert_eq!(why, "a process holds it: 4711, python");
        assert!(!bench.log("nvidia-smi.log").contains("--gpu-reset"));
        let fails = "case $1 in --gpu*) echo 'it hangs' >&2; exit 4;; esac";
        assert_eq!(reason(Bench::new().carry_out(task(), "", Some(fails))), "it hangs");
    }

    #[test]
    fn diagnostics_fail_over_what_would_take_the_node_out_and_over_nothing_else() {
        let line = |check: &str, severity: &str| {
            format!(
                r#"[{{"check":"{check}","findings":[{{"class":"gpu.missing","severity":"{severity}",
                "action":"inspect","suspect":"hardware","device":null,"code":null,"source":"nvml",
                "detail":"7 of 8 are there","cause":null}}]}}]"#
            )
        };
        let tool = |found: &str| format!("case $1 in health) echo '{found}';; esac");
        let task = || Task::Diagnose { span: Millis(1500) };
        let of = |found: String| {
            let bench = Bench::new();
            let outcome = bench.carry_out(task(), &tool(&found), None);
            (outcome, bench.log("lindos.log"))
        };
        let (lost, log) = of(line("gpu.count", "fatal"));
        assert_eq!(reason(lost), "gpu.missing: 7 of 8 are there");
        assert!(!log.contains("burnin"), "{log}");
        let (mild, log) = of(line("gpu.count", "warning"));
        assert_eq!(mild, Outcome::Done, "a person looks at it later");
        assert!(log.contains("burnin --seconds 2 --node n0 --out "), "{log}");
        assert_eq!(of(line("kernel.log", "fatal")).0, Outcome::Done, "it is of another day");
        let (nonsense, _) = of("no json".to_string());
        assert!(reason(nonsense).contains("makes no sense"));
    }

    /// A burn-in that writes this report, and ends so.
    fn reports(tests: &str, code: u8) -> String {
        let sealed = format!(
            r#"{{"report":{{"version":1,"node":"n0","started_at":0,"took_ms":1,"lindos":"0","kernel":"",
            "cpu":"","platform":null,"verdict":"fail","tests":[{tests}]}},"signature":null}}"#
        );
        format!(
            "for w; do case $last in --out) echo '{sealed}' > \"$w\";; esac; last=$w; done; exit {code}"
        )
    }

    fn fails(name: &str) -> String {
        format!(
            r#"{{"name":"{name}","figure":null,"expected":null,"verdict":"fail","detail":"bad"}}"#
        )
    }

    fn ended(task: Task, lindos: &str) -> (Ended, String) {
        let bench = Bench::new();
        let dir = bench.folder.path().to_path_buf();
        let deadline = Instant::now() + Duration::from_secs(30);
        let tools = Tools { lindos: bench.program("lindos", lindos), nvidia_smi: "none".into() };
        let plan = Plan::new(1, "n0", Work { task, limit: Millis(30_000) });
        let plan = Plan { expected: Some("hgx-h100".into()), ..plan };
        (carry_out(&plan, &Shop { dir, deadline }, &tools), bench.log("lindos.log"))
    }

    #[test]
    fn a_test_of_two_says_of_whom_it_speaks() {
        let peer = || Peer { name: "n1".into(), address: "10.0.0.1:71".into() };
        let meet = || Task::MeetPeer { span: Millis(2000), peer: peer() };
        let all_fail = ["cpu.bits", "network.bits", PEER_DIGEST].map(fails).join(",");
        let (told, log) = ended(meet(), &reports(&all_fail, 1));
        assert!(log.contains("--platform hgx-h100 --peer 10.0.0.1:71 --peer-name n1"), "{log}");
        let bad = |test: &str| failed(format!("{test}: bad"));
        let met = Met { peer: bad(PEER_DIGEST), link: bad("network.bits") };
        assert_eq!(told, Ended { outcome: bad("cpu.bits"), met: Some(met) });
        let (told, _) = ended(meet(), &reports(&fails("network.round_trip"), 1));
        let met = Met { peer: Outcome::Done, link: bad("network.round_trip") };
        assert_eq!(told, Ended { outcome: Outcome::Done, met: Some(met) });
        let (told, _) = ended(meet(), "exit 0");
        assert_eq!(told.met, Some(Met { peer: Outcome::Done, link: Outcome::Done }));
        let (told, _) = ended(meet(), "echo 'out of memory' >&2; exit 1");
        assert_eq!(told, failed("out of memory").into(), "nothing is said of anybody else");
    }

    #[test]
    fn who_cannot_listen_on_its_address_has_not_failed() {
        let answer = || Task::AnswerPeer { span: Millis(2000), address: "10.0.0.1".into() };
        let (told, log) = ended(answer(), "echo 'no such address' >&2; exit 2");
        assert_eq!(told, Outcome::Unsupported.into());
        assert!(log.contains("--answer 10.0.0.1 --answers-at "), "{log}");
        let (told, _) = ended(answer(), &reports(&fails("memory.bits"), 1));
        assert_eq!(told, failed("memory.bits: bad").into());
        let (told, _) = ended(answer(), "kill -9 $$");
        assert!(matches!(told.outcome, Outcome::Failed { .. }), "{told:?}");
    }
}
