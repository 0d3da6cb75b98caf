//! A server on a throw-away state, and an agent that does what the test tells it to.

use lindos_api::agent::{
    Command, LogChunk, Message, Order, RankProgress, ReadLog, Report, ReportAck,
};
use lindos_api::client::Client;
use lindos_api::user::{ApiError, EventView, SubmitRequest};
use lindos_api::work::{Task, WorkOrder, WorkReport, WorkStep};
use lindos_journal::MemoryDisk;
use lindos_model::{
    AttemptReport, Epoch, Exit, JobId, Location, NodeSpec, Outcome, Policy, Rank, RankExit,
    RankReport, ReportedPhase, Time, job,
};
use lindos_server::{Fencer, ServerConfig, ServerHandle, StartError};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// Nothing that a test waits for takes nearly so long.
pub const BOUND: Duration = Duration::from_secs(20);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// Notes whom it was to fence, and says what it is told to say.
#[derive(Default)]
pub struct NotingFencer {
    pub fenced: Mutex<Vec<String>>,
}

impl Fencer for NotingFencer {
    fn fence(&self, node: &str) -> Result<(), String> {
        self.fenced.lock().unwrap().push(node.to_string());
        Ok(())
    }
}

pub fn config(state: &Path) -> ServerConfig {
    ServerConfig {
        state_dir: state.to_path_buf(),
        listen: "127.0.0.1:0".parse().unwrap(),
        policy: Policy::default(),
        fencer: Arc::new(NotingFencer::default()),
        mender: Arc::new(lindos_server::AgentsAlone),
        alerts: None,
        straggler_window: None,
        version: "0-test".to_string(),
    }
}

pub struct Bench {
    pub state: TempDir,
    pub server: Option<ServerHandle>,
}

impl Bench {
    pub async fn new() -> Bench {
        let state = tempfile::tempdir().unwrap();
        let server = lindos_server::start(config(state.path())).await.unwrap();
        Bench { state, server: Some(server) }
    }

    pub async fn on_memory(disk: &MemoryDisk) -> Result<Bench, StartError> {
        Bench::on_memory_under(disk, Policy::default()).await
    }

    pub async fn on_memory_under(disk: &MemoryDisk, policy: Policy) -> Result<Bench, StartError> {
        let state = tempfile::tempdir().unwrap();
        let disk = disk.clone();
        let config = ServerConfig { policy, ..config(state.path()) };
        let server = lindos_server::start_on(config, move || Ok(disk.clone())).await?;
        Ok(Bench { state, server: Some(server) })
    }

    pub fn server(&self) -> &ServerHandle {
        self.server.as_ref().expect("it runs")
    }

    pub fn client(&self) -> Client {
        Client::new(self.server().url(), self.server().token())
    }

    /// As if the process had been killed.
    pub fn kill(&mut self) {
        drop(self.server.take().expect("it runs"));
    }

    pub async fn restart(&mut self) {
        self.server = Some(lindos_server::start(config(self.state.path())).await.unwrap());
    }

    pub async fn agent(&self, name: &str, gpus: u16) -> FakeAgent {
        FakeAgent::connect(self.server(), name, gpus, 1).await
    }

    /// Waits for the first event after `after` of this kind.
    pub async fn event(&self, after: u64, kind: &str) -> EventView {
        let mut events = self.client().follow_events(after, None).await.unwrap();
        let first = async {
            loop {
                let event = events.next().await.unwrap().expect("the stream has no end");
                if event.kind == kind {
                    return event;
                }
            }
        };
        soon(kind, first).await
    }

    pub async fn submit(&self, nodes: u32, gpus: u16) -> u64 {
        self.client().submit(&request(nodes, gpus)).await.unwrap().job
    }
}

pub fn request(nodes: u32, gpus: u16) -> SubmitRequest {
    SubmitRequest { request: None, user: Some("ada".into()), spec: job::sample("gpt", nodes, gpus) }
}

pub struct FakeAgent {
    http: reqwest::Client,
    url: String,
    token: String,
    pub report: Report,
    stream: reqwest::Response,
    buffer: Vec<u8>,
}

impl FakeAgent {
    pub async fn connect(
        server: &ServerHandle,
        name: &str,
        gpus: u16,
        incarnation: u64,
    ) -> FakeAgent {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (url, token) = (server.url().to_string(), server.token().to_string());
        let path = format!("{url}/v1/agent/messages?node={name}&incarnation={incarnation}");
        let stream = http.get(path).bearer_auth(&token).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        let node = NodeSpec {
            name: name.to_string(),
            gpus,
            platform: "generic".into(),
            address: "127.0.0.1".into(),
            location: Location::default(),
            labels: std::collections::BTreeMap::new(),
        };
        let report = Report {
            node,
            version: "0".into(),
            incarnation,
            seq: 0,
            attempts: Vec::new(),
            progress: Vec::new(),
            symptoms: Vec::new(),
            findings: Vec::new(),
            can: Vec::new(),
            works: Vec::new(),
            standbys: Vec::new(),
        };
        FakeAgent { http, url, token, report, stream, buffer: Vec::new() }
    }

