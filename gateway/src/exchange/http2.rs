//! The client's side over HTTP/2: one stream is one exchange.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use gateway_proto::fields::{Field, Fields};
use gateway_proto::target::Authority;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::body::{Frame, Length, Sink, Source};
use super::canonical::{Request, Response, Scheme, Version, WEBSOCKET};
use super::http2_io::Http2Io;

/// Header lists above this are refused while they are decoded (HPACK bombs, CASES H2-06). Sites
/// with 64 KiB of cookies exist; beside them there is room for the rest.
pub const HEADER_LIST_BYTES_MAX: u32 = 96 * 1024;
/// Requests at once on one inner connection: what browsers expect of a server.
pub const STREAMS_MAX: u32 = 128;
/// Receive windows of inner connections: 512 KiB a stream keeps an upload at 40 Mbit/s × 100 ms.
/// The connection's is that of all streams together, so that one stalled upload stops no other.
pub const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
pub const CONNECTION_WINDOW_BYTES: u32 = STREAMS_MAX * STREAM_WINDOW_BYTES;
/// Response data buffered per stream before the origin is no longer read.
pub const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// Body bytes of one DATA frame: with the frame's header of 9 bytes they fill one TLS record. A
/// frame of full size would spill into a second record, encrypted and sent for 9 bytes.
const PIECE_BYTES_MAX: usize = 16 * 1024 - 9;

/// Why a stream is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Http2Error {
    #[error("`:authority` is missing or is not one host")]
    Authority,
    #[error("`:authority` and `host` differ")]
    HostDiffers,
}

impl Http2Error {
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Authority => "bad_authority",
            Self::HostDiffers => "host_differs",
        }
    }
}

/// The response half and the request body of one HTTP/2 stream.
pub struct Http2 {
    receive: RecvStream,
    received_all: bool,
    respond: SendResponse<Bytes>,
    started: bool,
    outgoing: Outgoing,
}

/// Server settings for inner connections. `websocket` promises extended CONNECT (RFC 8441).
#[must_use]
pub fn builder(websocket: bool) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    if websocket {
        builder.enable_connect_protocol();
    }
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX);
    builder
}

/// Turns an accepted stream into the canonical request and its two halves.
///
/// # Errors
/// Where the authority is missing, malformed or contradicted by `host`; the stream has then been
/// answered with 400.
pub fn canonical(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    scheme: Scheme,
    port: u16,
) -> Result<(Request, Http2), Http2Error> {
    let (parts, receive) = request.into_parts();
    let received_all = receive.is_end_stream();
    let authority = match authority_of(&parts) {
        Ok(authority) => authority,
        Err(error) => {
            let refusal = http::Response::builder().status(400).body(());
            if let Ok(refusal) = refusal {
                drop(respond.send_response(refusal, true));
            }
            return Err(error);
        }
    };
    let mut fields = fields_of(&parts.headers);
    fields.remove("host");
    join_cookies(&mut fields);
    let target = parts.uri.path_and_query().map_or_else(
        || Bytes::from_static(b"/"),
        |target| Bytes::copy_from_slice(target.as_str().as_bytes()),
    );
    let upgrade = parts.extensions.get::<Protocol>().map(protocol_of);
    let body = if received_all || upgrade.is_some() {
        Length::None
    } else {
        fields
            .text("content-length")
            .and_then(|it| it.parse().ok())
            .map_or(Length::Framed, Length::Exact)
    };
    // The same WebSocket whichever version asks for it: rules and records see one method.
    let method = match &upgrade {
        Some(protocol) if *protocol == WEBSOCKET => Bytes::from_static(b"GET"),
        _ => Bytes::copy_from_slice(parts.method.as_str().as_bytes()),
    };
    let expects_continue =
        fields.text("expect").is_some_and(|it| it.eq_ignore_ascii_case("100-continue"));
    let request = Request {
        version: Version::Http2,
        method,
        scheme,
        port: authority.port_or(port),
        host: authority.host,
        target,
        fields,
        body,
        upgrade,
        expects_continue,
    };
    let outgoing = Outgoing::new();
    Ok((request, Http2 { receive, received_all, respond, started: false, outgoing }))
}

fn protocol_of(protocol: &Protocol) -> Bytes {
    if protocol.as_str().eq_ignore_ascii_case("websocket") {
        return WEBSOCKET;
    }
    Bytes::copy_from_slice(protocol.as_str().as_bytes())
}

