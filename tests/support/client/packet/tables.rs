//! Who in a stack waits for which packets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::stream::{FlowHandle, PacketStream};

/// Connections one stack holds: as many as it has ports towards one server.
pub(super) const FLOWS_MAX: usize = 32_768;
/// Ports a stack opens connections from (RFC 6335 section 6 leaves more than these free).
const PORT_FIRST: u16 = 32_768;
/// Datagrams, packets or accepted streams that wait for their reader; what comes beyond is dropped.
pub(super) const WAITING_MAX: usize = 1_024;

/// Own end and far end.
pub(super) type Key = (SocketAddr, SocketAddr);

/// A datagram and who sent it.
pub(super) type Datagram = (SocketAddr, Vec<u8>);

#[derive(Default)]
pub(super) struct Tables {
    pub(super) flows: HashMap<Key, Arc<FlowHandle>>,
    /// By own port.
    pub(super) sockets: HashMap<u16, mpsc::Sender<Datagram>>,
    /// By identifier and sequence number.
    pub(super) pings: HashMap<(u16, u16), oneshot::Sender<Vec<u8>>>,
    /// Takes what nothing else does.
    pub(super) observer: Option<mpsc::Sender<Vec<u8>>>,
    /// Takes connections that come in.
    pub(super) listener: Option<mpsc::Sender<(SocketAddr, PacketStream)>>,
    port_next: u16,
}

impl Tables {
    /// Ports begin anywhere (RFC 6056): a server may still hold the flows of a stack that was here before
    /// under the same address.
    pub(super) fn new(seed: u64) -> Self {
        Self { port_next: PORT_FIRST | (seed & 0x7fff) as u16, ..Self::default() }
    }

    /// A port that no other flow or socket of this stack uses; `None` where all are taken.
    pub(super) fn port(&mut self, is_taken: impl Fn(&Self, u16) -> bool) -> Option<u16> {
        for _ in PORT_FIRST..=u16::MAX {
            self.port_next = self.port_next.max(PORT_FIRST);
            let port = self.port_next;
            self.port_next = self.port_next.wrapping_add(1);
            if !is_taken(self, port) {
                return Some(port);
            }
        }
        None
    }
}
