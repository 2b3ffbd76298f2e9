//! A connection to an origin while one exchange uses it, whichever HTTP version it speaks.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{dial, http1, http2};
use crate::exchange::{Frame, Http2Io, Request, Response, Sink, Source, Version};

/// The transport to an origin.
pub enum OriginIo {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! each {
    ($self:expr, $io:ident => $call:expr) => {
        match $self {
            OriginIo::Plain($io) => $call,
            OriginIo::Tls($io) => $call,
        }
    };
}

impl OriginIo {
    /// The address that the gateway dialled from.
    #[must_use]
    pub fn egress(&self) -> Option<IpAddr> {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        dial::left_from(stream.local_addr())
    }
}

impl AsyncRead for OriginIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_read(context, buffer))
    }
}

impl AsyncWrite for OriginIo {
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

/// What is left of a connection or stream after the origin switched protocols.
pub enum UpgradedIo {
    Http1(OriginIo),
    Http2(Http2Io, http2::Place),
}

macro_rules! upgraded {
    ($self:expr, $io:ident => $call:expr) => {
        match $self {
            UpgradedIo::Http1($io) => $call,
            UpgradedIo::Http2($io, _) => $call,
        }
    };
}

impl AsyncRead for UpgradedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        upgraded!(self.get_mut(), io => Pin::new(io).poll_read(context, buffer))
    }
}

impl AsyncWrite for UpgradedIo {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        upgraded!(self.get_mut(), io => Pin::new(io).poll_write(context, data))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        upgraded!(self.get_mut(), io => Pin::new(io).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        upgraded!(self.get_mut(), io => Pin::new(io).poll_shutdown(context))
    }
}

/// One exchange's hold on a connection.
pub enum Lease {
    Http1(Box<http1::Http1<OriginIo>>),
    /// A stream of its own on a shared connection; `None` until the head is sent.
    Http2 {
        connection: http2::Connection,
        stream: Option<http2::Http2>,
    },
}

impl Lease {
    #[must_use]
    pub fn version(&self) -> Version {
        match self {
            Self::Http1(_) => Version::Http11,
            Self::Http2 { .. } => Version::Http2,
        }
    }

    /// The address that the gateway dialled from.
    #[must_use]
    pub fn egress(&self) -> Option<IpAddr> {
        match self {
            Self::Http1(connection) => connection.io().egress(),
            Self::Http2 { connection, .. } => connection.egress(),
        }
    }

    /// Sends the request's head.
    ///
    /// # Errors
    /// Where the connection takes no further request.
    pub async fn start(&mut self, request: &Request) -> io::Result<()> {
        match self {
            Self::Http1(connection) => connection.start(request)?,
            Self::Http2 { connection, stream } => {
                *stream = Some(connection.start(request).await?);
            }
        }
        Ok(())
    }

    /// The next response head, interim ones included.
    pub fn poll_response(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Response>> {
        match self {
            Self::Http1(connection) => connection.poll_response(context),
            Self::Http2 { stream: Some(stream), .. } => stream.poll_response(context),
            Self::Http2 { stream: None, .. } => not_started(),
        }
    }

    /// Whether another exchange may use it: this one left nothing behind.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_reusable(),
            Self::Http2 { connection, .. } => connection.is_open(),
        }
    }

    /// Whether an idle connection is still whole.
    pub fn is_whole(&mut self) -> bool {
        match self {
            Self::Http1(connection) => {
                connection.poll_idle(&mut Context::from_waker(Waker::noop())).is_pending()
            }
            Self::Http2 { connection, .. } => connection.is_open(),
        }
    }

    /// Whether a WebSocket can be opened on it: any HTTP/1.1 connection may be asked to switch,
    /// an HTTP/2 one where the origin's SETTINGS say so.
    pub async fn allows_websocket(&mut self) -> bool {
        match self {
            Self::Http1(_) => true,
            Self::Http2 { connection, .. } => connection.allows_websocket().await,
        }
    }

    /// The bytes beneath, once the origin has switched protocols; with those that came already.
    pub fn into_upgraded(self) -> Option<(UpgradedIo, Bytes)> {
        match self {
            Self::Http1(connection) => {
                let (io, rest) = connection.into_upgraded();
                Some((UpgradedIo::Http1(io), rest))
            }
            Self::Http2 { stream, .. } => {
                let (io, place) = stream?.into_upgraded()?;
                Some((UpgradedIo::Http2(io, place), Bytes::new()))
            }
        }
    }

    /// Tells the origin that nobody waits any more.
    pub fn cancel(&mut self) {
        if let Self::Http2 { stream: Some(stream), .. } = self {
            stream.cancel();
        }
    }
}

fn not_started<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl Source for Lease {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        match self {
            Self::Http1(connection) => connection.poll_frame(context),
            Self::Http2 { stream: Some(stream), .. } => stream.poll_frame(context),
            Self::Http2 { stream: None, .. } => not_started(),
        }
    }

    fn is_ended(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_ended(),
            Self::Http2 { stream, .. } => stream.as_ref().is_some_and(Source::is_ended),
        }
    }
}

impl Sink for Lease {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Http1(connection) => connection.poll_ready(context),
            Self::Http2 { stream: Some(stream), .. } => stream.poll_ready(context),
            Self::Http2 { stream: None, .. } => not_started(),
        }
    }

    fn send(&mut self, frame: Frame) -> io::Result<()> {
        match self {
            Self::Http1(connection) => connection.send(frame),
            Self::Http2 { stream: Some(stream), .. } => stream.send(frame),
            Self::Http2 { stream: None, .. } => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Http1(connection) => connection.end(),
            Self::Http2 { stream: Some(stream), .. } => stream.end(),
            Self::Http2 { stream: None, .. } => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Http1(connection) => connection.poll_flush(context),
            Self::Http2 { stream: Some(stream), .. } => stream.poll_flush(context),
            Self::Http2 { stream: None, .. } => not_started(),
        }
    }
}
