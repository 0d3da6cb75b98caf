//! A folder of its own for each test, and the `lindos` binary in it.

#![allow(dead_code, reason = "every test file uses a part")]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Nothing that is waited for here takes longer, unless it is broken.
pub const BOUND: Duration = Duration::from_secs(90);

pub struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Lab {
        Lab { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A job whose ranks run this shell script; its output `step N loss X` is progress.
    pub fn job(&self, name: &str, nodes: u32, script: &str, more: &str) -> PathBuf {
        self.job_of(name, &format!("nodes = {nodes}\ngpus_per_node = 1"), script, more)
    }

    /// The same of so many replicas of one rank each, of which all but one are enough.
    pub fn job_of_replicas(&self, name: &str, replicas: u32, script: &str, more: &str) -> PathBuf {
        let least = replicas - 1;
        let gang = format!(
            "nodes = {replicas}\ngpus_per_node = 1\nreplicas = {replicas}\nmin_replicas = {least}"
        );
        self.job_of(name, &gang, script, more)
    }

    /// The same with this gang.
    pub fn job_of(&self, name: &str, gang: &str, script: &str, more: &str) -> PathBuf {
        let text = format!(
            "name = \"{name}\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n[gang]\n{gang}\n[progress]\n\
             pattern = 'step (?<step>\\d+) loss (?<loss>[0-9.]+)'\n{more}"
        );
        self.write(&format!("{name}.toml"), text)
    }

    /// `lindos` with these words, in this lab's state folder.
    pub fn lindos<I, S>(&self, words: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lindos"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("LINDOS_STATE", self.state())
            .env("TZ", "UTC")
            // Tests are of the fleet, and not of the machine that they run on.
            .env("LINDOS_HEALTH_ROOT", self.path("machine"))
            .env_remove("LINDOS_SERVER")
            .env_remove("LINDOS_TOKEN")
            .stdin(Stdio::null());
        command
    }

    pub fn output<I, S>(&self, words: I) -> Ended
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        Ended::of(&self.lindos(words).output().unwrap())
    }

    /// The answer of a `--json` command that must succeed.
    pub fn json<const N: usize>(&self, words: [&str; N]) -> Value {
        let ended = self.output(words.into_iter().chain(["--json"]));
        assert_eq!(ended.code, 0, "{words:?}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
    }

    /// Starts `lindos` and reads its standard output line by line.
    pub fn start<I, S>(&self, words: I) -> Running
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        Running::start(self.lindos(words))
    }

    /// `lindos up`, once it answers.
    pub fn up(&self, words: &[&str]) -> Running {
        self.up_with(words, &[])
    }

    /// The same with these variables.
    pub fn up_with(&self, words: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut command = self.lindos(["up", "--listen", "127.0.0.1:0"].iter().chain(words));
        command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = Running::of(command.spawn().unwrap());
        wait_until("the control plane answers", || {
            let ended = self.output(["nodes", "--json"]);
            let nodes: Value = serde_json::from_str(&ended.stdout).ok()?;
            let all_up = nodes.as_array()?.iter().all(|node| node["state"] == "up");
            (self.state().join("server.json").exists() && all_up && nodes[0].is_object())
                .then_some(())
        });
        running
    }

    /// Every process that belongs to this lab: agents and shims by their arguments, ranks by
    /// their environment.
    pub fn processes(&self) -> Vec<i32> {
        let needle = self.folder.path().to_string_lossy().into_owned();
        let own = std::process::id().cast_signed();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let reads = ["cmdline", "environ"].iter().any(|file| {
                let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).contains(&needle)
            });
            if reads && pid != own {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Lab {
    /// Whatever a failed test has left: only processes with this lab's own folder in them.
    fn drop(&mut self) {
        for _ in 0..20 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for pid in left {
                kill(pid, Signal::KILL);
            }
            std::thread::yield_now();
        }
    }
}

pub fn kill(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

pub fn is_alive(pid: i32) -> bool {
    // A zombie whose parent is gone too is nobody's process any more.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

/// Whether the job has ended; one that completes passes through `stopping`.
pub fn is_over(job: &Value) -> bool {
    ["completed", "failed", "cancelled"].iter().any(|state| job["state"] == *state)
}

pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(began.elapsed() < BOUND, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    fn of(output: &Output) -> Ended {
        Ended {
            code: code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It failed in this way, with these words and a hint.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in: {}", self.stderr);
        }
        assert!(self.stdout.is_empty(), "a failure writes no data: {}", self.stdout);
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0))
}

/// A `lindos` that runs, and the lines that it has written.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    pub seen: Vec<String>,
    stderr: Receiver<String>,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::of(command.spawn().unwrap())
    }

    fn of(mut child: Child) -> Running {
        let lines = read_lines(child.stdout.take().unwrap());
        let (sender, stderr) = channel();
        let mut stream = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut stream, &mut text);
            let _ = sender.send(text);
        });
        Running { child, lines, seen: Vec::new(), stderr }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Reads lines of JSON until one of this type is as wanted.
    #[track_caller]
    pub fn wait_for(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_within(BOUND, kind, wanted)
    }

    /// For what takes half a minute on a machine that has nothing else to do.
    #[track_caller]
    pub fn wait_for_long(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_within(BOUND * 4, kind, wanted)
    }

    #[track_caller]
    fn wait_within(
        &mut self,
        bound: Duration,
        kind: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let began = Instant::now();
        while began.elapsed() < bound {
            match self.lines.recv_timeout(bound.saturating_sub(began.elapsed())) {
                Ok(line) => {
                    let value: Value = serde_json::from_str(&line)
                        .unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
                    self.seen.push(line);
                    if value["type"] == kind && wanted(&value) {
                        return value;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let stderr = self.stderr.recv_timeout(Duration::from_millis(200)).unwrap_or_default();
        panic!("no `{kind}` as wanted came after:\n{}\n{stderr}", self.seen.join("\n"));
    }

    /// Waits for its end: what is left of its output, and how it ended.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let status = wait_until("lindos ends", || self.child.try_wait().unwrap());
        let mut lines = std::mem::take(&mut self.seen);
        lines.extend(self.lines.iter());
        Ended {
            code: code(status),
            stdout: lines.join("\n"),
            stderr: self.stderr.recv_timeout(BOUND).unwrap_or_default(),
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Kills it as the machine would: no last word, nothing cleaned up.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Steps from 1 to `steps`, `every` seconds apart.
pub fn steps(steps: u32, every: &str) -> String {
    format!(
        "i=0; while [ $i -lt {steps} ]; do i=$((i+1)); echo \"step $i loss $((1000-i)).5\"; \
         sleep {every}; done"
    )
}

/// Ten steps a second until there is this file.
pub fn steps_until(file: &Path) -> String {
    format!(
        "i=0; until test -e {}; do i=$((i+1)); echo \"step $i loss $((1000-i)).5\"; sleep 0.1; done",
        file.display()
    )
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}
