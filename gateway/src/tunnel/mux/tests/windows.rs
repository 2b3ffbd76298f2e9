//! Flow control over links in virtual time: fast streams grow, unread ones hold up nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::sleep;

use super::link::Link;
use super::*;
use crate::limit::window::Pressure;

const MBIT: u64 = 1_000_000 / 8;

/// What is sent over and over; its content does not matter here.
fn filler() -> Bytes {
    Bytes::from_static(&[7; 64 * 1024])
}

/// A client that sends without end on a new stream.
fn upload(mut sender: SendRequest<Bytes>, host: &str) {
    let (response, mut send) = sender.send_request(connect(host), false).unwrap();
    tokio::spawn(async move {
        let _response = response;
        loop {
            send_all(&mut send, filler(), false).await;
        }
    });
}

/// Takes the next stream, answered.
async fn next_stream(served: &mut Served) -> MuxStream {
    served.incoming.next().await.unwrap().responder.respond(200, &Fields::new())
}

/// Reads in the background; the count of bytes so far.
fn count(mut stream: MuxStream) -> Arc<AtomicU64> {
    let counter = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&counter);
    tokio::spawn(async move {
        while let Ok(Some(chunk)) = stream.read_chunk().await {
            counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
    });
    counter
}

/// Bytes that `counter` moves in `span`.
async fn moved(counter: &AtomicU64, span: Duration) -> u64 {
    let before = counter.load(Ordering::Relaxed);
    sleep(span).await;
    counter.load(Ordering::Relaxed) - before
}

