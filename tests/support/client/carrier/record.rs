//! What happened to a tunnel, and when.

use std::time::Duration;

/// A change worth a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A datagram handshake is through, so long after it began.
    Handshake {
        took: Duration,
    },
    HandshakeFailed,
    /// Nobody answered on the datagram channel any more.
    DatagramsDead,
    /// A TLS channel is open.
    TlsOpened,
    TlsLost,
    /// From datagrams to TLS, and back.
    FellBack,
    Returned,
    /// To the next gateway.
    FailedOver,
}

/// Lines kept; a tunnel that flaps for hours has shown what it does.
const LINES_MAX: usize = 1_000;

/// Sums, and the lines they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub handshakes: u64,
    pub handshakes_failed: u64,
    pub tls_opened: u64,
    pub fallbacks: u64,
    pub returns: u64,
    pub failovers: u64,
    /// Packets that found a queue full, or nothing to carry them.
    pub dropped: u64,
    /// Probes of the tunnel's MTU that came back whole.
    pub mtu_confirmed: u64,
    /// Since the tunnel was asked for.
    pub lines: Vec<(Duration, Happening)>,
    /// Why a channel could last not be had or kept.
    pub last_failure: Option<String>,
}

impl Counts {
    pub(super) fn note(&mut self, at: Duration, what: Happening) {
        match what {
            Happening::Handshake { .. } => self.handshakes += 1,
            Happening::HandshakeFailed => self.handshakes_failed += 1,
            Happening::TlsOpened => self.tls_opened += 1,
            Happening::FellBack => self.fallbacks += 1,
            Happening::Returned => self.returns += 1,
            Happening::FailedOver => self.failovers += 1,
            Happening::DatagramsDead | Happening::TlsLost => {}
        }
        if self.lines.len() < LINES_MAX {
            self.lines.push((at, what));
        }
    }

    /// When something happened, each time.
    pub fn times(&self, wanted: Happening) -> impl Iterator<Item = Duration> {
        self.lines.iter().filter(move |(_, what)| *what == wanted).map(|(at, _)| *at)
    }
}
