//! The parent of the ranks of one attempt on one node: one thread, one `poll`.
//!
//! It starts the ranks from its main thread, and the kernel kills them when that thread ends, so
//! that no rank ever trains on unseen. It inherits every process that a rank leaves behind, so
//! that "it has no children" means "nothing of this attempt lives". It ends when that is so, and
//! not before its final state is on the disk.

mod activity;
mod clients;
mod ending;
mod last_words;
mod pace;
mod progress;
mod rank;
mod stacks;
mod standby;

pub use rank::now;

use crate::files;
use crate::plan::{Plan, RankState, Request, State};
use anyhow::Context as _;
use clients::{CLIENTS_MAX, Client};
use lindos_hardware::cgroup::{Cgroup, KernelCgroup};
use lindos_hardware::child;
use lindos_hardware::process::{self, ProcessId};
use lindos_hardware::signals::SignalFile;
use lindos_model::{RankPace, ReportedPhase};
use rank::{RankProcess, Surroundings};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

const SIGNAL_HUP: i32 = 1;
const SIGNAL_INT: i32 = 2;
const SIGNAL_KILL: i32 = 9;
const SIGNAL_TERM: i32 = 15;
const SIGNAL_CHLD: i32 = 17;

/// Readings are passed on at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// What waits for a rank ends when no agent has been there for so long: nobody else would end it.
const ALONE_MAX: Duration = Duration::from_secs(60);
/// SIGKILL is sent again to whatever is left, at first and at most this often.
const KILL_INTERVAL_MIN: Duration = Duration::from_millis(20);
const KILL_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// Between tries to write the final state on a full disk.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the shim of the attempt in `dir`, until nothing of it lives. Its standard input is the
/// socket on which it listens.
pub fn run(dir: &Path) -> anyhow::Result<()> {
    // It fails for a leader of a process group, which a shim is only when started by hand.
    let _ = rustix::process::setsid();
    child::keep_inherited_files_from_children();
    child::become_subreaper().context("cannot become the parent of orphans")?;
    let listener = inherited_listener()?;
    let signals = SignalFile::new(&[SIGNAL_CHLD, SIGNAL_TERM, SIGNAL_INT, SIGNAL_HUP])
        .context("cannot wait for signals")?;
    let plan: Plan = files::read_json(&files::spec_file(dir))?;
    let mut shim = Shim::new(dir, plan, listener, signals)?;
    if shim.plan.is_standby() {
        shim.bind_standby_sockets().context("no sockets for processes that are to wait")?;
    }
    shim.start_ranks();
    while !shim.is_over() {
        shim.wait_and_act();
    }
    shim.finish();
    Ok(())
}

fn inherited_listener() -> anyhow::Result<UnixListener> {
    let stdin = std::io::stdin();
    let listener: OwnedFd = stdin.as_fd().try_clone_to_owned()?;
    let listener = UnixListener::from(listener);
    listener.local_addr().context(
        "standard input is not a socket\nhint: `lindos shim` is started by `lindos agent` alone",
    )?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stop {
    No,
    /// SIGTERM is sent; SIGKILL follows then.
    Grace(Instant),
    /// SIGKILL is sent, and again then, twice as long after.
    Kill(Instant, Duration),
}

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum News {
    None,
    /// Can wait a little for more of its kind.
    Readings,
    /// An exit, or that the ranks have started: to be told at once, and written down.
    Exit,
}

#[expect(clippy::struct_excessive_bools, reason = "each is so or not, whatever the others are")]
struct Shim {
    dir: PathBuf,
    plan: Plan,
    listener: UnixListener,
    signals: SignalFile,
    clients: Vec<Client>,
    ranks: Vec<RankProcess>,
    cgroup: Option<KernelCgroup>,
    /// Kills for want of memory that are already some rank's exit.
    oom_kills_seen: u64,
    boot: String,
    own: ProcessId,
    stop: Stop,
    /// The control plane wants it to end: exits from now on blame nobody.
    stopping: bool,
    /// What nobody was told of yet.
    news: News,
    progress_sent: Option<Instant>,
    activity: activity::Watch,
    pace: pace::Watch,
    stacks: stacks::Watch,
    childless: bool,
    released: bool,
    /// Those that wait for a rank, or did.
    waiters: Vec<standby::Waiter>,
    /// Since when no agent is there that could give what waits a rank.
    alone_since: Option<Instant>,
    has_nvidia: bool,
    buffer: Vec<u8>,
}

/// What a descriptor that became ready belongs to.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Client(usize),
    Output(usize),
    Messages(usize),
    /// One that waits for a rank: it connects, or hangs up.
    Waiter(usize),
}