    /// The same agent with another control plane of the same state.
    pub async fn reconnect(self, server: &ServerHandle) -> FakeAgent {
        let Report { node, incarnation, .. } = &self.report;
        let fresh = FakeAgent::connect(server, &node.name, node.gpus, *incarnation).await;
        FakeAgent { report: self.report, ..fresh }
    }

    pub async fn send(&self, report: &Report) -> Result<ReportAck, (u16, ApiError)> {
        let request = self.http.post(format!("{}/v1/agent/report", self.url));
        let sent = request.bearer_auth(&self.token).json(report).send();
        let response = soon("an answer to a report", sent).await.unwrap();
        let status = response.status().as_u16();
        if status == 200 {
            Ok(response.json().await.unwrap())
        } else {
            Err((status, response.json().await.unwrap()))
        }
    }

    /// The next report of what there is.
    pub async fn say(&mut self) {
        self.report.seq += 1;
        let ack = self.send(&self.report).await.unwrap();
        assert_eq!(ack.seq, self.report.seq);
    }

    async fn message(&mut self) -> Message {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.len() > 1 {
                    return serde_json::from_slice(&line).unwrap();
                }
                continue;
            }
            let chunk = soon("a message", self.stream.chunk()).await.unwrap();
            self.buffer.extend_from_slice(&chunk.expect("the stream has no end"));
        }
    }

    /// The next command of this kind; others, which may be said again at any time, are let pass.
    pub async fn command(&mut self, wanted: impl Fn(&Order) -> bool) -> Command {
        let next = async {
            loop {
                match self.message().await {
                    Message::Command(command) if wanted(&command.order) => return command,
                    _ => {}
                }
            }
        };
        soon("a command", next).await
    }

    pub async fn launch(&mut self) -> Command {
        self.command(|order| matches!(order, Order::Launch(_))).await
    }

    /// The next order of this kind for a work.
    pub async fn work(&mut self, wanted: impl Fn(&WorkStep) -> bool) -> WorkOrder {
        let next = async {
            loop {
                match self.message().await {
                    Message::Work(order) if wanted(&order.step) => return order,
                    _ => {}
                }
            }
        };
        soon("an order for a work", next).await
    }

    /// Begins what it is told to begin next, and says so.
    pub async fn begins(&mut self) -> (u64, Task) {
        let (order, work) = loop {
            let order = self.work(|step| matches!(step, WorkStep::Begin(_))).await;
            assert_eq!(order.incarnation, self.report.incarnation);
            let is_new = self.report.works.iter().all(|work| work.id != order.id);
            // An order that does not show soon is given again.
            if let (true, WorkStep::Begin(work)) = (is_new, order.step.clone()) {
                break (order, work);
            }
        };
        self.report.works.push(WorkReport::new(order.id, None));
        self.say().await;
        (order.id, work.task)
    }

    pub async fn work_ends(&mut self, id: u64, outcome: Outcome) {
        let work = self.report.works.iter_mut().find(|work| work.id == id).unwrap();
        work.outcome = Some(outcome);
        self.say().await;
    }

    pub async fn read_log(&mut self) -> ReadLog {
        loop {
            if let Message::ReadLog(ask) = self.message().await {
                return ask;
            }
        }
    }

    pub async fn answer_log(&self, chunk: &LogChunk) {
        let request = self.http.post(format!("{}/v1/agent/log-chunk", self.url));
        let response = request.bearer_auth(&self.token).json(chunk).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }

    /// Runs what a launch asks for: its ranks have processes now.
    pub fn runs(&mut self, command: &Command) {
        let Order::Launch(launch) = &command.order else { panic!("not a launch: {command:?}") };
        let ranks = (0..launch.rank_count)
            .map(|index| Rank(launch.first_rank.0 + index))
            .map(|rank| RankReport { rank, pid: 1000 + rank.0, exit: None })
            .collect();
        let (job, epoch) = (command.job, command.epoch);
        self.report.attempts =
            vec![AttemptReport { job, epoch, phase: ReportedPhase::Running, ranks }];
    }

    /// All its ranks have ended so.
    pub fn ended(&mut self, exit: &Exit) {
        let at = Time(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
                as u64,
        );
        for attempt in &mut self.report.attempts {
            attempt.phase = ReportedPhase::Gone;
            for rank in &mut attempt.ranks {
                rank.exit = Some(RankExit { exit: exit.clone(), at, stopping: false });
            }
        }
    }

    pub fn reached(&mut self, job: u64, epoch: u32, step: u64, loss: f64) {
        self.report.progress = vec![RankProgress {
            job: JobId(job),
            epoch: Epoch(epoch),
            rank: Rank(0),
            step: Some(step),
            loss: Some(loss),
            tokens: Some(step * 1000),
            total_steps: Some(100),
            checkpoint: None,
            checkpoint_blocked_ms: 0,
            loss_broken_from: None,
            activity: None,
            pace: None,
            stack: None,
            stands_by: false,
        }];
    }
}
