//! The result of a run as a table for people and as JSON for programs.

use std::fmt::Write;

use serde_json::json;

use crate::run::Outcome;

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

pub(crate) fn json(outcome: &Outcome) -> String {
    let seconds = outcome.measured.as_secs_f64();
    let answered = outcome.latency.count();
    let mut latency = json!({"mean": outcome.latency.mean_ms(), "max": outcome.latency.max_ms()});
    for (name, quantile) in QUANTILES {
        if let Some(map) = latency.as_object_mut() {
            map.insert(name.to_owned(), outcome.latency.quantile_ms(quantile).into());
        }
    }
    let mut report = json!({
        "tunnels": outcome.tunnels,
        "streams": outcome.streams,
        "coming_up_s": outcome.coming_up.as_secs_f64(),
        "duration_s": seconds,
        "loop": if outcome.rate.is_some() { "open" } else { "closed" },
        "rate": outcome.rate,
        "requests": answered,
        "requests_per_s": answered as f64 / seconds,
        "never_sent": outcome.never_sent,
        "errors": outcome.errors,
        "statuses": outcome.statuses,
        "sent_bytes": outcome.sent_bytes,
        "received_bytes": outcome.received_bytes,
        "received_gbit_per_s": outcome.received_bytes as f64 * 8.0 / seconds / 1e9,
        "sent_gbit_per_s": outcome.sent_bytes as f64 * 8.0 / seconds / 1e9,
        "latency_ms": latency,
    });
    if let (Some(carried), Some(map)) = (&outcome.carried, report.as_object_mut()) {
        map.insert("carried".to_owned(), carried.json());
    }
    report.to_string()
}

pub(crate) fn table(outcome: &Outcome) -> String {
    let seconds = outcome.measured.as_secs_f64();
    let answered = outcome.latency.count();
    let rate = match outcome.rate {
        Some(rate) => format!("open loop at {rate}/s, latency from the due time"),
        None => "closed loop".to_owned(),
    };
    let mut rows = vec![
        ("tunnels".to_owned(), format!("{} of {}", outcome.tunnels, outcome.tunnels_wanted)),
        (
            "streams".to_owned(),
            format!(
                "{} of {}, up in {:.2} s",
                outcome.streams,
                outcome.streams_wanted,
                outcome.coming_up.as_secs_f64()
            ),
        ),
        ("load".to_owned(), format!("{rate}, {seconds:.1} s")),
        ("answered".to_owned(), format!("{answered} ({:.1}/s)", answered as f64 / seconds)),
        ("received".to_owned(), bytes(outcome.received_bytes, seconds)),
        ("sent".to_owned(), bytes(outcome.sent_bytes, seconds)),
        ("mean".to_owned(), format!("{:.2} ms", outcome.latency.mean_ms())),
    ];
    for (name, quantile) in QUANTILES {
        rows.push((name.to_owned(), format!("{:.2} ms", outcome.latency.quantile_ms(quantile))));
    }
    rows.push(("max".to_owned(), format!("{:.2} ms", outcome.latency.max_ms())));
    if let Some(carried) = &outcome.carried {
        rows.push(("carried".to_owned(), carried.line()));
    }
    if outcome.never_sent > 0 {
        rows.push(("never sent".to_owned(), outcome.never_sent.to_string()));
    }
    for (status, count) in &outcome.statuses {
        rows.push((format!("status {status}"), count.to_string()));
    }
    for (label, count) in &outcome.errors {
        rows.push((format!("error {label}"), count.to_string()));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in rows {
        // Writing to a string cannot fail.
        writeln!(text, "{name:width$}  {value}").ok();
    }
    text.trim_end().to_owned()
}

fn bytes(count: u64, seconds: f64) -> String {
    let gbit = count as f64 * 8.0 / seconds / 1e9;
    format!("{:.1} MB ({gbit:.3} Gbit/s)", count as f64 / 1e6)
}
