//! The process that carries out one work: `PROGRAM work DIR`.

use super::steps::{self, Tools};
use super::{FOLDER, Plan};
use crate::files;
use anyhow::Context as _;
use lindos_api::work::Task;
use lindos_hardware::process::{self, ProcessId};
use lindos_model::Outcome;
use rustix::process::Signal;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a program writes is kept up to here.
const OUTPUT_MAX: u64 = 1 << 20;
const LINE_MAX: usize = 300;
/// What a program wrote last is waited for so long: a child of its may hold the pipe for ever.
const PIPE_WAIT: Duration = Duration::from_millis(500);

/// Carries out what the plan in the folder says, and writes down how it ended.
pub fn run(dir: &Path) -> anyhow::Result<()> {
    let plan: Plan = files::read_json(&super::plan_file(dir))?;
    if !matches!(plan.work.task, Task::ResetGpu { .. } | Task::Command(_) | Task::Mended) {
        step_back();
    }
    let deadline = Instant::now() + Duration::from_millis(plan.work.limit.0);
    let shop = Shop { dir: dir.to_path_buf(), deadline };
    let ended = steps::carry_out(&plan, &shop, &Tools::installed()?);
    super::end(dir, &ended).with_context(|| format!("cannot end {}", dir.display()))
}

/// It takes what others leave, and is the first to go when memory runs out.
fn step_back() {
    let _ = rustix::process::setpriority_process(None, 19);
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// Where the programs of a work run, and until when.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) dir: PathBuf,
    pub(super) deadline: Instant,
}

/// How a program ended.
#[derive(Debug)]
pub(super) enum End {
    NoSuchProgram,
    NotStarted(String),
    OverTime,
    Exit { status: ExitStatus, last_line: Option<String> },
}

impl Shop {
    pub(super) fn is_over_time(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Runs a program in a process group of its own. At the deadline all of it is killed.
    /// `stdout`: where its output goes; otherwise to the log.
    pub(super) fn run(&self, mut command: Command, stdout: Option<File>) -> End {
        let output = stdout.map_or_else(Stdio::piped, Stdio::from);
        command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
        command.env(FOLDER, &self.dir);
        lindos_hardware::child::prepare(&mut command, Vec::new());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return End::NoSuchProgram;
            }
            Err(error) => return End::NotStarted(error.to_string()),
        };
        let said = Arc::new(Mutex::new(Said::default()));
        let (closed, closes) = channel();
        if let Some(stdout) = child.stdout.take() {
            self.keep(stdout, None);
        }
        if let Some(stderr) = child.stderr.take() {
            self.keep(stderr, Some((said.clone(), closed)));
        }
        let (over, is_over) = channel::<()>();
        let (deadline, leader, dir) = (self.deadline, child.id(), self.dir.clone());
        let watchdog = std::thread::spawn(move || {
            let left = deadline.saturating_duration_since(Instant::now());
            let late = is_over.recv_timeout(left) == Err(RecvTimeoutError::Timeout);
            if late {
                kill_all(leader, &dir);
            }
            late
        });
        let status = child.wait();
        drop(over);
        if watchdog.join().unwrap_or(false) {
            return End::OverTime;
        }
        let _ = closes.recv_timeout(PIPE_WAIT);
        let last_line = said.lock().unwrap_or_else(PoisonError::into_inner).last_line();
        match status {
            Ok(status) => End::Exit { status, last_line },
            Err(error) => End::NotStarted(error.to_string()),
        }
    }

    /// Reads a pipe to its end, into the log as far as it fits.
    fn keep(
        &self,
        mut pipe: impl Read + Send + 'static,
        tail: Option<(Arc<Mutex<Said>>, std::sync::mpsc::Sender<()>)>,
    ) {
        let log = File::options().create(true).append(true).open(self.dir.join("output.log"));
        std::thread::spawn(move || {
            let mut log = log.ok();
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let bytes = &buffer[..count];
                if let Some((said, _)) = &tail {
                    said.lock().unwrap_or_else(PoisonError::into_inner).take(bytes);
                }
                let has_room = |file: &File| file.metadata().is_ok_and(|it| it.len() < OUTPUT_MAX);
                if let Some(file) = log.as_mut().filter(|file| has_room(file)) {
                    let _ = file.write_all(bytes);
                }
            }
            if let Some((_, closed)) = tail {
                let _ = closed.send(());
            }
        });
    }
}

fn kill_all(leader: u32, dir: &Path) {
    process::signal_group(leader, Signal::KILL);
    let own = ProcessId::current();
    for id in process::with_variable(&format!("{FOLDER}={}", dir.display())) {
        if id.pid != own.pid {
            let _ = process::kill_verified(id);
        }
    }
}

/// The end of what a program wrote.
#[derive(Debug, Default)]
struct Said(Vec<u8>);

impl Said {
    fn take(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let surplus = self.0.len().saturating_sub(4096);
        self.0.drain(..surplus);
    }

    fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.0);
        let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
        let plain = line.trim().chars().filter(|c| !c.is_control()).take(LINE_MAX);
        Some(plain.collect())
    }
}

impl End {
    /// Why it is a failure, in words.
    pub(super) fn failed(self, what: &str) -> Outcome {
        let reason = match self {
            End::NoSuchProgram => format!("{what}: there is no such program"),
            End::NotStarted(error) => format!("{what} could not be started: {error}"),
            End::OverTime => format!("{what} was not over in time and was killed"),
            End::Exit { last_line: Some(line), .. } => line,
            End::Exit { status, .. } => match (status.code(), status.signal()) {
                (Some(code), _) => format!("{what} ended with status {code}"),
                (None, Some(signal)) => format!("{what} was killed by signal {signal}"),
                (None, None) => format!("{what} failed"),
            },
        };
        Outcome::Failed { reason }
    }

    pub(super) fn code(&self) -> Option<i32> {
        match self {
            End::Exit { status, .. } => status.code(),
            _ => None,
        }
    }
}
