//! What all OCSF classes have: metadata, time, severity, what was done about it.

use serde_json::{Value, json};

use crate::event::format::source::{Row, field, made, text};
use crate::event::format::value::Event;

/// Of every event.
pub(super) const BASE: &[Row] = &[
    text("metadata.version", "1.6.0"),
    text("metadata.product.name", "Sluice"),
    text("metadata.product.vendor_name", "Sluice"),
    text("metadata.product.version", env!("CARGO_PKG_VERSION")),
    made("metadata.profiles", "the profiles used: `host`, `security_control`", |_| {
        Some(json!(["host", "security_control"]))
    }),
    field("metadata.uid", "id"),
    field("metadata.tenant_uid", "tenant"),
    field("metadata.log_name", "type"),
    field("metadata.log_provider", "pop"),
    field("metadata.correlation_uid", "session_id"),
    field("metadata.original_time", "time"),
    made("time", "`time` in milliseconds since 1970", |event| Some(millis(event).into())),
    made("severity_id", "4 for a threat, 3 for a block or `dlp`, 2 for an alert, else 1", severity),
    field("status_detail", "error"),
    field("unmapped.state", "state"),
    field("unmapped.error_side", "error_side"),
    field("unmapped.access_method", "access_method"),
    field("unmapped.app", "app"),
    field("unmapped.category", "category"),
    field("unmapped.app_tags", "app_tags"),
    field("unmapped.risk", "risk"),
    field("unmapped.instance", "instance"),
    field("unmapped.instance_kind", "instance_kind"),
    field("unmapped.activity", "activity"),
    field("unmapped.object", "object"),
    field("unmapped.object_type", "object_type"),
    field("unmapped.from_user", "from_user"),
    field("unmapped.to_user", "to_user"),
    field("unmapped.operations", "operations"),
    field("unmapped.decrypted", "decrypted"),
    field("unmapped.decrypt_reason", "decrypt_reason"),
    field("unmapped.inspection", "inspection"),
    field("unmapped.inspection_reason", "inspection_reason"),
    field("unmapped.justification", "justification"),
    field("unmapped.block_reason", "block_reason"),
];

/// Of every event but a finding, which has a status of its own kind.
pub(super) const STATUS: Row = made("status_id", "2 where there is an `error`, else 1", |event| {
    Some(if event.get("error").is_some() { 2 } else { 1 }.into())
});

/// Of the profiles `security_control` and `host`.
pub(super) const CONTROL: &[Row] = &[
    made(
        "action_id",
        "2 where `action` is `block`, 4 for `coach` and `redirect`, else 1",
        |event| {
            Some(
                match event.text("action") {
                    Some("block") => 2,
                    Some("coach" | "redirect") => 4,
                    _ => 1,
                }
                .into(),
            )
        },
    ),
    made(
        "disposition_id",
        "2 for `block`, 23 for `coach`, 19 for `alert`, 7 for `redirect`, else 1",
        |event| {
            Some(
                match event.text("action") {
                    Some("block") => 2,
                    Some("coach") => 23,
                    Some("alert") => 19,
                    Some("redirect") => 7,
                    _ => 1,
                }
                .into(),
            )
        },
    ),
    field("firewall_rule.name", "rule"),
    field("policy.uid", "policy_version"),
    field("actor.user.name", "user"),
    made("actor.user.groups", "`groups`, each as a `name`, where there is a `user`", |event| {
        event.get("user")?;
        let groups = event.texts("groups", None);
        let named: Vec<Value> = groups.into_iter().map(|name| json!({ "name": name })).collect();
        (!named.is_empty()).then(|| named.into())
    }),
    field("device.uid", "device"),
    made("device.type_id", "0 where there is a `device`", |event| {
        event.get("device").map(|_| 0.into())
    }),
    made("device.is_managed", "whether `device_class` is `managed`", |event| {
        event.get("device")?;
        event.text("device_class").map(|class| (class == "managed").into())
    }),
    made("device.os.name", "`os`, where there is a `device`", |event| {
        event.get("device").and_then(|_| event.get("os").cloned())
    }),
    made(
        "device.os.type_id",
        "100 Windows, 200 Linux, 201 Android, 300 macOS, 301 iOS, else 99",
        |event| {
            event.get("device")?;
            let os = event.text("os")?.to_ascii_lowercase();
            let known =
                [("windows", 100), ("linux", 200), ("android", 201), ("mac", 300), ("ios", 301)];
            let id = known.iter().find(|(name, _)| os.starts_with(name)).map_or(99, |(_, id)| *id);
            Some(id.into())
        },
    ),
];

/// Milliseconds since 1970; 0 for a line without a time, which the log never writes.
pub(super) fn millis(event: &Event) -> i64 {
    event.time().map_or(0, jiff::Timestamp::as_millisecond)
}

fn severity(event: &Event) -> Option<Value> {
    let severity = if event.get("threat").is_some() {
        4
    } else if event.is("action", "block") || event.get("dlp").is_some() {
        3
    } else if event.is("type", "alert") {
        2
    } else {
        1
    };
    Some(severity.into())
}

/// The file that was carried.
pub(super) fn file(event: &Event) -> Option<Value> {
    let mut file = json!({ "name": event.text("file_name")?, "type_id": 1 });
    for (theirs, ours) in [("size", "file_size"), ("ext", "file_type")] {
        if let (Some(value), Some(file)) = (event.get(ours), file.as_object_mut()) {
            file.insert(theirs.to_owned(), value.clone());
        }
    }
    if let (Some(digest), Some(file)) = (event.text("sha256"), file.as_object_mut()) {
        let hashes = json!([{ "algorithm_id": 3, "value": digest }]);
        file.insert("hashes".to_owned(), hashes);
    }
    Some(file)
}
