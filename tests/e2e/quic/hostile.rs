//! Clients that are let in and then break the rules of QUIC (tests/masque/hostile.py): the connection ends with the
//! error that says so, or what it costs stays bounded; nobody else's tunnel suffers.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tests::client::http3::Carried;
use tests::client::quic::QuicTunnel;
use tests::client::udp::UdpFlow;
use tests::{Gateway, Identity, Origin};
use tokio::time::timeout;

use super::{SOON, fetch};

/// Codes of RFC 9000 section 20.1.
const INTERNAL_ERROR: u64 = 1;
const FLOW_CONTROL_ERROR: u64 = 3;
const STREAM_LIMIT_ERROR: u64 = 4;
const FRAME_ENCODING_ERROR: u64 = 7;
const CONNECTION_ID_LIMIT_ERROR: u64 = 9;
const PROTOCOL_VIOLATION: u64 = 10;
const CRYPTO_BUFFER_EXCEEDED: u64 = 13;

struct World {
    origin: Origin,
    gateway: Gateway,
    alice: Identity,
    /// Of somebody else.
    tunnel: QuicTunnel,
    /// A flow of alice's to an origin: what goes there is decrypted.
    inside: Option<Carried>,
}

impl World {
    async fn new() -> Self {
        let origin = Origin::start().await;
        let gateway = Gateway::start(&origin);
        let alice = gateway.alice();
        let bob = gateway.enroll("acme", "bob@acme.test", "laptop-2");
        let tunnel = gateway.browser_of(&bob).quic().await.unwrap();
        Self { origin, gateway, alice, tunnel, inside: None }
    }

    /// Alice breaks the rules inside her tunnel from here on, once.
    async fn inside(&mut self) {
        let tunnel = self.gateway.browser().tunnel().await.unwrap();
        let (proxy, port) = (self.gateway.name("acme"), self.origin.port());
        let flow = UdpFlow::open(&tunnel, &proxy, "site.test", port).await.unwrap();
        self.inside = Some(Carried::flow(flow).await.unwrap());
    }

    /// What came of an attack, and by how much the gateway has grown while the other tunnel was served.
    async fn attack(&self, name: &str, options: &[&str]) -> (Value, u64) {
        let page = || fetch(&self.gateway, &self.tunnel, &self.origin, "/hello");
        assert_eq!(page().await.unwrap().status, 200);
        let before = self.gateway.resident_bytes();
        let mut most = before;
        let attacking = self.run(name, options);
        tokio::pin!(attacking);
        let output = loop {
            tokio::select! {
                output = &mut attacking => break output,
                page = timeout(SOON, page()) => {
                    assert_eq!(page.expect("not served").unwrap().status, 200, "{name}");
                    most = most.max(self.gateway.resident_bytes());
                    tokio::time::sleep(SOON / 500).await;
                }
            }
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}{output:?}");
        most = most.max(self.gateway.resident_bytes());
        let said = serde_json::from_slice(&output.stdout);
        (said.unwrap_or_else(|error| panic!("{name}: {error}")), most - before)
    }

    async fn run(&self, name: &str, options: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("masque/hostile.py");
        let mut command = Command::new("python3");
        command.arg(script);
        match &self.inside {
            None => {
                command.arg(self.gateway.ports().tunnel.to_string()).arg(self.gateway.name("acme"));
                command.arg(self.alice.file("tunnel-ca.pem"));
            }
            Some(flow) => {
                command.arg(flow.address().port().to_string()).arg("site.test");
                command.arg(self.alice.file("intercept-ca.pem"));
            }
        }
        command.arg(self.alice.file("client.pem"));
        command.arg(name).args(options).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        output.unwrap().expect("python3")
    }

    /// Attacks that the gateway ends with this code.
    async fn closes(&self, code: u64, name: &str, options: &[&str]) {
        let (said, grown) = self.attack(name, options).await;
        assert_eq!(said["closed"]["code"], code, "{name}: {said}");
        assert_eq!(said["alive"], false, "{name}: {said}");
        assert!(grown < 16 << 20, "{name}: {grown} bytes");
    }

