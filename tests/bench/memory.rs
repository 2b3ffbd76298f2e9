//! What open connections and transfers cost the gateway in resident memory. Prints, with the bounds of
//! docs/performance.md beside; asserts nothing.
//!
//! `SLUICE_BIN` names the gateway to measure, a release build. `SLUICE_BENCH_SOCKETS` is the number of
//! WebSockets (default 1,000; the bound is stated at 10,000), `SLUICE_BENCH_GB` the size of each of 100
//! transfers in GB (default 0.1; the bound is stated at 1).

use std::time::Duration;

use tests::client::websocket;
use tests::{Gateway, Http, Origin};
use tokio::task::JoinSet;

/// As many as one office behind one tunnel server has, and what an origin lets be open on one
/// HTTP/2 connection.
const SOCKETS_PER_TUNNEL: usize = 100;
const TRANSFERS: usize = 100;

fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::main]
async fn main() {
    let versions = [(Http::One, "http/1.1"), (Http::Two, "http/1.1"), (Http::Two, "h2")];
    for (http, alpn) in versions {
        idle_websockets(http, alpn).await;
    }
    for (http, alpn) in versions {
        transfers(http, alpn).await;
    }
}

/// Each on a TLS connection of its own, as every page's is.
async fn idle_websockets(http: Http, alpn: &'static str) {
    let count = setting("SLUICE_BENCH_SOCKETS", 1_000.0) as usize;
    let origin = Origin::build().alpn(&[alpn]).start().await;
    let gateway = Gateway::start(&origin);
    let browser = gateway.browser().http(http);
    let authority = format!("site.test:{}", origin.port());
    let mut held = Vec::new();
    let mut before = 0;
    for number in 0..=count {
        if number % SOCKETS_PER_TUNNEL == 0 {
            held.push((browser.tunnel().await.unwrap(), Vec::new()));
        }
        let (tunnel, sockets) = held.last_mut().unwrap();
        let stream = tunnel.open(&authority).await.unwrap();
        let inner = browser.inner(stream, &authority).await.unwrap();
        let opened = websocket::open(inner, &authority, "/ws", &[]).await.unwrap();
        let mut socket = opened.expect_open();
        socket.send(1, b"hello").await.unwrap();
        assert!(socket.receive().await.unwrap().is_some());
        sockets.push(socket);
        // The first pays for what all share.
        if number == 0 {
            before = gateway.resident_bytes();
        }
    }
    let each = gateway.resident_bytes().saturating_sub(before) / count as u64;
    println!("{count} idle WebSockets, {http:?} to {alpn}: {} KiB each (bound 96)", each / 1024);
}

/// All at once, through one tunnel each.
async fn transfers(http: Http, alpn: &'static str) {
    let gb = setting("SLUICE_BENCH_GB", 0.1);
    let size = (gb * 1e9) as u64;
    let origin = Origin::build().alpn(&[alpn]).start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.url("site.test", "/");
    let mut inners = Vec::new();
    for _ in 0..TRANSFERS {
        inners.push(gateway.browser().http(http).connect(&url).await.unwrap());
    }
    let idle = gateway.resident_bytes();
    let mut running = JoinSet::new();
    for mut inner in inners {
        running.spawn(async move {
            let got = inner.get(&format!("/bytes/{size}")).await.unwrap();
            assert_eq!(got.length, size);
        });
    }
    let mut most = idle;
    let mut clock = tokio::time::interval(Duration::from_millis(50));
    while !running.is_empty() {
        tokio::select! {
            Some(done) = running.join_next() => done.unwrap(),
            _ = clock.tick() => most = most.max(gateway.resident_bytes()),
        }
    }
    let over = most.saturating_sub(idle) / 1_000_000;
    println!(
        "{TRANSFERS} transfers of {gb} GB, {http:?} to {alpn}: {over} MB over idle (bound 200)"
    );
}
