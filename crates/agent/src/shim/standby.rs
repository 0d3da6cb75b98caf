//! Processes that wait for a rank, and how they get one.
//!
//! Each of them connects to a socket of its own when it has done all that needs no rank. The connection
//! is its word that it waits; when an attempt is launched here, the variables of its rank come on it, a
//! line each, and an empty line after the last. A process that connects only then gets them at once.

use super::rank::RankProcess;
use super::{ALONE_MAX, News, Shim, Stop};
use crate::environment::contract_env;
use crate::files;
use crate::plan::Plan;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// What there is to send fits into the socket's buffer; one that does not take it has stopped.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// One process that waits, or will.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) listener: UnixListener,
    pub(super) connection: Option<UnixStream>,
}

impl Waiter {
    fn new(path: &Path) -> io::Result<Waiter> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Waiter { listener, connection: None })
    }
}

impl Shim {
    /// Sockets for those that are to wait.
    pub(super) fn bind_standby_sockets(&mut self) -> io::Result<()> {
        let locals = 0..self.plan.launch.rank_count;
        let waiters = locals.map(|local| Waiter::new(&self.plan.standby_socket(local)));
        self.waiters = waiters.collect::<io::Result<_>>()?;
        Ok(())
    }

    /// Of processes that wait for a rank: whether all of them do.
    pub(super) fn is_ready(&self) -> Option<bool> {
        let all_wait = || self.waiters.iter().all(|waiter| waiter.connection.is_some());
        self.plan.is_standby().then(all_wait)
    }

    /// Ends what waits where no agent has come for a while.
    pub(super) fn look_whether_alone(&mut self) {
        let is_alone = self.plan.is_standby() && self.clients.is_empty() && self.stop == Stop::No;
        self.alone_since = is_alone.then(|| self.alone_since.unwrap_or_else(Instant::now));
        if self.alone_since.is_some_and(|since| since.elapsed() >= ALONE_MAX) {
            self.stopping = true;
            self.begin_stop(Duration::ZERO);
        }
    }

    /// A process connects, or hangs up.
    pub(super) fn on_waiter(&mut self, local: usize) {
        let waiter = &mut self.waiters[local];
        if let Some(connection) = &mut waiter.connection {
            // It says nothing; what can be read is its end.
            let is_over = |error: &io::Error| error.kind() != io::ErrorKind::WouldBlock;
            match connection.read(&mut [0; 64]) {
                Ok(0) => waiter.connection = None,
                Err(error) if is_over(&error) => waiter.connection = None,
                Ok(_) | Err(_) => {}
            }
        }
        while let Ok((connection, _)) = waiter.listener.accept() {
            if connection.set_nonblocking(true).is_ok() {
                waiter.connection = Some(connection);
            }
        }
        if self.plan.is_standby() {
            self.news = News::Exit;
        } else {
            self.tell_rank(local);
        }
    }

    /// The processes that wait, or will, go on as the ranks of the attempt in `dir`.
    pub(super) fn go_on(&mut self, dir: &Path) {
        // Asked again, or too late: whoever asks starts others then.
        self.reap();
        if !self.plan.is_standby() || self.stopping || self.ranks.iter().any(RankProcess::has_ended)
        {
            return;
        }
        let plan = files::read_json::<Plan>(&files::spec_file(dir));
        let plan = match plan {
            Ok(plan) if plan.launch.rank_count as usize == self.ranks.len() => plan,
            Ok(_) => return tracing::warn!("{} is for other processes", dir.display()),
            Err(error) => return tracing::warn!("{error:#}"),
        };
        if let Err(error) = files::private_dir(&plan.log_dir) {
            tracing::warn!("cannot make {}: {error}", plan.log_dir.display());
        }
        (self.dir, self.plan) = (dir.to_path_buf(), plan);
        for (local, rank) in self.ranks.iter_mut().enumerate() {
            rank.go_on(&self.plan, local as u32);
        }
        // From here on they are ranks, whatever becomes of us: first that, then they learn of it.
        self.save(false);
        for local in 0..self.waiters.len() {
            self.tell_rank(local);
        }
        let now = Instant::now();
        (self.activity, self.pace) =
            (super::activity::Watch::new(now), super::pace::Watch::new(now));
        self.news = News::Exit;
    }

    /// Tells a process that waits who it is. One that does not wait yet learns it when it does.
    fn tell_rank(&mut self, local: usize) {
        let Some(mut connection) = self.waiters[local].connection.take() else { return };
        let mut text = String::new();
        for (name, value) in contract_env(&self.plan, local as u32, self.has_nvidia) {
            let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
            // What of a path is known since its start need not be told.
            if !value.contains('\n') {
                let _ = writeln!(text, "{name}={value}");
            }
        }
        text.push('\n');
        let sent = connection
            .set_nonblocking(false)
            .and_then(|()| connection.set_write_timeout(Some(SEND_TIMEOUT)))
            .and_then(|()| connection.write_all(text.as_bytes()));
        if let Err(error) = sent {
            // It ends, or connects again.
            tracing::warn!(local, "a process that waited did not take its rank: {error}");
        }
    }
}
