//! Records refused tunnels: each one of a known tenant until there are many, then one a second,
//! for each source and reason, and for each reason from all sources together.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_proto::fields::Fields;
use moka::sync::Cache;
use parking_lot::Mutex;

use super::pop::Worker;
use crate::event::{Client, POP_TENANT, Record, RecordType};
use crate::ident::{AccessMethod, TenantName};
use crate::tunnel::accept::Refusal;
use crate::verdict::proxy_status;

/// A tenant's refusals are written one by one up to here per source, reason and minute: far more
/// than a person or a misconfigured device makes. Who guesses tokens or floods handshakes is seen,
/// and does not push the tenant's other events out of its log (CASES TA-12).
const TENANT_BURST: u32 = 30;
/// The same from all sources together: a fleet of laptops whose certificates have expired shows
/// each of them, a botnet does not fill the log.
const TENANT_BURST_ALL: u32 = 1_000;
/// Strangers' are not written one by one.
const STRANGER_BURST: u32 = 1;
/// Strangers from all sources together: scanners of the whole Internet, and who is looking here.
const STRANGER_BURST_ALL: u32 = 100;
/// Beyond that, one is written this often.
const EVERY: Duration = Duration::from_secs(1);
/// When a source's refusals are counted anew.
const SPELL: Duration = Duration::from_secs(60);
/// Sources told apart at once; beyond it the oldest are counted anew early.
const SOURCES_MAX: u64 = 10_000;
/// A dozen reasons for each of 5,000 tenants.
const REASONS_MAX: u64 = 60_000;

/// What is counted together; `None` stands for all sources.
type Key = (Option<TenantName>, Option<IpAddr>, &'static str);
type Spells = Cache<Key, Arc<Mutex<Spell>>>;

/// When and how often refusals were written.
pub struct Refusals {
    of_sources: Spells,
    /// One for each reason of each tenant: as many as there are tenants, whoever knocks.
    of_reasons: Spells,
}

struct Spell {
    written: u32,
    last: Instant,
}

impl Spell {
    fn is_due(&self, burst: u32, now: Instant) -> bool {
        self.written < burst || now.duration_since(self.last) >= EVERY
    }

    fn note(&mut self, now: Instant) {
        self.written = self.written.saturating_add(1);
        self.last = now;
    }
}

impl Default for Refusals {
    fn default() -> Self {
        let spells = |most| Cache::builder().max_capacity(most).time_to_live(SPELL).build();
        Self { of_sources: spells(SOURCES_MAX), of_reasons: spells(REASONS_MAX) }
    }
}

impl Refusals {
    /// Whether this one is to be written.
    fn is_due(
        &self,
        tenant: Option<&TenantName>,
        source: IpAddr,
        label: &'static str,
        now: Instant,
    ) -> bool {
        let (burst, burst_all) = match tenant {
            Some(_) => (TENANT_BURST, TENANT_BURST_ALL),
            None => (STRANGER_BURST, STRANGER_BURST_ALL),
        };
        let fresh = || Arc::new(Mutex::new(Spell { written: 0, last: now }));
        let source = Some(network(source));
        let of_source = self.of_sources.get_with((tenant.cloned(), source, label), fresh);
        let of_reason = self.of_reasons.get_with((tenant.cloned(), None, label), fresh);
        let (mut of_source, mut of_reason) = (of_source.lock(), of_reason.lock());
        let due = of_source.is_due(burst, now) && of_reason.is_due(burst_all, now);
        if due {
            of_source.note(now);
            of_reason.note(now);
        }
        due
    }
}

/// Who has one address of an IPv6 network has them all.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V6(address) => {
            let prefix = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
        IpAddr::V4(_) => source,
    }
}

/// Writes the record of a refused tunnel.
pub(super) fn record(worker: &Worker, peer: SocketAddr, access: AccessMethod, refusal: &Refusal) {
    let label = refusal.reason.label();
    worker.pop.metrics.tunnel_refused(label);
    let source = peer.ip().to_canonical();
    let tenant = refusal.tenant.as_ref();
    if !worker.pop.refusals.is_due(tenant, source, label, Instant::now()) {
        return;
    }
    let tenant = tenant.map_or(POP_TENANT, TenantName::as_str);
    tracing::debug!(%peer, tenant, reason = %refusal.reason, "tunnel refused");
    let mut record = Record::now(RecordType::Session);
    record.client = Some(Arc::new(Client {
        ip: Some(source),
        port: Some(peer.port()),
        access_method: Some(access),
        ..Client::default()
    }));
    record.verdict.action = Some("block".into());
    record.end.error = Some(label);
    record.end.error_side = Some(refusal.reason.blame());
    worker.events.append(tenant, &record);
}

/// The `Proxy-Status` of a tunnel's own answer.
pub(super) fn why(worker: &Worker, label: &str) -> Fields {
    let gateway = worker.pop.snapshot.gateway();
    let mut fields = Fields::new();
    fields.push("Proxy-Status", proxy_status::failed(&gateway.config.pop, label));
    fields
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn ta_12_a_flood_of_refusals_is_seen_and_does_not_fill_the_tenants_log() {
        let refusals = Refusals::default();
        let (acme, globex) =
            (TenantName::parse("acme").unwrap(), TenantName::parse("globex").unwrap());
        let source: IpAddr = "198.51.100.7".parse().unwrap();
        let begun = Instant::now();
        let mut written = 0;
        for step in 0..100_000_u32 {
            // Ten thousand a second for ten seconds.
            let now = begun + step * Duration::from_micros(100);
            written += u32::from(refusals.is_due(Some(&acme), source, "bad_token", now));
        }
        assert_eq!(written, TENANT_BURST + 9, "the first thirty, then one a second");
        let now = begun + Duration::from_secs(10);
        let due = |tenant, source: &str, label| {
            refusals.is_due(Some(tenant), source.parse().unwrap(), label, now)
        };
        assert!(due(&acme, "198.51.100.8", "bad_token"), "another source");
        assert!(due(&globex, "198.51.100.7", "bad_token"), "another tenant");
        assert!(due(&acme, "198.51.100.7", "revoked"), "another reason");
        let written = (0..1000_u32)
            .filter(|number| due(&acme, &format!("2001:db8::{number:x}"), "bad_token"))
            .count();
        assert_eq!(written, TENANT_BURST as usize, "an IPv6 network is one source");
    }

    #[test]
    fn ta_12_a_flood_from_everywhere_does_not_fill_the_tenants_log() {
        let refusals = Refusals::default();
        let acme = TenantName::parse("acme").unwrap();
        let begun = Instant::now();
        let mut written = 0;
        for step in 0..100_000_u32 {
            let now = begun + step * Duration::from_micros(100);
            let source = IpAddr::from(std::net::Ipv4Addr::from(step));
            written += u32::from(refusals.is_due(Some(&acme), source, "bad_token", now));
        }
        assert_eq!(written, TENANT_BURST_ALL + 9, "the first thousand, then one a second");
        let now = begun + Duration::from_secs(10);
        let source = "198.51.100.7".parse().unwrap();
        assert!(refusals.is_due(Some(&acme), source, "revoked", now), "another reason");
    }
}
