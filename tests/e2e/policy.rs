//! Rules decide: block, coach, alert, redirect, set_headers, and changes of mind.

use std::time::{Duration, Instant};

use tests::{Gateway, Http, Origin, Request};

use crate::denial;

#[tokio::test(flavor = "multi_thread")]
async fn a_block_rule_answers_403_and_nothing_reaches_the_origin() {
    let origin = Origin::start().await;
    let rule =
        "  - { name: no secrets, match: { url: [\"*/secret\"] }, action: block, message: Ask Bo. }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    for http in [Http::One, Http::Two] {
        let browser = gateway.browser().http(http);
        let refused = denial(browser.get(&origin.url("site.test", "/secret")).await);
        assert_eq!(refused.status, 403);
        assert!(refused.text.contains("no secrets") && refused.text.contains("Ask Bo."));
        let passed = browser.get(&origin.url("site.test", "/hello")).await;
        assert_eq!(passed.unwrap().status, 200);
    }
    assert!(origin.last("/secret").is_none());
    let event = gateway.await_transaction("acme", "/secret").await;
    assert_eq!((&event["action"], &event["rule"]), (&"block".into(), &"no secrets".into()));
    let alert = gateway
        .await_event("acme", |one| one["type"] == "alert" && one["parent_id"] == event["id"])
        .await;
    assert_eq!(alert["rule"], "no secrets");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_domain_is_not_even_dialled() {
    let origin = Origin::start().await;
    let rule = "  - { name: no site, match: { domain: [site.test] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let refused = denial(gateway.browser().get(&origin.url("site.test", "/hello")).await);
    assert_eq!(refused.status, 403);
    assert!(origin.connections().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn default_block_lets_only_the_allowed_pass() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    gateway.write(
        "tenants/acme/policy.yaml",
        "version: 1\nrules:\n  - { name: ours, match: { domain: [ours.test] }, action: allow }\ndefault: block\n",
    );
    gateway.restart();
    assert_eq!(
        gateway.browser().get(&origin.url("ours.test", "/hello")).await.unwrap().status,
        200
    );
    assert_eq!(denial(gateway.browser().get(&origin.url("site.test", "/hello")).await).status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_rule_sends_the_client_elsewhere() {
    let origin = Origin::start().await;
    let rule = "  - name: use ours\n    match: { domain: [theirs.test] }\n    action: redirect\n    location: https://ours.test/start\n";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let got = gateway.browser().get(&origin.url("theirs.test", "/x")).await.unwrap();
    assert!((301..=308).contains(&got.status), "{}", got.status);
    assert_eq!(got.field("location"), Some("https://ours.test/start"));
    assert!(origin.last("/x").is_none());
    let event = gateway.await_transaction("acme", "/x").await;
    assert_eq!((&event["action"], &event["rule"]), (&"redirect".into(), &"use ours".into()));
    assert_eq!(event["category"], "unknown", "what replay needs of it: {event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_headers_rule_replaces_what_the_client_sent() {
    let origin = Origin::start().await;
    let rule = "  - name: only us\n    match: { domain: [site.test] }\n    action: set_headers\n    headers: { X-Restrict: acme.test }\n";
    let gateway = Gateway::build(&origin).policy(rule).start();
    for http in [Http::One, Http::Two] {
        let request = Request::get("/").field("x-restrict", "evil.test");
        let url = origin.url("site.test", "/echo");
        assert_eq!(gateway.browser().http(http).send(&url, request).await.unwrap().status, 200);
        let seen = origin.last("/echo").unwrap();
        let values: Vec<_> = seen
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("x-restrict"))
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(values, ["acme.test"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_rule_lets_pass_and_tells() {
    let origin = Origin::start().await;
    let rules = "  - { name: watch posts, match: { method: [POST] }, action: alert }\n  - { name: fine, match: { method: [POST] }, action: allow }";
    let gateway = Gateway::build(&origin).policy(rules).start();
    let url = origin.url("site.test", "/echo");
    assert_eq!(gateway.browser().send(&url, Request::post("/", "x")).await.unwrap().status, 200);
    let event = gateway.await_transaction("acme", "/echo").await;
    assert_eq!(event["alerts"], serde_json::json!(["watch posts"]));
    assert_eq!(event["rule"], "fine");
    gateway.await_event("acme", |one| one["type"] == "alert" && one["rule"] == "watch posts").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_edit_is_in_force_within_a_second() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    gateway.set_policy(
        "acme",
        "  - { name: now closed, match: { url: [\"*/hello\"] }, action: block }",
    );
    let written = Instant::now();
    while inner.get("/hello").await.unwrap().status == 200 {
        assert!(written.elapsed() < Duration::from_millis(1_200), "not in force after 1 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bypass_rule_leaves_the_origins_own_certificate() {
    let origin = Origin::start().await;
    let settings = "decrypt:\n  rules:\n    - { name: bank, match: { domain: [bank.test] }, action: bypass }\n";
    let gateway = Gateway::build(&origin).settings(settings).start();
    let browser = gateway.browser();
    let authority = format!("bank.test:{}", origin.port());
    let stream = browser.open(&authority).await.unwrap();
    let trusted = tests::client::tls::config(&origin.pki().root_pem(), None, &["h2"]).unwrap();
    let mut inner = tests::Inner::tls(stream, &authority, trusted.into()).await.unwrap();
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    drop(inner);
    let flow = gateway
        .await_event("acme", |event| event["type"] == "flow" && event["host"] == "bank.test")
        .await;
    assert_eq!(flow["decrypted"], false, "{flow}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_rule_holds_the_upload_until_it_is_decided() {
    let origin = Origin::start().await;
    let rule = "  - { name: no keys, match: { file_name: [\"*.pem\"] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let form = |name: &str| {
        let body = format!(
            "--b\r\ncontent-disposition: form-data; name=\"f\"; filename=\"{name}\"\r\ncontent-type: application/octet-stream\r\n\r\nDATA\r\n--b--\r\n"
        );
        Request::post("/", body).field("content-type", "multipart/form-data; boundary=b")
    };
    let url = origin.url("site.test", "/upload");
    for http in [Http::One, Http::Two] {
        let browser = gateway.browser().http(http);
        assert_eq!(denial(browser.send(&url, form("id.pem")).await).status, 403);
        assert!(origin.last("/upload").is_none(), "not a byte reached the origin");
    }
    let passed = gateway.browser().send(&url, form("notes.txt")).await.unwrap();
    assert_eq!(passed.status, 200, "{}", passed.text());
    let event = gateway.await_event("acme", |one| one["file_name"] == "id.pem").await;
    assert_eq!(event["rule"], "no keys");
    // `printf DATA | sha256sum`
    let digest = "c97c29c7a71b392b437ee03fd17f09bb10b75e879466fc0eb757b2c4a78ac938";
    assert_eq!(event["sha256"], digest, "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operations_in_one_exchange_are_judged_each() {
    let origin = Origin::start().await;
    let rule =
        "  - { name: keep issues, match: { app: [github], activity: [delete] }, action: block }";
    let gateway = Gateway::build(&origin)
        .host("api.github.com")
        .policy(rule)
        .settings("limits: { hold_bytes: 64KiB }\n")
        .start();
    let url = origin.url("api.github.com", "/graphql");
    let mutation = |fields: &str| {
        let body = format!(r#"{{"query":"mutation {{ {fields} }}"}}"#);
        Request::post("/", body).field("content-type", "application/json")
    };
    let comment = "a: addComment(input: {body: 1}) { clientMutationId }";
    let delete = "b: deleteIssue(input: {}) { clientMutationId }";
    let both = mutation(&format!("{comment} {delete}"));
    assert_eq!(denial(gateway.browser().send(&url, both).await).status, 403);
    assert!(origin.last("/graphql").is_none(), "the strictest operation decides for the exchange");
    // Nor is there a way round it by what cannot be read.
    let padded = mutation(&format!("{comment} {delete} {}", " ".repeat(100_000)));
    let cut = Request::post("/", format!(r#"{{"query":"mutation {{ {delete} }}"#))
        .field("content-type", "application/json");
    for unread in [padded, cut] {
        assert_eq!(denial(gateway.browser().send(&url, unread).await).status, 403);
    }
    assert!(origin.last("/graphql").is_none());
    let event = gateway.await_event("acme", |one| one["operations"][0].is_object()).await;
    let operations: Vec<_> = event["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["activity"].as_str().unwrap(), one["action"].as_str().unwrap()))
        .collect();
    assert_eq!(operations, [("comment", "allow"), ("delete", "block")], "{event}");
    let alone = gateway.browser().send(&url, mutation(comment)).await.unwrap();
    assert_ne!(alone.status, 403, "{}", alone.text());
    assert!(origin.last("/graphql").is_some());
}
