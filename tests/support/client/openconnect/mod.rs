//! The OpenConnect client: a certificate over TLS, packets in TLS records, and a DTLS 1.2 channel beside
//! them with a key that both sides export (draft-mavrogiannopoulos-openconnect).

pub(crate) mod bootstrap;
pub(crate) mod cstp;
mod parameters;

pub use parameters::{DatagramOffer, Parameters};

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use super::carrier::{GatewayAt, PacketTunnel, Plan, Role, Timing};
use super::error::ClientError;
use super::packet::BUFFER_BYTES;
use super::tls;
use crate::pki::Chain;
use bootstrap::Door;

/// How to reach a gateway as the OpenConnect client of one device.
#[derive(Clone)]
pub struct OpenConnectTo {
    /// The first, and the backup where there is one.
    pub gateways: Vec<GatewayAt>,
    pub timing: Timing,
    /// TCP buffers of the stack's flows, each way.
    pub buffer_bytes: usize,
    config: Arc<ClientConfig>,
}

impl OpenConnectTo {
    /// # Errors
    /// Where certificate or CA cannot be used.
    pub fn new(
        address: SocketAddr,
        name: &str,
        trusted_pem: &str,
        client: Option<&Chain>,
    ) -> Result<Self, ClientError> {
        let config = Arc::new(tls::config(trusted_pem, client, &[])?);
        let first =
            GatewayAt { name: name.to_owned(), tcp: address, udp: (address.ip(), 0).into() };
        let timing = Timing::USUAL;
        Ok(Self { gateways: vec![first], timing, buffer_bytes: BUFFER_BYTES, config })
    }

    /// With a gateway to turn to when the first says goodbye.
    #[must_use]
    pub fn backup(mut self, gateway: GatewayAt) -> Self {
        self.gateways.push(gateway);
        self
    }

    /// With datagrams to another address than the gateway's answer says: a relay's.
    #[must_use]
    pub fn datagrams_to(mut self, udp: SocketAddr) -> Self {
        if let Some(first) = self.gateways.first_mut() {
            first.udp = udp;
        }
        self
    }

    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Connects; the tunnel carries packets over TLS at first, and over datagrams once they are agreed.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the gateway's answer, or where TCP or TLS fail.
    pub async fn connect(&self) -> Result<PacketTunnel, ClientError> {
        let plan = Plan {
            gateways: self.gateways.clone(),
            role: Role::Bootstrap,
            tls: Some(Arc::clone(&self.config)),
            addresses: None,
            timing: self.timing,
            buffer_bytes: self.buffer_bytes,
        };
        PacketTunnel::start(plan).await
    }

    /// Only shows the certificate; the cookie that comes for it.
    ///
    /// # Errors
    /// As [`OpenConnectTo::connect`].
    pub async fn authenticate(&self) -> Result<String, ClientError> {
        self.door()?.authenticate().await
    }

    /// Gives a cookie of one's own making; what the gateway says to it.
    ///
    /// # Errors
    /// As [`OpenConnectTo::connect`].
    pub async fn parameters_for(&self, cookie: &str) -> Result<Parameters, ClientError> {
        Ok(self.door()?.connect(cookie, None).await?.parameters)
    }

    fn door(&self) -> Result<Door, ClientError> {
        let none = || ClientError::Unsupported("no gateway".to_owned());
        let first = self.gateways.first().ok_or_else(none)?;
        let (name, config) = (first.name.clone(), Arc::clone(&self.config));
        Ok(Door { address: first.tcp, name, config })
    }
}

#[cfg(test)]
mod tests;
