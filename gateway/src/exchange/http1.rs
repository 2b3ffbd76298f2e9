//! The client's side over HTTP/1.1: requests read strictly, responses written by hand.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gateway_proto::fields::Fields;
use gateway_proto::http1::{self, HeadReader, Limits, Malformed, RequestHead, ResponseHead};
use gateway_proto::target::{self, Authority, Host, RequestTarget};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::body::{Frame, Length, Sink, Source};
use super::canonical::{Request, Response, Scheme, Version, WEBSOCKET};
use super::framing::{Incoming, Outgoing, length_of};
use super::wire::Wire;
use crate::ident::Blame;

/// A head that has begun must be whole by then, or it is a slow-header attack (CASES RX-01).
const HEAD_DEADLINE: Duration = Duration::from_secs(20);
/// Rest of an unread request body that is read and dropped to keep a connection usable; beyond
/// it closing is cheaper.
const DISCARD_BYTES_MAX: u64 = 256 * 1024;
/// Over plain TCP a client may end its side and still wait for the answer (`nc -N`). One that has
/// gone looks the same, so it is waited for no longer than this.
const HALF_CLOSED_TIME_MAX: Duration = Duration::from_secs(30);

/// Why no further request can be read.
#[derive(Debug, thiserror::Error)]
pub enum Http1Error {
    #[error("malformed request: {0}")]
    Malformed(#[from] Malformed),
    #[error("the request's authority is not one host: {0}")]
    Authority(&'static str),
    #[error("the request's target has no form that belongs here: {0}")]
    Target(&'static str),
    #[error("the client ended inside a request head")]
    Truncated,
    #[error("the request head was not whole in time")]
    SlowHead,
    #[error("client connection: {0}")]
    Io(#[from] io::Error),
}

impl Http1Error {
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed(malformed) => malformed.label(),
            Self::Authority(label) | Self::Target(label) => label,
            Self::Truncated => "truncated_head",
            Self::SlowHead => "slow_head",
            Self::Io(_) => "client_connection",
        }
    }

    #[must_use]
    pub fn blame(&self) -> Blame {
        Blame::Client
    }

    /// The status to answer with, where an answer still makes sense.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Malformed(malformed) => Some(malformed.status()),
            Self::Authority(_) | Self::Target(_) => Some(400),
            Self::SlowHead => Some(408),
            Self::Truncated | Self::Io(_) => None,
        }
    }
}

/// One HTTP/1.1 connection of a client, between and during exchanges.
pub struct Http1<Io> {
    wire: Wire<Io>,
    scheme: Scheme,
    /// Where requests without any authority go (HTTP/1.0): the flow's own destination.
    host: Host,
    port: u16,
    reader: HeadReader,
    incoming: Incoming,
    outgoing: Outgoing,
    version: Version,
    is_head: bool,
    keep_alive: bool,
    upgrading: bool,
    /// When the client was seen to have ended its side.
    half_closed: Option<Instant>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Http1<Io> {
    pub fn new(io: Io, scheme: Scheme, host: Host, port: u16) -> Self {
        Self {
            wire: Wire::new(io),
            scheme,
            host,
            port,
            reader: HeadReader::new(),
            incoming: Incoming::none(),
            outgoing: Outgoing::None,
            version: Version::Http11,
            is_head: false,
            keep_alive: true,
            upgrading: false,
            half_closed: None,
        }
    }

    /// Bytes that were read before this connection was known to be HTTP.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &[u8]) -> Self {
        self.wire.read.extend_from_slice(prefix);
        self
    }

    pub fn io(&self) -> &Io {
        self.wire.io()
    }

    /// Whether another request may follow on this connection.
    pub fn is_persistent(&self) -> bool {
        self.keep_alive && !self.upgrading
    }

