//! One webhook's task: trail, messages, deliveries, and what it remembers of them.
//!
//! The trail is its buffer. It reads when there is something new, and never keeps the core from
//! its work; a receiver that is slow or dead only makes its own queue longer.

use super::alert::{Alert, Grade, Kind};
use super::body::Lost;
use super::courier::Courier;
use super::figures::{Counts, Figures};
use super::group::Grouper;
use super::memory::Memory;
use super::message::Message;
use super::queue::Queue;
use super::reader::{Page, Reader};
use crate::clock::Clock;
use crate::driver::DriverHandle;
use crate::fault::Fault;
use crate::token::random_u128;
use lindos_model::{Millis, Time};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Entries come in bursts: so long they are waited for before the core is asked.
const GATHER: Duration = Duration::from_millis(50);
/// Before a core that had no time is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// What happened longer ago when the control plane starts is past: it is counted, not told.
const PAST: Millis = Millis::from_secs(3600);

pub(super) struct Pipeline {
    pub driver: DriverHandle,
    pub reader: Arc<Mutex<Reader>>,
    pub grouper: Grouper,
    pub courier: Arc<Courier>,
    pub figures: Arc<Figures>,
    /// Which of the webhooks this is.
    pub index: usize,
    pub memory_path: PathBuf,
}

/// What it knows while it serves.
struct Progress {
    clock: Clock,
    read_to: u64,
    queue: Queue,
    deliveries: JoinSet<(Message, bool)>,
    /// Entries in the message that is under way.
    under_way: Vec<u64>,
    lost: Lost,
}

