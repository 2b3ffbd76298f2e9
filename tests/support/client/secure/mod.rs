//! The secured datagram channels of packet tunnels, without I/O or clock: DTLS 1.3 with a client
//! certificate, and OpenConnect's DTLS 1.2 with a pre-shared key.

mod dtls13;
mod liveness;
mod psk12;
mod raw;

pub use dtls13::{Dtls13, Dtls13Config, Proof};
pub use liveness::{Liveness, Patience, Pulse};
pub use psk12::Psk12;
pub(crate) use psk12::server as psk12_server;
pub use raw::RawDtls;

use std::time::Instant;

/// What a session asks of its driver, or tells it.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Send this datagram.
    Transmit(Vec<u8>),
    /// The handshake is through.
    Connected,
    /// The plaintext of one record.
    Plain(Vec<u8>),
    /// The peer said goodbye.
    Closed,
    /// The session is of no more use.
    Failed(String),
}

/// A session of either kind. After each `handle_*` and after sending, take events until there is none.
pub enum Session {
    Dtls13(Box<Dtls13>),
    Psk12(Box<Psk12>),
}

impl Session {
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        match self {
            Self::Dtls13(session) => session.handle_datagram(now, datagram),
            Self::Psk12(session) => session.handle_datagram(now, datagram),
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Dtls13(session) => session.handle_timeout(now),
            Self::Psk12(session) => session.handle_timeout(now),
        }
    }

    /// Protects one record; before the handshake is through it is dropped.
    pub fn send(&mut self, plain: &[u8]) {
        match self {
            Self::Dtls13(session) => session.send(plain),
            Self::Psk12(session) => session.send(plain),
        }
    }

    /// Says goodbye.
    pub fn close(&mut self) {
        match self {
            Self::Dtls13(session) => session.close(),
            Self::Psk12(session) => session.close(),
        }
    }

    pub fn poll(&mut self) -> Option<Event> {
        match self {
            Self::Dtls13(session) => session.poll(),
            Self::Psk12(session) => session.poll(),
        }
    }

    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Dtls13(session) => session.poll_timeout(),
            Self::Psk12(session) => session.poll_timeout(),
        }
    }
}
