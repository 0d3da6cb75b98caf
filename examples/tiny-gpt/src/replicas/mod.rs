//! Replicas that train together and outlive each other: the leader's side, its rank 0.
//!
//! Inside a replica the ranks are a [`Group`], and what holds for that holds here: a lost rank
//! ends its replica. The leaders are connected each to each. In every step the replicas share
//! the micro-batches; the lowest adds up the parts in the order of [`crate::tree`] and gives all
//! the sum, so that the losses do not hang on how many there are. When one is lost, the others
//! agree anew who is there ([`agreement`]), share that step anew, and go on. One that comes back
//! gets the state from another between two steps.

pub mod agreement;
mod meeting;
mod place;
#[cfg(test)]
mod simulation;
mod wire;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use self::place::Place;

use self::agreement::{Agreement, Begin, Begun, Member, View, WasDropped};
use self::meeting::{Event, Meeting};
use self::wire::{Letter, pack, unpack};
use crate::config::Config;
use crate::failure::Failure;
use crate::group::{Group, content, message};
use crate::launch::Launch;
use crate::link::{Kind, Link};
use crate::optimizer::State;
use crate::tree::{self, Parts};

/// How often a replica that waits for an event looks at the clock and the checkpoint folder.
const TICK: Duration = Duration::from_millis(50);

/// When a source is lost, the others mostly lose it too, and soon agree on another.
const CUT_OFF_MAX: Duration = Duration::from_secs(10);

/// The corpus, and the state to go on from.
pub type Start = (Vec<u8>, State);

/// Where a run is kept while it is not running.
pub trait Shelf {
    /// The run if it is done: then nobody is left to go on with.
    fn finished(&self) -> Result<Option<Start>>;
    /// Where the first step of an attempt begins.
    fn load(&self) -> Result<Start>;
}

/// What the replicas ask of the one who trains.
pub trait Trainee {
    fn corpus(&self) -> &[u8];
    fn state(&self) -> &State;
    /// This replica writes the checkpoints from now on; whoever did may not have come to it.
    fn took_over(&self) -> Result<()>;
}

#[derive(Debug)]
struct Open {
    member: Member,
    serial: u64,
    link: Link,
}

/// One replica among the others.
#[derive(Debug)]
pub struct Replicas {
    me: Member,
    group: Group,
    agreement: Agreement,
    /// None for a replica that found the run done.
    meeting: Option<Meeting>,
    links: BTreeMap<usize, Open>,
    letters: Vec<Letter>,
    /// For whoever missed it: the last sum as it was published.
    last_sum: Vec<f32>,
    /// Whether this replica missed the last sum, and waits for that alone.
    behind: bool,
    /// Who gives this replica the state or the sum that it lacks.
    source: Option<Member>,
    least: usize,
    /// Since when it cannot go on without luck.
    stuck_since: Option<Instant>,
    patience: Duration,
}

impl Replicas {
    /// Find the others and begin with them, or be taken in where they are.
    pub fn form(
        launch: &Launch,
        place: &Place,
        config: &Config,
        group: Group,
        patience: Duration,
        shelf: &impl Shelf,
    ) -> Result<(Self, Start)> {
        let me = Member { replica: place.replica, epoch: launch.epoch };
        let deadline = Instant::now() + patience;
        let mut replicas = Self {
            me,
            group,
            agreement: Agreement::new(me, place.replicas, place.least, config.steps),
            meeting: None,
            links: BTreeMap::new(),
            letters: Vec::new(),
            last_sum: Vec::new(),
            behind: false,
            source: None,
            least: place.least,
            stuck_since: None,
            patience,
        };
        let started = replicas.start(launch, place, config, deadline, shelf);
        match started {
            Ok(start) => Ok((replicas, start)),
            Err(error) => {
                replicas.group.give_up(&format!("{error:#}"));
                Err(error)
            }
        }
    }

