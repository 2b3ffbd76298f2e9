//! The alert records.

use super::words;
use crate::event::format::source::{Row, field, made, text};
use crate::event::format::value::Event;

/// An alert of a rule.
pub(super) const POLICY: &[Row] = &[
    text("type", "nspolicy"),
    text("record_type", "alert"),
    text("alert", "yes"),
    text("alert_type", "policy"),
    field("alert_name", "rule"),
    field("dstport", "dest_port"),
    field("srcport", "client_port"),
    field("useragent", "user_agent"),
    field("http_status", "status"),
    field("client_bytes", "request_bytes"),
    field("server_bytes", "response_bytes"),
    made("numbytes", "`request_bytes` and `response_bytes` together", Event::traffic),
    made("all_policy_matches", "`alerts`", |event| event.get("alerts").cloned()),
    field("justification_reason", "justification"),
    made("justification_type", "`justification` where there is one", words::justification_type),
];

/// An alert of a content profile.
pub(super) const DLP: &[Row] = &[
    text("type", "nspolicy"),
    text("record_type", "alert"),
    text("alert", "yes"),
    text("alert_type", "DLP"),
    field("alert_name", "rule"),
    field("incident_id", "id"),
    field("dlp_incident_id", "id"),
    field("dlp_parent_id", "parent_id"),
    field("dlp_file", "file_name"),
    made("dlp_profile", "each `profile` of `dlp`, separated by commas", |event| {
        listed(event, "profile")
    }),
    made("dlp_rule", "each `entity` of `dlp`, separated by commas", |event| {
        listed(event, "entity")
    }),
    made("dlp_rule_count", "`count` of all `dlp` together", |event| {
        let hits = event.get("dlp")?.as_array()?;
        Some(hits.iter().filter_map(|hit| hit.get("count")?.as_u64()).sum::<u64>().into())
    }),
];

/// An alert of a threat engine.
pub(super) const MALWARE: &[Row] = &[
    text("type", "malware"),
    text("record_type", "alert"),
    text("alert", "yes"),
    text("alert_type", "Malware"),
    made("alert_name", "`name` of `threat`", |event| threat(event, "name")),
    made("malware_name", "`name` of `threat`", |event| threat(event, "name")),
    made("detection_engine", "`engine` of `threat`", |event| threat(event, "engine")),
    field("incident_id", "id"),
    field("file_name", "file_name"),
    field("local_sha256", "sha256"),
];

fn listed(event: &Event, name: &str) -> Option<serde_json::Value> {
    let texts = event.texts("dlp", Some(name));
    (!texts.is_empty()).then(|| texts.join(",").into())
}

fn threat(event: &Event, name: &str) -> Option<serde_json::Value> {
    event.get("threat")?.get(name).cloned()
}
