//! HTTP/3 inside a tunnel: inspected as any other version, or refused so that the client takes TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tests::client::carrier::PacketTunnel;
use tests::client::dtls::DtlsTo;
use tests::client::http3::{Carried, Http3};
use tests::client::message::{Body, Request};
use tests::client::packet::Addresses;
use tests::client::udp::UdpFlow;
use tests::{ClientError, Gateway, Origin};
use tokio::task::JoinSet;

/// What a client without a word from the gateway calls itself.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// A packet tunnel of alice's.
async fn tunnel(gateway: &Gateway) -> PacketTunnel {
    let alice = gateway.alice();
    let name = gateway.name("acme");
    let to = DtlsTo::new(
        gateway.address(),
        gateway.address(),
        &name,
        &alice.tunnel_ca_pem,
        &alice.chain,
    );
    to.unwrap().addresses(Addresses::of(OWN)).without_fallback().connect().await.unwrap()
}

fn at(origin: &Origin) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port()))
}

/// HTTP/3 for `host` over a packet tunnel.
async fn over_packets(
    gateway: &Gateway,
    tunnel: &PacketTunnel,
    origin: &Origin,
    host: &str,
) -> Result<Http3, ClientError> {
    let carried = Carried::packets(tunnel.stack().udp()?, at(origin)).await?;
    let authority = format!("{host}:{}", origin.port());
    Http3::connect(&carried, &authority, &gateway.alice().intercept_ca_pem).await
}

/// HTTP/3 for `host` over CONNECT-UDP.
async fn over_connect_udp(
    gateway: &Gateway,
    origin: &Origin,
    host: &str,
) -> Result<Http3, ClientError> {
    let tunnel = gateway.browser().tunnel().await?;
    let flow = UdpFlow::open(&tunnel, &gateway.name("acme"), host, origin.port()).await?;
    let carried = Carried::flow(flow).await?;
    let authority = format!("{host}:{}", origin.port());
    Http3::connect(&carried, &authority, &gateway.alice().intercept_ca_pem).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_over_inner_http3_is_inspected_in_a_packet_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = tunnel(&gateway).await;
    let http3 = over_packets(&gateway, &tunnel, &origin, "site.test").await.unwrap();
    let page = http3.get("/hello").await.unwrap();
    assert!(page.text().contains("hello from site.test"), "{}", page.text());
    let event = gateway.await_transaction("acme", "/hello").await;
    for (field, value) in [
        ("http_version", "HTTP/3"),
        ("client_alpn", "h3"),
        ("client_tls", "1.3"),
        ("origin_alpn", "h2"),
        ("host", "site.test"),
        ("host_source", "sni"),
        ("sni", "site.test"),
        ("access_method", "dtls"),
        ("action", "allow"),
    ] {
        assert_eq!(event[field], value, "{field} of {event}");
    }
    assert_eq!(event["decrypted"], true, "{event}");
    assert!(event["client_ja4"].as_str().is_some_and(|it| it.starts_with("q13d")), "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_over_inner_http3_is_inspected_in_connect_udp() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let http3 = over_connect_udp(&gateway, &origin, "site.test").await.unwrap();
    let page = http3.get("/hello").await.unwrap();
    assert!(page.text().contains("hello from site.test"), "{}", page.text());
    let event = gateway.await_transaction("acme", "/hello").await;
    assert_eq!(event["http_version"], "HTTP/3", "{event}");
    assert_eq!(event["access_method"], "tls", "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_trailers_pass_whole_in_both_directions() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = tunnel(&gateway).await;
    let http3 = over_packets(&gateway, &tunnel, &origin, "site.test").await.unwrap();
    let reply = http3.get("/trailers").await.unwrap();
    assert_eq!(
        (reply.trailer("grpc-status"), reply.trailer("x-checksum")),
        (Some("0"), Some("abc"))
    );

    let body: Vec<u8> =
        (0..1_000_000_u32).map(|it| (it.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let mirrored = http3.send(Request::post("/mirror", body.clone())).await.unwrap();
    assert_eq!(tests::sha256_hex(&mirrored.body), tests::sha256_hex(&body));

    let size = 40_000_000;
    assert_eq!(http3.get(&format!("/chunked/{size}")).await.unwrap().length, size);
    let before = gateway.resident_bytes();
    for body in [Body::Fill(size), Body::FillUnsized(size)] {
        let counted = http3.send(Request::new("POST", "/upload").body(body)).await.unwrap();
        assert_eq!(counted.json()["bytes"], size, "{}", counted.text());
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for uploads of {size}");

    let sent = Request::new("POST", "/echo").body(Body::FillUnsized(10)).trailer("x-sum", "45");
    let echoed = http3.send(sent).await.unwrap();
    assert!(echoed.text().contains("x-sum"), "{}", echoed.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_judges_http3_as_any_other_version() {
    let origin = Origin::start().await;
    let rules = "  - name: no uploads here\n    match: { domain: [drive.test], method: [POST] }\n    \
                 action: block\n  - name: not this one\n    match: { domain: [never.test] }\n    \
                 action: block\n";
    let gateway = Gateway::build(&origin).policy(rules).start();
    let tunnel = tunnel(&gateway).await;
    let http3 = over_packets(&gateway, &tunnel, &origin, "drive.test").await.unwrap();
    assert_eq!(http3.get("/hello").await.unwrap().status, 200);
    let upload = Request::new("POST", "/up").body(Body::Fill(3_000_000));
    let reply = http3.send(upload.navigation()).await.unwrap();
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("no uploads here"), "{}", reply.text());
    assert_eq!(http3.get("/hello").await.unwrap().status, 200, "the connection goes on");
    let event = gateway.await_transaction("acme", "/up").await;
    assert_eq!((&event["action"], &event["rule"]), (&"block".into(), &"no uploads here".into()));

    // What the connect gate refuses is shown over HTTP/3 too, where the flow can be decrypted.
    let blocked = over_packets(&gateway, &tunnel, &origin, "never.test").await.unwrap();
    let page = blocked.send(Request::get("/").navigation()).await.unwrap();
    assert_eq!(page.status, 403);
    assert!(page.text().contains("not this one"), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_exchanges_share_a_connection_and_early_hints_pass() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = tunnel(&gateway).await;
    let http3 = over_packets(&gateway, &tunnel, &origin, "site.test").await.unwrap();
    let hinted = http3.get("/hints").await.unwrap();
    assert_eq!(hinted.early.first().map(|(status, _)| *status), Some(103), "{hinted:?}");
    let (http3, mut asked) = (Arc::new(http3), JoinSet::new());
    for number in 0..200 {
        let http3 = Arc::clone(&http3);
        asked.spawn(async move { http3.get(&format!("/hello?{number}")).await });
    }
    while let Some(reply) = asked.join_next().await {
        assert_eq!(reply.unwrap().unwrap().status, 200);
    }
    let host = async |path: &str| {
        let request = Request::get(path).field("host", "other.test");
        http3.send(request).await
    };
    assert!(host("/hello").await.is_err(), "a host that contradicts the authority");
}
