//! Every metric, declared once. Labels are closed sets or tenants (bounded), never a host, user,
//! app or rule.

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use super::limits::limit_of;
use super::tenants::TenantCounter;
use crate::event::{Record, SinkStats, Text};
use crate::ident::AccessMethod;

/// Seconds: from a loopback exchange to a slow origin.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
/// Microseconds of policy work.
const POLICY_MICROS: [f64; 9] = [1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 1_000.0, 10_000.0];
/// Milliseconds the gateway itself added.
const ADDED_MILLIS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 50.0, 250.0];

/// Handles to every metric.
pub struct Metrics {
    registry: Registry,
    tunnels: IntGaugeVec,
    tunnels_total: IntCounterVec,
    tunnels_refused_total: IntCounterVec,
    exchanges_total: IntCounterVec,
    exchange_errors_total: IntCounterVec,
    exchange_seconds: Histogram,
    first_byte_seconds: Histogram,
    policy_micros: Histogram,
    added_millis: Histogram,
    flows_total: IntCounterVec,
    packets_dropped_total: IntCounterVec,
    datagrams_dropped_total: IntCounterVec,
    pub quic_retries_total: IntCounter,
    pub datagrams_handed_over_total: IntCounter,
    limit_refusals_total: IntCounterVec,
    pub events_total: IntGauge,
    pub events_dropped_total: IntGauge,
    pub events_torn_tail_total: IntGauge,
    pub events_quota_segments_total: IntGauge,
    sink_events_total: IntGaugeVec,
    sink_failures_total: IntGaugeVec,
    sink_missed_total: IntGaugeVec,
    sink_rejected_total: IntGaugeVec,
    sink_lag_events: IntGaugeVec,
    pub config_last_reload_successful: IntGauge,
    pub config_units_failed: IntGauge,
    pub revocation_lists: IntGauge,
    pub revocation_lists_expired: IntGauge,
    pub window_bytes: IntGauge,
    pub resident_bytes: IntGauge,
    pub open_descriptors: IntGauge,
    pub uptime_seconds: Gauge,
    pub draining: IntGauge,
    pub drain_cut_total: IntCounter,
    pub task_panics_total: IntCounter,
    tenant_exchanges: TenantCounter,
    tenant_blocked: TenantCounter,
    tenant_bytes_in: TenantCounter,
    tenant_bytes_out: TenantCounter,
}

/// Declares and registers.
struct Register(Registry);

impl Register {
    fn add<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> prometheus::Result<C> {
        let collector = made?;
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, by: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), by))
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, by: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), by))
    }

    fn histogram(&self, name: &str, help: &str, at: &[f64]) -> prometheus::Result<Histogram> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(at.to_vec())))
    }
}

