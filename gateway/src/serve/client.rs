//! The client's side of one exchange, whichever HTTP version it speaks.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use gateway_proto::h3::Code;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::exchange::http1::Http1;
use crate::exchange::http2::Http2;
use crate::exchange::http3::Http3;
use crate::exchange::muxed::Muxed;
use crate::exchange::{Frame, Request, Response, Sink, Source};

/// One exchange's hold on its client.
pub(super) enum Client<'a, Io> {
    Http1(&'a mut Http1<Io>),
    /// An HTTP/2 stream of a decrypted connection.
    Http2(Http2),
    /// An HTTP/3 stream of a decrypted connection.
    Http3(Box<Http3>),
    /// A plain request on a tunnel's own HTTP/2 connection.
    Muxed(Muxed),
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Client<'_, Io> {
    /// Passes an interim response on, where the client's version has them.
    pub(super) fn interim(&mut self, response: Response) -> io::Result<()> {
        match self {
            Self::Http1(client) => client.interim(response),
            Self::Http2(client) => client.interim(&response),
            Self::Http3(client) => {
                client.interim(&response);
                Ok(())
            }
            Self::Muxed(client) => {
                client.interim(&response);
                Ok(())
            }
        }
    }

    /// The same, and sees it on its way.
    ///
    /// # Errors
    /// Where the client takes no more.
    pub(super) async fn tell(&mut self, response: Response) -> io::Result<()> {
        self.interim(response)?;
        std::future::poll_fn(|context| self.poll_flush(context)).await
    }

    /// Begins the final response.
    pub(super) fn start(&mut self, request: &Request, response: Response) -> io::Result<()> {
        match self {
            Self::Http1(client) => client.start(response),
            Self::Http2(client) => client.start(&response, request.method() == "HEAD"),
            Self::Http3(client) => {
                client.start(&response, request.method() == "HEAD");
                Ok(())
            }
            Self::Muxed(client) => {
                client.start(&response);
                Ok(())
            }
        }
    }

    /// Answers in the gateway's own name: head and whole body.
    pub(super) async fn answer(
        &mut self,
        request: &Request,
        response: Response,
        body: Bytes,
    ) -> io::Result<()> {
        self.start(request, response)?;
        if request.method() != "HEAD" && !body.is_empty() {
            std::future::poll_fn(|context| self.poll_ready(context)).await?;
            self.send(Frame::Data(body))?;
        }
        self.end()?;
        std::future::poll_fn(|context| self.poll_flush(context)).await
    }

    /// The response broke off: the client must see a truncation, never a clean end. HTTP/2 clients
    /// are told the origin's own `reason`, where it gave one.
    pub(super) fn abort(&mut self, reason: Option<h2::Reason>) {
        match self {
            Self::Http1(client) => client.abort(),
            Self::Http2(client) => client.reset(reason.unwrap_or(h2::Reason::INTERNAL_ERROR)),
            Self::Http3(client) => client.reset(http3_code(reason)),
            Self::Muxed(client) => client.abort(),
        }
    }

    /// Whether the client understands that a stream was reset.
    pub(super) fn knows_resets(&self) -> bool {
        matches!(self, Self::Http2(_) | Self::Http3(_))
    }

    /// No further request is read from an HTTP/1.1 connection.
    pub(super) fn close_after(&mut self) {
        if let Self::Http1(client) = self {
            client.close_after();
        }
    }

    /// Ready when the client has given this exchange up. To be asked again from time to time.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(client) => client.poll_gone(context),
            Self::Http2(client) => client.poll_reset(context),
            Self::Http3(client) => client.poll_gone(context),
            Self::Muxed(client) => client.poll_gone(context),
        }
    }
}

/// An origin's reason in the words of HTTP/3 (RFC 9114 section 8.1).
fn http3_code(reason: Option<h2::Reason>) -> Code {
    match reason {
        Some(h2::Reason::REFUSED_STREAM) => Code::REQUEST_REJECTED,
        Some(h2::Reason::CANCEL) => Code::REQUEST_CANCELLED,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::EXCESSIVE_LOAD,
        Some(h2::Reason::HTTP_1_1_REQUIRED) => VERSION_FALLBACK,
        Some(h2::Reason::NO_ERROR) => Code::NO_ERROR,
        _ => Code::INTERNAL_ERROR,
    }
}

/// The client is to come over HTTP/1.1.
const VERSION_FALLBACK: Code = Code(0x110);

macro_rules! each {
    ($self:expr, $client:ident => $call:expr) => {
        match $self {
            Client::Http1($client) => $call,
            Client::Http2($client) => $call,
            Client::Http3($client) => $call,
            Client::Muxed($client) => $call,
        }
    };
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Source for Client<'_, Io> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        each!(self, client => client.poll_frame(context))
    }

    fn is_ended(&self) -> bool {
        each!(self, client => client.is_ended())
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Sink for Client<'_, Io> {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, client => client.poll_ready(context))
    }

    fn send(&mut self, frame: Frame) -> io::Result<()> {
        each!(self, client => client.send(frame))
    }

    fn end(&mut self) -> io::Result<()> {
        each!(self, client => client.end())
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, client => client.poll_flush(context))
    }
}
