//! BoringSSL as a DTLS 1.3 client: a peer that shares nothing with our side. Built by `tests/run --long`.

use std::path::Path;
use std::process::{Command, Output};

use tests::{Gateway, Identity, Origin};

/// What the peer says and how it ends.
async fn peer(gateway: &Gateway, identity: &Identity, pings: u16, key_updates: u16) -> Output {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("boringssl/target/debug/boringssl-peer");
    let mut command = Command::new(program);
    command.args([gateway.address().to_string(), gateway.name("acme")]);
    command.args([identity.file("client.pem"), identity.file("tunnel-ca.pem")]);
    command.args([pings.to_string(), key_updates.to_string()]);
    let run = tokio::task::spawn_blocking(move || command.output()).await.expect("its thread");
    run.expect("the peer: cargo build --manifest-path tests/boringssl/Cargo.toml")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs BoringSSL built: tests/run --long"]
async fn boringssl_gets_a_tunnel_and_renews_its_keys_in_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let output = peer(&gateway, &gateway.alice(), 300, 20).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:#?}");
    assert!(said.contains("DTLSv1.3"), "{said}");
    assert!(said.contains("300 pings answered, keys renewed 20 times"), "{said}");
    let session = |event: &serde_json::Value| event["type"] == "session";
    let event = gateway.await_event("acme", session).await;
    for (field, value) in [("access_method", "dtls"), ("user", "alice@acme.test")] {
        assert_eq!(event[field], value, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs BoringSSL built: tests/run --long"]
async fn boringssl_is_refused_with_somebody_elses_certificate_or_a_revoked_one() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let other = Gateway::start(&origin);
    let stranger = other.alice();
    // It trusts our gateway; only its own certificate is another's.
    std::fs::write(stranger.file("tunnel-ca.pem"), &gateway.alice().tunnel_ca_pem).unwrap();
    let output = peer(&gateway, &stranger, 1, 0).await;
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    gateway.await_refusal("acme", "foreign_certificate").await;
    let revoked = gateway.enroll("acme", "bob@acme.test", "laptop-9");
    gateway.revoke_device("acme", "laptop-9");
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    let output = peer(&gateway, &revoked, 1, 0).await;
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    gateway.await_refusal("acme", "revoked").await;
}
