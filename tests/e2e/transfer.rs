//! Big transfers in constant memory, and streams that do not starve each other.
//!
//! `SLUICE_TEST_GB` sets the size in GB (10^9 bytes): 10 is the product's promise, 1 is the default
//! so that a run of all tests stays short on two cores.

use tests::client::message::Body;
use tests::{Gateway, Http, Origin, Request};

/// What a gateway may grow by while any transfer is under way: its windows and buffers.
const GROWTH_BYTES_MAX: u64 = 96 * 1024 * 1024;

fn size() -> u64 {
    let gb = std::env::var("SLUICE_TEST_GB").ok().and_then(|text| text.parse::<f64>().ok());
    (gb.unwrap_or(1.0) * 1e9) as u64
}

/// Runs the transfer while watching resident memory; the highest growth counts.
async fn watched<T>(gateway: &Gateway, transfer: impl Future<Output = T>) -> (T, u64) {
    let base = gateway.resident_bytes();
    let mut most = base;
    tokio::pin!(transfer);
    loop {
        tokio::select! {
            done = &mut transfer => return (done, most.saturating_sub(base)),
            () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {
                most = most.max(gateway.resident_bytes());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_download_and_upload_take_constant_memory() {
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::build().alpn(&[alpn]).start().await;
        let gateway = Gateway::start(&origin);
        let http = if alpn == "h2" { Http::Two } else { Http::One };
        let mut inner =
            gateway.browser().http(http).connect(&origin.url("site.test", "/")).await.unwrap();
        assert_eq!(inner.get("/bytes/10000000").await.unwrap().length, 10_000_000, "warm");
        let path = format!("/bytes/{}", size());
        let (got, growth) = watched(&gateway, inner.get(&path)).await;
        assert_eq!(got.unwrap().length, size());
        assert!(growth < GROWTH_BYTES_MAX, "download over {alpn}: {} MB", growth / 1_000_000);
        let request = Request::new("POST", "/upload").body(Body::Fill(size()));
        let (got, growth) = watched(&gateway, inner.send(request)).await;
        assert_eq!(got.unwrap().json()["bytes"], size());
        assert!(growth < GROWTH_BYTES_MAX, "upload over {alpn}: {} MB", growth / 1_000_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_arrives_bit_for_bit() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let body: Vec<u8> =
        (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let wanted = tests::sha256_hex(&body);
    for http in [Http::One, Http::Two] {
        let browser = gateway.browser().http(http);
        let request = Request::post("/", body.clone());
        let got = browser.send(&origin.url("site.test", "/upload"), request).await.unwrap();
        assert_eq!(got.json()["sha256"], wanted.as_str());
        let request = Request::post("/", body[..900_000].to_vec());
        let got = browser.send(&origin.url("site.test", "/mirror"), request).await.unwrap();
        assert!(got.body == body[..900_000], "the mirror's body differs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_nobody_reads_do_not_stop_the_others() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let browser = gateway.browser();
    let tunnel = browser.tunnel().await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let mut unread = Vec::new();
    for _ in 0..99 {
        let stream = tunnel.share().unwrap().open(&authority).await.unwrap();
        let mut inner = browser.clone().http(Http::One).inner(stream, &authority).await.unwrap();
        inner.start(Request::get("/bytes/100000000")).await.unwrap();
        unread.push(inner);
    }
    let stream = tunnel.share().unwrap().open(&authority).await.unwrap();
    let mut inner = browser.http(Http::One).inner(stream, &authority).await.unwrap();
    let got = inner.get("/bytes/50000000").await.unwrap();
    assert_eq!(got.length, 50_000_000);
    drop(unread);
}

/// Unread streams of [`rx_15_readers_that_stop_cost_a_bounded_buffer_each`].
const UNREAD: usize = 50;
/// What one may cost: 512 KiB, the window of its HTTP/2 stream at the origin; 256 KiB queued for an
/// inner HTTP/2 client and 128 KiB for the tunnel; the buffers of two TLS connections.
const UNREAD_BYTES_MAX: u64 = 1536 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn rx_15_readers_that_stop_cost_a_bounded_buffer_each() {
    for http in [Http::One, Http::Two] {
        let origin = Origin::start().await;
        let gateway = Gateway::start(&origin);
        let browser = gateway.browser().http(http);
        let tunnel = browser.tunnel().await.unwrap();
        let authority = format!("site.test:{}", origin.port());
        let warm = browser.get(&origin.url("site.test", "/bytes/50000000")).await.unwrap();
        assert_eq!(warm.length, 50_000_000);
        let opening = async {
            let mut unread = tokio::task::JoinSet::new();
            let (begun, mut all) = tokio::sync::mpsc::channel(UNREAD);
            for _ in 0..UNREAD {
                let stream = tunnel.share().unwrap().open(&authority).await.unwrap();
                let mut inner = browser.clone().inner(stream, &authority).await.unwrap();
                let begun = begun.clone();
                unread.spawn(async move {
                    // Held and not read: dropped, an HTTP/2 response would be cancelled.
                    let held = inner.start(Request::get("/bytes/100000000000")).await.unwrap();
                    begun.send(()).await.unwrap();
                    std::future::pending::<()>().await;
                    drop(held);
                });
            }
            for _ in 0..UNREAD {
                all.recv().await.unwrap();
            }
            // What moves beside them is the clock: by its end they are full.
            let got = browser.get(&origin.url("site.test", "/bytes/50000000")).await.unwrap();
            assert_eq!(got.length, 50_000_000);
            unread
        };
        let (unread, growth) = watched(&gateway, opening).await;
        println!("{http:?}: {} KiB for each unread stream", growth / 1024 / UNREAD as u64);
        assert!(growth < UNREAD as u64 * UNREAD_BYTES_MAX, "{http:?}: {} KiB", growth / 1024);
        drop(unread);
    }
}
