//! What strangers get from the UDP port: less than they send, and no memory.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tests::client::quic::initial::{answered, ping, retried};
use tests::link::Tap;
use tests::{Gateway, Origin};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{SOON, fetch};

const SOURCE: [u8; 8] = *b"a source";
/// Handshakes under way from which on the gateway answers with Retry.
const HALF_OPEN: u64 = 256;

async fn stranger(gateway: &Gateway) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(gateway.address()).await.unwrap();
    socket
}

fn id(number: u64) -> [u8; 8] {
    (number ^ 0x5a5a_5a5a_5a5a_5a5a).to_be_bytes()
}

/// What comes until nothing has come for `wait`.
async fn answers(socket: &UdpSocket, wait: Duration) -> Vec<Vec<u8>> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 65_536]);
    while let Ok(Ok(length)) = timeout(wait, socket.recv(&mut buffer)).await {
        all.push(buffer[..length].to_vec());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn dt_18_datagrams_that_begin_like_no_protocol_of_the_port_are_dropped_and_counted() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let socket = stranger(&gateway).await;
    for first in 0..=255_u8 {
        socket.send(&[&[first][..], &[0x33; 80]].concat()).await.unwrap();
    }
    assert!(answers(&socket, Duration::from_secs(1)).await.is_empty());
    let label = ["reason=\"unknown\""];
    let dropped = gateway.metric("sluice_datagrams_dropped_total", &label).await;
    assert_eq!(dropped, Some(84.0), "0..=19 and 128..=191");
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_17_who_does_not_answer_gets_three_times_what_it_sent_at_most() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tap = Tap::start(gateway.address()).await;
    let mut to = gateway.browser().quic_to().unwrap();
    to.address = tap.address;
    let client = tokio::spawn(async move { to.bare().await.map(drop) });
    let begun = Instant::now();
    // The whole ClientHello has gone up; then silence, as behind a forged address.
    while tap.down().is_empty() {
        assert!(begun.elapsed() < SOON, "no answer at all");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tap.cut();
    tokio::time::sleep(Duration::from_secs(5)).await;
    client.abort();
    let bytes = |datagrams: Vec<Vec<u8>>| datagrams.iter().map(Vec::len).sum::<usize>();
    let (up, down) = (tap.up(), bytes(tap.down()));
    // What the client had sent beyond its first flight shows that its address is its own.
    let flight = up.iter().take_while(|it| it.first().is_some_and(|byte| byte & 0xb0 == 0x80));
    let sent = flight.map(Vec::len).sum::<usize>();
    if bytes(up) == sent {
        assert!(down <= 3 * sent, "{down} bytes for {sent}");
    }
    assert!(sent >= 1_200);

    let socket = stranger(&gateway).await;
    socket.send(&ping(id(1), SOURCE, &[], 1_200)).await.unwrap();
    let down = bytes(answers(&socket, Duration::from_secs(3)).await);
    assert!((1..=3_600).contains(&down), "{down} bytes for 1200");
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_18_initial_packets_in_short_datagrams_are_dropped() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let socket = stranger(&gateway).await;
    for size in [200, 1_000, 1_199] {
        socket.send(&ping(id(size), SOURCE, &[], size as usize)).await.unwrap();
    }
    assert!(answers(&socket, Duration::from_secs(1)).await.is_empty());
    socket.send(&ping(id(9), SOURCE, &[], 1_200)).await.unwrap();
    assert!(!answers(&socket, Duration::from_secs(1)).await.is_empty(), "the control is answered");
}

/// Opens handshakes until the gateway asks for a token, and returns what it asks with.
async fn retry(socket: &UdpSocket) -> (Vec<u8>, [u8; 8], u64) {
    for number in 0..4 * HALF_OPEN {
        socket.send(&ping(id(number), SOURCE, &[], 1_200)).await.unwrap();
        let mut buffer = vec![0; 2_048];
        while let Ok(Ok(length)) =
            timeout(Duration::from_millis(20), socket.recv(&mut buffer)).await
        {
            if let Some((token, _)) = retried(&buffer[..length]) {
                return (token, id(number), number);
            }
        }
    }
    panic!("no Retry");
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_19_many_half_open_handshakes_make_newcomers_prove_their_address() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).gateway_yaml("workers: 2").start();
    let socket = stranger(&gateway).await;
    let (token, _, number) = retry(&socket).await;
    assert!(number >= HALF_OPEN / 2, "after {number}");
    // A real client brings its token.
    let tunnel = gateway.browser().quic().await.unwrap();
    assert_eq!(fetch(&gateway, &tunnel, &origin, "/hello").await.unwrap().status, 200);
    let retries = gateway.metric("sluice_quic_retries_total", &[]).await;
    assert!(retries.is_some_and(|count| count >= 2.0), "{retries:?}");
    let shows = async |socket: &UdpSocket, number: u64, token: &[u8]| {
        socket.send(&ping(id(number), SOURCE, token, 1_400)).await.unwrap();
        let said = answers(socket, Duration::from_millis(500)).await;
        said.iter().any(|it| answered(it, id(number)) == Some(2))
    };
    let other = stranger(&gateway).await;
    assert!(!shows(&other, 7_000, &token).await, "somebody else's token opens a handshake");
    assert!(!shows(&other, 7_001, &[7; 60]).await, "a made-up token opens a handshake");
    let (token, _, _) = retry(&socket).await;
    assert!(shows(&socket, 8_000, &token).await, "no handshake for a good token");
    tokio::time::sleep(Duration::from_secs(17)).await;
    // The old handshakes are gone; still the token says that it is one.
    assert!(!shows(&socket, 8_001, &token).await, "an old token opens a handshake");
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_20_a_flood_of_initial_packets_costs_bounded_memory_and_nobodys_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    assert_eq!(fetch(&gateway, &tunnel, &origin, "/hello").await.unwrap().status, 200);
    let before = gateway.resident_bytes();
    let count: u64 = std::env::var("SLUICE_TEST_DATAGRAMS")
        .ok()
        .and_then(|it| it.parse().ok())
        .unwrap_or(20_000);
    let socket = stranger(&gateway).await;
    let (mut sent, mut got, mut buffer) = (0, 0, vec![0; 2_048]);
    for number in 0..count {
        sent += socket.send(&ping(id(number), SOURCE, &[], 1_200)).await.unwrap_or(0);
        while let Ok(length) = socket.try_recv(&mut buffer) {
            got += length;
        }
        if number % 5_000 == 0 {
            let reply = fetch(&gateway, &tunnel, &origin, "/hello").await.unwrap();
            assert_eq!(reply.status, 200, "the QUIC tunnel goes on");
        }
    }
    assert!(got <= 3 * sent, "{got} bytes for {sent}");
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 96 << 20, "{grown} bytes");
    let other = gateway.browser().get(&origin.url("site.test", "/hello")).await.unwrap();
    assert_eq!(other.status, 200, "TLS tunnels go on");
    assert_eq!(fetch(&gateway, &tunnel, &origin, "/page").await.unwrap().status, 200);
}

