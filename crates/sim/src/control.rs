//! The control plane in virtual time: what the server's driver does, with a journal on a disk
//! that forgets what was not synced.

use lindos_core::edges::{ProgressEdges, Reading, ReportEdges, SilenceWatch, Worth};
use lindos_core::{Core, Digest, Effects, Event};
use lindos_journal::{Error, EventRecord, Journal, MemoryDisk, Options, Record, Seq, Tail};
use lindos_model::{AttemptReport, Epoch, JobId, Millis, NodeId, Policy, Time};

/// Snapshots are taken so often in a simulation that recovery uses them all the time.
const RECORDS_PER_SNAPSHOT: u64 = 500;

/// A reading of one rank, as it comes with a report.
pub type JobReading = (JobId, Epoch, Reading);

pub struct Control {
    pub core: Core,
    journal: Journal<MemoryDisk>,
    reports: ReportEdges,
    progress: ProgressEdges,
    silence: SilenceWatch,
    /// Taken, and not durable yet.
    waiting: Vec<Event>,
    stepped: Seq,
    snapshot_at: Seq,
    /// A fault of the driver, planted to prove that the checkers see it.
    pub forget_to_journal: bool,
}

/// What a crash leaves for the proof that recovery is exact.
pub struct Remains {
    pub disk: MemoryDisk,
    stepped: Seq,
    digest: Digest,
}

impl Control {
    /// Opens the journal and brings the core to where it was. With `remains`, proves that.
    pub fn start(
        disk: MemoryDisk,
        policy: &Policy,
        now: Time,
        remains: Option<&Remains>,
    ) -> Control {
        let options = Options::new(1);
        let (journal, recovered) = Journal::open(disk, options).expect("a torn tail is no error");
        let (mut core, mut seq) = match journal.latest_snapshot().expect("snapshots are readable") {
            Some(snapshot) => {
                (Core::restore(&snapshot.payload).expect("our own snapshot"), snapshot.seq)
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
            let record = EventRecord::decode(&entry.payload).expect("our own record");
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
        let mut silence = SilenceWatch::new(Millis(policy.node_silent_ms));
        for index in 0..core.nodes().len() {
            silence.heard(NodeId(index as u32), now);
        }
        Control {
            core,
            journal,
            reports: ReportEdges::default(),
            progress: ProgressEdges::new(Millis(policy.progress_interval_ms)),
            silence,
            waiting: vec![Event::ControlPlaneStarted { policy: Box::new(policy.clone()) }],
            stepped: seq,
            snapshot_at,
            forget_to_journal: false,
        }
    }

    /// Takes an event for the next commit. Whether a commit must be arranged.
    pub fn take(&mut self, event: Event) -> bool {
        self.waiting.push(event);
        self.waiting.len() == 1
    }

    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A report came in; the events that it is worth.
    pub fn on_report(
        &mut self,
        now: Time,
        node: NodeId,
        incarnation: u64,
        seq: u64,
        attempts: Vec<AttemptReport>,
        readings: &[JobReading],
    ) -> Vec<Event> {
        let has_strangers = self.core.has_strangers(node, &attempts);
        let worth = self.reports.on_report(node, incarnation, seq, &attempts, has_strangers);
        if worth == Worth::Stale {
            return Vec::new();
        }
        self.silence.heard(node, now);
        // The last steps before the end that the same report tells of.
        let mut events: Vec<Event> = readings
            .iter()
            .flat_map(|(job, epoch, reading)| {
                let attempt = self.core.attempt_of_epoch(*job, *epoch);
                self.progress.on_reading(now, *job, attempt, *epoch, reading)
            })
            .collect();
        if worth == Worth::News {
            events.push(Event::NodeReported { node, incarnation, seq, attempts });
        }
        events
    }

    /// What is due by the clock alone.
    pub fn on_clock(&mut self, now: Time) -> Vec<Event> {
        let mut events = self.progress.due(now);
        for (node, last_heard) in self.silence.silent(now) {
            self.reports.forget(node);
            events.push(Event::NodeSilent { node, last_heard });
        }
        if self.core.next_wakeup().is_some_and(|at| at <= now) {
            events.push(Event::Tick);
        }
        events
    }

    /// When [`Control::on_clock`] wants to be called.
    pub fn next_deadline(&self) -> Option<Time> {
        [self.core.next_wakeup(), self.progress.next_deadline(), self.silence.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Makes everything taken durable, and steps the core through it. `None` when the disk is
    /// full: then all of it goes on waiting.
    pub fn commit(&mut self, now: Time) -> Option<Effects> {
        let mut effects = Effects::new();
        let events = std::mem::take(&mut self.waiting);
        let at = now.max(self.core.now());
        for event in &events {
            if self.forget_to_journal && matches!(event, Event::StepReached { .. }) {
                continue;
            }
            let record = EventRecord::V1 { at, event: event.clone() };
            self.journal.append_record(&record).expect("a batch has room for all that waits");
        }
        self.stepped = match self.journal.commit() {
            Ok(stepped) => stepped,
            Err(Error::DiskFull { .. }) => {
                self.journal.discard();
                self.waiting = events;
                return None;
            }
            Err(error) => panic!("violation: {error}"),
        };
        for event in &events {
            if let Event::NodeReported { node, incarnation, seq, attempts } = event {
                self.reports.journalled(*node, *incarnation, *seq, attempts);
            }
            if let Event::NodeJoined { spec } = event {
                self.core.step(at, event, &mut effects);
                let node = self.core.node_by_name(&spec.name).expect("it just joined");
                self.silence.heard(node, now);
            } else {
                self.core.step(at, event, &mut effects);
            }
        }
        if self.stepped.0 - self.snapshot_at.0 >= RECORDS_PER_SNAPSHOT {
            match self.journal.snapshot(self.stepped, &self.core.snapshot()) {
                Ok(()) | Err(Error::DiskFull { .. }) => self.snapshot_at = self.stepped,
                Err(error) => panic!("violation: {error}"),
            }
        }
        Some(effects)
    }

    /// Nothing more fits on the disk of the journal, until it does again.
    pub fn set_disk_full(&self, is_full: bool) {
        self.journal.disk().set_capacity(is_full.then_some(0));
    }

    /// The control plane is killed, in the middle of a commit if something waits. `pick(n)`
    /// chooses from 0 to n how much of what was not synced survives.
    pub fn kill(mut self, now: Time, mut pick: impl FnMut(u64) -> u64) -> Remains {
        let (stepped, digest) = (self.stepped, self.core.digest());
        let mut disk = self.journal.disk().clone();
        if self.has_waiting() {
            disk.power_off_after(pick(2) as u32);
            let at = now.max(self.core.now());
            let records =
                self.waiting.iter().map(|event| EventRecord::V1 { at, event: event.clone() });
            let written = records.into_iter().all(|r| self.journal.append_record(&r).is_ok());
            // With the power gone it fails, half-way.
            let _ = written && self.journal.commit().is_ok();
        }
        drop(self.journal);
        disk.crash(Tail::Cut, pick);
        Remains { disk, stepped, digest }
    }
}
