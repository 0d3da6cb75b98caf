//! The ranks of one attempt, as a star around rank 0.
//!
//! Rank 0 takes the parts of the sum in the order of the ranks, adds them along [`tree`], and
//! sends the sum back: one order, whoever is quick. A star is slower than a ring for many
//! ranks; a ring adds each piece of the vector in another order, which changes the losses with
//! the number of ranks.
//!
//! A peer that dies closes its connection, and the others stop with [`Failure::PeerLost`]. A
//! peer that hangs makes everybody wait, for that is what a hang looks like in real training;
//! to find it is the control plane's business.

use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::checkpoint::{from_bytes, to_bytes};
use crate::config::Config;
use crate::failure::Failure;
use crate::launch::Launch;
use crate::link::{Kind, Link};
use crate::optimizer::State;
use crate::tree::{self, Parts};

/// How often rank 0 looks for the next caller, and others for rank 0.
const POLL: Duration = Duration::from_millis(20);
/// A caller says who it is within this, or makes room for the next.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A last word is not worth more waiting.
const GIVING_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections to rank 0, or of rank 0 to all others in their order. Empty for a single rank.
#[derive(Debug)]
pub struct Group {
    rank: usize,
    world: usize,
    links: Vec<Link>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    rank: usize,
    world: usize,
    job: String,
    epoch: u64,
    /// As [`Config::to_json`] has it.
    config: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    reason: String,
    /// The listener is left over from an earlier attempt: the right one may come yet.
    stale_listener: bool,
}

impl Group {
    /// Bring all ranks together, within `timeout`.
    pub fn form(launch: &Launch, config: &Config, timeout: Duration) -> Result<Self> {
        let deadline = Instant::now() + timeout;
        let links = match (launch.world, launch.rank) {
            (1, _) => Vec::new(),
            (_, 0) => listen(launch, config, deadline)?,
            _ => vec![join(launch, config, deadline)?],
        };
        Ok(Self { rank: launch.rank, world: launch.world, links })
    }

    fn peer(&self, link: usize) -> usize {
        if self.rank == 0 { link + 1 } else { 0 }
    }

    fn send(&mut self, link: usize, kind: Kind, payload: &[u8]) -> Result<(), Failure> {
        let peer = self.peer(link);
        self.links[link].send(kind, payload).map_err(|error| {
            // It may have said why before it left.
            match self.links[link].receive() {
                Ok((Kind::GivingUp, why)) => gave_up(peer, &why),
                _ => lost(peer, &error),
            }
        })
    }

    fn receive(&mut self, link: usize, expected: Kind) -> Result<Vec<u8>, Failure> {
        match self.receive_any(link)? {
            (kind, payload) if kind == expected => Ok(payload),
            (kind, _) => Err(unexpected(self.peer(link), kind, expected)),
        }
    }

    fn receive_any(&mut self, link: usize) -> Result<(Kind, Vec<u8>), Failure> {
        let peer = self.peer(link);
        match self.links[link].receive() {
            Ok((Kind::GivingUp, why)) => Err(gave_up(peer, &why)),
            Ok(frame) => Ok(frame),
            Err(error) => Err(lost(peer, &error)),
        }
    }

    /// Rank 0 gives everybody its corpus and state; returns when all have the same.
    pub fn share(&mut self, start: Option<(Vec<u8>, State)>) -> Result<(Vec<u8>, State)> {
        if let Some((corpus, state)) = start {
            assert_eq!(self.rank, 0, "only rank 0 reads the checkpoint folder");
            let contents = [
                corpus.clone(),
                to_bytes(&state.weights),
                to_bytes(&state.first_moment),
                to_bytes(&state.second_moment),
            ];
            let expected = start_digest(state.step, &contents);
            for link in 0..self.links.len() {
                self.send(link, Kind::Welcome, &state.step.to_le_bytes())?;
                for content in &contents {
                    self.send(link, Kind::Content, content)?;
                }
            }
            for link in 0..self.links.len() {
                let digest = self.receive(link, Kind::Ready)?;
                ensure!(
                    digest == expected,
                    "rank {} did not receive the state of step {} as it was sent",
                    self.peer(link),
                    state.step
                );
            }
            return Ok((corpus, state));
        }
        let welcome = self.receive(0, Kind::Welcome)?;
        let step = u64::from_le_bytes(welcome.try_into().ok().context("a welcome is a step")?);
        let mut contents = Vec::new();
        for _ in 0..4 {
            contents.push(self.receive(0, Kind::Content)?);
        }
        self.send(0, Kind::Ready, &start_digest(step, &contents))?;
        let mut floats = contents.split_off(1).into_iter().map(|bytes| from_bytes(&bytes));
        let mut next = || floats.next().expect("three of them");
        let state = State { step, weights: next(), first_moment: next(), second_moment: next() };
        Ok((contents.remove(0), state))
    }