impl Pipeline {
    /// Until the control plane stops.
    pub(super) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut progress = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            progress = self.begin() => progress,
        };
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => {}
            () = self.serve(&mut progress) => {}
        }
        self.remember(&progress);
    }

    /// Takes up where the control plane before has stopped.
    async fn begin(&mut self) -> Progress {
        let (last, now) = loop {
            let newest = self.driver.read(|world| (world.core.trail_last_seq(), world.now));
            match newest.await {
                Ok(newest) => break newest,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        let remembered = Memory::read(&self.memory_path).unwrap_or_else(|error| {
            let path = self.memory_path.display();
            tracing::warn!(%path, %error, "alerts begin anew: what was told is not known");
            None
        });
        let memory = remembered.filter(|memory| memory.read_to <= last);
        let is_new = memory.is_none();
        let memory = memory.unwrap_or_else(|| Memory::new(&new_name(), last, []));
        if let Some(courier) = Arc::get_mut(&mut self.courier) {
            courier.state.clone_from(&memory.state);
        }
        let mut progress = Progress {
            clock: Clock::new(now),
            read_to: last,
            queue: Queue::default(),
            deliveries: JoinSet::new(),
            under_way: Vec::new(),
            lost: Lost::default(),
        };
        if is_new {
            self.remember(&progress);
        } else {
            progress.read_to = 0;
            self.catch_up(&mut progress, &memory, last, now).await;
        }
        progress
    }

    /// Goes through what is kept of the trail: what was told is only noted, and what was not is
    /// told now, unless it is long past.
    async fn catch_up(&mut self, progress: &mut Progress, memory: &Memory, last: u64, now: Time) {
        let mut past = 0;
        while progress.read_to < last {
            let Ok(page) = self.page(progress.read_to).await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            // Only what was never looked at is missed.
            let first = progress.read_to + page.missed + 1;
            let missed =
                if progress.read_to == 0 { first.saturating_sub(memory.read_to + 1) } else { 0 };
            progress.read_to = page.next_after;
            self.tell_missed(missed, first.saturating_sub(1), now);
            for alert in page.alerts {
                if memory.is_settled(alert.seq) {
                    self.grouper.recall(&alert);
                } else if now.since(alert.at) > PAST {
                    past += u64::from(self.grouper.would_take(&alert));
                    self.grouper.recall(&alert);
                } else {
                    self.grouper.take(alert);
                }
            }
            if page.next_after == 0 {
                break;
            }
        }
        if past > 0 {
            let said = format!("{past} events of longer than an hour ago were not told");
            self.grouper.take(own(last, now, said));
        }
    }

    async fn serve(&mut self, progress: &mut Progress) {
        let mut trail = self.driver.trail();
        loop {
            trail.borrow_and_update();
            if self.read_on(progress).await.is_err() {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            let now = progress.clock.now();
            let before = self.grouper.pending().count();
            let messages = self.grouper.poll(now);
            let is_less = self.grouper.pending().count() < before;
            let has_messages = !messages.is_empty();
            for message in messages {
                progress.queue.push(message);
            }
            if is_less && !has_messages {
                self.remember(progress);
            }
            self.send_next(progress);
            self.count(progress);
            let until_due = self.grouper.due().map(|due| progress.clock.until(due));
            tokio::select! {
                changed = trail.changed() => match changed {
                    Ok(()) => tokio::time::sleep(GATHER).await,
                    Err(_) => return,
                },
                () = sleep(until_due) => {}
                Some(done) = progress.deliveries.join_next() => {
                    progress.on_delivered(done.ok());
                    self.remember(progress);
                }
            }
        }
    }

    async fn read_on(&mut self, progress: &mut Progress) -> Result<(), Fault> {
        loop {
            let page = self.page(progress.read_to).await?;
            let first = progress.read_to + page.missed;
            progress.read_to = page.next_after;
            self.tell_missed(page.missed, first, page.now);
            for alert in page.alerts {
                self.grouper.take(alert);
            }
            if page.is_last {
                return Ok(());
            }
        }
    }

    async fn page(&self, after: u64) -> Result<Page, Fault> {
        let reader = Arc::clone(&self.reader);
        let read = move |world: &mut crate::world::World| {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.page(&world.core, after, world.now)
        };
        self.driver.read(read).await
    }

    fn tell_missed(&mut self, missed: u64, last: u64, now: Time) {
        if missed > 0 {
            let said = format!("{missed} events were forgotten before they could be told");
            self.grouper.take(own(last, now, said));
        }
    }

    /// One message at a time, so that they arrive in order.
    fn send_next(&self, progress: &mut Progress) {
        if !progress.deliveries.is_empty() {
            return;
        }
        let Some(message) = progress.queue.pop() else { return };
        progress.under_way.clone_from(&message.seqs);
        let (courier, figures) = (Arc::clone(&self.courier), Arc::clone(&self.figures));
        let (lost, index) = (progress.lost, self.index);
        progress.deliveries.spawn(async move {
            let is_taken = courier.deliver(&message, lost, figures.counts(index)).await;
            (message, is_taken)
        });
    }

    fn count(&self, progress: &Progress) {
        let counts: &Counts = self.figures.counts(self.index);
        let waiting = progress.queue.len() + progress.deliveries.len();
        counts.queued.store(waiting as u64, Relaxed);
        counts.merged.store(progress.queue.merged, Relaxed);
    }

    /// Quick: a small file, and not forced to the disk.
    fn remember(&self, progress: &Progress) {
        let waiting = progress.queue.pending().chain(progress.under_way.iter().copied());
        let pending = self.grouper.pending().chain(waiting);
        let memory = Memory::new(&self.courier.state, progress.read_to, pending);
        if let Err(error) = memory.write(&self.memory_path) {
            let path = self.memory_path.display();
            tracing::warn!(%path, %error, "what was told is not noted; it may be told again");
        }
    }
}

impl Progress {
    /// `done`: the message, and whether it was taken. Nothing, if its task was lost.
    fn on_delivered(&mut self, done: Option<(Message, bool)>) {
        self.under_way.clear();
        match done {
            Some((_, true)) => self.lost = Lost::default(),
            Some((message, false)) => {
                self.lost.messages += 1;
                self.lost.events += message.count as u64;
            }
            None => tracing::error!("a bug: the delivery of an alert panicked"),
        }
    }
}

async fn sleep(span: Option<Duration>) {
    match span {
        Some(span) => tokio::time::sleep(span).await,
        None => std::future::pending().await,
    }
}

/// 16 hexadecimal digits.
fn new_name() -> String {
    random_u128().map_or_else(|_| "0".repeat(16), |number| format!("{:016x}", number as u64))
}

/// What the alerts say of themselves.
fn own(seq: u64, at: Time, said: String) -> Alert {
    Alert {
        seq,
        at,
        grade: Grade::Warning,
        kind: Kind::ControlPlane,
        class: "alerts".into(),
        node: None,
        job: None,
        mends: &[],
        text: said.clone(),
        words: said,
    }
}
