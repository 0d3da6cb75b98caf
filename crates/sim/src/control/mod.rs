//! The control plane in virtual time: what the server's driver does, with a journal on a disk
//! that forgets what was not synced, and with the clocks of a machine that has its own ideas.

mod recover;
mod standby;

pub use recover::{Reads, Remains, read_record};
pub use standby::Standby;

use crate::host::Host;
use lindos_core::edges::{
    self, ProgressEdges, RankReading, Reading, ReportEdges, SilenceWatch, StallWatch, SteadyClock,
    StragglerWatch, SymptomEdges, Worth,
};
use lindos_core::{Core, Effects, Event};
use lindos_journal::{Error, EventRecord, Journal, MemoryDisk, Seq, SnapshotRecord, Tail};
use lindos_model::{
    AttemptReport, Epoch, Finding, JobId, Millis, NodeId, Rank, StandbyReport, Symptom, Time,
};

/// Snapshots are taken so often in a simulation that recovery uses them all the time …
const RECORDS_PER_SNAPSHOT: u64 = 500;
/// … but for a large fleet, whose state is long, after so many records a node.
const RECORDS_PER_SNAPSHOT_AND_NODE: u64 = 4;
/// When there are more snapshots than this, all but the last two are removed.
const SNAPSHOTS_MAX: usize = 4;
/// A driver that did not listen for less than this was not deaf.
const DEAF_MIN: Millis = Millis::from_secs(1);

/// A reading of one rank, as it comes with a report.
pub type JobReading = (JobId, Epoch, Reading);

/// What else a report says: what each rank does, the last words of those that failed, and what the
/// checks of the node find.
#[derive(Clone, Debug, Default)]
pub struct Witnessed {
    pub ranks: Vec<(JobId, Epoch, Rank, RankReading)>,
    pub symptoms: Vec<(JobId, Epoch, Rank, Symptom)>,
    pub findings: Vec<Finding>,
    /// What waits there for a rank, and jobs whose programs say that they can.
    pub standbys: Vec<StandbyReport>,
    pub offers: Vec<JobId>,
}

pub struct Control {
    pub core: Core,
    journal: Journal<MemoryDisk>,
    clock: SteadyClock,
    reports: ReportEdges,
    progress: ProgressEdges,
    stalls: StallWatch,
    stragglers: StragglerWatch,
    symptoms: SymptomEdges,
    silence: SilenceWatch,
    /// Taken, and not durable yet.
    waiting: Vec<Event>,
    stepped: Seq,
    snapshot_at: Seq,
    /// A fault of the driver, planted to prove that the checkers see it.
    pub forget_to_journal: bool,
    /// Another: it goes by the wall clock, whatever that does.
    pub follows_the_wall: bool,
}

impl Control {
    /// What its clock shows.
    pub fn now(&mut self, host: &Host, world: Time) -> Time {
        let wall_us = host.wall_us(world);
        if self.follows_the_wall {
            return Time(wall_us / 1000).max(self.core.now());
        }
        self.clock.read(host.monotonic_us(world), wall_us)
    }

    /// The disk was slow for so long: nobody was heard, and nobody is to blame for it.
    pub fn was_deaf(&mut self, now: Time, deaf: Millis) {
        let bound = Millis(self.core.policy().node_silent_ms / 2);
        if deaf > bound.max(DEAF_MIN) {
            self.listen_anew(now);
        }
    }

    /// Silence counts from now on for every node that should be heard.
    fn listen_anew(&mut self, now: Time) {
        self.silence.listen_anew(self.core.nodes().len(), now);
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
        (incarnation, seq): (u64, u64),
        attempts: Vec<AttemptReport>,
        readings: &[JobReading],
        witnessed: &Witnessed,
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
            // Agents repeat what was last read of attempts that are over.
            .filter(|(job, epoch, _)| {
                let attempt = self.core.job(*job).and_then(|job| job.attempt.as_ref());
                attempt.is_some_and(|attempt| attempt.has_epoch(*epoch))
            })
            .flat_map(|(job, epoch, reading)| {
                let attempt = self.core.attempt_of_epoch(*job, *epoch);
                self.progress.on_reading(now, *job, attempt, *epoch, reading)
            })
            .collect();
        events.extend(self.on_witnessed(now, witnessed));
        events.extend(edges::findings(self.core.health(node), node, &witnessed.findings));
        if worth == Worth::News {
            events.push(Event::NodeReported { node, incarnation, seq, attempts });
        }
        if self.core.hears_of_standbys(node, &witnessed.standbys) {
            let standbys = witnessed.standbys.clone();
            events.push(Event::StandbysReported { node, incarnation, seq, standbys });
        }
        let offers = witnessed.offers.iter().filter(|&&job| self.core.asks_for_standby(job));
        events.extend(offers.map(|&job| Event::StandbyOffered { job }));
        events
    }

