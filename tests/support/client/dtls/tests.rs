//! The DTLS client against the small gateway, through a link that fails.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::client::carrier::{Carrier, Happening};
use crate::client::packet::PacketStream;
use crate::client::peer::{BACKUP, CLIENT, NAME, Peer, SERVER, trusted_pem};
use crate::client::secure::Patience;
use crate::link::{Impairment, UdpRelay};
use crate::pki::Pki;

const SOON: Duration = Duration::from_secs(20);

/// As impatient as a test can be without being unfair to a busy machine.
pub(crate) const TIMING: Timing = Timing {
    patience: Patience {
        idle: Duration::from_millis(500),
        answer: Duration::from_millis(150),
        tries: 3,
    },
    fallback_after: Duration::from_millis(300),
    handshake_max: Duration::from_secs(2),
    retry: Duration::from_millis(300),
};

struct World {
    pki: Pki,
    peer: Peer,
    relay: UdpRelay,
}

impl World {
    async fn new() -> Self {
        let pki = Pki::new();
        let peer = Peer::start(&pki, NAME).await;
        let relay = UdpRelay::start(peer.at.udp, 1).await;
        Self { pki, peer, relay }
    }

    /// A client whose datagrams cross the relay.
    fn client(&self) -> DtlsTo {
        let chain = self.pki.client("alice@acme.test");
        let (udp, tcp) = (self.relay.address, self.peer.at.tcp);
        let to = DtlsTo::new(udp, tcp, NAME, &trusted_pem(&self.pki), &chain).unwrap();
        to.timing(TIMING)
    }

    fn knowing(&self) -> DtlsTo {
        let mut addresses = Addresses::of(CLIENT.parse::<std::net::IpAddr>().unwrap());
        addresses.mtu = 1_390;
        self.client().addresses(addresses)
    }
}

async fn open(tunnel: &PacketTunnel) -> PacketStream {
    let target: SocketAddr = format!("{SERVER}:443").parse().unwrap();
    tunnel.stack().connect(target).await.unwrap()
}

