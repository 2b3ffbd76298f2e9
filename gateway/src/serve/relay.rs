//! Moves bodies: from one side's source into the other side's sink, both directions in one task.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};
use tokio_util::io::poll_read_buf;

use crate::exchange::{Frame, Sink, Source};

/// Frames moved before the task lets others run: a fast pair of peers must not hold the worker.
const FRAMES_PER_TURN: usize = 32;

/// Which side of a pump failed.
#[derive(Debug)]
pub(super) enum PumpError {
    /// The side that gives the body.
    Source(io::Error),
    /// The side that takes it.
    Sink(io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Moving,
    Flushing,
    Done,
}

/// One direction of an exchange.
#[derive(Debug)]
pub(super) struct Pump {
    stage: Stage,
    bytes: u64,
}

impl Pump {
    /// A pump for a body that may come.
    pub(super) fn new() -> Self {
        Self { stage: Stage::Moving, bytes: 0 }
    }

    /// A pump for a body that is not there: only what is buffered is flushed.
    pub(super) fn bodiless() -> Self {
        Self { stage: Stage::Flushing, bytes: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Moves nothing more: the side that takes the body no longer wants it.
    pub(super) fn give_up(&mut self) {
        self.stage = Stage::Done;
    }

    /// Body bytes moved so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Moves what can be moved; ready once the whole body has been handed to the transport.
    pub(super) fn poll(
        &mut self,
        source: &mut impl Source,
        sink: &mut impl Sink,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        let mut budget = FRAMES_PER_TURN;
        while self.stage == Stage::Moving {
            ready!(sink.poll_ready(context)).map_err(PumpError::Sink)?;
            if budget == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            budget -= 1;
            match source.poll_frame(context) {
                Poll::Ready(frame) => {
                    self.take(frame, sink)?;
                    if self.stage == Stage::Moving && source.is_ended() {
                        self.finish(sink)?;
                    }
                }
                Poll::Pending => {
                    // Nothing more for now: what is buffered must not wait for it (SSE, gRPC).
                    ready!(sink.poll_flush(context)).map_err(PumpError::Sink)?;
                    return Poll::Pending;
                }
            }
        }
        if self.stage == Stage::Flushing {
            ready!(sink.poll_flush(context)).map_err(PumpError::Sink)?;
            self.stage = Stage::Done;
        }
        Poll::Ready(Ok(()))
    }

    fn take(
        &mut self,
        frame: io::Result<Option<Frame>>,
        sink: &mut impl Sink,
    ) -> Result<(), PumpError> {
        match frame.map_err(PumpError::Source)? {
            Some(Frame::Data(data)) => {
                self.bytes += data.len() as u64;
                sink.send(Frame::Data(data)).map_err(PumpError::Sink)
            }
            Some(trailers @ Frame::Trailers(_)) => {
                sink.send(trailers).map_err(PumpError::Sink)?;
                self.finish(sink)
            }
            None => self.finish(sink),
        }
    }

    fn finish(&mut self, sink: &mut impl Sink) -> Result<(), PumpError> {
        sink.end().map_err(PumpError::Sink)?;
        self.stage = Stage::Flushing;
        Ok(())
    }
}

/// Silence after one side has ended: long enough for the other to work an answer out, short enough
/// that halves which nobody closes do not pile up.
const HALF_CLOSED_IDLE_TIME_MAX: Duration = Duration::from_secs(120);

/// Read at a time by a raw relay.
const SPLICE_BYTES: usize = 64 * 1024;
const SPLICE_BYTES_MIN: usize = 4 * 1024;

/// What a raw relay moved, and how it ended.
#[derive(Debug)]
pub(super) struct Spliced {
    pub from_client: u64,
    pub to_client: u64,
    pub error: Option<(SpliceSide, io::ErrorKind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpliceSide {
    Client,
    Origin,
    /// Neither side moved a byte for too long.
    Idle,
    /// The session ended, or a new policy no longer allows it.
    Withdrawn,
}

/// Relays raw bytes both ways until both sides have ended, either breaks, nothing moves for
/// `idle` ([`HALF_CLOSED_IDLE_TIME_MAX`] once one side has ended), or `withdrawn` is ready. A side
/// that ends is half-closed on the other, never cut.
pub(super) async fn splice<A, B>(
    client: &mut A,
    origin: &mut B,
    idle: Duration,
    withdrawn: impl Future<Output = ()>,
) -> Spliced
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    splice_noting(client, origin, idle, withdrawn, |_, _| {}).await
}

/// [`splice`] that tells `note` the bytes of each direction as they move.
pub(super) async fn splice_noting<A, B>(
    client: &mut A,
    origin: &mut B,
    idle: Duration,
    withdrawn: impl Future<Output = ()>,
    mut note: impl FnMut(u64, u64),
) -> Spliced
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let mut quiet = std::pin::pin!(sleep(idle));
    let mut moved_at = Instant::now();
    let both = std::future::poll_fn(|context| {
        let before = (up.progress(), down.progress());
        let sent = up.poll(client, origin, context);
        let received = down.poll(origin, client, context);
        note(up.bytes, down.bytes);
        if let Poll::Ready(Err((reading, error))) = sent {
            // The origin has said all and takes no more, or the client just closes then, as many
            // do: nothing was cut off.
            if down.done {
                return Poll::Ready(None);
            }
            let side = if reading { SpliceSide::Client } else { SpliceSide::Origin };
            return Poll::Ready(Some((side, error.kind())));
        }
        if let Poll::Ready(Err((reading, error))) = received {
            // TLS that stops without close_notify after the client has ended.
            if reading && up.done && error.kind() == io::ErrorKind::UnexpectedEof {
                return Poll::Ready(None);
            }
            let side = if reading { SpliceSide::Origin } else { SpliceSide::Client };
            return Poll::Ready(Some((side, error.kind())));
        }
        if up.done && down.done {
            return Poll::Ready(None);
        }
        let after = (up.progress(), down.progress());
        let patience =
            if up.ended || down.ended { idle.min(HALF_CLOSED_IDLE_TIME_MAX) } else { idle };
        if after != before {
            moved_at = Instant::now();
            if patience < idle {
                quiet.as_mut().reset(moved_at + patience);
            }
        }
        // The timer is moved on only when it fires: most relays never see that.
        while quiet.as_mut().poll(context).is_ready() {
            let due = moved_at + patience;
            if Instant::now() >= due {
                return Poll::Ready(Some((SpliceSide::Idle, io::ErrorKind::TimedOut)));
            }
            quiet.as_mut().reset(due);
        }
        Poll::Pending
    });
    let error = tokio::select! {
        biased;
        outcome = both => outcome,
        () = withdrawn => Some((SpliceSide::Withdrawn, io::ErrorKind::ConnectionAborted)),
    };
    Spliced { from_client: up.bytes, to_client: down.bytes, error }
}

/// One direction of a raw relay.
struct Direction {
    buffer: BytesMut,
    pending: Bytes,
    size: usize,
    ended: bool,
    done: bool,
    /// Read so far.
    bytes: u64,
    written: u64,
}

impl Default for Direction {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            pending: Bytes::new(),
            size: SPLICE_BYTES_MIN,
            ended: false,
            done: false,
            bytes: 0,
            written: 0,
        }
    }
}

impl Direction {
    /// Changes whenever anything moves.
    fn progress(&self) -> (u64, u64, bool, bool) {
        (self.bytes, self.written, self.ended, self.done)
    }

