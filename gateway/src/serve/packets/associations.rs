//! A session's datagrams to one destination, out of IP packets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::flows::flow_to;
use super::session::PacketSession;
use crate::serve::association;
use crate::stream::{Datagrams, Outbox};

/// Bytes of an IPv6 and a UDP header: what a datagram has less room than a packet.
const HEADERS_BYTES: u16 = 48;
/// Of an IPv4 and a UDP header.
const HEADERS_V4_BYTES: u16 = 28;

/// Serves one association until it is idle or the session ends.
pub(super) async fn serve(
    packets: Arc<PacketSession>,
    source: SocketAddr,
    destination: SocketAddr,
    inbox: mpsc::Receiver<Bytes>,
) {
    let began = Instant::now();
    let Some(flow) = flow_to(&packets, destination) else { return };
    let Some(tenant) = flow.tenant() else { return };
    let _counted = packets.session.stream();
    let stack = Arc::clone(&packets.stack);
    let headers = if source.is_ipv4() { HEADERS_V4_BYTES } else { HEADERS_BYTES };
    let size_max = usize::from(packets.link.mtu().saturating_sub(headers));
    let outbox = Outbox::Packets { stack, source, destination };
    let datagrams = Datagrams { inbox, outbox, size_max };
    let served = Box::pin(association::serve(flow, &tenant, datagrams, began)).await;
    if let Some(refused) = &served.refused {
        packets.stack.refuse_datagram(source, destination, refused);
    }
    packets.stack.close_datagrams(source, destination);
    if let Some(end) = &served.end {
        served.flow.record(&tenant, began, end);
    }
}