async fn echoes(stream: &mut PacketStream) {
    stream.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_who_it_is_needs_no_tls() {
    let world = World::new().await;
    let tunnel = world.knowing().without_fallback().connect().await.unwrap();
    assert_eq!(tunnel.carrier(), Carrier::Datagrams);
    echoes(&mut open(&tunnel).await).await;
    tunnel.stack().ping(SERVER.parse().unwrap(), &[1; 1_000], SOON).await.unwrap();
    let counts = tunnel.counts();
    assert_eq!((counts.handshakes, counts.fallbacks, counts.dropped), (1, 0, 0));
    assert_eq!(world.peer.seen().certificates, 0);
    tunnel.close().await;
    while world.peer.seen().goodbyes == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_asks_over_tls_first() {
    let world = World::new().await;
    let mut to = world.client();
    // The port is left to the gateway, too.
    to.gateways[0].udp.set_port(0);
    let tunnel = to.connect().await.unwrap();
    tunnel.carried_by(Carrier::Datagrams, SOON).await.unwrap();
    assert_eq!(world.relay.counts_up().sent, 0);
    assert_eq!(tunnel.stack().addresses().v4, CLIENT.parse().ok());
    echoes(&mut open(&tunnel).await).await;
    let counts = tunnel.counts();
    assert_eq!((counts.handshakes, counts.tls_opened, counts.fallbacks), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_the_loss_of_datagrams_and_their_return() {
    let world = World::new().await;
    let tunnel = world.knowing().connect().await.unwrap();
    let mut stream = open(&tunnel).await;
    echoes(&mut stream).await;
    world.relay.block(true);
    tunnel.carried_by(Carrier::Tls, SOON).await.unwrap();
    echoes(&mut stream).await;
    world.relay.block(false);
    tunnel.carried_by(Carrier::Datagrams, SOON).await.unwrap();
    echoes(&mut stream).await;
    let counts = tunnel.counts();
    assert_eq!((counts.handshakes, counts.fallbacks, counts.returns), (2, 1, 1));
    let order: Vec<_> = counts.lines.iter().map(|(_, what)| *what).collect();
    let at = |wanted| order.iter().position(|what| *what == wanted).unwrap();
    assert!(at(Happening::DatagramsDead) < at(Happening::FellBack), "{order:?}");
    assert!(at(Happening::FellBack) < at(Happening::Returned), "{order:?}");
    assert_eq!(counts.times(Happening::Returned).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_port_in_a_nat_costs_a_handshake_and_no_stream() {
    let world = World::new().await;
    let tunnel = world.knowing().without_fallback().connect().await.unwrap();
    let mut stream = open(&tunnel).await;
    echoes(&mut stream).await;
    world.relay.rebind();
    while tunnel.counts().handshakes < 2 {
        echoes(&mut stream).await;
    }
    let counts = tunnel.counts();
    assert_eq!((counts.fallbacks, counts.failovers), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_crosses_a_bad_link() {
    let world = World::new().await;
    let bad = Impairment::none().delay(Duration::from_millis(3)).loss(0.03).corrupt(0.03);
    world.relay.set(bad.duplicate(0.02).reorder(0.02, Duration::from_millis(4)));
    let tunnel = world.knowing().without_fallback().connect().await.unwrap();
    let mut stream = open(&tunnel).await;
    let sent: Vec<u8> = (0..20_000_u32).map(|at| (at % 251) as u8).collect();
    let suffered = || {
        let (up, down) = (world.relay.counts_up(), world.relay.counts_down());
        up.lost.min(up.corrupted).min(down.lost).min(down.corrupted)
    };
    while suffered() < 2 {
        stream.write_all(&sent).await.unwrap();
        let mut got = vec![0; sent.len()];
        stream.read_exact(&mut got).await.unwrap();
        assert!(got == sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_moves_the_client_to_the_backup() {
    let world = World::new().await;
    let backup = Peer::start(&world.pki, BACKUP).await;
    let tunnel = world.knowing().backup(backup.at.clone()).connect().await.unwrap();
    echoes(&mut open(&tunnel).await).await;
    world.peer.say_goodbye();
    let there = |status: &crate::client::carrier::Status| {
        status.gateway == 1 && status.carrier == Carrier::Datagrams
    };
    tunnel.reached(there, SOON).await.unwrap();
    echoes(&mut open(&tunnel).await).await;
    let counts = tunnel.counts();
    assert_eq!((counts.failovers, counts.handshakes), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_not_who_it_should_be_is_refused() {
    let world = World::new().await;
    let chain = world.pki.client("alice@acme.test");
    let (udp, tcp) = (world.peer.at.udp, world.peer.at.tcp);
    let addresses = Addresses::of(CLIENT.parse::<std::net::IpAddr>().unwrap());
    let to = |name: &str, trusted: &str| {
        let to = DtlsTo::new(udp, tcp, name, trusted, &chain).unwrap();
        to.addresses(addresses).without_fallback().timing(TIMING)
    };
    let refused = to("gateway-beta.pop.test", &trusted_pem(&world.pki)).connect().await;
    assert!(matches!(refused, Err(ClientError::Tls(_))));
    let stranger = trusted_pem(&Pki::new());
    assert!(matches!(to(NAME, &stranger).connect().await, Err(ClientError::Tls(_))));
    assert!(matches!(to(NAME, &stranger).any_name().connect().await, Err(ClientError::Tls(_))));
    let other = to("gateway-beta.pop.test", &trusted_pem(&world.pki)).any_name();
    other.connect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_answers_the_client_says_so() {
    let world = World::new().await;
    world.relay.block(true);
    let silent = world.knowing().without_fallback().connect().await;
    assert!(matches!(silent, Err(ClientError::Tls(_))));
    // Over TLS it comes through, and counts that it had to.
    let tunnel = world.knowing().connect().await.unwrap();
    assert_eq!((tunnel.carrier(), tunnel.counts().fallbacks), (Carrier::Tls, 1));
    echoes(&mut open(&tunnel).await).await;
}