impl Metrics {
    /// Declares every metric.
    ///
    /// # Errors
    /// Where two have one name; a test keeps that from happening.
    pub fn new() -> prometheus::Result<Self> {
        let to = Register(Registry::new());
        Ok(Self {
            tunnels: to.add(IntGaugeVec::new(
                Opts::new("sluice_tunnels", "Live tunnels."),
                &["access_method"],
            ))?,
            tunnels_total: to.counters(
                "sluice_tunnels_total",
                "Tunnels accepted.",
                &["access_method"],
            )?,
            tunnels_refused_total: to.counters(
                "sluice_tunnels_refused_total",
                "Tunnels refused, by reason.",
                &["reason"],
            )?,
            packets_dropped_total: to.counters(
                "sluice_packets_dropped_total",
                "Inner packets that went nowhere, by reason.",
                &["reason"],
            )?,
            datagrams_dropped_total: to.counters(
                "sluice_datagrams_dropped_total",
                "Datagrams of the UDP port that were nobody's or too many, by reason.",
                &["reason"],
            )?,
            quic_retries_total: to.counter(
                "sluice_quic_retries_total",
                "QUIC clients that were asked to show that their address is theirs.",
            )?,
            datagrams_handed_over_total: to.counter(
                "sluice_datagrams_handed_over_total",
                "Datagrams that another process at the same port was given.",
            )?,
            exchanges_total: to.counters(
                "sluice_exchanges_total",
                "HTTP exchanges, by what policy said.",
                &["action"],
            )?,
            exchange_errors_total: to.counters(
                "sluice_exchange_errors_total",
                "Exchanges that ended badly, by whose doing it was.",
                &["side"],
            )?,
            exchange_seconds: to.histogram(
                "sluice_exchange_seconds",
                "Time of an exchange from its head to its end.",
                &SECONDS,
            )?,
            first_byte_seconds: to.histogram(
                "sluice_first_byte_seconds",
                "Time from the request sent to the response's head.",
                &SECONDS,
            )?,
            policy_micros: to.histogram(
                "sluice_policy_microseconds",
                "Time of all policy work of an exchange.",
                &POLICY_MICROS,
            )?,
            added_millis: to.histogram(
                "sluice_added_milliseconds",
                "Time the gateway itself added to an exchange.",
                &ADDED_MILLIS,
            )?,
            flows_total: to.counters(
                "sluice_flows_total",
                "Streams that were not HTTP, not decrypted or refused, by what policy said.",
                &["action"],
            )?,
            limit_refusals_total: to.counters(
                "sluice_limit_refusals_total",
                "What was refused or ended because a limit was reached, by limit.",
                &["limit"],
            )?,
            events_total: to.gauge("sluice_events_total", "Events appended to the log.")?,
            events_dropped_total: to.gauge(
                "sluice_events_dropped_total",
                "Events lost because memory or disk was full.",
            )?,
            events_torn_tail_total: to.gauge(
                "sluice_events_torn_tail_total",
                "Torn log tails that were repaired at start.",
            )?,
            events_quota_segments_total: to.gauge(
                "sluice_events_quota_segments_total",
                "Oldest segments removed because a tenant's quota was reached.",
            )?,
            sink_events_total: to.gauges(
                "sluice_sink_events_total",
                "Events that a sink's peer took.",
                &["sink"],
            )?,
            sink_failures_total: to.gauges(
                "sluice_sink_failures_total",
                "Attempts of a sink that failed, by why; what they held is sent again.",
                &["sink", "reason"],
            )?,
            sink_missed_total: to.gauges(
                "sluice_sink_missed_total",
                "Events that a quota or a full disk took before the sink had sent them.",
                &["sink"],
            )?,
            sink_rejected_total: to.gauges(
                "sluice_sink_rejected_total",
                "Events that a sink passed over because its peer takes none so large, or refused them.",
                &["sink"],
            )?,
            sink_lag_events: to.gauges(
                "sluice_sink_lag_events",
                "Events in the log that a sink has not come to yet.",
                &["sink"],
            )?,
            config_last_reload_successful: to.gauge(
                "sluice_config_last_reload_successful",
                "1 where every unit's last load succeeded, else 0.",
            )?,
            config_units_failed: to
                .gauge("sluice_config_units_failed", "Units that run on their last good copy.")?,
            revocation_lists: to
                .gauge("sluice_revocation_lists", "Lists of `origin.crls` in force.")?,
            revocation_lists_expired: to.gauge(
                "sluice_revocation_lists_expired",
                "Lists of `origin.crls` past the time at which they promised a successor.",
            )?,
            window_bytes: to
                .gauge("sluice_window_bytes", "Receive window granted to tunnel streams.")?,
            resident_bytes: to.gauge("sluice_resident_bytes", "Resident memory.")?,
            open_descriptors: to.gauge("sluice_open_descriptors", "Open file descriptors.")?,
            uptime_seconds: to.add(Gauge::new("sluice_uptime_seconds", "Time since the start."))?,
            draining: to.gauge("sluice_draining", "1 while the gateway drains.")?,
            drain_cut_total: to.counter(
                "sluice_drain_cut_total",
                "Streams cut because the drain deadline passed.",
            )?,
            task_panics_total: to.counter(
                "sluice_task_panics_total",
                "Tasks that ended by a defect; the rest went on.",
            )?,
            tenant_exchanges: to.add(TenantCounter::new(
                "sluice_tenant_exchanges_total",
                "HTTP exchanges of the busiest tenants.",
            ))?,
            tenant_blocked: to.add(TenantCounter::new(
                "sluice_tenant_blocked_total",
                "Exchanges and flows blocked, of the busiest tenants.",
            ))?,
            tenant_bytes_in: to.add(TenantCounter::new(
                "sluice_tenant_request_bytes_total",
                "Body bytes from clients of the busiest tenants.",
            ))?,
            tenant_bytes_out: to.add(TenantCounter::new(
                "sluice_tenant_response_bytes_total",
                "Body bytes to clients of the busiest tenants.",
            ))?,
            registry: to.0,
        })
    }

    pub fn session_opened(&self, access: AccessMethod) {
        self.tunnels.with_label_values(&[access.as_str()]).inc();
        self.tunnels_total.with_label_values(&[access.as_str()]).inc();
    }

    pub fn session_closed(&self, access: AccessMethod) {
        self.tunnels.with_label_values(&[access.as_str()]).dec();
    }