    fn start(
        &mut self,
        launch: &Launch,
        place: &Place,
        config: &Config,
        deadline: Instant,
        shelf: &impl Shelf,
    ) -> Result<Start> {
        // A replica that is late finds the run done and nobody there.
        if let Some(start) = self.finish_alone(shelf)? {
            return Ok(start);
        }
        let Member { replica, epoch } = self.me;
        self.meeting = Some(Meeting::open(self.me, launch, place, config, deadline)?);
        eprintln!(
            "tiny-gpt: replica {replica} of {} meets the others, epoch {epoch}",
            place.replicas
        );
        loop {
            if self.agreement.view().is_none() {
                if let Some(start) = self.finish_alone(shelf)? {
                    return Ok(start);
                }
                if Instant::now() >= deadline {
                    self.wait_no_longer(place)?;
                }
            }
            self.agreement.review(false);
            self.send_messages();
            if let Some(start) = self.try_to_start(shelf)? {
                return Ok(start);
            }
            self.wait()?;
        }
    }

    /// What is left of a run that is done, each replica does alone.
    fn finish_alone(&mut self, shelf: &impl Shelf) -> Result<Option<Start>> {
        let finished = shelf.finished()?;
        if let Some((_, state)) = &finished {
            self.agreement.go_alone(state.step);
            self.links.values().for_each(|open| open.link.close());
            self.links.clear();
            self.meeting = None;
        }
        Ok(finished)
    }

    /// Whoever has not come by now may never come.
    fn wait_no_longer(&mut self, place: &Place) -> Result<()> {
        if self.agreement.sees_a_run() || self.links.len() + 1 >= self.least {
            self.agreement.wait_no_longer();
            return Ok(());
        }
        let others = (0..place.replicas).filter(|replica| *replica != self.me.replica);
        let missing: Vec<_> = others
            .filter(|replica| !self.links.contains_key(replica))
            .map(|replica| replica.to_string())
            .collect();
        bail!(Failure::PeerLost(format!(
            "did not connect in time: replica {}\n\
             hint: are they running, and is LINDOS_REPLICA_ADDRS right?",
            missing.join(", ")
        )))
    }

    /// The state: from the shelf if nobody has one, or else from whoever has.
    fn try_to_start(&mut self, shelf: &impl Shelf) -> Result<Option<Start>> {
        while let Some(begun) = self.agreement.poll_begun() {
            let begin = self.take_note(begun);
            if begin.step.is_none() && begin.source == self.me.replica {
                let (corpus, state) = shelf.load()?;
                self.agreement.stands_at(state.step);
                self.give_state(&begin, &corpus, &state);
                return Ok(Some((corpus, state)));
            }
        }
        let Some(letter) = self.take_letter(Kind::State, |_| true) else {
            return Ok(None);
        };
        let (corpus, state, last_sum) = unpack(&letter.content)?;
        eprintln!(
            "tiny-gpt: replica {} goes on after step {} with the state of replica {}",
            self.me.replica, state.step, letter.from.replica
        );
        self.agreement.stands_at(state.step);
        self.source = None;
        self.last_sum = last_sum;
        Ok(Some((corpus, state)))
    }

    /// The sum over `leaves` vectors of length `len`, as [`Group::sum`] has it, over all
    /// replicas that are there, and whoever of them is lost meanwhile.
    pub fn sum(
        &mut self,
        round: u64,
        leaves: usize,
        len: usize,
        mut leaf: impl FnMut(usize) -> Result<Vec<f32>>,
        trainee: &impl Trainee,
    ) -> Result<Vec<f32>> {
        self.drain()?;
        let mut computed = None;
        let sum = loop {
            self.review(round);
            self.send_messages();
            self.act_on_begun(trainee)?;
            let Some(view) = self.agreement.view().filter(|_| self.agreement.settled()).cloned()
            else {
                self.wait()?;
                continue;
            };
            let is_sum = |letter: &Letter| letter.round() == Some(round);
            if let Some(letter) = self.take_letter(Kind::Sum, is_sum) {
                break content(&letter.content, round, len)
                    .with_context(|| format!("from replica {}", letter.from.replica))?;
            }
            match &computed {
                _ if self.behind => self.wait()?,
                Some((number, parts)) if *number == view.number => {
                    if let Some(sum) = self.add_up(&view, round, leaves, len, parts)? {
                        break sum;
                    }
                    self.wait()?;
                }
                _ => {
                    let parts = self.compute(&view, round, leaves, len, &mut leaf)?;
                    computed = Some((view.number, parts));
                    self.drain()?;
                }
            }
        };
        self.close_round(round, &sum)?;
        Ok(sum)
    }

