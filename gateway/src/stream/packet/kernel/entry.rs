//! What is known of one connection from the packets that pass, without I/O: whether it is still to be
//! opened, and whether anything more will come of it.

use std::time::{Duration, Instant};

use gateway_proto::tcp::TcpPacket;

use super::network::Size;
use crate::stream::packet::tcp::Ends;

/// A client that opens a connection answers within this.
const OPENING_TIME_MAX: Duration = Duration::from_secs(10);
/// A connection that the gateway has closed, and whose client neither closes it nor sends anything. The
/// kernel forgets it sooner.
const CLOSED_TIME_MAX: Duration = Duration::from_secs(120);

/// One connection.
#[derive(Debug)]
pub(super) struct Entry {
    /// As the client sees them.
    pub(super) ends: Ends,
    pub(super) size: Size,
    /// Tells it from another that has its port later.
    pub(super) number: u64,
    hold: Hold,
    touched: Instant,
    client: Side,
    kernel: Side,
}

/// Who has the gateway's end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// The kernel, until the client answers.
    Opening,
    /// A flow of ours.
    Held,
    /// The kernel again, for what was written.
    Closed,
}

/// What one side has said.
#[derive(Debug, Default)]
struct Side {
    /// The number that acknowledges its end.
    end: Option<u32>,
    end_acknowledged: bool,
    /// What it expects next.
    expects: Option<u32>,
}

impl Side {
    fn says(&mut self, packet: &TcpPacket<'_>) {
        self.expects = packet.acknowledged().or(self.expects);
        if packet.fin() {
            self.end = Some(packet.end());
        }
    }

    fn hears(&mut self, acknowledged: Option<u32>) {
        self.end_acknowledged |= self.end.is_some() && self.end == acknowledged;
    }
}

impl Entry {
    /// A connection that the client opens with this packet.
    pub(super) fn new(
        ends: Ends,
        size: Size,
        number: u64,
        syn: &TcpPacket<'_>,
        now: Instant,
    ) -> Self {
        let kernel = Side { expects: Some(syn.end()), ..Side::default() };
        let hold = Hold::Opening;
        Self { ends, size, number, hold, touched: now, client: Side::default(), kernel }
    }

    /// A packet comes from the client; whether it is the last.
    pub(super) fn client_sent(&mut self, packet: &TcpPacket<'_>, now: Instant) -> bool {
        self.touched = now;
        self.client.says(packet);
        self.kernel.hears(packet.acknowledged());
        packet.rst() || self.is_over()
    }

    /// A packet goes to the client; whether it is the last.
    pub(super) fn kernel_sent(&mut self, packet: &TcpPacket<'_>) -> bool {
        self.kernel.says(packet);
        self.client.hears(packet.acknowledged());
        packet.rst() || self.is_over()
    }

    fn is_over(&self) -> bool {
        self.client.end_acknowledged && self.kernel.end_acknowledged
    }

    /// Whether a SYN begins another connection between the same ends.
    pub(super) fn is_followed_by(&self, syn: &TcpPacket<'_>) -> bool {
        let ends = self.client.end.is_some() || self.kernel.end.is_some();
        ends && self.kernel.expects != Some(syn.end())
    }

    pub(super) fn is_opening(&self) -> bool {
        self.hold == Hold::Opening
    }

    /// It is a flow of ours from now on.
    pub(super) fn hold(&mut self) {
        self.hold = Hold::Held;
    }

    /// The flow has let it go.
    pub(super) fn let_go(&mut self, now: Instant) {
        self.hold = Hold::Closed;
        self.touched = now;
    }

    /// Whether nothing will come of it any more.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        let idle = now.saturating_duration_since(self.touched);
        match self.hold {
            Hold::Opening => idle >= OPENING_TIME_MAX,
            Hold::Held => false,
            Hold::Closed => idle >= CLOSED_TIME_MAX,
        }
    }

    /// The number of a reset that the client believes; `None` before it has answered.
    pub(super) fn client_expects(&self) -> Option<u32> {
        self.client.expects
    }

    /// The number of a reset that the kernel believes (RFC 5961 section 3).
    pub(super) fn reset_number(&self) -> u32 {
        self.kernel.expects.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
