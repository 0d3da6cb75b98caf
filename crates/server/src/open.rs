//! From a folder to a core: the newest snapshot, and the records after it.

use lindos_core::{Core, Effects};
use lindos_journal::{Disk, Error, Journal, Options, Reader, Record as _, Records, Seq, Snapshot};
use lindos_journal::{EventRecord, SnapshotRecord, newer_version};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where the journal stands in the state folder.
pub(crate) fn journal_folder(state_dir: &Path) -> PathBuf {
    state_dir.join("journal")
}

/// Why a journal could not be opened or replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Journal(#[from] Error),
    #[error(
        "{what} has version {found}, this program reads up to 1\n  hint: run the newer Lindos that wrote it; going back needs a copy from before the upgrade"
    )]
    NewerRecord { what: String, found: u32 },
    #[error(
        "the newest snapshot is of another version of Lindos ({reason}), and the records before it are gone\n  hint: run the version that wrote it"
    )]
    Snapshot { reason: String },
    #[error("cannot open {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A core as its journal says, and how many records were replayed after the snapshot.
pub(crate) struct Replayed {
    pub(crate) core: Core,
    pub(crate) records: u64,
}

/// Opens the journal for writing. `disk` is called once a try: a new folder gets the id `new_id`,
/// one that is there keeps its own.
pub(crate) fn open<D: Disk>(
    mut disk: impl FnMut() -> io::Result<D>,
    folder: &Path,
    new_id: u128,
) -> Result<(Journal<D>, Replayed), OpenError> {
    let io = |source| OpenError::Io { path: folder.to_path_buf(), source };
    let opened = match Journal::open(disk().map_err(io)?, Options::new(new_id)) {
        Err(Error::WrongJournal { found, .. }) => {
            Journal::open(disk().map_err(io)?, Options::new(found))
        }
        other => other,
    };
    let (journal, recovered) = opened?;
    for warning in &recovered.warnings {
        tracing::warn!(?warning, "the journal opened, with a flaw");
    }
    if recovered.cut_bytes > 0 {
        tracing::info!(bytes = recovered.cut_bytes, "cut an unfinished batch off the journal");
    }
    let snapshot = journal.latest_snapshot()?;
    let replayed = replay(snapshot, recovered.first, |from| journal.iter_from(from))?;
    Ok((journal, replayed))
}

/// Replays a journal that another process may be writing to.
pub(crate) fn read<D: Disk>(disk: D) -> Result<Replayed, OpenError> {
    let (reader, recovered) = Reader::open(disk, None)?;
    let snapshot = reader.latest_snapshot()?;
    replay(snapshot, recovered.first, |from| reader.iter_from(from))
}

fn replay<'a, D: Disk + 'a>(
    snapshot: Option<Snapshot>,
    first: Seq,
    records_from: impl Fn(Seq) -> Result<Records<'a, D>, Error>,
) -> Result<Replayed, OpenError> {
    let began = Instant::now();
    let (mut core, from) = match snapshot {
        None => (Core::new(), Seq(1)),
        Some(snapshot) => match restore(&snapshot) {
            Ok(core) => (core, snapshot.seq.next()),
            // A snapshot only saves time, as long as the records are all there.
            Err(reason) if first <= Seq(1) => {
                tracing::warn!(reason, "the snapshot is of another version; replaying it all");
                (Core::new(), Seq(1))
            }
            Err(reason) => return Err(OpenError::Snapshot { reason }),
        },
    };
    let mut records = records_from(from)?;
    let mut count = 0;
    let mut effects = Effects::new();
    while let Some((seq, bytes)) = records.next_record()? {
        if let Some(found) = newer_version(bytes) {
            return Err(OpenError::NewerRecord { what: format!("record {seq}"), found });
        }
        let record = EventRecord::decode(bytes)
            .map_err(|error| Error::Undecodable { seq, reason: error.to_string() })?;
        let (at, event) = record.parts();
        if at < core.now() {
            let reason = "its time lies before that of the record before it".to_string();
            return Err(Error::Undecodable { seq, reason }.into());
        }
        core.step(at, event, &mut effects);
        effects.clear();
        count += 1;
    }
    tracing::info!(records = count, from = from.0, took = ?began.elapsed(), "replayed");
    Ok(Replayed { core, records: count })
}

fn restore(snapshot: &Snapshot) -> Result<Core, String> {
    let SnapshotRecord::V1 { core } = SnapshotRecord::decode(&snapshot.payload)?;
    Core::restore(&core).map_err(|error| error.to_string())
}
