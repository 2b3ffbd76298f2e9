//! Decrypts a flow: the origin's profile, the tenant's leaf, then exchange after exchange.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use policy::verdict::DialPermit;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use super::answer::Refusal;
use super::exchange::{self, Way};
use super::flow::{self, Flow, FlowEnd};
use super::reach::{self, Unreachable};
use crate::config::BypassAction;
use crate::exchange::http1::Http1;
use crate::exchange::{Scheme, http2};
use crate::ident::Blame;
use crate::snapshot::Tenant;
use crate::stream::{Io, Rewind};
use crate::tls::{self, AcceptError, FaultAction, OriginTlsError, Profile, ProfileKey};

/// What inner connections may speak, whatever the origin speaks.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Browsers keep idle connections for some minutes; they open a new one at once.
const IDLE_TIME_MAX: Duration = Duration::from_secs(300);
/// After a GOAWAY an idle client has this long to close: a round trip anywhere on earth.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a TLS flow that is to be decrypted.
pub(super) async fn serve(
    flow: Arc<Flow>,
    tenant: Arc<Tenant>,
    permit: DialPermit,
    io: Rewind<Io>,
    began: Instant,
) {
    let way = match learn(&flow, &tenant, &permit).await {
        Learned::Known => Way::Through(permit),
        Learned::Failed(error) => {
            if steps_aside(&error, &tenant) {
                return step_aside(flow, &tenant, &permit, io, began).await;
            }
            Way::Refused(Refusal::unreachable(&error))
        }
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

enum Learned {
    Known,
    Failed(Unreachable),
}

/// An unknown origin is asked first, before the client has its answer; a known one is reached
/// when the first exchange needs it.
async fn learn(flow: &Flow, tenant: &Tenant, permit: &DialPermit) -> Learned {
    let target = flow.target(Scheme::Https);
    let addresses = match reach::resolve(flow, tenant, &target).await {
        Ok(addresses) => addresses,
        Err(error) => return Learned::Failed(error),
    };
    let Some(address) = addresses.first() else { return Learned::Known };
    let key = |address| ProfileKey { host: Arc::clone(&flow.host), port: flow.port, address };
    let profiles = &flow.tenancy.profiles;
    let known = profiles.find(&key(*address), Instant::now());
    if known.is_some_and(|profile| profile.findings.is_empty()) {
        return Learned::Known;
    }
    match reach::open(flow, tenant, permit, &target, true, false).await {
        Ok(opened) => {
            let profile = flow.seen.lock().origin.as_ref().map(Profile::from);
            if let Some(profile) = profile {
                profiles.learn(key(opened.key.address.ip()), profile, Instant::now());
            }
            *flow.first.lock() = Some(opened);
            Learned::Known
        }
        // A warned fault is asked about per exchange: the page leads on, and then it is tolerated.
        Err(Unreachable::Fault(_, FaultAction::Warn)) => Learned::Known,
        Err(error) => Learned::Failed(error),
    }
}

/// Whether the tenant lets what cannot be decrypted pass undecrypted.
fn steps_aside(error: &Unreachable, tenant: &Tenant) -> bool {
    matches!(error, Unreachable::Tls(OriginTlsError::ClientCertificate))
        && tenant.config.decryption.client_certificate_wanted == BypassAction::Bypass
}

async fn step_aside(
    flow: Arc<Flow>,
    tenant: &Tenant,
    permit: &DialPermit,
    io: Rewind<Io>,
    began: Instant,
) {
    let Some(flow) = Arc::into_inner(flow) else { return };
    {
        let mut seen = flow.seen.lock();
        seen.decrypted = Some(false);
        seen.decrypt_reason = Some("client_certificate_wanted".into());
    }
    let (io, raw) = io.into_parts();
    flow::bypass(flow, tenant, permit, io, raw, began).await;
}

/// Takes the client's handshake with the tenant's leaf and serves what comes.
async fn connection(
    flow: Arc<Flow>,
    tenant: Arc<Tenant>,
    way: Way,
    io: Rewind<Io>,
    began: Instant,
) {
    let authority = flow.tenancy.authority(&tenant, &flow.worker.pop);
    let leaf = match authority {
        Ok(authority) => authority.leaf(&flow.host, SystemTime::now()).await,
        Err(error) => {
            tracing::error!(tenant = %tenant.name, "interception CA cannot be used: {error}");
            let end = FlowEnd::refused("interception_ca", Blame::Gateway);
            return flow.record(&tenant, began, &end);
        }
    };
    let leaf = match leaf {
        Ok(leaf) => leaf,
        Err(error) => {
            let end = FlowEnd::refused(error.label(), error.blame());
            return flow.record(&tenant, began, &end);
        }
    };
    match tls::accept(io, tls::client_facing(&leaf, &ALPN)).await {
        Err(error) => handshake_failed(&flow, &tenant, &error, began),
        Ok((stream, facts)) => {
            let is_http2 = facts.alpn.as_deref() == Some(b"h2");
            flow.seen.lock().client = Some(facts);
            let ended = flow.session.ended.clone();
            let serving = async {
                if is_http2 {
                    http2(Arc::clone(&flow), way, stream).await;
                } else {
                    http1(Arc::clone(&flow), way, stream, Scheme::Https).await;
                }
            };
            tokio::select! {
                () = serving => {}
                () = ended.cancelled() => {}
            }
        }
    }
}

fn handshake_failed(flow: &Flow, tenant: &Tenant, error: &AcceptError, began: Instant) {
    if matches!(error, AcceptError::Pinned { .. }) {
        let device = flow.session.who.device.as_deref();
        let site = flow.worker.pop.catalog.site(&flow.host);
        flow.tenancy.pinned.note(&flow.host, device, site.app, SystemTime::now());
    }
    let end = FlowEnd {
        block_reason: None,
        action: "allow",
        ..FlowEnd::refused(error.label(), error.blame())
    };
    flow.record(tenant, began, &end);
}

async fn http1<Io>(flow: Arc<Flow>, way: Way, io: Io, scheme: Scheme)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let client = Http1::new(io, scheme, flow.asked.clone(), flow.port);
    exchange::serve_http1(&flow, &way, client, IDLE_TIME_MAX).await;
}

async fn http2(flow: Arc<Flow>, way: Way, io: TlsStream<Rewind<Io>>) {
    let Ok(mut connection) = http2::builder().handshake(io).await else { return };
    let way = Arc::new(way);
    let running = TaskTracker::new();
    let draining = flow.worker.pop.draining.clone();
    let mut drained = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = draining.cancelled(), if !drained => {
                drained = true;
                connection.graceful_shutdown();
                running.close();
                continue;
            }
            // A client that does not answer the GOAWAY is left once its exchanges are done.
            () = farewell(&running), if drained => return,
        };
        let Some(Ok((request, respond))) = accepted else { return };
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
    }
}

async fn farewell(running: &TaskTracker) {
    running.wait().await;
    tokio::time::sleep(FAREWELL).await;
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
