//! How replicas find each other: each calls all the others, and is called.
//!
//! Where a replica listens is known to those that are launched after it, so a later launch calls
//! an earlier one; of one epoch, the higher number calls. Nobody knows who of the others is
//! later, so everybody calls; whoever is called by an earlier one answers that it will call
//! itself, and so a pair never has two connections. Whoever was called stops calling.
//!
//! Each connection has a thread that reads it. What arrives, and that nothing more will, becomes
//! an [`Event`], so that a replica that waits for one of them hears of all.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::group::{HELLO_TIMEOUT, bind, connect};
use crate::launch::Launch;
use crate::link::{Kind, Link};
use crate::replicas::Place;
use crate::replicas::agreement::Member;

/// Between two calls to one that does not answer: from the first to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub enum Event {
    Linked {
        member: Member,
        serial: u64,
        link: Link,
    },
    Frame {
        replica: usize,
        serial: u64,
        kind: Kind,
        payload: Vec<u8>,
    },
    Lost {
        replica: usize,
        serial: u64,
    },
    /// Another will never have this replica, for this reason.
    Refused(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    job: String,
    caller: Member,
    called: usize,
    replicas: usize,
    /// As [`Config::to_json`] has it.
    config: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    reason: String,
    /// Another call will fare no better.
    for_good: bool,
}

/// What is known of another replica.
#[derive(Debug, Default)]
struct Seat {
    /// Epoch and serial number of the connection.
    linked: Option<(u64, u64)>,
    /// Launches up to this epoch were dropped.
    dropped: Option<u64>,
    calling: bool,
    serial: u64,
}

/// What all threads share.
#[derive(Debug)]
struct Desk {
    me: Member,
    job: String,
    place: Place,
    config: Config,
    seats: Mutex<Vec<Seat>>,
    events: Sender<Event>,
}

/// Why a call was in vain.
enum Unanswered {
    Again,
    Final(String),
}

impl From<io::Error> for Unanswered {
    fn from(_: io::Error) -> Self {
        Self::Again
    }
}

#[derive(Debug)]
pub struct Meeting {
    desk: Arc<Desk>,
    events: Receiver<Event>,
}

impl Meeting {
    /// Listen, and call all others; neither ends before the process does.
    pub fn open(
        me: Member,
        launch: &Launch,
        place: &Place,
        config: &Config,
        deadline: Instant,
    ) -> Result<Self> {
        let (address, port) = &place.addresses[me.replica];
        let listener = bind(address, *port, deadline)
            .with_context(|| format!("replica {} cannot listen on {address}:{port}", me.replica))?;
        let (sender, events) = channel();
        let seat = |replica| Seat { calling: replica != me.replica, ..Seat::default() };
        let desk = Arc::new(Desk {
            me,
            job: launch.job.clone(),
            place: place.clone(),
            config: config.clone(),
            seats: Mutex::new((0..place.replicas).map(seat).collect()),
            events: sender,
        });
        let answering = Arc::clone(&desk);
        thread::spawn(move || answer_calls(&answering, &listener));
        for replica in (0..place.replicas).filter(|replica| *replica != me.replica) {
            let calling = Arc::clone(&desk);
            thread::spawn(move || calling.keep_calling(replica));
        }
        Ok(Self { desk, events })
    }

    /// The next event, if there is one within `timeout`.
    pub fn next(&self, timeout: Duration) -> Option<Event> {
        match self.events.recv_timeout(timeout) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the desk holds a sender"),
        }
    }

    /// This launch, and those before it, are never taken in again.
    pub fn refuse_for_good(&self, member: Member) {
        let mut seats = self.desk.seats();
        let dropped = &mut seats[member.replica].dropped;
        *dropped = (*dropped).max(Some(member.epoch));
    }
}

fn answer_calls(desk: &Arc<Desk>, listener: &TcpListener) {
    for stream in listener.incoming().map_while(Result::ok) {
        let desk = Arc::clone(desk);
        // A thread for each, so that a silent stranger keeps nobody waiting.
        thread::spawn(move || match desk.answer(stream) {
            Ok(Some((replica, serial, link))) => desk.read(replica, serial, link),
            Ok(None) => {}
            Err(error) => eprintln!("tiny-gpt: turned away a caller: {error:#}"),
        });
    }
}

