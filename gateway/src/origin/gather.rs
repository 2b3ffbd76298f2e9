//! Gathers what an HTTP/2 connection writes within one turn of its driver: each frame is encrypted as it
//! comes, and all of them leave in one system call. `h2` flushes after every DATA frame, which alone would
//! cost a call and a segment for each 16 KiB of an upload.

use std::io::{self, IoSlice, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

/// Held back at most, encrypted: four full records with their heads, which is what one call carries well.
const HELD_BYTES_MAX: usize = 66 * 1024;

/// The writing and reading end that HTTP/2 gets.
pub struct Gather<Io>(Arc<Mutex<Box<TlsStream<Io>>>>);

/// Lets go of what was held back, after each turn.
pub struct Turns<Io>(Arc<Mutex<Box<TlsStream<Io>>>>);

impl<Io: AsyncRead + AsyncWrite + Unpin> Gather<Io> {
    /// The end for HTTP/2, and what its driver must be run with: nothing is sent without it.
    #[must_use]
    pub fn new(mut stream: Box<TlsStream<Io>>) -> (Self, Turns<Io>) {
        stream.get_mut().1.set_buffer_limit(Some(HELD_BYTES_MAX));
        let shared = Arc::new(Mutex::new(stream));
        (Self(Arc::clone(&shared)), Turns(shared))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Turns<Io> {
    /// Runs `driver`, and sends after each of its turns what it wrote. Ends with it, or where the
    /// transport takes nothing any more.
    pub async fn run(self, driver: impl Future<Output = ()>) {
        let mut driver = pin!(driver);
        std::future::poll_fn(|context| {
            let turn = driver.as_mut().poll(context);
            match Pin::new(&mut **self.0.lock()).poll_flush(context) {
                Poll::Ready(Err(_)) => Poll::Ready(()),
                Poll::Ready(Ok(())) | Poll::Pending => turn,
            }
        })
        .await;
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gather<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.0.lock()).poll_read(context, buffer)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gather<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if pieces.iter().all(|piece| piece.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let mut stream = self.0.lock();
        loop {
            // The session encrypts as much as its limit has room for, and sends nothing by itself.
            let taken = stream.get_mut().1.writer().write_vectored(pieces)?;
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
            ready!(Pin::new(&mut **stream).poll_flush(context))?;
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The turn's end does it.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.0.lock()).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
