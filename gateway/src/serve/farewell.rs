//! The last word to the client of a WebSocket that the gateway ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use gateway_proto::websocket::{FrameWalk, close};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Read at a time while the client's Close is awaited; what else comes is dropped.
const REST_BYTES: usize = 4 * 1024;

/// A client's side that knows where its frames begin and end.
pub(super) struct Framed<Io> {
    io: Io,
    to_client: FrameWalk,
    from_client: FrameWalk,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Framed<Io> {
    /// `io` carries frames from here on.
    pub(super) fn new(io: Io) -> Self {
        Self { io, to_client: FrameWalk::default(), from_client: FrameWalk::default() }
    }

    pub(super) fn inner(&self) -> &Io {
        &self.io
    }

    /// Says Close with this code where a frame may stand, and waits until the client has answered it.
    /// Amid a frame nothing can be said: its end is still to come from the origin.
    ///
    /// # Errors
    /// Where the client is gone.
    pub(super) async fn say_farewell(&mut self, code: u16) -> io::Result<()> {
        if !self.to_client.is_open_between_frames() {
            return Ok(());
        }
        self.io.write_all(&close(code)).await?;
        self.io.flush().await?;
        let mut rest = vec![0; REST_BYTES];
        // An end without an answer is one too.
        while !self.from_client.has_closed() && self.read(&mut rest).await? > 0 {}
        self.io.shutdown().await
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Framed<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        self.from_client.advance(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Framed<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write(context, bytes))?;
        self.to_client.advance(bytes.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
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

    use gateway_proto::websocket::SERVICE_RESTART;

    use super::*;

    /// What the client gets after `sent`, and whether the farewell ended by its answer.
    async fn farewell(sent: &[u8], answer: &[u8]) -> Vec<u8> {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut framed = Framed::new(ours);
        framed.write_all(sent).await.unwrap();
        theirs.write_all(answer).await.unwrap();
        framed.say_farewell(SERVICE_RESTART).await.unwrap();
        drop(framed);
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.unwrap();
        got.split_off(sent.len())
    }

    #[tokio::test]
    async fn the_farewell_stands_between_frames_and_never_amid_one() {
        let answer = [0x88, 0x82, 1, 2, 3, 4, 3 ^ 1, 0xf4 ^ 2];
        let whole = [0x81, 2, b'h', b'i'];
        assert_eq!(farewell(&whole, &answer).await, [0x88, 2, 3, 0xf4]);
        assert_eq!(farewell(&[], &answer).await, [0x88, 2, 3, 0xf4]);
        for cut in [&[0x81][..], &[0x81, 2], &[0x81, 2, b'h']] {
            assert!(farewell(cut, &answer).await.is_empty(), "{cut:?}");
        }
        // After the origin's own Close there is nothing left to say.
        assert!(farewell(&[0x88, 0], &answer).await.is_empty());
    }
}
