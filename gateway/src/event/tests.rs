//! What the log promises.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod broken_disk;

mod docs;

mod durable;

mod formats;

mod full_disk;

mod injection;

mod packed;

mod power_cut;

mod privacy;

mod tenants;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{EventLog, Options, Reader, Record, RecordType};

fn options() -> Options {
    Options {
        pop: "fra-1".into(),
        flush: Duration::from_millis(20),
        max_bytes: 1 << 30,
        workers: 1,
        fsync: false,
        compress: false,
    }
}

fn open(directory: &Path) -> EventLog {
    EventLog::open(directory, options()).unwrap()
}

/// A record that carries a number.
fn numbered(number: usize) -> Record {
    let mut record = Record::now(RecordType::Transaction);
    record.app.object = Some(number.to_string().into());
    record
}

fn append(log: &EventLog, tenant: &str, numbers: std::ops::Range<usize>) {
    let writer = log.writer(0);
    numbers.for_each(|number| writer.append(tenant, &numbered(number)));
}

/// All events of a tenant, a page at a time.
fn walk(reader: &Reader, tenant: &str, mut cursor: Option<String>, page: usize) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let read = reader.after(tenant, cursor.as_deref(), page).unwrap();
        if read.events == 0 {
            return events;
        }
        events.extend(parse(&read.lines));
        cursor = Some(read.cursor);
    }
}

fn parse(lines: &[u8]) -> Vec<Value> {
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// The numbers of the events a tenant has.
fn numbers(directory: &Path, tenant: &str) -> Vec<usize> {
    let events = walk(&Reader::open(directory), tenant, None, 100);
    let numbered = events.iter().filter(|event| event["type"] == "transaction");
    numbered.map(|event| event["object"].as_str().unwrap().parse().unwrap()).collect()
}

/// A record with every field.
fn full() -> Record {
    use super::*;
    use crate::ident::{AccessMethod, Blame, FlowId, SessionId};

    let text = |text: &'static str| Some(Text::from(text));
    let time = Some(Duration::from_micros(1204));
    let ip = Some(std::net::IpAddr::from([198, 51, 100, 7]));
    let operation = Operation {
        activity: text("share"),
        object: text("plan.pdf"),
        to_user: text("bob@example.com"),
        action: text("block"),
        rule: text("no sharing"),
    };
    Record {
        policy_version: text("9f2c41d7a06b"),
        parent_id: Some(uuid::Uuid::now_v7()),
        client: Some(Arc::new(Client {
            session_id: Some(SessionId::fresh()),
            user: text("alice@acme.test"),
            groups: [Arc::from("finance")].into(),
            device: text("laptop-17"),
            device_class: text("managed"),
            os: text("linux"),
            access_method: Some(AccessMethod::Tls),
            ip,
            port: Some(51234),
            country: text("DE"),
            tunnel_tls: text("1.3"),
            tunnel_kx: text("X25519MLKEM768"),
            binding: text("certificate"),
        })),
        destination: Destination {
            flow_id: Some(FlowId::fresh()),
            host: text("www.example.com"),
            ip,
            port: Some(443),
            sni: text("www.example.com"),
            host_source: Some(HostSource::Sni),
            country: text("US"),
            egress_ip: ip,
        },
        tls: Tls {
            decrypted: Some(true),
            decrypt_reason: text("default"),
            client_version: text("1.3"),
            client_alpn: text("h2"),
            client_ja4: text("t13d1516h2_8daaf6152771_b186095e22b6"),
            origin_version: text("1.3"),
            origin_kx: text("X25519"),
            origin_alpn: text("http/1.1"),
            origin_issuer: text("CN=R11"),
            origin_cert_fault: text("expired"),
        },
        http: Http {
            method: text("POST"),
            url: text("https://www.example.com/upload?token=hunter2"),
            version: text("HTTP/2"),
            status: Some(200),
            content_type: text("application/pdf"),
            user_agent: text(
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            ),
            referer: text("https://www.example.com/"),
            request_bytes: Some(48213),
            response_bytes: Some(512),
        },
        app: App {
            id: text("dropbox"),
            category: text("cloud-storage"),
            categories: vec!["cloud-storage".into(), "partners".into()],
            tags: vec!["sanctioned".into()],
            risk: Some(20),
            instance: text("acme.test"),
            instance_kind: Some(InstanceKind::Corporate),
            activity: text("upload"),
            object: text("plan.pdf"),
            object_type: text("file"),
            from_user: text("alice@acme.test"),
            to_user: text("bob@example.com"),
            operations: vec![operation],
        },
        content: Content {
            file_name: text("plan.pdf"),
            file_type: text("pdf"),
            file_size: Some(48001),
            sha256: text("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
            dlp: vec![DlpHit {
                profile: "payment-cards".into(),
                entity: "payment-card".into(),
                count: 3,
            }],
            threat: Some(Threat { name: "EICAR-Test-File".into(), engine: "clamav".into() }),
            inspection: Some(Inspection::Full),
            inspection_reason: text("too_large"),
        },
        verdict: Verdict {
            action: text("block"),
            rule: text("corporate Dropbox only"),
            alerts: vec!["watch source code".into()],
            justification: text("agreed with legal"),
            block_reason: text("rule"),
        },
        cost: Cost {
            dns: time,
            connect: time,
            tls: time,
            first_byte: time,
            total: time,
            policy: time,
            gateway: time,
        },
        end: End { error: Some("origin_timeout"), error_side: Some(Blame::Origin) },
        ..Record::now(RecordType::Transaction)
    }
}

/// The record as it is written.
fn line(record: &Record) -> String {
    line_with(record, &super::Redaction::default())
}

fn line_with(record: &Record, redaction: &super::Redaction) -> String {
    let enrichment = super::enrich::Enrichment::default();
    enrichment.set_places(std::sync::Arc::new(crate::snapshot::places_of_tests()));
    let setting = super::serialize::Setting {
        pop: "fra-1",
        tenant: "acme",
        redaction,
        enrichment: &enrichment,
    };
    let mut out = Vec::new();
    super::serialize::write(&mut out, record, &setting);
    String::from_utf8(out).unwrap()
}