    /// The sum over `leaves` vectors of length `len`, of which this rank computes its share.
    /// `round` tells sums apart: ranks that are out of step stop instead of adding up nonsense.
    pub fn sum(
        &mut self,
        round: u64,
        leaves: usize,
        len: usize,
        leaf: impl FnMut(usize) -> Result<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        if self.rank > 0 {
            self.contribute(round, leaves, &(0..leaves), leaf)?;
            let sum = self.receive(0, Kind::Sum)?;
            return content(&sum, round, len).with_context(|| "from rank 0".to_owned());
        }
        let parts = self.gather(round, leaves, &(0..leaves), len, leaf)?;
        let sum = tree::merge(leaves, parts);
        self.publish(round, &sum)?;
        Ok(sum)
    }

    /// Rank 0 of a replica: the part of the sum that is the replica's, and its ranks share.
    pub fn lead(
        &mut self,
        round: u64,
        leaves: usize,
        owned: &Range<usize>,
        len: usize,
        leaf: impl FnMut(usize) -> Result<Vec<f32>>,
    ) -> Result<Parts> {
        let work = serde_json::to_vec(owned)?;
        for link in 0..self.links.len() {
            self.send(link, Kind::Work, &work)?;
        }
        let parts = self.gather(round, leaves, owned, len, leaf)?;
        Ok(tree::merge_owned(leaves, owned, parts))
    }

    /// The other ranks of a replica: compute what rank 0 asks for, also twice if the replicas
    /// share the leaves anew, until it has the sum.
    pub fn follow(
        &mut self,
        round: u64,
        leaves: usize,
        len: usize,
        mut leaf: impl FnMut(usize) -> Result<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        loop {
            let (kind, payload) = self.receive_any(0)?;
            match kind {
                Kind::Work => {
                    let owned = serde_json::from_slice(&payload).context("a share of leaves")?;
                    self.contribute(round, leaves, &owned, &mut leaf)?;
                }
                Kind::Sum => {
                    return content(&payload, round, len).with_context(|| "from rank 0".to_owned());
                }
                _ => return Err(unexpected(0, kind, Kind::Sum).into()),
            }
        }
    }

    /// Rank 0 has the sum, and now all have.
    pub fn publish(&mut self, round: u64, sum: &[f32]) -> Result<()> {
        if !self.links.is_empty() {
            let message = message(round, sum);
            for link in 0..self.links.len() {
                self.send(link, Kind::Sum, &message)?;
            }
        }
        Ok(())
    }

    fn contribute(
        &mut self,
        round: u64,
        leaves: usize,
        owned: &Range<usize>,
        leaf: impl FnMut(usize) -> Result<Vec<f32>>,
    ) -> Result<()> {
        let parts = self.compute(leaves, owned, leaf)?;
        let floats: Vec<f32> = parts.into_iter().flat_map(|(_, part)| part).collect();
        Ok(self.send(0, Kind::Part, &message(round, &floats))?)
    }

    fn compute(
        &self,
        leaves: usize,
        owned: &Range<usize>,
        mut leaf: impl FnMut(usize) -> Result<Vec<f32>>,
    ) -> Result<Parts> {
        tree::cover(leaves, &tree::share_of(owned, self.rank, self.world))
            .into_iter()
            .map(|node| Ok((node.clone(), tree::evaluate(node, &mut leaf)?)))
            .collect()
    }

    /// The parts of all ranks, in their order.
    fn gather(
        &mut self,
        round: u64,
        leaves: usize,
        owned: &Range<usize>,
        len: usize,
        leaf: impl FnMut(usize) -> Result<Vec<f32>>,
    ) -> Result<Parts> {
        let mut parts = self.compute(leaves, owned, leaf)?;
        for link in 0..self.links.len() {
            let peer = self.peer(link);
            let nodes = tree::cover(leaves, &tree::share_of(owned, peer, self.world));
            let part = self.receive(link, Kind::Part)?;
            let floats = content(&part, round, nodes.len() * len)
                .with_context(|| format!("from rank {peer}"))?;
            parts.extend(nodes.into_iter().zip(floats.chunks(len).map(<[f32]>::to_vec)));
        }
        Ok(parts)
    }

