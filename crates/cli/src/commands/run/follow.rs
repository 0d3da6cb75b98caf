//! Follows one job to its end: what happened, and how far it is, four times a second.

use crate::commands::up::Signals;
use crate::connect::Patience;
use crate::failure::Failure;
use crate::output;
use lindos_api::client::{Client, ClientError};
use lindos_api::user::{Done, EventView, JobDetail, LedgerView};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const LOOK: Duration = Duration::from_millis(250);
/// The ledger is only for the eye while the job runs: every so many looks.
const LOOKS_A_LEDGER: u64 = 4;

/// Is told what happens, in order.
pub trait Watcher {
    fn event(&mut self, event: &EventView);
    /// The job as it is now; the fleet's GPU-time since it was submitted.
    fn progress(&mut self, job: &JobDetail, ledger: &LedgerView);
    fn say(&mut self, text: &str) {
        output::message(text);
    }
    fn finish(&mut self) {}
}

/// For a stderr that nobody looks at.
pub struct Quiet;

impl Watcher for Quiet {
    fn event(&mut self, _event: &EventView) {}
    fn progress(&mut self, _job: &JobDetail, _ledger: &LedgerView) {}
}

pub enum End {
    Over {
        detail: Box<JobDetail>,
        was_interrupted: bool,
    },
    /// The person would not wait for the job to stop.
    Left,
}

pub struct Follower<'a> {
    pub client: &'a Client,
    pub job: u64,
    pub before: &'a LedgerView,
}

impl Follower<'_> {
    /// Until the job is over, or the second Ctrl-C. The first one cancels it.
    pub async fn follow(
        &self,
        watcher: &mut dyn Watcher,
        signals: &mut Signals,
    ) -> Result<End, Failure> {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = Seen::default();
        let mut patience = Patience::default();
        let mut was_interrupted = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = signals.next() => {
                    if was_interrupted {
                        return Ok(End::Left);
                    }
                    was_interrupted = true;
                    watcher.say("cancelling the job; Ctrl-C again leaves at once");
                    tokio::select! {
                        result = self.client.cancel(self.job) => accept(result)?,
                        () = signals.next() => return Ok(End::Left),
                    }
                }
            }
            match self.look(watcher, &mut seen).await {
                Ok(detail) => {
                    patience.regain();
                    if detail.summary.state.is_final() {
                        return Ok(End::Over { detail: Box::new(detail), was_interrupted });
                    }
                }
                Err(failure) => patience.lose(failure)?,
            }
        }
    }

    /// The job is asked for before the events, so that all that led to what is shown of it has
    /// been told before.
    async fn look(&self, watcher: &mut dyn Watcher, seen: &mut Seen) -> Result<JobDetail, Failure> {
        let detail = self.client.job(self.job).await?;
        for event in self.client.events(seen.event, Some(self.job)).await? {
            watcher.event(&event);
            seen.event = event.seq;
        }
        if seen.looks.is_multiple_of(LOOKS_A_LEDGER) {
            let now = self.client.goodput().await?.ledger;
            seen.ledger = crate::render::ledger::difference(self.before, &now);
        }
        seen.looks += 1;
        watcher.progress(&detail, &seen.ledger);
        Ok(detail)
    }
}

/// A job that ended in the same moment need not be cancelled.
fn accept(cancelled: Result<Done, ClientError>) -> Result<(), Failure> {
    match cancelled {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("job_is_over") => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[derive(Default)]
struct Seen {
    event: u64,
    looks: u64,
    ledger: LedgerView,
}
