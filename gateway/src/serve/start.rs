//! Starts the point of presence, and ends it in order.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use policy::catalog::Catalog;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::packets::{self, PacketTunnels};
use super::pop::{Parts, Pop, Worker};
use super::tenancy::root_source;
use super::udp::Sorter;
use super::{drain, quic, tunnel, udp, upkeep};
use crate::admin;
use crate::config;
use crate::event::{EventLog, Options};
use crate::flow::guard::{Guard, GuardSettings};
use crate::ident::TenantName;
use crate::limit::hold::HoldBudget;
use crate::limit::window::ProcessWindow;
use crate::origin::resolve::{NameServers, Resolver, ResolverSettings};
use crate::snapshot::{GatewayUnit, LoadError, Snapshot, Tenant, Watcher};
use crate::socket::{
    Accepting, BACKLOG, Handover, Inbox, QuicSocket, UdpPort, bind, raise_descriptor_limit,
    refuse_core_dumps,
};
use crate::stream::packet::AddressPool;
use crate::stream::packet::kernel::{Network, Unavailable};
use crate::telemetry::{self, Metrics};
use crate::tls::Roots;
use crate::tunnel::dtls::modern_config;
use crate::tunnel::quic::{Chooser, Generation, QuicEndpoint, QuicKeys};

/// Held bodies may use this share of the process's memory limit.
const HOLD_SHARE: u64 = 4;
/// Tunnel windows may use this share of the process's memory limit.
const WINDOW_SHARE: u64 = 4;

/// Why the gateway does not start, or did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("`listen.handover`: {dir} cannot be used: {error}")]
    Handover { dir: String, error: io::Error },
    #[error("the event log in {dir} cannot be opened: {error}")]
    Events { dir: String, error: io::Error },
    #[error("the catalog does not load: {0}")]
    Catalog(String),
    #[error("the resolver cannot be set up: {0}")]
    Resolver(String),
    #[error("QUIC cannot be served: {0}")]
    Quic(String),
    #[error("the admin endpoint cannot be set up: {0}")]
    Admin(String),
    #[error("signals cannot be caught: {0}")]
    Signals(io::Error),
    #[error("metrics cannot be declared: {0}")]
    Metrics(prometheus::Error),
    #[error("`inner.tcp: kernel` in gateway.yaml cannot be had: {0}")]
    InnerTcp(Unavailable),
    #[error("the runtime cannot be started: {0}")]
    Runtime(io::Error),
}

/// Runs until a signal ends it. `ready` is called once everything listens.
///
/// # Errors
/// Where it cannot start.
pub fn run(dir: &Path, ready: impl FnOnce(&Snapshot)) -> Result<(), ServeError> {
    telemetry::log::start();
    refuse_core_dumps();
    if let Some(limit) = raise_descriptor_limit() {
        tracing::debug!(limit, "descriptors");
    }
    let (snapshot, _) = Snapshot::load(dir)?;
    let workers = workers(&snapshot.gateway());
    // Before there are threads, which would be in its way.
    let network = packets::inner_network(snapshot.gateway().config.inner)?;
    let runtime = runtime(workers).map_err(ServeError::Runtime)?;
    runtime.block_on(serve(snapshot, workers, network, ready))
}

fn workers(gateway: &GatewayUnit) -> usize {
    match gateway.config.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        some => some.into(),
    }
}

fn runtime(workers: usize) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("sluice-worker")
        .enable_all()
        .build()
}

async fn serve(
    snapshot: Snapshot,
    workers: usize,
    network: Option<Network>,
    ready: impl FnOnce(&Snapshot),
) -> Result<(), ServeError> {
    let gateway = snapshot.gateway();
    let events = open_events(&gateway, workers)?;
    let mut listeners = Listeners::bind(&gateway, workers)?;
    let metrics = Arc::new(Metrics::new().map_err(ServeError::Metrics)?);
    let pool = AddressPool::new(gateway.config.inner.ipv4, gateway.config.inner.ipv6);
    let kernel = packets::start_kernel(network, &pool, &metrics)?;
    let packets = PacketTunnels::new(pool, kernel);
    let parts = build(&snapshot, &gateway, workers, &mut listeners, (metrics, packets))?;
    let pop = Arc::new(Pop::new(parts));
    count_panics(&pop.metrics);
    let crew: Arc<[Arc<Worker>]> = (0..workers)
        .map(|index| {
            let events = events.writer(index);
            Arc::new(Worker { index, pop: Arc::clone(&pop), events })
        })
        .collect();
    let events = Arc::new(events);
    upkeep::start(&pop, &events);
    let admin = admin::Admin::new(Arc::clone(&pop), Arc::clone(&events), SystemTime::now());
    let admin = admin.serve(listeners.admin).map_err(ServeError::Admin)?;
    let accepting = pop.tasks.clone();
    accepting.spawn(accept(listeners.tunnel, Arc::clone(&crew), tunnel::serve));
    serve_udp(&crew, listeners.udp)?;
    for (listener, tenant) in listeners.explicit {
        let serve =
            move |worker, stream, peer| tunnel::explicit(worker, stream, peer, tenant.clone());
        accepting.spawn(accept(listener, Arc::clone(&crew), serve));
    }
    let watcher = tokio::spawn(Watcher::new(snapshot.clone()).run());
    let signals = drain::Signals::caught().map_err(ServeError::Signals)?;
    ready(&snapshot);
    drain::until_stopped(&pop, signals).await;
    watcher.abort();
    drain::drain(&pop).await;
    admin.abort();
    events.close();
    Ok(())
}

