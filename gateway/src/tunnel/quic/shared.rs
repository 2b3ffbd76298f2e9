//! What the streams of one tunnel share.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway_proto::h3::{Code, Fault, Settings};
use parking_lot::Mutex;
use quinn::{Connection, VarInt};

use super::datagrams::Inlets;

/// See the module.
pub(super) struct Shared {
    pub(super) connection: Connection,
    /// What the client has said that it understands.
    pub(super) settings: OnceLock<Settings>,
    /// The first violation; the connection is closed over it.
    pub(super) fault: OnceLock<Fault>,
    /// Which of the streams that there may be one of are there.
    pub(super) critical: Critical,
    pub(super) inlets: Mutex<Inlets>,
}

/// Streams that there may be one of (RFC 9114 section 6.2.1, RFC 9204 section 4.2).
#[derive(Default)]
pub(super) struct Critical {
    pub(super) control: AtomicBool,
    pub(super) encoder: AtomicBool,
    pub(super) decoder: AtomicBool,
}

impl Shared {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            settings: OnceLock::new(),
            fault: OnceLock::new(),
            critical: Critical::default(),
            inlets: Mutex::default(),
        }
    }

    /// Closes the connection over a violation.
    pub(super) fn fail(&self, fault: Fault) -> io::Error {
        // The first one counts.
        let _first = self.fault.set(fault);
        self.connection.close(number(fault.code), fault.why.as_bytes());
        io::Error::new(io::ErrorKind::ConnectionAborted, fault)
    }

    /// Whether the client understands HTTP datagrams in QUIC datagrams (RFC 9297 section 2.1).
    pub(super) fn takes_datagrams(&self) -> bool {
        self.settings.get().is_some_and(|settings| settings.h3_datagram)
            && self.connection.max_datagram_size().is_some()
    }
}

impl Critical {
    /// Whether this is the first stream of its kind.
    pub(super) fn is_first(seen: &AtomicBool) -> bool {
        !seen.swap(true, Ordering::Relaxed)
    }
}

pub(super) fn number(code: Code) -> VarInt {
    VarInt::from_u32(code.0)
}
