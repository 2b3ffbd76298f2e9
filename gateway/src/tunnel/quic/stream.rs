//! One request stream as bytes: `AsyncRead` and `AsyncWrite` over DATA frames.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use gateway_proto::h3::{Code, Event, Fault, FrameReader, put_data_header};
use quinn::{ReadError, VarInt, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::datagrams::Datagrams;
use super::http3::Arriving;
use super::shared::number;

/// Packets' payloads taken at a time: what one read of the port joins.
const READ_CHUNKS: usize = 32;
/// What one DATA frame of ours carries at most; what is taken before the client has room for it.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// A stream whose head is being read. Dropped, it says nothing to the client: whoever has it goes on with it.
pub(super) struct Begun {
    pub(super) arriving: Arriving,
    pub(super) frames: FrameReader,
    /// Bytes of the stream that were read and not yet taken apart.
    pub(super) raw: VecDeque<Bytes>,
    ended: bool,
}

impl Begun {
    pub(super) fn new(arriving: Arriving, frames: FrameReader) -> Self {
        Self { arriving, frames, raw: VecDeque::new(), ended: false }
    }

    /// The next thing on the stream, payload or not; `None` at its end.
    pub(super) async fn event(&mut self) -> io::Result<Option<Event>> {
        poll_fn(|context| self.poll_event(context)).await
    }

    fn fail(&self, fault: Fault) -> io::Error {
        self.arriving.shared.fail(fault)
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Event>>> {
        loop {
            while let Some(bytes) = self.raw.front_mut() {
                let event = self.frames.next(bytes);
                if bytes.is_empty() {
                    self.raw.pop_front();
                }
                match event {
                    Ok(None) => {}
                    Ok(event) => return Poll::Ready(Ok(event)),
                    Err(fault) => return Poll::Ready(Err(self.fail(fault))),
                }
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            // An idle stream holds nothing.
            self.raw = VecDeque::new();
            ready!(self.poll_more(context))?;
        }
    }

    /// Reads what has come, without copying it.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunks = [const { Bytes::new() }; READ_CHUNKS];
        let read = { pin!(self.arriving.recv.read_chunks(&mut chunks)).poll(context) };
        match ready!(read) {
            Ok(Some(count)) => self.raw.extend(chunks.into_iter().take(count)),
            Ok(None) => {
                self.ended = true;
                self.frames.finish().map_err(|fault| self.fail(fault))?;
            }
            Err(error) => return Poll::Ready(Err(read_error(&error))),
        }
        Poll::Ready(Ok(()))
    }
}

/// Both directions of one stream. `shutdown` ends our direction; dropping it before that breaks
/// the stream off.
pub struct QuicStream {
    begun: Begun,
    /// Payload that was taken out and not yet given on.
    payload: Bytes,
    /// Framed, and to be sent first: a header and its payload.
    unsent: [Bytes; 2],
    /// Bytes of a body still to come, where the head says how many.
    length_left: Option<u64>,
    finished: bool,
    tunnel: bool,
}

impl QuicStream {
    pub(super) fn new(begun: Begun) -> Self {
        Self {
            begun,
            payload: Bytes::new(),
            unsent: Default::default(),
            length_left: None,
            finished: false,
            tunnel: false,
        }
    }

    /// Counts a stream that came to nothing.
    pub(super) fn given_up(&self) {
        self.begun.arriving.shared.given_up();
    }

    /// What follows the head: a tunnel's bytes, or a body of so many.
    pub(super) fn follow(&mut self, tunnel: bool, length: Option<u64>) {
        self.tunnel = tunnel;
        self.length_left = length;
        if tunnel {
            self.begun.frames.tunnel();
        }
    }

    pub(super) fn datagrams(&self) -> Datagrams {
        Datagrams::open(
            &self.begun.arriving.shared,
            u64::from(VarInt::from(self.begun.arriving.recv.id())),
        )
    }

    /// The next payload; `None` at its end.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if !self.payload.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.payload))));
        }
        loop {
            match ready!(self.begun.poll_event(context))? {
                Some(Event::Data(data)) if data.is_empty() => {}
                Some(Event::Data(data)) => {
                    self.count(data.len())?;
                    return Poll::Ready(Ok(Some(data)));
                }
                // Trailers towards a proxy say nothing that it could use.
                Some(_) => {}
                None => {
                    if self.length_left.is_some_and(|left| left > 0) {
                        return Poll::Ready(Err(self.malformed()));
                    }
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }

    /// Counts bytes of a body against what its head said (RFC 9114 section 4.1.2).
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        let Some(left) = &mut self.length_left else { return Ok(()) };
        match left.checked_sub(bytes as u64) {
            Some(fewer) => *left = fewer,
            None => return Err(self.malformed()),
        }
        Ok(())
    }

    fn malformed(&mut self) -> io::Error {
        self.given_up();
        self.reset(Code::MESSAGE_ERROR);
        io::Error::new(io::ErrorKind::InvalidData, "a body of another length than its head says")
    }

    /// The next payload; `None` at its end.
    ///
    /// # Errors
    /// Where the stream breaks.
    pub async fn read_chunk(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|context| self.poll_chunk(context)).await
    }

    /// Sends payload without copying it.
    ///
    /// # Errors
    /// Where the stream breaks.
    pub async fn write_chunk(&mut self, payload: Bytes) -> io::Result<()> {
        poll_fn(|context| self.poll_unsent(context)).await?;
        self.frame(payload);
        poll_fn(|context| self.poll_unsent(context)).await
    }

    /// Sends bytes that are frames already.
    pub(super) async fn put(&mut self, frames: Bytes) -> io::Result<()> {
        self.unsent = [frames, Bytes::new()];
        poll_fn(|context| self.poll_unsent(context)).await
    }

    fn frame(&mut self, payload: Bytes) {
        let mut header = BytesMut::with_capacity(16);
        put_data_header(payload.len() as u64, &mut header);
        self.unsent = [header.freeze(), payload];
    }

    /// Sends what is framed, as far as the client has room.
    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.iter().any(|piece| !piece.is_empty()) {
            let [header, payload] = &mut self.unsent;
            // A piece that is used up must not stand before one that is not.
            let pieces: &mut [Bytes] =
                if header.is_empty() { std::slice::from_mut(payload) } else { &mut self.unsent };
            let written = pin!(self.begun.arriving.send.write_chunks(pieces)).poll(context);
            ready!(written).map_err(|error| write_error(&error))?;
        }
        self.unsent = Default::default();
        Poll::Ready(Ok(()))
    }

    /// Ends our direction.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        // Where the client has stopped it, it is over too.
        drop(self.begun.arriving.send.finish());
    }

    /// Breaks the stream off.
    pub fn reset(&mut self, code: Code) {
        self.finished = true;
        self.begun.ended = true;
        // Each direction that has ended stays so.
        drop(self.begun.arriving.send.reset(number(code)));
        drop(self.begun.arriving.recv.stop(number(code)));
    }

    fn poll_copy(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.payload.is_empty() {
            match ready!(self.poll_chunk(context))? {
                Some(payload) => self.payload = payload,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.payload.len().min(buffer.remaining());
        if let Some((now, _)) = self.payload.split_at_checked(length) {
            buffer.put_slice(now);
        }
        self.payload.advance(length);
        Poll::Ready(Ok(()))
    }
}

fn read_error(error: &ReadError) -> io::Error {
    match error {
        ReadError::Reset(_) => io::Error::new(io::ErrorKind::ConnectionReset, error.clone()),
        _ => io::Error::new(io::ErrorKind::ConnectionAborted, error.clone()),
    }
}

fn write_error(error: &WriteError) -> io::Error {
    match error {
        WriteError::Stopped(_) => io::Error::new(io::ErrorKind::ConnectionReset, error.clone()),
        _ => io::Error::new(io::ErrorKind::ConnectionAborted, error.clone()),
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        if self.finished {
            self.begun.arriving.shared.deliver_rest(&self.begun.arriving.send);
        } else {
            let code = if self.tunnel { Code::CONNECT_ERROR } else { Code::INTERNAL_ERROR };
            // It may have been stopped by the client.
            drop(self.begun.arriving.send.reset(number(code)));
        }
        if !self.begun.ended {
            drop(self.begun.arriving.recv.stop(number(Code::NO_ERROR)));
        }
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_copy(context, buffer))?;
        // What has come already is taken along: each packet gives a small piece.
        while buffer.remaining() > 0 {
            let before = buffer.filled().len();
            match this.poll_copy(context, buffer) {
                Poll::Ready(Ok(())) if buffer.filled().len() > before => {}
                // The next read meets the end, or the error, again.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(context))?;
        let all: usize = pieces.iter().map(|piece| piece.len()).sum();
        let count = all.min(FRAME_BYTES_MAX);
        let mut payload = BytesMut::with_capacity(count);
        for piece in pieces {
            let part = piece.len().min(count - payload.len());
            payload.extend_from_slice(piece.get(..part).unwrap_or_default());
        }
        if count > 0 {
            this.frame(payload.freeze());
            if let Poll::Ready(Err(error)) = this.poll_unsent(context) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unsent(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.finished {
            ready!(this.poll_unsent(context))?;
            this.finish();
        }
        Poll::Ready(Ok(()))
    }
}
