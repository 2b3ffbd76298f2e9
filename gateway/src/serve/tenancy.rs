//! One tenant's run-time state. Caches, pools, tickets and sessions live here and nowhere else,
//! so nothing of one tenant can serve another.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use moka::future::Cache;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::issuer;
use super::pop::Pop;
use crate::ident::TenantName;
use crate::origin::pool::Pool;
use crate::snapshot::Tenant;
use crate::tls::{
    Authority, AuthorityError, OriginTls, OriginTlsSettings, Profiles, RootSource, Roots,
};
use crate::tunnel::SessionTable;
use crate::tunnel::accept::TunnelConfig;
use crate::verdict::accounts::Accounts;
use crate::verdict::coach::CoachMemory;
use crate::verdict::pinned::Pinned;
use crate::verdict::quic::QuicRefusals;

/// See the module's own words.
pub struct Tenancy {
    pub name: TenantName,
    pub tunnel: Arc<TunnelConfig>,
    pub sessions: SessionTable,
    pub pool: Pool,
    pub profiles: Profiles,
    pub coach: CoachMemory,
    pub accounts: Accounts,
    pub pinned: Pinned,
    pub quic: QuicRefusals,
    /// Issuers' certificates by the URL they were fetched from; `None` where there was none.
    pub(super) issuers: Cache<Box<str>, Option<Bytes>>,
    pub ended: CancellationToken,
    /// The interception and device CA of the tenant this belongs to.
    authorities: Mutex<(CertificateDer<'static>, CertificateDer<'static>)>,
    /// Keyed by the certificate it was built from.
    authority: ArcSwapOption<(Arc<crate::ident::CaMaterial>, Arc<Authority>)>,
    /// Keyed by the tenant's generation of origin settings and the gateway's roots.
    origin_tls: ArcSwapOption<OriginTlsOf>,
}

struct OriginTlsOf {
    generation: u64,
    shared: Arc<Roots>,
    tls: Arc<OriginTls>,
}

impl Tenancy {
    #[must_use]
    pub fn new(tenant: &Tenant, workers: usize, stopping: &CancellationToken) -> Self {
        Self {
            name: tenant.name.clone(),
            tunnel: Arc::default(),
            sessions: SessionTable::default(),
            pool: Pool::new(workers),
            profiles: Profiles::default(),
            coach: CoachMemory::default(),
            accounts: Accounts::default(),
            pinned: Pinned::default(),
            quic: QuicRefusals::default(),
            issuers: Cache::builder()
                .max_capacity(issuer::FETCHED_MAX)
                .time_to_live(issuer::FETCHED_TIME)
                .build(),
            ended: stopping.child_token(),
            authorities: Mutex::new(authorities(tenant)),
            authority: ArcSwapOption::empty(),
            origin_tls: ArcSwapOption::empty(),
        }
    }

    /// Whether `tenant` is the one this belongs to. A tenant may replace one of its CAs; one that
    /// shares neither is a stranger who bears the same name.
    pub fn belongs_to(&self, tenant: &Tenant) -> bool {
        let now = authorities(tenant);
        let mut known = self.authorities.lock();
        let same = known.0 == now.0 || known.1 == now.1;
        if same {
            *known = now;
        }
        same
    }

    /// The tenant's interception CA with its leafs. A replaced CA starts with none.
    ///
    /// # Errors
    /// Where the CA's certificate and key cannot be used.
    pub fn authority(&self, tenant: &Tenant, pop: &Pop) -> Result<Arc<Authority>, AuthorityError> {
        if let Some(current) = self.authority.load_full()
            && Arc::ptr_eq(&current.0, &tenant.intercept_ca)
        {
            return Ok(Arc::clone(&current.1));
        }
        let material = &tenant.intercept_ca;
        if let Some(current) = self.authority.load_full()
            && current.0.cert_der() == material.cert_der()
        {
            // The tenant was reloaded, its CA is the same: its leafs stay.
            let same = Arc::clone(&current.1);
            self.authority.store(Some(Arc::new((Arc::clone(material), Arc::clone(&same)))));
            return Ok(same);
        }
        let key = Zeroizing::new(material.key_der().secret_der().to_vec());
        let authority = Arc::new(Authority::new(material.cert_der().clone(), &key)?);
        pop.own.replace(self.name.as_str(), Some(material.cert_der().clone()));
        self.authority.store(Some(Arc::new((Arc::clone(material), Arc::clone(&authority)))));
        Ok(authority)
    }

    /// TLS towards origins, with this tenant's own roots and session store.
    ///
    /// # Errors
    /// Where the TLS library refuses its own configuration.
    pub fn origin_tls(&self, tenant: &Tenant, pop: &Pop) -> Result<Arc<OriginTls>, rustls::Error> {
        let shared = pop.roots.load_full();
        if let Some(current) = self.origin_tls.load_full()
            && current.generation == tenant.origin_generation
            && Arc::ptr_eq(&current.shared, &shared)
        {
            return Ok(Arc::clone(&current.tls));
        }
        let roots = if tenant.extra_roots.is_empty() {
            Arc::clone(&shared)
        } else {
            let gateway = pop.snapshot.gateway();
            let extra: Vec<_> =
                gateway.extra_roots.iter().chain(&tenant.extra_roots).cloned().collect();
            let source = root_source(gateway.config.origin.roots);
            Arc::new(Roots::load(source, &extra, SystemTime::now()).0)
        };
        let tls = Arc::new(OriginTls::new(OriginTlsSettings {
            roots,
            own: Arc::clone(&pop.own),
            revoked: Arc::clone(&pop.snapshot.gateway().crls.lists),
        })?);
        self.origin_tls.store(Some(Arc::new(OriginTlsOf {
            generation: tenant.origin_generation,
            shared,
            tls: Arc::clone(&tls),
        })));
        Ok(tls)
    }

    /// Ends all sessions and drops what is kept.
    pub fn end(&self) {
        self.ended.cancel();
        self.pool.clear();
        if let Some(authority) = self.authority.swap(None) {
            authority.1.retire();
        }
        self.origin_tls.store(None);
    }
}

fn authorities(tenant: &Tenant) -> (CertificateDer<'static>, CertificateDer<'static>) {
    (tenant.intercept_ca.cert_der().clone(), tenant.device_ca.clone())
}

/// The configuration's word for a set of roots.
#[must_use]
pub(super) fn root_source(roots: crate::config::Roots) -> RootSource {
    match roots {
        crate::config::Roots::System => RootSource::System,
        crate::config::Roots::Webpki => RootSource::Webpki,
        crate::config::Roots::None => RootSource::None,
    }
}
