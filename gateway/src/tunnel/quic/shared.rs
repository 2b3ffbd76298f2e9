//! What the streams of one tunnel share.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway_proto::h3::{Code, Fault, Settings};
use parking_lot::Mutex;
use quinn::{Connection, SendStream, VarInt};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::super::mux::{RESETS_BURST, RESETS_PER_SECOND};
use super::datagrams::Inlets;
use crate::limit::bucket::Bucket;

/// What a stream said last is with its client by then, or its client is gone.
const DELIVERY_TIME_MAX: Duration = Duration::from_secs(5);

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
    /// The connection will be closed once its streams are done.
    pub(super) leaving: AtomicBool,
    /// Streams that are done, and of which the client has not yet got all.
    pub(super) delivering: TaskTracker,
    resets: Mutex<Bucket>,
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
            leaving: AtomicBool::new(false),
            delivering: TaskTracker::new(),
            resets: Mutex::new(Bucket::new(RESETS_BURST, RESETS_PER_SECOND, Instant::now())),
        }
    }

    /// Closes the connection over a violation.
    pub(super) fn fail(&self, fault: Fault) -> io::Error {
        // The first one counts.
        let _first = self.fault.set(fault);
        self.connection.close(number(fault.code), fault.why.as_bytes());
        io::Error::new(io::ErrorKind::ConnectionAborted, fault)
    }

    /// A stream was work for nothing: given up before its answer, or malformed. Too many of them end the
    /// connection, as over HTTP/2.
    pub(super) fn given_up(&self) {
        if !self.resets.lock().spend(1, Instant::now()) {
            let fault = Fault::new(Code::EXCESSIVE_LOAD, "too many streams given up");
            // Whoever reads a stream meets it there.
            drop(self.fail(fault));
        }
    }

    /// A stream has said all: a connection that is to be closed waits until the client has it.
    pub(super) fn deliver_rest(&self, stream: &SendStream) {
        if !self.leaving.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            self.delivering.spawn_on(timeout(DELIVERY_TIME_MAX, stream.stopped()), &runtime);
        }
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
