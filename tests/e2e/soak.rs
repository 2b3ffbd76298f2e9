//! Many short tunnels, hostile ones among them, leave nothing behind.
//!
//! `SLUICE_TEST_TUNNELS` sets how many (default 2,000; the release check runs 50,000).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tests::client::hostile;
use tests::pki::client_chain;
use tests::{Gateway, Leg, Origin};
use tokio::sync::Semaphore;

const AT_ONCE: usize = 32;

fn tunnels() -> usize {
    std::env::var("SLUICE_TEST_TUNNELS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn short_and_hostile_tunnels_leave_nothing_behind() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    // Pools, caches and arenas fill in a first round and are part of the base.
    round(&gateway, &origin, tunnels() / 4).await;
    settle(&gateway, 0).await;
    let (descriptors, resident) = (gateway.descriptors(), gateway.resident_bytes());
    round(&gateway, &origin, tunnels()).await;
    settle(&gateway, descriptors).await;
    let now = gateway.resident_bytes();
    let growth = now as f64 / resident as f64 - 1.0;
    assert!(growth <= 0.10, "resident memory grew by {:.1} % of {resident}", growth * 100.0);
    assert_eq!(
        gateway.browser().get(&origin.url("site.test", "/hello")).await.unwrap().status,
        200
    );
}

async fn round(gateway: &Gateway, origin: &Origin, count: usize) {
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let stranger = client_chain("eve@acme.test", "laptop-6", None, |_| {});
    let polite = gateway.browser();
    let address = gateway.address();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..count {
        let permit = Arc::clone(&gate).acquire_owned().await.unwrap();
        let (polite, stranger) = (polite.clone(), stranger.clone());
        let url = origin.url("site.test", "/hello");
        tasks.spawn(async move {
            let _permit = permit;
            match number % 8 {
                0 => drop(hostile::half_open(address).await),
                1 => drop(hostile::send_first(address, b"\x16\x03\x01", Duration::ZERO).await),
                2 => drop(
                    hostile::send_first(address, b"GET / HTTP/1.1\r\n\r\n", Duration::from_secs(5))
                        .await,
                ),
                3 => drop(polite.with_certificate(Some(stranger)).leg(Leg::Http1).get(&url).await),
                4 => drop(polite.tunnel().await),
                // An inner handshake that is never begun.
                5 => drop(polite.open("site.test:443").await),
                _ => assert_eq!(polite.get(&url).await.unwrap().status, 200),
            }
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.unwrap();
    }
}

/// Waits until no more descriptors close, and at most `base` and a few are left.
async fn settle(gateway: &Gateway, base: usize) {
    let begun = Instant::now();
    let mut before = usize::MAX;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = gateway.descriptors();
        let enough = if base == 0 { now >= before } else { now <= base + 5 };
        if enough {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{now} descriptors, {base} before");
        before = now;
    }
}
