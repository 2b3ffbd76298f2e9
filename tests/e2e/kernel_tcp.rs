//! Inner connections that the kernel's TCP carries. What holds whoever carries them is tested in `packets`
//! and `openconnect`, which `tests/run` runs over both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::client::carrier::PacketTunnel;
use tests::client::dtls::DtlsTo;
use tests::client::message::Body;
use tests::client::packet::{Addresses, wire};
use tests::gateway::SocketState;
use tests::namespace::Namespace;
use tests::openconnect::Openconnect;
use tests::{Gateway, Identity, Inner, Origin, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const KERNEL: &str = "inner: { tcp: kernel }";
const SOON: Duration = Duration::from_secs(10);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Of three sizes, for two families.
const LISTENERS: usize = 6;

/// A DTLS tunnel that calls itself by this address.
async fn tunnel(gateway: &Gateway, identity: &Identity, own: impl Into<IpAddr>) -> PacketTunnel {
    let name = gateway.name(&identity.tenant);
    let trusted = &identity.tunnel_ca_pem;
    let to = DtlsTo::new(gateway.address(), gateway.address(), &name, trusted, &identity.chain);
    let to = to.unwrap().addresses(Addresses::of(own)).without_fallback();
    to.connect().await.unwrap()
}

async fn site(gateway: &Gateway, tunnel: &PacketTunnel, origin: &Origin) -> Inner {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port()));
    let stream = tunnel.stack().connect(address).await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    gateway.browser().inner(Box::new(stream), &authority).await.unwrap()
}

/// What answers with whatever it is sent.
async fn echo(address: impl Into<IpAddr>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind((address.into(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reads, mut writes) = stream.split();
                tokio::io::copy(&mut reads, &mut writes).await.ok();
            });
        }
    });
    address
}

