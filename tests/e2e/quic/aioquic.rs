//! A MASQUE client by others: aioquic (tests/masque/client.py).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::dns::Dns;
use tests::{Gateway, Identity, Origin};

use super::datagrams::echo_server;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("masque/client.py")
}

/// Runs the client; its one line of JSON.
async fn run(gateway: &Gateway, identity: &Identity, options: &[&str], act: &[&str]) -> Value {
    let mut command = Command::new("python3");
    command.arg(script()).arg(gateway.ports().tunnel.to_string()).arg(gateway.name("acme"));
    command.arg(identity.file("tunnel-ca.pem")).args(options).args(act);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.expect("python3");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn aioquic_fetches_a_page_decrypted_by_the_tenants_ca() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let (client, ca) = (alice.file("client.pem"), alice.file("intercept-ca.pem"));
    let url = origin.url("site.test", "/bytes/300000");
    let said = run(&gateway, &alice, &["--identity", &client], &["fetch", &ca, &url]).await;
    assert_eq!((&said["status"], &said["bytes"]), (&json!(200), &json!(300_000)), "{said}");
    assert_eq!((&said["issuer"], &said["tickets"]), (&json!("Sluice"), &json!(0)));
    let event = gateway.await_transaction("acme", "/bytes/300000").await;
    assert_eq!(
        (&event["access_method"], &event["user"]),
        (&json!("quic"), &json!("alice@acme.test"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn aioquic_sends_udp_in_datagrams_and_in_capsules_and_asks_a_name_server() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let client = alice.file("client.pem");
    let options = ["--identity", client.as_str()];
    let port = echo_server().await.to_string();
    let said = run(&gateway, &alice, &options, &["udp", "127.0.0.1", &port, "aabb", "cc"]).await;
    assert_eq!(said["connect"][":status"], "200", "{said}");
    assert_eq!(said["datagrams"], json!(["aabb", "cc"]), "{said}");
    let act = ["udp", "--capsules", "127.0.0.1", &port, "dd"];
    let said = run(&gateway, &alice, &options, &act).await;
    assert_eq!(said["datagrams"], json!(["dd"]), "{said}");
    let dns = Dns::start(|_, _| "192.0.2.7".parse().unwrap()).await;
    let port = dns.address.port().to_string();
    let query = "123401000001000000000000037777770473697465047465737400000100 01".replace(' ', "");
    let said = run(&gateway, &alice, &options, &["udp", "127.0.0.1", &port, &query]).await;
    let answer = said["datagrams"][0].as_str().unwrap_or_default();
    assert!(answer.starts_with("1234") && answer.ends_with("c0000207"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aioquic_is_told_why_it_gets_no_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let ask = ["ask", ":method=CONNECT", ":authority=site.test:443"];
    let said = run(&gateway, &alice, &[], &ask).await;
    // certificate_required, as an alert in a QUIC error.
    assert_eq!(said["head"]["closed"], 0x100 + 116, "{said}");
    gateway.await_refusal("acme", "no_certificate").await;
    let client = alice.file("client.pem");
    let ask = [
        "ask",
        ":method=CONNECT",
        ":protocol=connect-ip",
        ":scheme=https",
        ":authority=x",
        ":path=/",
    ];
    let said = run(&gateway, &alice, &["--identity", &client], &ask).await;
    assert_eq!(said["head"][":status"], "501", "{said}");
    let why = said["head"]["proxy-status"].as_str().unwrap_or_default();
    assert!(why.contains("protocol_not_supported"), "{said}");
}
