//! Both ends over real sockets.

use super::*;
use crate::burnin::NoFaults;
use lindos_model::burnin::Verdict::{self, Fail, Measured, Pass};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flips a bit of the first block that it gets hold of.
#[derive(Debug, Default)]
struct FlipsOnTheWire(AtomicBool);

impl Faults for FlipsOnTheWire {
    fn wire(&self, block: &mut [u8]) {
        if !self.0.swap(true, Ordering::Relaxed) {
            block[4321] ^= 0x10;
        }
    }
}

#[derive(Debug)]
struct Miscomputes;

impl Faults for Miscomputes {
    fn product(&self, _core: usize, _round: u64, product: &mut [f64]) {
        product[9] = f64::from_bits(product[9].to_bits() ^ 1);
    }
}

/// A server that lives as long as the test process.
fn server(faults: &'static dyn Faults) -> String {
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = server.address().unwrap();
    std::thread::spawn(move || server.run(faults, &|_| {}));
    address.to_string()
}

fn tested(there: &'static dyn Faults, here: &dyn Faults) -> Vec<TestResult> {
    let limit = Limit::of(Duration::from_millis(50));
    run(limit, &server(there), &Expected::default(), here)
}

fn verdicts(results: &[TestResult]) -> Vec<Verdict> {
    results.iter().map(|result| result.verdict).collect()
}

#[test]
fn two_ends_that_are_well_agree() {
    let results = tested(&NoFaults, &NoFaults);
    assert_eq!(
        verdicts(&results),
        [Pass, Measured, Measured, Measured, Pass, Pass],
        "{results:#?}"
    );
    assert!(results[1].figure.unwrap() > 0.0 && results[2].figure.unwrap() > 0.0);
    assert!(results[1].detail.contains("loopback"));
    assert!(results[3].figure.unwrap() > 0.0);
}

#[test]
fn a_bit_flipped_on_the_way_there_is_counted_by_the_peer() {
    let results = tested(&NoFaults, &FlipsOnTheWire::default());
    assert_eq!(results[0].verdict, Verdict::Fail, "{results:#?}");
    assert!(results[0].detail.ends_with("wrong here: 0"), "{results:#?}");
    assert_eq!(results[4].verdict, Verdict::Pass);
}

#[test]
fn a_bit_flipped_on_the_way_back_is_counted_here() {
    let flips: &'static FlipsOnTheWire = Box::leak(Box::default());
    let results = tested(flips, &NoFaults);
    assert_eq!(results[0].verdict, Verdict::Fail, "{results:#?}");
    assert!(!results[0].detail.ends_with("wrong here: 0"), "{results:#?}");
}

#[test]
fn the_end_that_computes_wrongly_is_named() {
    let own_and_peer = |results: Vec<TestResult>| {
        let of = |name| results.iter().find(|it| it.name == name).unwrap().verdict;
        (of(OWN_DIGEST), of(PEER_DIGEST))
    };
    assert_eq!(own_and_peer(tested(&Miscomputes, &NoFaults)), (Pass, Fail));
    assert_eq!(own_and_peer(tested(&NoFaults, &Miscomputes)), (Fail, Pass));
}

#[test]
fn figures_that_are_not_reached_fail() {
    let limit = Limit::of(Duration::from_millis(20));
    let expected = Expected {
        network_gbit_per_s: Some(1e9),
        network_p99_us: Some(1e-6),
        ..Expected::default()
    };
    let results = run(limit, &server(&NoFaults), &expected, &NoFaults);
    assert_eq!(verdicts(&results), [Pass, Fail, Fail, Fail, Pass, Pass], "{results:#?}");
}

#[test]
fn nobody_there_and_somebody_else_there_are_failures_with_words() {
    let limit = Limit::of(Duration::ZERO);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let results = run(limit, &nobody, &Expected::default(), &NoFaults);
    assert_eq!(results[0].verdict, Verdict::Fail);
    assert!(results[0].detail.contains("refused"), "{results:?}");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
        // Until the other end has gone.
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.read(&mut [0; 64]);
    });
    let results = run(limit, &address, &Expected::default(), &NoFaults);
    assert!(results[0].detail.contains("is not `lindos burnin --serve`"), "{results:?}");
}

#[test]
fn a_server_outlives_nonsense() {
    let address = server(&NoFaults);
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx").unwrap();
    drop(stream);
    let limit = Limit::of(Duration::from_millis(10));
    let results = run(limit, &address, &Expected::default(), &NoFaults);
    assert_eq!(results[0].verdict, Verdict::Pass, "{results:#?}");
}

#[test]
fn percentiles_are_those_of_the_nearest_rank() {
    let trips: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
    assert!((percentile(&trips, 50) - 100.0).abs() < 1e-6);
    assert!((percentile(&trips, 99) - 198.0).abs() < 1e-6);
    assert!((percentile(&trips[..1], 99) - 1.0).abs() < 1e-6);
}

/// A server that answers one peer; what it came to.
fn answering(within: Duration) -> (String, std::thread::JoinHandle<bool>) {
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = server.address().unwrap().to_string();
    let limit = Limit::of(within);
    let answers = std::thread::spawn(move || server.answer_one(limit, &NoFaults, &|_| {}).unwrap());
    (address, answers)
}

#[test]
fn who_answers_one_peer_is_done_when_its_test_is_and_nonsense_before_it_does_not_count() {
    let (address, answers) = answering(Duration::from_secs(600));
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    drop(stream);
    let limit = Limit::of(Duration::from_millis(20));
    let results = run(limit, &address, &Expected::default(), &NoFaults);
    assert!(results.iter().all(|it| it.verdict != Verdict::Fail), "{results:#?}");
    assert!(answers.join().unwrap());
}

#[test]
fn a_peer_that_never_comes_is_not_waited_for_for_ever() {
    let (_, answers) = answering(Duration::from_millis(30));
    assert!(!answers.join().unwrap());
}