    /// Tell the others why this rank stops, as far as they still listen.
    pub fn give_up(&mut self, why: &str) {
        for link in &mut self.links {
            let _ = link.set_timeout(Some(GIVING_UP_TIMEOUT));
            let _ = link.send(Kind::GivingUp, why.as_bytes());
        }
    }
}

fn lost(peer: usize, error: &io::Error) -> Failure {
    let closed = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    );
    let why = if closed { "it closed the connection".to_owned() } else { error.to_string() };
    Failure::PeerLost(format!("lost rank {peer}: {why}"))
}

fn unexpected(peer: usize, kind: Kind, expected: Kind) -> Failure {
    Failure::PeerLost(format!("rank {peer} sent {kind:?} instead of {expected:?}"))
}

fn gave_up(peer: usize, why: &[u8]) -> Failure {
    Failure::PeerLost(format!("rank {peer} gave up: {}", String::from_utf8_lossy(why)))
}

pub fn message(round: u64, floats: &[f32]) -> Vec<u8> {
    let mut message = round.to_le_bytes().to_vec();
    message.extend(to_bytes(floats));
    message
}

pub fn content(message: &[u8], round: u64, len: usize) -> Result<Vec<f32>> {
    let (theirs, floats) = message.split_first_chunk().context("a sum without its round")?;
    let theirs = u64::from_le_bytes(*theirs);
    ensure!(theirs == round, "a sum of round {theirs} in round {round}");
    ensure!(floats.len() == 4 * len, "{} bytes in place of {}", floats.len(), 4 * len);
    Ok(from_bytes(floats))
}

fn start_digest(step: u64, contents: &[Vec<u8>]) -> [u8; 16] {
    let mut hasher = Xxh3::new();
    hasher.update(&step.to_le_bytes());
    for content in contents {
        hasher.update(&(content.len() as u64).to_le_bytes());
        hasher.update(content);
    }
    hasher.digest128().to_le_bytes()
}

/// Rank 0: wait for every other rank.
fn listen(launch: &Launch, config: &Config, deadline: Instant) -> Result<Vec<Link>> {
    let (address, port) = (launch.master.0.as_str(), launch.master.1);
    let listener = bind(address, port, deadline)
        .with_context(|| format!("rank 0 cannot listen on {address}:{port}"))?;
    listener.set_nonblocking(true).context("cannot listen without blocking")?;
    let mut links: Vec<Option<Link>> = (1..launch.world).map(|_| None).collect();
    while links.iter().any(Option::is_none) {
        match listener.accept() {
            Ok((stream, caller)) => match meet(stream, launch, config, &links) {
                Ok((rank, link)) => links[rank - 1] = Some(link),
                Err(error) => eprintln!("tiny-gpt: turned away {caller}: {error:#}"),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() > deadline {
                    let missing: Vec<_> = (1..launch.world)
                        .filter(|rank| links[rank - 1].is_none())
                        .map(|rank| rank.to_string())
                        .collect();
                    let why = format!("did not connect in time: rank {}", missing.join(", "));
                    let links = links.into_iter().flatten().collect();
                    Group { rank: 0, world: launch.world, links }.give_up(&why);
                    return Err(Failure::PeerLost(why).into());
                }
                sleep(POLL);
            }
            Err(error) => return Err(error).context("cannot accept a connection"),
        }
    }
    Ok(links.into_iter().flatten().collect())
}

/// The port may still be held by the rank 0 of an attempt that is being stopped.
pub fn bind(address: &str, port: u16, deadline: Instant) -> io::Result<TcpListener> {
    loop {
        match TcpListener::bind((address, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                sleep(POLL);
            }
            result => return result,
        }
    }
}

/// Take a caller in, or tell it why not.
fn meet(
    stream: TcpStream,
    launch: &Launch,
    config: &Config,
    links: &[Option<Link>],
) -> Result<(usize, Link)> {
    // Accepted sockets inherit no blocking on some systems.
    stream.set_nonblocking(false)?;
    let mut link = Link::new(stream)?;
    link.set_timeout(Some(HELLO_TIMEOUT))?;
    let (kind, payload) = link.receive()?;
    ensure!(kind == Kind::Hello, "it began with {kind:?}");
    let hello: Hello = serde_json::from_slice(&payload).context("its hello is not readable")?;
    if let Some(refusal) = objection(&hello, launch, config, links) {
        link.send(Kind::Refusal, &serde_json::to_vec(&refusal)?)?;
        anyhow::bail!("{}", refusal.reason);
    }
    link.send(Kind::Acceptance, &[])?;
    link.set_timeout(None)?;
    Ok((hello.rank, link))
}

