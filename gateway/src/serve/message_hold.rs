//! Holds the messages of a stream back, one after the other, until each has been judged.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use gateway_proto::{grpc, websocket_message};
use policy::fact::Unobtainable;

use crate::exchange::Coding;
use crate::limit::hold::{HoldBudget, HoldShare};

/// A message, or why it cannot be had.
pub(super) type Content = Result<Vec<u8>, Unobtainable>;

/// Asked with each message: may it go on?
pub(super) type Judge = Box<dyn FnMut(Content) -> bool + Send + Sync>;

/// What is held of messages, and how long.
pub(super) struct Holding {
    pub(super) budget: HoldBudget,
    /// Of one message.
    pub(super) bytes_max: usize,
    pub(super) time_max: Duration,
}

/// How messages stand in the bytes of their stream.
pub(super) enum Framing {
    WebSocket(websocket_message::Messages),
    Grpc(grpc::Messages, Coding),
}

/// Holds the bytes of a message back until it is judged. The message that may not go on is the last.
pub(super) struct Gate {
    framing: Framing,
    judge: Judge,
    holding: Holding,
    /// Frames of the message that is being gathered.
    held: BytesMut,
    /// Its part of the allowance.
    share: Option<HoldShare>,
    /// When it began.
    since: Option<Instant>,
    /// It was judged before its end, where a bound was reached.
    decided: bool,
    /// Frames that may go on.
    pub(super) cleared: BytesMut,
    pub(super) stopped: Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    No,
    Yes,
    /// And the reader was told.
    Said,
}

impl Framing {
    /// Reads on until a message, or why it cannot be had, is told. Says how many bytes it read.
    fn advance(&mut self, bytes: &[u8], bound: usize) -> (usize, Option<Content>) {
        match self {
            Self::WebSocket(messages) => {
                let (count, told) = messages.advance(bytes);
                let content = told.map(|told| match told {
                    websocket_message::Told::Message(message) => Ok(message),
                    websocket_message::Told::TooLong => Err(Unobtainable::Bound),
                    websocket_message::Told::Unreadable => Err(Unobtainable::Unreadable),
                });
                (count, content)
            }
            Self::Grpc(messages, coding) => {
                let (count, told) = messages.advance(bytes);
                let content = told.map(|told| match told {
                    grpc::Told::Message { compressed: false, bytes } => Ok(bytes),
                    grpc::Told::Message { compressed: true, bytes } => coding.read(&bytes, bound),
                    grpc::Told::TooLong => Err(Unobtainable::Bound),
                    grpc::Told::Unreadable => Err(Unobtainable::Unreadable),
                });
                (count, content)
            }
        }
    }

    fn is_gathering(&self) -> bool {
        match self {
            Self::WebSocket(messages) => messages.is_gathering(),
            Self::Grpc(messages, _) => messages.is_gathering(),
        }
    }
}

impl Gate {
    pub(super) fn new(framing: Framing, judge: Judge, holding: Holding) -> Self {
        Self {
            framing,
            judge,
            holding,
            held: BytesMut::new(),
            share: None,
            since: None,
            decided: false,
            cleared: BytesMut::new(),
            stopped: Stopped::No,
        }
    }

    /// Whether a message is begun and not judged.
    pub(super) fn is_gathering(&self) -> bool {
        self.framing.is_gathering() && !self.decided
    }

    /// Takes what has come.
    pub(super) fn take(&mut self, bytes: &[u8], now: Instant) {
        let mut rest = bytes;
        while !rest.is_empty() && self.stopped == Stopped::No {
            let (count, told) = self.framing.advance(rest, self.holding.bytes_max);
            let Some((part, later)) = rest.split_at_checked(count) else { return };
            rest = later;
            self.held.extend_from_slice(part);
            match told {
                Some(content) => self.told(content),
                None if self.is_gathering() => self.hold(count, now),
                None => self.clear(),
            }
        }
    }