/// Serves the UDP port: one reader and one QUIC endpoint for each worker.
fn serve_udp(crew: &[Arc<Worker>], ports: Vec<UdpPort>) -> Result<(), ServeError> {
    let Some(pop) = crew.first().map(|worker| Arc::clone(&worker.pop)) else { return Ok(()) };
    let failed = |error: String| ServeError::Quic(error);
    let generation = pop.handover.as_ref().map(Handover::own);
    let generation = Generation::new(generation, SystemTime::now());
    // Processes that share the port share the secret.
    let shared = pop.snapshot.gateway().config.listen.handover.clone();
    let secret =
        shared.map_or_else(|| pop.snapshot.layout().quic_key(), |dir| dir.join("quic.key"));
    let keys = QuicKeys::load(&secret, generation).map_err(|error| failed(error.to_string()))?;
    let tenancies = Arc::clone(&pop);
    let config_of = move |tenant: &Arc<Tenant>| Arc::clone(&tenancies.tenancy(tenant).tunnel);
    let chooser = Chooser::new(pop.snapshot.clone(), Box::new(config_of));
    let chooser = Arc::new(chooser.map_err(|error| failed(error.to_string()))?);
    let inboxes: Vec<Arc<Inbox>> = crew.iter().map(|_| Arc::default()).collect();
    let sorter = Arc::new(Sorter { ids: Arc::clone(&keys.ids), inboxes: inboxes.clone() });
    let ports: Vec<_> = ports.into_iter().map(Arc::new).collect();
    if let (Some(worker), Some(port)) = (crew.first(), ports.first()) {
        let (worker, port, sorter) = (Arc::clone(worker), Arc::clone(port), Arc::clone(&sorter));
        tokio::spawn(udp::serve_handed_over(worker, port, sorter));
    }
    for (number, ((worker, port), inbox)) in crew.iter().zip(ports).zip(inboxes).enumerate() {
        let socket = QuicSocket::new(Arc::clone(&port), inbox);
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        let endpoint = QuicEndpoint::new(socket, &keys, number, Arc::clone(&chooser))
            .map_err(|error| failed(error.to_string()))?;
        tokio::spawn(quic::serve(Arc::clone(worker), endpoint));
        tokio::spawn(udp::serve(Arc::clone(worker), port, Arc::clone(&sorter)));
    }
    Ok(())
}

/// A defect ends one task, is counted, and says where it is; never what it held (CASES SL-22).
fn count_panics(metrics: &Arc<Metrics>) {
    let metrics = Arc::clone(metrics);
    std::panic::set_hook(Box::new(move |panic| {
        metrics.task_panics_total.inc();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%place, "a task panicked");
    }));
}

fn open_events(gateway: &GatewayUnit, workers: usize) -> Result<EventLog, ServeError> {
    let config = &gateway.config.events;
    let options = Options {
        pop: gateway.config.pop.as_str().into(),
        flush: std::time::Duration::from_millis(config.flush_ms),
        max_bytes: config.max_bytes.bytes(),
        workers,
        fsync: config.fsync,
        compress: config.compress,
    };
    EventLog::open(&config.dir, options)
        .map_err(|error| ServeError::Events { dir: config.dir.display().to_string(), error })
}

/// All sockets, bound before anything is said to be ready.
struct Listeners {
    tunnel: TcpListener,
    /// One for each worker.
    udp: Vec<UdpPort>,
    handover: Option<Handover>,
    explicit: Vec<(TcpListener, TenantName)>,
    admin: TcpListener,
    own: Vec<SocketAddr>,
}

