//! What is in a body: profiles found in held ones, and `alert` rules that look beside the transfer.

use std::io::Write as _;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tests::client::message::Request;
use tests::gateway::binary;
use tests::{Gateway, Http, Origin};

use crate::{denial, says, status};

/// A number that a network gives to testers.
const CARD: &str = "4111 1111 1111 1111";
const PROFILES: &str = "content:\n  profiles:\n    \
     payment-cards: { entities: [payment-card] }\n    \
     plans: { terms: [project apollo], patterns: [\"APL-[0-9]{4}\"], min_count: 2 }\n";
const NO_CARDS: &str = "  - { name: cards stay, match: { dlp: [payment-cards] }, action: block }";

fn gateway(origin: &Origin, rules: &str) -> Gateway {
    Gateway::build(origin).settings(PROFILES).policy(rules).start()
}

fn post(kind: &str, body: impl Into<Vec<u8>>) -> Request {
    Request::post("/echo", body.into()).field("Content-Type", kind)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_profile_describes_does_not_leave_whatever_form_it_has() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, NO_CARDS);
    let form = format!(
        "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.csv\"\r\n\r\n1;{CARD}\r\n--b--\r\n"
    );
    let json = json!({ "note": format!("pay\twith\n{CARD}\n") }).to_string();
    let requests = || {
        [
            post("text/plain", format!("card {CARD}")),
            post("application/x-www-form-urlencoded", format!("n={}", CARD.replace(' ', "+"))),
            post("application/json", json.clone()),
            post("multipart/form-data; boundary=b", form.clone()),
            post("application/json", gzip(&json)).field("Content-Encoding", "gzip"),
        ]
    };
    for http in [Http::One, Http::Two] {
        let browser = gateway.browser().http(http);
        let url = origin.url("site.test", "/echo");
        for request in requests() {
            let refused = denial(browser.send(&url, request).await);
            assert_eq!(refused.status, 403, "{refused:?}");
            assert!(!refused.text.contains("1111"), "{refused:?}");
        }
        let clean = format!("card {}", CARD.replace('4', "5"));
        assert_eq!(status(browser.send(&url, post("text/plain", clean)).await), 200);
    }
    assert_eq!(origin.requests().len(), 2, "only what is clean arrived");
    let blocked = gateway.await_event("acme", |event| says(event, "rule")).await;
    let hit = json!([{ "profile": "payment-cards", "entity": "payment-card", "count": 1 }]);
    assert_eq!((&blocked["dlp"], &blocked["inspection"]), (&hit, &"full".into()), "{blocked}");
    let alert = |event: &Value| event["type"] == "alert" && event["dlp"] == hit;
    assert_eq!(gateway.await_event("acme", alert).await["rule"], "cards stay");
    let events = gateway.events("acme").await.unwrap();
    assert!(!events.iter().any(|event| event.to_string().contains("1111 1111")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_unpacked_takes_the_outcome_of_the_rule() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, NO_CARDS);
    let url = origin.url("site.test", "/echo");
    let bomb = gzip(&"0".repeat(20 << 20));
    for (coding, body) in [("br", vec![1, 2, 3]), ("gzip", bomb), ("gzip", b"no gzip".to_vec())] {
        let request = post("text/plain", body).field("Content-Encoding", coding);
        assert_eq!(denial(gateway.browser().send(&url, request).await).status, 403, "{coding}");
    }
    gateway.await_event("acme", |event| says(event, "unobtainable:dlp")).await;
    assert!(origin.last("/echo").is_none());
}

/// An `alert` rule does not hold what it looks into.
#[tokio::test(flavor = "multi_thread")]
async fn alert_rules_look_into_bodies_beside_the_transfer() {
    let origin = Origin::start().await;
    let rules = "  - { name: watch plans, match: { dlp: [plans] }, action: alert }\n  \
                 - { name: watch source code, match: { file_type: [source-code] }, action: alert }";
    let gateway = gateway(&origin, rules);
    let source = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.rs\"\r\n\r\nfn main() {}\r\n--b--\r\n";
    for http in [Http::One, Http::Two] {
        let browser = gateway.browser().http(http);
        let send = async |path: &str, request: Request| {
            let request = Request { path: path.to_owned(), ..request };
            assert_eq!(status(browser.send(&origin.url("site.test", path), request).await), 200);
            gateway.await_transaction("acme", path).await
        };
        let tag = http.alpn();
        let plans = "Project Apollo, ticket APL-1234";
        let event = send(&format!("/echo?plans-{tag}"), post("text/plain", plans)).await;
        assert_eq!(event["alerts"], json!(["watch plans"]), "{event}");
        let hits = json!([
            { "profile": "plans", "entity": "terms", "count": 1 },
            { "profile": "plans", "entity": "patterns[0]", "count": 1 },
        ]);
        assert_eq!(event["dlp"], hits, "{event}");
        let parent = event["id"].clone();
        gateway.await_event("acme", |it| it["type"] == "alert" && it["parent_id"] == parent).await;
        let event = send(&format!("/echo?once-{tag}"), post("text/plain", "Project Apollo")).await;
        assert_eq!(event["alerts"], Value::Null, "fewer than two: {event}");
        let kind = "multipart/form-data; boundary=b";
        let event = send(&format!("/echo?code-{tag}"), post(kind, source)).await;
        assert_eq!(event["alerts"], json!(["watch source code"]), "{event}");
        assert_eq!((&event["file_name"], &event["file_type"]), (&json!("a.rs"), &json!("rs")));
        // Larger than is kept: it passes, and nothing is told.
        let large = vec![b'a'; 17 << 20];
        let event = send(&format!("/upload?large-{tag}"), post("text/plain", large)).await;
        assert_eq!(
            (&event["alerts"], &event["action"]),
            (&Value::Null, &"allow".into()),
            "{event}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_profiles_are_told_with_their_places() {
    let origin = Origin::start().await;
    let wrong = "content:\n  profiles:\n    cards:\n      entities: [payment-cards]\n      patterns: [\"(\"]\n";
    let gateway = Gateway::build(&origin).settings(wrong).expects_errors().configure();
    let run = Command::new(binary()).arg("check").arg(gateway.folder()).output().unwrap();
    let told = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    assert!(!run.status.success());
    assert!(
        told.contains("no entity is named `payment-cards`, expected perhaps `payment-card`"),
        "{told}"
    );
    assert!(told.contains("unclosed group"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_what_a_body_decides() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, NO_CARDS);
    let body = gateway.folder().join("body");
    for (text, action) in [(CARD, "block"), ("nothing", "allow")] {
        std::fs::write(&body, text).unwrap();
        let body = body.display().to_string();
        let asked = ["explain", "acme", "--url", "https://site.test/", "--json", "--body", &body];
        let told = gateway.command(&asked);
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(told["action"], action, "{told}");
    }
}
