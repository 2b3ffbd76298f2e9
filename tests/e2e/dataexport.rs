//! The pull iterator: what collectors for the commercial product do, done to the gateway.

use std::process::Command;

use serde_json::Value;
use tests::{Fault, Gateway, Origin, Request, sha256_hex};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn settings() -> String {
    let hash = sha256_hex(TOKEN.as_bytes());
    format!("events: {{ tokens: [{{ name: collector, sha256: {hash} }}] }}\n")
}

/// One request, as a collector sends it.
async fn pull(gateway: &Gateway, path: &str, token: &str) -> (u16, Value) {
    let path = format!("/api/v2/events/dataexport/{path}");
    let request = Request::get(&path).field("Netskope-Api-Token", token);
    let reply = gateway.admin(request).await.unwrap();
    assert!(
        reply.status == 401 || reply.field("ratelimit-remaining").is_some() || reply.status >= 400
    );
    (reply.status, reply.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_keeps_its_place_and_is_its_tenants_alone() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).settings(&settings()).tenant("beta").start();
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    for number in 0..5 {
        inner.get(&format!("/hello?{number}")).await.unwrap();
    }
    gateway.await_transaction("acme", "/hello?4").await;
    let next = "events/transaction?index=one&operation=next";
    let (status, first) = pull(&gateway, next, TOKEN).await;
    assert_eq!((status, &first["ok"]), (200, &1.into()), "{first}");
    let urls = |page: &Value| -> Vec<String> {
        let all = page["result"].as_array().unwrap();
        all.iter().map(|one| one["x-cs-url"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(urls(&first).len(), 5, "{first}");
    assert_eq!(first["result"][0]["cs-username"], "alice@acme.test");
    let newest = first["timestamp_hwm"].as_i64().unwrap();
    assert!(newest > 1_700_000_000 && first["wait_time"].as_i64().is_some());
    let (_, none) = pull(&gateway, next, TOKEN).await;
    assert_eq!(
        (none["result"].as_array().unwrap().len(), &none["timestamp_hwm"]),
        (0, &newest.into())
    );

    // Its place is kept over a crash; the last page that had something can be had again.
    gateway.kill();
    gateway.restart();
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    inner.get("/hello?later").await.unwrap();
    gateway.await_transaction("acme", "later").await;
    let (_, later) = pull(&gateway, next, TOKEN).await;
    assert_eq!(urls(&later).len(), 1, "{later}");
    let resend = "events/transaction?index=one&operation=resend";
    let (_, again) = pull(&gateway, resend, TOKEN).await;
    assert_eq!(urls(&again), urls(&later));
    assert_eq!(pull(&gateway, next, TOKEN).await.1["result"].as_array().unwrap().len(), 0);

    // Other indices, kinds and operations have places of their own.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let head = "events/transaction?index=one&operation=head";
    assert_eq!(urls(&pull(&gateway, head, TOKEN).await.1).len(), 6);
    let two = format!("events/transaction?index=two&operation={newest}");
    assert!(!urls(&pull(&gateway, &two, TOKEN).await.1).is_empty());
    let tail = "events/transaction?index=three&operation=tail";
    assert_eq!(urls(&pull(&gateway, tail, TOKEN).await.1).len(), 0);
    assert_eq!(pull(&gateway, "alerts/dlp?index=one&operation=next", TOKEN).await.0, 200);

    // The token says whose events they are, and nothing else opens them.
    for wrong in ["", "another-token-that-nobody-has-made"] {
        assert_eq!(pull(&gateway, next, wrong).await.0, 401, "{wrong:?}");
    }
    for (path, status) in [
        ("events/transaction?operation=next", 400),
        ("events/transaction?index=one&operation=back", 400),
        ("events/transaction?index=a/b&operation=next", 400),
        ("events/unheard?index=one&operation=next", 404),
    ] {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert_eq!(pull(&gateway, path, TOKEN).await.0, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_told_to_wait() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).settings(&settings()).start();
    let path = "events/network?index=busy&operation=next";
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(pull(&gateway, path, TOKEN).await.0);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(statuses[0], 200);
}

/// A gateway whose log already holds this many transactions, as one that ran before left them.
fn full_log(origin: &Origin, events: usize) -> Gateway {
    let gateway = Gateway::build(origin).settings(&settings()).configure();
    let folder = gateway.folder().join("data/events/acme");
    std::fs::create_dir_all(&folder).unwrap();
    let line = |number: usize| {
        format!(
            "{{\"id\":\"{number}\",\"time\":\"2026-01-02T03:04:05.000006Z\",\"type\":\"transaction\",\
             \"state\":\"close\",\"tenant\":\"acme\",\"url\":\"https://site.test/{number}\"}}\n"
        )
    };
    let lines: String = (0..events).map(line).collect();
    std::fs::write(folder.join(format!("{:020}.ndjson", 0)), lines).unwrap();
    gateway.restart();
    gateway
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_ten_thousand_records_at_most_and_says_that_there_is_more() {
    let origin = Origin::start().await;
    let gateway = full_log(&origin, 25_000);
    let mut pages = Vec::new();
    let mut next = 0;
    for _ in 0..4 {
        let (status, page) =
            pull(&gateway, "events/transaction?index=one&operation=next", TOKEN).await;
        assert_eq!(status, 200, "{page}");
        let records = page["result"].as_array().unwrap();
        for record in records {
            assert_eq!(record["x-cs-url"], format!("https://site.test/{next}"));
            next += 1;
        }
        pages.push((records.len(), page["wait_time"] == 0));
    }
    assert_eq!(pages, [(10_000, true), (10_000, true), (5_000, false), (0, false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_consumer_of_an_index_is_told_that_it_is_in_use() {
    let origin = Origin::start().await;
    let gateway = full_log(&origin, 200_000);
    // None of the events is of this kind: each request looks through all of them.
    let path = "alerts/dlp?index=one&operation=head";
    for _ in 0..20 {
        let [one, two] = [pull(&gateway, path, TOKEN), pull(&gateway, path, TOKEN)];
        let (one, two) = tokio::join!(one, two);
        let busy = [&one, &two].into_iter().find(|(status, _)| *status == 409);
        if let Some((_, body)) = busy {
            assert!(body.to_string().contains("another request is using this index"), "{body}");
            let other = pull(&gateway, "alerts/dlp?index=two&operation=head", TOKEN).await;
            assert_eq!(other.0, 200, "another index is free");
            return;
        }
        // One was through before the other came.
        assert_eq!((one.0, two.0), (200, 200));
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    }
    panic!("two requests for one index were never refused");
}

/// The product's own Python library, unmodified.
const SDK: &str = r#"
import json, os, sys
from netskope_api.iterator.const import Const
from netskope_api.iterator.netskope_iterator import NetskopeIterator

def iterator(kind, alert=None):
    return NetskopeIterator({
        Const.NSKP_TOKEN: os.environ["TOKEN"], Const.NSKP_TENANT_HOSTNAME: os.environ["HOST"],
        Const.NSKP_ITERATOR_NAME: "splunk", Const.NSKP_EVENT_TYPE: kind, Const.NSKP_ALERT_TYPE: alert})

def all(one):
    records = []
    while True:
        page = one.next().json()
        assert page["ok"] == 1, page
        if not page["result"]:
            return records
        records += page["result"]

print(json.dumps({
    "application": all(iterator(Const.EVENT_TYPE_APPLICATION)),
    "page": all(iterator(Const.EVENT_TYPE_PAGE)),
    "network": all(iterator(Const.EVENT_TYPE_NETWORK)),
    "policy": all(iterator(Const.EVENT_TYPE_ALERT, Const.ALERT_TYPE_POLICY)),
    "head": len(iterator(Const.EVENT_TYPE_ALERT, Const.ALERT_TYPE_POLICY).head().json()["result"]),
    "since": len(iterator(Const.EVENT_TYPE_ALERT).download(1).json()["result"]),
}))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_public_sdk_pulls_over_https_unmodified() {
    let origin = Origin::start().await;
    let at = tempfile::tempdir().unwrap();
    let chain = origin.pki().chain("localhost", Fault::None);
    let file = |name: &str, text: String| {
        std::fs::write(at.path().join(name), text).unwrap();
        at.path().join(name).display().to_string()
    };
    let cert = file("cert.pem", chain.certificates_pem());
    let key = file("key.pem", chain.key_pem());
    let ca = file("ca.pem", origin.pki().root_pem());
    let rules = "  - { name: no uploads, match: { domain: [www.dropbox.com], method: [POST] }, action: block }\n  \
                 - { name: seen, match: { domain: [site.test] }, action: alert }";
    let gateway = Gateway::build(&origin)
        .policy(rules)
        .settings(&settings())
        .host("*.dropbox.com")
        .admin_tls(&cert, &key)
        .start();
    let browser = gateway.browser();
    browser.get(&origin.url("site.test", "/hello")).await.unwrap();
    let wait = std::time::Instant::now();
    loop {
        let run = gateway.command(&["events", "--tenant", "acme", "--json"]);
        if String::from_utf8_lossy(&run.stdout).contains("\"type\":\"alert\"") {
            break;
        }
        assert!(wait.elapsed().as_secs() < 20, "no alert in the log");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let host = format!("localhost:{}", gateway.ports().admin);
    let command = move || {
        let mut command = Command::new("python3");
        command
            .args(["-c", SDK])
            .env("TOKEN", TOKEN)
            .env("HOST", host)
            .env("REQUESTS_CA_BUNDLE", ca);
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        command.output().unwrap()
    };
    let run = tokio::task::spawn_blocking(command).await.unwrap();
    let complained = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{complained}");
    let pulled: Value = serde_json::from_slice(&run.stdout).unwrap();
    let alert = &pulled["policy"][0];
    assert_eq!(
        (&alert["alert"], &alert["alert_type"]),
        (&"yes".into(), &"policy".into()),
        "{pulled}"
    );
    assert_eq!(alert["user"], "alice@acme.test");
    assert_eq!(pulled["head"], pulled["policy"].as_array().unwrap().len());
    assert_eq!(pulled["since"], pulled["head"]);
}
