//! UDP sockets of a stack.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::PacketStack;
use super::tables::Datagram;
use super::wire;
use crate::client::error::ClientError;

/// IPv6 and UDP headers; with IPv4 it is 20 less.
const HEADER_BYTES: usize = 48;

/// A UDP socket inside a tunnel.
pub struct PacketSocket {
    stack: PacketStack,
    port: u16,
    arrived: mpsc::Receiver<Datagram>,
}

impl PacketSocket {
    pub(super) fn new(stack: PacketStack, port: u16, arrived: mpsc::Receiver<Datagram>) -> Self {
        Self { stack, port, arrived }
    }

    /// The socket's own port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a datagram, whole or not at all: a stack fragments nothing unasked.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`] where it does not fit or the stack has no such address,
    /// [`ClientError::Broken`] where the channel has ended.
    pub async fn send_to(&self, to: SocketAddr, payload: &[u8]) -> Result<(), ClientError> {
        self.send_from(self.stack.shared.own(to.ip())?, to, payload).await
    }

    /// The same as if from another address: servers that answer for many, and forgers.
    ///
    /// # Errors
    /// As [`PacketSocket::send_to`].
    pub async fn send_from(
        &self,
        from: IpAddr,
        to: SocketAddr,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        let headers = if to.is_ipv4() { HEADER_BYTES - 20 } else { HEADER_BYTES };
        if payload.len() + headers > self.stack.addresses().mtu {
            return Err(ClientError::Unsupported(format!("{} bytes do not fit", payload.len())));
        }
        self.stack.inject(wire::udp((from, self.port).into(), to, payload)).await
    }

    /// The next datagram and its sender.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] after `wait`, [`ClientError::Broken`] where the channel has ended.
    pub async fn receive(&mut self, wait: Duration) -> Result<Datagram, ClientError> {
        match timeout(wait, self.arrived.recv()).await {
            Ok(Some(datagram)) => Ok(datagram),
            Ok(None) => Err(ClientError::Broken(std::io::ErrorKind::BrokenPipe.into())),
            Err(_) => Err(ClientError::Timeout),
        }
    }
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        self.stack.shared.tables().sockets.remove(&self.port);
    }
}
