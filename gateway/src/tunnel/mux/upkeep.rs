//! What happens by the clock, and the two steps of a drain.

use std::time::Duration;

use gateway_proto::h2::{Code, WINDOW_MAX, encode};
use tokio::time::Instant;

use super::ending::Ending;
use super::inbound::{DRAIN, KEEPALIVE};
use super::state::{Drain, State};

/// How often a connection with streams is looked after.
pub(super) const TICK: Duration = Duration::from_secs(5);

/// What the driver knows about the peer's silence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    /// When bytes came last.
    pub(super) heard: Instant,
    /// When we asked for a sign of life since.
    pub(super) asked: Option<Instant>,
    /// Since when there has been no stream.
    pub(super) idle: Option<Instant>,
}

impl State {
    /// Looks after the streams; an ending where the connection's time is up.
    pub(super) fn tick(&mut self, silence: &mut Silence, now: Instant) -> Option<Ending> {
        self.rest();
        self.adjust_start();
        self.reset_stalled(now);
        if self.drain == Drain::Told
            && self.drain_began.is_some_and(|began| now.saturating_duration_since(began) >= TICK)
        {
            self.drain_finally();
        }
        let since = |then: Instant| now.saturating_duration_since(then);
        if silence.idle.is_some_and(|idle| since(idle) >= self.settings.idle_timeout) {
            return Some(Ending::Idle);
        }
        if let Some(asked) = silence.asked {
            return (since(asked) >= self.settings.keepalive_timeout).then_some(Ending::Silent);
        }
        if self.open > 0 && since(silence.heard) >= self.settings.keepalive {
            silence.asked = Some(now);
            encode::ping(false, KEEPALIVE, &mut self.control);
        }
        None
    }

    /// Resets streams whose bytes have waited for the peer's window for too long.
    fn reset_stalled(&mut self, now: Instant) {
        let limit = self.settings.stall_timeout;
        let stalled = |since: Instant| now.saturating_duration_since(since) >= limit;
        let late = self.entries.iter().filter(|(_, entry)| entry.send.stalled.is_some_and(stalled));
        let late: Vec<u32> = late.map(|(id, _)| *id).collect();
        for id in late {
            self.reset(id, Code::CANCEL);
        }
    }

    /// Asks the peer to go elsewhere, without refusing what is under way.
    pub(super) fn drain_begin(&mut self, now: Instant) {
        if self.drain != Drain::No || self.ended.is_some() {
            return;
        }
        self.drain = Drain::Told;
        self.drain_began = Some(now);
        encode::goaway(WINDOW_MAX, Code::NO_ERROR, &mut self.control);
        encode::ping(false, DRAIN, &mut self.control);
    }

    /// A round trip later: what came until now is served, nothing further.
    pub(super) fn drain_finally(&mut self) {
        if self.drain == Drain::Told {
            self.drain = Drain::Final;
            encode::goaway(self.last_id, Code::NO_ERROR, &mut self.control);
        }
    }

    /// Why the connection should end now, if it should.
    pub(super) fn verdict(&self) -> Option<Ending> {
        if self.close {
            return Some(Ending::Closed);
        }
        if self.open > 0 || self.has_output() {
            return None;
        }
        match self.drain {
            Drain::Final => Some(Ending::Drained),
            _ if self.leaving => Some(Ending::ClientClosed),
            _ => None,
        }
    }
}
