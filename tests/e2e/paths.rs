//! Paths that become smaller under a live session, without a word: what is too long for them is lost, both
//! ways, and no router says so.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tests::client::carrier::PacketTunnel;
use tests::client::dtls::DtlsTo;
use tests::client::message::Body;
use tests::client::packet::Addresses;
use tests::link::{Impairment, UdpRelay};
use tests::namespace::Namespace;
use tests::{Gateway, Inner, Origin, Request};
use tokio::time::timeout;

use super::openconnect::World;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// What carries inner connections.
const BACKENDS: [&str; 2] = ["inner: { tcp: user }", "inner: { tcp: kernel }"];
/// Each way; alone on the link it takes four seconds.
const BYTES: usize = 4_000_000;
/// Until a quarter has come down, on a busy machine.
const BEFORE: Duration = Duration::from_secs(40);
/// From the change of the path to the end of all transfers: the time that they need, 6 s until the gateway knows,
/// and as much again until the last side of a connection has sent what was lost once more; on a busy machine.
/// Nobody gives up before 120 s.
const GOES_ON: Duration = Duration::from_secs(60);
/// Of a datagram that the relay carries, an IPv4 packet has this much more.
const HEADERS: usize = 20 + 8;

/// 8 Mbit/s each way, for what has at most so many bytes.
fn link(longest: usize) -> Impairment {
    let link = Impairment::none().delay(Duration::from_millis(10)).longest(longest);
    link.rate(8_000_000, 320 << 10)
}

/// A device with a DTLS 1.3 tunnel over a link, and two connections in it.
struct OverDtls {
    origin: Origin,
    gateway: Gateway,
    relay: UdpRelay,
    tunnel: PacketTunnel,
}

impl OverDtls {
    async fn new(backend: &str) -> Self {
        let origin = Origin::start().await;
        let gateway = Gateway::build(&origin).gateway_yaml(backend).start();
        let relay = UdpRelay::start(gateway.address(), 1).await;
        relay.set(link(1_500 - HEADERS));
        let (alice, name) = (gateway.alice(), gateway.name("acme"));
        let (tls, trusted) = (gateway.address(), &alice.tunnel_ca_pem);
        let to = DtlsTo::new(relay.address, tls, &name, trusted, &alice.chain).unwrap();
        let mut to = to.addresses(Addresses::of(OWN)).without_fallback();
        // As much as waits on the link at most: a client that floods it loses questions, too.
        to.buffer_bytes = 64 << 10;
        let tunnel = to.connect().await.unwrap();
        Self { origin, gateway, relay, tunnel }
    }

    async fn site(&self) -> Inner {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.origin.port()));
        let stream = self.tunnel.stack().connect(address).await.unwrap();
        let authority = format!("site.test:{}", self.origin.port());
        self.gateway.browser().inner(Box::new(stream), &authority).await.unwrap()
    }

    /// A download and uploads; `change` happens when a quarter has come down. All are whole in the end.
    async fn transfer(&self, change: impl FnOnce()) {
        let (mut down, mut up) = (self.site().await, self.site().await);
        let changed = Cell::new(None);
        let download = async {
            let mut change = Some(change);
            let request = Request::new("GET", &format!("/bytes/{BYTES}"));
            let mut incoming = down.start(request).await.unwrap();
            let mut got = 0;
            while let Some(data) = incoming.data().await.unwrap() {
                got += data.len();
                if got >= BYTES / 4
                    && let Some(change) = change.take()
                {
                    change();
                    changed.set(Some(Instant::now()));
                }
            }
            assert_eq!(got, BYTES);
        };
        let uploads = async {
            // The last one is under way when the path changes, or the next on the same connection.
            let mut again = true;
            while again {
                again = changed.get().is_none();
                let request = Request::new("POST", "/upload").body(Body::Fill(BYTES as u64));
                let answer = up.send(request).await.unwrap();
                assert_eq!(answer.json()["bytes"], BYTES);
            }
        };
        let all = async { tokio::join!(download, uploads) };
        let whole = timeout(BEFORE + GOES_ON, all).await;
        let took = changed.get().expect("a quarter came down").elapsed();
        let (down, up) = (self.relay.counts_down(), self.relay.counts_up());
        assert!(whole.is_ok() && took < GOES_ON, "{took:?}, down {down:?}, up {up:?}");
        assert!(down.too_long > 0 && up.too_long > 0, "nothing was too long: {down:?} {up:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_over_dtls_go_on_when_their_path_becomes_smaller() {
    for backend in BACKENDS {
        let world = OverDtls::new(backend).await;
        world.transfer(|| world.relay.set(link(1_300 - HEADERS))).await;
        assert_eq!(world.tunnel.counts().handshakes, 1, "in the same channel");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_moves_to_a_smaller_path_goes_on_as_the_same_session() {
    for backend in BACKENDS {
        let world = OverDtls::new(backend).await;
        let moved = || {
            world.relay.set(link(1_300 - HEADERS));
            world.relay.rebind();
        };
        world.transfer(moved).await;
        let events = world.gateway.events("acme").await.unwrap();
        let opened = events.iter().filter(|it| it["type"] == "session" && it["state"] == "open");
        assert_eq!(opened.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_of_the_stock_client_go_on_when_its_path_becomes_smaller() {
    for backend in BACKENDS {
        let namespace = Namespace::behind(link(1_500), 1);
        let change = |build: tests::gateway::Build| build.gateway_yaml(backend);
        let world = World::at(namespace, Origin::build(), change).await;
        let client = world.connect(&[]);
        client.wait_for("Established DTLS connection", Duration::from_secs(10));
        let file = |name: &str| world.alice.folder.join(name).display().to_string();
        let (down, up) = (file("down"), file("up"));
        std::fs::write(&up, vec![7; BYTES]).unwrap();
        let (from, to) = (format!("/bytes/{BYTES}"), format!("@{up}"));
        let (from, into) =
            (world.origin.url("site.test", &from), world.origin.url("site.test", "/upload"));
        let time = (BEFORE + GOES_ON).as_secs().to_string();
        let output = ["--output", &down, "--max-time", &time];
        // Slower than the link, so that it is not over when the path changes.
        let data = ["--data-binary", &to, "--limit-rate", "400k", "--max-time", &time];
        let (download, upload) = (world.curl(&from, &output), world.curl(&into, &data));
        let smaller = async {
            while std::fs::metadata(&down).map_or(0, |it| it.len()) < BYTES as u64 / 4 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            world.namespace.impair(link(1_300));
        };
        let (_, answer, ()) = tokio::join!(download, upload, smaller);
        let [sent, came] = world.namespace.counts();
        assert!(sent.too_long > 0 && came.too_long > 0, "nothing was too long: {sent:?} {came:?}");
        assert_eq!(std::fs::metadata(&down).unwrap().len(), BYTES as u64);
        assert!(answer.contains(&format!("\"bytes\":{BYTES}")), "{answer}");
        assert_eq!(client.times("Established DTLS connection"), 1, "{:#?}", client.said());
    }
}
