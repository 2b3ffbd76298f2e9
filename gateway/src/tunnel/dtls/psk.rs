//! DTLS 1.2 with a pre-shared key, as OpenConnect's clients want it for their data channel, by rtc-dtls
//! (decisions/0010). Both ends have the key from the TLS connection that carries the client's identity.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use zeroize::Zeroizing;

use super::{Broken, Output};

/// Handshake datagrams: within the smallest IPv6 path.
const HANDSHAKE_BYTES_MAX: usize = 1_200;
/// A burst may overtake this many records.
const REPLAY_WINDOW: usize = 1_024;
/// The first byte of an alert record.
const ALERT: u8 = 21;

/// One connection.
pub struct Psk {
    endpoint: Endpoint,
    connected: bool,
}

/// The engine serves many peers; here it has one, and its address means nothing.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

impl Psk {
    /// A server that waits for its client's first flight.
    ///
    /// # Errors
    /// Where the engine does not start.
    pub fn new(key: Zeroizing<[u8; 32]>) -> Result<Self, Broken> {
        let provider = rtc_dtls::crypto_provider::default_provider()
            .map_err(|error| Broken(error.to_string()))?;
        // The identity is the same for everyone ("psk"): the session id has told who it is.
        let key = move |_identity: &[u8]| Ok(key.to_vec());
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_psk(Some(Arc::new(key)))
            .with_cipher_suites(vec![CipherSuiteId::Tls_Psk_With_Aes_128_Gcm_Sha256])
            .with_extended_master_secret(ExtendedMasterSecretType::Request)
            .with_mtu(HANDSHAKE_BYTES_MAX)
            .with_replay_protection_window(REPLAY_WINDOW)
            .build(false, Some(PEER))
            .map_err(|error| Broken(error.to_string()))?;
        let endpoint = Endpoint::new(PEER, Default::default(), Some(Arc::new(config)));
        Ok(Self { endpoint, connected: false })
    }

    pub(super) fn datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
        out: &mut Output,
    ) -> Result<(), Broken> {
        let read = self.endpoint.read(now, PEER, None, datagram.into());
        match read {
            Ok(events) => {
                self.drain(out, |_| true);
                for event in events {
                    match event {
                        EndpointEvent::HandshakeComplete => {
                            self.connected = true;
                            out.connected = true;
                        }
                        EndpointEvent::ApplicationData(data) => out.records.push(data.to_vec()),
                        EndpointEvent::PeerClosed => out.closed = true,
                        _ => {}
                    }
                }
                Ok(())
            }
            // Anybody can send a record from the peer's address that does not decrypt. It must end
            // nothing and be answered with nothing (RFC 6347 section 4.1.2.7).
            Err(_) if self.connected => {
                self.drain(out, |datagram| datagram.first() != Some(&ALERT));
                Ok(())
            }
            Err(error) => {
                self.drain(out, |_| true);
                Err(Broken(error.to_string()))
            }
        }
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut Output) -> Result<(), Broken> {
        let ticked = self.endpoint.handle_timeout(PEER, now);
        self.drain(out, |_| true);
        match ticked {
            Err(error) if !self.connected => Err(Broken(error.to_string())),
            _ => Ok(()),
        }
    }

    pub(super) fn send(
        &mut self,
        now: Instant,
        record: &[u8],
        out: &mut Output,
    ) -> Result<(), Broken> {
        let sent = self.endpoint.write(now, PEER, record);
        self.drain(out, |_| true);
        sent.map_err(|error| Broken(error.to_string()))
    }

    pub(super) fn close(&mut self, now: Instant, out: &mut Output) {
        if self.endpoint.stop(now, PEER).is_some() {
            self.drain(out, |_| true);
        }
    }

    fn drain(&mut self, out: &mut Output, keep: impl Fn(&[u8]) -> bool) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            if keep(&transmit.message) {
                out.datagrams.push(transmit.message.to_vec());
            }
        }
        out.wake = self.endpoint.poll_timeout(&PEER);
    }
}
