//! The newest epoch of each job that was launched or stopped here. A launch of any other than a
//! newer one is refused, so that a job is never alive twice: not through a command that was on
//! its way for a day, and not through one that was carried out and forgotten.

use crate::files;
use lindos_model::{Epoch, JobId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Jobs remembered. Those with the smallest ids are forgotten first: they are the oldest.
const FLOORS_MAX: usize = 4096;

#[derive(Debug)]
pub struct Floors {
    path: PathBuf,
    newest: BTreeMap<JobId, Epoch>,
}

impl Floors {
    pub fn load(path: PathBuf) -> anyhow::Result<Floors> {
        let newest = if path.exists() { files::read_json(&path)? } else { BTreeMap::new() };
        Ok(Floors { path, newest })
    }

    pub fn newest(&self, job: JobId) -> Option<Epoch> {
        self.newest.get(&job).copied()
    }

    /// On disk before it returns. `alive` are jobs that must not be forgotten.
    pub fn raise(
        &mut self,
        job: JobId,
        epoch: Epoch,
        alive: &BTreeSet<JobId>,
    ) -> std::io::Result<()> {
        if self.newest(job) >= Some(epoch) {
            return Ok(());
        }
        let mut newest = self.newest.clone();
        newest.insert(job, epoch);
        let surplus = newest.len().saturating_sub(FLOORS_MAX);
        let oldest: Vec<JobId> = newest
            .keys()
            .copied()
            .filter(|other| *other != job && !alive.contains(other))
            .take(surplus)
            .collect();
        for job in oldest {
            newest.remove(&job);
        }
        files::replace_json(&self.path, &newest, true)?;
        self.newest = newest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_only_rise_and_survive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floors.json");
        let mut floors = Floors::load(path.clone()).unwrap();
        let none = BTreeSet::new();
        floors.raise(JobId(1), Epoch(3), &none).unwrap();
        floors.raise(JobId(1), Epoch(2), &none).unwrap();
        let floors = Floors::load(path).unwrap();
        assert_eq!(floors.newest(JobId(1)), Some(Epoch(3)));
        assert_eq!(floors.newest(JobId(2)), None);
    }

    #[test]
    fn the_oldest_jobs_are_forgotten_but_never_living_ones() {
        let folder = tempfile::tempdir().unwrap();
        let mut floors = Floors::load(folder.path().join("floors.json")).unwrap();
        let many = (1..=FLOORS_MAX as u64).map(|id| (JobId(id), Epoch(1)));
        floors.newest = many.collect();
        let alive = BTreeSet::from([JobId(1)]);
        floors.raise(JobId(9999), Epoch(1), &alive).unwrap();
        assert_eq!(floors.newest.len(), FLOORS_MAX);
        assert_eq!(floors.newest(JobId(1)), Some(Epoch(1)));
        assert_eq!(floors.newest(JobId(2)), None);
        assert_eq!(floors.newest(JobId(9999)), Some(Epoch(1)));
    }

    #[test]
    fn a_floor_that_cannot_be_written_is_not_raised() {
        let folder = tempfile::tempdir().unwrap();
        let mut floors = Floors::load(folder.path().join("missing/floors.json")).unwrap();
        assert!(floors.raise(JobId(1), Epoch(1), &BTreeSet::new()).is_err());
        assert_eq!(floors.newest(JobId(1)), None);
    }
}
