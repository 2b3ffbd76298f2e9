//! The table of fields, the record and docs/events.md say the same.

use std::fmt::Write as _;
use std::path::Path;

use policy::fact::Key;
use serde_json::Value;

use super::{full, line};
use crate::event::{FIELDS, FieldDoc, field_of};

const DOC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/events.md");
/// Set to write the page anew.
const REGENERATE: &str = "SLUICE_REGENERATE";

/// The top-level keys of a line, in their order.
fn keys(line: &str) -> Vec<String> {
    let mut depth = 0;
    let mut quoted = false;
    let mut keys = Vec::new();
    let mut word = String::new();
    let mut escaped = false;
    for character in line.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                if quoted {
                    word.clear();
                }
            }
            _ if quoted => word.push(character),
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ':' if depth == 1 => keys.push(word.clone()),
            _ => {}
        }
    }
    keys
}

#[test]
fn the_table_lists_exactly_what_a_full_record_writes() {
    let written = keys(&line(&full()));
    let documented: Vec<_> = FIELDS.iter().map(|field| field.name).collect();
    assert_eq!(written, documented);
}

#[test]
fn every_example_is_of_its_kind() {
    let event: Value = serde_json::from_str(&line(&full())).unwrap();
    for field in FIELDS {
        let example: Value = serde_json::from_str(field.example).unwrap();
        for value in [&example, &event[field.name]] {
            let fits = match field.kind {
                "text" => value.is_string(),
                "number" => value.is_number(),
                "boolean" => value.is_boolean(),
                "object" => value.is_object(),
                "list of text" => value[0].is_string(),
                "list of objects" => value[0].is_object(),
                values => values.contains(&format!("`{}`", value.as_str().unwrap())),
            };
            assert!(fits, "{}: {value} is no {}", field.name, field.kind);
        }
    }
}

#[test]
fn every_match_key_has_its_field() {
    let keys = [
        Key::User,
        Key::Group,
        Key::Device,
        Key::DeviceClass,
        Key::Os,
        Key::AccessMethod,
        Key::SourceIp,
        Key::SourceCountry,
        Key::Domain,
        Key::DestIp,
        Key::DestPort,
        Key::DestCountry,
        Key::Time,
        Key::App,
        Key::AppTag,
        Key::Category,
        Key::Risk,
        Key::Instance,
        Key::Url,
        Key::Activity,
        Key::Method,
        Key::ContentType,
        Key::FileType,
        Key::FileName,
        Key::FileSize,
        Key::FromUser,
        Key::ToUser,
        Key::Dlp,
        Key::Threat,
        Key::Inspection,
    ];
    assert_eq!(keys.len(), Key::COUNT);
    for key in keys {
        let name = field_of(key);
        assert!(FIELDS.iter().any(|field| field.name == name), "{name}");
    }
}

#[test]
fn the_page_is_generated_from_the_table() {
    let page = page();
    if std::env::var_os(REGENERATE).is_some() {
        std::fs::create_dir_all(Path::new(DOC).parent().unwrap()).unwrap();
        std::fs::write(DOC, &page).unwrap();
    }
    let kept = std::fs::read_to_string(DOC).unwrap_or_default();
    assert!(kept == page, "docs/events.md is stale: run the tests with {REGENERATE}=1");
}

fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    let mut group = "";
    for field in FIELDS {
        if field.group != group {
            group = field.group;
            write!(
                page,
                "\n## {group}\n\n| field | type | meaning | example |\n|---|---|---|---|\n"
            )
            .unwrap();
        }
        let FieldDoc { name, kind, meaning, example, .. } = field;
        writeln!(page, "| `{name}` | {kind} | {meaning} | `{example}` |").unwrap();
    }
    page.push_str(GUARANTEES);
    page
}

const INTRODUCTION: &str = "\
# Events

<!-- Generated from gateway/src/event/fields.rs: SLUICE_REGENERATE=1 cargo test -p gateway event -->

One JSON object per line, UTF-8, one line per fact. A field that is not known is absent. Nothing
secret is written: no cookie, no Authorization; secrets in URLs are replaced by `REDACTED`.

`session` is a tunnel that came up, went down or was refused; `flow` an inner stream that was not
HTTP or not decrypted; `transaction` one HTTP exchange or WebSocket; `alert` a rule, DLP profile or
threat engine that struck, and points to its transaction with `parent_id`. What belongs to no
tenant goes to the tenant `_pop`.

What lasts longer than five seconds, and each upload before its first byte goes on, is written as
`open`, then as `update` every minute, then as `close`, all under one `id`. Count `close` lines.

Text is cut at 1 KiB (URLs at 8 KiB) and then ends in `…(<bytes> bytes, crc32 <checksum>)`, both of
the whole; lists are cut at 128 entries. Control characters, line separators and characters that
change the direction of text are escaped, so one event is always one line.

Read them with `sluice events`, from `GET /v1/events` of the admin endpoint, or from the files
`data/events/<tenant>/<number of the first event>.ndjson` (`.ndjson.zst` once no more is written to it).
How they reach other systems is in [getting events out](sinks.md), in which forms in
[formats](formats.md).
";

const GUARANTEES: &str = "
## What is kept

An event is in the kernel within the flush interval (`events.flush_ms`), so that it survives the
process; and on the disk as soon as a sync of the same interval ends, so that it survives the
machine. It can be read within a second. A request never waits for the disk: where the disk does
not keep up, events wait in memory (32 MiB per worker). What is beyond that is for `events.when_full`:
with `drop_oldest`, the default, the oldest that wait are lost, counted, and told by an `alert` of `_pop`
with `error` `events_dropped`. With `refuse_traffic` new requests get a 503 and new flows are refused
(`event_log_full`) from half of that memory on, while the disk refuses to write: the other half is for the
ends of what is under way and for the refusals, so that what passed is recorded.

Each tenant has a quota: its own, or an equal share of `events.max_bytes`. Above it the tenant's
oldest whole segments go, counted, and told by an `alert` of the tenant with `error`
`events_evicted`; one tenant's events never push out another's. In both alerts `object` is how many
events went.

A full disk takes oldest segments too, of the tenant that uses most, told in the same way. Where there
is none left to take, events wait in memory as above; when space returns the log goes on
by itself. What was written before stays: a write that the disk cuts short is cut back to the last whole
event. The log stops short of the last free byte, because splitting an event takes as much room as
writing it. On a disk smaller than `events.max_bytes`, three quarters of the disk take its place.

Delivery is at least once: a cursor stays good over restarts, and where a power cut took events
that were read already, some may come twice. Deduplicate by `id` and `state`.
";
