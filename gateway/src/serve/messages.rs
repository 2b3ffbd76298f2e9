//! A WebSocket whose client's messages are judged one by one: each is held back until it may go on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Buf as _;
use gateway_proto::websocket_message::Messages;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::message_hold::{Framing, Gate, Holding, Judge, Stopped};

/// A client's side. Read, it gives the frames that may go on, as they came. The message that may not is
/// the last: reading it is refused, and what follows is given unread, to be dropped.
pub(super) struct Judged<Io> {
    io: Io,
    /// `None` where messages are not read. Boxed: most are such, and many.
    gate: Option<Box<Gate>>,
}

impl<Io> Judged<Io> {
    pub(super) fn new(io: Io, judge: Option<(Judge, Holding)>) -> Self {
        let gate = judge.map(|(judge, holding)| {
            let framing = Framing::WebSocket(Messages::new(holding.bytes_max));
            Box::new(Gate::new(framing, judge, holding))
        });
        Self { io, gate }
    }

    /// Whether a message was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.stopped != Stopped::No)
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
    use std::time::Duration;

    use parking_lot::Mutex;
    use policy::fact::Unobtainable;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::limit::hold::HoldBudget;

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
}
