//! Housekeeping beside the traffic: revocation, tenants that come and go, idle connections,
//! memory pressure, gauges.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::pop::Pop;
use super::reach;
use super::session::is_revoked;
use super::start::{guard, resolver};
use super::tenancy::root_source;
use crate::config::{GatewayConfig, Named};
use crate::event::{Disclosure, EventLog, Redaction, TenantSettings};
use crate::ident::TenantName;
use crate::limit::window::Pressure;
use crate::snapshot::Tenant;
use crate::tls::{RootWarning, Roots};

/// Memory pages of every platform this is built for.
const PAGE_BYTES: u64 = 4096;

const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Beyond this share of the memory limit windows stop growing; beyond the second they shrink.
const PRESSURE_HIGH_PERCENT: u64 = 80;
const PRESSURE_CRITICAL_PERCENT: u64 = 95;

/// Starts the tasks.
pub(super) fn start(pop: &Arc<Pop>, events: &Arc<EventLog>) {
    follow(pop, events);
    let gateway = pop.snapshot.gateway();
    events.set_places(Arc::clone(&gateway.places));
    events.set_sinks(&gateway.config.events.sinks);
    events.set_when_full(gateway.config.events.when_full);
    tokio::spawn(changes(Arc::clone(pop), Arc::clone(events)));
    tokio::spawn(sweep(Arc::clone(pop), Arc::clone(events)));
}

/// Acts on every swap of a unit: what has been withdrawn ends at once.
async fn changes(pop: Arc<Pop>, events: Arc<EventLog>) {
    let mut changed = pop.snapshot.changes();
    let started = pop.snapshot.gateway().config.clone();
    let mut generation = pop.snapshot.gateway().generation;
    let mut origin_generation = pop.snapshot.gateway().origin_generation;
    while changed.changed().await.is_ok() {
        follow(&pop, &events);
        let gateway = pop.snapshot.gateway();
        if gateway.generation != generation {
            generation = gateway.generation;
            swap_gateway(&pop);
            say_what_waits(&gateway.config, &started);
            events.set_places(Arc::clone(&gateway.places));
            events.set_sinks(&gateway.config.events.sinks);
            events.set_when_full(gateway.config.events.when_full);
        }
        if gateway.origin_generation != origin_generation {
            origin_generation = gateway.origin_generation;
            // What was opened under the old settings is not used again.
            pop.tenancies().iter().for_each(|tenancy| tenancy.pool.clear());
        }
    }
}

/// Brings run-time state in line with the tenants in force.
fn follow(pop: &Pop, events: &EventLog) {
    let known: Vec<TenantName> = pop.snapshot.tenants();
    for tenancy in pop.tenancies() {
        let tenant = pop.snapshot.tenant(tenancy.name.as_str());
        let Some(tenant) = tenant.filter(|tenant| tenancy.belongs_to(tenant)) else {
            pop.forget(&tenancy.name);
            events.forget_tenant(tenancy.name.as_str());
            continue;
        };
        tenancy.sessions.end_where(|session| is_revoked(&tenant, session));
    }
    for name in known {
        let Some(tenant) = pop.snapshot.tenant(name.as_str()) else { continue };
        if pop.is_followed(&name, tenant.generation) {
            continue;
        }
        pop.own.replace(name.as_str(), Some(tenant.intercept_ca.cert_der().clone()));
        events.set_tenant(
            name.as_str(),
            TenantSettings {
                quota_bytes: tenant.config.events.max_bytes.map(|it| it.bytes()),
                redaction: redaction(&tenant),
            },
        );
    }
    let health = pop.snapshot.health();
    pop.metrics.config_last_reload_successful.set(i64::from(health.last_reload_successful));
    pop.metrics.config_units_failed.set(i64::try_from(health.units_failed).unwrap_or(i64::MAX));
}

/// What the tenant keeps out of its events.
fn redaction(tenant: &Tenant) -> Redaction {
    let privacy = &tenant.config.privacy;
    let much = |named| match named {
        Named::Keep => Disclosure::Keep,
        Named::Hash => Disclosure::Hash,
        Named::Drop => Disclosure::Drop,
    };
    let key = tenant.privacy_key.as_ref().map(crate::snapshot::PrivacyKey::as_bytes);
    Redaction::with_keys(privacy.redact.iter().map(String::as_str))
        .without_paths(privacy.paths.iter().map(String::as_str))
        .disclosing(much(privacy.user), much(privacy.client_ip), key)
}

