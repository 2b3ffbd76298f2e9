//! h3i, quiche's HTTP/3 tester, as a client: a peer that shares nothing with our side, neither QUIC nor TLS nor HTTP/3.
//! Built by `tests/run --long`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tests::client::http3::Carried;
use tests::client::udp::UdpFlow;
use tests::{Gateway, Origin};

use crate::entry::Issuer;

/// More than it has questions.
const QUESTIONS_MAX: usize = 100;

/// Asks all its questions of the server at these addresses in turn.
async fn ask(server: &str, authority: &str, addresses: &[SocketAddr]) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("h3i/target/debug/h3i-peer");
    let mut command = Command::new(program);
    command.args([server, authority]).args(addresses.iter().map(SocketAddr::to_string));
    let run = tokio::task::spawn_blocking(move || command.output()).await.expect("its thread");
    let output = run.expect("the peer: cargo build --manifest-path tests/h3i/Cargo.toml");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs quiche built: tests/run --long"]
async fn h3_16_every_question_of_h3i_is_answered_by_tunnels() {
    let origin = Origin::start().await;
    // It has no certificate of its own.
    let identity = "identity: { require: token, jwks: keys.json, issuer: \"https://login.acme.test/\", \
                    audience: sluice }\n";
    let gateway = Gateway::build(&origin).settings(identity).configure();
    gateway.write("tenants/acme/keys.json", &Issuer::new().keys());
    gateway.restart();
    let name = format!("{}:443", gateway.name("acme"));
    ask("tunnel", &name, &[gateway.address()]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs quiche built: tests/run --long"]
async fn h3_16_every_question_of_h3i_is_answered_inside_tunnels() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().tunnel().await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    // A flow takes one connection.
    let mut flows = Vec::new();
    for _ in 0..QUESTIONS_MAX {
        let flow = UdpFlow::open(&tunnel, &gateway.name("acme"), "site.test", origin.port()).await;
        flows.push(Carried::flow(flow.unwrap()).await.unwrap());
    }
    let addresses: Vec<_> = flows.iter().map(Carried::address).collect();
    ask("inside", &authority, &addresses).await;
}
