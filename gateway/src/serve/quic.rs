//! One QUIC tunnel: handshake, session, then request after request until it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway_proto::fields::Fields;
use gateway_proto::target::Authority;
use parking_lot::Mutex;
use quinn::{Connection, ConnectionError, Incoming, VarInt};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::datagram;
use super::decide;
use super::flow::Flow;
use super::pipe::Asked;
use super::pop::{TunnelGuard, Worker};
use super::refused;
use super::session::{self, Credential};
use super::tunnel::{challenge, streams_max};
use crate::ident::{AccessMethod, Blame};
use crate::limit::window::{Pressure, TUNNEL_WINDOW_BYTES, TunnelWindow};
use crate::snapshot::Tenant;
use crate::stream::Io;
use crate::tunnel::Session;
use crate::tunnel::accept::{HANDSHAKE_TIME_MAX, Refusal, RefusalReason, TunnelTls};
use crate::tunnel::quic::{
    Arriving, Code, Granted, Http3, QuicEnding, QuicEndpoint, Request, Seen, WINDOW_BYTES_MIN,
};

/// Handshakes under way from which on a client must first show that its address is its own
/// (RFC 9000 section 8.1): as many as come in the second after a restart with 10,000 clients.
const RETRY_FROM: usize = 256;
/// Handshakes under way at most; some 30 KB each.
const OPENING_MAX: usize = 4_096;
/// Streams that a tunnel may have open before it has shown that it needs more.
const STREAMS_GRANTED: u32 = 16;
/// How often a tunnel is looked after.
const LOOK: Duration = Duration::from_secs(5);
/// A tunnel without streams is closed after this long; clients open one again at once.
const IDLE_TIME_MAX: Duration = Duration::from_secs(600);
/// Between the warning of a drain and its last word: requests that crossed it arrive by then.
const CROSSING_TIME: Duration = Duration::from_millis(500);
/// What a tunnel in use may have unread, and unacknowledged: 1 Gbit/s at 100 ms, and as much
/// again for what else it carries.
const WINDOW_BYTES: u32 = 16 << 20;

/// Accepts connections until the process stops.
pub(super) async fn serve(worker: Arc<Worker>, endpoint: QuicEndpoint) {
    let stopping = worker.pop.stopping.clone();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.endpoint.accept() => incoming,
            () = stopping.cancelled() => return,
        };
        let Some(incoming) = incoming else { return };
        first(&worker, &endpoint, incoming);
    }
}

/// What becomes of a connection's first packet.
fn first(worker: &Arc<Worker>, endpoint: &QuicEndpoint, incoming: Incoming) {
    let pop = &worker.pop;
    if pop.draining.is_cancelled() {
        // Clients go elsewhere, at once.
        return incoming.refuse();
    }
    let opening = pop.quic_opening.load(Ordering::Relaxed);
    if opening >= OPENING_MAX {
        pop.metrics.datagram_dropped("limit");
        return incoming.ignore();
    }
    if opening >= RETRY_FROM && !incoming.remote_address_validated() {
        pop.metrics.quic_retries_total.inc();
        // It may be retried: its address is not validated.
        return drop(incoming.retry());
    }
    let limit = pop.snapshot.gateway().config.limits.tunnels as usize;
    let Some(counted) = pop.tunnel(limit) else {
        let refusal = Refusal { tenant: None, reason: RefusalReason::TooManyTunnels };
        refused::record(worker, incoming.remote_address(), AccessMethod::Quic, &refusal);
        return incoming.refuse();
    };
    let opening = Opening::new(worker);
    let (worker, endpoint) = (Arc::clone(worker), endpoint.clone());
    let tasks = worker.pop.tasks.clone();
    tasks.spawn(async move {
        if let Some(met) = Box::pin(meet(&worker, &endpoint, incoming)).await {
            drop((opening, endpoint));
            Box::pin(run(worker, met, counted)).await;
        }
    });
}

/// Counts a handshake under way.
struct Opening(Arc<Worker>);

