//! Answers from the state folder when no control plane is alive: the journal is replayed, and
//! logs are read where the agents left them.

use crate::commands::no_log;
use crate::failure::{Exit, Failure};
use crate::output;
use lindos_api::health::{FleetHealth, NodeHealth, Repairs};
use lindos_api::user::{
    DryRun, EventView, Goodput, JobDetail, JobSummary, NodeView, NodeWhy, ReservationView,
    TeamView, Why,
};
use lindos_model::JobSpec;
use lindos_server::{OfflineError, read_offline};
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

pub struct Offline {
    folder: PathBuf,
    state: lindos_server::Offline,
}

impl Offline {
    /// `None`: no control plane has ever run on this folder.
    pub fn read(folder: &Path) -> Result<Option<Offline>, Failure> {
        match read_offline(folder) {
            Ok(state) => Ok(Some(Offline { folder: folder.to_path_buf(), state })),
            Err(OfflineError::NoState { .. }) => Ok(None),
            Err(error) => Err(Failure::with_hint_inside(
                Exit::StateUnusable,
                &error.to_string(),
                "name another state folder with --state DIR",
            )),
        }
    }

    pub fn jobs(&self) -> Vec<JobSummary> {
        self.state.jobs()
    }

    pub fn job(&self, id: u64) -> Result<JobDetail, Failure> {
        self.state.job(id).ok_or_else(|| no_job(id))
    }

    pub fn why(&self, id: u64) -> Result<Why, Failure> {
        self.state.why(id).ok_or_else(|| no_job(id))
    }

    /// As the nodes stood when the control plane was last alive.
    pub fn dry_run(&self, spec: &JobSpec) -> Result<DryRun, Failure> {
        self.state.dry_run(spec).map_err(|refusal| {
            let hint = refusal.hint.as_deref().unwrap_or("docs/job-file.md says what is accepted");
            Failure::bad_input(refusal.message, hint)
        })
    }

    pub fn why_node(&self, node: &str) -> Result<NodeWhy, Failure> {
        self.state.why_node(node).ok_or_else(|| no_node(node))
    }

    pub fn teams(&self) -> Vec<TeamView> {
        self.state.teams()
    }

    pub fn reservations(&self) -> Vec<ReservationView> {
        self.state.reservations()
    }

    pub fn nodes(&self) -> Vec<NodeView> {
        self.state.nodes()
    }

    pub fn repairs(&self) -> Repairs {
        self.state.repairs()
    }

    pub fn fleet_health(&self, worst: usize) -> FleetHealth {
        self.state.fleet_health(worst)
    }

    pub fn node_health(&self, node: &str) -> Result<NodeHealth, Failure> {
        self.state.node_health(node).ok_or_else(|| no_node(node))
    }

    pub fn events(&self, job: Option<u64>) -> Vec<EventView> {
        self.state.events(0, job)
    }

    pub fn goodput(&self) -> Goodput {
        self.state.goodput()
    }

    /// Prints the output of one rank in the newest of these launches in which it has any.
    pub fn copy_log(
        &self,
        job: u64,
        launches: RangeInclusive<u32>,
        rank: u32,
    ) -> Result<(), Failure> {
        let epoch = *launches.end();
        let files = launches
            .rev()
            .map(|epoch| log_files(&self.folder, job, epoch, rank))
            .find(|files| !files.is_empty())
            .ok_or_else(|| no_log(job, epoch, rank, "there is no such file in the state folder"))?;
        for path in files {
            copy(&path)?;
        }
        Ok(())
    }
}

fn no_node(node: &str) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!("there is no node `{node}`"),
        "`lindos nodes` lists the nodes that there are",
    )
}

fn no_job(id: u64) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!("there is no job {id}"),
        "`lindos jobs` lists the jobs that there are",
    )
}

/// The pieces of a rank's output, in order: `rank-R.log.N` for those that were set aside and end
/// at byte N, then `rank-R.log`. They are on one node; which one, the files themselves say.
fn log_files(state: &Path, job: u64, epoch: u32, rank: u32) -> Vec<PathBuf> {
    let name = format!("rank-{rank}.log");
    let mut pieces: Vec<(u64, PathBuf)> = Vec::new();
    for node in entries(&state.join("nodes")) {
        for path in entries(&node.join(format!("logs/{job}-{epoch}"))) {
            let Some(file) = path.file_name().and_then(|file| file.to_str()) else { continue };
            if file == name {
                pieces.push((u64::MAX, path));
            } else if let Some(end) = file.strip_prefix(&name).and_then(|r| r.strip_prefix('.'))
                && let Ok(end) = end.parse()
            {
                pieces.push((end, path));
            }
        }
    }
    pieces.sort();
    pieces.into_iter().map(|(_, path)| path).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

fn copy(path: &Path) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::state(
            format!("{} cannot be read: {error}", path.display()),
            "its owner is who started the agents",
        )
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => return Ok(()),
            length => output::bytes(&buffer[..length])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_log_come_in_order() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("nodes/local-1/logs/3-2");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["rank-1.log", "rank-1.log.900", "rank-1.log.1000", "rank-10.log", "rank-1.txt"]
        {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        let names: Vec<String> = log_files(state.path(), 3, 2, 1)
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["rank-1.log.900", "rank-1.log.1000", "rank-1.log"]);
        assert!(log_files(state.path(), 3, 1, 1).is_empty());
    }
}
