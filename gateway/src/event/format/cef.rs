//! ArcSight Common Event Format, version 0: a header between bars, then `key=value` pairs.

use std::fmt::Write as _;

use serde_json::Value;

use super::source::{Row, field, made, text};
use super::value::Event;
use crate::event::line::misleads;

/// The extension's keys, of the CEF dictionary.
pub(super) const EXTENSION: &[Row] = &[
    made("rt", "`time` in milliseconds since 1970", |event| {
        Some(event.time()?.as_millisecond().into())
    }),
    field("externalId", "id"),
    field("cat", "type"),
    field("dvchost", "pop"),
    field("src", "client_ip"),
    field("spt", "client_port"),
    field("suser", "user"),
    field("shost", "device"),
    field("dhost", "host"),
    field("dst", "dest_ip"),
    field("dpt", "dest_port"),
    field("duser", "to_user"),
    field("act", "action"),
    field("outcome", "status"),
    field("reason", "error"),
    field("app", "http_version"),
    field("request", "url"),
    field("requestMethod", "method"),
    field("requestClientApplication", "user_agent"),
    field("requestContext", "referer"),
    // CEF counts from the source's side: `out` is what it sent.
    field("out", "request_bytes"),
    field("in", "response_bytes"),
    field("fname", "file_name"),
    field("fsize", "file_size"),
    field("fileType", "file_type"),
    field("fileHash", "sha256"),
    label("cs1Label", "tenant"),
    field("cs1", "tenant"),
    label("cs2Label", "rule"),
    field("cs2", "rule"),
    label("cs3Label", "app"),
    field("cs3", "app"),
    label("cs4Label", "activity"),
    field("cs4", "activity"),
    label("cs5Label", "instance"),
    field("cs5", "instance"),
    label("cs6Label", "content"),
    made("cs6", "the `profile` of each `dlp`, or the `threat`", |event| {
        let profiles = event.texts("dlp", Some("profile"));
        let threat = event.get("threat").and_then(|threat| threat.get("name")?.as_str());
        let named: Vec<&str> = profiles.into_iter().chain(threat).collect();
        (!named.is_empty()).then(|| named.join(",").into())
    }),
    label("cn1Label", "total_ms"),
    made("cn1", "`total_ms` in whole milliseconds", |event| {
        event.millis("total_ms").map(Value::from)
    }),
    label("flexString1Label", "category"),
    field("flexString1", "category"),
    label("flexString2Label", "justification"),
    field("flexString2", "justification"),
];

const fn label(name: &'static str, what: &'static str) -> Row {
    text(name, what)
}

/// Appends the line.
pub(super) fn write(event: &Event, out: &mut Vec<u8>) {
    let mut line = String::with_capacity(1024);
    let record_type = event.text("type").unwrap_or("event");
    let name = match (record_type, event.text("action")) {
        ("alert", _) if event.get("threat").is_some() => "threat found",
        ("alert", _) if event.get("dlp").is_some() => "content found",
        ("alert", _) => "rule alerted",
        ("session", _) => "tunnel",
        ("flow", _) => "flow",
        (_, Some("block")) => "request blocked",
        _ => "request",
    };
    line.push_str("CEF:0|Sluice|Secure Web Gateway|");
    for part in [env!("CARGO_PKG_VERSION"), record_type, name] {
        escape_header(&mut line, part);
        line.push('|');
    }
    push(&mut line, format_args!("{}|", severity(event)));
    let mut first = true;
    for (index, row) in EXTENSION.iter().enumerate() {
        // A label stands only beside its value.
        let value_row = if row.name.ends_with("Label") { EXTENSION.get(index + 1) } else { None };
        if value_row.is_some_and(|row| row.value(event).is_none()) {
            continue;
        }
        let Some(value) = row.value(event) else { continue };
        if !first {
            line.push(' ');
        }
        first = false;
        line.push_str(row.name);
        line.push('=');
        match &value {
            Value::String(text) => escape_value(&mut line, text),
            other => push(&mut line, format_args!("{other}")),
        }
    }
    out.extend_from_slice(line.as_bytes());
}

/// 0 to 10.
fn severity(event: &Event) -> u8 {
    let alert = event.is("type", "alert");
    if event.get("threat").is_some() {
        9
    } else if alert && event.get("dlp").is_some() {
        7
    } else if event.is("action", "block") {
        6
    } else if alert {
        5
    } else {
        2
    }
}

#[expect(clippy::let_underscore_must_use, reason = "writing into memory does not fail")]
fn push(line: &mut String, value: std::fmt::Arguments<'_>) {
    let _ = line.write_fmt(value);
}

fn escape_header(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '|' | '\\' => line.extend(['\\', character]),
            '\n' | '\r' => line.push(' '),
            other => plain(line, other),
        }
    }
}

/// A character without a meaning to CEF. One that would steer a terminal is shown, as in the log.
fn plain(line: &mut String, character: char) {
    if misleads(character) {
        push(line, format_args!("\\\\u{:04x}", u32::from(character)));
    } else {
        line.push(character);
    }
}

fn escape_value(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '=' | '\\' => line.extend(['\\', character]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            other => plain(line, other),
        }
    }
}