    /// Ready when the client has hung up while it should wait for its response. Inside TLS the
    /// end of its side is the end; over plain TCP it may be half of one, so the caller asks again
    /// from time to time. What a pipelining client sends meanwhile stays in the buffer.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.incoming.is_done() || !self.wire.read.is_empty() {
            return Poll::Pending;
        }
        match self.wire.poll_fill(context) {
            Poll::Ready(Ok(0)) if self.scheme == Scheme::Http => {
                let since = *self.half_closed.get_or_insert_with(Instant::now);
                let waited = since.elapsed() > HALF_CLOSED_TIME_MAX;
                if waited { Poll::Ready(()) } else { Poll::Pending }
            }
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Makes the response under way the last one.
    pub fn close_after(&mut self) {
        self.keep_alive = false;
    }

    /// The next request; `None` when the client ends between requests or idles past `idle`.
    ///
    /// # Errors
    /// Where what came is no well-formed request, or the connection fails.
    pub async fn next(&mut self, idle: Duration) -> Result<Option<Request>, Http1Error> {
        if !self.keep_alive || !self.discard_rest().await? {
            return Ok(None);
        }
        let mut deadline = Instant::now() + idle;
        let mut begun = false;
        loop {
            if !self.wire.read.is_empty() {
                if let Some(head) = self.reader.request(&mut self.wire.read, &Limits::REQUEST)? {
                    return self.canonical(head).map(Some);
                }
                if !begun && !self.wire.read.is_empty() {
                    begun = true;
                    deadline = Instant::now() + HEAD_DEADLINE;
                }
            }
            let fill = std::future::poll_fn(|context| self.wire.poll_fill(context));
            match timeout_at(deadline, fill).await {
                Err(_) if begun => return Err(Http1Error::SlowHead),
                Err(_) => return Ok(None),
                Ok(filled) => {
                    if filled? == 0 {
                        let clean = self.wire.read.is_empty();
                        return if clean { Ok(None) } else { Err(Http1Error::Truncated) };
                    }
                }
            }
        }
    }

    fn canonical(&mut self, mut head: RequestHead) -> Result<Request, Http1Error> {
        let length = http1::request_body(&head)?;
        self.version = match head.version {
            http1::Version::Http10 => Version::Http10,
            http1::Version::Http11 => Version::Http11,
        };
        self.keep_alive = head.persistent();
        self.is_head = head.method == "HEAD";
        self.incoming = Incoming::new(length);
        self.outgoing = Outgoing::None;
        self.upgrading = false;

        let upgrade = upgrade_of(&head.fields);
        let expects_continue =
            head.fields.text("expect").is_some_and(|it| it.eq_ignore_ascii_case("100-continue"));
        let (scheme, named, target) = self.target(&head)?;
        let (host, port) = match named {
            Some(authority) => {
                let port = authority.port_or(scheme.port());
                // The target wins over Host (RFC 9112 section 3.2.2), so they must not differ
                // further on either.
                if head.fields.has("host") {
                    head.fields.set("Host", Bytes::from(authority.to_string()));
                }
                (authority.host, port)
            }
            None => self.host(&head.fields)?,
        };
        http1::strip_hop_by_hop(&mut head.fields);
        Ok(Request {
            version: self.version,
            method: head.method,
            scheme,
            host,
            port,
            target,
            fields: head.fields,
            body: length_of(length),
            upgrade,
            expects_continue,
        })
    }

    /// Scheme, authority and origin-form of the request target.
    fn target(&self, head: &RequestHead) -> Result<(Scheme, Option<Authority>, Bytes), Http1Error> {
        let target = RequestTarget::parse(&head.method, &head.target)
            .map_err(|error| Http1Error::Target(error.label()))?;
        Ok(match target {
            RequestTarget::Origin(_) | RequestTarget::Asterisk => {
                (self.scheme, None, head.target.clone())
            }
            RequestTarget::Absolute { scheme, authority, resource } => {
                let scheme = match scheme {
                    target::Scheme::Http => Scheme::Http,
                    target::Scheme::Https => Scheme::Https,
                };
                let whole = match resource.whole {
                    b"" => Bytes::from_static(b"/"),
                    // Only a path may follow an authority on the wire.
                    whole @ [b'?', ..] => [b"/", whole].concat().into(),
                    whole => head.target.slice_ref(whole),
                };
                (scheme, Some(authority), whole)
            }
            RequestTarget::Authority(_) => return Err(Http1Error::Target("connect_inside")),
        })
    }

    /// The host and port of the `Host` field; the port defaults to the flow's own.
    fn host(&self, fields: &Fields) -> Result<(Host, u16), Http1Error> {
        let Some(host) = fields.first("host") else {
            return Ok((self.host.clone(), self.port));
        };
        let authority =
            Authority::parse(host).map_err(|error| Http1Error::Authority(error.label()))?;
        let port = authority.port_or(self.port);
        Ok((authority.host, port))
    }

    /// Reads and drops what is left of a request body; `false` where that would take too long.
    async fn discard_rest(&mut self) -> Result<bool, Http1Error> {
        let mut discarded = 0;
        while !self.incoming.is_done() {
            match std::future::poll_fn(|context| self.poll_frame(context)).await? {
                Some(Frame::Data(data)) => discarded += data.len() as u64,
                Some(Frame::Trailers(_)) | None => {}
            }
            if discarded > DISCARD_BYTES_MAX {
                return Ok(false);
            }
        }
        self.wire.release_idle_memory();
        Ok(true)
    }

    /// Writes an interim response (100, 103); HTTP/1.0 clients get none (RFC 9110 section 15.2).
    ///
    /// # Errors
    /// Where a field cannot be written.
    pub fn interim(&mut self, response: Response) -> io::Result<()> {
        if self.version == Version::Http11 {
            self.write_head(response)?;
        }
        Ok(())
    }

    /// Begins the response. Frames the body for this client, whatever the origin's framing was.
    ///
    /// # Errors
    /// Where a field cannot be written.
    pub fn start(&mut self, mut response: Response) -> io::Result<()> {
        let bodiless = self.is_head || matches!(response.status, 204 | 304);
        self.outgoing = match response.body {
            _ if bodiless => Outgoing::None,
            Length::None | Length::Exact(0) => Outgoing::None,
            Length::Exact(length) => Outgoing::Exact(length),
            _ if self.version == Version::Http11 => Outgoing::Chunked,
            _ => Outgoing::UntilClose,
        };
        let fields = &mut response.fields;
        match self.outgoing {
            Outgoing::None if !bodiless && !fields.has("content-length") => {
                fields.push("Content-Length", "0");
            }
            Outgoing::Exact(length) if !fields.has("content-length") => {
                fields.push("Content-Length", length.to_string());
            }
            Outgoing::Chunked => {
                fields.remove("content-length");
                fields.push("Transfer-Encoding", "chunked");
            }
            Outgoing::UntilClose => self.keep_alive = false,
            _ => {}
        }
        if !self.keep_alive {
            fields.push("Connection", "close");
        } else if self.version == Version::Http10 {
            fields.push("Connection", "keep-alive");
        }
        self.write_head(response)
    }

    /// Writes `101 Switching Protocols`; afterwards [`Self::into_upgraded`] gives the raw stream.
    ///
    /// # Errors
    /// Where a field cannot be written.
    pub fn start_upgrade(&mut self, mut response: Response, protocol: &Bytes) -> io::Result<()> {
        self.upgrading = true;
        self.outgoing = Outgoing::None;
        response.fields.push("Connection", "Upgrade");
        response.fields.push("Upgrade", protocol.clone());
        self.write_head(response)
    }

    fn write_head(&mut self, response: Response) -> io::Result<()> {
        let head = ResponseHead {
            version: http1::Version::Http11,
            status: response.status,
            reason: response.reason,
            fields: response.fields,
        };
        http1::write_response_head(&head, self.wire.buffer())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Breaks the response off: the connection ends without the end its framing announced.
    pub fn abort(&mut self) {
        self.keep_alive = false;
        self.outgoing = Outgoing::None;
    }

    /// The transport after an upgrade, with bytes that already came behind the request.
    pub fn into_upgraded(self) -> (Io, Bytes) {
        self.wire.into_parts()
    }

    /// Ends the connection in order.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.wire.shutdown().await
    }
}

/// The protocol a request asks to switch to, if its `Connection` says that it does.
fn upgrade_of(fields: &Fields) -> Option<Bytes> {
    if !http1::connection_lists(fields, "upgrade") {
        return None;
    }
    let protocol = fields.first("upgrade")?;
    // h2c by upgrade is answered as HTTP/1.1 (CASES H1-15); only WebSocket is spoken by anyone.
    protocol.eq_ignore_ascii_case(&WEBSOCKET).then_some(WEBSOCKET)
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Source for Http1<Io> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        self.incoming.poll_frame(&mut self.wire, context)
    }

    fn is_ended(&self) -> bool {
        self.incoming.is_done()
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Sink for Http1<Io> {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_room(context)
    }

    fn send(&mut self, frame: Frame) -> io::Result<()> {
        self.outgoing.send(frame, &mut self.wire)
    }

    fn end(&mut self) -> io::Result<()> {
        let ended = self.outgoing.end(&mut self.wire);
        self.keep_alive &= ended.is_ok();
        ended
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_drain(context)
    }
}