impl Listeners {
    fn bind(gateway: &GatewayUnit, workers: usize) -> Result<Self, ServeError> {
        let config = &gateway.config;
        let listen = |address, shared| {
            bind(address, shared).map_err(|error| ServeError::Listen { address, error })
        };
        let shared = config.listen.handover.is_some();
        let tunnel = listen(config.listen.tcp, shared)?;
        let address = config.listen.udp;
        let udp = (0..workers).map(|_| UdpPort::bind(address)).collect::<Result<_, _>>();
        let udp = udp.map_err(|error| ServeError::Listen { address, error })?;
        let handover = config.listen.handover.as_ref().map(|dir| {
            let unusable = |error| ServeError::Handover { dir: dir.display().to_string(), error };
            Handover::join(dir).map_err(unusable)
        });
        let handover = handover.transpose()?;
        let admin = listen(config.admin.listen, false)?;
        let mut own = vec![config.listen.tcp, config.listen.udp, config.admin.listen];
        let mut explicit = Vec::new();
        let configured: &BTreeMap<SocketAddr, TenantName> = &config.listen.explicit;
        for (address, tenant) in configured {
            explicit.push((listen(*address, shared)?, tenant.clone()));
            own.push(*address);
        }
        Ok(Self { tunnel, udp, handover, explicit, admin, own })
    }
}

fn build(
    snapshot: &Snapshot,
    gateway: &GatewayUnit,
    workers: usize,
    listeners: &mut Listeners,
    (metrics, packets): (Arc<Metrics>, PacketTunnels),
) -> Result<Parts, ServeError> {
    let catalog = Catalog::builtin().map_err(|problems| {
        ServeError::Catalog(problems.first().map(ToString::to_string).unwrap_or_default())
    })?;
    let memory = gateway.config.limits.memory.bytes_of(upkeep::memory_total());
    let (roots, warnings) = Roots::load(
        root_source(gateway.config.origin.roots),
        &gateway.extra_roots,
        SystemTime::now(),
    );
    super::upkeep::say_roots(&warnings);
    Ok(Parts {
        snapshot: snapshot.clone(),
        catalog,
        metrics,
        guard: guard(gateway, listeners.own.clone()),
        resolver: resolver(gateway)?,
        roots,
        holds: HoldBudget::new(usize::try_from(memory / HOLD_SHARE).unwrap_or(usize::MAX)),
        windows: ProcessWindow::new(memory / WINDOW_SHARE),
        workers,
        own_addresses: listeners.own.clone(),
        packets,
        dtls: dtls_config(),
        udp_port: gateway.config.listen.udp.port(),
        handover: listeners.handover.take(),
    })
}

/// Without it the other tunnels still work.
fn dtls_config() -> Option<Arc<dimpl::Config>> {
    modern_config().inspect_err(|error| tracing::error!("no DTLS 1.3: {error}")).ok()
}

/// The guard of a configuration.
pub(crate) fn guard(gateway: &GatewayUnit, own: Vec<SocketAddr>) -> Guard {
    let config = &gateway.config;
    Guard::new(GuardSettings {
        listening: own,
        allow_private: config.origin.allow_private.iter().map(|network| network.0).collect(),
        connect_ports: config.limits.connect_ports.iter().map(|range| range.0.clone()).collect(),
    })
}

/// The resolver of a configuration.
pub(super) fn resolver(gateway: &GatewayUnit) -> Result<Resolver, ServeError> {
    let origin = &gateway.config.origin;
    let servers = match &origin.resolver {
        config::Resolver::System => NameServers::System,
        config::Resolver::Servers(servers) => {
            NameServers::Addresses(servers.iter().map(|server| server.0).collect())
        }
    };
    let hosts = origin.hosts.iter().map(|(name, address)| (name.0.clone(), *address));
    Resolver::new(ResolverSettings { servers, hosts: hosts.collect() })
        .map_err(|error| ServeError::Resolver(error.to_string()))
}

/// Deals connections out to the workers in turn, until the gateway drains.
async fn accept<Serving>(
    listener: TcpListener,
    crew: Arc<[Arc<Worker>]>,
    serve: impl Fn(Arc<Worker>, TcpStream, SocketAddr) -> Serving,
) where
    Serving: Future<Output = ()> + Send + 'static,
{
    let accepting = Accepting::new(listener);
    let mut waiting = 0;
    for worker in crew.iter().cycle() {
        let accepted = tokio::select! {
            biased;
            // What has connected already is told to go elsewhere, not reset; what goes on coming is not
            // waited for.
            () = worker.pop.draining.cancelled() => {
                waiting += 1;
                if waiting > BACKLOG { None } else { accepting.waiting().await }
            }
            accepted = accepting.next() => Some(accepted),
        };
        let Some((stream, peer)) = accepted else { return };
        worker.pop.tasks.spawn(serve(Arc::clone(worker), stream, peer));
    }
}