/// Waits until the network has nothing but its listeners, and what nobody has any more.
async fn await_empty(gateway: &Gateway) {
    let begun = Instant::now();
    loop {
        let sockets = gateway.inner_sockets();
        let busy = |it: &&SocketState| !matches!(it, SocketState::Remembering);
        if sockets.iter().filter(busy).all(|it| *it == SocketState::Listening) {
            return;
        }
        assert!(begun.elapsed() < SOON, "{sockets:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_carries_pages_and_large_bodies_both_ways() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).gateway_yaml(KERNEL).start();
    let said = "inner connections end in the kernel";
    assert!(gateway.log().iter().any(|line| line.contains(said)), "{:#?}", gateway.log());
    assert_eq!(gateway.inner_sockets(), [SocketState::Listening; LISTENERS]);
    let tunnel = tunnel(&gateway, &gateway.alice(), OWN).await;
    let mut inner = site(&gateway, &tunnel, &origin).await;
    assert!(inner.get("/hello").await.unwrap().text().contains("hello from site.test"));
    let event = gateway.await_transaction("acme", "/hello").await;
    for (field, value) in [("access_method", "dtls"), ("host", "site.test"), ("decrypted", "true")]
    {
        assert_eq!(event[field].to_string().trim_matches('"'), value, "{field} of {event}");
    }
    let established = gateway.inner_sockets().contains(&SocketState::Other(1));
    assert!(established, "not in the kernel: {:?}", gateway.inner_sockets());
    let size = 50_000_000;
    let download = Request::new("GET", &format!("/bytes/{size}"));
    let mut incoming = inner.start(download).await.unwrap();
    let mut got = 0;
    while let Some(data) = incoming.data().await.unwrap() {
        got += data.len();
    }
    drop(incoming);
    assert_eq!(got, size);
    let upload = Request::new("POST", "/upload").body(Body::Fill(20_000_000));
    assert_eq!(inner.send(upload).await.unwrap().status, 200);
    assert_eq!(origin.last("/upload").unwrap().body_bytes, 20_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_with_one_address_of_their_own_choice_do_not_meet() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).gateway_yaml(KERNEL).start();
    let mallory = gateway.enroll("acme", "mallory@acme.test", "laptop-2");
    // Both call themselves the same, and both are answered.
    let one = tunnel(&gateway, &gateway.alice(), OWN).await;
    let two = tunnel(&gateway, &mallory, OWN).await;
    for _ in 0..3 {
        let (mut first, mut second) =
            tokio::join!(site(&gateway, &one, &origin), site(&gateway, &two, &origin));
        let (first, second) = tokio::join!(first.get("/hello?one"), second.get("/hello?two"));
        assert_eq!((first.unwrap().status, second.unwrap().status), (200, 200));
    }
    for (query, user) in [("/hello?one", "alice@acme.test"), ("/hello?two", "mallory@acme.test")] {
        assert_eq!(gateway.await_transaction("acme", query).await["user"], user);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_reaches_another_nor_the_network_itself() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).gateway_yaml(KERNEL).start();
    let victim = tunnel(&gateway, &gateway.alice(), OWN).await;
    let _open = site(&gateway, &victim, &origin).await;
    let mallory = gateway.enroll("acme", "mallory@acme.test", "laptop-2");
    let mallory = tunnel(&gateway, &mallory, OWN).await;
    let mut seen = victim.stack().observe();
    // Every address that a session can have by now, and the listeners' own.
    let mut targets: Vec<SocketAddr> = (1..8_u16).map(|port| inner(1, port)).collect();
    for address in 2..8 {
        targets.extend([80, 443, 4_000, 1, 2, 3].map(|port| inner(address, port)));
    }
    for target in &targets {
        let Ok(mut stream) = mallory.stack().connect(*target).await else { continue };
        stream.write_all(b"SSH-2.0-mallory\r\n").await.ok();
        let mut answer = [0; 64];
        let read = tokio::time::timeout(SOON, stream.read(&mut answer)).await.unwrap();
        assert_eq!(read.unwrap_or(0), 0, "an answer from {target}");
    }
    let refused = |event: &Value| {
        event["user"] == "mallory@acme.test" && event["block_reason"] == "private_destination"
    };
    drop(gateway.await_event("acme", refused).await);
    let own = SocketAddr::new(OWN.into(), 4_000);
    for source in [inner(2, 4_000), inner(3, 4_000), inner(1, 1), "203.0.113.9:1".parse().unwrap()]
    {
        let syn = wire::tcp(source, inner(1, 1), &wire::Segment::syn(1));
        mallory.stack().inject(syn).await.unwrap();
    }
    let syn = wire::tcp(own, inner(1, 1), &wire::Segment::syn(1));
    mallory.stack().inject(syn).await.unwrap();
    let label = ["reason=\"source\""];
    let begun = Instant::now();
    while gateway.metric("sluice_packets_dropped_total", &label).await != Some(4.0) {
        assert!(begun.elapsed() < SOON, "forged packets are not counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    while let Ok(packet) = seen.try_recv() {
        let ends = wire::read(&packet).and_then(|it| it.endpoints());
        let from = ends.map(|(from, _)| from.ip());
        assert_eq!(from, Some(Ipv4Addr::LOCALHOST.into()), "{ends:?} at the victim");
    }
}

/// An address of the inner network.
fn inner(number: u8, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(100, 96, 0, number), port))
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_in_the_kernel_are_bounded_for_each_session() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).gateway_yaml(KERNEL).start();
    let quiet = tunnel(&gateway, &gateway.alice(), OWN).await;
    let mallory = gateway.enroll("acme", "mallory@acme.test", "laptop-2");
    let flood = tunnel(&gateway, &mallory, OWN).await;
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port()));
    for number in 0..20_000_u32 {
        let from = SocketAddr::from((OWN, u16::try_from(1_024 + number % 60_000).unwrap()));
        let syn = wire::tcp(from, target, &wire::Segment::syn(number));
        flood.stack().inject(syn).await.unwrap();
        if number % 1_000 == 0 {
            let half_open = |it: &&SocketState| **it == SocketState::Other(3);
            let count = gateway.inner_sockets().iter().filter(half_open).count();
            assert!(count <= 256, "{count} half-open connections");
        }
    }
    let mut page = site(&gateway, &quiet, &origin).await;
    assert_eq!(page.get("/hello").await.unwrap().status, 200, "the neighbour goes on");
    let limit = gateway.metric("sluice_packets_dropped_total", &["reason=\"limit\""]).await;
    assert!(limit.is_some_and(|count| count > 1_000.0), "{limit:?}");
    // A client that means it is served again when those are given up.
    let begun = Instant::now();
    while flood.stack().connect(target).await.is_err() {
        assert!(begun.elapsed() < 4 * SOON, "the flood's own tunnel is closed for ever");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_keeps_nothing_of_a_session_that_has_ended() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).gateway_yaml(KERNEL).start();
    let echo = echo(Ipv4Addr::LOCALHOST).await;
    let alice = gateway.alice();
    let tunnel_of = tunnel(&gateway, &alice, OWN).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut stream = tunnel_of.stack().connect(echo).await.unwrap();
        stream.write_all(b"SSH-2.0-some\r\n").await.unwrap();
        held.push(stream);
    }
    // One half-open, and one that has much to say to a client that takes nothing.
    let syn = wire::tcp((OWN, 999).into(), echo, &wire::Segment::syn(1));
    tunnel_of.stack().inject(syn).await.unwrap();
    let mut full = site(&gateway, &tunnel_of, &origin).await;
    drop(full.start(Request::new("GET", "/bytes/20000000")).await.unwrap());
    assert!(gateway.inner_sockets().len() > LISTENERS + 20);
    gateway.revoke_device("acme", "laptop-1");
    await_empty(&gateway).await;
    let closed = |event: &Value| event["type"] == "session" && event["state"] == "close";
    drop(gateway.await_event("acme", closed).await);
    // Whoever has the address next begins anew.
    let bob = gateway.enroll("acme", "bob@acme.test", "laptop-2");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let next = tunnel(&gateway, &bob, OWN).await;
    let mut page = site(&gateway, &next, &origin).await;
    assert_eq!(page.get("/hello").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn openconnect_is_carried_by_the_kernel_which_keeps_no_closed_connection() {
    let namespace = Namespace::new();
    namespace.name_server("100.96.0.1");
    let origin = Origin::build().at(namespace.origin()).start().await;
    let build = Gateway::build(&origin).beyond(namespace.origin()).gateway_yaml(KERNEL);
    let gateway = build.start();
    let alice = gateway.alice();
    let client = Openconnect::connect(&namespace, &gateway, &alice, &[]);
    client.wait_for("Established DTLS connection", SOON);
    let size = 20_000_000;
    let url = origin.url("site.test", &format!("/bytes/{size}"));
    let ca = alice.file("intercept-ca.pem");
    let curl = ["--silent", "--show-error", "--max-time", "40", "--cacert", &ca];
    let tell = ["--output", "/dev/null", "--write-out", "%{size_download}", &url];
    let got = namespace.output("curl", &[&curl[..], &tell].concat());
    assert_eq!(got, size.to_string());
    let body = namespace_file(&alice, size);
    let url = origin.url("site.test", "/upload");
    let tell =
        ["--data-binary", &body, "--output", "/dev/null", "--write-out", "%{http_code}", &url];
    assert_eq!(namespace.output("curl", &[&curl[..], &tell].concat()), "200");
    assert_eq!(origin.last("/upload").unwrap().body_bytes, size);
    let event = gateway.await_transaction("acme", "/upload").await;
    assert_eq!(event["access_method"], "openconnect");
    await_empty(&gateway).await;
    drop(client);
}

/// A file of that many bytes, as curl's argument.
fn namespace_file(identity: &Identity, bytes: u64) -> String {
    let path = identity.folder.join("body");
    std::fs::write(&path, vec![7; usize::try_from(bytes).unwrap()]).unwrap();
    format!("@{}", path.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_carries_ipv6() {
    let origin = Origin::start().await;
    let build = Gateway::build(&origin).allow_private("[127.0.0.0/8, \"::1/128\"]");
    let gateway = build.gateway_yaml(KERNEL).start();
    let echo = echo(Ipv6Addr::LOCALHOST).await;
    let own: Ipv6Addr = "fd00::77".parse().unwrap();
    let tunnel = tunnel(&gateway, &gateway.alice(), own).await;
    let mut stream = tunnel.stack().connect(echo).await.unwrap();
    let said: Vec<u8> =
        b"SSH-2.0-".iter().copied().chain((0..500_000).map(|at| (at % 251) as u8)).collect();
    let mut heard = vec![0; said.len()];
    let (mut reads, mut writes) = tokio::io::split(&mut stream);
    let (wrote, read) = tokio::join!(writes.write_all(&said), reads.read_exact(&mut heard));
    wrote.unwrap();
    read.unwrap();
    assert!(heard == said);
    assert!(gateway.inner_sockets().contains(&SocketState::Other(1)), "not in the kernel");
    let flow = |event: &Value| event["type"] == "flow" && event["dest_ip"] == "::1";
    drop(stream);
    drop(gateway.await_event("acme", flow).await);
}

/// Starts the gateway where nobody may make a network namespace.
const NO_NAMESPACES: [&str; 6] = [
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    "echo 0 >/proc/sys/user/max_net_namespaces && exec \"$0\" \"$@\"",
];

#[tokio::test(flavor = "multi_thread")]
async fn where_the_kernel_cannot_be_had_the_gateway_says_so_and_does_not_start() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).gateway_yaml(KERNEL).configure();
    let mut command = Command::new(NO_NAMESPACES[0]);
    command.args(&NO_NAMESPACES[1..]).arg(tests::gateway::binary());
    let run = command.args(["serve", "--config"]).arg(gateway.folder()).stdin(Stdio::null());
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["`inner.tcp: kernel`", "CAP_SYS_ADMIN", "user namespaces"] {
        assert!(said.contains(part), "no word of {part}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_kernel_cannot_be_had_auto_goes_on_in_user_space() {
    let origin = Origin::start().await;
    let build = Gateway::build(&origin).gateway_yaml("inner: { tcp: auto }");
    let gateway = build.launched_by(&NO_NAMESPACES).start();
    let said = "inner connections end in user space";
    assert!(gateway.log().iter().any(|line| line.contains(said)), "{:#?}", gateway.log());
    let tunnel = tunnel(&gateway, &gateway.alice(), OWN).await;
    let mut page = site(&gateway, &tunnel, &origin).await;
    assert_eq!(page.get("/hello").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_special_has_the_kernels_tcp_where_user_namespaces_are_allowed() {
    let origin = Origin::start().await;
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"];
    let build = Gateway::build(&origin).gateway_yaml("inner: { tcp: auto }");
    let gateway = build.launched_by(&nobody).configure();
    let whole = gateway.folder().parent().unwrap().to_owned();
    let given = Command::new("chown").args(["-R", "65534:65534"]).arg(&whole).status().unwrap();
    assert!(given.success());
    gateway.restart();
    let said = "inner connections end in the kernel";
    assert!(gateway.log().iter().any(|line| line.contains(said)), "{:#?}", gateway.log());
    let tunnel = tunnel(&gateway, &gateway.alice(), OWN).await;
    let mut page = site(&gateway, &tunnel, &origin).await;
    assert_eq!(page.get("/hello").await.unwrap().status, 200);
    assert!(gateway.inner_sockets().contains(&SocketState::Other(1)));
}