    /// Errors say whether reading (`true`) or writing failed.
    fn poll<R, W>(
        &mut self,
        reader: &mut R,
        writer: &mut W,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), (bool, io::Error)>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut budget = FRAMES_PER_TURN;
        while !self.done {
            while !self.pending.is_empty() {
                let count = ready!(Pin::new(&mut *writer).poll_write(context, &self.pending))
                    .map_err(|error| (false, error))?;
                if count == 0 {
                    return Poll::Ready(Err((false, io::ErrorKind::WriteZero.into())));
                }
                self.pending.advance(count);
                self.written += count as u64;
            }
            if self.ended {
                ready!(Pin::new(&mut *writer).poll_shutdown(context))
                    .map_err(|error| (false, error))?;
                self.done = true;
                break;
            }
            if budget == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            budget -= 1;
            self.buffer.reserve(self.size);
            match poll_read_buf(Pin::new(&mut *reader), context, &mut self.buffer) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(count)) => {
                    self.bytes += count as u64;
                    self.pending = self.buffer.split().freeze();
                    if count >= self.size {
                        self.size = (self.size * 2).min(SPLICE_BYTES);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err((true, error))),
                Poll::Pending => {
                    ready!(Pin::new(&mut *writer).poll_flush(context))
                        .map_err(|error| (false, error))?;
                    self.release();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// An idle direction holds no buffer.
    fn release(&mut self) {
        self.pending = Bytes::new();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests;
