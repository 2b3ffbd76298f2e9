//! Keeps the table of docs/metrics.md equal to the registry; `SLUICE_UPDATE_DOCS=1` rewrites it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::path::Path;

use prometheus::proto::{MetricFamily, MetricType};

use super::Metrics;
use super::limits::LIMITS;
use crate::event::{Record, RecordType, SinkStats};
use crate::ident::{AccessMethod, Blame};

const BEGIN: &str = "<!-- metrics: generated from gateway/src/telemetry/metrics.rs -->\n";
const END: &str = "<!-- end of the generated table -->\n";

/// Labelled metrics have no series before their first use, and a registry shows series only.
fn touched() -> Metrics {
    let metrics = Metrics::new().unwrap();
    metrics.session_opened(AccessMethod::Tls);
    metrics.tunnel_refused("no_certificate");
    metrics.limit_reached("idle");
    let mut record = Record::now(RecordType::Transaction);
    record.end.error_side = Some(Blame::Origin);
    metrics.exchange_ended("acme", &record);
    metrics.flow_ended("acme", &Record::now(RecordType::Flow));
    metrics.packet_dropped("no_route");
    metrics.datagram_dropped("unknown");
    let stats = SinkStats { failures: [("refused", 1)].into(), ..SinkStats::default() };
    metrics.sinks(&[("siem".to_owned(), stats)]);
    metrics
}

fn row(family: &MetricFamily) -> String {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    };
    let labels = family.get_metric().first().unwrap().get_label();
    let labels: Vec<String> = labels.iter().map(|label| format!("`{}`", label.name())).collect();
    format!("| `{}` | {kind} | {} | {} |", family.name(), labels.join(" "), family.help())
}

fn table() -> String {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for family in touched().registry().gather() {
        writeln!(table, "{}", row(&family)).unwrap();
    }
    table
}

#[test]
fn the_page_lists_every_metric() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (kept, after) = rest.split_once(END).unwrap();
    let fresh = table();
    if std::env::var_os("SLUICE_UPDATE_DOCS").is_some() {
        std::fs::write(&file, format!("{before}{BEGIN}\n{fresh}\n{END}{after}")).unwrap();
        return;
    }
    assert_eq!(kept.trim(), fresh.trim(), "run with SLUICE_UPDATE_DOCS=1");
}

#[test]
fn every_metric_is_named_for_the_product_and_explained() {
    let families = touched().registry().gather();
    // The table lists what was touched: that is all there is.
    let declared = include_str!("metrics.rs").matches("\"sluice_").count();
    assert_eq!(families.len(), declared, "a metric that `touched` forgets");
    for family in families {
        assert!(family.name().starts_with("sluice_"), "{}", family.name());
        assert!(!family.help().is_empty(), "{}", family.name());
    }
}

/// Names of users, hosts, apps and rules are unbounded; so are tenants, save where the busiest
/// are counted by name.
#[test]
fn labels_are_closed_sets_and_histograms_name_no_tenant() {
    // There are few sinks, and gateway.yaml names them.
    const KNOWN: [&str; 7] =
        ["access_method", "reason", "action", "side", "tenant", "limit", "sink"];
    let mut by_tenant = 0;
    for family in touched().registry().gather() {
        let labels = family.get_metric().first().unwrap().get_label();
        for label in labels {
            assert!(KNOWN.contains(&label.name()), "{}: {}", family.name(), label.name());
        }
        if labels.iter().any(|label| label.name() == "tenant") {
            assert_eq!(family.get_field_type(), MetricType::COUNTER, "{}", family.name());
            by_tenant += 1;
        }
    }
    assert!(by_tenant <= 6, "{by_tenant} counters by tenant");
}

/// The value of one limit's counter.
fn refusals(metrics: &Metrics, limit: &str) -> f64 {
    let text = String::from_utf8(metrics.exposition()).unwrap();
    let start = format!("sluice_limit_refusals_total{{limit=\"{limit}\"}} ");
    text.lines()
        .find_map(|line| line.strip_prefix(&start))
        .map_or(0.0, |value| value.parse().unwrap())
}

#[test]
fn a_refusal_counts_at_its_limit_and_once() {
    for (limit, label) in LIMITS {
        let metrics = Metrics::new().unwrap();
        let mut record = Record::now(RecordType::Transaction);
        if limit.starts_with("hold_") {
            record.content.inspection_reason = Some(label.into());
            record.verdict.block_reason = Some("unobtainable:file_name".into());
        } else {
            record.end.error = Some(label);
            record.verdict.block_reason = Some(label.into());
        }
        metrics.exchange_ended("acme", &record);
        assert_eq!(refusals(&metrics, limit), 1.0, "{limit}");
        metrics.flow_ended("acme", &record);
        assert_eq!(refusals(&metrics, limit), 2.0, "{limit}");
    }
    let metrics = Metrics::new().unwrap();
    let mut record = Record::now(RecordType::Flow);
    record.end.error = Some("origin_reset");
    metrics.flow_ended("acme", &record);
    metrics.tunnel_refused("too_many_tunnels");
    let counted: Vec<_> =
        LIMITS.iter().filter(|(limit, _)| refusals(&metrics, limit) > 0.0).collect();
    assert_eq!(counted, [&("tunnels", "too_many_tunnels")]);
}

#[test]
fn every_limit_stands_in_the_operators_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (_, rest) = text.split_once("\n## Limits\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    for (limit, _) in LIMITS {
        let cell = format!("| `{limit}` |");
        assert!(section.lines().any(|line| line.ends_with(&cell)), "no row ends in {cell}");
    }
}
