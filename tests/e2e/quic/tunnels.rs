//! Who gets a QUIC tunnel, what is recorded of it, and when it ends.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use quinn::ConnectionError;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::json;
use tests::client::quic::QuicTo;
use tests::client::tls;
use tests::pki::{client_chain, dates};
use tests::{Gateway, Origin, Request};

use super::{SOON, fetch, is_let_in};
use crate::entry::Issuer;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_comes_through_a_quic_tunnel_and_is_recorded() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    let reply = fetch(&gateway, &tunnel, &origin, "/hello").await.unwrap();
    assert_eq!(reply.status, 200);
    let event = gateway.await_transaction("acme", "/hello").await;
    assert_eq!(
        (&event["access_method"], &event["user"]),
        (&json!("quic"), &json!("alice@acme.test"))
    );
    assert_eq!((&event["tunnel_tls"], &event["client_ip"]), (&json!("1.3"), &json!("127.0.0.1")));
    assert_eq!(event["tunnel_kx"], "X25519MLKEM768", "{event}");
    let port = u64::from(tunnel_port(&gateway).await);
    assert_eq!(event["client_port"].as_u64(), Some(port));
    tunnel.connection.close(0x100_u32.into(), b"");
    let closed = |it: &serde_json::Value| it["type"] == "session" && it["state"] == "close";
    let event = gateway.await_event("acme", closed).await;
    assert_eq!(
        (&event["error"], &event["error_side"]),
        (&json!("client_closed"), &json!("client"))
    );
    let tunnels = gateway.metric("sluice_tunnels_total", &["access_method=\"quic\""]).await;
    assert_eq!(tunnels, Some(1.0));
}

