//! From a disk to a control plane, and the proofs that nothing was lost on the way.

use super::Control;
use crate::host::Host;
use lindos_core::edges::{
    ProgressEdges, ReportEdges, SilenceWatch, StallWatch, SteadyClock, StragglerWatch, SymptomEdges,
};
use lindos_core::{Core, Digest, Effects, Event};
use lindos_journal::{EventRecord, Journal, MemoryDisk, Options, Record, Seq, SnapshotRecord};
use lindos_model::{Millis, Policy, Time};

/// Which journal it is: there is one in a world.
const JOURNAL: u128 = 1;

/// What a control plane leaves, for the proof that recovery is exact.
pub struct Remains {
    pub disk: MemoryDisk,
    pub(super) stepped: Seq,
    pub(super) digest: Digest,
}

/// How a record is read back. The next version of Lindos may be another one.
pub type Reads = fn(&[u8]) -> EventRecord;

pub fn read_record(bytes: &[u8]) -> EventRecord {
    EventRecord::decode(bytes).expect("our own record")
}

impl Control {
    /// Opens the journal and brings the core to where it was. With `remains`, proves that.
    pub fn start(
        disk: MemoryDisk,
        policy: &Policy,
        host: &Host,
        world: Time,
        remains: Option<&Remains>,
    ) -> Control {
        let options = Options::new(JOURNAL);
        let (journal, recovered) = Journal::open(disk, options).expect("a torn tail is no error");
        let (mut core, mut seq) = match journal.latest_snapshot().expect("snapshots are readable") {
            Some(snapshot) => {
                let SnapshotRecord::V1 { core } =
                    SnapshotRecord::decode(&snapshot.payload).expect("our own snapshot");
                (Core::restore(&core).expect("our own snapshot"), snapshot.seq)
            }
            None => (Core::new(), Seq(0)),
        };
        let snapshot_at = seq;
        let check = |core: &Core, seq| {
            if let Some(remains) = remains.filter(|remains| remains.stepped == seq) {
                let same = core.digest() == remains.digest;
                assert!(same, "violation: replay came out differently");
            }
        };
        check(&core, seq);
        let mut effects = Effects::new();
        for entry in journal.iter_from(seq.next()).expect("the journal is readable") {
            let entry = entry.expect("a record that was committed is readable");
            let record = read_record(&entry.payload);
            let (at, event) = record.parts();
            core.step(at, event, &mut effects);
            effects.clear();
            seq = entry.seq;
            check(&core, seq);
        }
        if let Some(remains) = remains {
            assert!(seq >= remains.stepped, "violation: an acknowledged record is lost");
        }
        assert_eq!(seq, recovered.last);
        let mut clock = SteadyClock::new(core.now(), host.monotonic_us(world), host.wall_us(world));
        let now = clock.read(host.monotonic_us(world), host.wall_us(world));
        let mut control = Control {
            core,
            journal,
            clock,
            reports: ReportEdges::default(),
            progress: ProgressEdges::new(Millis(policy.progress_interval_ms)),
            stalls: StallWatch::default(),
            stragglers: StragglerWatch::default(),
            symptoms: SymptomEdges::default(),
            silence: SilenceWatch::new(Millis(policy.node_silent_ms)),
            waiting: vec![Event::ControlPlaneStarted { policy: Box::new(policy.clone()) }],
            stepped: seq,
            snapshot_at,
            forget_to_journal: false,
            follows_the_wall: false,
        };
        control.listen_anew(now);
        control
    }

    /// The next version of Lindos has started. It reads every record as one of the version that
    /// wrote it, back to the first: what comes of that is what the snapshot says. And a record
    /// that it writes is the one that it has read.
    pub fn check_upgrade(&self, reads: Reads) {
        let mut core = Core::new();
        let mut effects = Effects::new();
        let mut again = Vec::new();
        for entry in self.journal.iter_from(Seq(1)).expect("the whole history is there") {
            let entry = entry.expect("a record that was committed is readable");
            let record = read_record(&entry.payload);
            again.clear();
            record.encode(&mut again);
            let is_same = again == entry.payload;
            assert!(is_same, "violation: record {} is written differently now", entry.seq);
            let record = reads(&entry.payload);
            let (at, event) = record.parts();
            core.step(at, event, &mut effects);
            effects.clear();
        }
        let is_same = core.digest() == self.core.digest();
        assert!(is_same, "violation: a replay of all records differs from the snapshot's");
        self.core.check();
    }
}
