//! What quic-interop-runner has a server go through, as far as no other test does: see the table in docs/cases.md.

use std::net::UdpSocket;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
use rustls::crypto::aws_lc_rs::default_provider;
use tests::client::quic::{QuicTo, QuicTunnel};
use tests::client::tls;
use tests::link::{Impairment, UdpRelay};
use tests::{Gateway, Origin, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{fetch, is_let_in};

/// From the first packet to a page, however bad the network.
const PATIENCE: Duration = Duration::from_secs(90);

/// A client's way to the gateway by a relay, from a socket of its own.
fn by(gateway: &Gateway, relay: &UdpRelay) -> QuicTo {
    let mut to = gateway.browser().quic_to().unwrap();
    to.address = relay.address;
    to
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_29_longrtt_a_round_trip_of_a_second_and_a_half() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let relay = UdpRelay::start(gateway.address(), 3).await;
    relay.set(Impairment::none().delay(Duration::from_millis(750)));
    let tunnel = by(&gateway, &relay).connect().await.unwrap();
    let reply = fetch(&gateway, &tunnel, &origin, "/bytes/10000").await.unwrap();
    assert_eq!((reply.status, reply.length), (200, 10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_29_handshakeloss_and_handshakecorruption_each_handshake_gets_through() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let delay = Duration::from_millis(5);
    let mut running = JoinSet::new();
    for (seed, impairment) in
        [Impairment::none().loss(0.3), Impairment::none().corrupt(0.3)].into_iter().enumerate()
    {
        for client in 0..15 {
            let relay = UdpRelay::start(gateway.address(), 100 * seed as u64 + client).await;
            relay.set(impairment.delay(delay));
            let to = by(&gateway, &relay);
            running.spawn(async move {
                let begun = Instant::now();
                // Either side gives a handshake up after some time, and clients try again. That a client is
                // let in shows with the first answer.
                while let Err(error) = is_let_in(to.connect().await, "site.test:443").await {
                    assert!(begun.elapsed() < PATIENCE, "{impairment:?}: {error}");
                }
                drop(relay);
            });
        }
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    let handshakes = gateway.metric("sluice_tunnels_total", &["access_method=\"quic\""]).await;
    assert!(handshakes.is_some_and(|count| count >= 30.0), "{handshakes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_29_blackhole_a_transfer_goes_on_after_the_dark() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let relay = UdpRelay::start(gateway.address(), 5).await;
    relay.set(Impairment::none().delay(Duration::from_millis(10)).rate(20_000_000, 200_000));
    let tunnel = by(&gateway, &relay).connect().await.unwrap();
    let dark = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        relay.block(true);
        tokio::time::sleep(Duration::from_secs(2)).await;
        relay.block(false);
        relay.counts_down().blocked
    };
    let page = fetch(&gateway, &tunnel, &origin, "/bytes/3000000");
    let (reply, blocked) = tokio::join!(page, dark);
    let reply = reply.unwrap();
    assert_eq!((reply.status, reply.length), (200, 3_000_000));
    assert!(blocked > 0, "the transfer was through before it was dark");
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_29_chacha20_and_keyupdate_bytes_arrive_whole_under_each_key() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let mut provider = default_provider();
    provider.cipher_suites = vec![TLS13_CHACHA20_POLY1305_SHA256];
    let config =
        tls::config_with(provider, &alice.tunnel_ca_pem, Some(&alice.chain), &["h3"]).unwrap();
    let to = QuicTo::with_tls(gateway.address(), &gateway.name("acme"), config).unwrap();
    let tunnel = to.connect().await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let stream = tunnel.open(&authority).await.unwrap();
    let mut inner = gateway.browser().inner(stream, &authority).await.unwrap();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|it| (it.wrapping_mul(0x9e37) >> 8) as u8).collect();
    let renewing = {
        let connection = tunnel.connection.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                connection.force_key_update();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    };
    while !renewing.is_finished() {
        let reply = inner.send(Request::post("/mirror", sent.clone())).await.unwrap();
        assert_eq!(tests::sha256_hex(&reply.body), tests::sha256_hex(&sent));
    }
    renewing.await.unwrap();
}

/// What the origin says to one request in the clear.
async fn plain(tunnel: &QuicTunnel, origin: &Origin, path: &str) -> String {
    let authority = format!("site.test:{}", origin.plain_port());
    let mut stream = tunnel.open(&authority).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut reply = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut reply)).await.expect("an answer").unwrap();
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_29_multiplexing_two_thousand_streams_of_one_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    let (mut running, origin) = (JoinSet::new(), std::sync::Arc::new(origin));
    for lane in 0..40 {
        let (tunnel, origin) = (tunnel.clone(), std::sync::Arc::clone(&origin));
        running.spawn(async move {
            for number in 0..50 {
                let path = format!("/bytes/{}", 32 + lane);
                let reply = plain(&tunnel, &origin, &path).await;
                let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_default();
                assert!(head.starts_with("HTTP/1.1 200"), "{lane} {number}: {reply}");
                assert_eq!(body.len(), 32 + lane, "{lane} {number}");
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_29_ipv6_a_tunnel_to_an_address_of_version_6() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).listen("[::1]").start();
    let mut to = gateway.browser().quic_to().unwrap();
    to.address = (std::net::Ipv6Addr::LOCALHOST, gateway.ports().tunnel).into();
    to.endpoint.rebind(UdpSocket::bind("[::1]:0").unwrap()).unwrap();
    let tunnel = to.connect().await.unwrap();
    let reply = fetch(&gateway, &tunnel, &origin, "/bytes/300000").await.unwrap();
    assert_eq!((reply.status, reply.length), (200, 300_000));
    let event = gateway.await_transaction("acme", "/bytes/300000").await;
    assert_eq!(event["client_ip"], "::1", "{event}");
}
