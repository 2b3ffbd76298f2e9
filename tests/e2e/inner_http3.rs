//! HTTP/3 inside a tunnel: inspected as any other version, or refused so that the client takes TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gateway_proto::quic_initial::{Version, write_initial};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use serde_json::Value;
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

const SOON: Duration = Duration::from_secs(10);

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
    asked: &str,
    host: &str,
) -> Result<Http3, ClientError> {
    let tunnel = gateway.browser().tunnel().await?;
    let flow = UdpFlow::open(&tunnel, &gateway.name("acme"), asked, origin.port()).await?;
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
    let http3 = over_connect_udp(&gateway, &origin, "site.test", "site.test").await.unwrap();
    let page = http3.get("/hello").await.unwrap();
    assert!(page.text().contains("hello from site.test"), "{}", page.text());
    let event = gateway.await_transaction("acme", "/hello").await;
    assert_eq!(event["http_version"], "HTTP/3", "{event}");
    assert_eq!(event["access_method"], "tls", "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_over_inner_http3_is_inspected_in_a_quic_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    let flow = tunnel.udp(&gateway.name("acme"), "site.test", origin.port()).await.unwrap();
    let carried = Carried::quic(flow).await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let ca = gateway.alice().intercept_ca_pem;
    let http3 = Http3::connect(&carried, &authority, &ca).await.unwrap();
    let page = http3.get("/hello").await.unwrap();
    assert!(page.text().contains("hello from site.test"), "{}", page.text());
    assert_eq!(http3.get("/bytes/3000000").await.unwrap().length, 3_000_000);
    let event = gateway.await_transaction("acme", "/hello").await;
    assert_eq!(event["http_version"], "HTTP/3", "{event}");
    assert_eq!(event["access_method"], "quic", "{event}");
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

/// Why QUIC was refused, once there is such a record.
async fn why(gateway: &Gateway) -> Value {
    let refused = |event: &Value| event["block_reason"] == "quic_refused";
    gateway.await_event("acme", refused).await["decrypt_reason"].clone()
}

fn crypto(offset: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap() | 0x4000;
    [&[6][..], &(offset | 0x4000).to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// A client's datagram with these frames.
fn initial(number: u32, mut frames: Vec<u8>) -> Vec<u8> {
    frames.resize(frames.len().max(1_162), 0);
    write_initial(Version::V1, &[7; 8], number, &frames).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_client_sends_is_refused_with_its_reason() {
    let origin = Origin::start().await;
    let mut sealed = initial(0, crypto(0, &[1, 0, 0, 200]));
    *sealed.last_mut().unwrap() ^= 1;
    let cases: [(&str, Vec<Vec<u8>>); 6] = [
        ("quic_sealed", vec![sealed]),
        ("quic_short_datagram", vec![write_initial(Version::V1, &[7; 8], 0, &[0; 900]).unwrap()]),
        ("quic_frame", vec![initial(0, vec![8, 0, 0])]),
        ("not_client_hello", vec![initial(0, crypto(0, &[2, 0, 0, 1]))]),
        ("hello_malformed", vec![initial(0, crypto(0, &[1, 0, 0, 3, 3, 3, 3]))]),
        (
            "quic_contradiction",
            vec![initial(0, crypto(0, &[1, 0, 0, 200])), initial(1, crypto(3, &[201, 3]))],
        ),
    ];
    for (reason, datagrams) in cases {
        let gateway = Gateway::start(&origin);
        let tunnel = tunnel(&gateway).await;
        let mut seen = tunnel.stack().observe();
        let socket = tunnel.stack().udp().unwrap();
        for datagram in &datagrams {
            socket.send_to(at(&origin), datagram).await.unwrap();
        }
        loop {
            let packet = tokio::time::timeout(SOON, seen.recv()).await.unwrap().unwrap();
            if packet.get(9) == Some(&1) {
                assert_eq!(packet[20..22], [3, 3], "{reason}: port unreachable");
                break;
            }
        }
        assert_eq!(why(&gateway).await, reason);
    }
    let gateway = Gateway::start(&origin);
    let client = gateway.browser().tunnel().await.unwrap();
    let proxy = gateway.name("acme");
    let mut flow = UdpFlow::open(&client, &proxy, "site.test", origin.port()).await.unwrap();
    flow.send(&initial(0, vec![8, 0, 0])).await.unwrap();
    assert!(matches!(flow.receive().await, Err(ClientError::Broken(_))), "the stream ends");
    assert_eq!(why(&gateway).await, "quic_frame");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_is_answered_with_the_known_one() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = tunnel(&gateway).await;
    let mut socket = tunnel.stack().udp().unwrap();
    let mut unknown = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 9];
    unknown.resize(1_200, 0);
    socket.send_to(at(&origin), &unknown).await.unwrap();
    let (from, offer) = socket.receive(SOON).await.unwrap();
    assert_eq!(from, at(&origin));
    assert_eq!(offer[1..], [0, 0, 0, 0, 1, 9, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_may_have_quic_refused() {
    let origin = Origin::build().invites_http3().start().await;
    let settings = "decryption: { quic: refuse }\ndecrypt:\n  rules:\n    - name: not the bank\n      \
                    match: { domain: [bank.test] }\n      action: bypass\n";
    let gateway = Gateway::build(&origin).settings(settings).start();
    let tunnel = tunnel(&gateway).await;
    let trying = over_packets(&gateway, &tunnel, &origin, "site.test");
    tokio::select! {
        _ = trying => panic!("neither an answer nor an end before its patience is over"),
        reason = why(&gateway) => assert_eq!(reason, "quic_setting"),
    }
    let stream = tunnel.stack().connect(at(&origin)).await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let mut inner = gateway.browser().inner(Box::new(stream), &authority).await.unwrap();
    assert_eq!(inner.get("/hello").await.unwrap().field("alt-svc"), None, "nobody is invited");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_come_by_quic_is_told_of_it_and_nobody_else() {
    let origin = Origin::build().invites_http3().start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = tunnel(&gateway).await;
    let stream = tunnel.stack().connect(at(&origin)).await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let mut inner = gateway.browser().inner(Box::new(stream), &authority).await.unwrap();
    let invitation = format!("h3=\":{}\"; ma=3600", origin.port());
    let reply = inner.get("/hello").await.unwrap();
    assert_eq!(reply.field("alt-svc"), Some(invitation.as_str()));
    // A browser with a proxy setting would try it past the tunnel.
    let reply = gateway.browser().get(&origin.url("site.test", "/hello")).await.unwrap();
    assert_eq!(reply.field("alt-svc"), None);
    // A program of this device that does not take our certificates: the others are not sent there.
    let carried = Carried::packets(tunnel.stack().udp().unwrap(), at(&origin)).await.unwrap();
    let roots = origin.pki().roots_pem();
    assert!(Http3::connect(&carried, &authority, &roots).await.is_err());
    assert_eq!(why(&gateway).await, "client_refused_certificate");
    assert_eq!(inner.get("/hello").await.unwrap().field("alt-svc"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn name_and_destination_must_agree_as_with_tls() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let http3 = over_connect_udp(&gateway, &origin, "site.test", "other.test").await.unwrap();
    let page = http3.get("/hello").await.unwrap();
    assert_eq!(page.status, 403, "{}", page.text());
    let event = gateway.await_transaction("acme", "other.test").await;
    assert_eq!(event["block_reason"], "sni_host_mismatch", "{event}");
    // A request for another name on the connection is misdirected.
    let http3 = over_connect_udp(&gateway, &origin, "site.test", "site.test").await.unwrap();
    let fronted = Request::get("/hello").field("host", "site.test");
    assert_eq!(
        http3.send(fronted).await.map(|it| it.status).unwrap_or(0),
        0,
        "differs by its port"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_over_connect_udp_are_answered_by_the_gateway() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().tunnel().await.unwrap();
    let proxy = gateway.name("acme");
    // Whomever it asks: nobody is there.
    let mut flow = UdpFlow::open(&tunnel, &proxy, "192.0.2.53", 53).await.unwrap();
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii("site.test.").unwrap(), RecordType::A));
    flow.send(&query.to_vec().unwrap()).await.unwrap();
    let answer = Message::from_vec(&flow.receive().await.unwrap()).unwrap();
    assert_eq!(answer.metadata.id, query.metadata.id);
    assert_eq!(answer.answers.first().unwrap().data.to_string(), "127.0.0.1");
    drop(flow);
    let asked = |event: &Value| event["type"] == "flow" && event["dest_port"] == 53;
    let event = gateway.await_event("acme", asked).await;
    assert_eq!(event["decrypt_reason"], "dns", "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_breaks_off_is_no_whole_one() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = tunnel(&gateway).await;
    let http3 = over_packets(&gateway, &tunnel, &origin, "site.test").await.unwrap();
    let broken = http3.get("/reset").await;
    assert!(matches!(broken, Err(ClientError::Http3(_))), "{broken:?}");
    assert_eq!(http3.get("/hello").await.unwrap().status, 200, "the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_runs_and_a_revoked_device_is_cut() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let client = tunnel(&gateway).await;
    let http3 = over_packets(&gateway, &client, &origin, "site.test").await.unwrap();
    let slow = http3.get("/slow/2000");
    let ending = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        gateway.terminate();
    };
    let (slow, ()) = tokio::join!(slow, ending);
    assert_eq!(slow.unwrap().status, 200);
    assert!(http3.get("/hello").await.is_err(), "nothing new is served");
    drop(http3);
    client.close().await;
    assert_eq!(gateway.exit_code(), Some(0));

    let gateway = Gateway::start(&origin);
    let client = tunnel(&gateway).await;
    let http3 = over_packets(&gateway, &client, &origin, "site.test").await.unwrap();
    assert_eq!(http3.get("/hello").await.unwrap().status, 200);
    let stalled = http3.get("/stall");
    let revoking = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        gateway.revoke_device("acme", "laptop-1");
    };
    let (stalled, ()) = tokio::join!(stalled, revoking);
    assert!(stalled.is_err());
}
