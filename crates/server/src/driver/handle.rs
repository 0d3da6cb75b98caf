//! How the rest of the server speaks to the core thread.

use super::{Halt, Input};
use crate::fault::Fault;
use crate::world::World;
use lindos_api::agent::{Message, Report, ReportAck};
use lindos_core::effect::Reply;
use lindos_model::reservation::Purpose;
use lindos_model::{JobId, JobSpec, Mended, RequestId, Time};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

/// What a person asks to be done.
#[derive(Debug)]
pub(crate) enum Ask {
    Submit { user: String, spec: Arc<JobSpec> },
    Cancel { job: JobId },
    Drain { node: String, reason: String },
    Undrain { node: String },
    Reserve { name: String, purpose: Purpose, nodes: Vec<String>, from: Time, until: Time },
    Unreserve { name: String },
    Mended { node: String, how: Mended },
}

/// What the thread and its handles both see.
#[derive(Debug)]
pub(crate) struct Shared {
    halt: Mutex<Option<Halt>>,
    /// Number of the newest trail entry.
    pub(super) trail: watch::Sender<u64>,
    /// Why the thread has ended, if it was not told to.
    pub(crate) failure: watch::Sender<Option<String>>,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            halt: Mutex::new(None),
            trail: watch::Sender::new(0),
            failure: watch::Sender::new(None),
        }
    }
}

impl Shared {
    pub(super) fn halt(&self) -> Option<Halt> {
        *self.halt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct DriverHandle {
    sender: SyncSender<Input>,
    shared: Arc<Shared>,
}

impl DriverHandle {
    pub(super) fn new(sender: SyncSender<Input>, shared: Arc<Shared>) -> Self {
        DriverHandle { sender, shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Follows the number of the newest trail entry.
    pub(crate) fn trail(&self) -> watch::Receiver<u64> {
        self.shared.trail.subscribe()
    }

    pub(crate) async fn ask(&self, request: RequestId, ask: Ask) -> Result<Reply, Fault> {
        let reply = self.send(|answer| Input::Request { request, ask, answer }).await?;
        match reply {
            Reply::Rejected { reason } => Err(Fault::from(&reason)),
            reply => Ok(reply),
        }
    }

    pub(crate) async fn report(&self, report: Box<Report>) -> Result<ReportAck, Fault> {
        self.send(|answer| Input::Report { report, answer }).await
    }

    pub(crate) async fn connect(
        &self,
        node: String,
        incarnation: u64,
        messages: mpsc::Sender<Message>,
    ) -> Result<(), Fault> {
        self.send(|answer| Input::Connect { node, incarnation, messages, answer }).await
    }

    /// Makes an answer on the core thread.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let answer = |answer: oneshot::Sender<Result<T, Fault>>| {
            Input::Read(Box::new(move |world| {
                let _ = answer.send(Ok(read(world)));
            }))
        };
        self.send(answer).await
    }

    async fn send<T>(
        &self,
        input: impl FnOnce(oneshot::Sender<Result<T, Fault>>) -> Input,
    ) -> Result<T, Fault> {
        let (answer, outcome) = oneshot::channel();
        match self.sender.try_send(input(answer)) {
            Ok(()) => outcome.await.unwrap_or_else(|_| Err(self.gone())),
            Err(TrySendError::Full(_)) => Err(Fault::busy()),
            Err(TrySendError::Disconnected(_)) => Err(self.gone()),
        }
    }

    /// The thread has ended without an answer.
    fn gone(&self) -> Fault {
        match self.shared.failure.borrow().as_ref() {
            Some(reason) => Fault::unavailable("journal_failed", reason.clone())
                .hint("running jobs go on; restart the control plane once the cause is mended"),
            None => Fault::stopping(),
        }
    }

    pub(crate) fn halt(&self, halt: Halt) {
        *self.shared.halt.lock().unwrap_or_else(PoisonError::into_inner) = Some(halt);
        // When there is no room, the thread is awake anyhow.
        let _ = self.sender.try_send(Input::Nudge);
    }
}
