//! What `sluice replay` promises of records that do not tell all.

use serde_json::json;

use super::{replayed, upload};

const NO_UPLOADS: &str = "version: 1\nrules:\n  - { name: no uploads, \
                          match: { activity: [upload] }, action: block }\n";

#[test]
fn what_the_gateway_refused_by_itself_is_no_change() {
    let mut refused = upload("1", "alice@acme.test");
    refused["action"] = "block".into();
    refused["block_reason"] = "private_destination".into();
    assert_eq!(replayed("version: 1\nrules: []\n", &[refused.clone()]).len(), 0);
    refused["block_reason"] = "rule".into();
    assert_eq!(replayed("version: 1\nrules: []\n", &[refused]).len(), 1);
}

#[test]
fn an_exchange_refused_before_its_head_has_no_activity_to_judge() {
    let mut refused = upload("1", "alice@acme.test");
    for field in ["app", "category", "instance_kind", "activity", "request_bytes"] {
        refused.as_object_mut().unwrap().remove(field);
    }
    refused["action"] = "block".into();
    refused["block_reason"] = "rule".into();
    let found = replayed(NO_UPLOADS, &[refused]);
    assert_eq!(found.first().unwrap()["undecidable"], json!(["activity"]));
}

#[test]
fn an_activity_that_only_the_body_tells_is_undecidable_where_nobody_read_it() {
    let mut form = upload("1", "alice@acme.test");
    form["url"] = "https://files.test/send".into();
    form["host"] = "files.test".into();
    form["content_type"] = "multipart/form-data; boundary=b".into();
    form["activity"] = "form_post".into();
    form.as_object_mut().unwrap().remove("app");
    let found = replayed(NO_UPLOADS, &[form.clone()]);
    assert_eq!(found.first().unwrap()["undecidable"], json!(["activity"]));
    form["file_size"] = 9.into();
    assert_eq!(replayed(NO_UPLOADS, &[form]).len(), 0);
}

#[test]
fn a_blocked_upload_had_a_body_although_no_byte_of_it_was_sent() {
    let text = "version: 1\nrules:\n  - { name: keys, match: { file_name: ['*.pem'] }, \
                action: block }\n";
    let mut blocked = upload("1", "alice@acme.test");
    blocked.as_object_mut().unwrap().remove("request_bytes");
    blocked["action"] = "block".into();
    blocked["block_reason"] = "rule".into();
    let found = replayed(text, &[blocked]);
    assert_eq!(found.first().unwrap()["undecidable"], json!(["file_name"]));
}

#[test]
fn a_file_is_of_its_kind_too_and_a_downloads_type_is_its_names() {
    let of = |kind: &str| {
        format!(
            "version: 1\nrules:\n  - {{ name: kind, match: {{ file_type: [{kind}] }}, action: block }}\n"
        )
    };
    let mut down = upload("1", "alice@acme.test");
    down["method"] = "GET".into();
    down["request_bytes"] = 0.into();
    down["activity"] = "download".into();
    down["content_type"] = "application/octet-stream".into();
    down["file_name"] = "plan.PDF".into();
    let mut up = upload("2", "alice@acme.test");
    up["file_name"] = "notes.txt".into();
    up["file_type"] = "pdf".into();
    up["file_size"] = 9.into();
    for kind in ["pdf", "document"] {
        let found = replayed(&of(kind), &[down.clone(), up.clone()]);
        let now: Vec<_> = found.iter().map(|line| &line["now"]["rule"]).collect();
        assert_eq!(now, ["kind", "kind"], "{kind}");
    }
    // What nobody looked into may be of any kind; what was, is of its own.
    let unread = upload("3", "alice@acme.test");
    assert_eq!(replayed(&of("image"), &[down, up]).len(), 0);
    let found = replayed(&of("image"), &[unread]);
    assert_eq!(found.first().unwrap()["undecidable"], json!(["file_type"]));
}

#[test]
fn a_window_is_asked_of_the_beginning_and_not_of_the_line_that_closed_it() {
    let text = "version: 1\nrules:\n  - { name: night, match: { time: '22:00-06:00 UTC' }, action: block }\n";
    let mut long = upload("1", "alice@acme.test");
    long["time"] = "2026-11-23T22:30:00.000000Z".into();
    long["total_ms"] = json!(3_600_000.0);
    assert_eq!(replayed(text, &[long.clone()]).len(), 0, "it began at half past nine");
    long["total_ms"] = json!(60_000.125);
    assert_eq!(replayed(text, &[long]).len(), 1);
}

#[test]
fn a_text_that_was_cut_is_not_compared() {
    let text = "version: 1\nrules:\n  - { name: end, match: { url: ['*/end'] }, action: block }\n";
    let mut cut = upload("1", "alice@acme.test");
    cut["url"] = "https://www.dropbox.com/aaaa…(9000 bytes, crc32 0a0b0c0d)".into();
    assert_eq!(replayed(text, &[cut]).first().unwrap()["undecidable"], json!(["url"]));
}

#[test]
fn a_block_that_needs_the_body_stands_above_a_coach_that_does_not() {
    let text = "version: 1\nrules:\n  - { name: keys, match: { app: [dropbox], \
                file_name: ['*.pem'] }, action: block }\n  - { name: think, \
                match: { app: [dropbox] }, action: coach }\n";
    let mut sent = upload("1", "alice@acme.test");
    sent["file_name"] = "id.pem".into();
    sent["file_size"] = 9.into();
    let found = replayed(text, &[sent]);
    assert_eq!(found.first().unwrap()["now"], json!({ "action": "block", "rule": "keys" }));
}
