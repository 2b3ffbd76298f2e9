//! A user-space client stack over a channel of IP packets: TCP streams, UDP sockets, ping, DNS, and
//! packets of one's own making for hostile tests.
//!
//! ```text
//! let tunnel = DtlsTo::new(…).connect().await?;          // or OpenConnectTo, or `packet::pair`
//! let stream = tunnel.stack().connect(address).await?;    // AsyncRead + AsyncWrite
//! let answer = tunnel.stack().lookup(name_server, "site.test", RecordType::A).await?;
//! ```

mod dns;
mod edge;
mod flow;
mod fragment;
mod route;
mod stack;
mod stream;
mod tables;
mod udp;
pub mod wire;

pub use flow::TcpFlow;
pub use fragment::{Piece, cut, fragments};
pub use stack::PacketStack;
pub use stream::PacketStream;
pub use udp::PacketSocket;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::sync::mpsc;

/// Packets that wait between a stack and its tunnel, each way: full windows of 20 flows. Far above a
/// network card's queue, since smoltcp takes a second to recover from what a full one drops, and a
/// measurement is to show the gateway's drops and not the client's.
pub const QUEUE_PACKETS: usize = 4 * 1024;
/// What a flow holds unread or unacknowledged: 50 Mbit/s at 40 ms. Above the allocator's threshold, so
/// that untouched parts cost nothing.
pub const BUFFER_BYTES: usize = 256 * 1024;
/// What fits into a DTLS record on a 1,500-byte path, and what the gateway's own answer begins with.
pub const MTU: usize = 1_400;

/// Who a stack is inside its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
    /// The largest packet it sends.
    pub mtu: usize,
}

impl Addresses {
    /// One address, of either family.
    #[must_use]
    pub fn of(address: impl Into<IpAddr>) -> Self {
        match address.into() {
            IpAddr::V4(v4) => Self { v4: Some(v4), v6: None, mtu: MTU },
            IpAddr::V6(v6) => Self { v4: None, v6: Some(v6), mtu: MTU },
        }
    }

    /// The address it speaks from to `peer`.
    #[must_use]
    pub fn towards(&self, peer: IpAddr) -> Option<IpAddr> {
        match peer {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

/// One end of a way for IP packets. Bounded by [`QUEUE_PACKETS`]; what a full queue does is the sender's
/// choice: a stack waits, a tunnel drops.
#[derive(Debug)]
pub struct PacketChannel {
    pub outgoing: mpsc::Sender<Vec<u8>>,
    pub incoming: mpsc::Receiver<Vec<u8>>,
}

/// Two ends that belong together.
#[must_use]
pub fn pair() -> (PacketChannel, PacketChannel) {
    let (up, from_below) = mpsc::channel(QUEUE_PACKETS);
    let (down, from_above) = mpsc::channel(QUEUE_PACKETS);
    (
        PacketChannel { outgoing: up, incoming: from_above },
        PacketChannel { outgoing: down, incoming: from_below },
    )
}

#[cfg(test)]
mod tests;
