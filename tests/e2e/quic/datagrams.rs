//! CONNECT-UDP over QUIC: datagrams, capsules, and where they may not go.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::client::quic::{Came, QuicUdp};
use tests::dns::Dns;
use tests::{Gateway, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

pub(super) async fn echo_server() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 65_536];
        while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
            socket.send_to(&buffer[..count], from).await.ok();
        }
    });
    port
}

async fn exchange(flow: &mut QuicUdp, sizes: &[usize]) -> Vec<Came> {
    let mut came = Vec::new();
    for size in sizes {
        flow.send(&vec![b'u'; *size]).await.unwrap();
        came.push(flow.came().await.unwrap());
    }
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_goes_in_quic_datagrams_and_what_is_too_long_in_capsules() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let port = echo_server().await;
    let tunnel = gateway.browser().quic().await.unwrap();
    let mut flow = tunnel.udp(&gateway.name("acme"), "echo.test", port).await.unwrap();
    let sizes = [0, 1, 100, 1_100];
    let expected = sizes.map(|size| Came::Datagram(vec![b'u'; size]));
    assert_eq!(exchange(&mut flow, &sizes).await, expected);
    flow.send_capsule(&[b'c'; 4_000]).await.unwrap();
    assert_eq!(flow.came().await.unwrap(), Came::Capsule(vec![b'c'; 4_000]));
    drop(flow);
    let event =
        gateway.await_event("acme", |one| one["type"] == "flow" && one["dest_port"] == port).await;
    assert_eq!((&event["host"], &event["access_method"]), (&json!("echo.test"), &json!("quic")));
    assert_eq!(event["request_bytes"], 5_201, "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_quic_datagrams_gets_capsules() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let port = echo_server().await;
    let to = gateway.browser().quic_to().unwrap().without_datagrams();
    let tunnel = to.connect().await.unwrap();
    let mut flow = tunnel.udp(&gateway.name("acme"), "echo.test", port).await.unwrap();
    for came in exchange(&mut flow, &[0, 1, 1_200]).await {
        assert!(matches!(came, Came::Capsule(_)), "{came:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_of_many_flows_reach_each_its_own() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    let mut flows = Vec::new();
    for number in 0..30_u8 {
        let port = echo_server().await;
        let flow = tunnel.udp(&gateway.name("acme"), "echo.test", port).await.unwrap();
        flows.push((number, flow));
    }
    for (number, flow) in &mut flows {
        flow.send(&[*number; 9]).await.unwrap();
    }
    for (number, flow) in &mut flows {
        assert_eq!(flow.receive().await.unwrap(), [*number; 9]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sd_18_quic_datagrams_to_private_addresses_are_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).allow_private("[]").start();
    let tunnel = gateway.browser().quic().await.unwrap();
    let proxy = gateway.name("acme");
    for host in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "echo.test"] {
        let refused = tunnel.udp(&proxy, host, 5_353).await;
        let status = refused.err().and_then(|error| error.status());
        assert_eq!(status, Some(403), "{host}");
    }
}

fn connect_udp<'a>(proxy: &'a str, path: &'a str) -> [(&'static str, &'a str); 6] {
    [
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "https"),
        (":authority", proxy),
        (":path", path),
        ("capsule-protocol", "?1"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_30_a_flood_of_datagrams_to_a_denied_port_is_dropped_and_counted() {
    let origin = Origin::start().await;
    let rule = "  - { name: no syslog, match: { dest_port: [514] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let tunnel = gateway.browser().quic().await.unwrap();
    let proxy = gateway.name("acme");
    let head = connect_udp(&proxy, "/.well-known/masque/udp/echo.test/514/");
    let (status, stream) = tunnel.ask(&head).await.unwrap();
    assert_eq!(status, 403);
    let mut datagram = vec![u8::try_from(stream.id() / 4).unwrap(), 0];
    datagram.resize(1_000, b'u');
    let port = echo_server().await;
    let mut flow = tunnel.udp(&proxy, "echo.test", port).await.unwrap();
    let mut before = 0;
    for number in 0..60_000 {
        if number == 20_000 {
            before = gateway.resident_bytes();
        }
        tunnel.connection.send_datagram_wait(datagram.clone().into()).await.unwrap();
        // What is under way waits somewhere. What comes behind it says that it was looked at.
        if number % 1_000 == 999 {
            assert_eq!(exchange(&mut flow, &[9]).await, [Came::Datagram(vec![b'u'; 9])]);
        }
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes for 40 MB");
    let dropped = async |reason: &str| {
        let label = format!("reason=\"{reason}\"");
        let count = gateway.metric("sluice_datagrams_dropped_total", &[&label]).await;
        count.unwrap_or_default()
    };
    assert!(dropped("stray").await > 0.0);
    // What never got so far is counted when the tunnel ends; some may have been lost on its way.
    tunnel.connection.close(0x100_u32.into(), b"");
    let begun = Instant::now();
    while dropped("stray").await + dropped("queue").await < 50_000.0 {
        assert!(
            begun.elapsed() < super::SOON,
            "{} {}",
            dropped("stray").await,
            dropped("queue").await
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let event = gateway.await_event("acme", |it| it["dest_port"] == 514).await;
    assert_eq!((&event["action"], &event["rule"]), (&json!("block"), &json!("no syslog")));
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_30_datagrams_that_are_too_large_or_too_many_for_a_client_cost_bounded_memory() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    let proxy = gateway.name("acme");
    // Each answers with four hundred of 60,000 bytes, to a client that reads none.
    let (mut held, before) = (Vec::new(), gateway.resident_bytes());
    for _ in 0..3 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut flow = tunnel.udp(&proxy, "echo.test", port).await.unwrap();
        flow.send(b"go on").await.unwrap();
        held.push(flow);
        let mut buffer = [0; 16];
        let (_, client) = socket.recv_from(&mut buffer).await.unwrap();
        for _ in 0..400 {
            socket.send_to(&[b'd'; 60_000], client).await.unwrap();
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for 72 MB");
    let dropped = gateway.metric("sluice_packets_dropped_total", &["reason=\"queue\""]).await;
    assert!(dropped.is_some_and(|it| it > 100.0), "{dropped:?}");

    // Longer than any UDP payload: the stream ends, and nothing else.
    let path = format!("/.well-known/masque/udp/echo.test/{}/", echo_server().await);
    let (status, mut stream) = tunnel.ask(&connect_udp(&proxy, &path)).await.unwrap();
    assert_eq!(status, 200);
    stream.write_all(&[0, 0x80, 1, 0x11, 0x70]).await.unwrap();
    stream.flush().await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(super::SOON, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok() && rest.is_empty());
    gateway.await_event("acme", |it| it["error"] == "bad_capsule").await;
    let mut flow = tunnel.udp(&proxy, "echo.test", echo_server().await).await.unwrap();
    assert_eq!(exchange(&mut flow, &[9]).await, [Came::Datagram(vec![b'u'; 9])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_by_udp_through_the_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let dns = Dns::start(|_, _| "192.0.2.7".parse().unwrap()).await;
    let tunnel = gateway.browser().quic().await.unwrap();
    let proxy = gateway.name("acme");
    let mut flow = tunnel.udp(&proxy, "127.0.0.1", dns.address.port()).await.unwrap();
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x04site\x04test\x00\x00\x01\x00\x01";
    flow.send(query).await.unwrap();
    let answer = flow.receive().await.unwrap();
    assert_eq!(answer[..2], query[..2]);
    assert_eq!(answer[answer.len() - 4..], [192, 0, 2, 7]);
    assert_eq!(dns.asked("www.site.test"), 1);
}
