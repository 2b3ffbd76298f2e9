//! Prints what policy costs one exchange of a large tenant: 10,000 rules (500 by URL, networks,
//! windows of the week) and a list of a million domains.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people")]

mod world;

use std::hint::black_box;
use std::time::{Duration, Instant};

use policy::fact::Gate;
use policy::list::{DomainList, ListFormat};
use world::{EXCHANGES, World, list_text, policy, worst_url};

const ROUNDS: usize = 20_000;

fn main() {
    // Under a profiler only what is profiled is of interest.
    match std::env::args().nth(1).as_deref() {
        Some("bare") => bare(&World::new(10_000, 10)),
        Some("exchange") => exchanges(&World::new(10_000, 10)),
        _ => all(),
    }
}

fn all() {
    let begun = Instant::now();
    let list = DomainList::read(list_text(1_000_000).as_bytes(), Some(ListFormat::Csv)).unwrap();
    let (took, kilobytes) = (begun.elapsed(), list.list.bytes() / 1_000);
    println!("a list of 1,000,000 names: read in {took:.1?}, {kilobytes} kB");
    drop(list);
    let begun = Instant::now();
    black_box(policy(50_000));
    println!("a policy of 50,000 rules: loaded in {:.1?}", begun.elapsed());

    let world = World::new(10_000, 1_000_000);
    exchanges(&world);
    bare(&world);
    worst(&world);
}

fn exchanges(world: &World) {
    for exchange in EXCHANGES.iter().cycle().take(10_000) {
        black_box(world.judge(exchange));
    }
    let mut times = Vec::with_capacity(ROUNDS * EXCHANGES.len());
    for _ in 0..ROUNDS {
        for exchange in &EXCHANGES {
            let begun = Instant::now();
            black_box(world.judge(black_box(exchange)));
            times.push(begun.elapsed());
        }
    }
    println!("all policy work of one exchange: {}", spread(&mut times));
}

/// A verdict with all facts known.
fn bare(world: &World) {
    let facts = world::all_known();
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS * 5 {
        let begun = Instant::now();
        for _ in 0..8 {
            drop(black_box(world.policy.judge(Gate::Response, black_box(&facts))));
        }
        times.push(begun.elapsed() / 8);
    }
    println!("a bare verdict: {}", spread(&mut times));
}

/// A URL that resembles as many patterns as it can.
fn worst(world: &World) {
    let url: &'static str = worst_url().leak();
    let path = url.strip_prefix("https://files0.test").unwrap();
    let exchange = world::Exchange { host: "files0.test", path, url, ..EXCHANGES[0] };
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let begun = Instant::now();
        black_box(world.judge(black_box(&exchange)));
        times.push(begun.elapsed());
    }
    println!("the worst URL, {} bytes: {}", url.len(), spread(&mut times));
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    format!("median {:.2?}, p99 {:.2?}", at(50), at(99))
}
