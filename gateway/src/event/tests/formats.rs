//! What other systems get: the tables, the page made of them, and independent readers.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{full, line};
use crate::event::{Content, Event, Export, FIELDS, Format, Record, RecordType, Source, tables};

const DOC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats.md");
/// Set to write the page anew.
const REGENERATE: &str = "SLUICE_REGENERATE";

#[test]
fn every_source_is_a_field_of_ours_and_every_name_stands_once() {
    for (name, rows) in tables() {
        let mut names = Vec::new();
        for row in rows {
            if let Source::Field(ours) = row.source {
                assert!(FIELDS.iter().any(|field| field.name == ours), "{name}: no field {ours}");
            }
            assert!(!names.contains(&row.name), "{name}: {} twice", row.name);
            names.push(row.name);
        }
    }
}

#[test]
fn the_page_of_formats_is_generated_from_the_tables() {
    let page = page();
    if std::env::var_os(REGENERATE).is_some() {
        std::fs::write(DOC, &page).unwrap();
    }
    let kept = std::fs::read_to_string(DOC).unwrap_or_default();
    assert!(kept == page, "docs/formats.md is stale: run the tests with {REGENERATE}=1");
}

fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for (name, rows) in tables() {
        write!(page, "\n## {name}\n\n| field | from |\n|---|---|\n").unwrap();
        for row in rows {
            let from = match row.source {
                Source::Field(ours) => format!("`{ours}`"),
                Source::Text(text) => format!("always `{text}`"),
                Source::Number(number) => format!("always {number}"),
                Source::Made(how, _) => how.to_owned(),
            };
            writeln!(page, "| `{}` | {from} |", row.name).unwrap();
        }
    }
    page
}

const INTRODUCTION: &str = "\
# Formats

<!-- Generated from gateway/src/event/format: SLUICE_REGENERATE=1 cargo test -p gateway formats -->

Beside its own form ([events](events.md)) an event is written in three others: by sinks, whose
`format` chooses ([configuration](configuration.md)), and by the pull iterator, which writes `export`
([operating](operating.md)). Each table says from which field of ours a field comes. A field whose
source is absent is absent.

`export` has the field names of the commercial product's pull API and of its web transaction log. An
event is pulled as a record of a kind once it is closed: a `transaction` is a transaction, with an app
and an activity also an application event, and a GET that got HTML also a page event; a `flow` is a
network event; an `alert` is a malware alert where there is a `threat`, else a DLP alert where there is
`dlp`, else a policy alert.

CEF is version 0: `CEF:0|Sluice|Secure Web Gateway|<version>|<type>|<name>|<severity>|<extension>`. The
severity is 9 for a threat, 7 for an alert of a content profile, 6 for a block, 5 for any other alert,
else 2. A label stands only beside its value.

OCSF is version 1.6 with the profiles `host` and `security_control`; a dot steps into an object, and
`type_uid` is `class_uid` times 100 plus `activity_id`, as the schema wants it.
";

/// An event of each type, with every field and with few.
fn samples() -> Vec<String> {
    let mut samples = Vec::new();
    for record_type in
        [RecordType::Session, RecordType::Flow, RecordType::Transaction, RecordType::Alert]
    {
        let whole = Record { record_type, ..full() };
        samples.push(line(&whole));
        let content = Content { dlp: Vec::new(), ..whole.content.clone() };
        samples.push(line(&Record { content: content.clone(), ..whole.clone() }));
        let content = Content { threat: None, ..content };
        samples.push(line(&Record { content, ..whole.clone() }));
        let content = Content { threat: None, ..whole.content.clone() };
        samples.push(line(&Record { content, ..whole }));
        let mut bare = Record::now(record_type);
        bare.client = full().client;
        bare.destination = full().destination;
        samples.push(line(&bare));
    }
    samples
}

/// Holds each line against the schema of its class, and findings against a second reading of it.
const VALIDATE: &str = r#"
import json, sys
import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from py_ocsf_models.events.findings.detection_finding import DetectionFinding

ocsf = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.6.0"))
seen = {}
for line in sys.stdin:
    event = json.loads(line)
    uid = event["class_uid"]
    if uid not in seen:
        name = ocsf.lookup_class_name_from_uid(class_uid=uid)
        schema = ocsf.get_class_schema(class_name=name, profiles=event["metadata"]["profiles"])
        seen[uid] = jsonschema.Draft202012Validator(schema)
    faults = [f"{uid} {'.'.join(map(str, it.path))}: {it.message[:300]}" for it in seen[uid].iter_errors(event)]
    if faults:
        sys.exit("\n".join(faults))
    if uid == 2004:
        DetectionFinding.model_validate(event)
