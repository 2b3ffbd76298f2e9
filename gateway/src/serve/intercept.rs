//! Decrypts a flow: the origin's profile, the tenant's leaf, then exchange after exchange.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use policy::verdict::DialPermit;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;

use super::answer::Refusal;
use super::aside;
use super::destination;
use super::exchange::{self, Way};
use super::flow::{Flow, FlowEnd};
use super::reach::{self, Unreachable};
use super::streams;
use crate::exchange::Scheme;
use crate::exchange::http1::Http1;
use crate::ident::Blame;
use crate::snapshot::Tenant;
use crate::stream::{Io, Rewind};
use crate::tls::{self, AcceptError, FaultAction, Leaf, Opening, Profile, ProfileKey};
use crate::verdict::notice::Kind;
use crate::verdict::pinned::{Reason, Sign};

/// What inner connections may speak, whatever the origin speaks. Some that want HTTP/1.0 say so by
/// the name it has in the registry.
pub(super) const ALPN: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];
/// Where logins are bound to connections, HTTP/2 would mix them.
const ALPN_HTTP1: [&[u8]; 2] = [b"http/1.1", b"http/1.0"];
/// Browsers keep idle connections for some minutes; they open a new one at once.
const IDLE_TIME_MAX: Duration = Duration::from_secs(300);
/// Serves a TLS flow that is to be decrypted.
pub(super) async fn serve(
    flow: Arc<Flow>,
    tenant: Arc<Tenant>,
    permit: DialPermit,
    io: Rewind<Io>,
    began: Instant,
) {
    if aside::is_pinned(&flow, &tenant)
        && let Some(permit) = Box::pin(aside::permit(&flow, &tenant)).await
    {
        let passed = aside::pass(&flow, &tenant, &permit, Reason::ClientPinned, io, began);
        return Box::pin(passed).await;
    }
    // Boxed, and so over before the connection is served: that may idle for long.
    let way = match Box::pin(learn(&flow, &tenant, &permit)).await {
        Learned::Known => Way::Through(permit),
        Learned::WantsCertificate(error) => match Box::pin(aside::permit(&flow, &tenant)).await {
            Some(permit) => {
                let passed =
                    aside::pass(&flow, &tenant, &permit, Reason::ClientCertificate, io, began);
                return Box::pin(passed).await;
            }
            None => {
                error.map_or(Way::Through(permit), |it| Way::Refused(Refusal::unreachable(&it)))
            }
        },
        Learned::Failed(error) => Way::Refused(Refusal::unreachable(&error)),
    };
    Box::pin(connection(flow, tenant, way, io, began)).await;
}

/// Shows a page for a flow that was refused before anything was dialled.
pub(super) async fn refuse(
    flow: Arc<Flow>,
    tenant: Arc<Tenant>,
    io: Rewind<Io>,
    began: Instant,
    end: FlowEnd,
) {
    let way = Way::Refused(Refusal::of_flow(&tenant, &end));
    Box::pin(connection(flow, tenant, way, io, began)).await;
}

pub(super) enum Learned {
    Known,
    /// The origin asks for a client certificate, and the tenant lets such pass; with the error,
    /// where it insists.
    WantsCertificate(Option<Unreachable>),
    Failed(Unreachable),
}

/// An unknown origin is asked first, before the client has its answer; a known one is reached
/// when the first exchange needs it.
pub(super) async fn learn(flow: &Flow, tenant: &Tenant, permit: &DialPermit) -> Learned {
    let target = flow.target(Scheme::Https);
    let addresses = match destination::destinations(flow, tenant, &target).await {
        Ok(addresses) => addresses,
        Err(error) => return Learned::Failed(error),
    };
    let Some(address) = addresses.first() else { return Learned::Known };
    let key = |address| ProfileKey { host: Arc::clone(&flow.host), port: flow.port, address };
    let profiles = &flow.tenancy.profiles;
    let passes = aside::lets_pass(tenant, Reason::ClientCertificate);
    let known = profiles.find(&key(*address), Instant::now());
    if let Some(profile) = known.filter(|profile| profile.findings.is_empty()) {
        promise(flow, &profile);
        return match profile.wants_client_certificate && passes {
            true => Learned::WantsCertificate(None),
            false => Learned::Known,
        };
    }
    match reach::open(flow, tenant, permit, &target, true, false).await {
        Ok(opened) => {
            let profile = profiles.find(&reach::profile_key(&opened.key), Instant::now());
            let wants = profile.as_ref().is_some_and(|it| it.wants_client_certificate);
            if let Some(profile) = profile {
                promise(flow, &profile);
            }
            if wants && passes {
                return Learned::WantsCertificate(None);
            }
            if wants {
                aside::note(flow, Reason::ClientCertificate, false);
            }
            *flow.first.lock() = Some(opened);
            Learned::Known
        }
        // A warned fault is asked about per exchange: the page leads on, and then it is tolerated.
        Err(Unreachable::Fault(_, FaultAction::Warn)) => Learned::Known,
        Err(error) if passes && aside::wants_certificate(&error) => {
            if let Some(address) = flow.seen.lock().address {
                let profile = Profile { wants_client_certificate: true, ..Profile::default() };
                profiles.learn(key(address), profile, Instant::now());
            }
            Learned::WantsCertificate(Some(error))
        }
        Err(error) => Learned::Failed(error),
    }
}