#[tokio::test(start_paused = true)]
async fn one_fast_stream_fills_a_gigabit_at_100_ms() {
    let link = Link { bytes_per_second: 1000 * MBIT, latency: Duration::from_millis(50) };
    let (near, far) = link.ends();
    let mut served = serve_on(far, Settings::default());
    upload(client_on(near).await, "fast.test:443");
    let counter = count(next_stream(&mut served).await);
    assert!(served.process.used() <= 64 * 1024, "starts at 64 KiB");
    sleep(Duration::from_millis(2500)).await;
    assert!(served.process.used() >= 12_500_000, "window {}", served.process.used());
    let rate = moved(&counter, Duration::from_millis(400)).await * 10 / 4;
    assert!(rate >= 1000 * MBIT * 9 / 10, "{rate} bytes/s");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_keeps_a_small_window() {
    let link = Link { bytes_per_second: 1000 * MBIT, latency: Duration::from_millis(10) };
    let (near, far) = link.ends();
    let mut served = serve_on(far, Settings::default());
    upload(client_on(near).await, "slow.test:443");
    let mut stream = next_stream(&mut served).await;
    // 100 kB/s at 20 ms is a window of 2 kB.
    for _ in 0..100 {
        let chunk = stream.read_chunk().await.unwrap().unwrap();
        sleep(Duration::from_micros(10 * chunk.len() as u64)).await;
    }
    assert!(served.process.used() <= 64 * 1024, "{}", served.process.used());
}

#[tokio::test(start_paused = true)]
async fn a_window_is_given_back_when_its_stream_falls_silent() {
    let link = Link { bytes_per_second: 1000 * MBIT, latency: Duration::from_millis(10) };
    let (near, far) = link.ends();
    let mut served = serve_on(far, Settings::default());
    let mut sender = client_on(near).await;
    let (response, mut send) = sender.send_request(connect("burst.test:443"), false).unwrap();
    count(next_stream(&mut served).await);
    response.await.unwrap();
    for _ in 0..300 {
        send_all(&mut send, filler(), false).await;
    }
    assert!(served.process.used() > 1 << 20, "grown to {}", served.process.used());
    sleep(Duration::from_secs(11)).await;
    assert_eq!(served.process.used(), 64 * 1024);
}

#[tokio::test(start_paused = true)]
async fn windows_do_not_grow_under_pressure_and_shrink_again() {
    let link = Link { bytes_per_second: 1000 * MBIT, latency: Duration::from_millis(10) };
    let (near, far) = link.ends();
    let mut served = serve_on(far, Settings::default());
    upload(client_on(near).await, "fast.test:443");
    count(next_stream(&mut served).await);
    sleep(Duration::from_millis(500)).await;
    let grown = served.process.used();
    assert!(grown > 1 << 20, "grown to {grown}");
    served.process.press(Pressure::High);
    sleep(Duration::from_millis(1000)).await;
    assert!(served.process.used() <= 64 * 1024, "shrunk to {}", served.process.used());
}

/// The rate at which the last of `1 + unread` uploads moves.
async fn upload_rate(unread: usize) -> u64 {
    let link = Link { bytes_per_second: 200 * MBIT, latency: Duration::from_millis(10) };
    let (near, far) = link.ends();
    let mut served = serve_on(far, Settings::default());
    let sender = client_on(near).await;
    let mut held = Vec::new();
    for _ in 0..unread {
        upload(sender.clone(), "unread.test:443");
        held.push(next_stream(&mut served).await);
    }
    upload(sender, "read.test:443");
    let counter = count(next_stream(&mut served).await);
    sleep(Duration::from_secs(2)).await;
    moved(&counter, Duration::from_secs(1)).await
}

#[tokio::test(start_paused = true)]
async fn an_upload_keeps_its_rate_beside_99_unread_ones() {
    let (solo, beside) = (upload_rate(0).await, upload_rate(99).await);
    assert!(solo >= 200 * MBIT * 9 / 10, "solo {solo} bytes/s");
    assert!(beside >= solo * 9 / 10, "{beside} of {solo} bytes/s");
}

/// The rate at which the last of `1 + unread` downloads moves.
async fn download_rate(unread: usize) -> u64 {
    let link = Link { bytes_per_second: 200 * MBIT, latency: Duration::from_millis(10) };
    let (near, far) = link.ends();
    let served = serve_on(far, Settings::default());
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(128 << 20)
        .handshake::<_, Bytes>(near)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut incoming = served.incoming;
    tokio::spawn(async move {
        while let Some(request) = incoming.next().await {
            let mut stream = request.responder.respond(200, &Fields::new());
            tokio::spawn(async move { while stream.write_chunk(filler()).await.is_ok() {} });
        }
    });
    let mut held = Vec::new();
    for number in 0..=unread {
        let mut sender = sender.clone().ready().await.unwrap();
        let host = format!("host-{number}.test:443");
        let (response, send) = sender.send_request(connect(&host), false).unwrap();
        held.push((response.await.unwrap().into_body(), send));
    }
    let (mut body, _send) = held.pop().unwrap();
    let counter = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&counter);
    tokio::spawn(async move {
        while let Some(Ok(chunk)) = body.data().await {
            body.flow_control().release_capacity(chunk.len()).unwrap();
            counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
    });
    // The unread streams fill their windows first: 99 MiB at 25 MB/s.
    sleep(Duration::from_secs(6)).await;
    moved(&counter, Duration::from_secs(1)).await
}

#[tokio::test(start_paused = true)]
async fn a_download_keeps_its_rate_beside_99_unread_ones() {
    let (solo, beside) = (download_rate(0).await, download_rate(99).await);
    assert!(solo >= 200 * MBIT * 9 / 10, "solo {solo} bytes/s");
    assert!(beside >= solo * 9 / 10, "{beside} of {solo} bytes/s");
}

#[tokio::test(start_paused = true)]
async fn downloads_share_the_link_evenly() {
    let link = Link { bytes_per_second: 200 * MBIT, latency: Duration::from_millis(5) };
    let (near, far) = link.ends();
    let served = serve_on(far, Settings::default());
    let mut sender = client_on(near).await;
    let mut incoming = served.incoming;
    tokio::spawn(async move {
        while let Some(request) = incoming.next().await {
            let mut stream = request.responder.respond(200, &Fields::new());
            tokio::spawn(async move { while stream.write_chunk(filler()).await.is_ok() {} });
        }
    });
    let mut counters = Vec::new();
    for number in 0..10 {
        let host = format!("host-{number}.test:443");
        let (response, send) = sender.send_request(connect(&host), false).unwrap();
        let counter = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&counter);
        let mut body = response.await.unwrap().into_body();
        tokio::spawn(async move {
            let _send = send;
            while let Some(Ok(chunk)) = body.data().await {
                body.flow_control().release_capacity(chunk.len()).unwrap();
                counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        });
        counters.push(counter);
    }
    sleep(Duration::from_secs(1)).await;
    let before: Vec<u64> = counters.iter().map(|c| c.load(Ordering::Relaxed)).collect();
    sleep(Duration::from_secs(1)).await;
    let moved = counters.iter().zip(before).map(|(c, was)| c.load(Ordering::Relaxed) - was);
    let (least, most) = moved.fold((u64::MAX, 0), |(l, m), n| (l.min(n), m.max(n)));
    assert!(least > 0 && most - least <= 256 * 1024, "{least} to {most} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_streams_fit_the_tunnels_budget_and_work() {
    let link = Link { bytes_per_second: 1000 * MBIT, latency: Duration::from_millis(5) };
    let (near, far) = link.ends();
    let mut served = serve_on(far, Settings::default());
    let sender = client_on(near).await;
    let mut held = Vec::new();
    for _ in 0..999 {
        upload(sender.clone().ready().await.unwrap(), "unread.test:443");
        held.push(next_stream(&mut served).await);
    }
    upload(sender.ready().await.unwrap(), "read.test:443");
    let counter = count(next_stream(&mut served).await);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(served.handle.streams(), 1000);
    assert!(served.process.used() <= TUNNEL_WINDOW_BYTES, "{}", served.process.used());
    let rate = moved(&counter, Duration::from_millis(500)).await * 2;
    assert!(rate >= 100 * MBIT, "{rate} bytes/s");
    drop(held);
    sleep(Duration::from_secs(30)).await;
    assert!(served.process.used() <= 16 * 1024 * 1024 + 64 * 1024, "{}", served.process.used());
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_peer_opens_no_window_is_reset_in_the_end() {
    let (near, far) = tokio::io::duplex(PIPE);
    let mut served = serve_on(far, Settings::default());
    let (mut sender, connection) = h2::client::Builder::new()
        .initial_window_size(0)
        .handshake::<_, Bytes>(near)
        .await
        .unwrap();
    tokio::spawn(connection);
    let (response, mut send) = sender.send_request(connect("held.test:443"), false).unwrap();
    let mut stream = next_stream(&mut served).await;
    let _response = response.await.unwrap();
    let mut queued = 0;
    while let Ok(Ok(())) =
        tokio::time::timeout(Duration::from_secs(1), stream.write_chunk(filler())).await
    {
        queued += 64;
    }
    assert!(queued <= 192, "{queued} KiB held for it");
    let reason = std::future::poll_fn(|context| send.poll_reset(context)).await.unwrap();
    assert_eq!(reason, h2::Reason::CANCEL);
}