impl Desk {
    fn seats(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None for a caller that may call again.
    fn answer(&self, stream: TcpStream) -> Result<Option<(usize, u64, Link)>> {
        let mut link = Link::new(stream)?;
        link.set_timeout(Some(HELLO_TIMEOUT))?;
        let (kind, payload) = link.receive()?;
        ensure!(kind == Kind::Hello, "it began with {kind:?}");
        let hello: Hello = serde_json::from_slice(&payload).context("its hello is not readable")?;
        let replica = hello.caller.replica;
        let seated = {
            let mut seats = self.seats();
            match self.objection(&hello, seats.get(replica)) {
                None => Ok(seats[replica].sit_down(hello.caller.epoch)),
                Some(refusal) => Err(refusal),
            }
        };
        let serial = match seated {
            Ok(serial) => serial,
            Err(refusal) => {
                link.send(Kind::Refusal, &serde_json::to_vec(&refusal)?)?;
                ensure!(!refusal.for_good, "{}", refusal.reason);
                return Ok(None);
            }
        };
        let welcomed = link
            .send(Kind::Acceptance, &serde_json::to_vec(&self.me)?)
            .and_then(|()| self.announce(hello.caller, serial, &link));
        if let Err(error) = welcomed {
            self.seats()[replica].stand_up(serial);
            return Err(error.into());
        }
        Ok(Some((replica, serial, link)))
    }

    fn objection(&self, hello: &Hello, seat: Option<&Seat>) -> Option<Refusal> {
        let Member { replica, epoch } = hello.caller;
        let refuse = |for_good, reason| Some(Refusal { reason, for_good });
        let me = self.me.replica;
        if hello.job != self.job || hello.called != me {
            let reason = format!("this is replica {me} of job {:?}", self.job);
            return refuse(false, reason);
        }
        let Some(seat) = seat.filter(|_| hello.replicas == self.place.replicas && replica != me)
        else {
            let (theirs, ours) = (hello.replicas, self.place.replicas);
            let reason = format!("replica {replica} of {theirs} is none of the other {ours}");
            return refuse(true, reason);
        };
        if let Some(difference) = self.config.difference(&hello.config) {
            let reason = format!("replica {replica} has other flags than {me}: {difference}");
            return refuse(true, reason);
        }
        let linked = seat.linked.map(|(epoch, _)| epoch);
        if Some(epoch) <= seat.dropped || Some(epoch) < linked {
            let reason = format!("replica {replica} of epoch {epoch} was lost, or is replaced");
            return refuse(true, reason);
        }
        if Some(epoch) == linked {
            return refuse(false, format!("replica {replica} is connected already"));
        }
        let later = (self.me.epoch, me) > (epoch, replica);
        (seat.calling && later).then(|| Refusal {
            reason: format!("replica {me} was launched later and will call"),
            for_good: false,
        })
    }

    /// As long as it is for this side to call: not once the other has called, or was dropped.
    fn keep_calling(&self, replica: usize) {
        let mut pause = PAUSE.0;
        loop {
            {
                let seat = &mut self.seats()[replica];
                seat.calling = seat.linked.is_none() && seat.dropped.is_none();
                if !seat.calling {
                    return;
                }
            }
            match self.call(replica) {
                Ok((member, link)) => {
                    pause = PAUSE.0;
                    // Not in the `if`, which would hold all seats as long as the connection.
                    let seated = self.seats()[replica].sit_down_if_free(member.epoch);
                    if let Some(serial) = seated {
                        if self.announce(member, serial, &link).is_ok() {
                            self.read(replica, serial, link);
                        } else {
                            self.seats()[replica].stand_up(serial);
                        }
                    }
                }
                Err(Unanswered::Final(reason)) => {
                    self.seats()[replica].calling = false;
                    let _ = self.events.send(Event::Refused(reason));
                    return;
                }
                Err(Unanswered::Again) => {
                    sleep(pause);
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    fn call(&self, replica: usize) -> Result<(Member, Link), Unanswered> {
        let (address, port) = &self.place.addresses[replica];
        let mut link = Link::new(connect(address, *port, || CALL_TIMEOUT)?)?;
        link.set_timeout(Some(HELLO_TIMEOUT))?;
        let hello = Hello {
            job: self.job.clone(),
            caller: self.me,
            called: replica,
            replicas: self.place.replicas,
            config: self.config.to_json(),
        };
        link.send(Kind::Hello, &serde_json::to_vec(&hello).map_err(io::Error::from)?)?;
        match link.receive()? {
            (Kind::Acceptance, member) => {
                let member: Member = serde_json::from_slice(&member).map_err(io::Error::from)?;
                if member.replica == replica { Ok((member, link)) } else { Err(Unanswered::Again) }
            }
            (Kind::Refusal, refusal) => {
                let refusal: Refusal = serde_json::from_slice(&refusal).map_err(io::Error::from)?;
                if refusal.for_good {
                    let reason = format!("replica {replica} refused: {}", refusal.reason);
                    return Err(Unanswered::Final(reason));
                }
                Err(Unanswered::Again)
            }
            _ => Err(Unanswered::Again),
        }
    }

    fn announce(&self, member: Member, serial: u64, link: &Link) -> io::Result<()> {
        link.set_timeout(None)?;
        link.notice_silence()?;
        let _ = self.events.send(Event::Linked { member, serial, link: link.try_clone()? });
        Ok(())
    }

    /// Until the connection ends.
    fn read(&self, replica: usize, serial: u64, mut link: Link) {
        while let Ok((kind, payload)) = link.receive() {
            let _ = self.events.send(Event::Frame { replica, serial, kind, payload });
        }
        link.close();
        self.seats()[replica].stand_up(serial);
        let _ = self.events.send(Event::Lost { replica, serial });
    }
}

impl Seat {
    fn sit_down(&mut self, epoch: u64) -> u64 {
        self.serial += 1;
        self.linked = Some((epoch, self.serial));
        self.serial
    }

    /// For a connection that this side made; the other may have called meanwhile.
    fn sit_down_if_free(&mut self, epoch: u64) -> Option<u64> {
        (self.linked.is_none() && self.dropped < Some(epoch)).then(|| self.sit_down(epoch))
    }

    /// Unless another connection has taken the place of this one.
    fn stand_up(&mut self, serial: u64) {
        self.linked.take_if(|(_, linked)| *linked == serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(replica: usize, epoch: u64) -> Desk {
        let address = ("127.0.0.1".to_owned(), 1);
        let place = Place { replica, replicas: 3, least: 2, addresses: vec![address; 3] };
        let me = Member { replica, epoch };
        let (events, _) = channel();
        let seats = Mutex::default();
        Desk { me, job: "job".to_owned(), place, config: Config::default(), seats, events }
    }

    fn hello(replica: usize, epoch: u64) -> Hello {
        Hello {
            job: "job".to_owned(),
            caller: Member { replica, epoch },
            called: 1,
            replicas: 3,
            config: Config::default().to_json(),
        }
    }

    /// What replica 1 of epoch 4 answers: none if it takes the caller in, or whether for good.
    fn answer(hello: &Hello, seat: &Seat) -> Option<bool> {
        desk(1, 4).objection(hello, Some(seat)).map(|refusal| refusal.for_good)
    }

    #[test]
    fn of_two_that_call_each_other_the_later_launch_is_heard() {
        let calling = Seat { calling: true, ..Seat::default() };
        for (caller, expected) in
            [((0, 5), None), ((2, 4), None), ((0, 4), Some(false)), ((2, 3), Some(false))]
        {
            assert_eq!(answer(&hello(caller.0, caller.1), &calling), expected, "{caller:?}");
        }
        assert_eq!(answer(&hello(0, 4), &Seat::default()), None, "it does not call any more");
    }

    #[test]
    fn a_launch_that_was_lost_or_replaced_is_refused_for_good() {
        let dropped = Seat { dropped: Some(3), ..Seat::default() };
        assert_eq!(answer(&hello(2, 3), &dropped), Some(true));
        assert_eq!(answer(&hello(2, 2), &dropped), Some(true));
        assert_eq!(answer(&hello(2, 5), &dropped), None);
        let linked = Seat { linked: Some((5, 1)), ..Seat::default() };
        assert_eq!(answer(&hello(2, 4), &linked), Some(true));
        assert_eq!(answer(&hello(2, 5), &linked), Some(false), "its connection may be dying");
        assert_eq!(answer(&hello(2, 6), &linked), None);
    }

    #[test]
    fn whoever_does_not_belong_here_is_refused() {
        let seat = Seat::default();
        assert_eq!(answer(&Hello { job: "other".to_owned(), ..hello(2, 5) }, &seat), Some(false));
        assert_eq!(answer(&Hello { called: 0, ..hello(2, 5) }, &seat), Some(false));
        assert_eq!(answer(&Hello { replicas: 4, ..hello(2, 5) }, &seat), Some(true));
        assert_eq!(answer(&hello(1, 5), &seat), Some(true), "that is this replica itself");
        let config = Config { width: 32, ..Config::default() }.to_json();
        assert_eq!(answer(&Hello { config, ..hello(2, 5) }, &seat), Some(true));
        assert!(desk(1, 4).objection(&hello(7, 5), None).is_some_and(|refusal| refusal.for_good));
    }
}