/// What the client may be promised of WebSockets: what the origin allows on HTTP/2, and the usual
/// Upgrade where it speaks HTTP/1.1.
fn promise(flow: &Flow, profile: &Profile) {
    let speaks_http2 = profile.alpn.as_deref() == Some(b"h2") && !profile.http1_only;
    let allowed = if speaks_http2 { profile.connect_protocol } else { Some(true) };
    if allowed.is_some() {
        flow.websocket.send_replace(allowed);
    }
    if profile.binds_login && (!speaks_http2) {
        flow.seen.lock().offer_http1_only = true;
    }
}

/// The tenant's leaf for a flow.
pub(super) async fn leaf(flow: &Flow, tenant: &Tenant) -> Result<Arc<Leaf>, FlowEnd> {
    match flow.tenancy.authority(tenant, &flow.worker.pop) {
        Ok(authority) => {
            let leaf = authority.leaf(&flow.host, SystemTime::now()).await;
            leaf.map_err(|error| FlowEnd::refused(error.label(), error.blame()))
        }
        Err(error) => {
            tracing::error!(tenant = %tenant.name, "interception CA cannot be used: {error}");
            Err(FlowEnd::refused("interception_ca", Blame::Gateway))
        }
    }
}

/// Takes the client's handshake with the tenant's leaf and serves what comes.
async fn connection(
    flow: Arc<Flow>,
    tenant: Arc<Tenant>,
    way: Way,
    io: Rewind<Io>,
    began: Instant,
) {
    let leaf = match leaf(&flow, &tenant).await {
        Ok(leaf) => leaf,
        Err(end) => return flow.record(&tenant, began, &end),
    };
    let offered: &[&[u8]] = if flow.seen.lock().offer_http1_only { &ALPN_HTTP1 } else { &ALPN };
    match Box::pin(tls::accept(io, tls::client_facing(&leaf, offered))).await {
        Err(error) => {
            match &error {
                AcceptError::Pinned { .. } => aside::note_pinned(&flow, Sign::Refused),
                AcceptError::Closed => aside::note_pinned(&flow, Sign::Closed),
                _ => {}
            }
            flow.record(&tenant, began, &unused(&way, error.label(), error.blame()));
        }
        Ok((stream, facts)) => {
            let agreed = facts.alpn.clone();
            flow.seen.lock().client = Some(facts);
            let stream = Box::new(stream);
            Box::pin(opened(flow, &tenant, way, stream, agreed.as_deref(), began)).await;
        }
    }
}