    /// This replica's share, which goes to the coordinator.
    fn compute(
        &mut self,
        view: &View,
        round: u64,
        leaves: usize,
        len: usize,
        leaf: impl FnMut(usize) -> Result<Vec<f32>>,
    ) -> Result<Parts> {
        let place = view.place(self.me.replica).context("a view without this replica")?;
        let owned = tree::share(leaves, place, view.members.len());
        let mut parts = self.group.lead(round, leaves, &owned, len, leaf)?;
        if place > 0 {
            let floats: Vec<f32> = parts.drain(..).flat_map(|(_, part)| part).collect();
            let letter = Letter::encode(view.number, &message(round, &floats));
            self.send(view.coordinator(), Kind::Part, &letter);
        }
        Ok(parts)
    }

    /// The coordinator's work, once it has all parts.
    fn add_up(
        &mut self,
        view: &View,
        round: u64,
        leaves: usize,
        len: usize,
        own: &Parts,
    ) -> Result<Option<Vec<f32>>> {
        let others = &view.members[1..];
        if view.coordinator() != self.me.replica
            || !others.iter().all(|member| self.has_part(*member, round))
        {
            return Ok(None);
        }
        let mut parts = own.clone();
        for (place, member) in others.iter().enumerate() {
            let is_part = |part: &Letter| is_part(part, *member, round);
            let part = self.take_letter(Kind::Part, is_part).context("seen above")?;
            let nodes = tree::cover(leaves, &tree::share(leaves, place + 1, view.members.len()));
            let floats = content(&part.content, round, nodes.len() * len)
                .with_context(|| format!("from replica {}", member.replica))?;
            parts.extend(nodes.into_iter().zip(floats.chunks(len).map(<[f32]>::to_vec)));
        }
        let sum = tree::merge(leaves, parts);
        let letter = Letter::encode(view.number, &message(round, &sum));
        for member in others {
            self.send(member.replica, Kind::Sum, &letter);
        }
        Ok(Some(sum))
    }

    fn close_round(&mut self, round: u64, sum: &[f32]) -> Result<()> {
        self.behind = false;
        self.source = None;
        self.last_sum = sum.to_vec();
        self.agreement.stands_at(round);
        if self.leads() {
            // Before the others begin the next step, so that none of them does it twice.
            self.agreement.review(true);
            self.send_messages();
        }
        self.group.publish(round, sum)
    }

    /// A loss is no reason to stop while the parts of all who are missing have come.
    fn review(&mut self, round: u64) {
        let going_well = self.agreement.view().is_some_and(|view| {
            let awaited = |member: &Member| {
                self.agreement.takes_part(*member) || self.has_part(*member, round)
            };
            self.agreement.settled() && self.leads() && view.members.iter().all(awaited)
        });
        if !going_well {
            self.agreement.review(false);
        }
    }

