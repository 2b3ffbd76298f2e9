//! Peers of sinks that take less than they are given, or nothing for a while: what is counted, what
//! comes later, and that nothing comes twice where the peer can tell.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::collector::{Collector, Taken};
use tests::services::Nats;
use tests::{Gateway, Origin};

use crate::sinks::{ARRIVE_MAX, ask, connected, counted, line_id, lines, messages, sinks, until};

/// Waits until a sink's metric is what is wanted.
async fn metric(gateway: &Gateway, name: &str, sink: &str, wanted: impl Fn(f64) -> bool) -> f64 {
    let begun = Instant::now();
    let label = format!("sink=\"{sink}\"");
    loop {
        let seen = gateway.metric(name, &[&label]).await.unwrap_or_default();
        if wanted(seen) {
            return seen;
        }
        assert!(begun.elapsed() < ARRIVE_MAX, "{name} stays {seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_too_large_is_split_and_an_event_too_large_is_passed_over_alone() {
    let origin = Origin::start().await;
    let collector = Collector::start(origin.pki()).await;
    let at = tempfile::tempdir().unwrap();
    let to = collector.url("/in");
    let yaml = sinks(
        &origin,
        at.path(),
        &[format!(
            "name: siem, kind: http, to: '{to}', compression: none, tls: {{ ca: $AT/ca.pem }}, \
             filter: {{ type: [transaction] }}, batch: {{ wait_ms: 20 }}"
        )],
    );
    let gateway = Gateway::build(&origin).gateway_yaml(&yaml).start();
    collector.answer_with(503);
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    ask(&mut inner, "before", 40).await;
    inner.get(&format!("/hello?large=0.{}", "x".repeat(7000))).await.unwrap();
    ask(&mut inner, "after", 40).await;
    gateway.await_transaction("acme", "after=39.").await;
    collector.take_at_most(6000);
    collector.answer_with(200);
    for mark in ["before", "after"] {
        let seen = || counted(lines(&collector), mark);
        let seen = until(mark, seen, |counts| counts.len() == 40).await;
        assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    }
    assert_eq!(metric(&gateway, "sluice_sink_rejected_total", "siem", |it| it > 0.0).await, 1.0);
    assert!(counted(lines(&collector), "large").is_empty());
    assert_eq!(metric(&gateway, "sluice_sink_events_total", "siem", |it| it >= 80.0).await, 80.0);
    assert!(collector.taken().len() > 10, "more than one event went in each request");
    // A body that is small enough again is taken whole.
    collector.take_at_most(1 << 20);
    inner.get(&format!("/hello?large=1.{}", "x".repeat(7000))).await.unwrap();
    let large = || counted(lines(&collector), "large");
    until("a large event", large, |counts| counts.contains_key(&1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_quota_took_before_a_sink_had_it_is_counted() {
    let origin = Origin::start().await;
    let collector = Collector::start(origin.pki()).await;
    let at = tempfile::tempdir().unwrap();
    let to = collector.url("/in");
    let yaml = sinks(
        &origin,
        at.path(),
        &[format!(
            "name: siem, kind: http, to: '{to}', tenants: [acme], tls: {{ ca: $AT/ca.pem }}, \
             batch: {{ wait_ms: 20, events: 1 }}"
        )],
    );
    // Packed in time, all of them would fit.
    let yaml = yaml.replace("events:\n", "events:\n  compress: false\n");
    let settings = "events: { max_bytes: 96KiB }\n";
    let gateway = Gateway::build(&origin).settings(settings).gateway_yaml(&yaml).start();
    collector.answer_with(503);
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    ask(&mut inner, "kept", 600).await;
    gateway.await_transaction("acme", "kept=599.").await;
    collector.answer_with(200);
    let seen = || counted(lines(&collector), "kept");
    let seen = until("the youngest", seen, |counts| counts.contains_key(&599)).await;
    let lost = 600 - seen.len();
    assert!(lost > 100, "{lost} of 600 went over a quota of 96 KiB");
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let lost = lost as f64;
    // Beside the transactions there are the records of the session and of the evictions.
    let missed = metric(&gateway, "sluice_sink_missed_total", "siem", |it| it >= lost).await;
    assert!(missed <= lost + 100.0, "{missed} counted, {lost} lost");
}

/// Signs the recorded request anew with Amazon's own library; prints whether it is the same.
const SIGNATURE: &str = r#"
import sys
from urllib.parse import parse_qsl, urlsplit
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

method, url, access, secret, region = sys.argv[1:]
parts = urlsplit(url)
fields = dict(parse_qsl(parts.query))
assert fields["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256", fields
assert fields["X-Amz-SignedHeaders"] == "host", fields
assert fields["X-Amz-Credential"].split("/")[0] == access, fields
rest = [pair for pair in parts.query.split("&") if not pair.startswith("X-Amz-Signature=")]
request = AWSRequest(method=method, url=parts._replace(query="&".join(rest)).geturl())
request.context["timestamp"] = fields["X-Amz-Date"]
signer = S3SigV4QueryAuth(Credentials(access, secret), "s3", region)
text = signer.string_to_sign(request, signer.canonical_request(request))
print(signer.signature(text, request) == fields["X-Amz-Signature"])
"#;

fn amazon_agrees(origin_url: &str, one: &Taken, secret: &str) -> bool {
    let url = format!("{origin_url}{}", one.target);
    let arguments = [&one.method, &url, "access", secret, "eu-central-1"];
    let run = Command::new("python3").args(["-c", SIGNATURE]).args(arguments).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8_lossy(&run.stdout).trim() == "True"
}

#[tokio::test(flavor = "multi_thread")]
async fn amazons_own_library_makes_the_same_signature_of_an_object() {
    let origin = Origin::start().await;
    let collector = Collector::start(origin.pki()).await;
    let at = tempfile::tempdir().unwrap();
    let to = collector.url("/bucket/some/prefix");
    let yaml = sinks(
        &origin,
        at.path(),
        &[format!(
            "name: lake, kind: s3, to: '{to}', region: eu-central-1, token_file: $AT/pair, \
             tls: {{ ca: $AT/ca.pem }}, batch: {{ wait_ms: 20 }}"
        )],
    );
    let gateway = Gateway::build(&origin).gateway_yaml(&yaml).start();
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    ask(&mut inner, "kept", 5).await;
    let taken = until("an object", || collector.taken(), |taken| !taken.is_empty()).await;
    for one in taken {
        assert!(amazon_agrees(&collector.url(""), &one, "secret-key-of-s3"), "{}", one.target);
        assert!(!amazon_agrees(&collector.url(""), &one, "another-secret"), "anything goes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_refused_comes_again_under_its_name_and_with_nothing_more() {
    let origin = Origin::start().await;
    let collector = Collector::start(origin.pki()).await;
    let at = tempfile::tempdir().unwrap();
    let to = collector.url("/bucket");
    let yaml = sinks(
        &origin,
        at.path(),
        &[format!(
            "name: lake, kind: s3, to: '{to}', token_file: $AT/pair, compression: none, \
             tls: {{ ca: $AT/ca.pem }}, tenants: [acme], batch: {{ wait_ms: 20 }}"
        )],
    );
    let gateway = Gateway::build(&origin).gateway_yaml(&yaml).start();
    collector.answer_with(503);
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    until("a refusal", || collector.refused(), |refused| *refused >= 1).await;
    ask(&mut inner, "kept", 20).await;
    gateway.await_transaction("acme", "kept=19.").await;
    let before = collector.refused();
    until("another refusal", || collector.refused(), |refused| *refused > before).await;
    collector.answer_with(200);
    let seen = || counted(lines(&collector), "kept");
    let seen = until("all of them", seen, |counts| counts.len() == 20).await;
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    // The signature has the time in it; the name has not.
    let name = |target: &str| target.split('?').next().unwrap_or_default().to_owned();
    let taken: Vec<String> = collector.taken().iter().map(|one| name(&one.target)).collect();
    let refused: BTreeSet<String> =
        collector.targets_refused().iter().map(|target| name(target)).collect();
    assert_eq!(refused, BTreeSet::from([taken[0].clone()]), "each time the same name");
    let ids: Vec<String> = lines(&collector).iter().map(line_id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an event is there twice");
}

/// A gateway with a sink to this server.
fn with_bus(origin: &Origin, nats: &Nats, at: &std::path::Path) -> Gateway {
    let yaml = sinks(
        origin,
        at,
        &[format!(
            "name: bus, kind: nats, to: '{}', stream: EVENTS, batch: {{ events: 50, wait_ms: 10 }}",
            nats.url()
        )],
    );
    Gateway::build(origin).gateway_yaml(&yaml).start()
}

/// Waits until the stream has every event of the log, then looks that it has none twice.
async fn stream_has_the_log_once(gateway: &Gateway, nats: &Nats) {
    let log = gateway.events("acme").await.unwrap();
    let wanted: BTreeSet<String> = log.iter().map(line_id).collect();
    let jetstream = async_nats::jetstream::new(connected(nats).await);
    let begun = Instant::now();
    let ids: Vec<String> = loop {
        let all: Vec<(String, String, Value)> = messages(&jetstream).await;
        let ids: Vec<String> = all.into_iter().map(|(id, _, _)| id).collect();
        let there: BTreeSet<String> = ids.iter().cloned().collect();
        if wanted.is_subset(&there) {
            break ids;
        }
        let missing = wanted.difference(&there).count();
        assert!(begun.elapsed() < ARRIVE_MAX, "{missing} of {} are missing", wanted.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an event is there twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jetstream_that_is_cut_off_has_every_event_once_when_it_is_reached_again() {
    let origin = Origin::start().await;
    let nats = Nats::start();
    let at = tempfile::tempdir().unwrap();
    let gateway = with_bus(&origin, &nats, at.path());
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    ask(&mut inner, "before", 60).await;
    nats.cut_off();
    // Traffic goes on; the sink has given up waiting at least once before the server is there again.
    ask(&mut inner, "meanwhile", 200).await;
    metric(&gateway, "sluice_sink_failures_total", "bus", |it| it >= 1.0).await;
    ask(&mut inner, "later", 60).await;
    nats.reach_again();
    ask(&mut inner, "after", 60).await;
    gateway.await_transaction("acme", "after=59.").await;
    stream_has_the_log_once(&gateway, &nats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jetstream_without_room_has_every_event_once_when_it_has_room_again() {
    let origin = Origin::start().await;
    let mut nats = Nats::with_room(96 << 10);
    let at = tempfile::tempdir().unwrap();
    let gateway = with_bus(&origin, &nats, at.path());
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    ask(&mut inner, "kept", 300).await;
    gateway.await_transaction("acme", "kept=299.").await;
    metric(&gateway, "sluice_sink_failures_total", "bus", |it| it >= 2.0).await;
    assert!(metric(&gateway, "sluice_sink_lag_events", "bus", |it| it >= 1.0).await > 50.0);
    nats.restart_with_room(1 << 30);
    stream_has_the_log_once(&gateway, &nats).await;
}
