//! A request stream of the QUIC client as a byte stream.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use gateway_proto::h3::{Event, FrameReader, put_data_header};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::HEAD_BYTES_MAX;

/// Most that goes out in one DATA frame.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// What CONNECT leaves behind, or any request's body.
pub struct QuicStream {
    pub send: SendStream,
    pub recv: RecvStream,
    frames: FrameReader,
    raw: Bytes,
    payload: Bytes,
    unsent: Bytes,
}

impl QuicStream {
    pub(super) fn new(send: SendStream, recv: RecvStream) -> Self {
        let frames = FrameReader::request(HEAD_BYTES_MAX as u64);
        let (raw, payload, unsent) = Default::default();
        Self { send, recv, frames, raw, payload, unsent }
    }

    #[must_use]
    pub fn id(&self) -> u64 {
        VarInt::from(self.recv.id()).into_inner()
    }

    pub(super) async fn head(&mut self) -> io::Result<Bytes> {
        match poll_fn(|context| self.poll_event(context)).await? {
            Some(Event::Headers(section)) => Ok(section),
            other => Err(io::Error::other(format!("{other:?} instead of a head"))),
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Event>>> {
        loop {
            if let Some(event) = self.frames.next(&mut self.raw).map_err(io::Error::other)? {
                return Poll::Ready(Ok(Some(event)));
            }
            match ready!(pin!(self.recv.read_chunk(usize::MAX, true)).poll(context)) {
                Ok(Some(chunk)) => self.raw = chunk.bytes,
                Ok(None) => return Poll::Ready(Ok(None)),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let mut pieces = [std::mem::take(&mut self.unsent)];
            let written = pin!(self.send.write_chunks(&mut pieces)).poll(context);
            [self.unsent] = pieces;
            ready!(written).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.payload.is_empty() {
            match ready!(self.poll_event(context))? {
                Some(Event::Data(data)) => self.payload = data,
                Some(_) => {}
                None => return Poll::Ready(Ok(())),
            }
        }
        let now = self.payload.len().min(buffer.remaining());
        buffer.put_slice(&self.payload[..now]);
        self.payload.advance(now);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(context))?;
        let now = &data[..data.len().min(FRAME_BYTES_MAX)];
        let mut frame = BytesMut::with_capacity(now.len() + 16);
        put_data_header(now.len() as u64, &mut frame);
        frame.extend_from_slice(now);
        self.unsent = frame.freeze();
        if let Poll::Ready(Err(error)) = self.poll_unsent(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(now.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unsent(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(context))?;
        // Where it has ended already it is no news.
        self.send.finish().ok();
        Poll::Ready(Ok(()))
    }
}
