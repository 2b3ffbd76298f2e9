//! What a client says on an open WebSocket is judged message by message, where the catalog can read it.

use std::time::Duration;

use serde_json::{Value, json};
use tests::client::websocket::{self, WebSocket};
use tests::{Gateway, Http, Origin};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// Far longer than a policy takes to be in force.
const WAIT_MAX: Duration = Duration::from_secs(20);

const HOST: &str = "api.openai.com";
const SETTING: &str = r#"{"type":"input_audio_buffer.clear"}"#;
const PROMPT: &str = r#"{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"hello"}]}}"#;

async fn open(gateway: &Gateway, origin: &Origin, http: Http, path: &str) -> WebSocket {
    let inner = gateway.browser().http(http).connect(&origin.url(HOST, "/")).await.unwrap();
    let authority = format!("{HOST}:{}", origin.port());
    let offer = ("sec-websocket-extensions", "permessage-deflate");
    websocket::open(inner, &authority, path, &[offer]).await.unwrap().expect_open()
}

/// Sends a frame that is echoed.
async fn passes(socket: &mut WebSocket, opcode: u8, payload: &str) {
    socket.send(opcode, payload.as_bytes()).await.unwrap();
    let echoed = socket.receive().await.unwrap();
    assert_eq!(echoed, Some((opcode, payload.as_bytes().to_vec())));
}

/// Sends a message that ends the WebSocket: policy violation (RFC 6455 section 7.4.1).
async fn is_stopped(socket: &mut WebSocket, payload: &[u8]) {
    socket.send(TEXT, payload).await.unwrap();
    let closed = socket.receive().await.unwrap();
    assert_eq!(closed, Some((CLOSE, 1_008_u16.to_be_bytes().to_vec())));
    socket.send(CLOSE, &1_008_u16.to_be_bytes()).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_on_a_websocket_is_stopped_by_the_rule_that_stops_prompts() {
    let rules = "  - { name: watch, match: { activity: [post] }, action: alert }\n  \
                 - { name: no prompts, match: { category: [generative-ai], activity: [post] }, \
                 action: block }\n";
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).host(HOST).policy(rules).start();
    for http in [Http::One, Http::Two] {
        let path = format!("/v1/realtime?model=gpt-realtime&{}", http.alpn());
        let mut socket = open(&gateway, &origin, http, &path).await;
        passes(&mut socket, TEXT, SETTING).await;
        passes(&mut socket, PING, "are you there").await;
        is_stopped(&mut socket, PROMPT.as_bytes()).await;
        let event = gateway.await_transaction("acme", &path).await;
        assert_eq!(event["action"], "block", "{event}");
        assert_eq!(event["rule"], "no prompts", "{event}");
        assert_eq!(event["block_reason"], "rule", "{event}");
        assert_eq!(event["alerts"], json!(["watch"]), "{event}");
        let operation = json!({
            "activity": "post", "object": "gpt-realtime", "action": "block", "rule": "no prompts",
        });
        assert_eq!(event["operations"], json!([operation]), "{event}");
        assert!(event["error"].is_null(), "{event}");
        for rule in ["watch", "no prompts"] {
            let of_it = |alert: &Value| alert["rule"] == rule && alert["parent_id"] == event["id"];
            gateway.await_event("acme", of_it).await;
        }
        // What is compressed could not be read: it was not offered on.
        let seen = origin.last(&path).unwrap();
        assert_eq!(seen.field("sec-websocket-extensions"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_read_takes_the_outcome_of_the_rule() {
    let block = "  - { name: no prompts, match: { app: [openai], activity: [post] }, \
                 action: block }\n";
    let skip = "  - { name: no prompts, match: { app: [openai], activity: [post] }, \
                action: block, unobtainable: skip }\n";
    let long = format!(r#"{{"type":"ping","pad":"{}"}}"#, "a".repeat(300_000));
    let origin = Origin::start().await;
    for (rules, stops) in [(block, true), (skip, false)] {
        let gateway = Gateway::build(&origin).host(HOST).policy(rules).start();
        for message in ["no JSON", long.as_str()] {
            let mut socket = open(&gateway, &origin, Http::Two, "/v1/realtime").await;
            if stops {
                is_stopped(&mut socket, message.as_bytes()).await;
                let event = gateway.await_transaction("acme", "/v1/realtime").await;
                assert_eq!(event["block_reason"], "unobtainable", "{event}");
            } else {
                passes(&mut socket, TEXT, message).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_is_on_record() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).host(HOST).start();
    let path = "/v1/realtime?model=gpt-realtime";
    let mut socket = open(&gateway, &origin, Http::Two, path).await;
    for message in [SETTING, PROMPT, PROMPT] {
        passes(&mut socket, TEXT, message).await;
    }
    passes(&mut socket, CLOSE, "\u{3}\u{3}").await;
    socket.end().await.ok();
    let event = gateway.await_transaction("acme", path).await;
    assert_eq!(event["action"], "allow", "{event}");
    let operation = json!({ "activity": "post", "object": "gpt-realtime", "action": "allow" });
    assert_eq!(event["operations"], json!([operation]), "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_policy_holds_for_the_messages_of_an_open_websocket() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).host(HOST).start();
    let mut socket = open(&gateway, &origin, Http::Two, "/v1/realtime").await;
    passes(&mut socket, TEXT, PROMPT).await;
    let rules = "  - { name: no prompts, match: { activity: [post] }, action: block }\n";
    gateway.set_policy("acme", rules);
    // Until it is in force each is echoed.
    let closed = tokio::time::timeout(WAIT_MAX, async {
        loop {
            socket.send(TEXT, PROMPT.as_bytes()).await.unwrap();
            match socket.receive().await.unwrap() {
                Some((TEXT, _)) => {}
                other => break other,
            }
        }
    });
    assert_eq!(closed.await.unwrap(), Some((CLOSE, 1_008_u16.to_be_bytes().to_vec())));
}
