//! The raw relay, in virtual time.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::future::pending;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;

const IDLE: Duration = Duration::from_secs(900);
const SECOND: Duration = Duration::from_secs(1);
/// What the transport itself takes before a write has to wait.
const PIPE_BYTES: usize = 16 * 1024;

/// A relay under way, between the two ends it gives out.
fn relay() -> (DuplexStream, DuplexStream, JoinHandle<(Spliced, Duration)>) {
    let (client, mut client_side) = duplex(PIPE_BYTES);
    let (origin, mut origin_side) = duplex(PIPE_BYTES);
    let relaying = tokio::spawn(async move {
        let began = Instant::now();
        let spliced = splice(&mut client_side, &mut origin_side, IDLE, pending()).await;
        (spliced, began.elapsed())
    });
    (client, origin, relaying)
}

fn side(spliced: &Spliced) -> Option<SpliceSide> {
    spliced.error.map(|(side, _)| side)
}

#[tokio::test(start_paused = true)]
async fn a_silent_relay_ends_that_long_after_its_last_byte() {
    let (mut client, mut origin, relaying) = relay();
    for _ in 0..3 {
        sleep(800 * SECOND).await;
        client.write_all(b"still here").await.unwrap();
        origin.read_exact(&mut [0; 10]).await.unwrap();
    }
    let (spliced, lived) = relaying.await.unwrap();
    assert_eq!(side(&spliced), Some(SpliceSide::Idle));
    let expected = 3 * 800 * SECOND + IDLE;
    assert!(lived >= expected && lived < expected + SECOND, "{lived:?}");
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_relay_goes_on_and_ends_soon_after_it_falls_silent() {
    let (mut client, mut origin, relaying) = relay();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = Vec::new();
    origin.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question", "the end is passed on");
    for _ in 0..4 {
        sleep(100 * SECOND).await;
        origin.write_all(b"answer").await.unwrap();
        client.read_exact(&mut [0; 6]).await.unwrap();
    }
    let (spliced, lived) = relaying.await.unwrap();
    assert_eq!(side(&spliced), Some(SpliceSide::Idle));
    let expected = 400 * SECOND + HALF_CLOSED_IDLE_TIME_MAX;
    assert!(lived >= expected && lived < expected + SECOND, "{lived:?}");
    assert_eq!((spliced.from_client, spliced.to_client), (8, 24));
}

#[tokio::test(start_paused = true)]
async fn both_ends_make_a_clean_end_at_once() {
    let (mut client, mut origin, relaying) = relay();
    client.shutdown().await.unwrap();
    origin.write_all(b"bye").await.unwrap();
    origin.shutdown().await.unwrap();
    let (spliced, lived) = relaying.await.unwrap();
    assert_eq!((side(&spliced), spliced.to_client), (None, 3));
    assert!(lived < SECOND);
}

#[tokio::test(start_paused = true)]
async fn rx_15_rx_16_a_reader_that_stops_costs_one_buffer_and_ends() {
    let (client, mut origin, relaying) = relay();
    let writing = tokio::spawn(async move {
        let mut written = 0;
        while let Ok(count @ 1..) = origin.write(&[7; 64 * 1024]).await {
            written += count;
        }
        written
    });
    let (spliced, lived) = relaying.await.unwrap();
    assert_eq!(side(&spliced), Some(SpliceSide::Idle));
    assert!(lived < IDLE + SECOND, "{lived:?}");
    let taken = writing.await.unwrap();
    assert!(taken <= 2 * PIPE_BYTES + SPLICE_BYTES + SPLICE_BYTES_MIN, "{taken} bytes");
    drop(client);
}