impl Shim {
    fn new(
        dir: &Path,
        plan: Plan,
        listener: UnixListener,
        signals: SignalFile,
    ) -> anyhow::Result<Shim> {
        files::private_dir(&plan.log_dir)
            .with_context(|| format!("cannot make {}", plan.log_dir.display()))?;
        let cgroup = plan.cgroup.as_ref().and_then(|place| place.create().ok());
        Ok(Shim {
            dir: dir.to_path_buf(),
            oom_kills_seen: cgroup.as_ref().map_or(0, Cgroup::oom_kills),
            cgroup,
            plan,
            listener,
            signals,
            clients: Vec::new(),
            ranks: Vec::new(),
            boot: process::boot_id(),
            own: ProcessId::current(),
            stop: Stop::No,
            stopping: false,
            news: News::None,
            progress_sent: None,
            activity: activity::Watch::new(Instant::now()),
            pace: pace::Watch::new(Instant::now()),
            stacks: stacks::Watch::default(),
            childless: false,
            released: false,
            waiters: Vec::new(),
            alone_since: None,
            has_nvidia: Path::new("/dev/nvidia0").exists(),
            buffer: vec![0; 64 << 10],
        })
    }

    fn start_ranks(&mut self) {
        self.save(false);
        let surroundings =
            Surroundings { inherited: std::env::vars_os().collect(), nvidia: self.has_nvidia };
        for local in 0..self.plan.launch.rank_count {
            let entrances =
                self.cgroup.as_ref().and_then(|group| group.entrances().ok()).unwrap_or_default();
            self.ranks.push(RankProcess::start(&self.plan, local, &surroundings, entrances));
        }
        self.news = News::Exit;
        self.reap();
        self.settle();
    }

    fn state(&self) -> State {
        State {
            phase: ReportedPhase::Running,
            boot: self.boot.clone(),
            shim: Some(self.own),
            ranks: self.ranks.iter().map(|rank| self.rank_state(rank)).collect(),
            ready: self.is_ready(),
        }
    }

    fn rank_state(&self, rank: &RankProcess) -> RankState {
        let alive = rank.process().filter(|_| !rank.has_ended());
        RankState {
            activity: alive.and_then(|it| self.activity.activity(it)),
            pace: alive
                .and_then(|it| self.pace.pace(it))
                .map(|pace| RankPace { waited: rank.waited(), ..pace }),
            stack: alive.and_then(|it| self.stacks.stack(it)),
            ..rank.state()
        }
    }

    /// Nothing of this attempt lives, and none of it will.
    fn is_over(&self) -> bool {
        self.childless && self.ranks.iter().all(RankProcess::has_ended)
    }

    fn wait_and_act(&mut self) {
        for (source, flags) in self.wait() {
            match source {
                Source::Signals => self.on_signals(),
                Source::Listener => self.on_connection(),
                Source::Client(index) => self.on_client(index, flags),
                Source::Output(index) => {
                    let before = self.ranks[index].step();
                    let changed = self.ranks[index].read_output(&mut self.buffer);
                    self.note_step(index, before);
                    self.on_readings(changed);
                }
                Source::Messages(index) => {
                    let before = self.ranks[index].step();
                    let changed = self.ranks[index].read_messages(&mut self.buffer);
                    self.note_step(index, before);
                    self.on_readings(changed);
                }
                Source::Waiter(index) => self.on_waiter(index),
            }
        }
        self.clients.retain(|client| !client.is_closed());
        self.look_whether_alone();
        self.on_time();
        self.look_at_activity();
        self.settle();
    }

