//! The inner client over QUIC: HTTP/3 with the interception CA, over the UDP of any tunnel.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::error::ClientError;
use super::inner::pairs;
use super::message::{Body, Reply, Request};
use super::packet::PacketSocket;
use super::quic::QuicUdp;
use super::tls;
use super::tunnel::WAIT_MAX;
use super::udp::UdpFlow;
use super::wire::fill;

/// A transfer of many megabytes may take this long.
const TRANSFER_MAX: Duration = Duration::from_secs(600);
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// One inner connection to one origin.
pub struct Http3 {
    requests: SendRequest<h3_quinn::OpenStreams, Bytes>,
    pub quic: quinn::Connection,
    authority: String,
    _endpoint: Endpoint,
}

/// Datagrams to one destination and back, whatever carries them.
pub struct Carried {
    to_client: SocketAddr,
}

impl Carried {
    /// Where programs of this machine send what is to be carried.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.to_client
    }

    /// By a socket of a packet tunnel.
    ///
    /// # Errors
    /// Where this machine gives no socket.
    pub async fn packets(socket: PacketSocket, to: SocketAddr) -> Result<Self, ClientError> {
        let (local, to_client) = local().await?;
        tokio::spawn(async move {
            let mut socket = socket;
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            loop {
                tokio::select! {
                    sent = local.0.recv_from(&mut buffer) => {
                        let Ok((length, from)) = sent else { return };
                        local.1.send_replace(Some(from));
                        // What does not fit is lost, as on a real path.
                        socket.send_to(to, &buffer[..length]).await.ok();
                    }
                    came = socket.receive(Duration::from_secs(3_600)) => {
                        let Ok((_, datagram)) = came else { return };
                        local.back(&datagram).await;
                    }
                }
            }
        });
        Ok(Self { to_client })
    }

    /// By a CONNECT-UDP stream.
    ///
    /// # Errors
    /// Where this machine gives no socket.
    pub async fn flow(flow: UdpFlow) -> Result<Self, ClientError> {
        let (local, to_client) = local().await?;
        let (mut sender, mut receiver) = flow.split();
        let (came, mut coming) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok(datagram) = receiver.receive().await {
                if came.send(datagram).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            loop {
                tokio::select! {
                    sent = local.0.recv_from(&mut buffer) => {
                        let Ok((length, from)) = sent else { return };
                        local.1.send_replace(Some(from));
                        if sender.send(&buffer[..length]).await.is_err() {
                            return;
                        }
                    }
                    datagram = coming.recv() => {
                        let Some(datagram) = datagram else { return };
                        local.back(&datagram).await;
                    }
                }
            }
        });
        Ok(Self { to_client })
    }
}

impl Carried {
    /// By CONNECT-UDP in a QUIC tunnel.
    ///
    /// # Errors
    /// Where this machine gives no socket.
    pub async fn quic(flow: QuicUdp) -> Result<Self, ClientError> {
        let (local, to_client) = local().await?;
        tokio::spawn(async move {
            let mut flow = flow;
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            loop {
                tokio::select! {
                    sent = local.0.recv_from(&mut buffer) => {
                        let Ok((length, from)) = sent else { return };
                        local.1.send_replace(Some(from));
                        let datagram = &buffer[..length];
                        // What is too long for a datagram goes by the stream.
                        if flow.send(datagram).await.is_err()
                            && flow.send_capsule(datagram).await.is_err()
                        {
                            return;
                        }
                    }
                    came = flow.receive() => match came {
                        Ok(datagram) => local.back(&datagram).await,
                        Err(ClientError::Timeout) => {}
                        Err(_) => return,
                    }
                }
            }
        });
        Ok(Self { to_client })
    }
}

/// A socket that stands for the far end, and who talks to it.
struct Local(UdpSocket, tokio::sync::watch::Sender<Option<SocketAddr>>);

impl Local {
    async fn back(&self, datagram: &[u8]) {
        let client = *self.1.borrow();
        if let Some(client) = client {
            self.0.send_to(datagram, client).await.ok();
        }
    }
}

async fn local() -> Result<(Local, SocketAddr), ClientError> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = socket.local_addr()?;
    Ok((Local(socket, tokio::sync::watch::Sender::new(None)), address))
}