impl Opening {
    fn new(worker: &Arc<Worker>) -> Self {
        worker.pop.quic_opening.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(worker))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.pop.quic_opening.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection whose handshake is done.
struct Met {
    connection: Connection,
    tenant: Arc<Tenant>,
    credential: Option<Credential>,
    facts: TunnelTls,
}

async fn meet(worker: &Arc<Worker>, endpoint: &QuicEndpoint, incoming: Incoming) -> Option<Met> {
    let peer = incoming.remote_address();
    let (config, seen) = endpoint.meeting();
    // What is no Initial packet at all is nobody's refusal.
    let connecting = incoming.accept_with(config).ok()?;
    let met = timeout(HANDSHAKE_TIME_MAX, connecting).await;
    let reason = match met {
        Ok(Ok(connection)) => {
            let Seen { tenant, identity, kx, .. } = std::mem::take(&mut *seen.lock());
            let tenant = tenant?;
            if let Some(identity) = &identity {
                worker.pop.tenancy(&tenant).tunnel.remember(identity);
            }
            let credential = identity.map(Credential::Certificate);
            let facts = TunnelTls { version: "1.3", kx, http2: false, bootstrap_only: false };
            return Some(Met { connection, tenant, credential, facts });
        }
        Ok(Err(error)) => refusal(&seen, &error),
        Err(_) => RefusalReason::HandshakeTimeout,
    };
    let refusal = Refusal { tenant: seen.lock().tenant_name(), reason };
    refused::record(worker, peer, AccessMethod::Quic, &refusal);
    None
}

/// Why a handshake failed.
fn refusal(seen: &Mutex<Seen>, error: &ConnectionError) -> RefusalReason {
    if let Some(reason) = seen.lock().refusal.take() {
        return reason;
    }
    match error {
        ConnectionError::TimedOut => RefusalReason::HandshakeTimeout,
        ConnectionError::TransportError(_) | ConnectionError::VersionMismatch => {
            RefusalReason::BadFirstBytes
        }
        _ => RefusalReason::Io(std::io::ErrorKind::ConnectionReset),
    }
}

/// A tunnel, as its streams see it.
struct Tunnel {
    worker: Arc<Worker>,
    tenant: Arc<Tenant>,
    facts: TunnelTls,
    connection: Connection,
    session: watch::Sender<Option<Arc<Session>>>,
    running: TaskTracker,
}

async fn run(worker: Arc<Worker>, met: Met, _counted: TunnelGuard) {
    let Met { connection, tenant, credential, facts } = met;
    let Ok(mut http3) = Http3::begin(connection.clone()).await else { return };
    let session = watch::Sender::new(None);
    let running = TaskTracker::new();
    let tunnel = Arc::new(Tunnel { worker, tenant, facts, connection, session, running });
    if let Some(credential) = credential
        && !tunnel.open(credential)
    {
        return http3.close();
    }
    let ending = Box::pin(drive(&tunnel, &mut http3)).await;
    tunnel.worker.pop.metrics.datagrams_dropped("queue", http3.datagrams_lost());
    let session = tunnel.session.borrow().clone();
    if let Some(session) = session {
        let (label, blame): (&'static str, Blame) = (ending.label(), ending.blame());
        session::close(&tunnel.worker, &session, Some((label, blame)));
    }
}

/// Starts stream after stream, until the connection is over.
async fn drive(tunnel: &Arc<Tunnel>, http3: &mut Http3) -> QuicEnding {
    let pop = &tunnel.worker.pop;
    let mut upkeep = Upkeep::new(pop.windows.tunnel(TUNNEL_WINDOW_BYTES));
    let mut looks = tokio::time::interval(LOOK);
    let mut drain = Drain::No;
    loop {
        let metrics = &pop.metrics;
        tokio::select! {
            arriving = http3.next(|reason| metrics.datagram_dropped(reason)) => {
                let Some(arriving) = arriving else { return http3.ending() };
                upkeep.used(tunnel);
                tunnel.running.spawn(stream(Arc::clone(tunnel), arriving));
            }
            () = tunnel.over() => {
                http3.close();
                return QuicEnding::Closed;
            }
            () = pop.stopping.cancelled() => {
                http3.close();
                return QuicEnding::Closed;
            }
            () = pop.draining.cancelled(), if drain == Drain::No => {
                drain = Drain::Warned(Instant::now() + CROSSING_TIME);
                http3.warn().await;
            }
            () = drain.crossed() => {
                drain = Drain::Refusing;
                http3.refuse_more().await;
                tunnel.running.close();
            }
            () = tunnel.running.wait(), if drain == Drain::Refusing => {
                http3.delivered().await;
                http3.close();
                return QuicEnding::Drained;
            }
            _ = looks.tick() => {
                if upkeep.look(tunnel) {
                    http3.close();
                    return QuicEnding::Idle;
                }
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    /// Requests that crossed the warning arrive until then.
    Warned(Instant),
    Refusing,
}

impl Drain {
    async fn crossed(self) {
        match self {
            Self::Warned(until) => tokio::time::sleep_until(until.into()).await,
            Self::No | Self::Refusing => std::future::pending().await,
        }
    }
}

/// What happens by the clock.
struct Upkeep {
    window: TunnelWindow,
    granted: Granted,
    idle_since: Option<Instant>,
}

impl Upkeep {
    fn new(window: TunnelWindow) -> Self {
        let granted = Granted::new(STREAMS_GRANTED);
        Self { window, granted, idle_since: Some(Instant::now()) }
    }

    /// A stream begins: the tunnel is given room, while there is some.
    fn used(&mut self, tunnel: &Tunnel) {
        self.idle_since = None;
        let connection = &tunnel.connection;
        let most = streams_max(&tunnel.worker, &tunnel.tenant);
        self.granted.used(connection, tunnel.running.len(), most);
        if self.window.used() == 0 && self.window.pressure() == Pressure::Low {
            let more = WINDOW_BYTES - WINDOW_BYTES_MIN;
            if self.window.grow(2 * u64::from(more)) {
                connection.set_receive_window(VarInt::from_u32(WINDOW_BYTES));
                connection.set_send_window(WINDOW_BYTES.into());
            }
        }
    }

    fn shrink(&mut self, connection: &Connection) {
        if self.window.used() > 0 {
            connection.set_receive_window(VarInt::from_u32(WINDOW_BYTES_MIN));
            connection.set_send_window(WINDOW_BYTES_MIN.into());
            self.window.release(self.window.used());
        }
    }

    /// True where the tunnel has been idle for too long.
    fn look(&mut self, tunnel: &Tunnel) -> bool {
        tunnel.follow_address();
        if !tunnel.running.is_empty() {
            self.idle_since = None;
            if self.window.pressure() == Pressure::Critical {
                self.shrink(&tunnel.connection);
            }
            return false;
        }
        self.shrink(&tunnel.connection);
        self.idle_since.get_or_insert_with(Instant::now).elapsed() >= IDLE_TIME_MAX
    }
}

impl Tunnel {
    /// Opens the session; false where it may not be.
    fn open(&self, credential: Credential) -> bool {
        let Self { worker, tenant, facts, connection, session, .. } = self;
        let peer = connection.remote_address();
        let opened =
            session::open(worker, tenant, credential, Some(facts), peer, AccessMethod::Quic);
        let Some(opened) = opened else { return false };
        session.send_replace(Some(opened));
        let streams = streams_max(worker, tenant).min(STREAMS_GRANTED);
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
        true
    }

    /// The session, which the first token opens where no certificate has.
    fn session(&self, request: &Request) -> Option<Arc<Session>> {
        if let Some(session) = self.session.borrow().clone() {
            return Some(session);
        }
        let mut channel = [0; 32];
        let exported =
            self.connection.export_keying_material(&mut channel, b"EXPORTER-Channel-Binding", b"");
        let channel = exported.is_ok().then_some(&channel[..]);
        let shown = request.head.fields.text("proxy-authorization");
        match session::token(&self.tenant, shown, channel) {
            Ok(credential) => {
                self.open(credential);
            }
            Err(reason) => {
                let refusal = Refusal { tenant: Some(self.tenant.name.clone()), reason };
                let peer: SocketAddr = self.connection.remote_address();
                refused::record(&self.worker, peer, AccessMethod::Quic, &refusal);
            }
        }
        self.session.borrow().clone()
    }

    /// Ready when the session, once there is one, has been ended.
    async fn over(&self) {
        let mut session = self.session.subscribe();
        let opened = session.wait_for(Option::is_some).await.ok().and_then(|it| it.clone());
        session::over(opened.as_ref().map(|session| &session.ended)).await;
    }

    /// Clients move; what is recorded from here on says where they are.
    fn follow_address(&self) {
        if let Some(session) = &*self.session.borrow() {
            session::moved(&self.worker, session, self.connection.remote_address());
        }
    }
}

/// One stream of a QUIC tunnel. What serves it is boxed: a stream that idles holds the memory of
/// its own kind only.
async fn stream(tunnel: Arc<Tunnel>, arriving: Arriving) {
    let Some(request) = Box::pin(arriving.head()).await else { return };
    let worker = Arc::clone(&tunnel.worker);
    let Some(session) = tunnel.session(&request) else {
        let (_, responder) = request.into_parts();
        return drop(responder.finish(407, &challenge(&worker), Bytes::new()).await);
    };
    if tunnel.running.len() > streams_max(&worker, &tunnel.tenant) as usize {
        return request.into_parts().1.reset(Code::REQUEST_REJECTED);
    }
    tunnel.follow_address();
    drop(tunnel);
    if request.head.method.as_ref() != b"CONNECT" {
        return Box::pin(exchange(worker, session, request)).await;
    }
    let (head, responder) = request.into_parts();
    match head.protocol.as_deref() {
        None => {
            let authority = Authority::parse(&head.authority).ok();
            let Some((host, port)) = authority.and_then(|it| it.port.map(|port| (it.host, port)))
            else {
                return responder.reset(Code::MESSAGE_ERROR);
            };
            let Ok(stream) = responder.respond(200, &Fields::new()).await else { return };
            if let Some(flow) = Flow::new(worker, session, host, port) {
                decide::serve(flow, Io::Quic(Box::new(stream)), Bytes::new()).await;
            }
        }
        Some(b"connect-udp") => {
            let asked = Asked::Quic(Box::new(responder));
            Box::pin(datagram::serve(worker, session, &head.path, asked)).await;
        }
        Some(_) => {
            let why = refused::why(&worker, "protocol_not_supported");
            drop(responder.finish(501, &why, Bytes::new()).await);
        }
    }
}

/// A request that names its own destination, instead of asking for a stream to it.
async fn exchange(worker: Arc<Worker>, session: Arc<Session>, request: Request) {
    let Some(flow) = Flow::proxy(worker, Arc::clone(&session)) else { return };
    let _counted = session.stream();
    let (flow, (head, rest)) = (Arc::new(flow), request.into_rest());
    tokio::select! {
        () = super::exchange::serve_behind(&flow, head, rest) => {}
        () = session.ended.cancelled() => {}
    }
}
