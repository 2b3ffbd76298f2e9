//! What the path of a DTLS channel leads to: how large the session's packets are, and who is told.

use std::time::{Duration, Instant};

use gateway_proto::tcp::{Relabel, TcpPacket};

use super::session::Attached;
use crate::tunnel::dtls::Engine;
use crate::tunnel::path::{PathSearch, Step};

/// IPv6 inside needs this much (RFC 8200 section 5); a tunnel begins with it.
pub(super) const MTU_MIN: u16 = 1_280;
/// Hosts forget that a path is narrow after ten minutes, and try again (RFC 1191 section 6.3, RFC 8201
/// section 4): before that they are told again, as long as it is.
const TELL_AGAIN: Duration = Duration::from_secs(300);

/// The path of one channel.
pub(super) struct Path {
    search: PathSearch,
    /// Bytes of a datagram that are not the packet's.
    framing: usize,
    /// The size that the ends of connections were told last, and when.
    told: Option<(u16, Instant)>,
}

impl Path {
    /// One that nothing is known of: a client that comes from another address has another path.
    pub(super) fn new(now: Instant, engine: &Engine, attached: &Attached, is_ipv4: bool) -> Self {
        let framing = engine.overhead() + 1;
        let around = if is_ipv4 { 20 } else { 40 } + 8 + framing;
        let (size, most) = match engine {
            Engine::Modern(_) => (MTU_MIN, PathSearch::most(around)),
            // As much as its client was told over TLS, which has set its device to that or less.
            Engine::Psk(_) => (attached.session.told(), attached.session.told()),
        };
        let search = PathSearch::new(now, around, size, most);
        attached.session.dtls_up(attached.channel, search.size());
        Self { search, framing: framing.into(), told: None }
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        self.search.wake()
    }

    /// Says what time it is; gives a size to ask for.
    pub(super) fn tick(&mut self, now: Instant, attached: &Attached) -> Option<u16> {
        let step = self.search.tick(now);
        self.follow(now, step, attached);
        step.question
    }

    /// The client has answered a question, with so many bytes.
    pub(super) fn answered(&mut self, now: Instant, bytes: usize, attached: &Attached) {
        let step = self.search.answered(now, bytes);
        self.follow(now, step, attached);
    }

    /// The client is asked whether it lives.
    pub(super) fn asks_otherwise(&mut self, now: Instant) {
        self.search.blur(now);
    }

    pub(super) fn passed(&mut self, now: Instant, largest: usize) {
        self.search.passed(now, largest);
    }

    pub(super) fn heard(&mut self) {
        self.search.heard();
    }

    /// The system finds a datagram of this length too long. It may be one that only asks.
    pub(super) fn is_too_long(&mut self, now: Instant, datagram_bytes: usize) {
        if datagram_bytes <= usize::from(self.search.size()) + self.framing {
            self.search.doubt(now);
        }
    }

    pub(super) fn fits(&self, packet: &[u8]) -> bool {
        packet.len() <= self.search.size().into()
    }

    /// What a packet is cut into that waited while the path became smaller; nothing where it cannot be cut.
    pub(super) fn cut(&self, packet: &[u8]) -> Vec<Vec<u8>> {
        let Some(tcp) = TcpPacket::read(packet) else { return Vec::new() };
        let (source, destination) = (tcp.source, tcp.destination);
        tcp.cut(&Relabel { source, destination, mtu: self.search.size() }, None)
    }

    fn follow(&mut self, now: Instant, step: Step, attached: &Attached) {
        let (session, size) = (&attached.session, self.search.size());
        if !session.dtls_carries(attached.channel, size) {
            return;
        }
        if !step.is_checked || size >= session.link.widest() {
            return;
        }
        let is_old = |(told, at): (u16, Instant)| {
            told != size || now.saturating_duration_since(at) >= TELL_AGAIN
        };
        if self.told.is_none_or(is_old) {
            tracing::debug!(size, "packets are smaller than before on this path");
            self.told = Some((size, now));
            session.stack.narrow();
        }
    }
}
