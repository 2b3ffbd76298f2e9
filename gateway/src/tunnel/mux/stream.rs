//! One stream as bytes: `AsyncRead` and `AsyncWrite`, and chunks without a copy.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use gateway_proto::fields::Fields;
use gateway_proto::h2::Code;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::Shared;

/// Both directions of one stream. `shutdown` ends our direction (END_STREAM); dropping it before
/// that resets the stream (`CANCEL`).
#[derive(Debug)]
pub struct MuxStream {
    recv: Option<RecvHalf>,
    send: SendHalf,
}

/// What the peer sends. Dropped before its end, the rest is discarded.
#[derive(Debug)]
pub struct RecvHalf {
    shared: Arc<Shared>,
    id: u32,
    /// Taken from the connection, not yet read.
    current: Bytes,
}

/// What we send. Dropped before [`SendHalf::finish`] or `shutdown`, it resets the stream.
#[derive(Debug)]
pub struct SendHalf {
    shared: Arc<Shared>,
    id: u32,
    finished: bool,
}

impl MuxStream {
    pub(super) fn new(recv: Option<RecvHalf>, send: SendHalf) -> Self {
        Self { recv, send }
    }

    /// The next bytes without a copy, or `None` at the peer's end.
    ///
    /// # Errors
    /// Where the stream or the tunnel broke off (a [`super::StreamFault`] inside).
    pub async fn read_chunk(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|context| self.poll_chunk(context)).await
    }

    /// See [`MuxStream::read_chunk`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        match &mut self.recv {
            Some(recv) => recv.poll_chunk(context),
            None => Poll::Ready(Ok(None)),
        }
    }

    /// Queues `chunk` without a copy, once there is room.
    ///
    /// # Errors
    /// Where the stream or the tunnel broke off.
    pub async fn write_chunk(&mut self, chunk: Bytes) -> io::Result<()> {
        self.send.write_chunk(chunk).await
    }

    /// Ends our direction with trailer fields; empty ones are a plain end.
    ///
    /// # Errors
    /// Where the stream or the tunnel broke off.
    pub fn finish(self, trailers: &Fields) -> io::Result<()> {
        self.send.finish(trailers)
    }

    /// Both directions apart. `None` where the body was taken before.
    #[must_use]
    pub fn into_split(self) -> (Option<RecvHalf>, SendHalf) {
        (self.recv, self.send)
    }

    /// Ready when the peer has given the stream up (or the tunnel ended).
    pub fn poll_abandoned(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.send.poll_broken(context)
    }

    /// Breaks the stream off with `code`.
    pub fn reset(self, code: Code) {
        self.send.reset(code);
    }
}

impl RecvHalf {
    pub(super) fn new(shared: Arc<Shared>, id: u32) -> Self {
        Self { shared, id, current: Bytes::new() }
    }

    /// As [`MuxStream::read_chunk`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_chunk(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|context| self.poll_chunk(context)).await
    }

    /// As [`MuxStream::poll_chunk`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if self.current.is_empty() {
            return self.shared.poll_chunk(self.id, context);
        }
        Poll::Ready(Ok(Some(std::mem::take(&mut self.current))))
    }

    /// The peer's trailer fields, once the end has been read.
    #[must_use]
    pub fn trailers(&mut self) -> Option<Fields> {
        self.shared.take_trailers(self.id)
    }
}

impl SendHalf {
    pub(super) fn new(shared: Arc<Shared>, id: u32) -> Self {
        Self { shared, id, finished: false }
    }

    pub(super) fn head(&self, status: u16, fields: &Fields) {
        self.shared.send_head(self.id, status, fields);
    }

    /// Queues a whole response, its body beyond the buffer's bound (it is in memory anyway).
    pub(super) fn whole(&mut self, status: u16, fields: &Fields, body: Bytes) {
        self.finished = true;
        self.shared.send_whole(self.id, status, fields, body);
    }

    /// As [`MuxStream::write_chunk`].
    ///
    /// # Errors
    /// As there.
    pub async fn write_chunk(&mut self, chunk: Bytes) -> io::Result<()> {
        poll_fn(|context| self.poll_ready(context)).await?;
        self.shared.push(self.id, chunk);
        Ok(())
    }

    /// Ready when there is room for a chunk.
    ///
    /// # Errors
    /// Where the stream or the tunnel broke off.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.shared.poll_room(self.id, context))?;
        Poll::Ready(Ok(()))
    }

    /// Queues `chunk` now; call after [`SendHalf::poll_ready`].
    pub fn push(&mut self, chunk: Bytes) {
        self.shared.push(self.id, chunk);
    }

    /// As [`MuxStream::finish`].
    ///
    /// # Errors
    /// As there.
    pub fn finish(mut self, trailers: &Fields) -> io::Result<()> {
        self.finished = true;
        self.shared.alive(self.id)?;
        self.shared.finish(self.id, Some(trailers).filter(|fields| !fields.is_empty()));
        Ok(())
    }

    /// Breaks the stream off with `code`.
    pub fn reset(mut self, code: Code) {
        self.finished = true;
        self.shared.reset(self.id, code);
    }

    pub(super) fn poll_broken(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.shared.poll_broken(self.id, context)
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        self.shared.drop_reader(self.id);
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.shared.drop_writer(self.id, self.finished);
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.current.is_empty() {
            match ready!(self.shared.poll_chunk(self.id, context))? {
                Some(chunk) => self.current = chunk,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.current.len().min(buffer.remaining());
        if let Some((now, _)) = self.current.split_at_checked(length) {
            buffer.put_slice(now);
        }
        self.current.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = ready!(self.shared.poll_room(self.id, context))?;
        let (now, _) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.shared.push_copy(self.id, now);
        Poll::Ready(Ok(now.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = ready!(self.shared.poll_room(self.id, context))?;
        Poll::Ready(Ok(self.shared.push_slices(self.id, slices, room)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Queued bytes are sent as fast as the peer's windows allow; nothing waits for a flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shared.alive(self.id))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            self.finished = true;
            self.shared.alive(self.id)?;
            self.shared.finish(self.id, None);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.recv {
            Some(recv) => Pin::new(recv).poll_read(context, buffer),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_shutdown(context)
    }
}
