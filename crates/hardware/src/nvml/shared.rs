//! One snapshot for all checks.

use super::library::{DRIVER_NOT_LOADED, Library, LibraryError};
use super::snapshot::Snapshot;
use crate::system::Root;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Checks that run within this time of each other look at the same snapshot.
const FRESH: Duration = Duration::from_secs(5);
const OF_THE_DRIVER: &str = "libnvidia-ml.so.1";

/// Where the library is.
#[derive(Clone, Debug)]
pub struct NvmlSource {
    path: OsString,
    /// Somebody wants this one: that it is not there is no matter of course.
    is_named: bool,
}

impl NvmlSource {
    /// As the dynamic linker finds it.
    pub fn of_the_driver() -> NvmlSource {
        NvmlSource { path: OF_THE_DRIVER.into(), is_named: false }
    }

    /// The one that the environment names for the agent, or the driver's own.
    pub fn of_the_environment() -> NvmlSource {
        let named = std::env::var_os("LINDOS_NVML").filter(|path| !path.is_empty());
        named.map_or_else(NvmlSource::of_the_driver, |path| NvmlSource::at(path.into()))
    }

    pub(super) fn path(&self) -> &OsStr {
        &self.path
    }

    pub fn at(path: PathBuf) -> NvmlSource {
        NvmlSource { path: path.into_os_string(), is_named: true }
    }
}

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No GPU of this maker is set up here.
    Absent(String),
    Unknown(String),
}

#[derive(Debug)]
struct Cell {
    library: Option<Library>,
    last: Option<(Duration, Result<Arc<Snapshot>, Missing>)>,
}

#[derive(Clone, Debug)]
pub struct Shared {
    source: NvmlSource,
    root: Root,
    cell: Arc<Mutex<Cell>>,
}

impl Shared {
    pub fn new(source: NvmlSource, root: Root) -> Shared {
        let cell = Arc::new(Mutex::new(Cell { library: None, last: None }));
        Shared { source, root, cell }
    }

    pub fn snapshot(&self, now: Duration) -> Result<Arc<Snapshot>, Missing> {
        // A check that panicked has left nothing half done here.
        let mut cell = self.cell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, last)) = &cell.last
            && now.saturating_sub(*at) < FRESH
        {
            return last.clone();
        }
        let read = self.read(&mut cell.library).map(Arc::new);
        cell.last = Some((now, read.clone()));
        read
    }

    fn read(&self, library: &mut Option<Library>) -> Result<Snapshot, Missing> {
        if library.is_none() {
            *library = Some(Library::open(&self.source.path).map_err(|e| self.missing(&e))?);
        }
        let opened = library.as_ref().expect("opened above");
        opened.read().map_err(|error| {
            // A driver that was unloaded and loaded again needs a library that starts anew.
            *library = None;
            self.missing(&error)
        })
    }

    fn missing(&self, error: &LibraryError) -> Missing {
        let is_driver_there = self.root.exists("proc/driver/nvidia/version");
        let is_not_set_up = match error {
            LibraryError::Load(_) => true,
            LibraryError::Call { code, .. } => *code == DRIVER_NOT_LOADED,
        };
        if is_not_set_up && !is_driver_there && !self.source.is_named {
            Missing::Absent("no NVIDIA driver".to_string())
        } else {
            Missing::Unknown(error.to_string())
        }
    }
}
