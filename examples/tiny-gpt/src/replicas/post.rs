//! What arrives from the other replicas, and what is sent to them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::agreement::{Member, WasDropped};
use super::meeting::Event;
use super::wire::Letter;
use super::{Open, Replicas, went_on_without};
use crate::failure::Failure;
use crate::link::Kind;

/// How often a replica that waits for an event looks at the clock and the checkpoint folder.
const TICK: Duration = Duration::from_millis(50);

/// When a source is lost, the others mostly lose it too, and soon agree on another.
const CUT_OFF_MAX: Duration = Duration::from_secs(10);

impl Replicas {
    pub(super) fn has_part(&self, member: Member, round: u64) -> bool {
        let is_part = |letter: &Letter| is_part(letter, member, round);
        self.place_of_letter(Kind::Part, is_part).is_some()
    }

    pub(super) fn take_letter(
        &mut self,
        kind: Kind,
        wanted: impl Fn(&Letter) -> bool,
    ) -> Option<Letter> {
        self.place_of_letter(kind, wanted).map(|place| self.letters.swap_remove(place))
    }

    /// A letter of this view, once it is settled. Others may have a view of the same number,
    /// where few are enough for two runs.
    fn place_of_letter(&self, kind: Kind, wanted: impl Fn(&Letter) -> bool) -> Option<usize> {
        let view = self.agreement.view().filter(|_| self.agreement.settled())?;
        self.letters.iter().position(|letter| {
            letter.kind == kind
                && letter.view == view.number
                && view.members.contains(&letter.from)
                && wanted(letter)
        })
    }

    /// One event at least, if there is one before the next tick.
    pub(super) fn wait(&mut self) -> Result<()> {
        self.watch()?;
        if let Some(event) = self.next_event(TICK) {
            self.handle(event)?;
        }
        self.drain()
    }

    pub(super) fn drain(&mut self) -> Result<()> {
        while let Some(event) = self.next_event(Duration::ZERO) {
            self.handle(event)?;
        }
        Ok(())
    }

    fn next_event(&self, timeout: Duration) -> Option<Event> {
        self.meeting.as_ref()?.next(timeout)
    }

    fn handle(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Linked { member, serial, link } => {
                self.lose(member.replica);
                if self.agreement.was_dropped(member) {
                    link.close();
                } else {
                    self.links.insert(member.replica, Open { member, serial, link });
                    self.agreement.linked(member);
                }
            }
            Event::Lost { replica, serial } => {
                if self.links.get(&replica).is_some_and(|open| open.serial == serial) {
                    self.lose(replica);
                }
            }
            Event::Frame { replica, serial, kind, payload } => {
                let open = self.links.get(&replica).filter(|open| open.serial == serial);
                if let Some(member) = open.map(|open| open.member) {
                    self.receive(member, kind, payload)?;
                }
            }
            Event::Refused(reason) => {
                if self.agreement.view().is_none() {
                    bail!(Failure::PeerLost(reason));
                }
            }
        }
        Ok(())
    }

    fn lose(&mut self, replica: usize) {
        if let Some(open) = self.links.remove(&replica) {
            open.link.close();
            self.agreement.lost(replica);
            self.refuse_if_dropped(open.member);
        }
    }

    pub(super) fn refuse_if_dropped(&self, member: Member) {
        if let Some(meeting) = self.meeting.as_ref().filter(|_| self.agreement.was_dropped(member))
        {
            meeting.refuse_for_good(member);
        }
    }

    fn receive(&mut self, from: Member, kind: Kind, payload: Vec<u8>) -> Result<()> {
        if kind != Kind::Talk {
            let letter = Letter::decode(from, kind, payload)?;
            if self.agreement.listens_in(letter.view) {
                self.letters.push(letter);
            }
            return Ok(());
        }
        let message = serde_json::from_slice(&payload)
            .with_context(|| format!("a message of replica {}", from.replica))?;
        self.agreement
            .heard(from.replica, message)
            .map_err(|WasDropped| went_on_without(self.me.replica).into())
    }

    pub(super) fn send_messages(&mut self) {
        while let Some((replica, message)) = self.agreement.poll_message() {
            let payload = serde_json::to_vec(&message).expect("numbers and names");
            self.send(replica, Kind::Talk, &payload);
        }
    }

    /// What cannot be sent is a loss, of which the reader of that link tells.
    pub(super) fn send(&mut self, replica: usize, kind: Kind, payload: &[u8]) {
        if let Some(open) = self.links.get_mut(&replica)
            && open.link.send(kind, payload).is_err()
        {
            open.link.close();
        }
    }

    /// Too few replicas wait for one to come back, but not for ever. And a source that is lost
    /// to this replica alone is lost to it for good: the others do not know.
    fn watch(&mut self) -> Result<()> {
        let cut_off = self.source.is_some_and(|source| !self.agreement.is_there(source));
        let too_few = self.agreement.view().is_some() && !self.agreement.are_enough();
        if !cut_off && !too_few {
            self.stuck_since = None;
            return Ok(());
        }
        let least = self.least;
        let since = *self.stuck_since.get_or_insert_with(|| {
            if too_few {
                eprintln!("tiny-gpt: fewer than {least} replicas are left; waiting for one");
            }
            Instant::now()
        });
        if too_few && since.elapsed() > self.patience {
            bail!(Failure::PeerLost(format!("fewer than {least} replicas were left for too long")));
        }
        if cut_off && since.elapsed() > CUT_OFF_MAX {
            bail!(Failure::PeerLost("lost the replica that was to give the state".to_owned()));
        }
        Ok(())
    }
}

pub(super) fn is_part(letter: &Letter, member: Member, round: u64) -> bool {
    letter.from == member && letter.round() == Some(round)
}
