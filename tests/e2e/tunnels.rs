//! Who gets a tunnel, who does not, and what is recorded of it (TA, CT-03 to CT-09).

use std::time::{Duration, Instant};

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};
use tests::client::hostile::{self, Ending, Handshake};
use tests::client::tls;
use tests::pki::{Chain, client_chain, dates};
use tests::{Gateway, Http, Inner, Leg, Origin, Request};

const WAIT: Duration = Duration::from_secs(15);

/// A handshake that should fail; what the gateway did is in the ending.
async fn knock(gateway: &Gateway, sni: Option<&str>, client: Option<&Chain>) -> Ending {
    let alice = gateway.alice();
    let name = gateway.name("acme");
    let handshake = Handshake {
        address: gateway.address(),
        sni,
        verify: &name,
        trusted_pem: &alice.tunnel_ca_pem,
        client,
        alpn: &["http/1.1"],
        then: b"CONNECT site.test:443 HTTP/1.1\r\nHost: site.test:443\r\n\r\n",
        wait: WAIT,
    };
    handshake.run().await.unwrap()
}

fn assert_refused(ending: &Ending) {
    match ending {
        Ending::Alert(_) => {}
        Ending::Closed(bytes) => {
            assert!(!bytes.starts_with(b"HTTP/1.1 200"), "the tunnel was opened: {ending:?}");
        }
        Ending::StillOpen => panic!("still open"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_01_no_certificate_no_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    assert_refused(&knock(&gateway, Some(&gateway.name("acme")), None).await);
    let event = gateway.await_refusal("acme", "no_certificate").await;
    assert_eq!(event["client_ip"], "127.0.0.1");
    assert!(event["user"].is_null(), "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_08_a_foreign_certificate_is_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let chain = client_chain("alice@acme.test", "laptop-1", None, |_| {});
    assert_refused(&knock(&gateway, Some(&gateway.name("acme")), Some(&chain)).await);
    gateway.await_refusal("acme", "foreign_certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_04_a_certificate_of_another_tenant_is_foreign() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").start();
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    assert_refused(&knock(&gateway, Some(&gateway.name("acme")), Some(&bob.chain)).await);
    gateway.await_refusal("acme", "foreign_certificate").await;
    let own = gateway.browser_of(&bob).get(&origin.url("site.test", "/hello")).await;
    assert_eq!(own.unwrap().status, 200, "his own tunnel works");
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_02_ta_08_expired_early_and_server_certificates_are_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let read = |name: &str| gateway.read(&format!("tenants/acme/ca/device.{name}"));
    let (pem, key) = (read("pem"), read("key"));
    let make = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        client_chain("alice@acme.test", "laptop-1", Some((&pem, &key)), change)
    };
    let good = make(&|_| {});
    let browser = gateway.browser().with_certificate(Some(good));
    let url = origin.url("site.test", "/hello");
    assert_eq!(browser.get(&url).await.unwrap().status, 200, "the control works");
    let expired = make(&|p| dates(p, -30, -1));
    let early = make(&|p| dates(p, 1, 30));
    let server = make(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    for chain in [expired, early, server] {
        assert_refused(&knock(&gateway, Some(&gateway.name("acme")), Some(&chain)).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_tenant_is_refused_in_the_handshake() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    for name in ["gateway-nobody.pop.test", "www.example.com", "acme.pop.test"] {
        let ending = knock(&gateway, Some(name), Some(&alice.chain)).await;
        assert!(matches!(ending, Ending::Alert(_) | Ending::Closed(_)), "{name}: {ending:?}");
    }
    gateway.await_refusal("_pop", "unknown_tenant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_09_without_sni_there_is_no_default_tenant() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    assert_refused(&knock(&gateway, None, Some(&gateway.alice().chain)).await);
    gateway.await_refusal("_pop", "unknown_tenant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_08_bad_first_bytes_are_closed_and_recorded() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let garbage: Vec<u8> = (0..2_048_u32).map(|i| ((i * 7_919) >> 3) as u8).collect();
    let openings: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: gateway-acme.pop.test\r\n\r\n",
        b"CONNECT site.test:443 HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &garbage,
    ];
    for bytes in openings {
        let ending = hostile::send_first(gateway.address(), bytes, WAIT).await.unwrap();
        assert_ne!(ending, Ending::StillOpen, "{:?}", &bytes[..8]);
    }
    gateway.await_refusal("_pop", "bad_first_bytes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_03_old_tls_versions_get_no_handshake() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    for version in ["-tls1", "-tls1_1", "-tls1_2"] {
        let connect = format!("127.0.0.1:{}", gateway.ports().tunnel);
        let run = tokio::task::spawn_blocking(move || {
            std::process::Command::new("openssl")
                .args(["s_client", "-connect", &connect, "-servername", "gateway-acme.pop.test"])
                .args([version, "-cipher", "ALL:@SECLEVEL=0"])
                .stdin(std::process::Stdio::null())
                .output()
        });
        let said = run.await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned()
            + &String::from_utf8_lossy(&said.stderr);
        let told = ["alert protocol version", "alert handshake failure"];
        assert!(told.iter().any(|alert| said.contains(alert)), "{version}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_flow_on_which_nothing_was_asked_is_on_record_when_its_session_ends() {
    let origin = Origin::start().await;
    let rule = "  - { name: not there, match: { domain: [site.test] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    for http in [Http::One, Http::Two] {
        let who = format!("{http:?}@acme.test");
        let identity = gateway.enroll("acme", &who, &format!("{http:?}"));
        let browser = gateway.browser_of(&identity).http(http);
        let idle = browser.connect(&origin.url("site.test", "/")).await.unwrap();
        gateway.revoke_device("acme", &format!("{http:?}"));
        let of_flow = |one: &Value| one["type"] == "flow" && one["user"] == who.as_str();
        let event = gateway.await_event("acme", of_flow).await;
        assert_eq!((&event["action"], &event["rule"]), (&json!("block"), &json!("not there")));
        drop(idle);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bypassed_flow_of_an_http1_tunnel_is_on_record_when_its_session_ends() {
    let origin = Origin::start().await;
    let rule = "decrypt:\n  rules:\n    - { name: not ours, match: { domain: [site.test] }, action: bypass }\n";
    let gateway = Gateway::build(&origin).settings(rule).start();
    let authority = format!("site.test:{}", origin.port());
    let stream = gateway.browser().leg(Leg::Http1).open(&authority).await.unwrap();
    let config = tls::config(&origin.pki().roots_pem(), None, &["http/1.1"]).unwrap();
    let mut inner = Inner::tls(stream, &authority, config.into()).await.unwrap();
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    gateway.revoke_device("acme", "laptop-1");
    let event = gateway.await_event("acme", |one| one["type"] == "flow").await;
    assert_eq!((&event["rule"], &event["error"]), (&Value::Null, &json!("withdrawn")), "{event}");
    assert!(event["response_bytes"].as_u64() > Some(0), "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_05_revocation_ends_a_live_session_within_a_second() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let browser = gateway.browser();
    let mut tunnel = browser.tunnel().await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let mut streams = Vec::new();
    for _ in 0..100 {
        let stream = tunnel.share().unwrap().open(&authority).await.unwrap();
        streams.push(browser.inner(stream, &authority).await.unwrap());
    }
    gateway.revoke_device("acme", "laptop-1");
    let revoked = Instant::now();
    tunnel.ended(WAIT).await.unwrap();
    let took = revoked.elapsed();
    assert!(took <= Duration::from_secs(1), "it took {took:?}");
    for stream in &mut streams {
        assert!(stream.get("/hello").await.is_err(), "a stream outlived its session");
    }
    assert_refused(
        &knock(&gateway, Some(&gateway.name("acme")), Some(&gateway.alice().chain)).await,
    );
    gateway.await_refusal("acme", "revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_09_a_ticket_does_not_outlive_the_revocation() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let browser = gateway.browser();
    // One configuration for both connections, so that the second resumes where it may.
    let to = browser.tunnel_to().unwrap();
    let authority = format!("site.test:{}", origin.port());
    let mut tunnel = to.connect().await.unwrap();
    let stream = tunnel.share().unwrap().open(&authority).await.unwrap();
    let mut inner = browser.inner(stream, &authority).await.unwrap();
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    gateway.revoke_device("acme", "laptop-1");
    tunnel.ended(WAIT).await.unwrap();
    let again = async { to.connect().await?.open(&authority).await };
    assert!(again.await.is_err(), "a resumed session passed a revocation");
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_11_identity_headers_from_the_client_are_not_believed() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let browser = gateway.browser().leg(Leg::Http1);
    let mut tunnel = browser.tunnel().await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let forged = [("X-Forwarded-User", "root@acme.test"), ("X-Tenant", "globex")];
    let stream = tunnel.open_with(&authority, &forged).await.unwrap();
    let mut inner = browser.inner(stream, &authority).await.unwrap();
    let request = Request::get("/echo").field("X-Tenant", "globex").field("X-User", "root");
    assert_eq!(inner.send(request).await.unwrap().status, 200);
    let event = gateway.await_transaction("acme", "/echo").await;
    assert_eq!(event["user"], "alice@acme.test");
    assert_eq!(event["tenant"], "acme");
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_18_half_open_tunnels_are_reaped() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let before = gateway.descriptors();
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(hostile::half_open(gateway.address()).await.unwrap());
    }
    let begun = Instant::now();
    while gateway.descriptors() > before + 20 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} left", gateway.descriptors());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(
        gateway.browser().get(&origin.url("site.test", "/hello")).await.unwrap().status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_explicit_listener_wants_the_right_token() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let right = gateway.browser().explicit_client().unwrap();
    let authority = format!("site.test:{}", origin.port());
    right.open(&authority).await.unwrap();
    let wrong = "Basic YWxpY2VAYWNtZS50ZXN0Ondyb25n".to_owned();
    for credentials in [None, Some(wrong), Some("Basic !".to_owned()), Some("Nonsense".to_owned())]
    {
        let client = tests::Explicit { credentials, ..right.clone() };
        let refused = client.open(&authority).await;
        assert_eq!(refused.err().and_then(|error| error.status()), Some(407));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_recorded_up_and_down() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().tunnel().await.unwrap();
    let up = gateway
        .await_event("acme", |event| event["type"] == "session" && event["state"] == "open")
        .await;
    assert_eq!(up["user"], "alice@acme.test");
    assert!(up["tunnel_tls"].as_str().is_some_and(|tls| tls.ends_with("1.3")), "{up}");
    drop(tunnel);
    let down = gateway
        .await_event("acme", |event| event["state"] == "close" && event["id"] == up["id"])
        .await;
    assert_eq!(down["type"], "session");
}
