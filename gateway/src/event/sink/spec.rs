//! What a sink sends, read out of its configuration.

use std::time::Duration;

use policy::Pattern;

use crate::config::{Sink, SinkFormat, SinkKind};
use crate::event::filter::Filter;
use crate::event::format::Format;

/// Of which events, in which form, how many at once.
pub(super) struct Spec {
    pub(super) format: Format,
    pub(super) filter: Filter,
    tenants: Vec<Pattern>,
    pub(super) events: usize,
    pub(super) bytes: usize,
    pub(super) wait: Duration,
}

impl Spec {
    pub(super) fn new(sink: &Sink) -> Self {
        let mut filter = Filter::default();
        for (key, values) in sink.filter.by_key() {
            for value in values {
                // What is no pattern was refused with the configuration.
                filter.want(key, value).unwrap_or_default();
            }
        }
        // An object of a store is paid for by the piece and read whole; all else wants small ones.
        let (events, bytes, wait_ms) = match sink.kind {
            SinkKind::S3 => (100_000, 64 << 20, 60_000),
            // Each partition has its share, so that several are written to at once.
            SinkKind::Kafka => (10_000, 8 << 20, 200),
            _ => (1_000, 4 << 20, 200),
        };
        let batch = &sink.batch;
        Self {
            format: match sink.format {
                SinkFormat::Native => Format::Native,
                SinkFormat::Ocsf => Format::Ocsf,
                SinkFormat::Cef => Format::Cef,
                SinkFormat::Export => Format::Export,
            },
            filter,
            tenants: sink.tenants.iter().filter_map(|text| Pattern::parse(text)).collect(),
            events: batch.events.map_or(events, |events| events as usize),
            bytes: batch.bytes.map_or(bytes, |bytes| bytes.0 as usize),
            wait: Duration::from_millis(batch.wait_ms.unwrap_or(wait_ms)),
        }
    }

    pub(super) fn has_tenant(&self, name: &str) -> bool {
        self.tenants.is_empty() || self.tenants.iter().any(|pattern| pattern.matches(name))
    }
}
