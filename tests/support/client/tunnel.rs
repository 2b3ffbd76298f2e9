//! A tunnel: TLS with a device certificate to the gateway, CONNECT streams inside it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request as HttpRequest};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::ClientError;
use super::h2_stream::H2Stream;
use super::message::{Reply, Request};
use super::tls;
use super::wire::Wire;
use crate::BoxStream;
use crate::pki::Chain;

/// No wait of a synthetic client is longer; a gateway that needs more is at fault.
pub const WAIT_MAX: Duration = Duration::from_secs(20);
/// Stream window of the client: fills 1 Gbit/s × 8 ms. The connection holds those of 128 streams, so
/// that unread ones stop no other.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 128 * STREAM_WINDOW_BYTES;

/// The protocol of the leg between client and gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// One CONNECT per connection.
    Http1,
    /// Many CONNECT streams on one connection.
    Http2,
}

impl Leg {
    fn alpn(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// How to reach a gateway as one device.
#[derive(Clone)]
pub struct TunnelTo {
    pub address: SocketAddr,
    /// The SNI: `gateway-<tenant>.<domain>`.
    pub name: String,
    pub leg: Leg,
    pub config: Arc<ClientConfig>,
}

impl TunnelTo {
    /// # Errors
    /// Where certificate or CA cannot be used.
    pub fn new(
        address: SocketAddr,
        name: &str,
        leg: Leg,
        trusted_pem: &str,
        client: Option<&Chain>,
    ) -> Result<Self, ClientError> {
        let config = tls::config(trusted_pem, client, &[leg.alpn()])?;
        Ok(Self { address, name: name.to_owned(), leg, config: Arc::new(config) })
    }

    /// Connects and shakes hands. TLS 1.3 tells a client of a refused certificate only with the
    /// first read, so a refusal may show at [`Tunnel::open`].
    ///
    /// # Errors
    /// Where TCP, TLS or the HTTP/2 preface fails.
    pub async fn connect(&self) -> Result<Tunnel, ClientError> {
        timeout(WAIT_MAX, self.connect_unbounded()).await.unwrap_or(Err(ClientError::Timeout))
    }

    async fn connect_unbounded(&self) -> Result<Tunnel, ClientError> {
        let stream = self.handshake().await?;
        match self.leg {
            Leg::Http1 => Ok(Tunnel::Http1(Some(stream))),
            Leg::Http2 => {
                let (requests, connection) = h2::client::Builder::new()
                    .initial_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                    .max_header_list_size(64 * 1024)
                    .enable_push(false)
                    .handshake::<_, Bytes>(stream)
                    .await?;
                let (ended, end) = tokio::sync::watch::channel(false);
                tokio::spawn(async move {
                    connection.await.ok();
                    ended.send(true).ok();
                });
                Ok(Tunnel::Http2(requests, end))
            }
        }
    }

    async fn handshake(&self) -> Result<BoxStream, ClientError> {
        let tcp = TcpStream::connect(self.address).await.map_err(ClientError::Connect)?;
        tcp.set_nodelay(true).map_err(ClientError::Connect)?;
        let config = Arc::clone(&self.config);
        Ok(Box::new(tls::connect(Box::new(tcp), &self.name, config).await?))
    }
}

/// An open tunnel.
pub enum Tunnel {
    /// `None` once its one stream is taken.
    Http1(Option<BoxStream>),
    /// With a flag that turns true when the connection has ended.
    Http2(SendRequest<Bytes>, tokio::sync::watch::Receiver<bool>),
}

impl Tunnel {
    /// Opens a stream to `host:port`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the gateway answers with another status than 2xx.
    pub async fn open(&mut self, authority: &str) -> Result<BoxStream, ClientError> {
        self.open_with(authority, &[]).await
    }

    /// The same with further fields on the CONNECT request.
    ///
    /// # Errors
    /// As [`Tunnel::open`].
    pub async fn open_with(
        &mut self,
        authority: &str,
        fields: &[(&str, &str)],
    ) -> Result<BoxStream, ClientError> {
        let opened = async {
            match self {
                Self::Http1(stream) => {
                    let used = || ClientError::Unsupported("one stream per h1 tunnel".to_owned());
                    connect_http1(stream.take().ok_or_else(used)?, authority, fields).await
                }
                Self::Http2(requests, _) => connect_http2(requests, authority, fields).await,
            }
        };
        timeout(WAIT_MAX, opened).await.unwrap_or(Err(ClientError::Timeout))
    }

    /// A further handle on the same HTTP/2 tunnel; `None` for HTTP/1.1.
    #[must_use]
    pub fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(requests, end) => Some(Self::Http2(requests.clone(), end.clone())),
        }
    }

    /// Waits until the gateway has ended the tunnel (HTTP/2 only).
    ///
    /// # Errors
    /// [`ClientError::Timeout`] after `wait`.
    pub async fn ended(&mut self, wait: Duration) -> Result<(), ClientError> {
        match self {
            Self::Http1(_) => Err(ClientError::Unsupported("ended() is for HTTP/2".to_owned())),
            Self::Http2(_, end) => {
                let ended = timeout(wait, end.wait_for(|ended| *ended)).await;
                ended.map(|_| ()).map_err(|_| ClientError::Timeout)
            }
        }
    }
}

/// CONNECT over HTTP/1.1 on any stream (a tunnel's, or an explicit listener's).
pub(crate) async fn connect_http1(
    stream: BoxStream,
    authority: &str,
    fields: &[(&str, &str)],
) -> Result<BoxStream, ClientError> {
    let mut request = Request::new("CONNECT", authority);
    for (name, value) in fields {
        request = request.field(name, value);
    }
    let mut wire = Wire::new(stream);
    wire.write_head(&request, authority, authority).await?;
    let (reply, framing) = wire.read_head("CONNECT").await?;
    if !(200..300).contains(&reply.status) {
        return Err(refused(wire.finish(reply, framing).await?));
    }
    if !wire.buffer.is_empty() {
        return Err(ClientError::Malformed("bytes before the client spoke".to_owned()));
    }
    Ok(wire.stream)
}

async fn connect_http2(
    requests: &mut SendRequest<Bytes>,
    authority: &str,
    fields: &[(&str, &str)],
) -> Result<BoxStream, ClientError> {
    let mut request = HttpRequest::builder().method(Method::CONNECT).uri(authority);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(()).map_err(|error| ClientError::Unsupported(error.to_string()))?;
    Ok(Box::new(open_http2(requests, request).await?))
}

/// Sends a CONNECT of any kind and hands out the stream.
pub(crate) async fn open_http2(
    requests: &mut SendRequest<Bytes>,
    request: HttpRequest<()>,
) -> Result<H2Stream, ClientError> {
    let mut ready = requests.clone().ready().await?;
    let (response, sender) = ready.send_request(request, false)?;
    let (head, mut body) = response.await?.into_parts();
    if head.status.is_success() {
        return Ok(H2Stream::new(sender, body));
    }
    let mut reply = Reply { status: head.status.as_u16(), ..Reply::default() };
    reply.fields = super::inner::pairs(&head.headers);
    while let Some(data) = body.data().await {
        let data = data?;
        reply.take(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Err(refused(reply))
}

fn refused(reply: Reply) -> ClientError {
    ClientError::Refused { status: reply.status, fields: reply.fields, body: reply.body }
}
