//! CONNECT-UDP over a tunnel's HTTP/2 stream: datagrams in capsules (RFC 9298, RFC 9297).

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use gateway_proto::capsule::{CapsuleReader, udp_payload, write_udp};
use gateway_proto::fields::Fields;
use gateway_proto::target::Host;
use tokio::sync::mpsc;

use super::association::{self, Served};
use super::flow::Flow;
use super::pop::Worker;
use crate::ident::Blame;
use crate::stream::{Datagrams, Outbox, QUEUED_MAX};
use crate::tunnel::Session;
use crate::tunnel::mux::{self, Code, MuxStream};

/// Largest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_527;

/// Serves one CONNECT-UDP stream.
pub(super) async fn serve(worker: Arc<Worker>, session: Arc<Session>, request: mux::Request) {
    let began = Instant::now();
    let Some((host, port)) = target_of(&request.path) else {
        let why = super::refused::why(&worker, "bad_authority");
        return request.responder.finish(400, &why, Bytes::new());
    };
    let Some(flow) = Flow::datagrams(worker, Arc::clone(&session), host, port) else {
        return request.responder.reset(Code::INTERNAL_ERROR);
    };
    let Some(tenant) = flow.tenant() else { return };
    let _counted = session.stream();
    // Asked again once it has shown what it is; but who is refused by name is told so at once.
    if port != association::NAME_QUERIES
        && let Err(end) = association::reaches(&flow, &tenant).await
    {
        let label = end.block_reason.or(end.error).unwrap_or("refused");
        let why = super::refused::why(&flow.worker, label);
        request.responder.finish(403, &why, Bytes::new());
        return flow.record(&tenant, began, &end);
    }
    let mut fields = Fields::new();
    fields.push("capsule-protocol", "?1");
    let stream = request.responder.respond(200, &fields);
    let (to_flow, inbox) = mpsc::channel(QUEUED_MAX);
    let (outbox, from_flow) = mpsc::channel(QUEUED_MAX);
    let outbox = Outbox::Stream(outbox);
    let datagrams = Datagrams { inbox, outbox, size_max: DATAGRAM_BYTES_MAX };
    let serving = Box::pin(association::serve(flow, &tenant, datagrams, began));
    let (served, broke) = tokio::join!(serving, carry(stream, to_flow, from_flow));
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

/// Carries datagrams between a stream and a flow until both have ended; says what broke, if the
/// client broke it. A flow that ends ends the stream.
async fn carry(
    mut stream: MuxStream,
    to_flow: mpsc::Sender<Bytes>,
    mut from_flow: mpsc::Receiver<Bytes>,
) -> Option<&'static str> {
    let (mut inbox, mut reader) = (BytesMut::new(), CapsuleReader::new());
    let mut to_flow = Some(to_flow);
    let mut broke = None;
    loop {
        tokio::select! {
            datagram = from_flow.recv() => {
                // The flow is over.
                let Some(datagram) = datagram else { break };
                let mut out = BytesMut::with_capacity(datagram.len() + 16);
                write_udp(&datagram, &mut out);
                if stream.write_chunk(out.freeze()).await.is_err() {
                    broke.get_or_insert("client_reset");
                    break;
                }
            }
            chunk = stream.read_chunk(), if to_flow.is_some() => {
                match chunk {
                    Ok(Some(chunk)) => {
                        inbox.extend_from_slice(&chunk);
                        let handed = hand_over(&mut reader, &mut inbox, to_flow.as_ref()).await;
                        if let Err(label) = handed {
                            (to_flow, broke) = (None, label);
                        }
                    }
                    Ok(None) => to_flow = None,
                    Err(_) => (to_flow, broke) = (None, Some("client_reset")),
                }
            }
        }
    }
    drop(to_flow);
    // The client may be gone; there is nobody to tell.
    drop(stream.finish(&Fields::new()));
    broke
}

/// Hands every whole datagram that has arrived to the flow.
///
/// # Errors
/// Where what came is no capsule; or, with nothing to say, where the flow is over.
async fn hand_over(
    reader: &mut CapsuleReader,
    inbox: &mut BytesMut,
    to_flow: Option<&mpsc::Sender<Bytes>>,
) -> Result<(), Option<&'static str>> {
    let to_flow = to_flow.ok_or(None)?;
    while let Some(datagram) = reader.datagram(inbox).map_err(|_| Some("bad_capsule"))? {
        // Other contexts than zero were never agreed on (RFC 9298 section 4): dropped.
        if let Some(payload) = udp_payload(&datagram) {
            to_flow.send(payload).await.map_err(|_| None)?;
        }
    }
    Ok(())
}