    pub fn tunnel_refused(&self, reason: &'static str) {
        self.tunnels_refused_total.with_label_values(&[reason]).inc();
        self.limit_reached(reason);
    }

    pub fn packet_dropped(&self, reason: &'static str) {
        self.packets_dropped_total.with_label_values(&[reason]).inc();
    }

    pub fn datagram_dropped(&self, reason: &'static str) {
        self.datagrams_dropped(reason, 1);
    }

    pub fn datagrams_dropped(&self, reason: &'static str, count: u64) {
        self.datagrams_dropped_total.with_label_values(&[reason]).inc_by(count);
    }

    /// Counts a refusal, where `label` is that of a limit.
    pub fn limit_reached(&self, label: &str) {
        if let Some(limit) = limit_of(label) {
            self.limit_refusals_total.with_label_values(&[limit]).inc();
        }
    }

    /// Counts the limits that a record speaks of: one that ended it, and one that kept its body
    /// from being looked at.
    fn limits_reached(&self, record: &Record) {
        let blocked = || record.verdict.block_reason.as_ref().map(Text::as_str);
        let ended = record.end.error.or_else(blocked);
        let unseen = record.content.inspection_reason.as_ref().map(Text::as_str);
        for label in ended.into_iter().chain(unseen) {
            self.limit_reached(label);
        }
    }

    /// Counts an exchange from its closing record.
    pub fn exchange_ended(&self, tenant: &str, record: &Record) {
        let action = record.verdict.action.as_ref().map_or("allow", |it| it.as_str());
        self.exchanges_total.with_label_values(&[action_label(action)]).inc();
        if let Some(side) = record.end.error_side {
            self.exchange_errors_total.with_label_values(&[side.as_str()]).inc();
        }
        let cost = &record.cost;
        if let Some(total) = cost.total {
            self.exchange_seconds.observe(total.as_secs_f64());
        }
        if let Some(first_byte) = cost.first_byte {
            self.first_byte_seconds.observe(first_byte.as_secs_f64());
        }
        if let Some(policy) = cost.policy {
            self.policy_micros.observe(policy.as_secs_f64() * 1e6);
        }
        if let Some(added) = cost.gateway {
            self.added_millis.observe(added.as_secs_f64() * 1e3);
        }
        self.limits_reached(record);
        self.tenant_exchanges.add(tenant, 1);
        if action == "block" {
            self.tenant_blocked.add(tenant, 1);
        }
        self.tenant_bytes_in.add(tenant, record.http.request_bytes.unwrap_or(0));
        self.tenant_bytes_out.add(tenant, record.http.response_bytes.unwrap_or(0));
    }

    /// Counts a flow from its record.
    pub fn flow_ended(&self, tenant: &str, record: &Record) {
        let action = record.verdict.action.as_ref().map_or("allow", |it| it.as_str());
        self.flows_total.with_label_values(&[action_label(action)]).inc();
        self.limits_reached(record);
        if action == "block" {
            self.tenant_blocked.add(tenant, 1);
        }
        self.tenant_bytes_in.add(tenant, record.http.request_bytes.unwrap_or(0));
        self.tenant_bytes_out.add(tenant, record.http.response_bytes.unwrap_or(0));
    }

    /// Sets what the sinks have done; those that are gone leave.
    pub fn sinks(&self, all: &[(String, SinkStats)]) {
        let series = [
            (&self.sink_events_total, (|it| it.sent) as fn(&SinkStats) -> u64),
            (&self.sink_missed_total, |it| it.missed),
            (&self.sink_rejected_total, |it| it.rejected),
            (&self.sink_lag_events, |it| it.lag),
        ];
        for (gauges, read) in series {
            gauges.reset();
            for (name, stats) in all {
                let value = i64::try_from(read(stats)).unwrap_or(i64::MAX);
                gauges.with_label_values(&[name]).set(value);
            }
        }
        self.sink_failures_total.reset();
        for (name, stats) in all {
            for (reason, count) in &stats.failures {
                let value = i64::try_from(*count).unwrap_or(i64::MAX);
                self.sink_failures_total.with_label_values(&[name.as_str(), reason]).set(value);
            }
        }
    }

    /// The text exposition of all metrics.
    #[must_use]
    pub fn exposition(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing into memory does not fail.
        drop(TextEncoder::new().encode(&self.registry.gather(), &mut text));
        text
    }

    /// Name and help of every metric, for docs/metrics.md.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// The closed set of label values.
fn action_label(action: &str) -> &'static str {
    match action {
        "block" => "block",
        "coach" => "coach",
        "redirect" => "redirect",
        _ => "allow",
    }
}
