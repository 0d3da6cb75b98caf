//! A journal replayed as it stands, and the proof that this comes to what it came to before.
//!
//! The core is deterministic, so the records alone give its state. Snapshots were written by whoever
//! kept the journal, from a core that took the same records: the replay must come to the same bytes
//! at each of them, and a core restored from one must come to the same end.

use lindos_core::{Core, Digest, Effect, Effects, Event};
use lindos_journal::{Disk, EventRecord, Reader, Record as _, Seq, SnapshotRecord, newer_version};
use lindos_model::Time;
use std::fmt;

/// How often a replay says how far it is.
const RECORDS_A_TELLING: u64 = 4096;

/// One record, and what it came to.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'m> {
    pub seq: Seq,
    pub at: Time,
    pub event: &'m Event,
    pub effects: &'m [Effect],
    /// After it.
    pub core: &'m Core,
}

/// What a replay has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub records: u64,
    /// At the end.
    pub digest: Digest,
    /// Snapshots whose bytes the replay came to, and from which it came to the same end.
    pub proved: Vec<Seq>,
    /// Snapshots that cannot be read, and why: they prove nothing.
    pub unread: Vec<(Seq, String)>,
}

#[derive(Debug)]
pub enum ReplayError {
    Journal(lindos_journal::Error),
    /// There is no record in it.
    Empty,
    /// Its beginning is gone.
    Pruned {
        oldest: Seq,
    },
    Newer {
        what: String,
        version: u32,
    },
    /// It does not begin as a journal of a control plane does.
    NoBeginning {
        event: &'static str,
    },
    TimeWentBack {
        seq: Seq,
    },
    /// The replay came to another state than whoever kept the journal.
    Differs {
        seq: Seq,
        kept: Digest,
        replayed: Digest,
    },
    /// From the snapshot, the replay came to another end than from the beginning.
    DiffersFrom {
        snapshot: Seq,
        seq: Seq,
    },
}

impl From<lindos_journal::Error> for ReplayError {
    fn from(error: lindos_journal::Error) -> ReplayError {
        ReplayError::Journal(error)
    }
}

impl std::error::Error for ReplayError {}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Journal(error) => write!(f, "{error}"),
            ReplayError::Empty => f.write_str(
                "the journal has no records\nhint: name the state folder of a control plane that \
                 has run, or a folder that `lindos sim run --record` has written",
            ),
            ReplayError::Pruned { oldest } => write!(
                f,
                "the journal begins at record {oldest}: what came before was removed\nhint: a \
                 replay under a change needs the whole history; name a copy that has it"
            ),
            ReplayError::Newer { what, version } => write!(
                f,
                "{what} has version {version}, this program reads up to 1\nhint: use the newer \
                 Lindos that wrote it"
            ),
            ReplayError::NoBeginning { event } => write!(
                f,
                "the first record is `{event}`, and not that a control plane started\nhint: this \
                 is no journal of a control plane, or not all of it"
            ),
            ReplayError::TimeWentBack { seq } => write!(
                f,
                "the time of record {seq} lies before that of the record before it\nhint: the \
                 journal was not written by a control plane, or the disk has changed it"
            ),
            ReplayError::Differs { seq, kept, replayed } => write!(
                f,
                "replayed to record {seq} the state is {replayed}, and the snapshot there says \
                 {kept}\nhint: it was written by another version of Lindos, which decides \
                 otherwise: use that one. If it is this one, that is a bug: please report it"
            ),
            ReplayError::DiffersFrom { snapshot, seq } => write!(
                f,
                "from the snapshot at record {snapshot} the replay comes to another state at \
                 record {seq} than from the beginning\nhint: that is a bug of Lindos: please \
                 report it with the journal"
            ),
        }
    }
}

/// A core restored from a snapshot, on its way to the next one.
struct Companion {
    core: Core,
    from: Seq,
}

/// Replays all records from the first to the last: what that proves, and the core at the end.
/// `watch` sees each record, `tell` hears how many there were.
pub fn replay<D: Disk>(
    reader: &Reader<D>,
    watch: &mut dyn FnMut(&Moment),
    tell: &mut dyn FnMut(u64),
) -> Result<(Proof, Core), ReplayError> {
    let mut proof =
        Proof { records: 0, digest: Core::new().digest(), proved: Vec::new(), unread: Vec::new() };
    let mut records = match reader.iter_from(Seq(1)) {
        Err(lindos_journal::Error::Pruned { oldest, .. }) => {
            return Err(ReplayError::Pruned { oldest });
        }
        other => other?,
    };
    let mut snapshots = reader.snapshots().iter().copied().peekable();
    let mut companion: Option<Companion> = None;
    let (mut core, mut effects, mut ignored) = (Core::new(), Effects::new(), Effects::new());
    while let Some((seq, bytes)) = records.next_record()? {
        if let Some(version) = newer_version(bytes) {
            return Err(ReplayError::Newer { what: format!("record {seq}"), version });
        }
        let record = EventRecord::decode(bytes).map_err(|error| {
            lindos_journal::Error::Undecodable { seq, reason: error.to_string() }
        })?;
        let (at, event) = record.parts();
        if proof.records == 0 && !matches!(event, Event::ControlPlaneStarted { .. }) {
            return Err(ReplayError::NoBeginning { event: event.name() });
        }
        if at < core.now() {
            return Err(ReplayError::TimeWentBack { seq });
        }
        core.step(at, event, &mut effects);
        watch(&Moment { seq, at, event, effects: &effects, core: &core });
        effects.clear();
        if let Some(companion) = &mut companion {
            companion.core.step(at, event, &mut ignored);
            ignored.clear();
        }
        proof.records += 1;
        if proof.records.is_multiple_of(RECORDS_A_TELLING) {
            tell(proof.records);
        }
        if snapshots.next_if_eq(&seq).is_some() {
            prove_companion(companion.take(), &core, seq)?;
            companion = prove_snapshot(reader, &core, seq, &mut proof)?;
        }
    }
    if proof.records == 0 {
        return Err(ReplayError::Empty);
    }
    prove_companion(companion, &core, Seq(proof.records))?;
    core.check();
    proof.digest = core.digest();
    Ok((proof, core))
}

fn prove_companion(companion: Option<Companion>, core: &Core, seq: Seq) -> Result<(), ReplayError> {
    match companion {
        Some(Companion { core: restored, from }) if restored.digest() != core.digest() => {
            Err(ReplayError::DiffersFrom { snapshot: from, seq })
        }
        _ => Ok(()),
    }
}

fn prove_snapshot<D: Disk>(
    reader: &Reader<D>,
    core: &Core,
    seq: Seq,
    proof: &mut Proof,
) -> Result<Option<Companion>, ReplayError> {
    let restored = match reader.snapshot_at(seq)? {
        None => Err("it is damaged".to_string()),
        Some(snapshot) => SnapshotRecord::decode(&snapshot.payload).and_then(|record| {
            let SnapshotRecord::V1 { core } = record;
            Core::restore(&core).map_err(|error| error.to_string())
        }),
    };
    match restored {
        Err(reason) => {
            proof.unread.push((seq, reason));
            Ok(None)
        }
        Ok(restored) => {
            let (kept, replayed) = (restored.digest(), core.digest());
            if kept != replayed {
                return Err(ReplayError::Differs { seq, kept, replayed });
            }
            proof.proved.push(seq);
            Ok(Some(Companion { core: restored, from: seq }))
        }
    }
}
