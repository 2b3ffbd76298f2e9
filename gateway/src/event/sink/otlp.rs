//! OpenTelemetry logs as JSON: `ExportLogsServiceRequest` of OTLP/HTTP 1.x.

use serde_json::{Value, json};

use super::gather::{Batch, Item};

/// The request's body.
pub(super) fn body(batch: &Batch) -> Vec<u8> {
    let records: Vec<Value> = batch.items.iter().map(|item| record(batch, item)).collect();
    let request = json!({
        "resourceLogs": [{
            "resource": { "attributes": [
                attribute("service.name", "sluice"),
                attribute("service.version", env!("CARGO_PKG_VERSION")),
            ]},
            "scopeLogs": [{ "scope": { "name": "sluice.events" }, "logRecords": records }],
        }],
    });
    serde_json::to_vec(&request).unwrap_or_default()
}

fn record(batch: &Batch, item: &Item) -> Value {
    let time: Option<jiff::Timestamp> = item.time.parse().ok();
    let nanoseconds = time.map_or(0, jiff::Timestamp::as_nanosecond);
    let (number, text) = match item.record_type {
        "alert" => (13, "WARN"),
        _ => (9, "INFO"),
    };
    json!({
        // 64-bit integers are text in the JSON mapping of Protocol Buffers.
        "timeUnixNano": nanoseconds.to_string(),
        "observedTimeUnixNano": nanoseconds.to_string(),
        "severityNumber": number,
        "severityText": text,
        "body": { "stringValue": String::from_utf8_lossy(batch.text(item)) },
        "attributes": [
            attribute("event.name", &format!("sluice.{}", item.record_type)),
            attribute("sluice.tenant", &item.tenant),
            attribute("sluice.id", &item.id),
        ],
    })
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// How many records the answer says were rejected for good.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let Some(count) = answer.pointer("/partialSuccess/rejectedLogRecords") else { return 0 };
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}
