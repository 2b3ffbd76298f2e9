//! The point of presence at run time: what all tunnels share, and what belongs to one worker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use policy::catalog::Catalog;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::packets::PacketTunnels;
use super::refused::Refusals;
use super::tenancy::Tenancy;
use crate::event::Writer;
use crate::flow::guard::Guard;
use crate::ident::TenantName;
use crate::limit::hold::HoldBudget;
use crate::limit::window::ProcessWindow;
use crate::origin::resolve::Resolver;
use crate::snapshot::{Snapshot, Tenant};
use crate::socket::Handover;
use crate::telemetry::Metrics;
use crate::tls::{OwnAuthorities, Roots};

/// Everything the process has one of.
pub struct Pop {
    pub snapshot: Snapshot,
    pub catalog: Catalog,
    pub metrics: Arc<Metrics>,
    pub guard: ArcSwap<Guard>,
    pub resolver: ArcSwap<Resolver>,
    /// Trusted by every tenant, by generation of gateway.yaml.
    pub roots: ArcSwap<Roots>,
    pub own: Arc<OwnAuthorities>,
    pub holds: HoldBudget,
    pub windows: ProcessWindow,
    pub workers: usize,
    /// Where this process listens; never dialled.
    pub own_addresses: Vec<SocketAddr>,
    pub tunnels: AtomicUsize,
    pub refusals: Refusals,
    pub(super) packets: Arc<PacketTunnels>,
    /// QUIC handshakes under way.
    pub quic_opening: AtomicUsize,
    /// Shared by all DTLS 1.3 connections; `None` where the cryptography cannot be used.
    pub dtls: Option<Arc<dimpl::Config>>,
    /// Where the UDP port is, for clients that are told.
    pub udp_port: u16,
    /// The processes that share the ports, where that is wanted.
    pub handover: Option<Handover>,
    tenancies: DashMap<TenantName, Arc<Tenancy>>,
    /// Generations of tenants that upkeep has acted on.
    followed: DashMap<TenantName, u64>,
    /// No new tunnel or stream; what is under way ends.
    pub draining: CancellationToken,
    /// The deadline of the drain has passed: WebSockets tell their clients.
    pub leaving: CancellationToken,
    /// Open WebSockets.
    pub sockets: TaskTracker,
    /// Everything ends now.
    pub stopping: CancellationToken,
    pub tasks: TaskTracker,
    pub began: Instant,
}

/// What `Pop::new` takes.
pub struct Parts {
    pub snapshot: Snapshot,
    pub catalog: Catalog,
    pub metrics: Arc<Metrics>,
    pub guard: Guard,
    pub resolver: Resolver,
    pub roots: Roots,
    pub holds: HoldBudget,
    pub windows: ProcessWindow,
    pub workers: usize,
    pub own_addresses: Vec<SocketAddr>,
    pub(super) packets: PacketTunnels,
    pub dtls: Option<Arc<dimpl::Config>>,
    pub udp_port: u16,
    pub handover: Option<Handover>,
}

impl Pop {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            snapshot: parts.snapshot,
            catalog: parts.catalog,
            metrics: parts.metrics,
            guard: ArcSwap::from_pointee(parts.guard),
            resolver: ArcSwap::from_pointee(parts.resolver),
            roots: ArcSwap::from_pointee(parts.roots),
            own: Arc::new(OwnAuthorities::new()),
            holds: parts.holds,
            windows: parts.windows,
            workers: parts.workers,
            own_addresses: parts.own_addresses,
            followed: DashMap::new(),
            tunnels: AtomicUsize::new(0),
            refusals: Refusals::default(),
            packets: Arc::new(parts.packets),
            quic_opening: AtomicUsize::new(0),
            dtls: parts.dtls,
            udp_port: parts.udp_port,
            handover: parts.handover,
            tenancies: DashMap::new(),
            draining: CancellationToken::new(),
            leaving: CancellationToken::new(),
            sockets: TaskTracker::new(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            began: Instant::now(),
        }
    }

    /// The run-time state of a tenant, made when it is first needed.
    #[must_use]
    pub fn tenancy(&self, tenant: &Tenant) -> Arc<Tenancy> {
        if let Some(tenancy) = self.tenancies.get(&tenant.name) {
            return Arc::clone(&tenancy);
        }
        let made = self
            .tenancies
            .entry(tenant.name.clone())
            .or_insert_with(|| Arc::new(Tenancy::new(tenant, self.workers, &self.stopping)));
        Arc::clone(&made)
    }

    /// The run-time state of a tenant, if it has any.
    #[must_use]
    pub fn tenancy_of(&self, name: &str) -> Option<Arc<Tenancy>> {
        let name = TenantName::parse(name).ok()?;
        self.tenancies.get(&name).map(|entry| Arc::clone(&entry))
    }

    /// All tenants that have run-time state.
    #[must_use]
    pub fn tenancies(&self) -> Vec<Arc<Tenancy>> {
        self.tenancies.iter().map(|entry| Arc::clone(&entry)).collect()
    }

    /// Forgets a tenant that is gone: its sessions end, nothing is left for a later tenant of
    /// the same name (CASES TI-14).
    pub fn forget(&self, name: &TenantName) {
        if let Some((_, tenancy)) = self.tenancies.remove(name) {
            tenancy.end();
        }
        self.resolver.load().forget(name.as_str());
        self.own.replace(name.as_str(), None);
        self.followed.remove(name);
    }

    /// Whether upkeep has acted on this generation of a tenant; it has from now on.
    pub(super) fn is_followed(&self, name: &TenantName, generation: u64) -> bool {
        self.followed.insert(name.clone(), generation) == Some(generation)
    }

    /// Counts one more tunnel for as long as the guard lives; `None` above `max`.
    #[must_use]
    pub fn tunnel(self: &Arc<Self>, max: usize) -> Option<TunnelGuard> {
        let guard = TunnelGuard(Arc::clone(self));
        let before = self.tunnels.fetch_add(1, Ordering::Relaxed);
        (before < max).then_some(guard)
    }
}

/// Counts one tunnel.
pub struct TunnelGuard(Arc<Pop>);

impl Drop for TunnelGuard {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What belongs to one worker: its shard of the pools and its part of the log.
pub struct Worker {
    pub index: usize,
    pub pop: Arc<Pop>,
    pub events: Writer,
}
