//! One rank, from its parent's side.

use super::last_words::Tail;
use super::progress::{self, OutputScanner};
use super::stacks::{self, Listener};
use crate::environment::{launch_env, standby_env};
use crate::logs::LogWriter;
use crate::plan::{Plan, RankState, Reading};
use lindos_hardware::child;
use lindos_hardware::process::{ProcessId, signal_group};
use lindos_model::{Exit, Rank, RankExit, Symptom, Time, Waited};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, Read as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

/// Output read from one rank before the others get their turn.
const READ_BYTES_MAX: usize = 1 << 20;
/// Messages read from one rank before the others get their turn.
const MESSAGES_MAX: usize = 256;

#[derive(Debug)]
pub struct RankProcess {
    rank: Rank,
    process: Option<ProcessId>,
    exit: Option<RankExit>,
    pub output: Option<PipeReader>,
    pub socket: Option<UnixDatagram>,
    log: LogWriter,
    tail: Tail,
    symptom: Option<Symptom>,
    scanner: Option<OutputScanner>,
    reading: Reading,
    messages_ignored: u64,
    listener: Option<Listener>,
}

/// What all ranks of a node have in common.
#[derive(Debug)]
pub struct Surroundings {
    pub inherited: Vec<(OsString, OsString)>,
    pub nvidia: bool,
}

impl RankProcess {
    /// Starts rank number `local` of this node. One that cannot be started has an exit at once.
    pub fn start(
        plan: &Plan,
        local: u32,
        surroundings: &Surroundings,
        entrances: Vec<File>,
    ) -> Self {
        let spec = &plan.launch.spec;
        let rank = Rank(plan.launch.first_rank.0 + local);
        let mut this = RankProcess {
            rank,
            process: None,
            exit: None,
            output: None,
            // One that waits for a rank has nothing to tell.
            socket: if plan.is_standby() { None } else { bind_socket(&plan.rank_socket(rank)) },
            log: LogWriter::new(&plan.log_dir, rank, spec.log_bytes_max, spec.log_files_max),
            tail: Tail::default(),
            symptom: None,
            scanner: spec.progress_pattern.as_deref().and_then(OutputScanner::new),
            reading: Reading::default(),
            messages_ignored: 0,
            listener: None,
        };
        if let Err(exit) = this.spawn(plan, local, surroundings, entrances) {
            let line = format!("[lindos: {exit}]\n");
            this.log.write(line.as_bytes());
            this.exit = Some(RankExit { exit, at: now(), stopping: false });
        }
        this
    }

