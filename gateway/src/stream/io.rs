//! The byte streams a flow can ride on, and a way to put peeked bytes back.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::packet::InnerTcp;
use super::packet::kernel::KernelTcp;
use crate::tunnel::mux::MuxStream;
use crate::tunnel::quic::QuicStream;

/// The client's side of one inner stream. A closed set, so no dynamic dispatch.
pub enum Io {
    /// One HTTP/2 stream of a tunnel.
    Mux(MuxStream),
    /// One HTTP/3 stream of a tunnel.
    Quic(Box<QuicStream>),
    /// A whole HTTP/1.1 tunnel connection after its CONNECT.
    Tls(Box<TlsStream<TcpStream>>),
    /// A connection of an explicit listener.
    Plain(TcpStream),
    /// An inner TCP connection of a packet tunnel.
    Inner(InnerTcp),
    /// The same where the kernel's TCP carries it.
    Kernel(KernelTcp),
}

/// Calls one method on whichever stream this is.
macro_rules! each {
    ($self:expr, $io:ident => $call:expr) => {
        match $self {
            Io::Mux($io) => $call,
            Io::Quic($io) => $call,
            Io::Tls($io) => $call,
            Io::Plain($io) => $call,
            Io::Inner($io) => $call,
            Io::Kernel($io) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_read(context, buffer))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), io => Pin::new(io).poll_write(context, data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), io => Pin::new(io).poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, io => io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_shutdown(context))
    }
}

/// A stream that gives `prefix` before anything else: bytes that were peeked are read again.
pub struct Rewind<T> {
    prefix: Bytes,
    io: T,
}

impl<T> Rewind<T> {
    pub fn new(prefix: Bytes, io: T) -> Self {
        Self { prefix, io }
    }

    /// The stream beneath and what is left of the prefix.
    pub fn into_parts(self) -> (T, Bytes) {
        (self.io, self.prefix)
    }

    pub fn io(&self) -> &T {
        &self.io
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewind<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_empty() {
            return Pin::new(&mut this.io).poll_read(context, buffer);
        }
        let count = this.prefix.len().min(buffer.remaining());
        let (given, _) = this.prefix.split_at(count);
        buffer.put_slice(given);
        this.prefix.advance(count);
        if this.prefix.is_empty() {
            this.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewind<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}
