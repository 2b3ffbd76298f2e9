//! Records refused tunnels: one `session` record each where the tenant is known, one a second and
//! source where it is not.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache;

use super::pop::Worker;
use crate::event::{Client, POP_TENANT, Record, RecordType};
use crate::ident::AccessMethod;
use crate::tunnel::accept::Refusal;

/// Strangers' refusals are written at most this often per source and reason.
const EVERY: Duration = Duration::from_secs(1);
/// Sources told apart at once; beyond it the oldest are written again early.
const SOURCES_MAX: u64 = 10_000;

/// When a source's refusals were last written.
pub struct Refusals(Cache<(IpAddr, &'static str), Instant>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(SOURCES_MAX).time_to_live(EVERY).build())
    }
}

impl Refusals {
    /// Whether this one is to be written.
    fn is_due(&self, source: IpAddr, label: &'static str) -> bool {
        let entry = self.0.entry((source, label)).or_insert_with(Instant::now);
        entry.is_fresh()
    }
}

/// Writes the record of a refused tunnel.
pub(super) fn record(worker: &Worker, peer: SocketAddr, refusal: &Refusal) {
    let label = refusal.reason.label();
    worker.pop.metrics.tunnel_refused(label);
    let source = peer.ip().to_canonical();
    let tenant = match &refusal.tenant {
        Some(tenant) => tenant.as_str(),
        None if worker.pop.refusals.is_due(source, label) => POP_TENANT,
        None => return,
    };
    tracing::debug!(%peer, tenant, reason = %refusal.reason, "tunnel refused");
    let mut record = Record::now(RecordType::Session);
    record.client = Some(Arc::new(Client {
        ip: Some(source),
        port: Some(peer.port()),
        access_method: Some(AccessMethod::Tls),
        ..Client::default()
    }));
    record.verdict.action = Some("block".into());
    record.end.error = Some(label);
    record.end.error_side = Some(refusal.reason.blame());
    worker.events.append(tenant, &record);
}