    fn act_on_begun(&mut self, trainee: &impl Trainee) -> Result<()> {
        while let Some(begun) = self.agreement.poll_begun() {
            if begun.is_too_far_ahead(self.me, Some(trainee.state().step)) {
                return Err(went_on_without(self.me.replica).into());
            }
            let begin = self.take_note(begun);
            if begin.source == self.me.replica {
                let round = begin.step.context("a view with a state and without a step")?;
                let letter = message(round, &self.last_sum);
                let letter = Letter::encode(begin.view.number, &letter);
                for replica in &begin.behind {
                    self.send(*replica, Kind::Sum, &letter);
                }
                self.give_state(&begin, trainee.corpus(), trainee.state());
            }
            if begin.view.coordinator() == self.me.replica {
                trainee.took_over()?;
            }
        }
        Ok(())
    }

    fn give_state(&mut self, begin: &Begin, corpus: &[u8], state: &State) {
        if begin.fresh.is_empty() {
            return;
        }
        let letter = Letter::encode(begin.view.number, &pack(corpus, state, &self.last_sum));
        for replica in &begin.fresh {
            self.send(*replica, Kind::State, &letter);
        }
    }

    /// What every new view changes, and the news of it.
    fn take_note(&mut self, begun: Begun) -> Begin {
        let Begun { begin, lost, back, proposed_here } = begun;
        begin.view.members.iter().for_each(|member| self.refuse_if_dropped(*member));
        for member in &lost {
            self.refuse_if_dropped(*member);
            if let Some(open) = self.links.get(&member.replica).filter(|o| o.member == *member) {
                open.link.close();
            }
        }
        self.letters.retain(|letter| letter.view >= begin.view.number);
        self.behind = begin.behind.contains(&self.me.replica);
        self.source = begin.giver_to(self.me.replica);
        if proposed_here {
            let (step, members) = (begin.step.unwrap_or(0), begin.view.members.len());
            for Member { replica, .. } in lost {
                let left = members - back.len();
                eprintln!("tiny-gpt: replica {replica} is lost at step {step}; {left} go on");
            }
            for Member { replica, .. } in back {
                eprintln!("tiny-gpt: replica {replica} is back at step {step}");
            }
        }
        begin
    }

    fn has_part(&self, member: Member, round: u64) -> bool {
        let is_part = |letter: &Letter| is_part(letter, member, round);
        self.place_of_letter(Kind::Part, is_part).is_some()
    }

    fn take_letter(&mut self, kind: Kind, wanted: impl Fn(&Letter) -> bool) -> Option<Letter> {
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
    fn wait(&mut self) -> Result<()> {
        self.watch()?;
        if let Some(event) = self.next_event(TICK) {
            self.handle(event)?;
        }
        self.drain()
    }

    fn drain(&mut self) -> Result<()> {
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
                let open = Open { member, serial, link };
                if let Some(old) = self.links.insert(member.replica, open) {
                    old.link.close();
                }
                self.agreement.linked(member);
            }
            Event::Lost { replica, serial } => {
                if self.links.get(&replica).is_some_and(|open| open.serial == serial) {
                    let lost = self.links.remove(&replica).map(|open| open.member);
                    self.agreement.lost(replica);
                    lost.into_iter().for_each(|member| self.refuse_if_dropped(member));
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

    fn refuse_if_dropped(&self, member: Member) {
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

    fn send_messages(&mut self) {
        while let Some((replica, message)) = self.agreement.poll_message() {
            let payload = serde_json::to_vec(&message).expect("numbers and names");
            self.send(replica, Kind::Talk, &payload);
        }
    }

    /// What cannot be sent is a loss, of which the reader of that link tells.
    fn send(&mut self, replica: usize, kind: Kind, payload: &[u8]) {
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

    /// Whether this replica writes the checkpoints.
    pub fn leads(&self) -> bool {
        self.agreement.view().is_some_and(|view| view.coordinator() == self.me.replica)
    }

    /// The ranks of this replica.
    pub fn group(&mut self) -> &mut Group {
        &mut self.group
    }
}

fn is_part(letter: &Letter, member: Member, round: u64) -> bool {
    letter.from == member && letter.round() == Some(round)
}

fn went_on_without(replica: usize) -> Failure {
    Failure::PeerLost(format!("the others took replica {replica} for lost and went on without it"))
}
