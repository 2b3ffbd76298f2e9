//! A TCP connection of a stack as a stream, and the task that drives it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use smoltcp::socket::tcp::State;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::PacketStack;
use super::flow::{Readable, TcpFlow};
use super::stack::Shared;
use super::tables::Key;

/// A dropped stream has so long to get rid of what was written; then it is reset.
const LINGER: Duration = Duration::from_secs(5);

/// A TCP connection through a stack. Dropping it sends what was written, then FIN.
pub struct PacketStream {
    /// Keeps the stack working; `None` for accepted streams, whose server does.
    _stack: Option<PacketStack>,
    flow: Arc<FlowHandle>,
}

/// A flow that its stream, its driver and the router share.
pub(super) struct FlowHandle {
    inner: Mutex<Inner>,
    /// Something happened that the driver must look at.
    changed: Notify,
}

struct Inner {
    flow: TcpFlow,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// When the stream was dropped.
    dropped: Option<Instant>,
}

impl FlowHandle {
    pub(super) fn new(flow: TcpFlow) -> Self {
        let inner = Inner { flow, reader: None, writer: None, dropped: None };
        Self { inner: Mutex::new(inner), changed: Notify::new() }
    }

    /// Takes a packet for this flow.
    pub(super) fn take(&self, packet: Vec<u8>) {
        self.inner().flow.handle_packet(packet);
        self.changed.notify_one();
    }

    /// Its packets have at most `mtu` bytes from now on; whether that is less than before.
    pub(super) fn narrow(&self, mtu: usize) -> bool {
        let narrower = self.inner().flow.narrow(mtu);
        self.changed.notify_one();
        narrower
    }

    pub(super) fn reset(&self) {
        self.inner().flow.abort();
        self.changed.notify_one();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// One turn of the flow: when to come back, and whether it is over.
    fn turn(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) -> (Option<Instant>, bool) {
        let mut due = self.flow.poll(now.into_std()).map(Instant::from_std);
        if self.flow.is_full() {
            due = Some(now);
        }
        out.extend(std::iter::from_fn(|| self.flow.poll_transmit()));
        if self.flow.can_read() {
            wake(&mut self.reader);
        }
        if self.flow.can_write() {
            wake(&mut self.writer);
        }
        let state = self.flow.state();
        let Some(dropped) = self.dropped else { return (due, state == State::Closed) };
        let last = dropped + LINGER;
        if now >= last {
            self.flow.abort();
            self.flow.poll(now.into_std());
            out.extend(std::iter::from_fn(|| self.flow.poll_transmit()));
            return (None, true);
        }
        // A client that forgets its port does not wait out late segments.
        let over = matches!(state, State::Closed | State::TimeWait);
        (Some(due.map_or(last, |due| due.min(last))), over)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Drives a flow until it is over.
pub(super) async fn drive(shared: Arc<Shared>, key: Key, flow: Arc<FlowHandle>) {
    let mut out = Vec::new();
    loop {
        let (due, over) = flow.inner().turn(Instant::now(), &mut out);
        for packet in out.drain(..) {
            if shared.outgoing.send(packet).await.is_err() {
                flow.inner().flow.abort();
            }
        }
        if over {
            break;
        }
        match due {
            Some(due) => tokio::select! {
                () = flow.changed.notified() => {}
                () = sleep_until(due) => {}
            },
            None => flow.changed.notified().await,
        }
    }
    shared.tables().flows.remove(&key);
    let mut inner = flow.inner();
    wake(&mut inner.reader);
    wake(&mut inner.writer);
}

impl PacketStream {
    pub(super) fn new(stack: Option<PacketStack>, flow: Arc<FlowHandle>) -> Self {
        Self { _stack: stack, flow }
    }

    /// Waits until the peer has answered.
    pub(super) async fn opened(&self) -> io::Result<()> {
        poll_fn(|context| {
            let mut inner = self.flow.inner();
            if inner.flow.is_opening() {
                inner.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            match inner.flow.state() {
                State::Closed => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
                _ => Poll::Ready(Ok(())),
            }
        })
        .await
    }

    /// Bytes written that the peer has not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.flow.inner().flow.unsent()
    }

    /// Resets the connection.
    pub fn reset(self) {
        self.flow.reset();
    }
}

impl Drop for PacketStream {
    fn drop(&mut self) {
        let mut inner = self.flow.inner();
        inner.dropped = Some(Instant::now());
        inner.flow.close();
        drop(inner);
        self.flow.changed.notify_one();
    }
}

impl AsyncRead for PacketStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.flow.inner();
        match inner.flow.read(buffer.initialize_unfilled())? {
            Readable::End => Poll::Ready(Ok(())),
            Readable::Nothing => {
                inner.reader = Some(context.waker().clone());
                Poll::Pending
            }
            Readable::Bytes(count) => {
                drop(inner);
                // The window has opened.
                self.flow.changed.notify_one();
                buffer.advance(count);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for PacketStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.flow.inner();
        let count = inner.flow.write(bytes)?;
        if count == 0 && !bytes.is_empty() {
            inner.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        drop(inner);
        self.flow.changed.notify_one();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // As with a kernel's TCP, what was written is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flow.inner().flow.close();
        self.flow.changed.notify_one();
        Poll::Ready(Ok(()))
    }
}
