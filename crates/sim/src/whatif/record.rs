//! A run of the twin as a journal: the same that a control plane keeps, so that whatever reads one
//! reads the other.

use super::replay::{ReplayError, replay};
use crate::reliability::PlanError;
use crate::twin::figures::Figures;
use crate::twin::scenario::FleetScenario;
use lindos_core::Event;
use lindos_journal::{Disk, EventRecord, Journal, Reader, SnapshotRecord};
use lindos_model::Time;
use std::fmt;

/// Records of one commit.
const BATCH_RECORDS: u32 = 20_000;

#[derive(Debug)]
pub enum RecordError {
    Plan(PlanError),
    Journal(lindos_journal::Error),
    Replay(ReplayError),
    /// What was written does not come to what was played.
    Differs {
        played: String,
        replayed: String,
    },
}

impl From<lindos_journal::Error> for RecordError {
    fn from(error: lindos_journal::Error) -> RecordError {
        RecordError::Journal(error)
    }
}

impl std::error::Error for RecordError {}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Plan(error) => write!(f, "{error}"),
            RecordError::Journal(error) => write!(f, "{error}"),
            RecordError::Replay(error) => write!(f, "{error}"),
            RecordError::Differs { played, replayed } => write!(
                f,
                "the journal replays to {replayed}, and what was played is {played}\nhint: that \
                 is a bug of Lindos: please report it with the scenario"
            ),
        }
    }
}

/// Plays one seed of a scenario and writes every event into a new journal. Then it is read back,
/// with `disk` once more, and must come to what was played; snapshots are taken on the way, in the
/// middle and at the end.
pub fn record<D: Disk>(
    journal: &mut Journal<D>,
    disk: impl FnOnce() -> std::io::Result<D>,
    scenario: &FleetScenario,
    seed: u64,
    tell: &mut dyn FnMut(Time),
) -> Result<Figures, RecordError> {
    let mut failed = None;
    let mut keep = |at: Time, event: &Event| {
        if failed.is_none() {
            failed = append(journal, at, event).err();
        }
    };
    let figures = scenario.play_recorded(seed, Some(&mut keep), tell).map_err(RecordError::Plan)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let records = journal.commit()?;
    let folder = journal.disk().folder().to_path_buf();
    let disk = disk().map_err(|source| lindos_journal::Error::Io {
        action: "open",
        path: folder,
        source,
    })?;
    let (reader, _) = Reader::open(disk, None)?;
    let mut snapshots = Vec::new();
    let mut snap = |moment: &super::Moment| {
        if moment.seq.0 == records.0.div_ceil(2) || moment.seq == records {
            let payload = SnapshotRecord::V1 { core: moment.core.snapshot() }.encode();
            snapshots.push((moment.seq, payload));
        }
    };
    let (proof, _) = replay(&reader, &mut snap, &mut |_| {}).map_err(RecordError::Replay)?;
    let (played, replayed) = (figures.digest.clone(), proof.digest.to_string());
    if played != replayed {
        return Err(RecordError::Differs { played, replayed });
    }
    for (seq, payload) in snapshots {
        journal.snapshot(seq, &payload)?;
    }
    Ok(figures)
}

fn append<D: Disk>(
    journal: &mut Journal<D>,
    at: Time,
    event: &Event,
) -> Result<(), lindos_journal::Error> {
    let record = EventRecord::new(at, event.clone());
    match journal.append_record(&record) {
        Err(lindos_journal::Error::BatchFull { .. }) => {
            journal.commit()?;
            journal.append_record(&record)?;
        }
        other => {
            other?;
        }
    }
    if journal.pending() >= BATCH_RECORDS {
        journal.commit()?;
    }
    Ok(())
}
