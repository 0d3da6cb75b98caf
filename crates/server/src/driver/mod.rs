//! The one thread that owns the core and the journal.
//!
//! It takes everything that waits, makes it durable with one sync, steps the core through it, and
//! carries out what the core asks for; then it answers questions for a few milliseconds, and
//! begins again. Nothing is acknowledged, ordered or shown before it is durable.
//!
//! When the journal has no room, the batch is refused whole: the core has not seen it, whoever
//! sent it is told so and sends it again. When a sync fails, what is durable is unknown; the
//! thread then ends, and with it the control plane, while agents and ranks go on.

mod commit;
mod handle;
mod mending;
mod pair;
mod stage;

pub(crate) use handle::{Ask, DriverHandle, Shared};

use crate::Fencer;
use crate::clock::Clock;
use crate::fault::Fault;
use crate::fences::Fences;
use crate::mender::Mender;
use crate::world::World;
use lindos_api::agent::{Message, Report, ReportAck};
use lindos_core::edges::{
    ProgressEdges, ReportEdges, SilenceWatch, StallWatch, StragglerWatch, SymptomEdges,
};
use lindos_core::effect::Reply;
use lindos_core::{Core, Effects, Event};
use lindos_journal::{Disk, EventRecord, Journal, SnapshotRecord};
use lindos_model::{EffectId, Millis, NodeId, Outcome, Policy, RequestId, Time};
use mending::Mending;
use stage::Staged;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Inputs taken into one batch: more would make the first of them wait for the last.
const BATCH_INPUTS_MAX: usize = 4096;
/// Inputs that may wait for the thread: a report of every node of a small fleet, or a tenth of a
/// large one's; whoever finds no room is told to come again.
const INPUTS_MAX: usize = 16_384;
/// Questions are answered for this long before the next batch is looked for.
const READS_SPAN: Duration = Duration::from_millis(5);
/// Silence and thinned progress are looked at this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A thread that did not listen for less than this was not deaf.
const DEAF_MIN: Duration = Duration::from_secs(1);
/// A batch that nobody asked for (time alone) is tried again this long after the journal refused.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Between two snapshots: a replay of so many takes about a second.
const SNAPSHOT_RECORDS: u64 = 100_000;
/// When there are more snapshots than this, all but the last two are removed.
const SNAPSHOTS_MAX: usize = 4;

type Answer<T> = oneshot::Sender<Result<T, Fault>>;
type Read = Box<dyn FnOnce(&mut World) + Send>;

/// What reaches the thread.
pub(crate) enum Input {
    Request {
        request: RequestId,
        ask: Ask,
        answer: Answer<Reply>,
    },
    Report {
        report: Box<Report>,
        answer: Answer<ReportAck>,
    },
    Connect {
        node: String,
        incarnation: u64,
        messages: mpsc::Sender<Message>,
        answer: Answer<()>,
    },
    Fenced {
        node: NodeId,
        fence: EffectId,
        outcome: Result<(), String>,
    },
    /// A remedy beside the control plane is over.
    Mended {
        id: EffectId,
        outcome: Outcome,
    },
    Read(Read),
    /// Look at [`Shared::halt`].
    Nudge,
}

/// How the thread is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// With a snapshot, so that the next start is quick.
    Clean,
    /// At once, as if the process had been killed.
    Drop,
}

/// Who waits for an event to become durable.
enum Waiter {
    Report { seq: u64, answer: Answer<ReportAck> },
    Request(RequestId),
}

pub(crate) struct Driver<D: Disk> {
    journal: Journal<D>,
    world: World,
    clock: Clock,
    inputs: Receiver<Input>,
    /// For threads of its own that report back.
    sender: SyncSender<Input>,
    shared: Arc<Shared>,
    fencer: Arc<dyn Fencer>,
    fences: Fences,
    mender: Arc<dyn Mender>,
    mending: Mending,
    reads: VecDeque<Read>,
    /// Reports of nodes that join in the batch before.
    deferred: VecDeque<(Box<Report>, Answer<ReportAck>)>,
    waiting: BTreeMap<RequestId, Vec<Answer<Reply>>>,
    silence: SilenceWatch,
    reports: ReportEdges,
    progress: ProgressEdges,
    stalls: StallWatch,
    stragglers: StragglerWatch,
    symptoms: SymptomEdges,
    looked_at: Instant,
    /// When the thread last listened, to tell silence of a node from deafness of its own.
    listened_at: Instant,
    /// While the journal refuses: when to try again by ourselves, and what it said.
    trouble: Option<(Instant, Fault)>,
    since_snapshot: u64,
    /// Empty between steps; kept for its room.
    effects: Effects,
    /// Since the readings of forgotten jobs were last dropped.
    ended_jobs: u32,
}

/// The journal takes no more records.
pub(crate) struct Fatal(pub(crate) String);

