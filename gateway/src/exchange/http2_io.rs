//! An HTTP/2 stream as a byte stream: what an accepted extended CONNECT leaves (RFC 8441).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::http2::io_error;

/// Most handed to HTTP/2 in one write: four frames of the usual size.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Both directions of one stream. Dropped before both have ended, it resets the stream (`CANCEL`),
/// which is the TCP reset of a tunnel (RFC 8441 section 5).
pub struct Http2Io {
    send: SendStream<Bytes>,
    receive: RecvStream,
    unread: Bytes,
    ended: bool,
}

impl Http2Io {
    #[must_use]
    pub fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self { send, receive, unread: Bytes::new(), ended: false }
    }
}

impl AsyncRead for Http2Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.receive.poll_data(context)) {
                // Trailers mean nothing in a byte stream; they end it too.
                None => return Poll::Ready(Ok(())),
                Some(data) => self.unread = data.map_err(io_error)?,
            }
        }
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(count));
        // Fails only where the stream is gone, which the next read says.
        drop(self.receive.flow_control().release_capacity(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(data.len().min(WRITE_BYTES_MAX));
        // Capacity that is there already is not reported again.
        let mut room = self.send.capacity();
        if room == 0 {
            room = match ready!(self.send.poll_capacity(context)) {
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Some(room) => room.map_err(io_error)?,
            };
        }
        let mut piece = data;
        let piece = Buf::copy_to_bytes(&mut piece, room.min(data.len()));
        let count = piece.len();
        self.send.send_data(piece, false).map_err(io_error)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection writes by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            self.ended = true;
            self.send.send_data(Bytes::new(), true).map_err(io_error)?;
        }
        Poll::Ready(Ok(()))
    }
}
