//! Both legs shaking hands over a pipe.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;

use super::testing::*;
use super::*;

const BOTH: [&[u8]; 2] = [b"h2", b"http/1.1"];

fn origin_tls(roots: Roots) -> OriginTls {
    OriginTls::new(OriginTlsSettings {
        roots: Arc::new(roots),
        own: Arc::new(OwnAuthorities::new()),
        revoked: Arc::from([]),
    })
    .unwrap()
}

fn roots_of(certificate: &CertificateDer<'static>) -> Roots {
    Roots::load(RootSource::None, std::slice::from_ref(certificate), SystemTime::now()).0
}

/// An origin that accepts once, says hello and waits for the end.
fn serve_once(config: Arc<ServerConfig>) -> DuplexStream {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        if let Ok((mut stream, _)) = accept(far, config).await {
            // Whether the other side is still there does not matter here.
            stream.write_all(b"hello").await.ok();
            stream.read_to_end(&mut Vec::new()).await.ok();
        }
    });
    near
}

/// One connection by `tls` to an origin showing `config`, used so that tickets arrive.
async fn visit(
    tls: &OriginTls,
    config: &Arc<ServerConfig>,
    name: &str,
) -> Result<OriginFacts, OriginTlsError> {
    let io = serve_once(Arc::clone(config));
    let (mut stream, facts) = tls.connect(io, &named(name), &BOTH).await?;
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await.unwrap();
    Ok(facts)
}

async fn origin(name: &str) -> (Arc<ServerConfig>, CertificateDer<'static>) {
    let (authority, ca) = authority("origin root");
    let leaf = authority.leaf(name, SystemTime::now()).await.unwrap();
    (client_facing(&leaf, &BOTH), ca)
}

#[tokio::test]
async fn the_strongest_is_agreed_and_the_facts_say_so() {
    let (config, ca) = origin("a.test").await;
    let facts = visit(&origin_tls(roots_of(&ca)), &config, "a.test").await.unwrap();
    assert_eq!((facts.version, facts.kx), ("1.3", Some("X25519MLKEM768")));
    assert_eq!(facts.suite, "TLS_AES_128_GCM_SHA256");
    assert_eq!(facts.alpn.as_deref(), Some(&b"h2"[..]));
    assert_eq!(facts.certificate.findings, []);
    assert_eq!(facts.certificate.issuer, "CN=origin root");
    assert!(!facts.resumed && !facts.wanted_client_certificate);
}

#[tokio::test]
async fn a_fault_is_found_though_the_handshake_succeeds() {
    let (config, ca) = origin("a.test").await;
    let facts = visit(&origin_tls(roots_of(&ca)), &config, "b.test").await.unwrap();
    let faults: Vec<_> = facts.certificate.findings.iter().map(|it| it.fault).collect();
    assert_eq!(faults, [Fault::NameMismatch]);
}

#[tokio::test]
async fn ti_03_tickets_serve_the_tenant_that_got_them() {
    let (config, ca) = origin("a.test").await;
    let (mine, theirs) = (origin_tls(roots_of(&ca)), origin_tls(roots_of(&ca)));
    assert!(!visit(&mine, &config, "a.test").await.unwrap().resumed);
    let again = visit(&mine, &config, "a.test").await.unwrap();
    assert!(again.resumed);
    assert_eq!(again.certificate.findings, [], "a resumed connection is judged like any");
    assert!(!visit(&theirs, &config, "a.test").await.unwrap().resumed);
}

#[tokio::test]
async fn a_faulty_origin_is_never_resumed() {
    let (config, _) = origin("a.test").await;
    let distrusting = origin_tls(Roots::default());
    for _ in 0..3 {
        let facts = visit(&distrusting, &config, "a.test").await.unwrap();
        assert!(!facts.resumed && !facts.certificate.findings.is_empty());
    }
}

#[tokio::test]
async fn ti_02_a_ticket_of_one_tenant_opens_nothing_at_another() {
    let (config, ca) = origin("a.test").await;
    let (other_config, _) = origin("a.test").await;
    let client = origin_tls(roots_of(&ca));
    visit(&client, &config, "a.test").await.unwrap();
    assert!(!visit(&client, &other_config, "a.test").await.unwrap().resumed);
}

#[tokio::test]
async fn configurations_are_built_once_per_leaf_and_protocol_list() {
    let authority = authority("ca").0;
    let leaf = authority.leaf("a.test", SystemTime::now()).await.unwrap();
    assert!(Arc::ptr_eq(&client_facing(&leaf, &BOTH), &client_facing(&leaf, &BOTH)));
    let http1: [&[u8]; 1] = [b"http/1.1"];
    assert!(!Arc::ptr_eq(&client_facing(&leaf, &BOTH), &client_facing(&leaf, &http1)));
}

#[tokio::test]
async fn a_client_that_refuses_our_certificate_is_told_from_others() {
    let (config, _) = origin("a.test").await;
    let (near, far) = duplex(64 * 1024);
    let strict = ClientConfig::builder_with_provider(suites::crypto())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let client = TlsConnector::from(Arc::new(strict)).connect(named("a.test"), near);
    let (client, server) = tokio::join!(client, accept(far, Arc::clone(&config)));
    assert!(client.is_err());
    let error = server.unwrap_err();
    assert!(matches!(error, AcceptError::Pinned { alert: "unknown_ca" }), "{error}");
    assert_eq!(error.label(), "client_pinned");

    let (near, far) = duplex(1024);
    drop(near);
    assert_eq!(
        accept(far, Arc::clone(&config)).await.unwrap_err().label(),
        "client_closed_handshake"
    );
    let (mut near, far) = duplex(1024);
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(accept(far, config).await.unwrap_err().label(), "client_tls_malformed");
}