    fn wait(&self) -> Vec<(Source, PollFlags)> {
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        for (index, client) in self.clients.iter().enumerate() {
            let writes = if client.wants_to_write() { PollFlags::OUT } else { PollFlags::empty() };
            sources.push(Source::Client(index));
            fds.push(PollFd::new(client, PollFlags::IN | writes));
        }
        for (index, rank) in self.ranks.iter().enumerate() {
            if let Some(output) = &rank.output {
                sources.push(Source::Output(index));
                fds.push(PollFd::new(output, PollFlags::IN));
            }
            if let Some(socket) = &rank.socket {
                sources.push(Source::Messages(index));
                fds.push(PollFd::new(socket, PollFlags::IN));
            }
        }
        for (index, waiter) in self.waiters.iter().enumerate() {
            sources.push(Source::Waiter(index));
            fds.push(PollFd::new(&waiter.listener, PollFlags::IN));
            if let Some(connection) = &waiter.connection {
                sources.push(Source::Waiter(index));
                fds.push(PollFd::new(connection, PollFlags::IN));
            }
        }
        let timeout = self.wakeup().map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            // Rounded up, so that it is not early again and again.
            let left = left + Duration::from_micros(50);
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        if rustix::event::poll(&mut fds, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        sources
            .into_iter()
            .zip(&fds)
            .map(|(source, fd)| (source, fd.revents()))
            .filter(|(_, flags)| !flags.is_empty())
            .collect()
    }

    fn wakeup(&self) -> Option<Instant> {
        let stop = match self.stop {
            Stop::No => None,
            Stop::Grace(at) | Stop::Kill(at, _) => Some(at),
        };
        let progress = (self.news == News::Readings).then(|| self.progress_due());
        let look = self.watches_activity().then(|| self.activity.due().min(self.pace.due()));
        let alone = self.alone_since.map(|since| since + ALONE_MAX);
        stop.into_iter().chain(progress).chain(look).chain(alone).min()
    }

    /// What ranks that end anyway do is of no interest.
    fn watches_activity(&self) -> bool {
        self.stop == Stop::No
            && !self.plan.is_standby()
            && !self.ranks.iter().all(RankProcess::has_ended)
    }

    fn look_at_activity(&mut self) {
        if !self.watches_activity() {
            return;
        }
        let alive = || self.ranks.iter().filter(|rank| !rank.has_ended());
        let leaders: Vec<ProcessId> = alive().filter_map(RankProcess::process).collect();
        let told = alive().filter_map(RankProcess::step);
        let now = Instant::now();
        let changed = self.activity.look(now, &leaders, told);
        let has_told = self.pace.look(now, &leaders) | self.look_at_stacks(now);
        self.on_readings(changed || has_told);
    }

    /// In a silence after a step.
    fn look_at_stacks(&mut self, now: Instant) -> bool {
        let alive = || self.ranks.iter().filter(|rank| !rank.has_ended());
        if !self.activity.is_silent() || alive().all(|rank| rank.listener().is_none()) {
            self.stacks.forget();
            return false;
        }
        let ranks: Vec<_> =
            alive().filter_map(|rank| Some((rank.process()?, rank.listener()))).collect();
        self.stacks.look(now, &ranks)
    }

    fn note_step(&mut self, rank: usize, before: Option<u64>) {
        let rank = &self.ranks[rank];
        if let (Some(step), Some(process)) = (rank.step(), rank.process())
            && before != Some(step)
        {
            self.pace.on_step(Instant::now(), process, step);
        }
    }

    fn progress_due(&self) -> Instant {
        self.progress_sent.map_or_else(Instant::now, |sent| sent + PROGRESS_INTERVAL)
    }

    fn on_readings(&mut self, changed: bool) {
        if changed {
            self.news = self.news.max(News::Readings);
        }
    }

    fn on_signals(&mut self) {
        let signals = self.signals.pending();
        self.reap();
        // A machine that shuts down, or an operator: the ranks get their chance to write a
        // checkpoint, and their exits count as what they are.
        if signals.contains(&SIGNAL_TERM) {
            self.begin_stop(Duration::from_millis(self.plan.launch.spec.stop_grace.0));
        }
    }

    fn on_connection(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.clients.len() >= CLIENTS_MAX {
                // The oldest is most probably one that nobody reads any more.
                self.clients.remove(0);
            }
            if let Ok(mut client) = Client::new(stream) {
                client.send(&line(&self.state()));
                self.clients.push(client);
            }
        }
    }

    fn on_client(&mut self, index: usize, flags: PollFlags) {
        let Some(client) = self.clients.get_mut(index) else { return };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        for request in client.receive() {
            match request {
                Request::Stop { grace_ms } => {
                    // Whoever ended before this came, ended on its own account.
                    self.reap();
                    self.stopping = true;
                    self.begin_stop(Duration::from_millis(grace_ms));
                }
                Request::Release => self.released = true,
                Request::Launch { attempt } => self.go_on(&attempt),
            }
        }
    }

    /// Writes down and tells what has changed.
    fn settle(&mut self) {
        match self.news {
            News::None => return,
            News::Readings if self.progress_due() > Instant::now() => return,
            News::Readings => {}
            News::Exit => drop(self.save(false)),
        }
        self.publish(&self.state());
        self.news = News::None;
        self.progress_sent = Some(Instant::now());
    }

    fn publish(&mut self, state: &State) {
        if !self.clients.is_empty() {
            let line = line(state);
            for client in &mut self.clients {
                client.send(&line);
            }
        }
    }

    fn save(&self, durable: bool) -> bool {
        self.save_state(&self.state(), durable)
    }

    fn save_state(&self, state: &State, durable: bool) -> bool {
        let path = files::state_file(&self.dir);
        files::replace_json(&path, state, durable)
            .inspect_err(|error| tracing::warn!("cannot write {}: {error}", path.display()))
            .is_ok()
    }
}

fn line(state: &State) -> Rc<[u8]> {
    // Only maps with keys that are no strings, or a writer that fails, could make this fail.
    let mut bytes = serde_json::to_vec(state).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}