impl Http3 {
    /// Shakes hands as for `authority` (`host:port`) and opens HTTP/3.
    ///
    /// # Errors
    /// [`ClientError::Quic`] where the handshake fails.
    pub async fn connect(
        carried: &Carried,
        authority: &str,
        trusted_pem: &str,
    ) -> Result<Self, ClientError> {
        let (quic, endpoint) = bare(carried, authority, trusted_pem).await?;
        let (mut driver, requests) = h3::client::builder()
            .send_grease(true)
            .build(h3_quinn::Connection::new(quic.clone()))
            .await
            .map_err(|error| ClientError::Http3(error.to_string()))?;
        tokio::spawn(async move {
            // The end of the connection shows in every stream on it.
            let _ended = driver.wait_idle().await;
        });
        let authority = authority.strip_suffix(":443").unwrap_or(authority).to_owned();
        Ok(Self { requests, quic, authority, _endpoint: endpoint })
    }

    /// # Errors
    /// As [`Http3::send`].
    pub async fn get(&self, path: &str) -> Result<Reply, ClientError> {
        self.send(Request::get(path)).await
    }

    /// One exchange, read to its end.
    ///
    /// # Errors
    /// Where the stream or connection breaks.
    pub async fn send(&self, request: Request) -> Result<Reply, ClientError> {
        let whole = self.exchange(request);
        timeout(TRANSFER_MAX, whole).await.unwrap_or(Err(ClientError::Timeout))
    }

    async fn exchange(&self, request: Request) -> Result<Reply, ClientError> {
        let broken = |error: h3::error::StreamError| ClientError::Http3(error.to_string());
        let uri = format!("https://{}{}", self.authority, request.path);
        let mut head = http::Request::builder().method(request.method.as_str()).uri(uri);
        for (name, value) in &request.fields {
            head = head.header(name, value);
        }
        if matches!(request.body, Body::Bytes(_) | Body::Fill(_)) && request.trailers.is_empty() {
            head = head.header("content-length", request.body.length());
        }
        let head = head.body(()).map_err(|error| ClientError::Unsupported(error.to_string()))?;
        let stream = self.requests.clone().send_request(head).await.map_err(broken)?;
        let (mut sender, mut receiver) = stream.split();
        let sending = async {
            match &request.body {
                Body::None => {}
                Body::Bytes(bytes) => sender.send_data(bytes.clone()).await?,
                Body::Fill(count) | Body::FillUnsized(count) => {
                    let (pattern, mut left) = (fill(), *count);
                    while left > 0 {
                        let now = usize::try_from(left).unwrap_or(usize::MAX).min(pattern.len());
                        sender.send_data(pattern.slice(..now)).await?;
                        left -= now as u64;
                    }
                }
            }
            if !request.trailers.is_empty() {
                let mut trailers = http::HeaderMap::new();
                for (name, value) in &request.trailers {
                    if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), value.parse())
                    {
                        trailers.append(name, value);
                    }
                }
                sender.send_trailers(trailers).await?;
            }
            sender.finish().await
        };
        let receiving = async {
            let mut early = Vec::new();
            let head = loop {
                let head = receiver.recv_response().await?;
                if !head.status().is_informational() {
                    break head;
                }
                early.push((head.status().as_u16(), pairs(head.headers())));
            };
            let mut reply = Reply {
                status: head.status().as_u16(),
                fields: pairs(head.headers()),
                early,
                ..Reply::default()
            };
            while let Some(mut data) = receiver.recv_data().await? {
                let data = data.copy_to_bytes(data.remaining());
                reply.take(&data);
            }
            if let Some(trailers) = receiver.recv_trailers().await? {
                reply.trailers = pairs(&trailers);
            }
            Ok(reply)
        };
        tokio::pin!(sending, receiving);
        // The reply may come before the body is through, and then ends the exchange.
        tokio::select! {
            reply = &mut receiving => reply.map_err(broken),
            sent = &mut sending => {
                let reply = receiving.await;
                if reply.is_err() { sent.map_err(broken)?; }
                reply.map_err(broken)
            }
        }
    }
}

/// The QUIC connection alone, without HTTP/3 on it, and what drives it.
///
/// # Errors
/// As [`Http3::connect`].
pub async fn bare(
    carried: &Carried,
    authority: &str,
    trusted_pem: &str,
) -> Result<(quinn::Connection, Endpoint), ClientError> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let tls = tls::config(trusted_pem, None, &["h3"])?;
    let tls = QuicClientConfig::try_from(tls)
        .map_err(|error| ClientError::Unsupported(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(tls));
    let mut transport = TransportConfig::default();
    transport.stream_receive_window((1_u32 << 20).into());
    config.transport_config(Arc::new(transport));
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    let connecting = endpoint
        .connect_with(config, carried.to_client, host)
        .map_err(|error| ClientError::Unsupported(error.to_string()))?;
    let shaken = timeout(WAIT_MAX, connecting).await;
    let quic = shaken.map_err(|_| ClientError::Timeout)?.map_err(ClientError::Quic)?;
    Ok((quic, endpoint))
}
