//! DTLS 1.3 by dimpl: what it lacks (names, chains, other keys) is done around it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, ConfigBuilder, Dtls, DtlsCertificate};

use super::{Broken, Output};

/// The largest record: an IP packet of 9,000 bytes and what is around it.
const DATAGRAM_BYTES_MAX: usize = 16 << 10;
/// Handshake datagrams: within the smallest IPv6 path.
const HANDSHAKE_BYTES_MAX: usize = 1_200;
/// A handshake takes two round trips; see [`crate::tunnel::accept::HANDSHAKE_TIME_MAX`].
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// A lost flight is sent again after this; paths of tunnels are shorter.
const RETRY_AFTER: Duration = Duration::from_millis(400);

/// What the gateway shows over DTLS: one certificate and its ECDSA key, both in DER form.
#[derive(Clone)]
pub struct DtlsIdentity(DtlsCertificate);

impl DtlsIdentity {
    #[must_use]
    pub fn new(certificate: &[u8], private_key: &[u8]) -> Self {
        let (certificate, private_key) = (certificate.to_vec(), private_key.to_vec());
        Self(DtlsCertificate { certificate, private_key })
    }
}

/// The configuration that all connections share; costs about a millisecond, so it is made once.
///
/// # Errors
/// Where the cryptography cannot be used.
pub fn modern_config() -> Result<Arc<Config>, Broken> {
    let builder: ConfigBuilder = Config::builder()
        .mtu(HANDSHAKE_BYTES_MAX)
        .require_client_certificate(true)
        .use_server_cookie(true)
        .handshake_timeout(HANDSHAKE_TIME_MAX)
        .flight_start_rto(RETRY_AFTER);
    builder.build().map(Arc::new).map_err(|error| Broken(error.to_string()))
}

/// One connection.
pub struct Modern {
    dtls: Dtls,
    buffer: Vec<u8>,
}

impl Modern {
    /// A server that waits for its client's first flight.
    ///
    /// # Errors
    /// Where the engine does not start.
    pub fn new(
        config: Arc<Config>,
        identity: DtlsIdentity,
        now: Instant,
        out: &mut Output,
    ) -> Result<Self, Broken> {
        let mut this = Self { dtls: Dtls::new_13(config, identity.0, now), buffer: Vec::new() };
        this.tick(now, out)?;
        Ok(this)
    }

    pub(super) fn datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
        out: &mut Output,
    ) -> Result<(), Broken> {
        self.dtls.handle_timeout(now).map_err(broken)?;
        let taken = self.dtls.handle_packet(datagram).map_err(broken);
        self.drain(out);
        taken
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut Output) -> Result<(), Broken> {
        let ticked = self.dtls.handle_timeout(now).map_err(broken);
        self.drain(out);
        ticked
    }

    pub(super) fn send(&mut self, record: &[u8], out: &mut Output) -> Result<(), Broken> {
        let sent = self.dtls.send_application_data(record).map_err(broken);
        self.drain(out);
        sent.map(drop)
    }

    pub(super) fn close(&mut self, out: &mut Output) {
        if self.dtls.close().is_ok() {
            self.drain(out);
        }
    }

    fn drain(&mut self, out: &mut Output) {
        self.buffer.resize(DATAGRAM_BYTES_MAX, 0);
        loop {
            match self.dtls.poll_output(&mut self.buffer) {
                dimpl::Output::Packet(packet) => out.datagrams.push(packet.to_vec()),
                dimpl::Output::ApplicationData(data) => out.records.push(data.to_vec()),
                dimpl::Output::PeerCert(certificate) => {
                    out.certificate = Some(certificate.to_vec());
                }
                dimpl::Output::Connected => out.connected = true,
                dimpl::Output::CloseNotify => out.closed = true,
                dimpl::Output::Timeout(at) => {
                    out.wake = Some(at);
                    break;
                }
                dimpl::Output::KeyingMaterial(..) => {}
                dimpl::Output::BufferTooSmall { needed } => self.buffer.resize(needed, 0),
                _ => {}
            }
        }
    }
}

fn broken(error: dimpl::Error) -> Broken {
    Broken(error.to_string())
}