async fn tunnel_port(gateway: &Gateway) -> u16 {
    let opened = |it: &serde_json::Value| it["type"] == "session" && it["state"] == "open";
    let event = gateway.await_event("acme", opened).await;
    u16::try_from(event["client_port"].as_u64().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_arrive_whole_both_ways_on_many_streams_at_once() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let mut running = tokio::task::JoinSet::new();
    for number in 0..20_usize {
        let stream = tunnel.open(&authority).await.unwrap();
        let mut inner = gateway.browser().inner(stream, &authority).await.unwrap();
        running.spawn(async move {
            let size = 1_000_000 + number * 4_321;
            let got = inner.get(&format!("/bytes/{size}")).await.unwrap();
            assert_eq!(got.length, size as u64);
            let body: Vec<u8> = (0..size).map(|at| (at * 7 + number) as u8).collect();
            let hash = tests::sha256_hex(&body);
            let said = inner.send(Request::post("/upload", body)).await.unwrap();
            assert!(said.status == 200 && said.text().contains(&hash), "{}", said.text());
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_of_the_device_ca_there_is_no_quic_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").start();
    let authority = format!("site.test:{}", origin.port());
    let read = |name: &str| gateway.read(&format!("tenants/acme/ca/device.{name}"));
    let (pem, key) = (read("pem"), read("key"));
    let make = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        Some(client_chain("alice@acme.test", "laptop-1", Some((&pem, &key)), change))
    };
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let server = make(&|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    for (chain, error) in [
        (None, "no_certificate"),
        (Some(client_chain("mallory@acme.test", "own-1", None, |_| {})), "foreign_certificate"),
        (Some(bob.chain.clone()), "foreign_certificate"),
        (make(&|it| dates(it, -30, -1)), "expired_certificate"),
        (server, "bad_certificate"),
    ] {
        let browser = gateway.browser().with_certificate(chain);
        let outcome = is_let_in(browser.quic().await, &authority).await;
        assert!(outcome.is_err(), "{error}");
        let event = gateway.await_refusal("acme", error).await;
        assert_eq!((&event["access_method"], &event["action"]), (&json!("quic"), &json!("block")));
    }
    is_let_in(gateway.browser().quic().await, &authority).await.expect("the control works");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_tenants_are_refused_in_the_quic_handshake() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    for name in ["gateway-nobody.pop.test", "www.example.com", "acme.pop.test"] {
        let trusted = &alice.tunnel_ca_pem;
        let to = QuicTo::new(gateway.address(), name, trusted, Some(&alice.chain)).unwrap();
        let refused = to.bare().await.unwrap_err().to_string();
        // unrecognized_name, as an alert in a QUIC error.
        assert!(refused.contains("error 112"), "{name}: {refused}");
    }
    let event = gateway.await_refusal("_pop", "unknown_tenant").await;
    assert_eq!(event["access_method"], "quic");
    let config = tls::config(&alice.tunnel_ca_pem, Some(&alice.chain), &["h2", "hq-interop"]);
    let name = gateway.name("acme");
    let to = QuicTo::with_tls(gateway.address(), &name, config.unwrap()).unwrap();
    let refused = to.bare().await.unwrap_err().to_string();
    assert!(refused.contains("error 120"), "no_application_protocol: {refused}");
    gateway.await_refusal("acme", "handshake_failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quic_tunnel_gets_no_ticket_so_nothing_comes_before_the_handshake() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let mut config = tls::config(&alice.tunnel_ca_pem, Some(&alice.chain), &["h3"]).unwrap();
    config.enable_early_data = true;
    let to = QuicTo::with_tls(gateway.address(), &gateway.name("acme"), config).unwrap();
    let authority = format!("site.test:{}", origin.port());
    for _ in 0..2 {
        let tunnel = to.connect().await.unwrap();
        let stream = tunnel.open(&authority).await.unwrap();
        let mut inner = gateway.browser().inner(stream, &authority).await.unwrap();
        assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    }
    assert!(!to.can_send_early().unwrap(), "there is a ticket to send early data with");
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_05_revocation_ends_a_live_quic_tunnel_within_a_second() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let stream = tunnel.open(&authority).await.unwrap();
    let mut inner = gateway.browser().inner(stream, &authority).await.unwrap();
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    gateway.revoke_device("acme", "laptop-1");
    let revoked = Instant::now();
    tunnel.ended(SOON).await.unwrap();
    let took = revoked.elapsed();
    assert!(took <= Duration::from_secs(1), "it took {took:?}");
    assert!(inner.get("/hello").await.is_err(), "a stream outlived its session");
    assert!(is_let_in(gateway.browser().quic().await, &authority).await.is_err());
    gateway.await_refusal("acme", "revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_a_quic_tunnel_and_ends_it() {
    let origin = Origin::start().await;
    let issuer = Issuer::new();
    let gateway = Gateway::build(&origin)
        .settings(
            "identity: { require: token, jwks: keys.json, issuer: \"https://login.acme.test/\", \
             audience: sluice, leeway_s: 0 }\n",
        )
        .configure();
    gateway.write("tenants/acme/keys.json", &issuer.keys());
    gateway.restart();
    let authority = format!("site.test:{}", origin.port());
    let browser = gateway.browser().with_certificate(None);
    let tunnel = browser.quic().await.unwrap();
    let open =
        async |shown: &str| tunnel.open_with(&authority, &[("proxy-authorization", shown)]).await;
    for wrong in ["Bearer nonsense", "Basic bm86bm8="] {
        assert_eq!(open(wrong).await.err().and_then(|error| error.status()), Some(407));
    }
    assert_eq!(tunnel.open(&authority).await.err().and_then(|error| error.status()), Some(407));
    let soon = SystemTime::now() + Duration::from_secs(4);
    let soon = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let stream = open(&issuer.token(soon)).await.unwrap();
    let mut inner = browser.inner(stream, &authority).await.unwrap();
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    // The tunnel is known now.
    assert_eq!(fetch(&gateway, &tunnel, &origin, "/echo").await.unwrap().status, 200);
    tunnel.ended(SOON).await.expect("the tunnel outlived its token");
    let event = gateway.await_transaction("acme", "/hello").await;
    assert_eq!((&event["user"], &event["device"]), (&json!("alice@acme.test"), &json!("laptop-1")));
    gateway.await_refusal("acme", "bad_token").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_gateway_says_goaway_lets_requests_finish_and_closes() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let stream = tunnel.open(&authority).await.unwrap();
    let mut inner = gateway.browser().inner(stream, &authority).await.unwrap();
    let running = tokio::spawn(async move { inner.get("/slow/3000").await });
    while origin.last("/slow").is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let drained = gateway.admin(Request::new("POST", "/v1/drain")).await.unwrap();
    assert_eq!(drained.status, 202);
    // First "soon", then the number from which on nothing is served.
    tunnel.hears(SOON, |said| said.goaway.is_some()).await.unwrap();
    let last = tunnel.hears(SOON, |said| said.goaway.is_some_and(|id| id < 1 << 20)).await;
    assert_eq!(last.unwrap().goaway, Some(4));
    assert!(tunnel.open(&authority).await.is_err(), "a stream was opened after the last word");
    let fresh = gateway.browser().quic().await;
    assert!(is_let_in(fresh, &authority).await.is_err(), "a tunnel was opened after the drain");
    assert_eq!(running.await.unwrap().unwrap().status, 200);
    let ended = tunnel.ended(SOON).await.unwrap();
    match ended {
        ConnectionError::ApplicationClosed(close) => {
            assert_eq!(close.error_code, 0x100_u32.into(), "H3_NO_ERROR");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_tunnels_count_against_the_limit_of_tunnels() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).gateway_yaml("limits: { tunnels: 2 }").start();
    let authority = format!("site.test:{}", origin.port());
    let one = gateway.browser().quic().await.unwrap();
    let _two = gateway.browser().tunnel().await.unwrap();
    one.open(&authority).await.unwrap();
    let third = is_let_in(gateway.browser().quic().await, &authority).await;
    assert!(third.unwrap_err().to_string().contains("refused"));
    gateway.await_refusal("_pop", "too_many_tunnels").await;
    one.connection.close(0x100_u32.into(), b"");
    let begun = Instant::now();
    while is_let_in(gateway.browser().quic().await, &authority).await.is_err() {
        assert!(begun.elapsed() < SOON, "the place of a closed tunnel is not free");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_limit_of_streams_holds_in_a_quic_tunnel() {
    let origin = Origin::start().await;
    let settings = "limits: { streams_per_tunnel: 20 }\n";
    let gateway = Gateway::build(&origin).settings(settings).start();
    let tunnel = Arc::new(gateway.browser().quic().await.unwrap());
    let authority = format!("site.test:{}", origin.port());
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(tunnel.open(&authority).await.unwrap());
    }
    let waiting = {
        let (tunnel, authority) = (Arc::clone(&tunnel), authority.clone());
        tokio::spawn(async move { tunnel.open(&authority).await.map(drop) })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "a stream beyond the limit");
    held.clear();
    waiting.await.unwrap().expect("room again");
}
