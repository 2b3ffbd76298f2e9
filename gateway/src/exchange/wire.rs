//! One HTTP/1.1 connection's bytes: a read buffer, a write buffer, and the transport beneath.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

/// First read: a request head with its cookies usually fits.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Bulk reads: four TLS records at a time; more only costs cache.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Data up to this size is copied behind the head so that both leave in one record; above it a
/// copy costs more than a second write.
const COALESCE_BYTES_MAX: usize = 8 * 1024;

/// Buffered transport of one connection.
pub struct Wire<Io> {
    io: Io,
    /// What was read and not yet understood.
    pub read: BytesMut,
    read_size: usize,
    out: BytesMut,
    large: Bytes,
    /// Written right behind `large`: the line end of a chunk.
    tail: &'static [u8],
    at_end: bool,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Wire<Io> {
    pub fn new(io: Io) -> Self {
        Self {
            io,
            read: BytesMut::new(),
            read_size: READ_BYTES_MIN,
            out: BytesMut::new(),
            large: Bytes::new(),
            tail: b"",
            at_end: false,
        }
    }

    pub fn io(&self) -> &Io {
        &self.io
    }

    /// The transport and what was read from it but not used.
    pub fn into_parts(self) -> (Io, Bytes) {
        // An empty buffer must not keep its room for as long as the transport lives on.
        let rest = if self.read.is_empty() { Bytes::new() } else { self.read.freeze() };
        (self.io, rest)
    }

    /// Whether the peer has ended its side.
    pub fn at_end(&self) -> bool {
        self.at_end
    }

    /// Reads more into `read`; ready with the number of new bytes, 0 at the end of the stream.
    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.at_end {
            return Poll::Ready(Ok(0));
        }
        self.read.reserve(self.read_size);
        let filled = ready!(poll_read_into(&mut self.io, &mut self.read, context))?;
        if filled == 0 {
            self.at_end = true;
        }
        // Reads that fill their buffer announce bulk; small ones give the memory back.
        if filled >= self.read_size {
            self.read_size = (self.read_size * 2).min(READ_BYTES_MAX);
        } else if filled < self.read_size / 4 {
            self.read_size = (self.read_size / 2).max(READ_BYTES_MIN);
        }
        Poll::Ready(Ok(filled))
    }

    /// Appends bytes to be written, such as a head.
    pub fn buffer(&mut self) -> &mut BytesMut {
        debug_assert!(self.large.is_empty(), "a frame was sent before the sink was ready");
        &mut self.out
    }

    /// Queues body data behind what is buffered. Only when [`Self::poll_room`] is ready.
    pub fn queue(&mut self, data: Bytes) {
        if data.len() <= COALESCE_BYTES_MAX {
            self.out.extend_from_slice(&data);
        } else {
            self.large = data;
        }
    }

    /// Queues a chunk's data and the line end that closes it.
    pub fn queue_chunk(&mut self, data: Bytes) {
        self.queue(data);
        if self.large.is_empty() {
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.tail = b"\r\n";
        }
    }

    /// Whether bytes wait to be written.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty() || !self.large.is_empty()
    }

    /// Ready when one more piece may be queued: no large piece waits and little is buffered.
    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.large.is_empty() || self.out.len() > COALESCE_BYTES_MAX {
            ready!(self.poll_write_once(context))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes and flushes all output.
    pub fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.has_output() {
            ready!(self.poll_write_once(context))?;
        }
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Ends our side of the transport.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| {
            ready!(self.poll_drain(context))?;
            Pin::new(&mut self.io).poll_shutdown(context)
        })
        .await
    }

    fn poll_write_once(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = Pin::new(&mut self.io);
        let written = if self.large.is_empty() {
            ready!(io.poll_write(context, &self.out))?
        } else if self.out.is_empty() {
            ready!(io.poll_write(context, &self.large))?
        } else {
            let pieces = [IoSlice::new(&self.out), IoSlice::new(&self.large)];
            ready!(io.poll_write_vectored(context, &pieces))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let from_out = written.min(self.out.len());
        self.out.advance(from_out);
        self.large.advance(written - from_out);
        if self.large.is_empty() && from_out < written {
            self.out.extend_from_slice(std::mem::take(&mut self.tail));
        }
        Poll::Ready(Ok(()))
    }

    /// Gives buffer memory back while the connection idles between exchanges.
    pub fn release_idle_memory(&mut self) {
        if self.read.is_empty() && self.read.capacity() > READ_BYTES_MIN {
            self.read = BytesMut::new();
            self.read_size = READ_BYTES_MIN;
        }
        if self.out.is_empty() && self.out.capacity() > READ_BYTES_MIN {
            self.out = BytesMut::new();
        }
    }
}

/// Reads once into spare capacity of `buffer`.
fn poll_read_into<Io: AsyncRead + Unpin>(
    io: &mut Io,
    buffer: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    use bytes::BufMut;
    use tokio_util::io::poll_read_buf;
    let mut limited = buffer.limit(READ_BYTES_MAX);
    poll_read_buf(Pin::new(io), context, &mut limited)
}
