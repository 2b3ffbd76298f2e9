//! Clients whose address changes under their tunnel.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};
use tests::link::{Impairment, UdpRelay};
use tests::{Gateway, Origin};

use super::{SOON, fetch};

#[tokio::test(flavor = "multi_thread")]
async fn h3_27_a_tunnel_outlives_the_ports_of_a_nat_whichever_worker_they_lead_to() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).gateway_yaml("workers: 4").start();
    let relay = UdpRelay::start(gateway.address(), 1).await;
    let mut to = gateway.browser().quic_to().unwrap();
    to.address = relay.address;
    let tunnel = to.connect().await.unwrap();
    assert_eq!(fetch(&gateway, &tunnel, &origin, "/hello").await.unwrap().status, 200);
    let authority = format!("site.test:{}", origin.port());
    let stream = tunnel.open(&authority).await.unwrap();
    let mut inner = gateway.browser().inner(stream, &authority).await.unwrap();
    // Of ten ports most lead to another worker than the first.
    for round in 0..10 {
        relay.rebind();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let got = inner.get(&format!("/echo?{round}")).await;
        assert_eq!(got.unwrap_or_else(|error| panic!("{round}: {error}")).status, 200);
    }
    assert_eq!(fetch(&gateway, &tunnel, &origin, "/page").await.unwrap().status, 200);
    let events = gateway.events("acme").await.unwrap();
    let sessions = events.iter().filter(|it| it["type"] == "session" && it["state"] == "open");
    assert_eq!(sessions.count(), 1, "one session, whatever the port");
    let before = gateway.await_transaction("acme", "/hello").await;
    let after = gateway.await_transaction("acme", "/page").await;
    assert_ne!(before["client_port"], after["client_port"], "{after}");
    assert_eq!(before["session_id"], after["session_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_27_a_client_that_moves_is_recorded_where_it_is_and_keeps_its_identity() {
    let origin = Origin::start().await;
    let rule = "  - { name: not from there, match: { source_ip: [127.0.0.3] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let to = gateway.browser().quic_to().unwrap();
    let tunnel = to.connect().await.unwrap();
    assert_eq!(fetch(&gateway, &tunnel, &origin, "/hello").await.unwrap().status, 200);
    to.endpoint.rebind(UdpSocket::bind("127.0.0.2:0").unwrap()).unwrap();
    assert_eq!(fetch(&gateway, &tunnel, &origin, "/page").await.unwrap().status, 200);
    let event = gateway.await_transaction("acme", "/page").await;
    assert_eq!(
        (&event["client_ip"], &event["user"]),
        (&json!("127.0.0.2"), &json!("alice@acme.test"))
    );
    let moved = |it: &Value| it["type"] == "session" && it["state"] == "update";
    let event = gateway.await_event("acme", moved).await;
    assert_eq!(event["client_ip"], "127.0.0.2", "{event}");
    to.endpoint.rebind(UdpSocket::bind("127.0.0.3:0").unwrap()).unwrap();
    let blocked = fetch(&gateway, &tunnel, &origin, "/echo").await.unwrap();
    assert_eq!(blocked.status, 403, "policy asks where the client is now");
    let sessions = gateway.admin_get("/v1/sessions?tenant=acme").await.unwrap().text();
    assert!(sessions.contains("127.0.0.3"), "{sessions}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_29_a_bad_network_changes_no_byte() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let relay = UdpRelay::start(gateway.address(), 7).await;
    let mut to = gateway.browser().quic_to().unwrap();
    to.address = relay.address;
    let tunnel = to.connect().await.unwrap();
    let delay = Duration::from_millis(10);
    for impairment in [
        Impairment::none().loss(0.1),
        Impairment::none().corrupt(0.05),
        Impairment::none().duplicate(0.2).reorder(0.2, delay),
    ] {
        relay.set(impairment.delay(delay));
        let reply = fetch(&gateway, &tunnel, &origin, "/bytes/300000").await.unwrap();
        assert_eq!((reply.status, reply.length), (200, 300_000), "{impairment:?}");
        let sent: Vec<u8> = (0..200_000_u32).map(|it| (it >> 3) as u8).collect();
        let authority = format!("site.test:{}", origin.port());
        let stream = tunnel.open(&authority).await.unwrap();
        let mut inner = gateway.browser().inner(stream, &authority).await.unwrap();
        let request = tests::Request::post("/mirror", sent.clone());
        assert_eq!(inner.send(request).await.unwrap().body, sent, "{impairment:?}");
    }
    // Five seconds of nothing.
    relay.block(true);
    tokio::time::sleep(SOON / 2).await;
    relay.set(Impairment::none());
    assert_eq!(fetch(&gateway, &tunnel, &origin, "/hello").await.unwrap().status, 200);
}