    fn spawn(
        &mut self,
        plan: &Plan,
        local: u32,
        surroundings: &Surroundings,
        entrances: Vec<File>,
    ) -> Result<(), Exit> {
        let spec = &plan.launch.spec;
        if !Path::new(&spec.workdir).is_dir() {
            return Err(Exit::not_started(format!("there is no folder {}", spec.workdir)));
        }
        let Some((program, arguments)) = spec.command.split_first() else {
            return Err(Exit::not_started("the command is empty"));
        };
        let (reader, writer) = io::pipe().map_err(|_| Exit::Lost)?;
        rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK).map_err(|_| Exit::Lost)?;
        let (inherited, nvidia) = (surroundings.inherited.iter().cloned(), surroundings.nvidia);
        let environment = if plan.is_standby() {
            standby_env(plan, local, inherited, nvidia)
        } else {
            launch_env(plan, local, inherited, nvidia)
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&spec.workdir)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(|_| Exit::Lost)?)
            .stderr(writer);
        child::prepare(&mut command, entrances);
        let child = command.spawn().map_err(|error| not_started(&error, program, &spec.workdir))?;
        self.process = ProcessId::of(child.id());
        self.output = Some(reader);
        Ok(())
    }

    /// What waited goes on as rank number `local` of an attempt on this node. It learns of it later.
    pub fn go_on(&mut self, plan: &Plan, local: u32) {
        let spec = &plan.launch.spec;
        self.rank = Rank(plan.launch.first_rank.0 + local);
        self.socket = bind_socket(&plan.rank_socket(self.rank));
        self.log = LogWriter::new(&plan.log_dir, self.rank, spec.log_bytes_max, spec.log_files_max);
        self.scanner = spec.progress_pattern.as_deref().and_then(OutputScanner::new);
        self.reading = Reading::default();
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.map(|process| process.pid)
    }

    pub fn process(&self) -> Option<ProcessId> {
        self.process
    }

    /// The newest step that it has told.
    pub fn step(&self) -> Option<u64> {
        self.reading.step
    }

    pub fn has_ended(&self) -> bool {
        self.exit.is_some()
    }

    pub fn end(&mut self, exit: Exit, stopping: bool) {
        if self.exit.is_none() {
            // Whoever is told to stop has no cause of its own.
            if !exit.is_success() && !stopping {
                self.symptom = self.tail.symptom();
            }
            self.exit = Some(RankExit { exit, at: now(), stopping });
        }
    }

    /// To every process of the rank that has not left its group.
    pub fn signal(&self, signal: Signal) {
        if let (Some(pid), None) = (self.pid(), &self.exit) {
            signal_group(pid, signal);
        }
    }

    /// Reads what is there. Returns whether the readings changed.
    pub fn read_output(&mut self, buffer: &mut [u8]) -> bool {
        let mut changed = false;
        let mut read = 0;
        while let Some(output) = &mut self.output {
            match output.read(buffer) {
                Ok(0) => self.output = None,
                Ok(length) => {
                    self.log.write(&buffer[..length]);
                    self.tail.push(&buffer[..length]);
                    if let Some(scanner) = &mut self.scanner {
                        changed |= scanner.scan(&buffer[..length], &mut self.reading);
                    }
                    read += length;
                    if read >= READ_BYTES_MAX {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.output = None,
            }
        }
        changed
    }

    /// Takes the messages that are there. Returns whether the readings changed.
    pub fn read_messages(&mut self, buffer: &mut [u8]) -> bool {
        let mut changed = false;
        let Some(socket) = &self.socket else { return false };
        for _ in 0..MESSAGES_MAX {
            match socket.recv(buffer) {
                Ok(length) if progress::apply_message(&buffer[..length], &mut self.reading) => {
                    changed = true;
                }
                Ok(length) => match stacks::listener(&buffer[..length]) {
                    Some(listener) => self.listener = Some(listener),
                    None => self.messages_ignored += 1,
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        changed
    }

    /// What it has waited for others, if it says so.
    pub fn waited(&self) -> Option<Waited> {
        self.reading.waited
    }

    /// The process of it that can be asked where it stands.
    pub fn listener(&self) -> Option<Listener> {
        self.listener
    }

    /// What it has said and done itself.
    pub fn state(&self) -> RankState {
        RankState {
            rank: self.rank,
            process: self.process,
            exit: self.exit.clone(),
            reading: (self.reading != Reading::default()).then(|| self.reading.clone()),
            activity: None,
            stack: None,
            pace: None,
            symptom: self.symptom.clone(),
            output_lost_bytes: self.log.lost_bytes(),
            messages_ignored: self.messages_ignored,
        }
    }
}

/// Without its socket a rank still runs; its progress is then only in its output.
fn bind_socket(path: &Path) -> Option<UnixDatagram> {
    let _ = std::fs::remove_file(path);
    let socket = UnixDatagram::bind(path).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// Whose fault it is that a command could not be executed: the machine's, when it was short of
/// something; otherwise the command's.
fn not_started(error: &io::Error, program: &str, workdir: &str) -> Exit {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::WouldBlock | Kind::OutOfMemory => Exit::Lost,
        Kind::NotFound if Path::new(workdir).join(program).exists() => Exit::not_started(format!(
            "`{program}` is there, but the interpreter that its first line names is not"
        )),
        Kind::NotFound if program.contains('/') => {
            Exit::not_started(format!("there is no `{program}` (seen from {workdir})"))
        }
        Kind::NotFound => {
            Exit::not_started(format!("there is no `{program}` in any folder of PATH"))
        }
        Kind::PermissionDenied => {
            Exit::not_started(format!("`{program}` may not be executed (see its permissions)"))
        }
        _ => Exit::not_started(format!("`{program}` could not be executed: {error}")),
    }
}

pub fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time(since.map_or(0, |since| since.as_millis() as u64))
}
