//! Packet tunnels: DTLS 1.3 and what happens to it on the way, and the inner network behind it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::Value;
use tests::client::carrier::{Carrier, PacketTunnel};
use tests::client::dtls::DtlsTo;
use tests::client::openconnect::OpenConnectTo;
use tests::client::packet::{Addresses, fragments, wire};
use tests::dns::Dns;
use tests::link::UdpRelay;
use tests::{ClientError, Gateway, Identity, Origin, Reply};

const SOON: Duration = Duration::from_secs(10);
/// The gateway's own inner address.
const INNER: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 96, 0, 1));
/// What a client without a word from the gateway calls itself.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

fn to(gateway: &Gateway, identity: &Identity, udp: SocketAddr) -> DtlsTo {
    let name = gateway.name(&identity.tenant);
    let trusted = &identity.tunnel_ca_pem;
    DtlsTo::new(udp, gateway.address(), &name, trusted, &identity.chain).unwrap()
}

/// A DTLS tunnel that knows its address.
async fn dtls(gateway: &Gateway, identity: &Identity) -> PacketTunnel {
    let to = to(gateway, identity, gateway.address()).addresses(Addresses::of(OWN));
    to.without_fallback().connect().await.unwrap()
}

/// What a page of the origin says through the tunnel.
async fn fetch(
    gateway: &Gateway,
    tunnel: &PacketTunnel,
    origin: &Origin,
    path: &str,
) -> Result<Reply, ClientError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port()));
    let stream = tunnel.stack().connect(address).await?;
    let authority = format!("site.test:{}", origin.port());
    let mut inner = gateway.browser().inner(Box::new(stream), &authority).await?;
    inner.get(path).await
}

/// Whether the gateway says goodbye: over DTLS 1.3 a client is through before its certificate is looked at.
async fn is_refused(to: &DtlsTo) -> bool {
    match to.connect().await {
        Ok(tunnel) => tunnel.reached(|it| it.carrier == Carrier::Nothing, SOON).await.is_ok(),
        Err(_) => true,
    }
}

