//! A pair of nodes: how fast, how late, and whether both carry and compute the same bits.

mod serve;
mod wire;

pub use serve::Server;

use super::kernel::{Path, digest_of_all, reference_of_all};
use super::{Expected, Faults, Limit};
use lindos_model::burnin::{Bound, TestResult};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};
use wire::{BLOCK, Blocks, Head, Kind, Received, greet, nonsense};

/// One TCP connection does not fill a fast card.
const STREAMS: u64 = 4;
const PINGS_LEAST: usize = 100;
const PINGS_MAX: usize = 20_000;
const CONNECT: Duration = Duration::from_secs(10);
const NAMES: [&str; 6] = [
    "network.bits",
    "network.send",
    "network.receive",
    "network.round_trip",
    OWN_DIGEST,
    PEER_DIGEST,
];
/// The tests that say something of one end, and not of what is between the two.
pub const OWN_DIGEST: &str = "network.self";
pub const PEER_DIGEST: &str = "network.peer";

/// Blocks that went one way.
#[derive(Clone, Copy, Debug, Default)]
struct OneWay {
    blocks: u64,
    wrong: u64,
    took: Duration,
}

impl OneWay {
    fn add(self, other: OneWay) -> OneWay {
        OneWay {
            blocks: self.blocks + other.blocks,
            wrong: self.wrong + other.wrong,
            took: self.took.max(other.took),
        }
    }

    fn gbit_per_second(self) -> f64 {
        (self.blocks * BLOCK as u64 * 8) as f64 / self.took.as_secs_f64().max(1e-9) / 1e9
    }
}

#[derive(Debug)]
struct Measured {
    address: SocketAddr,
    round_trips: Vec<Duration>,
    sent: OneWay,
    received: OneWay,
    own_digest: u64,
    peer_digest: u64,
}

pub fn without_peer(why: &str) -> Vec<TestResult> {
    vec![TestResult::skipped(NAMES[0], why)]
}

/// Of the end that answers.
pub fn with_the_peer() -> Vec<TestResult> {
    vec![TestResult::skipped(NAMES[0], "the peer has tried it, and has the figures")]
}

pub fn run(limit: Limit, peer: &str, expected: &Expected, faults: &dyn Faults) -> Vec<TestResult> {
    match measure(limit, peer, faults) {
        Ok(measured) => results(&measured, expected),
        Err(error) => {
            let mut results: Vec<TestResult> =
                NAMES.map(|name| TestResult::skipped(name, "the connection failed")).into();
            results[0] = TestResult::failed(NAMES[0], format!("{peer}: {error}"));
            results
        }
    }
}