    fn on_witnessed(&mut self, now: Time, witnessed: &Witnessed) -> Vec<Event> {
        let core = &self.core;
        let is_known = |job: JobId, epoch: Epoch| {
            let attempt = core.job(job).and_then(|job| job.attempt.as_ref());
            attempt.is_some_and(|attempt| attempt.has_epoch(epoch))
        };
        let mut events = Vec::new();
        for (job, epoch, rank, reading) in &witnessed.ranks {
            if is_known(*job, *epoch) {
                let attempt = core.attempt_of_epoch(*job, *epoch);
                events.extend(self.stalls.on_reading(now, *job, attempt, *epoch, *rank, reading));
                self.stragglers.on_reading(now, *job, attempt, *epoch, *rank, reading);
            }
        }
        for (job, epoch, rank, symptom) in &witnessed.symptoms {
            if is_known(*job, *epoch) {
                let attempt = core.attempt_of_epoch(*job, *epoch);
                events.extend(self.symptoms.on_symptom(*job, attempt, *epoch, *rank, symptom));
            }
        }
        events
    }

    /// What is due by the clock alone.
    pub fn on_clock(&mut self, now: Time) -> Vec<Event> {
        let mut events = self.progress.due(now);
        events.extend(self.stalls.due(now, &self.core));
        events.extend(self.stragglers.due(now, &self.core));
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
        let of_ranks = [self.stalls.next_deadline(), self.stragglers.next_deadline()];
        let of_readings = of_ranks.into_iter().chain([self.progress.next_deadline()]);
        let others = [self.core.next_wakeup(), self.silence.next_deadline()];
        of_readings.chain(others).flatten().min()
    }

    /// Makes everything taken durable, and steps the core through it. `None` when the disk is
    /// full: then all of it goes on waiting.
    pub fn commit(&mut self, now: Time) -> Option<Effects> {
        let mut effects = Effects::new();
        let events = std::mem::take(&mut self.waiting);
        assert!(now >= self.core.now(), "violation: the control plane's clock went back");
        let at = now;
        for event in &events {
            if self.forget_to_journal && matches!(event, Event::StepReached { .. }) {
                continue;
            }
            let record = EventRecord::new(at, event.clone());
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
        let nodes = self.core.nodes().len() as u64;
        let often = RECORDS_PER_SNAPSHOT.max(nodes * RECORDS_PER_SNAPSHOT_AND_NODE);
        if self.stepped.0 - self.snapshot_at.0 >= often {
            self.snapshot();
        }
        Some(effects)
    }

    fn snapshot(&mut self) {
        let record = SnapshotRecord::V1 { core: self.core.snapshot() }.encode();
        // A full disk stays full a while: it is tried again after as many records.
        self.snapshot_at = self.stepped;
        match self.journal.snapshot(self.stepped, &record) {
            Ok(()) | Err(Error::DiskFull { .. }) => {}
            Err(error) => panic!("violation: {error}"),
        }
        let snapshots = self.journal.snapshots();
        if snapshots.len() > SNAPSHOTS_MAX {
            let last_but_one = snapshots[snapshots.len() - 2];
            let dropped = self.journal.drop_snapshots_before(last_but_one);
            dropped.unwrap_or_else(|error| panic!("violation: {error}"));
        }
    }

    pub fn disk(&self) -> &MemoryDisk {
        self.journal.disk()
    }

    /// It is told to end: with a snapshot, so that the next start is quick. Nothing waits.
    pub fn stop(mut self) -> Remains {
        assert!(!self.has_waiting());
        if self.stepped > self.snapshot_at {
            self.snapshot();
        }
        self.left()
    }

    /// It has lost its lease, and the journal takes nothing from it any more. Its last batch may
    /// have been taken in time: then it is durable, and nobody has acted on it.
    pub fn depose(mut self, now: Time, mut pick: impl FnMut(u64) -> u64) -> Remains {
        if self.has_waiting() && pick(1) == 1 {
            let waiting = std::mem::take(&mut self.waiting);
            let mut records = waiting.into_iter().map(|event| EventRecord::new(now, event));
            let appended = records.all(|record| self.journal.append_record(&record).is_ok());
            let _ = appended && self.journal.commit().is_ok();
        }
        self.left()
    }

    fn left(self) -> Remains {
        Remains {
            disk: self.journal.disk().clone(),
            stepped: self.stepped,
            digest: self.core.digest(),
        }
    }

    /// The control plane is killed, in the middle of a commit if something waits. `pick(n)`
    /// chooses from 0 to n how much of what was not synced survives.
    pub fn kill(mut self, now: Time, mut pick: impl FnMut(u64) -> u64) -> Remains {
        let (stepped, digest) = (self.stepped, self.core.digest());
        let mut disk = self.journal.disk().clone();
        if self.has_waiting() {
            disk.power_off_after(pick(2) as u32);
            let records = self.waiting.iter().map(|event| EventRecord::new(now, event.clone()));
            let written = records.into_iter().all(|r| self.journal.append_record(&r).is_ok());
            // With the power gone it fails, half-way.
            let _ = written && self.journal.commit().is_ok();
        }
        drop(self.journal);
        disk.crash(Tail::Cut, pick);
        Remains { disk, stepped, digest }
    }
}
