//! A link in virtual time: a rate, a latency, and a socket buffer. Under paused time a transfer
//! over it takes as long as on a real one, and the same every run.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What a sender may be ahead of the wire: its socket buffer.
const AHEAD: Duration = Duration::from_millis(5);

/// Bytes that arrive together.
const SEGMENT: usize = 16 * 1024;

pub(super) struct Link {
    pub(super) bytes_per_second: u64,
    pub(super) latency: Duration,
}

#[derive(Default)]
struct Pipe {
    flight: VecDeque<(Instant, Bytes)>,
    busy_until: Option<Instant>,
    closed: bool,
    reader: Option<Waker>,
}

pub(super) struct End {
    from: Arc<Mutex<Pipe>>,
    to: Arc<Mutex<Pipe>>,
    link: Arc<Link>,
    arrival: Pin<Box<Sleep>>,
    room: Pin<Box<Sleep>>,
}

impl Link {
    pub(super) fn ends(self) -> (End, End) {
        let link = Arc::new(self);
        let (up, down) = (Arc::<Mutex<Pipe>>::default(), Arc::<Mutex<Pipe>>::default());
        let end = |from: &Arc<Mutex<Pipe>>, to: &Arc<Mutex<Pipe>>| End {
            from: Arc::clone(from),
            to: Arc::clone(to),
            link: Arc::clone(&link),
            arrival: Box::pin(tokio::time::sleep(Duration::ZERO)),
            room: Box::pin(tokio::time::sleep(Duration::ZERO)),
        };
        (end(&down, &up), end(&up, &down))
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let from = Arc::clone(&self.from);
        let mut pipe = from.lock().unwrap();
        let Some((arrival, bytes)) = pipe.flight.front_mut() else {
            if !pipe.closed {
                pipe.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            return Poll::Ready(Ok(()));
        };
        if *arrival > Instant::now() {
            let arrival = *arrival;
            self.arrival.as_mut().reset(arrival);
            if self.arrival.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        let length = bytes.len().min(buffer.remaining());
        buffer.put_slice(bytes.get(..length).unwrap());
        bytes.advance(length);
        if bytes.is_empty() {
            pipe.flight.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let to = Arc::clone(&self.to);
        let mut pipe = to.lock().unwrap();
        let now = Instant::now();
        let start = pipe.busy_until.unwrap_or(now).max(now);
        if start > now + AHEAD {
            self.room.as_mut().reset(start - AHEAD);
            if self.room.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        let length = bytes.len().min(SEGMENT);
        let nanos = length as u64 * 1_000_000_000 / self.link.bytes_per_second;
        let sent = start + Duration::from_nanos(nanos);
        pipe.busy_until = Some(sent);
        let segment = Bytes::copy_from_slice(bytes.get(..length).unwrap());
        pipe.flight.push_back((sent + self.link.latency, segment));
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.to.lock().unwrap();
        pipe.closed = true;
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut pipe = self.to.lock().unwrap();
        pipe.closed = true;
        pipe.reader.take().into_iter().for_each(Waker::wake);
    }
}