#[tokio::test]
async fn a_silent_client_is_not_waited_for_forever() {
    let (config, _) = origin("a.test").await;
    let (_near, far) = duplex(1024);
    let soon = Duration::from_millis(10);
    let error = super::accept::accept_within(far, config, soon).await.unwrap_err();
    assert_eq!(error.label(), "client_handshake_timeout");
}

/// An origin that asks for a client certificate, and whether it insists.
fn asking(
    version: &'static rustls::SupportedProtocolVersion,
    insists: bool,
    tickets: usize,
) -> (Arc<ServerConfig>, Ca) {
    let ca = root("origin root");
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = leaf_params(&["a.test"]).signed_by(&key, &ca).unwrap().der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), suites::crypto());
    let builder = if insists { builder } else { builder.allow_unauthenticated() };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(suites::crypto())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(builder.build().unwrap())
        .with_single_cert(vec![leaf], key)
        .unwrap();
    config.send_tls13_tickets = tickets;
    (Arc::new(config), ca)
}

#[tokio::test(start_paused = true)]
async fn uc_46_a_wanted_client_certificate_is_noted_and_never_given() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        // Without tickets it is the first data, or silence, that says that it goes on.
        for tickets in [2, 0] {
            let (config, ca) = asking(version, false, tickets);
            let tls = origin_tls(trusting(&[&ca]));
            let (mut stream, facts) =
                tls.connect(serve_once(config), &named("a.test"), &BOTH).await.unwrap();
            assert!(facts.wanted_client_certificate);
            let mut hello = [0; 5];
            stream.read_exact(&mut hello).await.unwrap();
            assert_eq!(&hello, b"hello", "what came meanwhile is not lost");
        }
        let (config, ca) = asking(version, true, 2);
        let tls = origin_tls(trusting(&[&ca]));
        let error = tls.connect(serve_once(config), &named("a.test"), &BOTH).await.unwrap_err();
        assert_eq!(error.label(), "client_certificate_wanted", "{version:?}: {error}");
    }
}

/// What the origin's answer `bytes` to our ClientHello is called.
async fn answered_with(bytes: &[u8]) -> OriginTlsError {
    let (near, mut far) = duplex(64 * 1024);
    let answer = bytes.to_vec();
    tokio::spawn(async move {
        let mut hello = [0; 1];
        far.read_exact(&mut hello).await.unwrap();
        far.write_all(&answer).await.unwrap();
        far.shutdown().await.unwrap();
        far.read_to_end(&mut Vec::new()).await.ok();
    });
    origin_tls(Roots::default()).connect(near, &named("a.test"), &BOTH).await.unwrap_err()
}

#[tokio::test]
async fn uc_42_uc_43_old_protocols_and_suites_are_weak() {
    let alert = |description: u8| [21, 3, 3, 0, 2, 2, description];
    for description in [40, 70, 71] {
        let error = answered_with(&alert(description)).await;
        assert_eq!((error.label(), error.fault()), ("origin_tls_obsolete", Some(Fault::Weak)));
    }
    // A ServerHello of TLS 1.0 with RSA key exchange.
    let mut hello = vec![22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 0x2f, 0]);
    let error = answered_with(&hello).await;
    assert_eq!(error.fault(), Some(Fault::Weak), "{error}");
    assert_eq!(answered_with(&alert(112)).await.label(), "origin_tls_alert");
}

#[tokio::test]
async fn what_is_not_tls_is_called_so() {
    assert_eq!(answered_with(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.label(), "origin_not_tls");
    assert_eq!(answered_with(b"").await.label(), "origin_closed_handshake");
}

#[test]
fn a_profile_is_forgotten_after_its_time_a_faulty_one_sooner() {
    let profiles = Profiles::new();
    let key = ProfileKey {
        host: "a.test".into(),
        port: 443,
        address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    };
    let now = Instant::now();
    assert!(profiles.find(&key, now).is_none());
    profiles.learn(key.clone(), Profile::default(), now);
    profiles.note_connect_protocol(&key, true);
    let minute = Duration::from_secs(60);
    let known = profiles.find(&key, now + 9 * minute).unwrap();
    assert_eq!(known.connect_protocol, Some(true));
    assert!(profiles.find(&key, now + 10 * minute).is_none());
    let fault = Finding { fault: Fault::Expired, detail: "expired", fixed: false };
    let faulty = Profile { findings: vec![fault], ..Profile::default() };
    profiles.learn(key.clone(), faulty, now);
    assert!(profiles.find(&key, now + minute / 4).is_some());
    assert!(profiles.find(&key, now + minute).is_none());
    profiles.note_http1_only(&key, now + minute);
    let known = profiles.find(&key, now + minute).unwrap();
    assert!(known.http1_only, "learned on a connection older than what was known of the origin");
}

#[test]
fn a_resumed_handshake_does_not_unlearn_what_it_cannot_show() {
    let profiles = Profiles::new();
    let key = ProfileKey {
        host: "a.test".into(),
        port: 443,
        address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    };
    let now = Instant::now();
    let wanting = Profile { wants_client_certificate: true, ..Profile::default() };
    profiles.learn(key.clone(), wanting, now);
    profiles.note_connect_protocol(&key, true);
    let resumed = Profile { resumed: true, ..Profile::default() };
    let known = profiles.learn(key.clone(), resumed, now);
    assert!(known.wants_client_certificate && known.connect_protocol == Some(true));
    let known = profiles.learn(key, Profile::default(), now);
    assert!(!known.wants_client_certificate, "a full handshake does");
}
