//! Events reach the systems that analysts use, whatever fails on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::collector::Collector;
use tests::services::{Nats, Rsyslog};
use tests::{Gateway, Inner, Origin};

/// From an event to its peer, failures and waits between tries included.
pub(crate) const ARRIVE_MAX: Duration = Duration::from_secs(30);
/// Twice the default flush interval.
const FLUSHED: Duration = Duration::from_millis(200);

/// Waits until `done` says so, with what it saw last.
pub(crate) async fn until<T>(
    what: &str,
    mut look: impl FnMut() -> T,
    done: impl Fn(&T) -> bool,
) -> T {
    let begun = Instant::now();
    loop {
        let seen = look();
        if done(&seen) {
            return seen;
        }
        assert!(begun.elapsed() < ARRIVE_MAX, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A folder with the CA of `origin`'s certificates, and gateway.yaml's part with these sinks.
pub(crate) fn sinks(origin: &Origin, folder: &Path, list: &[String]) -> String {
    std::fs::write(folder.join("ca.pem"), origin.pki().root_pem()).unwrap();
    std::fs::write(folder.join("token"), "secret-of-the-sink\n").unwrap();
    std::fs::write(folder.join("pair"), "access:secret-key-of-s3").unwrap();
    let list: Vec<String> = list
        .iter()
        .map(|one| one.replace("$AT", &folder.display().to_string()))
        .map(|one| format!("    - {{ {one} }}\n"))
        .collect();
    format!("events:\n  sinks:\n{}", list.concat())
}

pub(crate) async fn ask(inner: &mut Inner, mark: &str, count: usize) {
    for number in 0..count {
        inner.get(&format!("/hello?{mark}={number}.")).await.unwrap();
    }
}

/// How often each transaction's `close` came, by its number after `mark=`.
pub(crate) fn counted(
    events: impl IntoIterator<Item = Value>,
    mark: &str,
) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        let url = event["url"].as_str().unwrap_or_default();
        let part = url.split_once(&format!("{mark}=")).and_then(|(_, rest)| rest.split_once('.'));
        let closed = event["type"] == "transaction" && event["state"] == "close";
        if let Some((number, _)) = part.filter(|_| closed) {
            *counts.entry(number.parse().unwrap()).or_insert(0) += 1;
        }
    }
    counts
}

pub(crate) fn lines(collector: &Collector) -> Vec<Value> {
    collector.taken().iter().flat_map(tests::collector::Taken::lines).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_goes_on_where_it_was_after_an_outage_and_a_restart() {
    let origin = Origin::start().await;
    let collector = Collector::start(origin.pki()).await;
    let at = tempfile::tempdir().unwrap();
    let to = collector.url("/in?from=sluice");
    let yaml = sinks(
        &origin,
        at.path(),
        &[format!(
            "name: siem, kind: http, to: '{to}', token_file: $AT/token, tls: {{ ca: $AT/ca.pem }}, \
         filter: {{ type: [transaction] }}, batch: {{ wait_ms: 20 }}"
        )],
    );
    let gateway = Gateway::build(&origin).gateway_yaml(&yaml).start();
    let browser = gateway.browser();
    collector.answer_with(503);
    let mut inner = browser.connect(&origin.url("site.test", "/")).await.unwrap();
    ask(&mut inner, "first", 30).await;
    until("a refusal", || collector.refused(), |refused| *refused >= 2).await;
    gateway.await_transaction("acme", "first=29.").await;
    assert!(gateway.metric("sluice_sink_lag_events", &["sink=\"siem\""]).await >= Some(30.0));
    assert!(gateway.metric("sluice_sink_failures_total", &["sink=\"siem\""]).await >= Some(2.0));
    // It ends while the peer is down, and begins anew.
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    gateway.restart();
    collector.answer_with(200);
    let seen = |mark: &str| counted(lines(&collector), mark);
    let first = until("the outage's events", || seen("first"), |counts| counts.len() == 30).await;
    assert!(first.values().all(|count| *count == 1), "{first:?}");
    let mut inner = browser.connect(&origin.url("site.test", "/")).await.unwrap();
    ask(&mut inner, "second", 30).await;
    until("what came after", || seen("second"), |counts| counts.len() == 30).await;
    assert!(counted(lines(&collector), "first").values().all(|count| *count == 1));
    let taken = collector.taken();
    let one = taken.first().unwrap();
    assert_eq!((one.method.as_str(), one.target.as_str()), ("POST", "/in?from=sluice"));
    assert_eq!(one.field("authorization"), Some("Bearer secret-of-the-sink"));
    assert_eq!(one.field("content-encoding"), Some("gzip"));
    assert!(lines(&collector).iter().all(|event| event["type"] == "transaction"));
    assert!(!gateway.log().concat().contains("secret-of-the-sink"));
}

#[tokio::test(flavor = "multi_thread")]
async fn splunk_otlp_s3_and_a_file_get_what_they_expect() {
    let origin = Origin::start().await;
    let collector = Collector::start(origin.pki()).await;
    let at = tempfile::tempdir().unwrap();
    let common = "tls: { ca: $AT/ca.pem }, batch: { wait_ms: 20 }, filter: { state: [close] }";
    let (hec, otlp) = (collector.url("/services/collector/event"), collector.url("/v1/logs"));
    let bucket = collector.url("/events/pop/one");
    let yaml = sinks(
        &origin,
        at.path(),
        &[
            format!("name: hec, kind: splunk, to: '{hec}', token_file: $AT/token, {common}"),
            format!(
                "name: otel, kind: otlp, to: '{otlp}', format: ocsf, compression: none, {common}"
            ),
            format!("name: lake, kind: s3, to: '{bucket}', token_file: $AT/pair, {common}"),
            "name: disk, kind: file, to: $AT/out/events.log, format: cef, tenants: [acme]"
                .to_owned(),
        ],
    );
    let gateway = Gateway::build(&origin).gateway_yaml(&yaml).start();
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    ask(&mut inner, "kept", 5).await;
    let of = |prefix: &str| {
        let taken = collector.taken();
        taken.into_iter().filter(|one| one.target.starts_with(prefix)).collect::<Vec<_>>()
    };
    let hec = until(
        "splunk",
        || of("/services"),
        |all| {
            let events = all.iter().flat_map(tests::collector::Taken::lines);
            counted(events.map(|one| one["event"].clone()), "kept").len() == 5
        },
    )
    .await;
    assert_eq!(hec[0].field("authorization"), Some("Splunk secret-of-the-sink"));
    let one = hec.iter().flat_map(tests::collector::Taken::lines);
    let one = one.into_iter().find(|one| one["sourcetype"] == "sluice:transaction").unwrap();
    assert!(one["time"].as_f64().unwrap() > 1.7e9 && one["fields"]["tenant"] == "acme", "{one}");

    let records = until(
        "otlp",
        || {
            let bodies = of("/v1/logs");
            let bodies =
                bodies.iter().map(|one| serde_json::from_slice::<Value>(&one.body).unwrap());
            bodies
                .flat_map(|body| {
                    body["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
                        .as_array()
                        .unwrap()
                        .clone()
                })
                .collect::<Vec<_>>()
        },
        |records| records.len() >= 5,
    )
    .await;
    let body = records[0]["body"]["stringValue"].as_str().unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["metadata"]["product"]["name"], "Sluice", "{body}");
    assert!(records[0]["timeUnixNano"].as_str().unwrap().parse::<u64>().unwrap() > 1 << 60);

    let objects = until(
        "s3",
        || of("/events/pop/one/tenant%3Dacme/date%3D20"),
        |objects| objects.iter().map(|one| unpacked(&one.body).len()).sum::<usize>() >= 5,
    )
    .await;
    assert_eq!(objects[0].method, "PUT");
    let target = &objects[0].target;
    assert!(target.contains("X-Amz-Signature=") && target.contains(".ndjson.gz?"), "{target}");
    let events: Vec<Value> = objects.iter().flat_map(|one| unpacked(&one.body)).collect();
    assert_eq!(counted(events, "kept").len(), 5);

    let file = at.path().join("out/events.log");
    let text = until(
        "the file",
        || std::fs::read_to_string(&file).unwrap_or_default(),
        |text| text.matches("request=https://site.test").count() >= 5,
    )
    .await;
    assert!(text.lines().all(|line| line.starts_with("CEF:0|Sluice|")), "{text}");
}

fn unpacked(object: &[u8]) -> Vec<Value> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(object), &mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jetstream_that_is_killed_has_every_event_once() {
    let origin = Origin::start().await;
    let mut nats = Nats::start();
    let at = tempfile::tempdir().unwrap();
    let yaml = sinks(
        &origin,
        at.path(),
        &[format!(
            "name: bus, kind: nats, to: '{}', stream: EVENTS, batch: {{ events: 50, wait_ms: 10 }}",
            nats.url()
        )],
    );
    let gateway = Gateway::build(&origin).gateway_yaml(&yaml).start();
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    for round in 0..3 {
        ask(&mut inner, &format!("round{round}"), 60).await;
        if round % 2 == 0 {
            nats.kill();
            ask(&mut inner, &format!("down{round}"), 60).await;
            nats.restart();
        } else {
            gateway.kill();
            gateway.restart();
            inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
        }
    }
    ask(&mut inner, "last", 1).await;
    gateway.await_transaction("acme", "last=0.").await;
    let log = gateway.events("acme").await.unwrap();
    let wanted: BTreeSet<String> = log.iter().map(line_id).collect();
    let client = connected(&nats).await;
    let jetstream = async_nats::jetstream::new(client);
    let begun = Instant::now();
    let messages = loop {
        let messages = messages(&jetstream).await;
        let there: BTreeSet<&String> = messages.iter().map(|(id, _, _)| id).collect();
        if wanted.iter().all(|id| there.contains(id)) {
            break messages;
        }
        assert!(begun.elapsed() < ARRIVE_MAX, "{} of {}", there.len(), wanted.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let mut ids: Vec<&String> = messages.iter().map(|(id, _, _)| id).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "the stream has an event twice");
    for (id, subject, event) in &messages {
        assert_eq!(*id, line_id(event));
        let (tenant, kind) = (event["tenant"].as_str().unwrap(), event["type"].as_str().unwrap());
        assert_eq!(*subject, format!("sluice.events.{tenant}.{kind}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jetstream_that_asks_for_tls_is_trusted_as_the_sink_says() {
    let origin = Origin::start().await;
    let nats = Nats::secure(origin.pki());
    let at = tempfile::tempdir().unwrap();
    // The server asks, whatever the address says.
    let sink = |name: &str, scheme: &str| {
        let to = format!("{scheme}://{}", nats.address());
        let stream = name.to_uppercase();
        format!(
            "name: {name}, kind: nats, to: '{to}', stream: {stream}, tls: {{ ca: $AT/ca.pem }}, \
             subject: '{name}.{{tenant}}.{{type}}', batch: {{ wait_ms: 10 }}"
        )
    };
    let yaml = sinks(&origin, at.path(), &[sink("asked", "nats"), sink("told", "tls")]);
    let gateway = Gateway::build(&origin).gateway_yaml(&yaml).start();
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    ask(&mut inner, "kept", 5).await;
    for name in ["asked", "told"] {
        let label = format!("sink=\"{name}\"");
        let begun = Instant::now();
        while gateway.metric("sluice_sink_events_total", &[&label]).await < Some(5.0) {
            assert!(begun.elapsed() < ARRIVE_MAX, "{name} takes nothing");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What `Nats-Msg-Id` is documented to be.
pub(crate) fn line_id(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap().to_owned();
    match event["state"].as_str().unwrap() {
        "close" => text("id"),
        "open" => format!("{}/open", text("id")),
        state => format!("{}/{state}/{}", text("id"), text("time")),
    }
}

pub(crate) async fn connected(nats: &Nats) -> async_nats::Client {
    async_nats::connect(nats.url()).await.unwrap()
}

/// Id, subject and event of every message of the stream.
pub(crate) async fn messages(
    jetstream: &async_nats::jetstream::Context,
) -> Vec<(String, String, Value)> {
    let Ok(mut stream) = jetstream.get_stream("EVENTS").await else { return Vec::new() };
    let state = stream.info().await.unwrap().state.clone();
    let mut messages = Vec::new();
    // One that has none yet begins at 0, which is no message's.
    for sequence in state.first_sequence.max(1)..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let id = message.headers.get("Nats-Msg-Id").unwrap().to_string();
        let event = serde_json::from_slice(&message.payload).unwrap();
        messages.push((id, message.subject.to_string(), event));
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_takes_cef_over_tls_and_another_parser_reads_it() {
    let origin = Origin::start().await;
    let rsyslog = Rsyslog::start(origin.pki());
    let at = tempfile::tempdir().unwrap();
    let yaml = sinks(
        &origin,
        at.path(),
        &[format!(
            "name: syslog, kind: syslog, to: 'tls://{}', format: cef, tls: {{ ca: '{}' }}, \
         filter: {{ type: [transaction, alert] }}, batch: {{ wait_ms: 20 }}",
            rsyslog.address(),
            rsyslog.ca().display(),
        )],
    );
    let rule = "  - { name: \"no a=b|c\\\\d\", match: { url: ['*blocked*'] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).gateway_yaml(&yaml).start();
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    ask(&mut inner, "kept", 20).await;
    inner.get("/blocked?x=1|2").await.unwrap();
    let lines = until(
        "rsyslog",
        || rsyslog.lines(),
        |lines| {
            let all = lines.concat();
            (0..20).all(|number| all.contains(&format!("kept\\={number}.")))
                && all.contains("blocked")
        },
    )
    .await;
    let line = lines.iter().find(|line| line.contains("blocked")).unwrap();
    assert!(line.starts_with("110 20") || line.starts_with("108 20"), "{line}");
    assert!(
        line.contains("sluice transaction [sluice@32473 id=\"") || line.contains("alert ["),
        "{line}"
    );
    let file = at.path().join("lines");
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let script = "import json, sys, pycef\n\
        for line in open(sys.argv[1]):\n\x20   print(json.dumps(pycef.parse(line.rstrip('\\n'))))";
    let run = Command::new("python3").args(["-c", script]).arg(&file).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let parsed: Vec<Value> = String::from_utf8_lossy(&run.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(parsed.len(), lines.len());
    for event in &parsed {
        assert_eq!(event["DeviceVendor"], "Sluice", "{event}");
        assert_eq!(event["suser"], "alice@acme.test", "{event}");
        assert_eq!(event["tenant"], "acme", "{event}");
    }
    let blocked = parsed.iter().find(|one| one["act"] == "block").expect("a block");
    assert_eq!(blocked["rule"], "no a\\=b|c\\\\d", "{blocked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_however_often_the_gateway_is_killed() {
    let rounds = std::env::var("SLUICE_TEST_KILLS").ok().and_then(|text| text.parse().ok());
    let rounds: usize = rounds.unwrap_or(10);
    let origin = Origin::start().await;
    let collector = Collector::start(origin.pki()).await;
    let at = tempfile::tempdir().unwrap();
    let yaml = sinks(
        &origin,
        at.path(),
        &[format!(
            "name: siem, kind: http, to: '{}', tls: {{ ca: $AT/ca.pem }}, batch: {{ wait_ms: 10 }}",
            collector.url("/in")
        )],
    );
    let gateway = Gateway::build(&origin).gateway_yaml(&yaml).start();
    let (mut promised, mut asked) = (BTreeSet::new(), 0);
    for round in 0..rounds {
        let browser = gateway.browser();
        let mut inner = browser.connect(&origin.url("site.test", "/")).await.unwrap();
        for _ in 0..100 {
            inner.get(&format!("/hello?kept={asked}.")).await.unwrap();
            promised.insert(asked);
            asked += 1;
        }
        let answered = Instant::now();
        // Load goes on while the kill comes at a moment that differs from round to round.
        let moment = FLUSHED + Duration::from_millis((round as u64 * 37) % 100);
        while answered.elapsed() < moment {
            if inner.get(&format!("/hello?kept={asked}.")).await.is_ok() {
                asked += 1;
            }
        }
        gateway.kill();
        gateway.restart();
    }
    let log = counted(gateway.events("acme").await.unwrap(), "kept");
    // What was answered a flush before a kill is there; only what was asked just before may be gone.
    let lost: Vec<_> = promised.iter().filter(|number| !log.contains_key(number)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(log.values().all(|count| *count == 1), "the log has an event twice");
    let sent = until(
        "the log's events",
        || counted(lines(&collector), "kept"),
        |sent| log.keys().all(|number| sent.contains_key(number)),
    )
    .await;
    let twice = sent.values().filter(|count| **count > 1).count();
    // At least once: what was under way at a kill may come again, and no more than that.
    assert!(twice * 4 < asked, "{twice} of {asked} came twice");
}
