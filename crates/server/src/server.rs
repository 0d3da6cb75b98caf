//! Starting, stopping and failing of a whole server.

use crate::Fencer;
use crate::alerts::{self, Alerts};
use crate::driver::{Driver, DriverHandle, Fatal, Halt, Shared};
use crate::error::StartError;
use crate::http;
use crate::location::Location;
use crate::mender::Mender;
use crate::open::{self, journal_folder};
use crate::token::{Token, random_u128};
use lindos_core::edges::StragglerWatch;
use lindos_journal::{Disk, RealDisk};
use lindos_model::{Millis, Policy};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Requests under way when the server stops get this long.
const STOP_GRACE: Duration = Duration::from_secs(3);

pub struct ServerConfig {
    pub state_dir: PathBuf,
    /// Where people and agents are heard. Without TLS, so loopback unless the network is one's
    /// own; port 0 is any that is free.
    pub listen: SocketAddr,
    pub policy: Policy,
    pub fencer: Arc<dyn Fencer>,
    /// Who carries out remedies.
    pub mender: Arc<dyn Mender>,
    /// Whom to tell what happens, over webhooks.
    pub alerts: Option<Alerts>,
    /// How long windows are in which ranks are compared, at least; `None`: as long as usual.
    pub straggler_window: Option<Millis>,
    /// Of the program, for [`Location`] and the status.
    pub version: String,
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("state_dir", &self.state_dir)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// Starts a control plane on the state folder: takes its lock, replays its journal, and then
/// listens.
pub async fn start(config: ServerConfig) -> Result<ServerHandle, StartError> {
    let folder = journal_folder(&config.state_dir);
    start_on(config, move || RealDisk::create(&folder)).await
}

/// As [`start`], with the journal on another disk: how tests fill one up. `disk` gives a handle
/// of the same folder at every call.
pub async fn start_on<D: Disk + Send + 'static>(
    config: ServerConfig,
    disk: impl FnMut() -> io::Result<D> + Send + 'static,
) -> Result<ServerHandle, StartError> {
    let ServerConfig {
        state_dir,
        listen,
        policy,
        fencer,
        mender,
        alerts,
        straggler_window,
        version,
    } = config;
    make_private(&state_dir)?;
    let folder = journal_folder(&state_dir);
    let urandom = |source| StartError::Io { action: "read", path: "/dev/urandom".into(), source };
    let new_id = random_u128().map_err(urandom)?;
    let token = Token::random().map_err(urandom)?;

    let opening = move || open::open(disk, &folder, new_id);
    let (journal, replayed) = blocking(opening).await??;
    // The lock is held: whatever listens on this port is no control plane of this state.
    let listener = TcpListener::bind(listen).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortInUse { address: listen },
        _ => StartError::Listen { address: listen, source },
    })?;
    let address =
        listener.local_addr().map_err(|source| StartError::Listen { address: listen, source })?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "listening beyond this machine, and without TLS");
    }

    let watch = straggler_window.map_or_else(StragglerWatch::default, StragglerWatch::with_window);
    let starting = move || {
        Driver::start(journal, replayed.core, policy, fencer, mender, watch, replayed.records)
    };
    let (driver, handle) = blocking(starting).await??;
    let thread = spawn(driver, Arc::clone(handle.shared()))?;

    let location = Location {
        url: format!("http://{}", reachable(address)),
        token: token.as_str().to_string(),
        pid: std::process::id(),
        version: version.clone(),
    };
    let stopping = watch::Sender::new(false);
    let (figures, alerting) = match alerts {
        Some(alerts) => alerts::start(alerts, &handle, &state_dir, &stopping.subscribe()),
        None => Default::default(),
    };
    let router = http::router(handle.clone(), token, version, figures, stopping.subscribe());
    let mut stopped = stopping.subscribe();
    let http = tokio::spawn(async move {
        let until_stop = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        axum::serve(listener, router).with_graceful_shutdown(until_stop).await
    });
    let server = ServerHandle {
        location,
        state_dir,
        driver: handle,
        stopping,
        http: Some(http),
        alerting,
        thread: Some(thread),
    };
    let written = server.location.write(&server.state_dir);
    written.map_err(|source| StartError::Io {
        action: "write",
        path: Location::path(&server.state_dir),
        source,
    })?;
    tracing::info!(url = server.location.url, "control plane is up");
    Ok(server)
}

/// On a thread that may block, because a replay can take seconds.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StartError::CorruptJournal {
        reason: format!("the journal could not be replayed: {error}"),
    })
}

fn make_private(folder: &Path) -> Result<(), StartError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| StartError::Io { action: "create", path: folder.to_path_buf(), source })
}

fn spawn<D: Disk + Send + 'static>(
    driver: Driver<D>,
    shared: Arc<Shared>,
) -> Result<JoinHandle<()>, StartError> {
    let work = move || {
        let failure = match catch_unwind(AssertUnwindSafe(|| driver.run())) {
            Ok(Ok(())) => return,
            Ok(Err(Fatal(reason))) => reason,
            Err(panic) => format!("a bug: the core panicked: {}", panic_message(&*panic)),
        };
        tracing::error!(failure, "the control plane has ended; agents and ranks go on");
        shared.failure.send_replace(Some(failure));
    };
    std::thread::Builder::new().name("core".into()).spawn(work).map_err(|source| StartError::Io {
        action: "start a thread for",
        path: "the core".into(),
        source,
    })
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// The address for somebody on this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// A running control plane. Dropped without [`ServerHandle::stop`], it ends as if it had been
/// killed: nothing durable is lost, and the next start replays a little longer.
#[derive(Debug)]
pub struct ServerHandle {
    location: Location,
    state_dir: PathBuf,
    driver: DriverHandle,
    stopping: watch::Sender<bool>,
    http: Option<tokio::task::JoinHandle<io::Result<()>>>,
    alerting: JoinSet<()>,
    thread: Option<JoinHandle<()>>,
}

impl ServerHandle {
    pub fn url(&self) -> &str {
        &self.location.url
    }

    pub fn token(&self) -> &str {
        &self.location.token
    }

    /// What stands in `server.json`.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Stops listening, writes a snapshot, removes `server.json`. Jobs go on.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        if let Some(mut http) = self.http.take()
            && tokio::time::timeout(STOP_GRACE, &mut http).await.is_err()
        {
            http.abort();
        }
        // They note what is told, and that is all; what is under way is told after the next start.
        while self.alerting.join_next().await.is_some() {}
        if let Err(error) = self.location.remove(&self.state_dir) {
            tracing::warn!(%error, "server.json was not removed");
        }
        self.driver.halt(Halt::Clean);
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Waits until the core thread has ended by itself; why it did. The journal takes no more
    /// then, and the process should end.
    pub async fn failed(&self) -> String {
        let mut failure = self.driver.shared().failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await;
        failed.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        if let Some(http) = self.http.take() {
            http.abort();
        }
        self.stopping.send_replace(true);
        if let Some(thread) = self.thread.take() {
            self.driver.halt(Halt::Drop);
            // At most one batch long; afterwards the state folder's lock is free.
            let _ = thread.join();
        }
    }
}
