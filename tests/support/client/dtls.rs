//! The DTLS client: packets in DTLS 1.3 with the device's certificate; over TLS while datagrams do not get
//! through; at the backup when the gateway says goodbye.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use super::carrier::{GatewayAt, PacketTunnel, Plan, Role, Timing};
use super::error::ClientError;
use super::packet::{Addresses, BUFFER_BYTES};
use super::secure::{Dtls13Config, Proof};
use super::tls;
use crate::pki::Chain;

/// How to reach a gateway by DTLS 1.3 as one device. Its key must be ECDSA P-256 or P-384.
#[derive(Clone)]
pub struct DtlsTo {
    /// The first, and the backup where there is one.
    pub gateways: Vec<GatewayAt>,
    /// Who the stack is; `None` asks the gateway over TLS before the first handshake.
    pub addresses: Option<Addresses>,
    pub timing: Timing,
    /// TCP buffers of the stack's flows, each way.
    pub buffer_bytes: usize,
    secured: Dtls13Config,
    /// For the fallback; `None` where there shall be none.
    fallback: Option<Arc<ClientConfig>>,
}

impl DtlsTo {
    /// With a fallback to TLS at `tcp`, and addresses from there.
    ///
    /// # Errors
    /// Where certificate or CA cannot be used.
    pub fn new(
        udp: SocketAddr,
        tcp: SocketAddr,
        name: &str,
        trusted_pem: &str,
        client: &Chain,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            gateways: vec![GatewayAt { name: name.to_owned(), tcp, udp }],
            addresses: None,
            timing: Timing::USUAL,
            buffer_bytes: BUFFER_BYTES,
            secured: Dtls13Config::new(trusted_pem, client, Proof::Name)?,
            fallback: Some(Arc::new(tls::config(trusted_pem, Some(client), &[])?)),
        })
    }

    /// As one who knows its addresses: the first handshake waits for nothing.
    #[must_use]
    pub fn addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = Some(addresses);
        self
    }

    /// Content with a gateway's certificate for another name: without SNI it cannot know which is meant.
    #[must_use]
    pub fn any_name(mut self) -> Self {
        self.secured = self.secured.with(Proof::Chain);
        self
    }

    /// Handshakes in datagrams of at most so many bytes, so that messages are cut into pieces.
    #[must_use]
    pub fn handshake_mtu(mut self, bytes: usize) -> Self {
        self.secured = self.secured.handshake_mtu(bytes);
        self
    }

    /// What a [`RawDtls`](super::secure::RawDtls) of this device needs.
    #[must_use]
    pub fn secured(&self) -> Dtls13Config {
        self.secured.clone()
    }

    /// Datagrams or nothing.
    #[must_use]
    pub fn without_fallback(mut self) -> Self {
        self.fallback = None;
        self
    }

    /// With a gateway to turn to when the first says goodbye.
    #[must_use]
    pub fn backup(mut self, gateway: GatewayAt) -> Self {
        self.gateways.push(gateway);
        self
    }

    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Connects: waits for the first channel of either kind.
    ///
    /// # Errors
    /// [`ClientError::Tls`] where no handshake comes through, or what TLS says.
    pub async fn connect(&self) -> Result<PacketTunnel, ClientError> {
        if self.addresses.is_none() && self.fallback.is_none() {
            let why = "a DTLS client without TLS must know its addresses";
            return Err(ClientError::Unsupported(why.to_owned()));
        }
        let plan = Plan {
            gateways: self.gateways.clone(),
            role: Role::Fallback(self.secured.clone()),
            tls: self.fallback.clone(),
            addresses: self.addresses,
            timing: self.timing,
            buffer_bytes: self.buffer_bytes,
        };
        PacketTunnel::start(plan).await
    }
}

#[cfg(test)]
pub(crate) mod tests;
