//! A rolling upgrade on one machine: two processes at the same ports.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tests::client::carrier::PacketTunnel;
use tests::client::dtls::DtlsTo;
use tests::client::inner::Inner;
use tests::client::packet::Addresses;
use tests::client::quic::QuicTunnel;
use tests::{BoxStream, ClientError, Gateway, Origin, Reply};
use tokio::task::JoinSet;

/// What a client without a word from the gateway calls itself.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The kernel deals them out to the sockets of both processes by their ports: that none meets the wrong
/// process happens once in 2^16 runs.
const CLIENTS: usize = 16;
/// Events of a stream that outlives the new process's start, and the pause between them.
const EVENTS: usize = 60;
const PAUSE_MS: usize = 250;

async fn tunnel(gateway: &Gateway) -> PacketTunnel {
    let alice = gateway.alice();
    let (address, name) = (gateway.address(), gateway.name("acme"));
    let to = DtlsTo::new(address, address, &name, &alice.tunnel_ca_pem, &alice.chain).unwrap();
    to.addresses(Addresses::of(OWN)).without_fallback().connect().await.unwrap()
}

/// An inner connection through the tunnel.
async fn inner(gateway: &Gateway, tunnel: &PacketTunnel, origin: &Origin) -> Inner {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port()));
    let stream = tunnel.stack().connect(address).await.unwrap();
    over(gateway, Box::new(stream), origin).await
}

/// An inner connection through a QUIC tunnel.
async fn inner_of(gateway: &Gateway, tunnel: &QuicTunnel, origin: &Origin) -> Inner {
    let stream = tunnel.open(&format!("site.test:{}", origin.port())).await.unwrap();
    over(gateway, stream, origin).await
}

async fn over(gateway: &Gateway, stream: BoxStream, origin: &Origin) -> Inner {
    let authority = format!("site.test:{}", origin.port());
    gateway.browser().inner(stream, &authority).await.unwrap()
}

/// Streams that outlive the start of the new process.
#[derive(Default)]
struct Streams(JoinSet<Result<Reply, ClientError>>);

impl Streams {
    fn start(&mut self, mut inner: Inner) {
        self.0.spawn(async move { inner.get(&format!("/sse/{EVENTS}/{PAUSE_MS}")).await });
    }

    async fn all_end_whole(self) {
        for stream in self.0.join_all().await {
            let text = stream.unwrap().text();
            assert_eq!(text.matches("data:").count(), EVENTS, "{text}");
        }
    }
}

/// Starts the new process, and lets the old one drain.
async fn upgrade(old: &Gateway) -> Gateway {
    let new = tokio::task::block_in_place(|| old.successor());
    old.terminate();
    tokio::time::sleep(Duration::from_secs(1)).await;
    new
}

/// The new process had datagrams of the old one, has as many sessions of its own, and the old one ends.
async fn is_done(old: &Gateway, new: &Gateway, newcomers: usize) {
    let handed = new.metric("sluice_datagrams_handed_over_total", &[]).await;
    assert!(handed.is_some_and(|count| count > 0.0), "{handed:?}");
    let opened = |event: &&Value| event["type"] == "session" && event["state"] == "open";
    let events = new.events("acme").await.unwrap();
    assert_eq!(events.iter().filter(opened).count(), newcomers);
    assert_eq!(old.exit_code(), Some(0), "drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_of_old_sessions_reach_the_old_process_until_it_is_drained() {
    let origin = Origin::start().await;
    let old = Gateway::build(&origin).handover().start();
    let (mut tunnels, mut streams) = (Vec::new(), Streams::default());
    for _ in 0..CLIENTS {
        let tunnel = tunnel(&old).await;
        streams.start(inner(&old, &tunnel, &origin).await);
        tunnels.push(tunnel);
    }
    let new = upgrade(&old).await;
    let mut newcomers = Vec::new();
    for _ in 0..CLIENTS {
        // Whichever process its datagrams meet, the new one takes it.
        let newcomer = tunnel(&new).await;
        let page = inner(&new, &newcomer, &origin).await.get("/hello").await.unwrap();
        assert!(page.text().contains("hello from site.test"));
        newcomers.push(newcomer);
    }
    streams.all_end_whole().await;
    is_done(&old, &new, newcomers.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_connections_find_their_process_by_their_ids() {
    let origin = Origin::start().await;
    let old = Gateway::build(&origin).handover().start();
    let (mut tunnels, mut streams) = (Vec::new(), Streams::default());
    for _ in 0..CLIENTS {
        let tunnel = old.browser().quic().await.unwrap();
        streams.start(inner_of(&old, &tunnel, &origin).await);
        tunnels.push(tunnel);
    }
    let new = upgrade(&old).await;
    let mut newcomers = Vec::new();
    for _ in 0..CLIENTS {
        let newcomer = new.browser().quic().await.unwrap();
        let page = inner_of(&new, &newcomer, &origin).await.get("/hello").await.unwrap();
        assert!(page.text().contains("hello from site.test"));
        newcomers.push(newcomer);
    }
    streams.all_end_whole().await;
    is_done(&old, &new, newcomers.len()).await;
}
