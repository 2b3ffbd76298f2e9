//! The origin's side over HTTP/2.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{StatusCode, Uri};

use crate::exchange::http2::{Outgoing, fields_of, header_map_of, io_error, poll_received};
use crate::exchange::{Frame, Length, Request, Response, Sink, Source};

/// Receive windows towards origins: 512 KiB a stream is 40 Mbit/s × 100 ms. The connection's holds
/// those of 256 streams, more than common servers allow at once, so that streams whose clients do
/// not read never stop the others that share the connection.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * STREAM_WINDOW_BYTES;
/// Response header lists: generous, since breaking a site is worse than 256 KiB for a moment.
const HEADER_LIST_BYTES_MAX: u32 = 256 * 1024;
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Client settings for connections to origins.
#[must_use]
pub fn builder() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX);
    builder
}

/// One request's stream on a shared connection.
pub struct Http2 {
    response: Option<ResponseFuture>,
    receive: Option<RecvStream>,
    received_all: bool,
    outgoing: Outgoing,
}

impl Http2 {
    /// Sends the request's head on `connection`, which must be ready.
    ///
    /// # Errors
    /// Where the head cannot be said in HTTP/2 or the connection refuses it.
    pub fn start(connection: &mut SendRequest<Bytes>, request: &Request) -> io::Result<Self> {
        let ends = request.body.is_none();
        let head = head_of(request)?;
        let (response, stream) = connection.send_request(head, ends).map_err(io_error)?;
        let mut outgoing = Outgoing::new();
        outgoing.begin((!ends).then_some(stream), request.body);
        Ok(Self { response: Some(response), receive: None, received_all: false, outgoing })
    }

    /// The next response head: interim ones first, then the final one.
    pub fn poll_response(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Response>> {
        let Some(future) = &mut self.response else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Poll::Ready(Some(interim)) = future.poll_informational(context) {
            let (parts, ()) = interim.map_err(io_error)?.into_parts();
            return Poll::Ready(Ok(Response {
                status: parts.status.as_u16(),
                reason: reason_of(parts.status),
                fields: fields_of(&parts.headers),
                body: Length::None,
            }));
        }
        let response = ready!(std::pin::Pin::new(future).poll(context)).map_err(io_error)?;
        self.response = None;
        let (parts, receive) = response.into_parts();
        self.received_all = receive.is_end_stream();
        let fields = fields_of(&parts.headers);
        let body = if self.received_all {
            Length::None
        } else {
            fields
                .text("content-length")
                .and_then(|it| it.parse().ok())
                .map_or(Length::Framed, Length::Exact)
        };
        self.receive = Some(receive);
        Poll::Ready(Ok(Response {
            status: parts.status.as_u16(),
            reason: reason_of(parts.status),
            fields,
            body,
        }))
    }

    /// Gives up on the request; the origin learns at once.
    pub fn cancel(&mut self) {
        self.outgoing.reset(Reason::CANCEL);
    }
}

/// The registered phrase: HTTP/2 carries none, and some HTTP/1.1 clients show what they get.
fn reason_of(status: StatusCode) -> Bytes {
    Bytes::from_static(status.canonical_reason().unwrap_or_default().as_bytes())
}

fn head_of(request: &Request) -> io::Result<http::Request<()>> {
    let invalid = |error: http::Error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let authority = request.authority();
    let uri = Uri::builder()
        .scheme(request.scheme.as_str())
        .authority(authority)
        .path_and_query(request.target())
        .build()
        .map_err(invalid)?;
    let mut head = http::Request::builder()
        .method(request.method())
        .uri(uri)
        .version(http::Version::HTTP_2)
        .body(())
        .map_err(invalid)?;
    *head.headers_mut() = header_map_of(&request.fields, |field| {
        let other_te = field.is("te") && !field.value.eq_ignore_ascii_case(b"trailers");
        !(field.is("host") || field.is("expect") || other_te)
    });
    Ok(head)
}

impl Source for Http2 {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        match &mut self.receive {
            Some(receive) => poll_received(receive, &mut self.received_all, context),
            None => Poll::Ready(Ok(None)),
        }
    }
}

impl Sink for Http2 {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_room(context)
    }

    fn send(&mut self, frame: Frame) -> io::Result<()> {
        self.outgoing.send(frame)
    }

    fn end(&mut self) -> io::Result<()> {
        self.outgoing.end()
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_room(context)
    }
}
