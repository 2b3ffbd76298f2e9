//! One tunnel: handshake, session, then stream after stream until it ends.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use gateway_proto::fields::Fields;
use gateway_proto::target::{Authority, RequestTarget};
use tokio::net::TcpStream;

use super::datagram;
use super::decide;
use super::exchange;
use super::flow::Flow;
use super::intercept;
use super::packets;
use super::pipe::Asked;
use super::pop::{TunnelGuard, Worker};
use super::refused;
use super::session::{self, Credential};
use crate::exchange::muxed;
use crate::ident::{AccessMethod, TenantName};
use crate::snapshot::Tenant;
use crate::stream::{Io, Rewind};
use crate::tunnel::Session;
use crate::tunnel::accept::{self, Accepted, Refusal, RefusalReason};
use crate::tunnel::http1::{self, First};
use crate::tunnel::mux::{self, Code};
use crate::verdict::proxy_status;

/// Receive windows of all streams of one tunnel together: several streams at 1 Gbit/s and 100 ms.
const TUNNEL_WINDOW_BYTES: u64 = 32 * 1024 * 1024;

/// Serves one TCP connection of the tunnel port.
pub(super) async fn serve(worker: Arc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let pop = Arc::clone(&worker.pop);
    let limits = pop.snapshot.gateway();
    let Some(counted) = pop.tunnel(limits.config.limits.tunnels as usize) else {
        let refusal = Refusal { tenant: None, reason: RefusalReason::TooManyTunnels };
        return refused::record(&worker, peer, AccessMethod::Tls, &refusal);
    };
    let accepted =
        accept::accept(stream, &pop.snapshot, |tenant| Arc::clone(&pop.tenancy(tenant).tunnel));
    match Box::pin(accepted).await {
        Err(refusal) => refused::record(&worker, peer, AccessMethod::Tls, &refusal),
        Ok(accepted) => Box::pin(run(worker, accepted, peer, counted)).await,
    }
}

async fn run(worker: Arc<Worker>, accepted: Accepted, peer: SocketAddr, counted: TunnelGuard) {
    let Accepted { tls, tenant, identity, facts } = accepted;
    let credential = identity.map(Credential::Certificate);
    if facts.http2 {
        Box::pin(muxed_tunnel(worker, tls, tenant, credential, facts, peer, counted)).await;
    } else {
        let io = Io::Tls(Box::new(tls));
        let (facts, access) = (Some(facts), AccessMethod::Tls);
        let plain = Plain { tenant, credential, facts, peer, access, counted };
        Box::pin(plain_tunnel(worker, io, plain)).await;
    }
}

/// A tunnel over HTTP/2: many streams, each its own destination.
async fn muxed_tunnel(
    worker: Arc<Worker>,
    tls: tokio_rustls::server::TlsStream<TcpStream>,
    tenant: Arc<Tenant>,
    credential: Option<Credential>,
    facts: accept::TunnelTls,
    peer: SocketAddr,
    _counted: TunnelGuard,
) {
    let settings =
        mux::Settings { streams_max: streams_max(&worker, &tenant), ..mux::Settings::default() };
    let window = worker.pop.windows.tunnel(TUNNEL_WINDOW_BYTES);
    let channel = session::channel(&tls);
    let (driver, mut incoming, handle) = mux::serve(tls, settings, window);
    let driving = worker.pop.tasks.spawn(driver);
    let mut session = None;
    if let Some(credential) = credential {
        session =
            session::open(&worker, &tenant, credential, Some(&facts), peer, AccessMethod::Tls);
        if session.is_none() {
            handle.close();
        }
    }
    let draining = worker.pop.draining.clone();
    let stopping = worker.pop.stopping.clone();
    let mut drained = false;
    loop {
        let ended = session.as_ref().map(|it: &Arc<Session>| it.ended.clone());
        let request = tokio::select! {
            request = incoming.next() => request,
            () = draining.cancelled(), if !drained => {
                drained = true;
                handle.drain();
                continue;
            }
            () = session::over(ended.as_ref()) => {
                handle.close();
                break;
            }
            () = stopping.cancelled() => {
                handle.close();
                break;
            }
        };
        let Some(request) = request else { break };
        if session.is_none() {
            session = by_token(&worker, &tenant, &request, &facts, channel.as_deref(), peer);
        }
        let Some(session) = &session else {
            request.responder.finish(407, &challenge(&worker), Bytes::new());
            continue;
        };
        let (worker, session) = (Arc::clone(&worker), Arc::clone(session));
        let tasks = worker.pop.tasks.clone();
        tasks.spawn(stream(worker, session, request));
    }
    drop(incoming);
    let ending = driving.await.ok();
    if let Some(session) = session {
        session::close(&worker, &session, ending.map(|it| (it.label(), it.blame())));
    }
}