print(" ".join(map(str, sorted(seen))))
"#;

#[test]
fn ocsf_fits_the_published_schema_and_independent_models() {
    let mut input = Vec::new();
    for sample in samples() {
        assert!(Format::Ocsf.write(sample.as_bytes(), &mut input));
        input.push(b'\n');
    }
    let mut python = Command::new("python3")
        .args(["-c", VALIDATE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(&input).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "2004 2006 4001 4002 4014");
}

#[test]
fn an_ocsf_event_names_class_user_and_verdict() {
    let mut out = Vec::new();
    assert!(Format::Ocsf.write(line(&full()).as_bytes(), &mut out));
    let event: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&event["class_uid"], &event["type_uid"]), (&4002.into(), &400_206.into()));
    assert_eq!(event["actor"]["user"]["name"], "alice@acme.test");
    assert_eq!(event["dst_endpoint"]["hostname"], "www.example.com");
    assert_eq!((&event["action_id"], &event["disposition_id"]), (&2.into(), &2.into()));
    assert_eq!(event["metadata"]["tenant_uid"], "acme");
}

#[test]
fn cef_escapes_what_would_end_a_field() {
    let mut record = full();
    record.verdict.rule = Some("a=b|c\\d\ne".into());
    record.verdict.justification = Some("\u{1b}[2J\u{202e}".into());
    let mut out = Vec::new();
    assert!(Format::Cef.write(line(&record).as_bytes(), &mut out));
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("CEF:0|Sluice|Secure Web Gateway|"), "{text}");
    assert!(text.contains("|transaction|request blocked|9|"), "{text}");
    assert!(text.contains(r"cs2Label=rule cs2=a\=b|c\\d\ne cs3Label"), "{text}");
    assert!(!text.contains('\n') && !text.contains("justification flexString1"), "{text}");
    // What would steer a terminal is shown, as in the log.
    assert!(
        text.contains(r"\\u001b[2J\\u202e") && !text.contains(['\u{1b}', '\u{202e}']),
        "{text}"
    );
}

#[test]
fn an_event_is_exported_as_each_kind_that_it_is() {
    let kinds = [
        Export::Transaction,
        Export::Application,
        Export::Page,
        Export::Network,
        Export::Policy,
        Export::Dlp,
        Export::Malware,
    ];
    let of = |record: &Record| {
        let event = Event::parse(line(record).as_bytes()).unwrap();
        kinds.into_iter().filter(|kind| kind.takes(&event)).collect::<Vec<_>>()
    };
    assert_eq!(of(&full()), [Export::Transaction, Export::Application]);
    let mut page = Record::now(RecordType::Transaction);
    page.http.method = Some("GET".into());
    page.http.content_type = Some("text/html; charset=utf-8".into());
    assert_eq!(of(&page), [Export::Transaction, Export::Page]);
    page.state = crate::event::State::Open;
    assert_eq!(of(&page), []);
    assert_eq!(of(&Record::now(RecordType::Flow)), [Export::Network]);
    assert_eq!(of(&Record::now(RecordType::Session)), []);
    let mut alert = Record { record_type: RecordType::Alert, ..full() };
    assert_eq!(of(&alert), [Export::Malware]);
    alert.content.threat = None;
    assert_eq!(of(&alert), [Export::Dlp]);
    alert.content.dlp.clear();
    assert_eq!(of(&alert), [Export::Policy]);
}

#[test]
fn an_exported_transaction_speaks_the_products_words() {
    let event = Event::parse(line(&full()).as_bytes()).unwrap();
    let record = Export::Transaction.map(&event);
    for (name, value) in [
        ("x-type", "http_transaction"),
        ("x-cs-app-activity", "Upload"),
        ("x-category", "Cloud Storage"),
        ("x-cs-app-ccl", "high"),
        ("x-cs-app-instance-tags", "Sanctioned"),
        ("x-ssl-policy-action", "Decrypt"),
        ("x-r-cert-expired", "Yes"),
        ("x-r-cert-valid", "No"),
        ("cs-uri-query", "token=REDACTED"),
        ("x-policy-dst-host-source", "Sni"),
    ] {
        assert_eq!(record[name], value, "{name}");
    }
    assert_eq!((&record["bytes"], &record["time-taken"]), (&48_725.into(), &1.into()));
}
