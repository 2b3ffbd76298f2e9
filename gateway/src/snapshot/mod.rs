//! What is in force: the gateway's configuration and each tenant's, swapped whole, one by one.

mod check;
mod crls;
mod gateway;
mod inotify;
mod last_good;
mod lists;
mod look;
mod places;
mod source;
mod tenant;
mod tunnel;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use parking_lot::Mutex;
use policy::{Problem, Severity};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch::{Receiver, Sender};

use crate::config::{Layout, any_error, sort};
use crate::ident::TenantName;

pub use check::check;
pub use crls::OriginCrls;
pub use gateway::GatewayUnit;
pub use look::look;
pub use places::Places;
#[cfg(test)]
pub(crate) use places::of_tests as places_of_tests;
pub use tenant::{PrivacyKey, Tenant};
pub use tunnel::{Shown, TunnelError, ensure_tunnel_identity};
pub use watch::Watcher;

use last_good::Sync;
use lists::Lists;
use source::{Source, Stamp};
use tunnel::TunnelIdentity;

/// A handle on what is in force. Clones see the same configuration.
#[derive(Clone)]
pub struct Snapshot {
    inner: Arc<Inner>,
}

struct Inner {
    layout: Layout,
    gateway: ArcSwap<GatewayUnit>,
    tunnel: ArcSwap<TunnelIdentity>,
    tenants: DashMap<TenantName, Slot>,
    lists: Lists,
    units: Mutex<BTreeMap<UnitName, UnitState>>,
    changes: Sender<u64>,
}

/// One tenant's place. `changed` carries the generation, 0 once the tenant is gone.
struct Slot {
    tenant: Arc<Tenant>,
    changed: Sender<u64>,
}

/// What is loaded and swapped as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnitName {
    Gateway,
    Tenant(TenantName),
}

impl fmt::Display for UnitName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => formatter.write_str("gateway"),
            Self::Tenant(name) => write!(formatter, "tenant {name}"),
        }
    }
}

/// The last attempt to load a unit.
struct UnitState {
    stamp: Stamp,
    failed: bool,
}

/// How loading went, over all units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether the last attempt of every unit succeeded.
    pub last_reload_successful: bool,
    pub units_failed: usize,
}

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("gateway.yaml does not load and there is no last good copy")]
    Gateway(Vec<Problem>),
    #[error("the tenants' folder cannot be read: {0}")]
    Tenants(#[source] std::io::Error),
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
}

impl LoadError {
    /// The mistakes to show, where they are in files.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Gateway(problems) => problems,
            Self::Tenants(_) | Self::Tunnel(_) => &[],
        }
    }
}

impl Snapshot {
    /// Loads a configuration directory. A unit with mistakes takes its last good copy; a tenant
    /// without one is not served. The mistakes are logged and returned.
    ///
    /// # Errors
    /// Where gateway.yaml loads neither live nor from its last good copy, or the gateway's own
    /// certificate cannot be made.
    pub fn load(dir: &Path) -> Result<(Self, Vec<Problem>), LoadError> {
        let layout = Layout::new(dir);
        let (gateway, mut problems) = gateway::load_or_last_good(&layout);
        let Some(gateway) = gateway else { return Err(LoadError::Gateway(problems)) };
        let names = layout.tenant_names().map_err(LoadError::Tenants)?;
        ensure_tunnel_identity(&layout, &gateway.config, &names, SystemTime::now())?;
        let tunnel = TunnelIdentity::load(&layout)?;
        let stamp = Stamp::of_gateway(&layout).and(&gateway.extra_files());
        let state = UnitState { stamp, failed: any_error(&problems) };
        log_problems(&UnitName::Gateway, &problems);
        let inner = Inner {
            layout,
            gateway: ArcSwap::from_pointee(gateway),
            tunnel: ArcSwap::from_pointee(tunnel),
            tenants: DashMap::new(),
            lists: Lists::default(),
            units: Mutex::new(BTreeMap::from([(UnitName::Gateway, state)])),
            changes: Sender::new(1),
        };
        let snapshot = Self { inner: Arc::new(inner) };
        for name in &names {
            problems.extend(snapshot.reload_tenant(name, Sync::Later));
        }
        last_good::sync(&snapshot.inner.layout);
        Ok((snapshot, problems))
    }

    /// The gateway's own configuration.
    #[must_use]
    pub fn gateway(&self) -> Arc<GatewayUnit> {
        self.inner.gateway.load_full()
    }