/// Serves a connection whose handshake is done, once the client has shown what it wants of it.
async fn opened(
    flow: Arc<Flow>,
    tenant: &Tenant,
    way: Way,
    mut stream: Box<TlsStream<Rewind<Io>>>,
    agreed: Option<&[u8]>,
    began: Instant,
) {
    let (draining, ended) = (flow.worker.pop.draining.clone(), flow.session.ended.clone());
    let opening = tokio::select! {
        biased;
        opening = tls::opening(&mut stream, agreed.is_some(), IDLE_TIME_MAX) => opening,
        // Nothing has been asked for yet.
        () = draining.cancelled() => Opening::Idle,
        () = ended.cancelled() => Opening::Idle,
    };
    let end = match opening {
        Opening::Http { raw } => {
            aside::note_trust(&flow);
            let stream = Rewind::new(raw, stream);
            let refused = matches!(way, Way::Refused(_));
            let nothing_asked = unused(&way, "client_closed_unused", Blame::Client);
            let served = Arc::clone(&flow);
            let serving = async {
                if agreed == Some(b"h2") {
                    Box::pin(http2(served, way, stream)).await;
                } else {
                    Box::pin(http1(served, way, stream, Scheme::Https)).await;
                }
            };
            tokio::select! {
                () = serving => {}
                () = ended.cancelled() => {}
            }
            if refused && !flow.seen.lock().exchanged {
                flow.record(tenant, began, &nothing_asked);
            }
            return;
        }
        Opening::Other { protocol } => {
            aside::note(&flow, Reason::NotHttp, false);
            flow.seen.lock().decrypt_reason = Some(protocol.into());
            Some(match &way {
                Way::Refused(refusal) if refusal.kind != Kind::Failed => {
                    unused(&way, Reason::NotHttp.label(), Blame::Client)
                }
                _ => FlowEnd::refused(Reason::NotHttp.label(), Blame::Client),
            })
        }
        Opening::Refused { .. } => {
            aside::note_pinned(&flow, Sign::Refused);
            Some(unused(&way, Reason::ClientPinned.label(), Blame::Client))
        }
        Opening::Closed { at_once: true } => {
            aside::note_pinned(&flow, Sign::Closed);
            Some(unused(&way, "client_closed_unused", Blame::Client))
        }
        // A spare connection that nobody needed, unless it was refused: that is on record.
        Opening::Closed { at_once: false } | Opening::Idle => match &way {
            Way::Refused(_) => Some(unused(&way, "client_closed_unused", Blame::Client)),
            _ => None,
        },
    };
    if let Some(end) = end {
        flow.record(tenant, began, &end);
    }
    // The client may already be gone; there is nobody to tell.
    drop(stream.shutdown().await);
}

/// The end of a connection on which nothing was asked for. What it was refused for stays said.
pub(super) fn unused(way: &Way, label: &'static str, blame: Blame) -> FlowEnd {
    let end = FlowEnd::refused(label, blame);
    match way {
        Way::Refused(refusal) if refusal.kind != Kind::Failed => FlowEnd {
            rule: refusal.rule.clone().map(Into::into),
            block_reason: Some(refusal.label),
            ..end
        },
        _ => FlowEnd { action: "allow", block_reason: None, ..end },
    }
}

async fn http1<Io>(flow: Arc<Flow>, way: Way, io: Io, scheme: Scheme)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let client = Box::new(Http1::new(io, scheme, flow.asked.clone(), flow.port));
    exchange::serve_http1(&flow, &way, client, IDLE_TIME_MAX).await;
}

async fn http2(flow: Arc<Flow>, way: Way, io: Rewind<Box<TlsStream<Rewind<Io>>>>) {
    let way = Arc::new(way);
    let draining = flow.worker.pop.draining.clone();
    let websocket = flow.websocket.subscribe();
    streams::serve(io, websocket, &draining, |request, respond, running| {
        let (flow, way) = (Arc::clone(&flow), Arc::clone(&way));
        let session_ended = flow.session.ended.clone();
        let tasks = flow.worker.pop.tasks.clone();
        tasks.spawn(running.track_future(async move {
            let serving = exchange::serve_http2(&flow, &way, request, respond);
            tokio::select! {
                () = serving => {}
                () = session_ended.cancelled() => {}
            }
        }));
    })
    .await;
}

/// Serves a flow of plain HTTP.
pub(super) async fn plain(flow: Arc<Flow>, permit: DialPermit, io: Io, raw: Bytes) {
    flow.seen.lock().decrypted = Some(false);
    let ended = flow.session.ended.clone();
    let way = Way::Through(permit);
    tokio::select! {
        () = Box::pin(http1(Arc::clone(&flow), way, Rewind::new(raw, io), Scheme::Http)) => {}
        () = ended.cancelled() => {}
    }
}

/// Answers plain HTTP of a flow that was refused.
pub(super) async fn refuse_plain(
    flow: Arc<Flow>,
    tenant: Arc<Tenant>,
    io: Io,
    raw: Bytes,
    end: FlowEnd,
) {
    let way = Way::Refused(Refusal::of_flow(&tenant, &end));
    Box::pin(http1(flow, way, Rewind::new(raw, io), Scheme::Http)).await;
}

/// Serves a connection whose requests each name their own destination (absolute form).
pub(super) async fn proxied(flow: Arc<Flow>, io: Rewind<Io>) {
    Box::pin(http1(flow, Way::Asked, io, Scheme::Http)).await;
}

/// Serves the gateway's own notice pages.
pub(super) async fn notice(flow: Arc<Flow>, tenant: Arc<Tenant>, io: Rewind<Io>, began: Instant) {
    Box::pin(connection(flow, tenant, Way::Notice, io, began)).await;
}
