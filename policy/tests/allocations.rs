//! Deciding about an exchange takes no memory from the heap.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../benches/world/mod.rs"]
mod world;

use world::{EXCHANGES, World};

#[test]
fn deciding_allocates_nothing() {
    let world = World::new(2_000, 10_000);
    for exchange in &EXCHANGES {
        let used = allocation_counter::measure(|| {
            std::hint::black_box(world.judge(exchange));
        });
        assert_eq!(used.count_total, 0, "{} {}", exchange.method, exchange.url);
    }
}
