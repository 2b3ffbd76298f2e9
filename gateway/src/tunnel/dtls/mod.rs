//! DTLS: the record layers of datagram tunnels, and the table of who is behind which address.

mod modern;
mod peers;
mod psk;

pub use modern::{DtlsIdentity, Modern, modern_config};
pub use peers::{Delivered, Mailbox, Peers};
pub use psk::Psk;

use std::time::Instant;

/// What an engine wants done.
#[derive(Debug, Default)]
pub struct Output {
    /// To be sent to the peer, in order.
    pub datagrams: Vec<Vec<u8>>,
    /// What the peer said, one record each.
    pub records: Vec<Vec<u8>>,
    /// The peer's certificate, once it is known; nobody has checked it.
    pub certificate: Option<Vec<u8>>,
    /// The handshake is done.
    pub connected: bool,
    /// The peer ended it in order.
    pub closed: bool,
    /// When the engine wants to know the time.
    pub wake: Option<Instant>,
}

/// The connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// One DTLS connection; does no I/O and reads no clock.
pub enum Engine {
    /// DTLS 1.3 with certificates.
    Modern(Box<Modern>),
    /// DTLS 1.2 with a key from the TLS channel beside it.
    Psk(Box<Psk>),
}

impl Engine {
    /// Takes a datagram of the peer.
    ///
    /// # Errors
    /// Where the connection is broken. What does not belong to it is no error.
    pub fn datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
        out: &mut Output,
    ) -> Result<(), Broken> {
        match self {
            Self::Modern(engine) => engine.datagram(now, datagram, out),
            Self::Psk(engine) => engine.datagram(datagram, out),
        }
    }

    /// Says what time it is.
    ///
    /// # Errors
    /// Where the handshake was not finished in time.
    pub fn tick(&mut self, now: Instant, out: &mut Output) -> Result<(), Broken> {
        match self {
            Self::Modern(engine) => engine.tick(now, out),
            // Its client keeps the time.
            Self::Psk(_) => Ok(()),
        }
    }

    /// Sends one record.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub fn send(&mut self, record: &[u8], out: &mut Output) -> Result<(), Broken> {
        match self {
            Self::Modern(engine) => engine.send(record, out),
            Self::Psk(engine) => engine.send(record, out),
        }
    }

    /// Says goodbye.
    pub fn close(&mut self, out: &mut Output) {
        match self {
            Self::Modern(engine) => engine.close(out),
            Self::Psk(engine) => engine.close(out),
        }
    }

    /// Bytes that a record takes beyond what it carries.
    #[must_use]
    pub fn overhead(&self) -> u16 {
        match self {
            // Header with a 16-bit sequence number and a length, content type, tag (RFC 9147 section 4).
            Self::Modern(_) => 5 + 1 + 16,
            Self::Psk(_) => gateway_proto::dtls12::OVERHEAD_BYTES,
        }
    }
}