fn authority_of(parts: &http::request::Parts) -> Result<Authority, Http2Error> {
    let host = parts.headers.get(http::header::HOST).map(HeaderValue::as_bytes);
    let authority = parts.uri.authority().map(|it| it.as_str().as_bytes());
    let named = authority.or(host).ok_or(Http2Error::Authority)?;
    let parsed = Authority::parse(named).map_err(|_| Http2Error::Authority)?;
    if let (Some(_), Some(host)) = (authority, host) {
        let host = Authority::parse(host).map_err(|_| Http2Error::Authority)?;
        if host != parsed {
            return Err(Http2Error::HostDiffers);
        }
    }
    Ok(parsed)
}

/// Joins cookie crumbs into one field (RFC 9113 section 8.2.3), so that no later stage needs to
/// know of them.
fn join_cookies(fields: &mut Fields) {
    if fields.all("cookie").nth(1).is_none() {
        return;
    }
    let mut joined = BytesMut::new();
    for crumb in fields.all("cookie") {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb);
    }
    fields.set("cookie", joined.freeze());
}

/// Copies a header map into ordered fields, with one allocation for all names and values.
pub(crate) fn fields_of(headers: &HeaderMap) -> Fields {
    let size = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut buffer = BytesMut::with_capacity(size);
    for (name, value) in headers {
        buffer.extend_from_slice(name.as_str().as_bytes());
        buffer.extend_from_slice(value.as_bytes());
    }
    let mut rest = buffer.freeze();
    let mut fields = Fields::new();
    for (name, value) in headers {
        let name = rest.split_to(name.as_str().len().min(rest.len()));
        let value = rest.split_to(value.len().min(rest.len()));
        fields.push(name, value);
    }
    fields
}

/// Builds a header map for HTTP/2 from fields; connection-level names never get this far, names
/// or values that HTTP/2 cannot carry are left out.
pub(crate) fn header_map(fields: &Fields) -> HeaderMap {
    header_map_of(fields, |_| true)
}

