//! A control plane made of threads, and a node whose agent is a real process.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod server;

use lindos_api::agent::{Command, GangNode, Launch, Message, Order, Report};
use lindos_api::work::{Task, Work, WorkOrder, WorkStep};
use lindos_model::{
    AttemptReport, Epoch, Exit, GpuSet, JobId, JobSpec, LaunchMode, Millis, Outcome, Rank,
    RankReport, ReportedPhase, job,
};
use server::FakeServer;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Instant;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_lindos-agent-test");

/// One node: its folder, its agent, and the control plane that it speaks with. Everything that
/// runs is fenced at the end.
pub struct Node {
    pub folder: tempfile::TempDir,
    pub server: FakeServer,
    pub agent: Option<Child>,
    heartbeat_ms: u64,
    cgroups: bool,
}

impl Node {
    pub fn start() -> Node {
        Node::with_heartbeat(200)
    }

    pub fn with_heartbeat(heartbeat_ms: u64) -> Node {
        Node::with(heartbeat_ms, true)
    }

    pub fn without_cgroups() -> Node {
        Node::with(200, false)
    }

    fn with(heartbeat_ms: u64, cgroups: bool) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let server = FakeServer::start(&folder.path().join("server.json"));
        let mut node = Node { folder, server, agent: None, heartbeat_ms, cgroups };
        node.start_agent();
        node
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("nodes/n0")
    }

    pub fn work(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    pub fn start_agent(&mut self) {
        let before = self.server.newest().map_or(0, |report| report.incarnation);
        self.agent = Some(self.spawn_agent(Stdio::inherit()));
        self.server.wait("a report of the new agent", |report| report.incarnation > before);
    }

    pub fn spawn_agent(&self, stderr: Stdio) -> Child {
        std::process::Command::new(PROGRAM)
            .args(["agent", "n0"])
            .arg(self.dir())
            .arg(self.folder.path().join("checkpoints"))
            .arg(self.folder.path().join("server.json"))
            .arg(self.heartbeat_ms.to_string())
            .env("RANK", "999")
            .env("LINDOS_TEST_TOOL", format!(". '{}/tool.sh'", self.folder.path().display()))
            .env("LINDOS_CGROUPS", if self.cgroups { "on" } else { "off" })
            .stderr(stderr)
            .spawn()
            .unwrap()
    }

    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Tells the agent to end with a signal, and waits until it has.
    pub fn end_agent(&mut self, signal: rustix::process::Signal) {
        let mut agent = self.agent.take().unwrap();
        kill(agent.id(), signal);
        assert!(agent.wait().unwrap().success(), "it ends as it should");
    }

    /// What a burn-in and the checks of the machine are from now on: a shell script, which finds
    /// their words in its arguments.
    pub fn tool(&self, script: &str) {
        std::fs::write(self.folder.path().join("tool.sh"), script).unwrap();
    }

    pub fn order_work(&self, id: u64, step: WorkStep) {
        let incarnation = self.server.newest().unwrap().incarnation;
        self.server.send(&Message::Work(WorkOrder { id, incarnation, step }));
    }

    pub fn begin(&self, id: u64, task: Task, limit_ms: u64) {
        self.order_work(id, WorkStep::Begin(Work { task, limit: Millis(limit_ms) }));
    }

    pub fn wait_under_way(&self, id: u64) {
        self.server.wait("a work to begin", |report| {
            report.works.iter().any(|work| work.id == id && work.outcome.is_none())
        });
    }

    pub fn wait_outcome(&self, id: u64) -> Outcome {
        let find = |report: &Report| {
            report.works.iter().find(|work| work.id == id).and_then(|work| work.outcome.clone())
        };
        let (report, _) = self.server.wait("a work to end", |report| find(report).is_some());
        find(&report).unwrap()
    }

    /// A job of one rank that runs a shell script.
    pub fn script(&self, script: &str) -> JobSpec {
        let mut spec = job::sample("demo", 1, 1);
        spec.launch = LaunchMode::Plain;
        spec.command = ["sh", "-c", script].map(String::from).into();
        spec.workdir = self.work().to_str().unwrap().to_string();
        spec
    }

    pub fn order(&self, job: u64, epoch: u32, order: Order) {
        let incarnation = self.server.newest().unwrap().incarnation;
        self.server.send(&Message::Command(Command {
            id: 1,
            incarnation,
            job: JobId(job),
            epoch: Epoch(epoch),
            order,
        }));
    }

    pub fn launch(&self, job: u64, epoch: u32, spec: JobSpec) {
        self.order(job, epoch, launch_order(spec, 0));
    }

    pub fn stop(&self, job: u64, epoch: u32, grace_ms: u64) {
        self.order(job, epoch, Order::Stop { grace: Millis(grace_ms) });
    }

    /// Waits until an attempt is as wanted, and returns it and when the control plane knew.
    pub fn wait(
        &self,
        job: u64,
        what: &str,
        wanted: impl Fn(&AttemptReport) -> bool,
    ) -> (AttemptReport, Instant) {
        let (report, at) = self.server.wait(what, |report| {
            report.attempts.iter().any(|attempt| attempt.job == JobId(job) && wanted(attempt))
        });
        (find(&report, job).unwrap(), at)
    }

    pub fn wait_started(&self, job: u64) -> AttemptReport {
        self.wait(job, "the ranks to start", |attempt| {
            !attempt.ranks.is_empty() && attempt.ranks.iter().all(|rank| rank.pid != 0)
        })
        .0
    }

    pub fn wait_gone(&self, job: u64) -> AttemptReport {
        self.wait(job, "the attempt to be gone", |it| it.phase == ReportedPhase::Gone).0
    }

    pub fn shim_pid(&self, job: u64, epoch: u32) -> u32 {
        let path = self.dir().join(format!("attempts/{job}-{epoch}/state.json"));
        let state: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        u32::try_from(state["shim"]["pid"].as_u64().unwrap()).unwrap()
    }

    pub fn log(&self, job: u64, epoch: u32, rank: u32) -> String {
        let path = self.dir().join(format!("logs/{job}-{epoch}/rank-{rank}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Waits until a file that a rank writes has a whole line in it.
    pub fn wait_file(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        let mut text = String::new();
        until(&format!("{name} to be written"), || {
            text = std::fs::read_to_string(&path).unwrap_or_default();
            text.ends_with('\n')
        });
        text.trim().to_string()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let fenced = lindos_agent::fence(&self.dir());
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.wait();
        }
        if !std::thread::panicking() {
            fenced.unwrap();
        }
    }
}

pub fn launch_order(spec: JobSpec, master_port: u16) -> Order {
    let ranks = u32::from(spec.ranks_per_node);
    Order::Launch(Box::new(Launch {
        gpus: GpuSet::first(spec.gpus_per_node),
        first_rank: Rank(0),
        rank_count: ranks,
        world_size: ranks,
        node_rank: 0,
        gang: Arc::new(vec![GangNode { name: "n0".into(), address: "127.0.0.1".into() }]),
        master_port,
        resume_step: None,
        save_every: None,
        array_index: None,
        replica: None,
        spec: Arc::new(spec),
    }))
}

pub fn find(report: &Report, job: u64) -> Option<AttemptReport> {
    report.attempts.iter().find(|attempt| attempt.job == JobId(job)).cloned()
}

pub fn exit_of(rank: &RankReport) -> Exit {
    rank.exit.clone().expect("an exit").exit
}

/// Looks again and again, with a bound: for facts that no report tells of.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < server::PATIENCE, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

pub fn is_alive(pid: u32) -> bool {
    lindos_hardware::process::stat(pid).is_some_and(|stat| stat.is_alive())
}

pub fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
