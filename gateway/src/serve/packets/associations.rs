//! A session's datagrams to one destination: refused, or relayed by policy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gateway_proto::udp::{Datagram, classify};
use policy::decrypt::DecryptAction;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::flows::flow_to;
use super::session::PacketSession;
use crate::ident::Blame;
use crate::serve::datagram::{IDLE_TIME_MAX, open};
use crate::serve::flow::{Flow, FlowEnd};
use crate::snapshot::Tenant;
use crate::verdict::decrypt;

const QUIC: &str = "quic_refused";

/// Serves one association until it is idle or the session ends.
pub(super) async fn serve(
    packets: Arc<PacketSession>,
    source: SocketAddr,
    destination: SocketAddr,
    mut inbox: mpsc::Receiver<Bytes>,
) {
    let began = Instant::now();
    let Some(flow) = flow_to(&packets, destination) else { return };
    let Some(tenant) = flow.tenant() else { return };
    let Some(first) = inbox.recv().await else { return };
    let _counted = packets.session.stream();
    let end = match admit(&flow, &tenant, &first, destination.port()).await {
        Err(end) => {
            packets.stack.refuse_datagram(source, destination, &first);
            end
        }
        Ok(socket) => {
            tokio::select! {
                end = relay(&packets, &flow, &tenant, (source, &socket), (first, &mut inbox)) => end,
                () = packets.session.ended.cancelled() => FlowEnd::ended("session_ended"),
            }
        }
    };
    packets.stack.close_datagrams(source, destination);
    flow.record(&tenant, began, &end);
}

/// Asks whether these datagrams may go on, and opens their socket.
async fn admit(
    flow: &Flow,
    tenant: &Tenant,
    first: &[u8],
    port: u16,
) -> Result<UdpSocket, FlowEnd> {
    if hides(flow, tenant, first, port) {
        return Err(FlowEnd::refused(QUIC, Blame::Gateway));
    }
    open(flow, tenant).await
}

/// Whether a datagram opens a QUIC connection to where TLS would be decrypted: it must not pass unread.
/// Refused at once, the client takes TLS.
fn hides(flow: &Flow, tenant: &Tenant, datagram: &[u8], port: u16) -> bool {
    if classify(datagram, port) != Datagram::QuicLong {
        return false;
    }
    let site = flow.worker.pop.catalog.site(&flow.host);
    let subject = flow.subject(tenant, flow.asked.ip());
    decrypt(&tenant.decrypt, &subject, &site).0 != DecryptAction::Bypass
}

/// Moves datagrams both ways until nothing moves.
async fn relay(
    packets: &PacketSession,
    flow: &Flow,
    tenant: &Tenant,
    (source, socket): (SocketAddr, &UdpSocket),
    (first, inbox): (Bytes, &mut mpsc::Receiver<Bytes>),
) -> FlowEnd {
    let Some(destination) = flow.asked.ip().map(|address| SocketAddr::new(address, flow.port))
    else {
        return FlowEnd::refused("own_address", Blame::Client);
    };
    // One byte more than can be sent on tells what is too long.
    let mut buffer = vec![0; usize::from(packets.link.mtu()) + 1];
    let (mut up, mut down) = (first.len() as u64, 0_u64);
    // UDP may lose what the kernel does not take.
    drop(socket.send(&first).await);
    let (error, blame) = loop {
        tokio::select! {
            datagram = inbox.recv() => {
                let Some(datagram) = datagram else { break (None, None) };
                if hides(flow, tenant, &datagram, flow.port) {
                    packets.stack.refuse_datagram(source, destination, &datagram);
                    break (Some(QUIC), Some(Blame::Gateway));
                }
                up += datagram.len() as u64;
                drop(socket.send(&datagram).await);
            }
            received = socket.recv(&mut buffer) => {
                // A refused port shows as an error once; UDP goes on.
                let Ok(length) = received else { continue };
                let data = buffer.get(..length).unwrap_or_default();
                down += length as u64;
                if let Err(dropped) = packets.stack.send_datagram(destination, source, data) {
                    packets.dropped(dropped);
                }
            }
            () = tokio::time::sleep(IDLE_TIME_MAX) => break (Some("idle"), Some(Blame::Gateway)),
        }
    };
    FlowEnd { error, blame, ..FlowEnd::moved(up, down) }
}
