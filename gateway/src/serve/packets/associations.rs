//! A session's datagrams to one destination, out of IP packets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::flows::flow_to;
use super::session::PacketSession;
use crate::serve::association;
use crate::stream::{Datagrams, Outbox};

/// Bytes of an IPv6 and a UDP header: what a datagram has less room than a packet.
const HEADERS_BYTES: u16 = 48;
/// Of an IPv4 and a UDP header.
const HEADERS_V4_BYTES: u16 = 28;

/// A client asks again after twice as long each time; after this it begins something new.
const REFUSED_TIME: Duration = Duration::from_secs(5);
/// And so often: then it is recorded again that it goes on.
const REFUSED_MAX: usize = 64;

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
    if let Some(end) = &served.end {
        served.flow.record(&tenant, began, end);
    }
    if let Some(datagram) = served.refused {
        let inbox = packets.stack.take_over(source, destination);
        let refuse = |datagram: &[u8]| {
            packets.stack.refuse_datagram(source, destination, datagram);
        };
        refuse(&datagram);
        tokio::select! {
            () = go_on_refusing(inbox, refuse) => {}
            () = packets.session.ended.cancelled() => {}
        }
    }
    packets.stack.close_datagrams(source, destination);
}

/// Refuses what a client sends again that does not listen: told each time, recorded once.
async fn go_on_refusing(mut inbox: mpsc::Receiver<Bytes>, refuse: impl Fn(&[u8])) {
    for _ in 0..REFUSED_MAX {
        let Ok(Some(datagram)) = timeout(REFUSED_TIME, inbox.recv()).await else { return };
        refuse(&datagram);
    }
}