fn opened(events: &[Value]) -> usize {
    events.iter().filter(|it| it["type"] == "session" && it["state"] == "open").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_comes_through_dtls_and_its_record_says_so() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = dtls(&gateway, &gateway.alice()).await;
    let page = fetch(&gateway, &tunnel, &origin, "/hello").await.unwrap();
    assert!(page.text().contains("hello from site.test"));
    let event = gateway.await_transaction("acme", "/hello").await;
    for (field, value) in [
        ("access_method", "dtls"),
        ("user", "alice@acme.test"),
        ("device", "laptop-1"),
        ("host", "site.test"),
        ("host_source", "sni"),
        ("tunnel_tls", "DTLS 1.3"),
    ] {
        assert_eq!(event[field], value, "{field} of {event}");
    }
    let size = 5_000_000;
    let body = fetch(&gateway, &tunnel, &origin, &format!("/bytes/{size}")).await.unwrap();
    assert_eq!(body.body.len(), size);
    assert!(tunnel.counts().mtu_confirmed > 0 || tunnel.counts().handshakes == 1);
    tunnel.close().await;
    let closed = |event: &Value| event["type"] == "session" && event["state"] == "close";
    assert!(gateway.await_event("acme", closed).await["error"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_20_without_datagrams_it_goes_on_over_tls_and_comes_back_as_the_same_session() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let relay = UdpRelay::start(gateway.address(), 1).await;
    let tunnel = to(&gateway, &gateway.alice(), relay.address).connect().await.unwrap();
    tunnel.carried_by(Carrier::Datagrams, SOON).await.unwrap();
    assert!(fetch(&gateway, &tunnel, &origin, "/hello").await.is_ok());
    relay.block(true);
    // A client with nothing to say asks after ten seconds.
    tunnel.carried_by(Carrier::Tls, 3 * SOON).await.unwrap();
    assert!(fetch(&gateway, &tunnel, &origin, "/hello").await.is_ok(), "over TLS");
    relay.block(false);
    tunnel.carried_by(Carrier::Datagrams, 3 * SOON).await.unwrap();
    assert!(fetch(&gateway, &tunnel, &origin, "/hello").await.is_ok(), "over DTLS again");
    assert_eq!(opened(&gateway.events("acme").await.unwrap()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_address_changes_goes_on_as_the_same_session() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let relay = UdpRelay::start(gateway.address(), 2).await;
    let to = to(&gateway, &gateway.alice(), relay.address).addresses(Addresses::of(OWN));
    let tunnel = to.without_fallback().connect().await.unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port()));
    // An inner connection survives what happens to the outer one.
    let stream = tunnel.stack().connect(address).await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let mut inner = gateway.browser().inner(Box::new(stream), &authority).await.unwrap();
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    relay.rebind();
    let begun = Instant::now();
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(tunnel.counts().handshakes, 2);
    assert_eq!(opened(&gateway.events("acme").await.unwrap()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_with_one_certificate_have_a_session_each() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let one = dtls(&gateway, &alice).await;
    // However long the first has been idle: it is asked.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let two = dtls(&gateway, &alice).await;
    for _ in 0..3 {
        for tunnel in [&one, &two] {
            assert!(fetch(&gateway, tunnel, &origin, "/hello").await.is_ok());
        }
    }
    assert_eq!(one.counts().handshakes + two.counts().handshakes, 2);
    // The log takes its time.
    let begun = Instant::now();
    while opened(&gateway.events("acme").await.unwrap()) < 2 && begun.elapsed() < SOON {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(opened(&gateway.events("acme").await.unwrap()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_and_a_revoked_device_get_no_dtls_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").start();
    let revoked = gateway.enroll("acme", "bob@acme.test", "laptop-9");
    gateway.revoke_device("acme", "laptop-9");
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let refused = |identity: Identity| {
        let to = to(&gateway, &identity, gateway.address());
        to.addresses(Addresses::of(OWN)).without_fallback()
    };
    assert!(is_refused(&refused(revoked)).await);
    drop(gateway.await_refusal("acme", "revoked").await);
    // Somebody else's device CA, under a name of ours.
    let other = Gateway::start(&origin);
    let mut stranger = other.alice();
    stranger.tunnel_ca_pem = gateway.alice().tunnel_ca_pem;
    assert!(is_refused(&refused(stranger)).await);
    let refusals = |event: &Value| event["type"] == "session" && event["action"] == "block";
    drop(gateway.await_event("acme", refusals).await);
    // The tenant that is meant is the one whose CA signed.
    let globex = gateway.enroll("globex", "carol@globex.test", "laptop-2");
    let tunnel = to(&gateway, &globex, gateway.address()).addresses(Addresses::of(OWN)).any_name();
    drop(tunnel.without_fallback().connect().await.unwrap());
    let session = |event: &Value| event["type"] == "session" && event["access_method"] == "dtls";
    assert_eq!(gateway.await_event("globex", session).await["user"], "carol@globex.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_answered_by_the_gateway_and_go_into_records() {
    let origin = Origin::start().await;
    let dns = Dns::start(|name, _| match name {
        "inside.example" => Ipv4Addr::new(10, 1, 2, 3),
        _ => Ipv4Addr::LOCALHOST,
    })
    .await;
    let gateway = Gateway::build(&origin).resolver(&dns.address.to_string()).start();
    let tunnel = dtls(&gateway, &gateway.alice()).await;
    let stack = tunnel.stack();
    let server = SocketAddr::new(INNER, 53);
    for server in [server, SocketAddr::from(([192, 0, 2, 53], 53))] {
        let found = stack.resolve(server, "www.example").await.unwrap();
        assert_eq!(found, [IpAddr::V4(Ipv4Addr::LOCALHOST)], "whomever it asks");
    }
    // A forbidden address is none: it is said now, and not by a connection that fails.
    let inside = stack.lookup(server, "inside.example", RecordType::A).await.unwrap();
    assert_eq!(inside.metadata.response_code, ResponseCode::Refused);
    assert!(inside.answers.is_empty());
    let notice = stack.resolve(server, "notice.sluice.test").await.unwrap();
    assert!(notice.contains(&INNER), "{notice:?}");
    // A flow to an address has the name that was asked for.
    let plain = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.plain_port()));
    let mut stream = stack.connect(plain).await.unwrap();
    use tokio::io::AsyncWriteExt;
    stream.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    let flow = |event: &Value| event["type"] == "flow" && event["host"] == "www.example";
    drop(stream);
    let flow = gateway.await_event("acme", flow).await;
    assert_eq!(flow["host_source"], "dns");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_datagrams_pass_by_policy_and_quic_is_refused_at_once() {
    let origin = Origin::start().await;
    let echo = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = echo.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = echo.recv_from(&mut buffer).await {
            echo.send_to(&buffer[..length], peer).await.ok();
        }
    });
    let gateway = Gateway::start(&origin);
    let tunnel = dtls(&gateway, &gateway.alice()).await;
    let mut socket = tunnel.stack().udp().unwrap();
    socket.send_to(address, b"anything").await.unwrap();
    let datagram = socket.receive(SOON).await.unwrap();
    assert_eq!(datagram, (address, b"anything".to_vec()));
    // An Initial of QUIC version 1: a browser falls back when it learns that nobody is there.
    let mut seen = tunnel.stack().observe();
    let mut initial = vec![0xc3, 0, 0, 0, 1, 8];
    initial.resize(1_200, 7);
    let begun = Instant::now();
    let quic = tunnel.stack().udp().unwrap();
    quic.send_to(address, &initial).await.unwrap();
    loop {
        let packet = tokio::time::timeout(SOON, seen.recv()).await.unwrap().unwrap();
        if packet.get(9) == Some(&1) {
            assert_eq!(packet[20..22], [3, 3], "port unreachable");
            break;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
    let refused = |event: &Value| event["block_reason"] == "quic_refused";
    drop(gateway.await_event("acme", refused).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_connections_hold_no_buffers_though_their_client_never_says_its_last_word() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = dtls(&gateway, &gateway.alice()).await;
    let own = SocketAddr::from((OWN, 4_000));
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port()));
    let mut seen = tunnel.stack().observe();
    let mut next = async || loop {
        let packet = tokio::time::timeout(SOON, seen.recv()).await.unwrap().unwrap();
        let Some(header) = wire::read(&packet).and_then(|it| it.tcp()) else { continue };
        assert!(!header.rst(), "reset");
        return (header.seq_number().0.cast_unsigned(), header.syn(), header.fin());
    };
    tunnel.stack().inject(wire::tcp(own, target, &wire::Segment::syn(1))).await.unwrap();
    let (first, is_syn, _) = next().await;
    assert!(is_syn);
    let before = held(&gateway, |bytes| bytes > 0.0).await;
    let segment = |control| wire::Segment {
        control,
        sequence: 2,
        acknowledges: Some(first + 1),
        payload: &[],
    };
    // It opens the connection and closes it, and takes no notice of the other end's close.
    let end = wire::tcp(own, target, &segment(wire::TcpControl::Fin));
    tunnel.stack().inject(end).await.unwrap();
    while !next().await.2 {}
    held(&gateway, |bytes| bytes < before / 100.0).await;
}

/// The memory that is set aside for tunnels' streams, once it is as wanted.
async fn held(gateway: &Gateway, wanted: impl Fn(f64) -> bool) -> f64 {
    let begun = Instant::now();
    loop {
        let bytes = gateway.metric("sluice_window_bytes", &[]).await.unwrap_or(0.0);
        if wanted(bytes) {
            return bytes;
        }
        assert!(begun.elapsed() < 3 * SOON, "{bytes} bytes are still set aside");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_sources_and_fragments_go_nowhere() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let victim = to(&gateway, &gateway.alice(), gateway.address()).connect().await.unwrap();
    let victims = victim.stack().addresses().v4.unwrap();
    let mallory = gateway.enroll("acme", "mallory@acme.test", "laptop-2");
    let mallory = to(&gateway, &mallory, gateway.address()).connect().await.unwrap();
    // What waits in a TLS channel is lost when it makes room.
    mallory.carried_by(Carrier::Datagrams, SOON).await.unwrap();
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port()));
    let mut seen = victim.stack().observe();
    for source in [IpAddr::V4(victims), "203.0.113.9".parse().unwrap(), INNER] {
        let syn = wire::tcp(SocketAddr::new(source, 4_000), target, &wire::Segment::syn(1));
        mallory.stack().inject(syn).await.unwrap();
    }
    let own = IpAddr::V4(mallory.stack().addresses().v4.unwrap());
    let whole = wire::udp(SocketAddr::new(own, 4_000), target, &[9; 1_200]);
    for piece in fragments(&whole, 512, 7) {
        mallory.stack().inject(piece).await.unwrap();
    }
    assert!(fetch(&gateway, &mallory, &origin, "/hello").await.is_ok(), "goes on as itself");
    let dropped = async |reason: &str| {
        let label = format!("reason=\"{reason}\"");
        gateway.metric("sluice_packets_dropped_total", &[&label]).await.unwrap_or(0.0)
    };
    assert_eq!(dropped("source").await, 3.0);
    assert!(dropped("fragment").await >= 3.0);
    assert!(fetch(&gateway, &victim, &origin, "/hello").await.is_ok());
    while let Ok(packet) = seen.try_recv() {
        let ends = wire::read(&packet).and_then(|it| it.endpoints());
        assert!(ends.is_none_or(|(_, to)| to.port() != 4_000), "an answer to a forged packet");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_connections_hurts_its_own_tunnel_only() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let quiet = dtls(&gateway, &gateway.alice()).await;
    let mallory = gateway.enroll("acme", "mallory@acme.test", "laptop-2");
    let flood = dtls(&gateway, &mallory).await;
    assert!(fetch(&gateway, &quiet, &origin, "/hello").await.is_ok());
    let before = gateway.resident_bytes();
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port()));
    for number in 0..50_000_u32 {
        let from = SocketAddr::from((OWN, u16::try_from(1_024 + number % 60_000).unwrap()));
        let syn = wire::tcp(from, target, &wire::Segment::syn(number));
        flood.stack().inject(syn).await.unwrap();
    }
    assert!(fetch(&gateway, &quiet, &origin, "/hello").await.is_ok(), "the neighbour goes on");
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    let limit = gateway.metric("sluice_packets_dropped_total", &["reason=\"limit\""]).await;
    assert!(limit.is_some_and(|count| count > 1_000.0), "{limit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_datagrams_cost_no_memory_and_get_no_more_than_they_send() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = dtls(&gateway, &gateway.alice()).await;
    let before = gateway.resident_bytes();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(gateway.address()).await.unwrap();
    let count: u32 = std::env::var("SLUICE_TEST_DATAGRAMS")
        .ok()
        .and_then(|it| it.parse().ok())
        .unwrap_or(100_000);
    let (mut sent, mut got, mut state) = (0_usize, 0_usize, 0x9e37_79b9_u32);
    let mut buffer = [0; 2048];
    for number in 0..count {
        let mut datagram = Vec::with_capacity(64);
        for _ in 0..16 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            datagram.extend(state.to_be_bytes());
        }
        if number % 3 == 0 {
            // Looks like the first flight of a DTLS client, and is none.
            datagram.splice(0..14, [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 51, 1]);
        }
        sent += socket.send(&datagram).await.unwrap_or(0);
        while let Ok(length) = socket.try_recv(&mut buffer) {
            got += length;
        }
        if number % 1_000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(got <= sent, "{got} bytes for {sent}");
    assert!(fetch(&gateway, &tunnel, &origin, "/hello").await.is_ok(), "the tunnel goes on");
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn openconnect_sessions_keep_their_address_over_reconnects() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let name = gateway.name("acme");
    let to = OpenConnectTo::new(gateway.address(), &name, &alice.tunnel_ca_pem, Some(&alice.chain));
    let to = to.unwrap();
    let cookie = to.authenticate().await.unwrap();
    let first = to.parameters_for(&cookie).await.unwrap();
    let again = to.parameters_for(&cookie).await.unwrap();
    assert_eq!(first.v4(), again.v4());
    let other = to.authenticate().await.unwrap();
    let second = to.parameters_for(&other).await.unwrap();
    assert_ne!(first.v4(), second.v4());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(opened(&gateway.events("acme").await.unwrap()), 2);
}