impl<D: Disk> Driver<D> {
    /// A driver of `core`, which is what `journal` says; its first event is that a control plane
    /// took over.
    pub(crate) fn start(
        journal: Journal<D>,
        core: Core,
        policy: Policy,
        fencer: Arc<dyn Fencer>,
        mender: Arc<dyn Mender>,
        stragglers: StragglerWatch,
        since_snapshot: u64,
    ) -> Result<(Self, DriverHandle), lindos_journal::Error> {
        let (sender, inputs) = std::sync::mpsc::sync_channel(INPUTS_MAX);
        let shared = Arc::new(Shared::default());
        let mut clock = Clock::new(core.now());
        let now = clock.now();
        let records = journal.durable().0;
        let world = World {
            core,
            telemetry: crate::telemetry::Telemetry::default(),
            agents: crate::agents::Agents::default(),
            tally: crate::tally::Tally::default(),
            now,
            records,
        };
        let mut driver = Driver {
            journal,
            world,
            clock,
            inputs,
            sender: sender.clone(),
            shared: Arc::clone(&shared),
            fencer,
            fences: Fences::default(),
            mending: Mending::new(mender.as_ref()),
            mender,
            reads: VecDeque::new(),
            deferred: VecDeque::new(),
            waiting: BTreeMap::new(),
            silence: SilenceWatch::new(Millis(policy.node_silent_ms)),
            reports: ReportEdges::default(),
            progress: ProgressEdges::new(Millis(policy.progress_interval_ms)),
            stalls: StallWatch::default(),
            stragglers,
            symptoms: SymptomEdges::default(),
            looked_at: Instant::now(),
            listened_at: Instant::now(),
            trouble: None,
            since_snapshot,
            effects: Effects::new(),
            ended_jobs: 0,
        };
        let event = Event::ControlPlaneStarted { policy: Box::new(policy) };
        driver.journal.append_record(&EventRecord::new(now, event.clone()))?;
        driver.journal.commit()?;
        driver.took_effect(now, &event, None);
        driver.listen_anew(now);
        Ok((driver, DriverHandle::new(sender, shared)))
    }

    /// Until it is told to halt, or the journal fails.
    pub(crate) fn run(mut self) -> Result<(), Fatal> {
        loop {
            let inputs = self.wait();
            match self.shared.halt() {
                Some(Halt::Clean) => {
                    self.turn(inputs)?;
                    self.snapshot();
                    return Ok(());
                }
                Some(Halt::Drop) => return Ok(()),
                None => {}
            }
            self.turn(inputs)?;
            if self.since_snapshot >= SNAPSHOT_RECORDS {
                self.snapshot();
            }
            self.answer_reads();
        }
    }

    /// Everything that waits, or what comes before there is something to do.
    fn wait(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        let patience = self.patience();
        match self.inputs.recv_timeout(patience) {
            Ok(input) => inputs.push(input),
            Err(RecvTimeoutError::Timeout) => {}
            // The driver holds a sender itself.
            Err(RecvTimeoutError::Disconnected) => unreachable!("a sender is left"),
        }
        while inputs.len() < BATCH_INPUTS_MAX {
            let Ok(input) = self.inputs.try_recv() else { break };
            inputs.push(input);
        }
        inputs
    }

    fn patience(&mut self) -> Duration {
        let has_own = self.mending.must_look && self.trouble.is_none();
        if !self.reads.is_empty() || !self.deferred.is_empty() || has_own {
            return Duration::ZERO;
        }
        if let Some((retry_at, _)) = &self.trouble {
            return retry_at
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1));
        }
        let wakeup = self.world.core.next_wakeup();
        wakeup.map_or(LOOK_INTERVAL, |at| self.clock.until(at)).min(LOOK_INTERVAL)
    }

    /// Whether a batch may be tried that nobody asked for.
    fn may_act_alone(&self) -> bool {
        self.trouble.as_ref().is_none_or(|(retry_at, _)| Instant::now() >= *retry_at)
    }

    /// Answers questions for a while; those that are left wait for the next turn.
    fn answer_reads(&mut self) {
        let until = Instant::now() + READS_SPAN;
        while let Some(read) = self.reads.pop_front() {
            self.world.now = self.clock.now();
            self.world.records = self.journal.durable().0;
            read(&mut self.world);
            if Instant::now() >= until {
                break;
            }
        }
    }

    /// Silence counts from now on for every node that should be heard.
    fn listen_anew(&mut self, now: Time) {
        self.silence.listen_anew(self.world.core.nodes().len(), now);
        self.listened_at = Instant::now();
    }

    fn snapshot(&mut self) {
        if self.since_snapshot == 0 {
            return;
        }
        let began = Instant::now();
        let payload = SnapshotRecord::V1 { core: self.world.core.snapshot() }.encode();
        let seq = self.journal.durable();
        // Tried again after as many records, not in every turn: a full disk stays full a while.
        self.since_snapshot = 0;
        if let Err(error) = self.journal.snapshot(seq, &payload) {
            tracing::warn!(%error, "no snapshot was written; a replay will take longer");
            return;
        }
        tracing::info!(%seq, bytes = payload.len(), took = ?began.elapsed(), "snapshot");
        let snapshots = self.journal.snapshots();
        if snapshots.len() > SNAPSHOTS_MAX {
            let last_but_one = snapshots[snapshots.len() - 2];
            // The records stay: a fleet's history is what the twin replays.
            match self.journal.drop_snapshots_before(last_but_one) {
                Ok(dropped) => tracing::info!(dropped, "old snapshots removed"),
                Err(error) => tracing::warn!(%error, "old snapshots were not removed"),
            }
        }
    }
}

impl<D: Disk> std::fmt::Debug for Driver<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("durable", &self.journal.durable()).finish_non_exhaustive()
    }
}