fn objection(
    hello: &Hello,
    launch: &Launch,
    config: &Config,
    links: &[Option<Link>],
) -> Option<Refusal> {
    let rank = hello.rank;
    let refuse = |reason| Some(Refusal { reason, stale_listener: hello.epoch > launch.epoch });
    if hello.job != launch.job {
        return refuse(format!(
            "rank {rank} is of job {:?}, rank 0 of {:?}",
            hello.job, launch.job
        ));
    }
    if hello.epoch != launch.epoch {
        return refuse(format!(
            "rank {rank} is of epoch {}, rank 0 of epoch {}",
            hello.epoch, launch.epoch
        ));
    }
    if hello.world != launch.world || !(1..launch.world).contains(&rank) {
        return refuse(format!(
            "rank {rank} has WORLD_SIZE {}, rank 0 has {}",
            hello.world, launch.world
        ));
    }
    if let Some(difference) = config.difference(&hello.config) {
        return refuse(format!("rank {rank} has other flags than rank 0: {difference}"));
    }
    if links[rank - 1].is_some() {
        return refuse(format!("there are two of rank {rank}"));
    }
    None
}

/// All others: find rank 0, which may not listen yet.
fn join(launch: &Launch, config: &Config, deadline: Instant) -> Result<Link> {
    let (address, port) = (launch.master.0.as_str(), launch.master.1);
    let hello = serde_json::to_vec(&Hello {
        rank: launch.rank,
        world: launch.world,
        job: launch.job.clone(),
        epoch: launch.epoch,
        config: config.to_json(),
    })?;
    loop {
        let why = match call(address, port, &hello, deadline) {
            Ok(link) => return Ok(link),
            Err(Call::Refused(refusal)) if !refusal.stale_listener => {
                return Err(Failure::PeerLost(format!("rank 0 refused: {}", refusal.reason)).into());
            }
            Err(Call::Refused(refusal)) => refusal.reason,
            Err(Call::Failed(error)) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(Failure::PeerLost(format!(
                "rank {} found no rank 0 at {address}:{port}: {why}\n\
                 hint: is rank 0 running, and is that address its own?",
                launch.rank
            ))
            .into());
        }
        sleep(POLL);
    }
}

enum Call {
    Refused(Refusal),
    Failed(io::Error),
}

