//! Counters by tenant with a bounded number of series: the busiest by name, the rest together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};

/// Tenants with a series of their own; with six such counters at most, 1,206 series in all.
const NAMED_MAX: usize = 200;
const OTHER: &str = "_other";

/// A counter for each tenant. The sum over all series never falls: a tenant that leaves the
/// named ones goes on being counted under `_other`.
#[derive(Clone)]
pub(super) struct TenantCounter {
    desc: Desc,
    counts: Arc<DashMap<Box<str>, AtomicU64>>,
}

impl TenantCounter {
    /// Declares a counter.
    ///
    /// # Errors
    /// Where the name is not one that Prometheus takes.
    pub(super) fn new(name: &str, help: &str) -> prometheus::Result<Self> {
        let desc = Desc::new(
            name.to_owned(),
            help.to_owned(),
            vec!["tenant".to_owned()],
            std::collections::HashMap::new(),
        )?;
        Ok(Self { desc, counts: Arc::default() })
    }

    pub(super) fn add(&self, tenant: &str, count: u64) {
        if let Some(counter) = self.counts.get(tenant) {
            counter.fetch_add(count, Ordering::Relaxed);
            return;
        }
        self.counts.entry(tenant.into()).or_default().fetch_add(count, Ordering::Relaxed);
    }

    /// The busiest tenants, then what all others have together.
    fn series(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = self
            .counts
            .iter()
            .map(|entry| (entry.key().to_string(), entry.value().load(Ordering::Relaxed)))
            .collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let rest: u64 = all.iter().skip(NAMED_MAX).map(|(_, count)| count).sum();
        all.truncate(NAMED_MAX);
        all.push((OTHER.to_owned(), rest));
        all
    }
}

impl Collector for TenantCounter {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::COUNTER);
        let metrics = self.series().into_iter().map(|(tenant, count)| {
            let mut label = LabelPair::default();
            label.set_name("tenant".to_owned());
            label.set_value(tenant);
            let mut counter = Counter::default();
            #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floats")]
            counter.set_value(count as f64);
            let mut metric = Metric::from_label(vec![label]);
            metric.set_counter(counter);
            metric
        });
        family.set_metric(metrics.collect());
        vec![family]
    }
}
