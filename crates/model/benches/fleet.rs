//! The largest ready-made fleet: reading its file, checking it, summing it up.
//! `cargo bench -p lindos-model`.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use lindos_model::fleet::{Fleet, hostlist, ready, tree};
use std::path::Path;

const FLEET: &str = "stargate-1m";

fn main() {
    divan::main();
}

fn read() -> Fleet {
    let text = ready::text(FLEET).expect("it is ready-made");
    Fleet::parse(Path::new(FLEET), black_box(text)).expect("it is tested")
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn parse(bencher: Bencher) {
    bencher.counter(ItemsCount::new(read().nodes.len())).bench_local(read);
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn check(bencher: Bencher) {
    let fleet = read();
    bencher.counter(ItemsCount::new(fleet.nodes.len())).bench_local(|| fleet.check());
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn network_tree(bencher: Bencher) {
    let fleet = read();
    bencher.counter(ItemsCount::new(fleet.nodes.len())).bench_local(|| tree::network(&fleet));
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn host_list(bencher: Bencher) {
    bencher
        .counter(ItemsCount::new(125_000_usize))
        .bench_local(|| hostlist::expand(black_box("n[000001-125000]")));
}
