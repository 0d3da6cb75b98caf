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

use self::agreement::{Agreement, Begin, Begun, Member, WasDropped};
use self::meeting::{Event, Meeting};
use self::wire::Letter;
use crate::config::Config;
use crate::failure::Failure;
use crate::group::{Group, content, message};
use crate::launch::Launch;
use crate::link::{Kind, Link};
use crate::optimizer::State;
use crate::tree;

/// How often a replica that waits for an event looks at the clock and the checkpoint folder.
const TICK: Duration = Duration::from_millis(50);

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
    last_sum: Vec<u8>,
    /// Whether this replica missed the last sum, and waits for that alone.
    behind: bool,
    least: usize,
    /// Since when too few are left to train.
    too_few_since: Option<Instant>,
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
            least: place.least,
            too_few_since: None,
            patience,
        };
        replicas.meeting = Some(Meeting::open(me, launch, place, config, deadline)?);
        let start = loop {
            if let Some(start) = replicas.try_to_start(shelf, deadline)? {
                break start;
            }
            replicas.wait()?;
        };
        Ok((replicas, start))
    }

    fn try_to_start(&mut self, shelf: &impl Shelf, deadline: Instant) -> Result<Option<Start>> {
        if self.agreement.view().is_none() {
            if let Some(start) = shelf.finished()? {
                // What is left to do, each can do alone.
                self.agreement.go_alone(start.1.step);
                self.act_on_begun(None)?;
                return Ok(Some(start));
            }
            if Instant::now() >= deadline {
                self.wait_no_longer()?;
            }
        }
        self.agreement.review(false);
        self.send_messages();
        let Some(begin) = self.act_on_begun(None)? else {
            return Ok(None);
        };
        todo!()
    }
}
