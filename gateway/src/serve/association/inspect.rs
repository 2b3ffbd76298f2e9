//! Decrypts a QUIC connection: the tenant's leaf, then exchange after exchange over HTTP/3.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::refusal;
use crate::exchange::http2::STREAMS_MAX;
use crate::exchange::http3::{Room, STREAMS_GRANTED, settings, transport};
use crate::ident::Blame;
use crate::limit::window::{Pressure, TunnelWindow};
use crate::serve::aside;
use crate::serve::exchange::{self, Way};
use crate::serve::flow::{Flow, FlowEnd};
use crate::serve::intercept::{leaf, unused};
use crate::snapshot::Tenant;
use crate::stream::{Datagrams, quic as stream_quic};
use crate::tls::{AcceptError, quic};
use crate::tunnel::quic::{Granted, Http3};
use crate::verdict::quic::program_of;

/// The reason of a client that does not accept our certificate over QUIC.
pub(super) const CERTIFICATE: &str = "client_refused_certificate";

/// A client that has sent its ClientHello needs one more round trip; what is lost is sent again.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// The connection is looked at this often; found idle twice in a row it is over. As over HTTP/2.
const IDLE_LOOK_INTERVAL: Duration = Duration::from_secs(150);
/// Frames of some bytes have room at once, unless the client wants none.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);
/// After a GOAWAY and the last exchange a client has this long to read on.
const FAREWELL: Duration = Duration::from_secs(30);

/// Serves a connection that is decrypted. `raw` is what the client has sent already.
pub(super) async fn serve(
    flow: &Arc<Flow>,
    tenant: &Tenant,
    way: Way,
    datagrams: Datagrams,
    raw: Vec<Bytes>,
    _began: Instant,
) -> Option<FlowEnd> {
    let leaf = match leaf(flow, tenant).await {
        Ok(leaf) => leaf,
        Err(end) => return Some(end),
    };
    let Some((room, _held)) = room(flow) else {
        return Some(refusal(flow, "memory", Blame::Gateway));
    };
    let server = quic::server(&leaf, transport(room));
    let endpoint = server.and_then(|server| {
        let endpoint = stream_quic::endpoint(datagrams, raw, server);
        endpoint.map_err(|error| AcceptError::Internal(error.to_string()))
    });
    let (endpoint, gone) = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => return Some(FlowEnd::refused(error.label(), error.blame())),
    };
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE_TIME_MAX, accept(&endpoint)) => {
            accepted.unwrap_or(Err(AcceptError::Timeout))
        }
        () = gone.cancelled() => Err(AcceptError::Closed),
        () = flow.session.ended.cancelled() => return Some(FlowEnd::ended("session_ended")),
    };
    match accepted {
        Ok(connection) => {
            flow.seen.lock().client = Some(quic::agreed(&connection));
            serve_connection(flow, way, connection, &gone).await
        }
        Err(error) => Some(failed(flow, &way, &error)),
    }
}

/// What a connection may hold of the process's memory; nothing where that is short, and the client
/// takes TLS.
fn room(flow: &Flow) -> Option<(Room, TunnelWindow)> {
    let windows = &flow.worker.pop.windows;
    let mut held = windows.tunnel(Room::Whole.bytes());
    if held.grow(Room::Whole.bytes()) {
        return Some((Room::Whole, held));
    }
    if windows.pressure() == Pressure::Critical {
        return None;
    }
    held.owe(Room::Small.bytes());
    Some((Room::Small, held))
}

async fn accept(endpoint: &quinn::Endpoint) -> Result<quinn::Connection, AcceptError> {
    let incoming = endpoint.accept().await.ok_or(AcceptError::Closed)?;
    // Another connection of the same association is refused.
    endpoint.set_server_config(None);
    incoming.await.map_err(|error| quic::failure(&error))
}

/// The end of a connection whose handshake failed. A client that does not take our certificate over
/// QUIC comes by TLS, and is not asked to try again.
fn failed(flow: &Flow, way: &Way, error: &AcceptError) -> FlowEnd {
    let refusals = &flow.tenancy.quic;
    let program = aside::met(flow, program_of);
    match error {
        AcceptError::Pinned { .. } => {
            program.iter().for_each(|program| refusals.refused(program));
            refusal(flow, CERTIFICATE, Blame::Client)
        }
        AcceptError::Closed => {
            program.iter().for_each(|program| refusals.closed(program));
            refusal(flow, "client_closed_handshake", Blame::Client)
        }
        _ => unused(way, error.label(), error.blame()),
    }
}

async fn serve_connection(
    flow: &Arc<Flow>,
    way: Way,
    quic: quinn::Connection,
    gone: &CancellationToken,
) -> Option<FlowEnd> {
    let nothing_asked = unused(&way, "client_closed_unused", Blame::Client);
    let refused = matches!(way, Way::Refused(_));
    let running = TaskTracker::new();
    tokio::select! {
        () = requests(flow, way, quic.clone(), &running) => {}
        () = gone.cancelled() => {}
        () = flow.session.ended.cancelled() => {}
    }
    quic.close(quinn::VarInt::from_u32(gateway_proto::h3::Code::NO_ERROR.0), b"");
    running.close();
    running.wait().await;
    (refused && !flow.seen.lock().exchanged).then_some(nothing_asked)
}

/// Serves request after request until the connection is over, has idled too long, or the gateway
/// drains.
async fn requests(flow: &Arc<Flow>, way: Way, quic: quinn::Connection, running: &TaskTracker) {
    let begun = timeout(HANDSHAKE_TIME_MAX, Http3::begin_with(quic, settings())).await;
    let Ok(Ok(mut http3)) = begun else { return };
    let mut granted = Granted::new(STREAMS_GRANTED);
    let way = Arc::new(way);
    let draining = flow.worker.pop.draining.clone();
    let (mut leaving, mut found_idle) = (false, false);
    loop {
        let arriving = tokio::select! {
            // No datagrams are asked for.
            arriving = http3.next(|_| {}) => arriving,
            () = sleep(IDLE_LOOK_INTERVAL), if !leaving => {
                leaving = found_idle && running.is_empty();
                found_idle = running.is_empty();
                if leaving {
                    goodbye(&mut http3).await;
                    running.close();
                }
                continue;
            }
            () = draining.cancelled(), if !leaving => {
                leaving = true;
                goodbye(&mut http3).await;
                running.close();
                continue;
            }
            () = farewell(running), if leaving => return,
        };
        let Some(arriving) = arriving else { return };
        if !std::mem::replace(&mut found_idle, false) {
            trusts(flow);
        }
        granted.used(http3.connection(), running.len(), STREAMS_MAX);
        let (flow, way) = (Arc::clone(flow), Arc::clone(&way));
        let tasks = flow.worker.pop.tasks.clone();
        tasks.spawn(running.track_future(async move {
            let ended = flow.session.ended.clone();
            let serving = exchange::serve_http3(&flow, &way, arriving);
            tokio::select! {
                () = serving => {}
                () = ended.cancelled() => {}
            }
        }));
    }
}

/// The client asks for something under our certificate.
fn trusts(flow: &Flow) {
    if let Some(program) = aside::met(flow, program_of) {
        flow.tenancy.quic.trusts(&program);
    }
}

/// Says that no further request is served.
async fn goodbye(http3: &mut Http3) {
    let saying = async {
        http3.warn().await;
        http3.refuse_more().await;
    };
    // A client that takes nothing needs no goodbye.
    drop(timeout(GOODBYE_TIME_MAX, saying).await);
}

async fn farewell(running: &TaskTracker) {
    running.wait().await;
    sleep(FAREWELL).await;
}
