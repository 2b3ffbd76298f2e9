//! The connection's driver: bytes in, streams, bytes out. One poll reads and writes in large
//! batches; streams that became ready meanwhile share the next write.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use gateway_proto::h2::hpack::Decoder;
use gateway_proto::h2::{Code, Fault, FrameReader, encode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;

use super::ending::Ending;
use super::outbound::Outbox;
use super::shared::Shared;
use super::state::Drain;
use super::upkeep::{Silence, TICK};

/// The read buffer of a connection that receives: two TLS records.
const READ_BUFFER: usize = 32 * 1024;

/// Less room than this in the read buffer, and a new one is begun.
const READ_ROOM: usize = 8 * 1024;

/// An idle connection has no read buffer; its first bytes land here, on the stack.
const FIRST_BYTES: usize = 2 * 1024;

/// Reads between two writes: answers should not wait for a sender that never pauses.
const READS_PER_WRITE: usize = 4;

/// Rounds of reading and writing per poll, after which other tasks have their turn.
const ROUNDS_PER_POLL: usize = 8;

/// With this much unsent, nothing more is read: only answers that the peer does not take in
/// (PING, SETTINGS) make it grow so far.
const OUTBOX_MAX: usize = 256 * 1024;

/// How long a last GOAWAY may take to leave, and the peer to close after it.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes discarded while lingering, so that the peer's bytes do not turn the close into a reset
/// that overtakes GOAWAY.
const LINGER_BYTES: usize = 1024 * 1024;

/// Runs the connection while polled; resolves to why it ended. Dropped, it ends every stream.
#[must_use = "nothing moves unless the driver is polled"]
#[derive(Debug)]
pub struct Driver<Io> {
    io: Io,
    shared: Arc<Shared>,
    reader: FrameReader,
    decoder: Decoder,
    buffer: BytesMut,
    out: Outbox,
    unflushed: bool,
    timer: Pin<Box<Sleep>>,
    /// The timer runs in ticks, for there are streams or a drain.
    ticking: bool,
    silence: Silence,
    leaving: Option<Leaving>,
}

/// After the verdict: the rest of the outbox, then the peer's close.
#[derive(Debug)]
struct Leaving {
    ending: Ending,
    shut: bool,
    discarded: usize,
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Moved,
    Waits,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Driver<Io> {
    pub(super) fn new(io: Io, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let (list_max, idle) = shared
            .with(|state| (state.settings.header_list_bytes as usize, state.settings.idle_timeout));
        Self {
            io,
            shared,
            reader: FrameReader::new(list_max),
            decoder: Decoder::new(),
            buffer: BytesMut::new(),
            out: Outbox::default(),
            unflushed: false,
            timer: Box::pin(tokio::time::sleep_until(now + idle)),
            ticking: false,
            silence: Silence { heard: now, asked: None, idle: Some(now) },
            leaving: None,
        }
    }

    /// Runs until nothing can move, or it is others' turn.
    fn run(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let now = Instant::now();
        self.shared.with(|state| {
            state.driver_awake = true;
            match &mut state.driver {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
        });
        for _ in 0..ROUNDS_PER_POLL {
            let mut moved = Step::Waits;
            for _ in 0..READS_PER_WRITE {
                match self.read(context, now)? {
                    Step::Moved => moved = Step::Moved,
                    Step::Waits => break,
                }
            }
            if self.write(context, now)? == Step::Moved {
                moved = Step::Moved;
            }
            self.keep_time(context, now)?;
            if moved == Step::Moved {
                continue;
            }
            if self.may_sleep()? {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn read(&mut self, context: &mut Context<'_>, now: Instant) -> Result<Step, Ending> {
        if self.out.len() >= OUTBOX_MAX {
            return Ok(Step::Waits);
        }
        let read = if self.buffer.capacity() == 0 {
            read_first(&mut self.io, &mut self.buffer, context)
        } else {
            if self.buffer.capacity().saturating_sub(self.buffer.len()) < READ_ROOM {
                self.buffer.reserve(READ_BUFFER);
            }
            poll_read_buf(Pin::new(&mut self.io), context, &mut self.buffer)
        };
        match read {
            Poll::Pending => Ok(Step::Waits),
            Poll::Ready(Ok(0)) => Err(Ending::ClientClosed),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Ending::ClientClosed)
            }
            Poll::Ready(Err(error)) => Err(Ending::Lost(error.kind())),
            Poll::Ready(Ok(_)) => {
                self.silence.heard = now;
                self.silence.asked = None;
                self.apply(now)?;
                Ok(Step::Moved)
            }
        }
    }

    /// Applies every frame that has come, under one lock.
    fn apply(&mut self, now: Instant) -> Result<(), Fault> {
        let Self { shared, reader, decoder, buffer, .. } = self;
        shared.with(|state| {
            while let Some(frame) = reader.next(buffer)? {
                state.handle(frame, decoder, now)?;
            }
            Ok(())
        })
    }

    fn write(&mut self, context: &mut Context<'_>, now: Instant) -> Result<Step, Ending> {
        let mut step = Step::Waits;
        loop {
            let out = &mut self.out;
            self.shared.with(|state| state.fill(out, now));
            if self.out.is_empty() {
                break;
            }
            match self.write_some(context) {
                Poll::Ready(result) => result.map_err(|error| Ending::Lost(error.kind()))?,
                Poll::Pending => return Ok(step),
            }
            step = Step::Moved;
        }
        if self.unflushed {
            match Pin::new(&mut self.io).poll_flush(context) {
                Poll::Ready(result) => {
                    result.map_err(|error| Ending::Lost(error.kind()))?;
                    self.unflushed = false;
                }
                Poll::Pending => {}
            }
        }
        Ok(step)
    }

    fn write_some(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let slices = self.out.slices();
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, &slices))?;
        drop(slices);
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.out.advance(written);
        self.unflushed = true;
        Poll::Ready(Ok(()))
    }

    fn keep_time(&mut self, context: &mut Context<'_>, now: Instant) -> Result<(), Ending> {
        let (busy, idle_timeout) = self.shared.with(|state| {
            (state.open > 0 || state.drain == Drain::Told, state.settings.idle_timeout)
        });
        if busy {
            self.silence.idle = None;
            if !self.ticking {
                self.ticking = true;
                self.timer.as_mut().reset(now + TICK);
            }
        } else {
            self.silence.idle.get_or_insert(now);
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        let silence = &mut self.silence;
        if let Some(ending) = self.shared.with(|state| state.tick(silence, now)) {
            return Err(ending);
        }
        self.ticking = busy;
        let next = match self.silence.idle {
            Some(idle) if !busy => (idle + idle_timeout).max(now + TICK),
            _ => now + TICK,
        };
        self.timer.as_mut().reset(next);
        self.release(now);
        // The timer must be polled once to be armed.
        if self.timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Lets the buffers go where nothing came for a tick, or no stream is open.
    fn release(&mut self, now: Instant) {
        let quiet = self.silence.idle.is_some()
            || now.saturating_duration_since(self.silence.heard) >= TICK;
        if quiet && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.out.shrink();
        }
    }

    /// Whether there is nothing to do until someone wakes us.
    fn may_sleep(&mut self) -> Result<bool, Ending> {
        if self.silence.idle.is_some() {
            self.release(self.silence.heard);
        }
        let (empty, flushed) = (self.out.is_empty(), !self.unflushed);
        self.shared.with(|state| {
            if let Some(ending) = state.verdict().filter(|_| state.close || empty && flushed) {
                return Err(ending);
            }
            // With bytes unsent the peer's socket wakes us, and nobody else need: what is queued
            // meanwhile joins them.
            let sleeps = !state.has_output() || !empty;
            state.driver_awake = !(sleeps && empty);
            Ok(sleeps)
        })
    }

    /// Ends every stream and begins to leave, with GOAWAY where the peer is there to read it.
    fn leave(&mut self, ending: Ending) {
        let code = match ending {
            Ending::Violation(fault) | Ending::Flood(fault) => Some(fault.code),
            Ending::Idle | Ending::Closed | Ending::Drained => Some(Code::NO_ERROR),
            Ending::ClientClosed | Ending::Lost(_) | Ending::Silent => None,
        };
        let out = &mut self.out;
        self.shared.with(|state| {
            state.end(ending);
            match code {
                Some(code) => {
                    encode::goaway(state.last_id, code, &mut state.control);
                    out.put_frames(&mut state.control);
                }
                None => *out = Outbox::default(),
            }
        });
        self.buffer = BytesMut::new();
        self.timer.as_mut().reset(Instant::now() + LINGER);
        self.leaving = Some(Leaving { ending, shut: false, discarded: 0 });
    }

    /// Writes what is left, closes, and reads until the peer has closed too.
    fn linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        while !self.out.is_empty() {
            if ready!(self.write_some(context)).is_err() {
                return Poll::Ready(());
            }
        }
        let Some(leaving) = &mut self.leaving else { return Poll::Ready(()) };
        if !leaving.shut {
            if ready!(Pin::new(&mut self.io).poll_shutdown(context)).is_err() {
                return Poll::Ready(());
            }
            leaving.shut = true;
        }
        let expects = matches!(leaving.ending, Ending::Violation(_) | Ending::Flood(_));
        while expects && leaving.discarded < LINGER_BYTES {
            self.buffer.clear();
            match ready!(read_first(&mut self.io, &mut self.buffer, context)) {
                Ok(1..) => leaving.discarded = leaving.discarded.saturating_add(FIRST_BYTES),
                Ok(0) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

/// Reads through the stack, so that waiting for bytes needs no buffer.
fn read_first<Io: AsyncRead + Unpin>(
    io: &mut Io,
    buffer: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut first = [0; FIRST_BYTES];
    let mut first = ReadBuf::new(&mut first);
    ready!(Pin::new(io).poll_read(context, &mut first))?;
    if !first.filled().is_empty() {
        buffer.reserve(READ_BUFFER);
        buffer.extend_from_slice(first.filled());
    }
    Poll::Ready(Ok(first.filled().len()))
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Future for Driver<Io> {
    type Output = Ending;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ending> {
        let this = &mut *self;
        if this.leaving.is_none() {
            match ready!(this.run(context)) {
                Ok(()) => return Poll::Pending,
                Err(ending) => this.leave(ending),
            }
        }
        ready!(this.linger(context));
        let ending = this.leaving.as_ref().map_or(Ending::Closed, |leaving| leaving.ending);
        Poll::Ready(ending)
    }
}

impl<Io> Drop for Driver<Io> {
    fn drop(&mut self) {
        self.shared.with(|state| state.end(Ending::Closed));
    }
}