    /// Attacks that the connection outlives, for no more than so much memory.
    async fn bears(&self, bytes: u64, name: &str, options: &[&str]) -> Value {
        let (said, grown) = self.attack(name, options).await;
        assert_eq!(
            (&said["closed"], &said["alive"]),
            (&Value::Null, &json!(true)),
            "{name}: {said}"
        );
        assert!(grown < bytes, "{name}: {grown} bytes");
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_21_ids_made_or_given_back_without_end_close_the_connection() {
    let world = World::new().await;
    world.closes(CONNECTION_ID_LIMIT_ERROR, "too_many_ids", &[]).await;
    world.closes(CONNECTION_ID_LIMIT_ERROR, "new_ids", &["--packets", "200"]).await;
    world.closes(PROTOCOL_VIOLATION, "retire_unissued", &[]).await;
    world.closes(PROTOCOL_VIOLATION, "retire_again", &["--packets", "2000"]).await;
    let slowly = ["--packets", "400", "--rate", "1000", "--burst", "1"];
    world.closes(PROTOCOL_VIOLATION, "retire_unseen", &slowly).await;
    let ended = |it: &Value| it["type"] == "session" && it["error"] == "quic_violation";
    let event = world.gateway.await_event("acme", ended).await;
    assert_eq!(
        (&event["user"], &event["error_side"]),
        (&json!("alice@acme.test"), &json!("client"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bounded_in_tunnels_is_bounded_inside_them() {
    let mut world = World::new().await;
    world.inside().await;
    world.closes(PROTOCOL_VIOLATION, "retire_again", &["--packets", "2000"]).await;
    world.inside().await;
    world.closes(CONNECTION_ID_LIMIT_ERROR, "new_ids", &["--packets", "200"]).await;
    world.inside().await;
    world.closes(CRYPTO_BUFFER_EXCEEDED, "crypto_beyond_the_buffer", &[]).await;
    world.inside().await;
    world.closes(INTERNAL_ERROR, "one_stream_in_gaps", &["--packets", "30"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_22_a_flood_of_path_challenges_is_answered_within_bounds() {
    let world = World::new().await;
    let said = world.bears(8 << 20, "challenges", &["--packets", "2000"]).await;
    // Nothing was acknowledged, so that the congestion window stays what it is at first: 64 packets.
    let (sent, received) = (said["sent"].as_u64().unwrap(), said["received"].as_u64().unwrap());
    assert!(sent > 2_000_000 && received < 96 << 10, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_24_streams_beyond_their_limits_and_in_pieces_cost_bounded_memory() {
    let world = World::new().await;
    // 22 MB, of which 352 bytes are kept.
    let many = ["--packets", "352", "--rate", "150"];
    world.bears(14 << 20, "gaps_in_large_pieces", &many).await;
    world.closes(STREAM_LIMIT_ERROR, "streams_beyond_the_limit", &[]).await;
    world.closes(FLOW_CONTROL_ERROR, "data_beyond_the_window", &[]).await;
    // The library's own name for more than a thousand pieces of one stream.
    world.closes(INTERNAL_ERROR, "one_stream_in_gaps", &["--packets", "30"]).await;
    world.closes(PROTOCOL_VIOLATION, "streams_in_gaps", &["--packets", "800"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_25_gaps_in_crypto_frames_are_bounded_before_and_after_the_handshake() {
    let world = World::new().await;
    world.closes(CRYPTO_BUFFER_EXCEEDED, "crypto_beyond_the_buffer", &[]).await;
    world.closes(INTERNAL_ERROR, "crypto_in_gaps", &["--packets", "30"]).await;
    world.closes(CRYPTO_BUFFER_EXCEEDED, "initial_crypto_beyond_the_buffer", &[]).await;
    world.closes(INTERNAL_ERROR, "initial_crypto_in_gaps", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_of_what_was_never_sent_close_the_connection() {
    let world = World::new().await;
    world.closes(PROTOCOL_VIOLATION, "acknowledged_unsent", &[]).await;
    world.closes(PROTOCOL_VIOLATION, "acknowledged_everything", &["--packets", "200"]).await;
    world.closes(FRAME_ENCODING_ERROR, "frames_unknown", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_27_a_client_that_claims_address_after_address_is_no_amplifier() {
    let world = World::new().await;
    let (said, grown) = world.attack("addresses", &["--packets", "2000"]).await;
    let (sent, got) = (said["sent"].as_u64().unwrap(), said["elsewhere"].as_u64().unwrap());
    assert!(got <= 3 * sent, "{got} bytes for {sent}, to addresses that never asked");
    assert_eq!(said["alive"], false, "{said}");
    assert!(grown < 16 << 20, "{grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_29_keyupdate_as_often_as_a_client_likes() {
    let world = World::new().await;
    world.bears(8 << 20, "updates", &["--packets", "50"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_29_ecn_packets_are_marked_and_marks_are_told_of() {
    let world = World::new().await;
    let said = world.bears(8 << 20, "marks", &["--packets", "50"]).await;
    // Until it sees that aioquic does not count them.
    assert!(said["marked"].as_u64() > Some(0), "none of its packets is capable of ECN: {said}");
    assert!(said["echoed"].as_u64() > Some(40), "our marks are not counted: {said}");
}
