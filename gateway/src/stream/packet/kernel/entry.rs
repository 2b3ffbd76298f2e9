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
    size: Size,
    /// What the session's budget has set aside for it, bytes.
    set_aside: u64,
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
        let (hold, set_aside) = (Hold::Opening, size.bytes());
        Self { ends, size, set_aside, number, hold, touched: now, client: Side::default(), kernel }
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

    /// The port of the listener that it is sent to.
    pub(super) fn listener(&self) -> u16 {
        self.size.port()
    }

    pub(super) fn set_aside(&self) -> u64 {
        self.set_aside
    }

    /// Whether it has large buffers, and they may still fill.
    pub(super) fn is_large(&self) -> bool {
        self.size == Size::Large && self.set_aside == self.size.bytes()
    }

    /// What it needs less than before, bytes. A connection that the flow has let go, and whose end is on its
    /// way, holds what the client has not acknowledged and nothing more: a client may take its time with the
    /// last acknowledgement, or never send it.
    pub(super) fn spare(&mut self) -> u64 {
        let (Hold::Closed, Some(end)) = (self.hold, self.kernel.end) else { return 0 };
        let unacknowledged = end.wrapping_sub(self.client.expects.unwrap_or(end));
        let less = self.set_aside.saturating_sub(unacknowledged.into());
        self.set_aside -= less;
        less
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