/// A long header of another version.
fn version(version: u32, first: u8, size: usize) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend(version.to_be_bytes());
    packet.push(8);
    packet.extend(*b"nowhere!");
    packet.push(8);
    packet.extend(SOURCE);
    packet.resize(size, 0);
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_26_versions_are_negotiated_once_and_never_in_a_loop() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let socket = stranger(&gateway).await;
    let ask = async |packet: Vec<u8>| {
        socket.send(&packet).await.unwrap();
        answers(&socket, Duration::from_millis(300)).await
    };
    for unknown in [0x1a2a_3a4a, 0x6b33_43cf, 0xff00_001d, 2] {
        let said = ask(version(unknown, 0xc0, 1_200)).await;
        let [one] = said.as_slice() else { panic!("{unknown:x}: {} answers", said.len()) };
        assert_eq!(one[1..5], [0; 4], "a Version Negotiation packet");
        assert_eq!((&one[6..14], &one[15..23]), (&SOURCE[..], &b"nowhere!"[..]));
        let offered: Vec<_> = one[23..].chunks(4).collect();
        assert!(offered.contains(&&[0, 0, 0, 1][..]), "version 1");
        assert!(!offered.contains(&&u32::to_be_bytes(unknown)[..]));
        // What it says is no question to be answered again.
        assert!(ask(one.clone()).await.is_empty());
        assert!(ask(version(unknown, 0xc0, 1_199)).await.is_empty(), "too short to be answered");
    }
    assert!(ask(version(0, 0xc0, 1_200)).await.is_empty());
    // Without the QUIC bit it is no QUIC of this port.
    assert!(ask(version(0x1a2a_3a4a, 0x80, 1_200)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_28_forged_resets_and_packets_do_nothing_and_real_resets_are_few() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tap = Tap::start(gateway.address()).await;
    let mut to = gateway.browser().quic_to().unwrap();
    to.address = tap.address;
    let tunnel = to.connect().await.unwrap();
    assert_eq!(fetch(&gateway, &tunnel, &origin, "/hello").await.unwrap().status, 200);
    // The gateway's id for this connection stands in the client's short headers.
    let short = tap.up().into_iter().find(|it| it[0] & 0xc0 == 0x40).expect("a short header");
    let ours = short[1..17].to_vec();
    for number in 0..500_u32 {
        let mut forged = vec![0x40 | (number & 0x3f) as u8];
        forged.extend(if number % 2 == 0 { ours.clone() } else { vec![number as u8; 16] });
        forged.extend((0..40).map(|at| (number.wrapping_mul(7_919) >> (at % 24)) as u8));
        tap.upstream.send(&forged).await.unwrap();
    }
    assert_eq!(fetch(&gateway, &tunnel, &origin, "/page").await.unwrap().status, 200);

    // An id that nobody has made is answered with silence, one of a connection that is over with
    // a reset, which is shorter than what it answers; not more than fifty a second.
    let socket = stranger(&gateway).await;
    socket.send(&[&[0x41][..], &[7; 16], &[9; 60]].concat()).await.unwrap();
    assert!(answers(&socket, Duration::from_millis(300)).await.is_empty());
    tunnel.connection.close(0x100_u32.into(), b"");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stray = [&[0x41][..], &ours, &[9; 60]].concat();
    for _ in 0..200 {
        socket.send(&stray).await.unwrap();
    }
    let said = answers(&socket, Duration::from_millis(300)).await;
    assert!((1..50).contains(&said.len()), "{} resets", said.len());
    assert!(said.iter().all(|it| it.len() < stray.len() && it[0] & 0xc0 == 0x40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_a_process_that_died_is_reset_by_the_next() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    let address: SocketAddr = gateway.address();
    assert_eq!(fetch(&gateway, &tunnel, &origin, "/hello").await.unwrap().status, 200);
    gateway.kill();
    gateway.restart();
    assert_eq!(gateway.address(), address);
    let asked = tunnel.open(&format!("site.test:{}", origin.port())).await;
    assert!(asked.is_err());
    let ended = tunnel.ended(SOON).await.expect("the client waits for a process that is gone");
    assert_eq!(ended, quinn::ConnectionError::Reset);
}
