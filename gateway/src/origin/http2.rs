//! The origin's side over HTTP/2: connections that exchanges share, and one exchange's stream.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::exchange::http2::{Outgoing, fields_of, header_map_of, io_error, poll_received};
use crate::exchange::{Frame, Http2Io, Length, Request, Response, Sink, Source};

/// Receive windows towards origins: 512 KiB a stream is 40 Mbit/s × 100 ms. The connection's holds
/// those of 256 streams, more than common servers allow at once, so that streams whose clients do
/// not read never stop the others that share the connection.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * STREAM_WINDOW_BYTES;
/// Response header lists: generous, since breaking a site is worse than 256 KiB for a moment.
const HEADER_LIST_BYTES_MAX: u32 = 256 * 1024;
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// An origin's SETTINGS come with its first flight; one that keeps them back this long is treated
/// as one that promises nothing.
const SETTINGS_TIME_MAX: Duration = Duration::from_secs(3);

/// One connection, shared by exchanges. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    requests: SendRequest<Bytes>,
    /// Turns true once the origin's SETTINGS have come.
    settled: watch::Receiver<bool>,
    shared: Arc<Shared>,
}

/// What all handles of a connection share.
struct Shared {
    active: AtomicUsize,
    /// The address that the gateway dialled from.
    egress: Option<IpAddr>,
}

/// A stream's place among those that an origin lets be open at once; given back on drop.
pub struct Place(Arc<Shared>);

impl Place {
    fn of(shared: &Arc<Shared>) -> Self {
        shared.active.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// Starts HTTP/2 on `io`. The second part drives the connection until its end and must be
    /// spawned; `learned` is told whether the origin allows extended CONNECT (RFC 8441).
    ///
    /// # Errors
    /// Where the preface cannot be sent.
    pub async fn open<Io: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        io: Io,
        egress: Option<IpAddr>,
        learned: impl FnOnce(bool) + Send,
    ) -> Result<(Self, impl Future<Output = ()> + Send), h2::Error> {
        let (requests, mut driver) = builder().handshake(io).await?;
        let (settle, settled) = watch::channel(false);
        let pings = driver.ping_pong();
        let shared = Arc::new(Shared { active: AtomicUsize::new(0), egress });
        let connection = Self { requests: requests.clone(), settled, shared };
        let drive = async move {
            let learning = async move {
                // SETTINGS are the first frame of a server, so a pong comes behind them. Neither
                // this handle nor the ping may outlive the answer: both hold the connection open.
                let Some(mut pings) = pings else { return };
                // A connection that broke has taught nothing, nor one whose origin does not answer.
                let pong = tokio::time::timeout(SETTINGS_TIME_MAX, pings.ping(h2::Ping::opaque()));
                if !matches!(pong.await, Ok(Ok(_))) {
                    return;
                }
                learned(requests.is_extended_connect_protocol_enabled());
                // Nobody may be waiting for it.
                settle.send_replace(true);
            };
            tokio::select! {
                // How it ended shows at the exchanges on it.
                _ = &mut driver => return,
                () = learning => {}
            }
            drop(driver.await);
        };
        Ok((connection, drive))
    }

    /// The address that the gateway dialled from.
    #[must_use]
    pub fn egress(&self) -> Option<IpAddr> {
        self.shared.egress
    }

    /// Whether it still takes requests.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let mut probe = self.requests.clone();
        let context = &mut Context::from_waker(Waker::noop());
        !matches!(probe.poll_ready(context), Poll::Ready(Err(_)))
    }

    /// Streams that are open, and how many more the origin lets be.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let active = self.shared.active.load(Ordering::Relaxed);
        (active, self.requests.current_max_send_streams().saturating_sub(active))
    }

    /// Whether the origin allows extended CONNECT; waits for its SETTINGS.
    pub async fn allows_websocket(&mut self) -> bool {
        let settled = self.settled.wait_for(|settled| *settled);
        // A connection that ended meanwhile, or keeps silent, promised nothing.
        drop(tokio::time::timeout(SETTINGS_TIME_MAX, settled).await);
        self.requests.is_extended_connect_protocol_enabled()
    }

    /// Sends a request's head.
    ///
    /// # Errors
    /// Where the head cannot be said in HTTP/2 or the connection takes no further request.
    pub async fn start(&mut self, request: &Request) -> io::Result<Http2> {
        std::future::poll_fn(|context| self.requests.poll_ready(context))
            .await
            .map_err(io_error)?;
        Http2::start(&mut self.requests, request, Place::of(&self.shared))
    }
}

/// Client settings for connections to origins.
fn builder() -> h2::client::Builder {
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
    place: Place,
}

impl Http2 {
    fn start(
        connection: &mut SendRequest<Bytes>,
        request: &Request,
        place: Place,
    ) -> io::Result<Self> {
        let ends = request.body.is_none() && request.upgrade.is_none();
        let head = head_of(request)?;
        let (response, stream) = connection.send_request(head, ends).map_err(io_error)?;
        let mut outgoing = Outgoing::new();
        outgoing.begin((!ends).then_some(stream), request.body);
        let response = Some(response);
        Ok(Self { response, receive: None, received_all: false, outgoing, place })
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
        // Where the request had been sent to its end, dropping what receives says it.
        self.response = None;
        self.receive = None;
    }

    /// The stream after the origin accepted an extended CONNECT.
    pub fn into_upgraded(self) -> Option<(Http2Io, Place)> {
        Some((Http2Io::new(self.outgoing.into_stream()?, self.receive?), self.place))
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
    let upgrades = request.upgrade.as_ref();
    if let Some(protocol) = upgrades {
        // RFC 8441 section 5: the method says what the key was there to prove.
        *head.method_mut() = http::Method::CONNECT;
        let protocol = std::str::from_utf8(protocol).unwrap_or_default();
        head.extensions_mut().insert(h2::ext::Protocol::from(protocol));
    }
    *head.headers_mut() = header_map_of(&request.fields, |field| {
        let other_te = field.is("te") && !field.value.eq_ignore_ascii_case(b"trailers");
        let key = upgrades.is_some() && field.is("sec-websocket-key");
        !(field.is("host") || field.is("expect") || other_te || key)
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

    fn is_ended(&self) -> bool {
        self.received_all || self.receive.as_ref().is_some_and(RecvStream::is_end_stream)
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
