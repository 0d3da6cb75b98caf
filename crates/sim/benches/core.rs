//! Functions of the core on an aged fleet. `cargo bench -p lindos-sim`.
//!
//! The figures that we quote come from `lindos bench schedule`; these are for whoever changes one
//! function and wants to know at once what that did.

use divan::Bencher;
use lindos_core::Core;
use lindos_core::health::fleet::Fleet;
use lindos_core::placement::{self, Request};
use lindos_model::{Level, NodeId, job};
use lindos_sim::bench::aged;

const SIZES: [u64; 2] = [10_000, 100_000];

fn main() {
    divan::main();
}

/// What the core knows of its nodes, to be asked without a step around it.
fn fleet(gpus: u64) -> Fleet {
    let core = aged(gpus).expect("there is such a fleet");
    let mut fleet = Fleet::default();
    for node in core.nodes() {
        let (id, _) = fleet.join(node.spec.clone());
        fleet.update(id, |there| there.clone_from(node));
    }
    fleet
}

#[divan::bench(args = SIZES)]
fn place_part_of_a_node(bencher: Bencher, gpus: u64) {
    let (mut fleet, spec) = (fleet(gpus), job::sample("bench", 1, 3));
    bencher.bench_local(|| placement::place(&mut fleet, &Request::of(&spec)));
}

#[divan::bench(args = SIZES)]
fn place_one_node(bencher: Bencher, gpus: u64) {
    let (mut fleet, spec) = (fleet(gpus), job::sample("bench", 1, 8));
    bencher.bench_local(|| placement::place(&mut fleet, &Request::of(&spec)));
}

#[divan::bench(args = SIZES)]
fn place_64_nodes(bencher: Bencher, gpus: u64) {
    let (mut fleet, spec) = (fleet(gpus), job::sample("bench", 64, 8));
    bencher.bench_local(|| placement::place(&mut fleet, &Request::of(&spec)));
}

#[divan::bench(args = SIZES)]
fn refuse_segments(bencher: Bencher, gpus: u64) {
    let mut fleet = fleet(gpus);
    let mut spec = job::sample("bench", (gpus / 8 / 16 * 16) as u32, 8);
    (spec.within, spec.segment) = (Level::Leaf, Some(16));
    bencher.bench_local(|| placement::place(&mut fleet, &Request::of(&spec)));
}

/// A node goes out of service and comes back.
#[divan::bench(args = SIZES)]
fn change_a_node(bencher: Bencher, gpus: u64) {
    let mut fleet = fleet(gpus);
    bencher.bench_local(|| {
        fleet.update(NodeId(7), |node| node.drained = Some(String::new()));
        fleet.update(NodeId(7), |node| node.drained = None);
    });
}

#[divan::bench(args = SIZES)]
fn snapshot(bencher: Bencher, gpus: u64) {
    let core = aged(gpus).expect("there is such a fleet");
    bencher.bench_local(|| core.snapshot());
}

#[divan::bench(args = SIZES)]
fn restore(bencher: Bencher, gpus: u64) {
    let bytes = aged(gpus).expect("there is such a fleet").snapshot();
    bencher.bench_local(|| Core::restore(&bytes));
}