/// Puts a new gateway.yaml into force, as far as that needs no restart.
fn swap_gateway(pop: &Pop) {
    let gateway = pop.snapshot.gateway();
    let own: Vec<SocketAddr> = pop.own_addresses.clone();
    pop.guard.store(Arc::new(guard(&gateway, own)));
    match resolver(&gateway) {
        Ok(resolver) => pop.resolver.store(Arc::new(resolver)),
        Err(error) => tracing::error!("{error}"),
    }
    let source = root_source(gateway.config.origin.roots);
    let (roots, warnings) = Roots::load(source, &gateway.extra_roots, SystemTime::now());
    say_roots(&warnings);
    pop.roots.store(Arc::new(roots));
}

/// Says which changed keys wait for a restart.
fn say_what_waits(now: &GatewayConfig, started: &GatewayConfig) {
    let keys = now.awaiting_restart(started);
    if !keys.is_empty() {
        let keys = keys.join(" ");
        tracing::warn!(%keys, "keys of gateway.yaml changed that take effect at the next start");
    }
}

/// Says what is odd about the trusted roots: one line, since machines ship several old ones.
pub(super) fn say_roots(warnings: &[RootWarning]) {
    for warning in warnings {
        tracing::debug!("{warning}");
    }
    if !warnings.is_empty() {
        tracing::info!(
            count = warnings.len(),
            "trusted roots left out or odd; SLUICE_LOG=debug lists them"
        );
    }
}

async fn sweep(pop: Arc<Pop>, events: Arc<EventLog>) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    let mut told = 0;
    loop {
        tick.tick().await;
        let expired = pop.snapshot.gateway().crls.expired(SystemTime::now());
        if expired > told {
            tracing::warn!(
                expired,
                "revocation lists are past their time; they count all the same"
            );
        }
        told = expired;
        for tenancy in pop.tenancies() {
            if let Some(tenant) = pop.snapshot.tenant(tenancy.name.as_str()) {
                tenancy.pool.sweep(reach::generation(&pop, &tenant));
            }
        }
        gauges(&pop, &events);
    }
}

/// Sets what is measured rather than counted.
pub(crate) fn gauges(pop: &Pop, events: &EventLog) {
    let metrics = &pop.metrics;
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let stats = events.stats();
    metrics.events_total.set(signed(stats.appended));
    metrics.events_dropped_total.set(signed(stats.dropped));
    metrics.events_torn_tail_total.set(signed(stats.torn_tails));
    metrics.sinks(&events.sink_stats());
    metrics.events_quota_segments_total.set(signed(stats.evicted_segments));
    let crls = &pop.snapshot.gateway().crls;
    metrics.revocation_lists.set(i64::try_from(crls.lists.len()).unwrap_or(i64::MAX));
    let expired = crls.expired(SystemTime::now());
    metrics.revocation_lists_expired.set(i64::try_from(expired).unwrap_or(i64::MAX));
    metrics.window_bytes.set(signed(pop.windows.used()));
    metrics.uptime_seconds.set(pop.began.elapsed().as_secs_f64());
    let health = pop.snapshot.health();
    metrics.config_last_reload_successful.set(i64::from(health.last_reload_successful));
    metrics.config_units_failed.set(i64::try_from(health.units_failed).unwrap_or(i64::MAX));
    let resident = resident_bytes();
    metrics.resident_bytes.set(signed(resident));
    metrics.open_descriptors.set(signed(open_descriptors()));
    let limit = pop.snapshot.gateway().config.limits.memory.bytes_of(memory_total());
    pop.windows.press(match resident.saturating_mul(100) / limit.max(1) {
        PRESSURE_CRITICAL_PERCENT.. => Pressure::Critical,
        PRESSURE_HIGH_PERCENT.. => Pressure::High,
        _ => Pressure::Low,
    });
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()));
    pages.unwrap_or(0) * PAGE_BYTES
}

fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// Memory of the machine, or of the control group where that is less.
pub(crate) fn memory_total() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let machine = machine.map_or(u64::MAX, |kibibytes| kibibytes * 1024);
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    machine.min(group.unwrap_or(u64::MAX))
}