impl From<io::Error> for Call {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

fn call(address: &str, port: u16, hello: &[u8], deadline: Instant) -> Result<Link, Call> {
    let left = || deadline.saturating_duration_since(Instant::now()).max(POLL);
    let stream = connect(address, port, left)?;
    introduce(Link::new(stream)?, hello, left())
}

/// Try each address of the name, each for as long as `timeout` says then.
pub fn connect(address: &str, port: u16, timeout: impl Fn() -> Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in (address, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout()) {
            // On loopback, a call to a port that nobody holds yet can be given that very port
            // to call from, and then it talks to itself.
            Ok(stream) if stream.local_addr()? == stream.peer_addr()? => {
                last = io::ErrorKind::ConnectionRefused.into();
            }
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn introduce(mut link: Link, hello: &[u8], timeout: Duration) -> Result<Link, Call> {
    link.set_timeout(Some(timeout))?;
    link.send(Kind::Hello, hello)?;
    match link.receive()? {
        (Kind::Acceptance, _) => {
            link.set_timeout(None)?;
            Ok(link)
        }
        (Kind::Refusal, refusal) => match serde_json::from_slice(&refusal) {
            Ok(refusal) => Err(Call::Refused(refusal)),
            Err(error) => Err(Call::Failed(error.into())),
        },
        (kind, _) => Err(Call::Failed(io::Error::other(format!("it answered with {kind:?}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn launch(rank: usize, world: usize, port: u16) -> Launch {
        let master = ("127.0.0.1".to_owned(), port);
        let (replica, checkpoint_dir, resume_step) = (None, None, None);
        let job = "job".to_owned();
        Launch { rank, world, master, job, epoch: 2, replica, checkpoint_dir, resume_step }
    }

    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Form a group of these ranks; the messages of those that failed, by place.
    fn form(launches: &[Launch], timeout: Duration) -> Vec<Result<Group, String>> {
        thread::scope(|scope| {
            let threads: Vec<_> = launches
                .iter()
                .map(|launch| {
                    scope.spawn(move || {
                        Group::form(launch, &Config::default(), timeout)
                            .map_err(|error| format!("{error:#}"))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn all_ranks_get_the_state_of_rank_0_and_the_same_sum() {
        let port = free_port();
        let launches: Vec<_> = (0..3).map(|rank| launch(rank, 3, port)).collect();
        let groups = form(&launches, PATIENCE).into_iter().map(Result::unwrap);
        let state = State {
            step: 7,
            weights: vec![1.0, 2.0],
            first_moment: vec![3.0, f32::NAN],
            second_moment: vec![-0.0, 6.0],
        };
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = groups
                .map(|mut group| {
                    let start = (group.rank == 0).then(|| (b"text".to_vec(), state.clone()));
                    scope.spawn(move || {
                        let (corpus, state) = group.share(start).unwrap();
                        let leaf = |i| Ok(vec![i as f32, 1.0]);
                        let sum = group.sum(8, 5, 2, leaf).unwrap();
                        (corpus, state.step, to_bytes(&state.second_moment), sum)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let expected = (b"text".to_vec(), 7, to_bytes(&[-0.0, 6.0]), vec![10.0, 5.0]);
        assert_eq!(results, vec![expected; 3]);
    }

    #[test]
    fn a_rank_of_an_older_epoch_is_refused_and_the_right_one_let_in() {
        let port = free_port();
        let stale = Launch { epoch: 1, ..launch(1, 2, port) };
        // The right rank 1 comes when the stale one has been turned away.
        let root = thread::spawn(move || form(&[launch(0, 2, port)], PATIENCE).remove(0));
        let error = form(&[stale], PATIENCE).remove(0).unwrap_err();
        assert!(error.contains("rank 1 is of epoch 1, rank 0 of epoch 2"), "{error}");
        form(&[launch(1, 2, port)], PATIENCE).remove(0).unwrap();
        root.join().unwrap().unwrap();
    }

    #[test]
    fn a_rank_waits_out_the_rank_0_of_an_older_epoch() {
        let port = free_port();
        let stale = Launch { epoch: 1, ..launch(0, 2, port) };
        let fresh =
            thread::spawn(move || form(&[launch(0, 2, port), launch(1, 2, port)], PATIENCE));
        let error = form(&[stale], Duration::from_millis(300)).remove(0).err();
        // Either it held the port first and nobody of its own came, or it never got the port.
        if let Some(error) = error {
            assert!(error.contains("rank 1") || error.contains("cannot listen"), "{error}");
        }
        for group in fresh.join().unwrap() {
            group.unwrap();
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused_in_words() {
        let root = launch(0, 4, 1);
        let config = Config::default();
        let links = [None, None, None];
        let hello = |rank, world, job: &str, config: &Config| Hello {
            rank,
            world,
            job: job.to_owned(),
            epoch: 2,
            config: config.to_json(),
        };
        let reason = |hello| objection(&hello, &root, &config, &links).map(|r| r.reason);
        assert_eq!(reason(hello(3, 4, "job", &config)), None);
        assert!(reason(hello(3, 4, "other", &config)).unwrap().contains("job \"other\""));
        assert!(reason(hello(1, 2, "job", &config)).unwrap().contains("WORLD_SIZE 2"));
        assert!(reason(hello(0, 4, "job", &config)).is_some());
        assert!(reason(hello(4, 4, "job", &config)).is_some());
        let other = Config { width: 32, ..Config::default() };
        assert!(reason(hello(1, 4, "job", &other)).unwrap().contains("--width is 32 there"));
    }

    #[test]
    fn a_rank_that_never_comes_is_named_and_the_others_hear_of_it() {
        let port = free_port();
        let launches = [launch(0, 3, port), launch(1, 3, port)];
        let mut groups = form(&launches, Duration::from_millis(300));
        let mut waiting = groups.pop().unwrap().unwrap();
        let error = groups.pop().unwrap().unwrap_err();
        assert_eq!(error, "did not connect in time: rank 2");
        let error = waiting.share(None).unwrap_err().to_string();
        assert_eq!(error, "rank 0 gave up: did not connect in time: rank 2");
    }

    #[test]
    fn ranks_out_of_step_stop() {
        let sum = message(8, &[1.0]);
        assert!(content(&sum, 8, 1).is_ok());
        assert!(content(&sum, 9, 1).is_err());
        assert!(content(&sum, 8, 2).is_err());
        assert!(content(&[1, 2], 8, 1).is_err());
    }
}
