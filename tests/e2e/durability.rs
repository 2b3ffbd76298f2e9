//! No event older than the flush interval is lost, however the process ends.

use std::collections::HashSet;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use tests::client::message::Body;
use tests::{Gateway, Http, Origin, Request};

/// Twice the default flush interval.
const FLUSHED: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn events_survive_a_kill_under_load() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    for number in 0..300 {
        inner.get(&format!("/hello?kept={number}.")).await.unwrap();
    }
    // Those above were answered, and then this much time passed: the promise covers them.
    tokio::time::sleep(FLUSHED).await;
    let noise = tokio::spawn(async move { while inner.get("/hello?noise").await.is_ok() {} });
    tokio::time::sleep(Duration::from_millis(50)).await;
    gateway.kill();
    noise.await.unwrap();
    gateway.restart();
    gateway.await_transaction("acme", "kept=299.").await;
    let events = gateway.events("acme").await.unwrap();
    for number in 0..300 {
        let part = format!("kept={number}.");
        let held =
            events.iter().filter(|event| event["url"].as_str().is_some_and(|u| u.contains(&part)));
        assert!(held.count() >= 1, "{part} is lost");
    }
    for event in &events {
        assert!(event["id"].is_string() && event["type"].is_string(), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_under_way_at_a_kill_has_left_its_open_record() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let mut inner =
        gateway.browser().http(Http::One).connect(&origin.url("site.test", "/")).await.unwrap();
    let endless = Request::new("POST", "/upload?endless").body(Body::Fill(1 << 40));
    let upload = tokio::spawn(async move { inner.send(endless).await });
    gateway
        .await_event("acme", |event| {
            event["state"] == "open" && event["url"].as_str().is_some_and(|u| u.contains("endless"))
        })
        .await;
    gateway.kill();
    assert!(upload.await.unwrap().is_err());
    gateway.restart();
    let left = gateway
        .await_event("acme", |event| event["url"].as_str().is_some_and(|u| u.contains("endless")))
        .await;
    assert_eq!(left["state"], "open");
    assert_eq!(left["user"], "alice@acme.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_repaired_and_counted() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    gateway.browser().get(&origin.url("site.test", "/hello?before")).await.unwrap();
    gateway.await_transaction("acme", "before").await;
    gateway.kill();
    // The newest file of the write-ahead log gets half a frame, as a crash in a write leaves it.
    let mut logs: Vec<_> = walk(&gateway.folder().join("data/events"))
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("wal"))
        .collect();
    logs.sort_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    let last = logs.last().expect("a write-ahead log");
    let mut bytes = std::fs::read(last).unwrap();
    bytes.extend_from_slice(&[0x2a, 0, 0, 0, 0xde, 0xad]);
    std::fs::write(last, bytes).unwrap();
    gateway.restart();
    gateway.browser().get(&origin.url("site.test", "/hello?after")).await.unwrap();
    gateway.await_transaction("acme", "after").await;
    gateway.await_transaction("acme", "before").await;
    let text = gateway.admin_get("/metrics").await.unwrap().text();
    let torn = text.lines().find(|line| line.starts_with("sluice_") && line.contains("torn"));
    assert!(torn.is_some_and(|line| !line.ends_with(" 0")), "not counted: {torn:?}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_writes_and_exits_with_zero() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let browser = gateway.browser();
    browser.get(&origin.url("site.test", "/hello?last")).await.unwrap();
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    gateway.restart();
    gateway.await_transaction("acme", "last").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_command_reads_a_stopped_gateways_log() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    gateway.browser().get(&origin.url("site.test", "/hello?told")).await.unwrap();
    gateway.await_transaction("acme", "told").await;
    gateway.kill();
    let json = gateway.command(&["events", "--tenant", "acme", "--json"]);
    let text = String::from_utf8_lossy(&json.stdout).into_owned();
    assert!(text.lines().any(|line| line.contains("told")), "{text}");
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    let people = gateway.command(&["events", "--tenant", "acme"]);
    let people = String::from_utf8_lossy(&people.stdout).into_owned();
    assert!(people.contains("site.test") && !people.contains('\u{1b}'), "{people}");
}

/// A file system of its own in memory, for as long as this lives.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = ["-t", "tmpfs", "-o", "size=64m", "tmpfs"];
        let mounted = Command::new("mount").args(options).arg(folder.path()).status();
        assert!(mounted.unwrap().success(), "mount needs root");
        Self(folder)
    }

    fn fill(&self) {
        let mut filler = std::fs::File::create(self.0.path().join("filler")).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    fn clear(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.0.path()).status().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_traffic_where_nothing_may_go_unrecorded() {
    let origin = Origin::start().await;
    let disk = Small::mount();
    let events =
        format!("events: {{ dir: {}/log, when_full: refuse_traffic }}", disk.0.path().display());
    let settings = format!("workers: 1\n{events}");
    let gateway = Gateway::build(&origin).gateway_yaml(&settings).expects_errors().start();
    let url = origin.url("site.test", "/");
    let mut inner = gateway.browser().connect(&url).await.unwrap();
    assert_eq!(inner.get("/hello?before.").await.unwrap().status, 200);
    gateway.await_transaction("acme", "before.").await;
    disk.fill();
    // Until what waits for the disk fills half of its memory.
    let mut passed = 0;
    let refused = loop {
        let path = format!("/hello?{passed}.{}", "x".repeat(7_000));
        let reply = inner.get(&path).await.unwrap();
        if reply.status != 200 {
            break reply;
        }
        passed += 1;
        assert!(passed < 20_000, "nothing is refused");
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("event_log_full"), "{}", refused.text());
    assert_eq!(gateway.admin_get("/readyz").await.unwrap().status, 503);
    disk.clear();
    let open = async { while inner.get("/hello?again.").await.unwrap().status != 200 {} };
    tokio::time::timeout(Duration::from_secs(60), open).await.expect("open again");
    gateway.await_transaction("acme", "again.").await;
    let recorded = gateway.events("acme").await.unwrap();
    let urls: HashSet<u32> = recorded.iter().filter_map(|event| number_of(&event["url"])).collect();
    let lost: Vec<u32> = (0..passed).filter(|number| !urls.contains(number)).collect();
    assert!(lost.is_empty(), "what passed is recorded: {lost:?} of {passed}");
    assert_eq!(gateway.metric("sluice_events_dropped_total", &[]).await, Some(0.0));
    assert!(recorded.iter().any(|event| crate::says(event, "event_log_full")));
    gateway.terminate();
}

/// The number behind the question mark.
fn number_of(url: &serde_json::Value) -> Option<u32> {
    let (_, query) = url.as_str()?.split_once('?')?;
    let (number, rest) = query.split_once('.')?;
    if rest.is_empty() { None } else { number.parse().ok() }
}
