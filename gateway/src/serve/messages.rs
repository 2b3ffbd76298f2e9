//! A WebSocket whose client's messages are judged one by one: each is held back until it may go on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use gateway_proto::websocket_message::{Messages, Told};
use policy::fact::Unobtainable;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limit::hold::{HoldBudget, HoldShare};

/// Asked with each message, or with why it cannot be had: may it go on?
pub(super) type Judge = Box<dyn FnMut(Result<Vec<u8>, Unobtainable>) -> bool + Send>;

/// What is held of messages, and how long.
pub(super) struct Holding {
    pub(super) budget: HoldBudget,
    /// Of one message.
    pub(super) bytes_max: usize,
    pub(super) time_max: Duration,
}

/// A client's side. Read, it gives the frames that may go on, as they came. The message that may not is
/// the last: reading it is refused, and what follows is given unread, to be dropped.
pub(super) struct Judged<Io> {
    io: Io,
    /// `None` where messages are not read. Boxed: most are such, and many.
    gate: Option<Box<Gate>>,
}

struct Gate {
    messages: Messages,
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
    cleared: BytesMut,
    stopped: Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    No,
    Yes,
    /// And the reader was told.
    Said,
}

impl<Io> Judged<Io> {
    pub(super) fn new(io: Io, judge: Option<(Judge, Holding)>) -> Self {
        Self { io, gate: judge.map(|(judge, holding)| Box::new(Gate::new(judge, holding))) }
    }

    /// Whether a message was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.stopped != Stopped::No)
    }
}

