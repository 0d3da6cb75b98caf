//! The same answers without a control plane: the journal is replayed, and nothing is changed.

use crate::error::OfflineError;
use crate::open::{journal_folder, read};
use crate::telemetry::Telemetry;
use crate::views::{self, View};
use lindos_api::health::{FleetHealth, NodeHealth, Repairs};
use lindos_api::user::{
    ApiError, DryRun, EventView, Goodput, JobDetail, JobSummary, NodeView, NodeWhy,
    ReservationView, TeamView, Why,
};
use lindos_core::Core;
use lindos_journal::RealDisk;
use lindos_model::{JobId, JobSpec, Time};
use std::io;
use std::path::Path;

/// A state as its journal says. Times and the ledger stand where the last record left them.
#[derive(Debug)]
pub struct Offline {
    core: Core,
    telemetry: Telemetry,
}

/// Reads the state in `state_dir`. A control plane that runs on it meanwhile is not disturbed;
/// ask it instead, because it knows more.
pub fn read_offline(state_dir: &Path) -> Result<Offline, OfflineError> {
    let folder = journal_folder(state_dir);
    let disk = match RealDisk::existing(&folder) {
        Ok(disk) => disk,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OfflineError::NoState { folder: state_dir.to_path_buf() });
        }
        Err(source) => return Err(OfflineError::Io { action: "open", path: folder, source }),
    };
    let replayed = read(disk)?;
    Ok(Offline { core: replayed.core, telemetry: Telemetry::default() })
}

impl Offline {
    fn view(&self) -> View<'_> {
        View { core: &self.core, telemetry: &self.telemetry, now: self.core.now() }
    }

    /// When the last record was written.
    pub fn now(&self) -> Time {
        self.core.now()
    }

    pub fn jobs(&self) -> Vec<JobSummary> {
        views::jobs(&self.view(), 0, usize::MAX)
    }

    pub fn job(&self, job: u64) -> Option<JobDetail> {
        views::job(&self.view(), JobId(job))
    }

    pub fn why(&self, job: u64) -> Option<Why> {
        views::why(&self.view(), JobId(job))
    }

    /// What would become of a job, as the nodes stood; `Err`: why it is refused.
    pub fn dry_run(&self, spec: &JobSpec) -> Result<DryRun, ApiError> {
        views::dry_run(&self.view(), spec).map_err(|fault| fault.error)
    }

    pub fn why_node(&self, node: &str) -> Option<NodeWhy> {
        views::why_node(&self.view(), node)
    }

    pub fn teams(&self) -> Vec<TeamView> {
        views::teams(&self.view())
    }

    pub fn reservations(&self) -> Vec<ReservationView> {
        views::reservations(&self.view())
    }

    pub fn nodes(&self) -> Vec<NodeView> {
        views::nodes(&self.view(), None, usize::MAX)
    }

    pub fn repairs(&self) -> Repairs {
        views::repairs(&self.view())
    }

    /// With at most `limit` nodes by name.
    pub fn fleet_health(&self, limit: usize) -> FleetHealth {
        views::fleet_health(&self.view(), limit)
    }

    pub fn node_health(&self, node: &str) -> Option<NodeHealth> {
        views::node_health(&self.view(), node)
    }

    pub fn goodput(&self) -> Goodput {
        views::goodput(&self.view())
    }

    /// Trail entries after number `after`, of one job if it is given.
    pub fn events(&self, after: u64, job: Option<u64>) -> Vec<EventView> {
        views::events(&self.view(), after, job.map(JobId), usize::MAX).events
    }

    pub fn core(&self) -> &Core {
        &self.core
    }
}
