//! An HTTP/2 stream as a byte stream: what a CONNECT leaves behind.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most handed to HTTP/2 in one write.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Reading returns window as it goes; writing waits for the peer's.
pub struct H2Stream {
    sender: SendStream<Bytes>,
    receiver: RecvStream,
    unread: Bytes,
}

impl H2Stream {
    #[must_use]
    pub fn new(sender: SendStream<Bytes>, receiver: RecvStream) -> Self {
        Self { sender, receiver, unread: Bytes::new() }
    }

    /// Ends the stream with RST_STREAM.
    pub fn reset(mut self, reason: Reason) {
        self.sender.send_reset(reason);
    }
}

impl Drop for H2Stream {
    /// As a TCP socket does: what was written still goes out (a TLS alert, say). Without this the
    /// library would reset the stream and drop what is queued.
    fn drop(&mut self) {
        // Fails where the stream has ended already.
        self.sender.send_data(Bytes::new(), true).ok();
    }
}

impl AsyncRead for H2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.receiver.poll_data(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                Some(Ok(data)) => self.unread = data,
            }
        }
        let now = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..now]);
        self.unread.advance(now);
        // Fails only where the stream is gone, which the next read says.
        self.receiver.flow_control().release_capacity(now).ok();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for H2Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.sender.reserve_capacity(data.len().min(WRITE_BYTES_MAX));
        // Capacity may already be there, and then poll_capacity would not report it again.
        let mut room = self.sender.capacity();
        if room == 0 {
            room = match ready!(self.sender.poll_capacity(context)) {
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                Some(Ok(room)) => room,
            };
        }
        let now = room.min(data.len());
        let sent = self.sender.send_data(Bytes::copy_from_slice(&data[..now]), false);
        Poll::Ready(sent.map(|()| now).map_err(io::Error::other))
    }

    /// All pieces at once: TLS libraries write their last words, the alert behind another record,
    /// in one attempt.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut all = Vec::new();
        for piece in pieces {
            all.extend_from_slice(piece);
            if all.len() >= WRITE_BYTES_MAX {
                break;
            }
        }
        self.poll_write(context, &all)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.sender.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}