    /// Nobody waits any longer for the message that is being gathered: it is judged without.
    pub(super) fn give_up(&mut self, why: Unobtainable) {
        if self.is_gathering() {
            self.decide(why);
        }
    }

    /// Something was told of a message, unless that was judged before.
    fn told(&mut self, content: Content) {
        if !std::mem::take(&mut self.decided) {
            let room = content.as_ref().map_or(0, Vec::len);
            let share = self.share.get_or_insert_with(|| self.holding.budget.share());
            // Twice what is held of frames is the share's already; an unpacked message may be more.
            let fits = room <= self.held.len() || share.grow(room);
            self.judge(if fits { content } else { Err(Unobtainable::Bound) });
        }
        self.clear();
    }

    /// A message goes on being gathered, as far as time and memory allow.
    fn hold(&mut self, bytes: usize, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let share = self.share.get_or_insert_with(|| self.holding.budget.share());
        // Twice: the frames, and what they say.
        let why = if !share.grow(bytes * 2) {
            Unobtainable::Bound
        } else if now.duration_since(since) > self.holding.time_max {
            Unobtainable::Timeout
        } else {
            return;
        };
        self.decide(why);
    }

    fn decide(&mut self, why: Unobtainable) {
        self.judge(Err(why));
        self.decided = true;
        self.clear();
    }

    fn judge(&mut self, content: Content) {
        if !(self.judge)(content) {
            self.stopped = Stopped::Yes;
            self.held.clear();
        }
    }

    /// What was held may go on, if anything is left of it.
    fn clear(&mut self) {
        self.cleared.unsplit(self.held.split());
        (self.share, self.since) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// A gate that lets all pass, and what it was asked.
    fn gate(framing: Framing, budget: usize) -> (Gate, Arc<Mutex<Vec<Content>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let allow: Judge = Box::new(move |content| {
            noted.lock().push(content);
            true
        });
        let budget = HoldBudget::new(budget);
        let holding = Holding { budget, bytes_max: 1_000, time_max: Duration::from_secs(60) };
        (Gate::new(framing, allow, holding), asked)
    }

    #[test]
    fn a_message_that_takes_too_long_is_asked_for_once_and_the_next_is_read() {
        let framing = Framing::WebSocket(websocket_message::Messages::new(64));
        let (mut gate, asked) = gate(framing, 1_000);
        let frame = |payload: &[u8]| {
            let length = 0x80 | u8::try_from(payload.len()).unwrap();
            [&[0x81, length, 0, 0, 0, 0][..], payload].concat()
        };
        let (began, message) = (Instant::now(), frame(b"slow"));
        let (first, last) = message.split_at(8);
        gate.take(first, began);
        assert!(gate.cleared.is_empty());
        gate.take(b"o", began + Duration::from_secs(61));
        assert_eq!(gate.cleared.len(), 9);
        gate.take(last.get(1..).unwrap(), began + Duration::from_secs(62));
        gate.take(&frame(b"next"), began + Duration::from_secs(63));
        assert_eq!(gate.cleared.len(), message.len() + 10);
        assert_eq!(*asked.lock(), [Err(Unobtainable::Timeout), Ok(b"next".to_vec())]);
    }

    #[test]
    fn a_message_is_judged_unpacked_and_goes_on_as_it_came() {
        use std::io::Write as _;
        let text = b"a".repeat(600);
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&text).unwrap();
        let packed = packer.finish().unwrap();
        let length = u32::try_from(packed.len()).unwrap().to_be_bytes();
        let sent = [&[1][..], &length, &packed].concat();
        for (budget, wanted) in [(10_000, Ok(text)), (300, Err(Unobtainable::Bound))] {
            let framing = Framing::Grpc(grpc::Messages::new(1_000), Coding::named(Some("gzip")));
            let (mut gate, asked) = gate(framing, budget);
            sent.chunks(7).for_each(|piece| gate.take(piece, Instant::now()));
            assert_eq!(gate.cleared, sent);
            assert_eq!(*asked.lock(), [wanted]);
        }
    }
}