pub(super) fn streams_max(worker: &Worker, tenant: &Tenant) -> u32 {
    let all = worker.pop.snapshot.gateway().config.limits.streams_per_tunnel;
    tenant.config.limits.streams_per_tunnel.map_or(all, |own| own.min(all))
}

fn by_token(
    worker: &Arc<Worker>,
    tenant: &Arc<Tenant>,
    request: &mux::Request,
    facts: &accept::TunnelTls,
    channel: Option<&[u8]>,
    peer: SocketAddr,
) -> Option<Arc<Session>> {
    let shown = request.fields.text("proxy-authorization");
    let credential = match session::token(tenant, shown, channel) {
        Ok(credential) => credential,
        Err(reason) => {
            let refusal = Refusal { tenant: Some(tenant.name.clone()), reason };
            refused::record(worker, peer, AccessMethod::Tls, &refusal);
            return None;
        }
    };
    session::open(worker, tenant, credential, Some(facts), peer, AccessMethod::Tls)
}

/// One stream of an HTTP/2 tunnel. What serves it is boxed: a stream that idles holds the memory of
/// its own kind only.
async fn stream(worker: Arc<Worker>, session: Arc<Session>, request: mux::Request) {
    match (request.method.as_ref(), request.protocol.as_deref()) {
        (b"CONNECT", None) => {
            let Ok(authority) = Authority::parse(&request.authority) else {
                return request.responder.reset(Code::PROTOCOL_ERROR);
            };
            let Some(port) = authority.port else {
                return request.responder.reset(Code::PROTOCOL_ERROR);
            };
            let io = Io::Mux(request.responder.respond(200, &Fields::new()));
            if let Some(flow) = Flow::new(worker, session, authority.host, port) {
                decide::serve(flow, io, Bytes::new()).await;
            }
        }
        (b"CONNECT", Some(b"connect-udp")) => {
            let mux::Request { path, responder, .. } = request;
            Box::pin(datagram::serve(worker, session, &path, Asked::Mux(responder))).await;
        }
        (b"CONNECT", Some(_)) => {
            let why = refused::why(&worker, "protocol_not_supported");
            request.responder.finish(501, &why, Bytes::new());
        }
        _ => Box::pin(exchange(worker, session, request)).await,
    }
}

/// A request that names its own destination, instead of asking for a stream to it.
async fn exchange(worker: Arc<Worker>, session: Arc<Session>, request: mux::Request) {
    let Some(flow) = Flow::proxy(worker, Arc::clone(&session)) else { return };
    let _counted = session.stream();
    let Some((mut request, client)) = muxed::canonical(request) else { return };
    request.fields.remove("proxy-authorization");
    let flow = Arc::new(flow);
    tokio::select! {
        () = exchange::serve_muxed(&flow, request, client) => {}
        () = session.ended.cancelled() => {}
    }
}

/// A client that speaks HTTP/1.1 to the gateway.
pub(super) struct Plain {
    tenant: Arc<Tenant>,
    credential: Option<Credential>,
    /// Of the tunnel's TLS; an explicit listener has none.
    facts: Option<accept::TunnelTls>,
    peer: SocketAddr,
    access: AccessMethod,
    counted: TunnelGuard,
}