impl Gate {
    fn new(judge: Judge, holding: Holding) -> Self {
        Self {
            messages: Messages::new(holding.bytes_max),
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

    /// Takes what has come.
    fn take(&mut self, bytes: &[u8], now: Instant) {
        let mut rest = bytes;
        while !rest.is_empty() && self.stopped == Stopped::No {
            let (count, told) = self.messages.advance(rest);
            let Some((part, later)) = rest.split_at_checked(count) else { return };
            rest = later;
            self.held.extend_from_slice(part);
            match told {
                Some(told) => self.told(told),
                None if self.messages.is_gathering() && !self.decided => self.hold(count, now),
                None => self.clear(),
            }
        }
    }

    /// Something was told of a message, unless that was judged before.
    fn told(&mut self, told: Told) {
        let content = match told {
            Told::Message(message) => Ok(message),
            Told::TooLong => Err(Unobtainable::Bound),
            Told::Unreadable => Err(Unobtainable::Unreadable),
        };
        if !std::mem::take(&mut self.decided) {
            self.judge(content);
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
        self.judge(Err(why));
        self.decided = true;
        self.clear();
    }

    fn judge(&mut self, content: Result<Vec<u8>, Unobtainable>) {
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

impl<Io: AsyncRead + Unpin> AsyncRead for Judged<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, gate } = &mut *self;
        let Some(gate) = gate else { return Pin::new(io).poll_read(context, buffer) };
        loop {
            if !gate.cleared.is_empty() {
                let count = gate.cleared.len().min(buffer.remaining());
                buffer.put_slice(gate.cleared.get(..count).unwrap_or_default());
                gate.cleared.advance(count);
                return Poll::Ready(Ok(()));
            }
            match gate.stopped {
                Stopped::No => {}
                Stopped::Yes => {
                    gate.stopped = Stopped::Said;
                    return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
                }
                Stopped::Said => return Pin::new(io).poll_read(context, buffer),
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut *io).poll_read(context, buffer))?;
            let come = buffer.filled().get(before..).unwrap_or_default();
            if come.is_empty() {
                // What is held then never became a message.
                return Poll::Ready(Ok(()));
            }
            gate.take(come, Instant::now());
            buffer.set_filled(before);
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Judged<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    type Asked = Arc<Mutex<Vec<Result<Vec<u8>, Unobtainable>>>>;

    /// A gate that stops messages with an `x` and those that cannot be had.
    fn judge(asked: &Asked) -> Judge {
        let asked = Arc::clone(asked);
        Box::new(move |content| {
            let goes_on = content.as_ref().is_ok_and(|message| !message.contains(&b'x'));
            asked.lock().push(content);
            goes_on
        })
    }

    fn holding(budget: usize) -> Holding {
        let budget = HoldBudget::new(budget);
        Holding { budget, bytes_max: 64, time_max: Duration::from_secs(60) }
    }

    /// A frame that is masked with zeros.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = 0x80 | u8::try_from(payload.len()).unwrap();
        [&[first, length, 0, 0, 0, 0][..], payload].concat()
    }

    /// What goes on of `sent`, written by `piece` bytes, and what was asked.
    async fn passed(
        sent: &[u8],
        piece: usize,
        budget: usize,
    ) -> (Vec<u8>, io::Result<()>, Vec<Result<Vec<u8>, Unobtainable>>) {
        let (ours, mut theirs) = tokio::io::duplex(piece);
        let asked = Asked::default();
        let mut judged = Judged::new(ours, Some((judge(&asked), holding(budget))));
        let sent = sent.to_vec();
        let writing = tokio::spawn(async move {
            // Fails where the reader has stopped.
            theirs.write_all(&sent).await.ok();
        });
        let (mut got, mut some) = (Vec::new(), [0; 11]);
        let ended = loop {
            match judged.read(&mut some).await {
                Ok(0) => break Ok(()),
                Ok(count) => got.extend_from_slice(some.get(..count).unwrap()),
                Err(error) => break Err(error),
            }
        };
        assert_eq!(ended.is_err(), judged.is_stopped());
        drop(judged);
        writing.await.unwrap();
        let asked = asked.lock().clone();
        (got, ended, asked)
    }

    #[tokio::test]
    async fn frames_go_on_as_they_came_once_their_message_is_judged() {
        let parts =
            [frame(0x81, b"one"), frame(0x89, b"ping"), frame(0x01, b"t"), frame(0x80, b"wo")];
        let sent = parts.concat();
        for piece in [1, 2, 7, 1_000] {
            let (got, ended, asked) = passed(&sent, piece, 1_000).await;
            assert_eq!(got, sent, "by {piece}");
            assert!(ended.is_ok());
            assert_eq!(asked, [Ok(b"one".to_vec()), Ok(b"two".to_vec())]);
        }
    }

    #[tokio::test]
    async fn nothing_of_a_stopped_message_nor_after_it_goes_on() {
        let before = frame(0x81, b"fine");
        let parts = [before.clone(), frame(0x01, b"a"), frame(0x80, b"x"), frame(0x81, b"later")];
        for piece in [1, 2, 7, 1_000] {
            let (got, ended, asked) = passed(&parts.concat(), piece, 1_000).await;
            assert_eq!(got, before, "by {piece}");
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            assert_eq!(asked, [Ok(b"fine".to_vec()), Ok(b"ax".to_vec())]);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_had_is_asked_as_such_once() {
        let long = frame(0x01, &[b'a'; 60]);
        for (sent, budget, why) in [
            ([long.clone(), frame(0x80, &[b'a'; 60])].concat(), 1_000, Unobtainable::Bound),
            (frame(0xc1, b"deflated"), 1_000, Unobtainable::Unreadable),
            (long, 10, Unobtainable::Bound),
        ] {
            let (got, ended, asked) = passed(&sent, 7, budget).await;
            assert!(got.is_empty() && ended.is_err());
            assert_eq!(asked, [Err(why)]);
        }
    }

    #[test]
    fn a_message_that_takes_too_long_is_asked_for_once_and_the_next_is_read() {
        let asked = Asked::default();
        let noted = Arc::clone(&asked);
        let allow: Judge = Box::new(move |content| {
            noted.lock().push(content);
            true
        });
        let mut gate = Gate::new(allow, holding(1_000));
        let (began, message) = (Instant::now(), frame(0x81, b"slow"));
        let (first, last) = message.split_at(8);
        gate.take(first, began);
        assert!(gate.cleared.is_empty());
        gate.take(b"o", began + Duration::from_secs(61));
        assert_eq!(gate.cleared.len(), 9);
        gate.take(last.get(1..).unwrap(), began + Duration::from_secs(62));
        gate.take(&frame(0x81, b"next"), began + Duration::from_secs(63));
        assert_eq!(gate.cleared.len(), message.len() + 10);
        assert_eq!(*asked.lock(), [Err(Unobtainable::Timeout), Ok(b"next".to_vec())]);
    }
}
