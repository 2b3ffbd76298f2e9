//! The inner client: TLS over a tunnel's stream with the interception CA, then HTTP/1.1 or HTTP/2.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::error::ClientError;
use super::message::{Body, Reply, Request};
use super::tls;
use super::tunnel::WAIT_MAX;
use super::wire::{Framing, Wire, fill};
use crate::BoxStream;

/// A transfer of many gigabytes may take this long.
const TRANSFER_MAX: Duration = Duration::from_secs(1_800);
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// The protocol inside the intercepted TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

impl Http {
    #[must_use]
    pub fn alpn(self) -> &'static str {
        match self {
            Self::One => "http/1.1",
            Self::Two => "h2",
        }
    }
}

/// One inner connection to one origin.
pub struct Inner {
    speaker: Speaker,
    authority: String,
    secure: bool,
    /// What the gateway showed as the origin's certificate, leaf first; empty over plain HTTP.
    pub shown: Vec<CertificateDer<'static>>,
    pub alpn: Option<String>,
}

enum Speaker {
    One(Wire),
    Two(SendRequest<Bytes>),
}

/// A reply whose body is read piece by piece.
pub struct Incoming<'a> {
    pub reply: Reply,
    body: IncomingBody<'a>,
}

enum IncomingBody<'a> {
    One(&'a mut Wire, Framing),
    Two(RecvStream),
}

impl Inner {
    /// Shakes hands over `stream` as for `authority` (`host:port`) and speaks what ALPN gives.
    ///
    /// # Errors
    /// [`ClientError::Tls`] where the certificate shown does not convince.
    pub async fn tls(
        stream: BoxStream,
        authority: &str,
        config: Arc<ClientConfig>,
    ) -> Result<Self, ClientError> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let shaken = timeout(WAIT_MAX, tls::connect(stream, host, config)).await;
        let stream = shaken.unwrap_or(Err(ClientError::Timeout))?;
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.map(|all| all.iter().map(|one| one.clone().into_owned()).collect());
        let alpn = tls::alpn(&stream);
        let http = if alpn.as_deref() == Some("h2") { Http::Two } else { Http::One };
        let speaker = speak(Box::new(stream), http).await?;
        let shown = shown.unwrap_or_default();
        Ok(Self { speaker, authority: shorten(authority), secure: true, shown, alpn })
    }

    /// Speaks HTTP/1.1 in clear.
    #[must_use]
    pub fn plain(stream: BoxStream, authority: &str) -> Self {
        let speaker = Speaker::One(Wire::new(stream));
        let authority = shorten(authority);
        Self { speaker, authority, secure: false, shown: Vec::new(), alpn: None }
    }

    /// One exchange, read to its end.
    ///
    /// # Errors
    /// Where the connection breaks or nothing comes within 20 s (half an hour for big bodies).
    pub async fn send(&mut self, request: Request) -> Result<Reply, ClientError> {
        let wait = match request.body.length() {
            0..1_000_000 if !request.path.starts_with("/bytes/") => WAIT_MAX,
            _ => TRANSFER_MAX,
        };
        let whole = async { self.start(request).await?.finish().await };
        timeout(wait, whole).await.unwrap_or(Err(ClientError::Timeout))
    }

    /// # Errors
    /// As [`Inner::send`].
    pub async fn get(&mut self, path: &str) -> Result<Reply, ClientError> {
        self.send(Request::get(path)).await
    }

    /// Sends the request with its body and reads the reply's head.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn start(&mut self, request: Request) -> Result<Incoming<'_>, ClientError> {
        match &mut self.speaker {
            Speaker::One(wire) => {
                wire.write_head(&request, &request.path, &self.authority).await?;
                // A gateway that refuses answers before the body is through, and the write then
                // fails: the answer is what counts.
                let written = wire.write_body(&request).await;
                let (reply, framing) = match wire.read_head(&request.method).await {
                    Ok(head) => head,
                    Err(unread) => return Err(written.err().unwrap_or(unread)),
                };
                Ok(Incoming { reply, body: IncomingBody::One(wire, framing) })
            }
            Speaker::Two(requests) => {
                let scheme = if self.secure { "https" } else { "http" };
                let uri = format!("{scheme}://{}{}", self.authority, request.path);
                start_http2(requests, &request, &uri).await
            }
        }
    }

    /// A further handle on the same HTTP/2 connection; `None` for HTTP/1.1.
    #[must_use]
    pub fn share(&self) -> Option<Self> {
        let Speaker::Two(requests) = &self.speaker else { return None };
        Some(Self {
            speaker: Speaker::Two(requests.clone()),
            authority: self.authority.clone(),
            secure: self.secure,
            shown: self.shown.clone(),
            alpn: self.alpn.clone(),
        })
    }

    /// The stream itself with what was read ahead, for WebSockets and for bytes of one's own.
    #[must_use]
    pub fn into_stream(self) -> Option<(BoxStream, bytes::BytesMut)> {
        match self.speaker {
            Speaker::One(wire) => Some((wire.stream, wire.buffer)),
            Speaker::Two(_) => None,
        }
    }

    /// The HTTP/2 connection, for requests of one's own.
    #[must_use]
    pub fn http2(&mut self) -> Option<&mut SendRequest<Bytes>> {
        match &mut self.speaker {
            Speaker::One(_) => None,
            Speaker::Two(requests) => Some(requests),
        }
    }
}

