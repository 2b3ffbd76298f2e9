//! The OCSF classes of category 2, Findings.

use serde_json::{Map, Value, json};

use super::common;
use crate::event::format::source::{Row, field, made, number};
use crate::event::format::value::Event;

/// What both classes have.
pub(super) const FINDING: &[Row] = &[
    number("category_uid", 2),
    number("activity_id", 1),
    number("status_id", 1),
    made("is_alert", "always true", |_| Some(true.into())),
    field("finding_info.uid", "id"),
    made("finding_info.title", "the threat, the content profile or the rule, else `alert`", title),
    made("finding_info.created_time", "`time` in milliseconds since 1970", |event| {
        Some(common::millis(event).into())
    }),
    made("finding_info.types", "`threat`, `dlp` and `rule`, as far as there are any", |event| {
        let kinds = ["threat", "dlp", "rule"];
        let found: Vec<&str> = kinds.into_iter().filter(|kind| event.get(kind).is_some()).collect();
        (!found.is_empty()).then(|| found.into())
    }),
    made("finding_info.related_events", "`parent_id`: the transaction", |event| {
        Some(json!([{ "uid": event.text("parent_id")?, "type_uid": 400_200 }]))
    }),
    made("message", "the same as `finding_info.title`", title),
];

/// 2004.
pub(super) const DETECTION: &[Row] = &[
    number("class_uid", 2004),
    made("malware", "`threat`: its name, and the engine as `provider`", |event| {
        let threat = event.get("threat")?;
        let name = threat.get("name")?;
        let mut malware = json!({ "name": name, "classification_ids": [0] });
        if let (Some(engine), Some(malware)) = (threat.get("engine"), malware.as_object_mut()) {
            malware.insert("provider".to_owned(), engine.clone());
        }
        Some(json!([malware]))
    }),
    made("evidences", "`url`, `client_ip`, `host`, `dest_ip`, `user` and the file", |event| {
        let evidence = evidence(event);
        (!evidence.is_empty()).then(|| json!([evidence]))
    }),
];

/// 2006.
pub(super) const DATA_SECURITY: &[Row] = &[
    number("class_uid", 2006),
    number("data_security.detection_system_id", 5),
    made("data_security.policy.name", "`profile` of the first `dlp`", |event| {
        event.first("dlp", "profile").cloned()
    }),
    made("data_security.detection_pattern", "`entity` of the first `dlp`", |event| {
        event.first("dlp", "entity").cloned()
    }),
    made("data_security.total", "`count` of all `dlp` together", |event| {
        let hits = event.get("dlp")?.as_array()?;
        let counts = hits.iter().filter_map(|hit| hit.get("count")?.as_u64());
        Some(counts.sum::<u64>().into())
    }),
    field("unmapped.dlp", "dlp"),
    field("src_endpoint.ip", "client_ip"),
    field("src_endpoint.port", "client_port"),
    field("dst_endpoint.hostname", "host"),
    field("dst_endpoint.ip", "dest_ip"),
    field("dst_endpoint.port", "dest_port"),
    field("unmapped.url", "url"),
    made(
        "file",
        "`file_name`, `file_size`, `file_type` and `sha256`, where there is a name",
        common::file,
    ),
];

fn title(event: &Event) -> Option<Value> {
    let threat = event.get("threat").and_then(|threat| threat.get("name"));
    let title = threat.or_else(|| event.first("dlp", "profile")).or_else(|| event.get("rule"));
    Some(title.cloned().unwrap_or_else(|| "alert".into()))
}

fn evidence(event: &Event) -> Map<String, Value> {
    let mut evidence = Map::new();
    let mut put = |place: &str, value: Option<Value>| {
        if let Some(value) = value {
            evidence.insert(place.to_owned(), value);
        }
    };
    put("url", event.text("url").map(|url| json!({ "url_string": url })));
    put("user", event.text("user").map(|user| json!({ "name": user })));
    put("src_endpoint", event.text("client_ip").map(|ip| json!({ "ip": ip })));
    let mut destination = Map::new();
    for (theirs, ours) in [("hostname", "host"), ("ip", "dest_ip"), ("port", "dest_port")] {
        if let Some(value) = event.get(ours) {
            destination.insert(theirs.to_owned(), value.clone());
        }
    }
    let named = destination.contains_key("hostname") || destination.contains_key("ip");
    put("dst_endpoint", named.then(|| destination.into()));
    put("file", common::file(event));
    evidence
}