fn connect(peer: &str) -> io::Result<TcpStream> {
    let mut last = nonsense("the name has no address");
    for address in peer.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                greet(&stream)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn measure(limit: Limit, peer: &str, faults: &dyn Faults) -> io::Result<Measured> {
    let control = connect(peer)?;
    let round_trips = ping(&control, limit.part(0.1))?;
    let own_digest = digest_of_all(Path::widest(), &mut |product| faults.product(0, 0, product));
    let peer_digest = compute(&control)?;
    let sent = on_streams(peer, |stream, number| send(stream, number, limit.part(0.4), faults))?;
    let span = limit.part(0.4).span;
    let received = on_streams(peer, |stream, _| receive(stream, span))?;
    let address = control.peer_addr()?;
    Ok(Measured { address, round_trips, sent, received, own_digest, peer_digest })
}

fn ping(stream: &TcpStream, limit: Limit) -> io::Result<Vec<Duration>> {
    let mut trips = Vec::new();
    while trips.len() < PINGS_LEAST || (trips.len() < PINGS_MAX && !limit.is_over()) {
        let head = Head::new(Kind::Ping, trips.len() as u64, 0);
        let began = Instant::now();
        head.write(stream)?;
        let back = Head::read(stream)?;
        trips.push(began.elapsed());
        if back != head {
            return Err(nonsense("a ping came back as something else"));
        }
    }
    trips.sort_unstable();
    Ok(trips)
}

fn compute(stream: &TcpStream) -> io::Result<u64> {
    Head::new(Kind::Compute, 0, 0).write(stream)?;
    Ok(answer(stream, Kind::Compute)?.value)
}

fn answer(stream: &TcpStream, kind: Kind) -> io::Result<Head> {
    let head = Head::read(stream)?;
    if head.kind == kind { Ok(head) } else { Err(nonsense("the peer answers something else")) }
}

/// The same on several connections at once.
fn on_streams(
    peer: &str,
    work: impl Fn(&TcpStream, u64) -> io::Result<OneWay> + Sync,
) -> io::Result<OneWay> {
    std::thread::scope(|scope| {
        let work = &work;
        let streams: Vec<_> =
            (0..STREAMS).map(|number| scope.spawn(move || work(&connect(peer)?, number))).collect();
        streams.into_iter().try_fold(OneWay::default(), |sum, stream| {
            let part = stream.join().map_err(|_| io::Error::other("a thread panicked"))??;
            Ok(sum.add(part))
        })
    })
}

fn send(stream: &TcpStream, number: u64, limit: Limit, faults: &dyn Faults) -> io::Result<OneWay> {
    let mut blocks = Blocks::new(number << 8);
    let began = Instant::now();
    let mut count = 0;
    while count == 0 || !limit.is_over() {
        blocks.send(count, stream, |block| faults.wire(block))?;
        count += 1;
    }
    Head::new(Kind::Tally, 0, 0).write(stream)?;
    // What is under way when the last block is written has arrived once this is here.
    let tally = answer(stream, Kind::Tally)?;
    let lost = count.saturating_sub(tally.number);
    Ok(OneWay { blocks: count, wrong: tally.value + lost, took: began.elapsed() })
}

fn receive(stream: &TcpStream, span: Duration) -> io::Result<OneWay> {
    let began = Instant::now();
    Head::new(Kind::Send, 0, span.as_millis() as u64).write(stream)?;
    let mut received = Received::new();
    loop {
        let head = Head::read(stream)?;
        match head.kind {
            Kind::Block => received.take(head, stream)?,
            Kind::Tally => {
                let Received { blocks, wrong, .. } = received;
                let wrong = wrong + head.number.abs_diff(blocks);
                return Ok(OneWay { blocks, wrong, took: began.elapsed() });
            }
            _ => return Err(nonsense("the peer answers something else")),
        }
    }
}

/// The trip that `percent` of all stay below or reach; they are sorted.
fn percentile(trips: &[Duration], percent: usize) -> f64 {
    let place = (trips.len() * percent).div_ceil(100).clamp(1, trips.len()) - 1;
    trips[place].as_secs_f64() * 1e6
}

fn results(measured: &Measured, expected: &Expected) -> Vec<TestResult> {
    let Measured { address, round_trips, sent, received, .. } = measured;
    let card =
        if address.ip().is_loopback() { "; loopback: no network card took part" } else { "" };
    let way = |name: &str, way: &OneWay| {
        let detail = format!("{} blocks of 256 KiB on {STREAMS} connections{card}", way.blocks);
        let bound = expected.network_gbit_per_s.map(Bound::AtLeast);
        TestResult::judged(name, way.gbit_per_second(), "Gbit/s", bound, detail)
    };
    let blocks = sent.blocks + received.blocks;
    let sums = format!(
        "{blocks} blocks with checksums; wrong at {address}: {}, wrong here: {}",
        sent.wrong, received.wrong
    );
    let trips = format!(
        "the 99th of 100; the median is {:.1} us, of {} round trips{card}",
        percentile(round_trips, 50),
        round_trips.len()
    );
    vec![
        TestResult::errors(NAMES[0], sent.wrong + received.wrong, sums),
        way(NAMES[1], sent),
        way(NAMES[2], received),
        TestResult::judged(
            NAMES[3],
            percentile(round_trips, 99),
            "us",
            expected.network_p99_us.map(Bound::AtMost),
            trips,
        ),
        digest(OWN_DIGEST, "this node", measured.own_digest),
        digest(PEER_DIGEST, "the peer", measured.peer_digest),
    ]
}

/// Both ends compute the same, which is known beforehand: so it shows which of them is wrong.
fn digest(name: &str, end: &str, digest: u64) -> TestResult {
    let right = reference_of_all();
    if digest == right {
        return TestResult::errors(
            name,
            0,
            format!("{end} computed {digest:016x}, as both should"),
        );
    }
    TestResult::errors(name, 1, format!("{end} computed {digest:016x}, and right is {right:016x}"))
}

#[cfg(test)]
mod tests;
