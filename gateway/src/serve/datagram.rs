//! CONNECT-UDP (RFC 9298): UDP payloads between a client's pipe and an association.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use gateway_proto::capsule::{CapsuleReader, udp_payload};
use gateway_proto::fields::Fields;
use gateway_proto::target::Host;
use tokio::sync::mpsc;

use super::association::{self, Served};
use super::flow::{Flow, FlowEnd};
use super::pipe::{Asked, Inbound, Pipe};
use super::pop::Worker;
use crate::ident::Blame;
use crate::stream::{Datagrams, Outbox, Outgoing};
use crate::tunnel::Session;

/// Largest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_527;

/// Payloads that wait while a flow is decided and dialled: a megabyte of the largest. What is beyond
/// waits in the tunnel, or is lost there.
const HELD_MAX: usize = 16;

/// Serves one CONNECT-UDP request for `path`.
pub(super) async fn serve(worker: Arc<Worker>, session: Arc<Session>, path: &[u8], asked: Asked) {
    let began = Instant::now();
    let Some((host, port)) = target_of(path) else {
        let why = super::refused::why(&worker, "bad_authority");
        return asked.refuse(400, &why).await;
    };
    let Some(flow) = Flow::datagrams(worker, Arc::clone(&session), host, port) else {
        return asked.reset();
    };
    let Some(tenant) = flow.tenant() else { return };
    let _counted = session.stream();
    // Asked again once it has shown what it is; but who is refused by name is told so at once.
    if port != association::NAME_QUERIES
        && let Err(end) = association::reaches(&flow, &tenant).await
    {
        let label = end.block_reason.or(end.error).unwrap_or("refused");
        let why = super::refused::why(&flow.worker, label);
        asked.refuse(403, &why).await;
        return flow.record(&tenant, began, &end);
    }
    let mut fields = Fields::new();
    fields.push("capsule-protocol", "?1");
    let Some(pipe) = asked.accept(&fields).await else {
        return flow.record(&tenant, began, &FlowEnd::ended("client_reset"));
    };
    let (to_flow, inbox) = mpsc::channel(HELD_MAX);
    let (outbox, from_flow) = Outbox::stream();
    let datagrams = Datagrams { inbox, outbox, size_max: DATAGRAM_BYTES_MAX };
    let serving = Box::pin(association::serve(flow, &tenant, datagrams, began));
    let (served, broke) = tokio::join!(serving, carry(pipe, to_flow, from_flow));
    let Served { flow, end, .. } = served;
    if let Some(mut end) = end {
        if let (None, Some(label)) = (end.error, broke) {
            (end.error, end.blame) = (Some(label), Some(Blame::Client));
        }
        flow.record(&tenant, began, &end);
    }
}

/// Host and port of the default template `/.well-known/masque/udp/{host}/{port}/` (RFC 9298
/// section 2).
fn target_of(path: &[u8]) -> Option<(Host, u16)> {
    let path = std::str::from_utf8(path).ok()?;
    let rest = path.strip_prefix("/.well-known/masque/udp/")?;
    let mut parts = rest.split('/');
    let host = percent_encoding::percent_decode_str(parts.next()?).decode_utf8().ok()?;
    let port = parts.next()?.parse().ok().filter(|port| *port != 0)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.into_owned() };
    Some((Host::parse(host.as_bytes()).ok()?, port))
}

/// Carries datagrams between a pipe and a flow until both have ended; says what broke, if the client
/// broke it. A flow that ends ends the pipe.
async fn carry(
    mut pipe: Pipe,
    to_flow: mpsc::Sender<Bytes>,
    mut from_flow: Outgoing,
) -> Option<&'static str> {
    let (mut inbox, mut reader) = (BytesMut::new(), CapsuleReader::new());
    let mut to_flow = Some(to_flow);
    let mut broke = None;
    loop {
        tokio::select! {
            datagram = from_flow.next() => {
                // The flow is over.
                let Some(datagram) = datagram else { break };
                if pipe.send(&datagram).await.is_err() {
                    broke.get_or_insert("client_reset");
                    break;
                }
            }
            inbound = pipe.next(), if to_flow.is_some() => {
                let Some(flow) = &to_flow else { continue };
                match hand_over(inbound, &mut reader, &mut inbox, flow).await {
                    Ok(true) => {}
                    Ok(false) => to_flow = None,
                    Err(label) => (to_flow, broke) = (None, Some(label)),
                }
            }
        }
    }
    drop(to_flow);
    pipe.finish().await;
    broke
}

/// Hands what has come to the flow; false at its end, or the flow's.
///
/// # Errors
/// Where the client broke the pipe, or what came is no capsule.
async fn hand_over(
    inbound: Inbound,
    reader: &mut CapsuleReader,
    inbox: &mut BytesMut,
    flow: &mpsc::Sender<Bytes>,
) -> Result<bool, &'static str> {
    match inbound {
        Inbound::Payload(payload) => return Ok(flow.send(payload).await.is_ok()),
        Inbound::Capsules(Ok(Some(chunk))) => inbox.extend_from_slice(&chunk),
        Inbound::Capsules(Ok(None)) => return Ok(false),
        Inbound::Capsules(Err(_)) => return Err("client_reset"),
    }
    while let Some(datagram) = reader.datagram(inbox).map_err(|_| "bad_capsule")? {
        // Other contexts than zero were never agreed on (RFC 9298 section 4): dropped.
        if let Some(payload) = udp_payload(&datagram)
            && flow.send(payload).await.is_err()
        {
            return Ok(false);
        }
    }
    Ok(true)
}
