//! The certificates that clients are shown (CT-11, CT-18 to CT-22).

use std::process::Command;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use tests::{Gateway, Origin};
use x509_parser::prelude::*;

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_18_a_leaf_names_only_its_host_and_lives_at_most_thirty_days() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    let (_, leaf) = X509Certificate::from_der(&inner.shown[0]).unwrap();
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(san.value.general_names, [GeneralName::DNSName("site.test")]);
    let span = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert!(span <= 30 * 86_400, "{} days", span / 86_400);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(leaf.validity().not_before.timestamp() <= now.as_secs() as i64);
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth && !usage.any, "{usage:?}");
    let serial = leaf.raw_serial();
    assert!((15..=17).contains(&serial.len()), "128 random bits: {serial:02x?}");
    assert!(!leaf.is_ca());
    let has = |oid| leaf.get_extension_unique(&oid).unwrap().is_some();
    assert!(has(oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER));
    assert!(has(oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER));
    let ca = gateway.alice().intercept_ca_pem;
    let (_, ca) = parse_x509_pem(ca.as_bytes()).unwrap();
    let ca = ca.parse_x509().unwrap();
    assert!(leaf.validity().not_after <= ca.validity().not_after);
    assert_ne!(leaf.public_key().raw, ca.public_key().raw, "CT-21: not the CA's key");
    let bound = ca.basic_constraints().unwrap().unwrap().value.path_len_constraint;
    assert_eq!(bound, Some(0), "the CA signs leafs only");
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_18_openssl_and_python_accept_the_leaf_in_their_strict_modes() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let leaf = folder.path().join("leaf.pem");
    std::fs::write(&leaf, pem(&inner.shown[0])).unwrap();
    let run = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "site.test"])
        .args(["-CAfile", &alice.file("intercept-ca.pem")])
        .arg(&leaf)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));

    let script = r#"
import socket, ssl, sys
proxy_port, ca, authorization, host, port = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
raw = socket.create_connection(("127.0.0.1", int(proxy_port)), 20)
raw.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Proxy-Authorization: {authorization}\r\n\r\n".encode())
assert b" 200 " in raw.recv(4096)
with context.wrap_socket(raw, server_hostname=host) as tls:
    tls.sendall(f"GET /hello HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert b"200" in tls.recv(4096)
"#;
    let credentials = gateway.browser().explicit_client().unwrap().credentials.unwrap();
    let explicit = gateway.ports().explicit.to_string();
    let port = origin.port().to_string();
    let ca = alice.file("intercept-ca.pem");
    let run = tokio::task::spawn_blocking(move || {
        Command::new("python3")
            .args(["-c", script, &explicit, &ca, &credentials, "site.test", &port])
            .output()
    });
    let run = run.await.unwrap().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_19_odd_names_get_a_leaf_or_a_clean_refusal() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let label = "a".repeat(63);
    let long = format!("{label}.{label}.{label}.{}.test", "b".repeat(56));
    assert_eq!(long.len(), 253);
    for name in ["127.0.0.1", "xn--bcher-kva.test", "under_score.test", &long] {
        let got = gateway.browser().connect(&origin.url(name, "/")).await;
        if let Ok(mut inner) = got {
            inner.get("/hello").await.unwrap();
        }
    }
    let too_long = format!("{}.test", "a".repeat(64));
    assert!(gateway.browser().open(&format!("{too_long}:443")).await.is_err());
    assert_eq!(gateway.admin_get("/livez").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_11_a_client_that_offers_nothing_known_gets_an_alert() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.url("site.test", "/hello");
    let unknown = gateway.browser().offers(&["spdy/3"]).connect(&url).await;
    assert!(unknown.is_err_and(|error| error.is_cut()));
    let none = gateway.browser().offers(&[]).connect(&url).await;
    assert_eq!(none.unwrap().get("/hello").await.unwrap().status, 200, "no ALPN means HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_refuses_the_leaf_is_recorded_as_pinned() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").start();
    // A client that trusts another CA refuses this one's leaf with an alert.
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let browser = gateway.browser().leg(tests::Leg::Http1);
    let authority = format!("site.test:{}", origin.port());
    let stream = browser.open(&authority).await.unwrap();
    assert!(gateway.browser_of(&bob).inner(stream, &authority).await.is_err());
    let event = gateway
        .await_event("acme", |event| {
            crate::says(event, "client_pinned") || event["decrypt_reason"] == "client_pinned"
        })
        .await;
    assert_eq!(event["host"], "site.test", "{event}");
    let pinned = gateway.admin_get("/v1/pinned?tenant=acme").await.unwrap().text();
    assert!(pinned.contains("site.test") && pinned.contains("bypass"), "{pinned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_06_a_hello_in_single_bytes_is_read_whole() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let browser = gateway.browser();
    let authority = format!("site.test:{}", origin.port());
    let stream = browser.open(&authority).await.unwrap();
    // A relay that passes the client's first flight on byte by byte.
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let (mut from_gateway, mut to_gateway) = tokio::io::split(stream);
        let (mut from_client, mut to_client) = tokio::io::split(far);
        let down = tokio::spawn(async move {
            tokio::io::copy(&mut from_gateway, &mut to_client).await.ok();
        });
        let (mut byte, mut count) = ([0], 0_u32);
        while let Ok(1) = from_client.read(&mut byte).await {
            if to_gateway.write_all(&byte).await.is_err() {
                break;
            }
            to_gateway.flush().await.ok();
            count += 1;
            if count < 2_000 {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
        down.abort();
    });
    let mut inner = browser.inner(Box::new(near), &authority).await.unwrap();
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
}
