//! The OpenConnect client against the small gateway, through links that fail.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::client::carrier::Carrier;
use crate::client::dtls::tests::TIMING;
use crate::client::packet::PacketStream;
use crate::client::peer::{BACKUP, CLIENT, NAME, Peer, SERVER, trusted_pem};
use crate::link::{TcpRelay, UdpRelay};
use crate::pki::Pki;

const SOON: Duration = Duration::from_secs(20);

struct World {
    pki: Pki,
    peer: Peer,
    udp: UdpRelay,
    tcp: TcpRelay,
}

impl World {
    async fn new() -> Self {
        let pki = Pki::new();
        let peer = Peer::start(&pki, NAME).await;
        let udp = UdpRelay::start(peer.at.udp, 1).await;
        let tcp = TcpRelay::start(peer.at.tcp).await;
        Self { pki, peer, udp, tcp }
    }

    /// A client that crosses both relays.
    fn client(&self) -> OpenConnectTo {
        let chain = self.pki.client("alice@acme.test");
        let trusted = trusted_pem(&self.pki);
        let to = OpenConnectTo::new(self.tcp.address, NAME, &trusted, Some(&chain)).unwrap();
        to.datagrams_to(self.udp.address).timing(TIMING)
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
async fn a_tunnel_comes_up_over_tls_and_moves_to_datagrams() {
    let world = World::new().await;
    let tunnel = world.client().connect().await.unwrap();
    let mut stream = open(&tunnel).await;
    echoes(&mut stream).await;
    tunnel.carried_by(Carrier::Datagrams, SOON).await.unwrap();
    echoes(&mut stream).await;
    assert_eq!(tunnel.stack().addresses().v4, CLIENT.parse().ok());
    assert_eq!(tunnel.stack().addresses().mtu, 1_390);
    let parameters = tunnel.parameters().unwrap();
    assert_eq!(parameters.name_server(), "192.0.2.1:53".parse().ok());
    // A full probe comes back before what is sent after it.
    tunnel.stack().ping(SERVER.parse().unwrap(), &[1; 1_300], SOON).await.unwrap();
    let counts = tunnel.counts();
    assert_eq!((counts.handshakes, counts.mtu_confirmed, counts.fallbacks), (1, 1, 0));
    let seen = world.peer.seen();
    assert_eq!((seen.posts, seen.connects.len(), seen.certificates, seen.torn), (1, 1, 2, 0));
    let head = &seen.connects[0];
    assert!(head.starts_with("CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\n"), "{head}");
    for field in ["X-CSTP-Version: 1", "X-DTLS-CipherSuite: PSK-NEGOTIATE", "Host: gateway-acme"] {
        assert!(head.contains(field), "{field} in {head}");
    }
    tunnel.close().await;
    assert_eq!(world.peer.seen().goodbyes, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_the_loss_of_datagrams_and_their_return() {
    let world = World::new().await;
    let tunnel = world.client().connect().await.unwrap();
    tunnel.carried_by(Carrier::Datagrams, SOON).await.unwrap();
    let mut stream = open(&tunnel).await;
    echoes(&mut stream).await;
    world.udp.block(true);
    tunnel.carried_by(Carrier::Tls, SOON).await.unwrap();
    echoes(&mut stream).await;
    world.udp.block(false);
    tunnel.carried_by(Carrier::Datagrams, SOON).await.unwrap();
    echoes(&mut stream).await;
    let counts = tunnel.counts();
    assert_eq!((counts.fallbacks, counts.returns, counts.tls_opened), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_dialled_again_with_the_same_cookie() {
    let world = World::new().await;
    let tunnel = world.client().connect().await.unwrap();
    tunnel.carried_by(Carrier::Datagrams, SOON).await.unwrap();
    let mut stream = open(&tunnel).await;
    echoes(&mut stream).await;
    world.tcp.cut();
    // Its datagrams have a key of the new connection.
    while tunnel.counts().handshakes < 2 {
        tokio::time::timeout(SOON, echoes(&mut stream)).await.unwrap();
    }
    let seen = world.peer.seen();
    assert_eq!((seen.posts, seen.connects.len()), (1, 2));
    let wished = format!("X-CSTP-Address: {CLIENT}");
    assert!(seen.connects[1].contains(&wished), "{}", seen.connects[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_moves_the_client_to_the_backup() {
    let world = World::new().await;
    let backup = Peer::start(&world.pki, BACKUP).await;
    let tunnel = world.client().backup(backup.at.clone()).connect().await.unwrap();
    echoes(&mut open(&tunnel).await).await;
    world.peer.say_goodbye();
    let there = |status: &crate::client::carrier::Status| {
        status.gateway == 1 && status.carrier == Carrier::Datagrams
    };
    tunnel.reached(there, SOON).await.unwrap();
    echoes(&mut open(&tunnel).await).await;
    assert_eq!((backup.seen().posts, tunnel.counts().failovers), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_or_a_good_cookie_there_is_no_tunnel() {
    let world = World::new().await;
    let trusted = trusted_pem(&world.pki);
    let nobody = OpenConnectTo::new(world.tcp.address, NAME, &trusted, None).unwrap();
    assert!(nobody.connect().await.is_err_and(|error| error.is_cut()));
    let refused = world.client().parameters_for("made-up").await;
    assert_eq!(refused.err().and_then(|error| error.status()), Some(401));
    let cookie = world.client().authenticate().await.unwrap();
    let parameters = world.client().parameters_for(&cookie).await.unwrap();
    assert!(parameters.datagram.is_some());
}