/// A tunnel over HTTP/1.1, or a connection of an explicit listener: one CONNECT, requests in absolute
/// form, or OpenConnect's bootstrap.
async fn plain_tunnel(worker: Arc<Worker>, mut io: Io, plain: Plain) {
    let channel = match &io {
        Io::Tls(tls) => session::channel(tls),
        _ => None,
    };
    loop {
        let first = tokio::select! {
            first = http1::first(&mut io) => first,
            // Nothing is under way yet: the client goes elsewhere.
            () = worker.pop.draining.cancelled() => return,
        };
        let first = match first {
            Ok(first) => first,
            Err(error) => {
                if let http1::FirstError::Malformed(malformed) = &error {
                    let why = closing(&worker, malformed.label());
                    drop(http1::answer(&mut io, malformed.status(), &why, b"").await);
                }
                return;
            }
        };
        let Plain { tenant, credential, facts, peer, access, .. } = &plain;
        if packets::is_bootstrap(&first.head)
            && let (Some(Credential::Certificate(_)), Some(_)) = (credential, facts)
        {
            return Box::pin(openconnect(worker, io, plain, first)).await;
        }
        if facts.as_ref().is_some_and(|facts| facts.bootstrap_only) {
            let refusal =
                Refusal { tenant: Some(tenant.name.clone()), reason: RefusalReason::OldTls };
            return refused::record(&worker, *peer, *access, &refusal);
        }
        let shown = first.head.fields.text("proxy-authorization");
        let credential = match (credential, access) {
            (Some(credential), _) => Ok(credential.clone()),
            (None, AccessMethod::Explicit) => session::explicit(tenant, shown),
            (None, _) => session::token(tenant, shown, channel.as_deref()),
        };
        let credential = match credential {
            Ok(credential) => credential,
            Err(reason) => {
                let told = shown.is_none();
                if !told || *access != AccessMethod::Explicit {
                    let refusal = Refusal { tenant: Some(tenant.name.clone()), reason };
                    refused::record(&worker, *peer, *access, &refusal);
                }
                // A client that has shown nothing is asked, and may answer on this connection.
                let bodiless = !first.head.fields.has("content-length")
                    && !first.head.fields.has("transfer-encoding");
                let answered = http1::answer(&mut io, 407, &challenge(&worker), b"").await;
                if told && bodiless && first.rest.is_empty() && answered.is_ok() {
                    continue;
                }
                return;
            }
        };
        let session = session::open(&worker, tenant, credential, facts.as_ref(), *peer, *access);
        let Some(session) = session else { return };
        only(&worker, &session, io, first).await;
        return session::close(&worker, &session, None);
    }
}

/// Goes on with OpenConnect's bootstrap.
async fn openconnect(worker: Arc<Worker>, io: Io, plain: Plain, first: First) {
    let Plain { tenant, credential, facts, peer, counted, .. } = plain;
    let (Io::Tls(tls), Some(Credential::Certificate(identity)), Some(facts)) =
        (io, credential, facts)
    else {
        return;
    };
    let bootstrap = packets::Bootstrap { tls, tenant, identity, facts, peer };
    packets::bootstrap(worker, bootstrap, first, counted).await;
}

/// The one thing an HTTP/1.1 tunnel carries.
async fn only(worker: &Arc<Worker>, session: &Arc<Session>, mut io: Io, first: First) {
    let target = RequestTarget::parse(&first.head.method, &first.head.target);
    match target {
        Ok(RequestTarget::Authority(authority)) => {
            let Some(port) = authority.port else { return };
            if http1::answer(&mut io, 200, &Fields::new(), b"").await.is_err() {
                return;
            }
            let (worker, session) = (Arc::clone(worker), Arc::clone(session));
            if let Some(flow) = Flow::new(worker, session, authority.host, port) {
                decide::serve(flow, io, first.rest).await;
            }
        }
        Ok(RequestTarget::Absolute { .. }) => {
            let Some(flow) = Flow::proxy(Arc::clone(worker), Arc::clone(session)) else { return };
            let _counted = session.stream();
            let prefix = [first.raw, first.rest].concat();
            tokio::select! {
                () = intercept::proxied(Arc::new(flow), Rewind::new(prefix.into(), io)) => {}
                () = session.ended.cancelled() => {}
            }
        }
        Ok(RequestTarget::Origin(_) | RequestTarget::Asterisk) | Err(_) => {
            drop(http1::answer(&mut io, 400, &closing(worker, "target_form"), b"").await);
        }
    }
}

/// Serves one connection of an explicit listener.
pub(super) async fn explicit(
    worker: Arc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    name: TenantName,
) {
    let Some(tenant) = worker.pop.snapshot.tenant(name.as_str()) else { return };
    let limits = worker.pop.snapshot.gateway();
    let Some(counted) = worker.pop.tunnel(limits.config.limits.tunnels as usize) else { return };
    let plain = Plain {
        tenant,
        credential: None,
        facts: None,
        peer,
        access: AccessMethod::Explicit,
        counted,
    };
    Box::pin(plain_tunnel(worker, Io::Plain(stream), plain)).await;
}

pub(super) fn challenge(worker: &Worker) -> Fields {
    let mut fields = refused::why(worker, "authentication_required");
    fields.push("Proxy-Authenticate", "Basic realm=\"sluice\", charset=\"UTF-8\"");
    fields.push("Proxy-Authenticate", "Bearer realm=\"sluice\"");
    fields.push("Content-Length", "0");
    fields
}

fn closing(worker: &Worker, label: &str) -> Fields {
    let gateway = worker.pop.snapshot.gateway();
    let mut fields = Fields::new();
    fields.push("Proxy-Status", proxy_status::malformed(&gateway.config.pop, label));
    fields.push("Content-Length", "0");
    fields.push("Connection", "close");
    fields
}