    /// A tenant, if it is served.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Option<Arc<Tenant>> {
        self.inner.tenants.get(name).map(|slot| Arc::clone(&slot.tenant))
    }

    /// The tenant whose tunnels answer to `name`: `gateway-<tenant>.<domain>` or its backup name.
    #[must_use]
    pub fn tenant_by_name(&self, name: &str) -> Option<Arc<Tenant>> {
        let gateway = self.inner.gateway.load();
        let name = name.to_ascii_lowercase();
        let label = name.strip_suffix(gateway.config.domain.as_str())?.strip_suffix('.')?;
        let tenant =
            label.strip_prefix("gateway-backup-").or_else(|| label.strip_prefix("gateway-"))?;
        self.tenant(tenant)
    }

    /// The tenants whose device CA bears the name that issued `certificate`. Names may repeat: the
    /// signature tells.
    #[must_use]
    pub fn tenants_by_issuer(&self, certificate: &CertificateDer<'_>) -> Vec<Arc<Tenant>> {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else {
            return Vec::new();
        };
        let issuer = certificate.issuer().as_raw();
        let issued = |tenant: &Tenant| *tenant.device_subject == *issuer;
        let tenants = self.inner.tenants.iter().map(|slot| Arc::clone(&slot.tenant));
        tenants.filter(|tenant| issued(tenant)).collect()
    }

    /// Tenants served, sorted.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantName> {
        let mut names: Vec<_> = self.inner.tenants.iter().map(|slot| slot.key().clone()).collect();
        names.sort();
        names
    }

    /// Changes whenever any unit is swapped. The number only says that something changed.
    #[must_use]
    pub fn changes(&self) -> Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Changes whenever this tenant is swapped: its generation, or 0 once it is gone.
    #[must_use]
    pub fn follow(&self, name: &str) -> Option<Receiver<u64>> {
        self.inner.tenants.get(name).map(|slot| slot.changed.subscribe())
    }

    /// The certificate the gateway shows on this tenant's tunnels.
    ///
    /// # Errors
    /// Where it has to be issued and that fails.
    pub fn tunnel_identity(&self, tenant: &TenantName) -> Result<Arc<Shown>, TunnelError> {
        let gateway = self.inner.gateway.load();
        self.inner.tunnel.load().of(&gateway.config, tenant, SystemTime::now())
    }

    /// What tunnels show to a client that has not said whose it is.
    #[must_use]
    pub fn common_tunnel_identity(&self) -> Arc<Shown> {
        self.inner.tunnel.load().common()
    }

    /// How loading went.
    #[must_use]
    pub fn health(&self) -> Health {
        let units = self.inner.units.lock();
        let units_failed = units.values().filter(|unit| unit.failed).count();
        Health { last_reload_successful: units_failed == 0, units_failed }
    }

    /// Where the configuration lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    /// Loads every unit whose files changed or whose last attempt failed, as on SIGHUP. Reads
    /// files: call it where blocking is allowed.
    pub fn reload(&self) {
        self.reload_gateway_if(|_| true);
        for name in self.known_and_found() {
            self.reload_tenant_if(&name, |_| true);
        }
    }

    /// Loads gateway.yaml and the tunnel's identity if their files changed or, where the last
    /// attempt failed, `retry` says so.
    fn reload_gateway_if(&self, retry: impl Fn(&UnitName) -> bool) {
        let stamp = self.stamp_of_gateway();
        if self.is_current(&UnitName::Gateway, &stamp, retry) {
            return;
        }
        let (built, mut problems) = gateway::load(&self.inner.layout, Source::Live);
        if let Some(unit) = built {
            let next = unit.after(&self.inner.gateway.load());
            let names = self.tenants();
            let now = SystemTime::now();
            let identity = ensure_tunnel_identity(&self.inner.layout, &next.config, &names, now)
                .and_then(|_issued| TunnelIdentity::load(&self.inner.layout));
            match identity {
                Ok(identity) => {
                    self.inner.tunnel.store(Arc::new(identity));
                    last_good::keep_gateway(&self.inner.layout, &next);
                    self.inner.gateway.store(Arc::new(next));
                    self.announce();
                }
                Err(error) => problems.push(error.problem()),
            }
        }
        // Issuing may have written below tunnel/ just now: that is no change to act on.
        let stamp = self.stamp_of_gateway();
        self.settle(UnitName::Gateway, stamp, &problems);
    }

    /// Loads one tenant if its files changed or, where the last attempt failed, `retry` says so.
    fn reload_tenant_if(&self, name: &TenantName, retry: impl Fn(&UnitName) -> bool) {
        let unit = UnitName::Tenant(name.clone());
        let stamp = self.stamp_of(name);
        if !self.is_current(&unit, &stamp, retry) {
            self.reload_tenant(name, Sync::Now);
            self.inner.lists.sweep(&last_good::lists_folder(&self.inner.layout));
        }
    }

    /// Loads one tenant, whatever its files' times.
    fn reload_tenant(&self, name: &TenantName, sync: Sync) -> Vec<Problem> {
        let unit = UnitName::Tenant(name.clone());
        let layout = &self.inner.layout;
        if !layout.tenant(name).is_dir() {
            self.remove_tenant(name);
            return Vec::new();
        }
        let stamp = self.stamp_of(name);
        let before = self.tenant(name.as_str());
        let (mut built, mut problems) = tenant::load(layout, &self.inner.lists, name, Source::Live);
        if !any_error(&problems) {
            if let Some(tenant) = &built {
                last_good::keep_tenant(layout, tenant, sync);
            }
        } else {
            built = None;
            if before.is_none() {
                let (last_good, _) =
                    tenant::load(layout, &self.inner.lists, name, Source::LastGood);
                built = last_good;
            }
        }
        sort(&mut problems);
        let stamp = match &built {
            Some(tenant) => stamp.and(&tenant.extra_files),
            None => stamp,
        };
        if let Some(tenant) = built {
            self.swap_tenant(name, tenant.after(before.as_deref()));
        }
        self.settle(unit, stamp, &problems);
        problems
    }

    fn swap_tenant(&self, name: &TenantName, tenant: Tenant) {
        let generation = tenant.generation;
        let tenant = Arc::new(tenant);
        match self.inner.tenants.entry(name.clone()) {
            dashmap::Entry::Occupied(mut slot) => {
                let slot = slot.get_mut();
                slot.tenant = tenant;
                slot.changed.send_replace(generation);
            }
            dashmap::Entry::Vacant(place) => {
                place.insert(Slot { tenant, changed: Sender::new(generation) });
            }
        }
        self.announce();
    }

    fn remove_tenant(&self, name: &TenantName) {
        self.inner.units.lock().remove(&UnitName::Tenant(name.clone()));
        last_good::forget_tenant(&self.inner.layout, name);
        if let Some((_, slot)) = self.inner.tenants.remove(name) {
            slot.changed.send_replace(0);
            tracing::info!(tenant = %name, "tenant removed");
            self.announce();
        }
    }

    fn announce(&self) {
        self.inner.changes.send_modify(|count| *count += 1);
    }

    fn stamp_of_gateway(&self) -> Stamp {
        let gateway = self.inner.gateway.load();
        Stamp::of_gateway(&self.inner.layout).and(&gateway.extra_files())
    }

    /// The tenant's files as they are now, those outside its folder included.
    fn stamp_of(&self, name: &TenantName) -> Stamp {
        let stamp = Stamp::of_tenant(&self.inner.layout, name);
        match self.tenant(name.as_str()) {
            Some(tenant) => stamp.and(&tenant.extra_files),
            None => stamp,
        }
    }

    fn is_current(
        &self,
        unit: &UnitName,
        stamp: &Stamp,
        retry: impl Fn(&UnitName) -> bool,
    ) -> bool {
        self.inner
            .units
            .lock()
            .get(unit)
            .is_some_and(|state| state.stamp == *stamp && !(state.failed && retry(unit)))
    }

    /// Remembers and logs how an attempt went.
    fn settle(&self, unit: UnitName, stamp: Stamp, problems: &[Problem]) {
        log_problems(&unit, problems);
        if problems.is_empty() {
            tracing::debug!(%unit, "configuration in force");
        }
        let state = UnitState { stamp, failed: any_error(problems) };
        self.inner.units.lock().insert(unit, state);
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Snapshot").field("dir", &self.inner.layout.root()).finish()
    }
}

/// A mistake in configuration is worth a look, not an alarm: the last good copy goes on.
fn log_problems(unit: &UnitName, problems: &[Problem]) {
    for problem in problems {
        match problem.severity {
            Severity::Error => tracing::warn!(%unit, "configuration not taken: {problem}"),
            Severity::Warning => tracing::warn!(%unit, "configuration: {problem}"),
        }
    }
}
