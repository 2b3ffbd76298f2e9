//! Events reach a Kafka broker, whatever fails on the way; librdkafka reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::kafka::Kafka;
use tests::{Gateway, Origin};

use crate::sinks::{ARRIVE_MAX, ask, counted, line_id, sinks};

pub(crate) const TOPIC: &str = "sluice.events";

fn gateway(origin: &Origin, kafka: &Kafka, at: &std::path::Path) -> Gateway {
    let yaml = sinks(
        origin,
        at,
        &[format!(
            "name: bus, kind: kafka, to: 'kafka://{}', batch: {{ wait_ms: 10 }}",
            kafka.address()
        )],
    );
    Gateway::build(origin).tenant("beta").gateway_yaml(&yaml).start()
}

/// Reads the topic until it has what is wanted.
pub(crate) async fn read(kafka: &Kafka, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let records = tokio::task::block_in_place(|| kafka.records(TOPIC, 1));
        if done(&records) {
            return records;
        }
        assert!(begun.elapsed() < ARRIVE_MAX, "{} records", records.len());
    }
}

pub(crate) fn id(record: &Value) -> String {
    record["headers"]["id"].as_str().unwrap().to_owned()
}

pub(crate) fn marked(records: &[Value], mark: &str) -> usize {
    counted(records.iter().map(|record| record["value"].clone()), mark).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_each_tenants_events_in_order_in_one_partition() {
    let origin = Origin::start().await;
    let kafka = Kafka::start();
    kafka.create_topic(TOPIC, 4);
    let at = tempfile::tempdir().unwrap();
    let gateway = gateway(&origin, &kafka, at.path());
    let beta = gateway.enroll("beta", "bob@beta.test", "laptop-2");
    let url = origin.url("site.test", "/");
    let mut bob = gateway.browser_of(&beta).connect(&url).await.unwrap();
    ask(&mut bob, "beta", 20).await;
    let mut inner = gateway.browser().connect(&url).await.unwrap();
    ask(&mut inner, "first", 40).await;
    kafka.stall();
    ask(&mut inner, "stalled", 40).await;
    kafka.go_on();
    gateway.await_transaction("acme", "stalled=39.").await;
    gateway.kill();
    gateway.restart();
    let mut inner = gateway.browser().connect(&url).await.unwrap();
    ask(&mut inner, "later", 40).await;
    gateway.await_transaction("acme", "later=39.").await;
    gateway.await_transaction("beta", "beta=19.").await;
    let mut logs = BTreeMap::new();
    for tenant in ["acme", "beta"] {
        logs.insert(tenant, gateway.events(tenant).await.unwrap());
    }
    let wanted: BTreeSet<String> = logs.values().flatten().map(line_id).collect();
    let all = |records: &[Value]| wanted.is_subset(&records.iter().map(id).collect());
    let records = read(&kafka, all).await;
    for (tenant, log) in &logs {
        let partition = kafka.partition_of(TOPIC, tenant);
        let mine = records.iter().filter(|record| record["key"] == **tenant);
        let mut seen = BTreeSet::new();
        let mut first = Vec::new();
        for record in mine {
            assert_eq!(record["partition"], partition, "not where librdkafka puts {tenant}");
            let event = &record["value"];
            assert_eq!(id(record), line_id(event));
            assert_eq!(record["headers"]["type"], event["type"]);
            let milliseconds = event["time"].as_str().and_then(|time| time.get(20..23)).unwrap();
            assert_eq!(format!("{:03}", record["time"].as_i64().unwrap() % 1000), milliseconds);
            if seen.insert(id(record)) {
                first.push(event);
            }
        }
        assert_eq!(first, log.iter().take(first.len()).collect::<Vec<_>>(), "{tenant}");
    }
    // At least once: no more than was under way at the kill comes again.
    let twice = records.len() - records.iter().map(id).collect::<BTreeSet<_>>().len();
    assert!(twice * 4 < records.len(), "{twice} of {} came twice", records.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_gets_what_happened_meanwhile() {
    let origin = Origin::start().await;
    let mut kafka = Kafka::start();
    let at = tempfile::tempdir().unwrap();
    let gateway = gateway(&origin, &kafka, at.path());
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    // There is no topic yet, and the gateway makes none: how it is kept is the operator's to say.
    ask(&mut inner, "early", 10).await;
    let begun = Instant::now();
    while gateway.metric("sluice_sink_failures_total", &["sink=\"bus\""]).await < Some(1.0) {
        assert!(begun.elapsed() < ARRIVE_MAX, "a topic that is missing is no failure");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    kafka.create_topic(TOPIC, 3);
    read(&kafka, |records| marked(records, "early") == 10).await;
    kafka.kill();
    ask(&mut inner, "down", 30).await;
    gateway.await_transaction("acme", "down=29.").await;
    kafka.restart();
    kafka.create_topic(TOPIC, 3);
    read(&kafka, |records| marked(records, "down") == 30).await;
}
