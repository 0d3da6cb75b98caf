//! From events to facts: durable first, then stepped, then acted upon.

use super::stage::Staged;
use super::{Driver, Fatal, Input, RETRY_INTERVAL, Waiter};
use crate::fault::Fault;
use lindos_api::agent::ReportAck;
use lindos_core::Event;
use lindos_core::effect::Effect;
use lindos_journal::EventRecord;
use lindos_journal::{Disk, Error};
use lindos_model::{Time, TrailEntry, TrailKind};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Readings of forgotten jobs are dropped after so many ends: a pass at each would cost more.
const ENDED_JOBS_KEPT: u32 = 256;

type Pending = VecDeque<(Event, Option<Waiter>)>;

impl<D: Disk> Driver<D> {
    /// Makes the events durable, in as few batches as the journal allows, and lets them happen.
    /// Those that the journal refuses have not happened, and neither have those after them.
    pub(super) fn commit(&mut self, at: Time, staged: Staged) -> Result<(), Fatal> {
        let mut events = Pending::from(staged.events);
        while !events.is_empty() {
            let mut batch = Pending::new();
            let outcome = self.append(at, &mut events, &mut batch);
            match outcome.and_then(|()| self.journal.commit()) {
                Ok(_) => {
                    if self.trouble.take().is_some() {
                        tracing::info!("the journal takes records again");
                    }
                    for (event, waiter) in batch {
                        self.took_effect(at, &event, waiter);
                    }
                }
                Err(error) => {
                    self.journal.discard();
                    batch.append(&mut events);
                    self.refuse(batch, &error);
                    if let Error::Poisoned { .. } = error {
                        return Err(Fatal(error.to_string()));
                    }
                    break;
                }
            }
        }
        self.world.agents.end_of_batch();
        self.shared.trail.send_replace(self.world.core.trail_last_seq());
        Ok(())
    }

    /// Moves as many events into `batch` as one commit can take.
    fn append(&mut self, at: Time, events: &mut Pending, batch: &mut Pending) -> Result<(), Error> {
        while let Some((event, waiter)) = events.pop_front() {
            let record = EventRecord::new(at, event);
            let appended = self.journal.append_record(&record);
            let (_, event) = record.into_parts();
            match appended {
                Ok(_) => batch.push_back((event, waiter)),
                Err(Error::BatchFull { .. }) if !batch.is_empty() => {
                    events.push_front((event, waiter));
                    return Ok(());
                }
                // It alone is at fault: the others go on without it.
                Err(error @ Error::PayloadTooLarge { .. }) => {
                    self.refuse(Pending::from([(event, waiter)]), &error);
                }
                Err(error) => {
                    events.push_front((event, waiter));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Nothing of these has happened, and whoever waits for them is told so.
    fn refuse(&mut self, batch: Pending, error: &Error) {
        let fault = Fault::from(error);
        if self.trouble.as_ref().is_none_or(|(_, before)| *before != fault) {
            tracing::error!(%error, "nothing new is accepted; running jobs go on");
        }
        if !matches!(error, Error::PayloadTooLarge { .. }) {
            self.trouble = Some((Instant::now() + RETRY_INTERVAL, fault.clone()));
        }
        for (event, waiter) in batch {
            self.unstage(&event);
            match waiter {
                Some(Waiter::Report { answer, .. }) => {
                    let _ = answer.send(Err(fault.clone()));
                }
                Some(Waiter::Request(request)) => {
                    for answer in self.waiting.remove(&request).unwrap_or_default() {
                        let _ = answer.send(Err(fault.clone()));
                    }
                }
                None => {}
            }
        }
    }

    /// Steps the core through a durable event and carries out what it asks for.
    pub(super) fn took_effect(&mut self, at: Time, event: &Event, waiter: Option<Waiter>) {
        self.since_snapshot += 1;
        let mut effects = std::mem::take(&mut self.effects);
        self.world.core.step(at, event, &mut effects);
        self.settle(at, event);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
        match waiter {
            Some(Waiter::Report { seq, answer }) => {
                let _ = answer.send(Ok(ReportAck { seq }));
            }
            // The core answers every request; were one left, its sender would wait for ever.
            Some(Waiter::Request(request)) => drop(self.waiting.remove(&request)),
            None => {}
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { request, reply } => {
                for answer in self.waiting.remove(&request).unwrap_or_default() {
                    let _ = answer.send(Ok(reply.clone()));
                }
            }
            Effect::Command(command) => {
                self.world.agents.command(&self.world.core, &command);
            }
            Effect::Fence { id: fence, node } => {
                let Some(known) = self.world.core.node(node) else { return };
                let (name, sender) = (known.spec.name.clone(), self.sender.clone());
                tracing::warn!(node = name, "fencing");
                self.fences.begin(node, name, Arc::clone(&self.fencer), move |outcome| {
                    // When the control plane has ended meanwhile, the next one fences again.
                    let _ = sender.send(Input::Fenced { node, fence, outcome });
                });
            }
            // They stand in what the core waits for, and are looked for there.
            Effect::Remedy { .. } | Effect::BurnIn { .. } | Effect::CancelBurnIn { .. } => {
                self.mending.must_look = true;
            }
            Effect::Trail(entry) => self.on_trail(&entry),
        }
    }

    fn on_trail(&mut self, entry: &TrailEntry) {
        tracing::info!(seq = entry.seq, "{entry}");
        self.world.tally.note(entry);
        let is_end = matches!(
            entry.what,
            TrailKind::Completed | TrailKind::Failed { .. } | TrailKind::Cancelled
        );
        if let (Some(job), true) = (entry.job, is_end) {
            self.progress.forget(job);
            self.stalls.forget(job);
            self.stragglers.forget(job);
            self.symptoms.forget(job);
            self.ended_jobs += 1;
            if self.ended_jobs >= ENDED_JOBS_KEPT {
                self.ended_jobs = 0;
                let core = &self.world.core;
                self.world.telemetry.retain(|job| core.job(job).is_some());
            }
        }
    }
}