/// The same of those fields that `keep` is for. What is taken out of a finished map instead would
/// leave its place to the last field, and the others in another order.
pub(crate) fn header_map_of(fields: &Fields, keep: impl Fn(&Field) -> bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields.iter().filter(|field| keep(field)) {
        let name = HeaderName::from_bytes(&field.name);
        let value = HeaderValue::from_maybe_shared(field.value.clone());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

impl Http2 {
    /// Begins the response.
    ///
    /// # Errors
    /// Where the client has reset the stream.
    pub fn start(&mut self, response: &Response, is_head: bool) -> io::Result<()> {
        let mut head = http::Response::new(());
        *head.status_mut() = http::StatusCode::from_u16(response.status)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        *head.headers_mut() = header_map(&response.fields);
        let ends = is_head
            || matches!(response.status, 204 | 304)
            || matches!(response.body, Length::None | Length::Exact(0));
        let stream = self.respond.send_response(head, ends).map_err(io_error)?;
        self.started = true;
        self.outgoing.begin((!ends).then_some(stream), response.body);
        Ok(())
    }

    /// Accepts an extended CONNECT with 200; the stream carries bytes from here on.
    ///
    /// # Errors
    /// Where the client has reset the stream.
    pub fn start_upgrade(mut self, response: &Response) -> io::Result<Http2Io> {
        let mut head = http::Response::new(());
        *head.headers_mut() = header_map(&response.fields);
        let send = self.respond.send_response(head, false).map_err(io_error)?;
        Ok(Http2Io::new(send, self.receive))
    }

    /// Sends an interim response (100, 103).
    ///
    /// # Errors
    /// Where the client has reset the stream.
    pub fn interim(&mut self, response: &Response) -> io::Result<()> {
        let mut head = http::Response::new(());
        *head.status_mut() = http::StatusCode::from_u16(response.status)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        *head.headers_mut() = header_map(&response.fields);
        self.respond.send_informational(head).map_err(io_error)
    }

    /// Whether the client has given up on this stream.
    pub fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.outgoing.stream {
            Some(stream) => stream.poll_reset(context).map(|_| ()),
            // The response has been sent to its end: there is nothing left to give up.
            None if self.started => Poll::Pending,
            None => self.respond.poll_reset(context).map(|_| ()),
        }
    }

    /// Ends the stream with an error instead of a clean end.
    pub fn reset(&mut self, reason: Reason) {
        match &mut self.outgoing.stream {
            Some(stream) => stream.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

impl Source for Http2 {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        poll_received(&mut self.receive, &mut self.received_all, context)
    }

    fn is_ended(&self) -> bool {
        self.received_all || self.receive.is_end_stream()
    }
}

/// The next piece of a received HTTP/2 body; shared with the origin's side.
pub(crate) fn poll_received(
    receive: &mut RecvStream,
    done: &mut bool,
    context: &mut Context<'_>,
) -> Poll<io::Result<Option<Frame>>> {
    if *done {
        return Poll::Ready(Ok(None));
    }
    if let Some(data) = ready!(receive.poll_data(context)) {
        let data = data.map_err(io_error)?;
        receive.flow_control().release_capacity(data.len()).map_err(io_error)?;
        return Poll::Ready(Ok(Some(Frame::Data(data))));
    }
    let trailers = ready!(receive.poll_trailers(context)).map_err(io_error)?;
    *done = true;
    Poll::Ready(Ok(trailers.map(|trailers| Frame::Trailers(Box::new(fields_of(&trailers))))))
}

/// What the peer said by ending a stream, where `error` came of that.
pub(crate) fn stream_error(error: &io::Error) -> Option<&h2::Error> {
    error.get_ref()?.downcast_ref()
}

pub(crate) fn io_error(error: h2::Error) -> io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
    } else {
        io::Error::new(io::ErrorKind::ConnectionReset, error)
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

/// The sending half of an HTTP/2 stream; shared with the origin's side.
pub(crate) struct Outgoing {
    stream: Option<SendStream<Bytes>>,
    /// The one piece that waits for window.
    waiting: Bytes,
    /// Bytes still announced by `content-length`.
    left: Option<u64>,
    ending: bool,
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Self { stream: None, waiting: Bytes::new(), left: None, ending: false }
    }

    /// `stream` is `None` where the head already ended the body.
    pub(crate) fn begin(&mut self, stream: Option<SendStream<Bytes>>, length: Length) {
        self.stream = stream;
        self.left = match length {
            Length::Exact(count) => Some(count),
            Length::None | Length::Framed | Length::UntilClose => None,
        };
    }

    /// Hands the waiting piece to the stream as its window allows; ready when none waits.
    pub(crate) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else {
            self.waiting = Bytes::new();
            return Poll::Ready(Ok(()));
        };
        while !self.waiting.is_empty() {
            stream.reserve_capacity(self.waiting.len());
            // Polling tells of growth only: what is granted already is asked for first.
            let capacity = match stream.capacity() {
                0 => match ready!(stream.poll_capacity(context)) {
                    Some(capacity) => capacity.map_err(io_error)?,
                    None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                },
                granted => granted,
            };
            let piece = capacity.min(self.waiting.len()).min(PIECE_BYTES_MAX);
            let piece = self.waiting.split_to(piece);
            // Trailers may follow even a body of announced length, so only its source ends it.
            let last = self.waiting.is_empty() && self.ending;
            stream.send_data(piece, last).map_err(io_error)?;
            if last {
                self.stream = None;
                return Poll::Ready(Ok(()));
            }
        }
        if self.ending {
            stream.send_data(Bytes::new(), true).map_err(io_error)?;
            self.stream = None;
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn send(&mut self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Data(data) => {
                if let Some(left) = &mut self.left {
                    *left = left
                        .checked_sub(data.len() as u64)
                        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                }
                self.waiting = data;
            }
            Frame::Trailers(fields) => {
                // Only after `poll_room`, so no data waits that would come behind them.
                if let Some(mut stream) = self.stream.take() {
                    stream.send_trailers(header_map(&fields)).map_err(io_error)?;
                }
            }
        }
        Ok(())
    }

    /// The stream itself, for what is no body.
    pub(crate) fn into_stream(self) -> Option<SendStream<Bytes>> {
        self.stream
    }

    /// Ends the stream with an error, if it has not ended.
    pub(crate) fn reset(&mut self, reason: Reason) {
        if let Some(stream) = &mut self.stream {
            stream.send_reset(reason);
        }
    }

    pub(crate) fn end(&mut self) -> io::Result<()> {
        if self.left.is_some_and(|left| left > 0) && self.stream.is_some() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.ending = true;
        Ok(())
    }
}
