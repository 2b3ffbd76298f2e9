//! The client's end of one flow of datagrams, whatever carries them.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::packet::{Dropped, Stack};

/// Datagrams that wait to be written to a stream of a tunnel: some 300 KiB, what a congestion
/// controller sends at once over 100 Mbit/s and 25 ms. What is beyond is lost, as on any full link.
pub const QUEUED_MAX: usize = 256;

/// What comes from a client, and the way back.
pub struct Datagrams {
    /// Closed where the client has ended the flow.
    pub inbox: mpsc::Receiver<Bytes>,
    pub outbox: Outbox,
    /// The longest that can be sent back.
    pub size_max: usize,
}

/// The way back to a client.
#[derive(Clone)]
pub enum Outbox {
    /// As IP packets of a packet tunnel.
    Packets { stack: Arc<Stack>, source: SocketAddr, destination: SocketAddr },
    /// By whoever writes them to a stream of a tunnel.
    Stream(mpsc::Sender<Bytes>),
}

impl Outbox {
    /// Sends a datagram to the client; UDP may lose it.
    ///
    /// # Errors
    /// Says why it was lost.
    pub fn send(&self, datagram: &[u8]) -> Result<(), Dropped> {
        match self {
            Self::Packets { stack, source, destination } => {
                stack.send_datagram(*destination, *source, datagram)
            }
            Self::Stream(queue) => {
                queue.try_send(Bytes::copy_from_slice(datagram)).map_err(|_| Dropped::Queue)
            }
        }
    }
}