impl Incoming<'_> {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// Where the connection or stream breaks.
    pub async fn data(&mut self) -> Result<Option<Bytes>, ClientError> {
        match &mut self.body {
            IncomingBody::One(wire, framing) => wire.data(framing, &mut self.reply.trailers).await,
            IncomingBody::Two(body) => {
                if let Some(data) = body.data().await {
                    let data = data?;
                    body.flow_control().release_capacity(data.len())?;
                    return Ok(Some(data));
                }
                if let Some(trailers) = body.trailers().await? {
                    self.reply.trailers = pairs(&trailers);
                }
                Ok(None)
            }
        }
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// As [`Incoming::data`].
    pub async fn finish(mut self) -> Result<Reply, ClientError> {
        while let Some(data) = self.data().await? {
            self.reply.take(&data);
        }
        Ok(self.reply)
    }
}

async fn speak(stream: BoxStream, http: Http) -> Result<Speaker, ClientError> {
    if http == Http::One {
        return Ok(Speaker::One(Wire::new(stream)));
    }
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(4 * WINDOW_BYTES)
        .max_header_list_size(256 * 1024)
        .enable_push(false)
        .handshake::<_, Bytes>(stream)
        .await?;
    tokio::spawn(async move {
        // The end of the connection shows in every stream on it.
        connection.await.ok();
    });
    Ok(Speaker::Two(requests))
}

async fn start_http2<'a>(
    requests: &mut SendRequest<Bytes>,
    request: &Request,
    uri: &str,
) -> Result<Incoming<'a>, ClientError> {
    let unusable = |error: &dyn std::fmt::Display| ClientError::Unsupported(error.to_string());
    let mut head = http::Request::builder().method(request.method.as_str()).uri(uri);
    for (name, value) in &request.fields {
        head = head.header(name, value);
    }
    if matches!(request.body, Body::Bytes(_) | Body::Fill(_)) && request.trailers.is_empty() {
        head = head.header("content-length", request.body.length());
    }
    let head = head.body(()).map_err(|error| unusable(&error))?;
    let empty = matches!(request.body, Body::None) && request.trailers.is_empty();
    let mut ready = requests.clone().ready().await?;
    let (mut response, mut sender) = ready.send_request(head, empty)?;
    let mut early = Vec::new();
    let sending = async { if empty { Ok(()) } else { send_body(&mut sender, request).await } };
    let receiving = async {
        while let Some(one) = poll_fn(|cx| response.poll_informational(cx)).await {
            let one = one?;
            early.push((one.status().as_u16(), pairs(one.headers())));
        }
        (&mut response).await
    };
    tokio::pin!(sending, receiving);
    // The reply may come before the body is through, and then ends the exchange.
    let response = tokio::select! {
        response = &mut receiving => response?,
        sent = &mut sending => {
            let response = receiving.await;
            if response.is_err() { sent?; }
            response?
        }
    };
    let (head, body) = response.into_parts();
    let reply = Reply {
        status: head.status.as_u16(),
        fields: pairs(&head.headers),
        early,
        ..Reply::default()
    };
    Ok(Incoming { reply, body: IncomingBody::Two(body) })
}

async fn send_body(sender: &mut SendStream<Bytes>, request: &Request) -> Result<(), h2::Error> {
    match &request.body {
        Body::None => {}
        Body::Bytes(bytes) => crate::origin::send_data(sender, bytes.clone()).await?,
        Body::Fill(count) | Body::FillUnsized(count) => {
            let (pattern, mut left) = (fill(), *count);
            while left > 0 {
                let now = usize::try_from(left).unwrap_or(usize::MAX).min(pattern.len());
                crate::origin::send_data(sender, pattern.slice(..now)).await?;
                left -= now as u64;
            }
        }
    }
    if request.trailers.is_empty() {
        return sender.send_data(Bytes::new(), true);
    }
    let mut trailers = HeaderMap::new();
    for (name, value) in &request.trailers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            trailers.append(name, value);
        }
    }
    sender.send_trailers(trailers)
}

pub(crate) fn pairs(fields: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    fields.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// As clients write it: without a default port.
fn shorten(authority: &str) -> String {
    authority.strip_suffix(":443").unwrap_or(authority).to_owned()
}
