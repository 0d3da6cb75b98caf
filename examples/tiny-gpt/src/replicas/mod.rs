//! Replicas that train together and outlive each other: the leader's side, its rank 0.
//!
//! Inside a replica the ranks are a [`Group`], and what holds for that holds here: a lost rank
//! ends its replica. The leaders are connected each to each. In every step the replicas share
//! the micro-batches; the lowest adds up the parts in the order of [`crate::tree`] and gives all
//! the sum, so that the losses do not hang on how many there are. When one is lost, the others
//! agree anew who is there ([`agreement`]), share that step anew, and go on. One that comes back
//! gets the state from another between two steps. `rounds.rs` holds that loop; `meeting.rs` and
//! `post.rs`, how they find and hear each other; `simulation.rs` tries what may go wrong.

pub mod agreement;
mod meeting;
mod place;
mod post;
mod rounds;
#[cfg(test)]
mod simulation;
mod wire;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub use self::place::Place;

use self::agreement::{Agreement, Begin, Begun, Member};
use self::meeting::Meeting;
use self::wire::{Letter, unpack};
use crate::config::Config;
use crate::failure::Failure;
use crate::group::Group;
use crate::launch::Launch;
use crate::link::{Kind, Link};
use crate::optimizer::State;

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
        let sees_a_run = self.agreement.sees_a_run();
        let missing: Vec<_> = (0..place.replicas)
            .filter(|replica| *replica != self.me.replica && !self.links.contains_key(replica))
            .map(|replica| replica.to_string())
            .collect();
        let missing = missing.join(", ");
        if !sees_a_run && self.links.len() + 1 < self.least {
            bail!(Failure::PeerLost(format!(
                "did not connect in time: replica {missing}\n\
                 hint: are they running, and is LINDOS_REPLICA_ADDRS right?"
            )));
        }
        if self.agreement.wait_no_longer() && sees_a_run {
            eprintln!(
                "tiny-gpt: replica {} still waits to be taken in; not connected: {missing}",
                self.me.replica
            );
        }
        Ok(())
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

    /// Whether this replica writes the checkpoints.
    pub fn leads(&self) -> bool {
        self.agreement.view().is_some_and(|view| view.coordinator() == self.me.replica)
    }

    /// The ranks of this replica.
    pub fn group(&mut self) -> &mut Group {
        &mut self.group
    }
}

fn went_on_without(replica: usize) -> Failure {
    Failure::PeerLost(format!("the others took replica {replica} for lost and went on without it"))
}
