//! The QUIC client: HTTP/3 to the gateway, CONNECT streams and UDP flows inside it. It is written
//! on QUIC itself, since client libraries send CONNECT with a path, which no proxy may take.

pub mod initial;
mod stream;
mod udp;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gateway_proto::h3::{Event, FrameReader, Settings, put_headers, put_settings, qpack};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, TransportConfig};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

pub use stream::QuicStream;
pub use udp::{Came, QuicUdp};

use super::error::ClientError;
use super::tls;
use super::tunnel::WAIT_MAX;
use crate::BoxStream;
use crate::pki::Chain;

/// Field sections of the gateway's answers.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Room for bursts, as programs ask for that have many streams.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Unread datagrams of one flow.
const DATAGRAMS_MAX: usize = 1024;

/// How to reach a gateway by QUIC as one device. Tunnels of one value share a socket.
#[derive(Clone)]
pub struct QuicTo {
    pub address: SocketAddr,
    pub name: String,
    pub endpoint: Endpoint,
    config: ClientConfig,
    datagrams: bool,
}

impl QuicTo {
    /// # Errors
    /// Where certificate or CA cannot be used, or there is no port.
    pub fn new(
        address: SocketAddr,
        name: &str,
        trusted_pem: &str,
        client: Option<&Chain>,
    ) -> Result<Self, ClientError> {
        let config = tls::config(trusted_pem, client, &["h3"])?;
        Self::with_tls(address, name, config)
    }

    /// With a TLS configuration of one's own.
    ///
    /// # Errors
    /// As [`QuicTo::new`].
    pub fn with_tls(
        address: SocketAddr,
        name: &str,
        config: rustls::ClientConfig,
    ) -> Result<Self, ClientError> {
        let unusable = |error: quinn::crypto::rustls::NoInitialCipherSuite| {
            ClientError::Unsupported(error.to_string())
        };
        let initial = TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite());
        let initial = initial.expect("a suite for Initial packets");
        let crypto = QuicClientConfig::with_initial(Arc::new(config), initial).map_err(unusable)?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        transport
            .stream_receive_window((4_u32 << 20).into())
            .receive_window((16_u32 << 20).into())
            .max_concurrent_uni_streams(8_u32.into());
        config.transport_config(Arc::new(transport));
        Ok(Self {
            address,
            name: name.to_owned(),
            endpoint: endpoint(address)?,
            config,
            datagrams: true,
        })
    }

    /// As one that does not understand QUIC datagrams: capsules carry its flows.
    #[must_use]
    pub fn without_datagrams(mut self) -> Self {
        self.datagrams = false;
        self
    }

    /// From a socket of its own.
    ///
    /// # Errors
    /// Where there is no port.
    pub fn from_elsewhere(mut self) -> Result<Self, ClientError> {
        self.endpoint = endpoint(self.address)?;
        Ok(self)
    }

    /// Shakes hands and speaks HTTP/3. A refused certificate shows here or at the first stream:
    /// TLS 1.3 tells a client late.
    ///
    /// # Errors
    /// [`ClientError::Tls`] where the gateway refuses.
    pub async fn connect(&self) -> Result<QuicTunnel, ClientError> {
        timeout(WAIT_MAX, self.connect_unbounded()).await.unwrap_or(Err(ClientError::Timeout))
    }

    /// The QUIC connection alone, without HTTP/3 on it.
    ///
    /// # Errors
    /// As [`QuicTo::connect`].
    pub async fn bare(&self) -> Result<Connection, ClientError> {
        let wrong = |error: quinn::ConnectError| ClientError::Unsupported(error.to_string());
        let config = self.config.clone();
        let connecting =
            self.endpoint.connect_with(config, self.address, &self.name).map_err(wrong)?;
        connecting.await.map_err(|error| ClientError::Tls(std::io::Error::other(error)))
    }

    /// Whether an earlier connection left a ticket with which data could go before the handshake.
    ///
    /// # Errors
    /// As [`QuicTo::connect`].
    pub fn can_send_early(&self) -> Result<bool, ClientError> {
        let wrong = |error: quinn::ConnectError| ClientError::Unsupported(error.to_string());
        let config = self.config.clone();
        let connecting = self.endpoint.connect_with(config, self.address, &self.name);
        Ok(connecting.map_err(wrong)?.into_0rtt().is_ok())
    }

    async fn connect_unbounded(&self) -> Result<QuicTunnel, ClientError> {
        let connection = self.bare().await?;
        let mut control = connection.open_uni().await.map_err(broken)?;
        let settings = Settings { h3_datagram: self.datagrams, ..Settings::default() };
        let mut out = BytesMut::from(&[0][..]);
        put_settings(&settings, &mut out);
        control.write_chunk(out.freeze()).await.map_err(broken)?;
        let (said, heard) = watch::channel(Said::default());
        let flows = Arc::new(Mutex::new(HashMap::new()));
        tokio::spawn(listen(connection.clone(), said));
        tokio::spawn(deal(connection.clone(), Arc::clone(&flows)));
        let control = Control { connection: connection.clone(), _stream: control };
        let control = Arc::new(control);
        Ok(QuicTunnel { connection, heard, flows, _control: control, datagrams: self.datagrams })
    }
}

/// A socket of its own from which `to` can be reached.
fn endpoint(to: SocketAddr) -> Result<Endpoint, ClientError> {
    let own = if to.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let socket = std::net::UdpSocket::bind((own, 0)).map_err(ClientError::Connect)?;
    // What the system does not grant, it says by doing less.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES).ok();
    let runtime = Arc::new(quinn::TokioRuntime);
    let config = EndpointConfig::default();
    Endpoint::new(config, None, socket, runtime).map_err(ClientError::Connect)
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> ClientError {
    ClientError::Broken(std::io::Error::other(error))
}

/// What the gateway said on its control stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub settings: Option<Settings>,
    pub goaway: Option<u64>,
}

type Flows = Arc<Mutex<HashMap<u64, mpsc::Sender<Bytes>>>>;

/// An open tunnel.
#[derive(Clone)]
pub struct QuicTunnel {
    pub connection: Connection,
    heard: watch::Receiver<Said>,
    flows: Flows,
    _control: Arc<Control>,
    datagrams: bool,
}

/// The control stream. With its last handle the client says goodbye: an end of this stream alone is a
/// violation (RFC 9114 section 6.2.1).
struct Control {
    connection: Connection,
    _stream: quinn::SendStream,
}

/// RFC 9114 section 8.1.
const H3_NO_ERROR: u32 = 0x100;

impl Drop for Control {
    fn drop(&mut self) {
        self.connection.close(H3_NO_ERROR.into(), b"");
    }
}

impl QuicTunnel {
    /// Opens a stream to `host:port`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the gateway answers with another status than 2xx.
    pub async fn open(&self, authority: &str) -> Result<BoxStream, ClientError> {
        self.open_with(authority, &[]).await
    }

    /// The same with further fields on the CONNECT request.
    ///
    /// # Errors
    /// As [`QuicTunnel::open`].
    pub async fn open_with(
        &self,
        authority: &str,
        fields: &[(&str, &str)],
    ) -> Result<BoxStream, ClientError> {
        let head = [&[(":method", "CONNECT"), (":authority", authority)][..], fields].concat();
        Ok(Box::new(self.accepted(&head).await?))
    }

    /// Asks the gateway `proxy` for a UDP flow to `host:port`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the gateway does not want to.
    pub async fn udp(&self, proxy: &str, host: &str, port: u16) -> Result<QuicUdp, ClientError> {
        let path = format!("/.well-known/masque/udp/{}/{port}/", host.replace(':', "%3A"));
        let head = [
            (":method", "CONNECT"),
            (":protocol", "connect-udp"),
            (":scheme", "https"),
            (":authority", proxy),
            (":path", path.as_str()),
            ("capsule-protocol", "?1"),
        ];
        let stream = self.accepted(&head).await?;
        let (deliver, incoming) = mpsc::channel(DATAGRAMS_MAX);
        self.flows.lock().expect("the flows").insert(stream.id() / 4, deliver);
        Ok(QuicUdp::new(stream, self.connection.clone(), incoming, self.datagrams))
    }

    /// Sends a head of any kind and waits for the answer's.
    ///
    /// # Errors
    /// Where the stream or the connection breaks.
    pub async fn ask(&self, head: &[(&str, &str)]) -> Result<(u16, QuicStream), ClientError> {
        let (status, _, stream) = self.answered(head).await?;
        Ok((status, stream))
    }

    async fn accepted(&self, head: &[(&str, &str)]) -> Result<QuicStream, ClientError> {
        let (status, fields, stream) = self.answered(head).await?;
        if (200..300).contains(&status) {
            return Ok(stream);
        }
        Err(ClientError::Refused { status, fields, body: Vec::new() })
    }

    async fn answered(
        &self,
        head: &[(&str, &str)],
    ) -> Result<(u16, Vec<(String, String)>, QuicStream), ClientError> {
        let asked = async {
            let (mut send, recv) = self.connection.open_bi().await.map_err(broken)?;
            send.write_chunk(encode(head)).await.map_err(broken)?;
            let mut stream = QuicStream::new(send, recv);
            let section = stream.head().await.map_err(ClientError::Broken)?;
            let (status, fields) = decode(&section)?;
            Ok((status, fields, stream))
        };
        timeout(WAIT_MAX, asked).await.unwrap_or(Err(ClientError::Timeout))
    }

    /// Waits until the gateway has said what `enough` waits for.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] after `wait`.
    pub async fn hears(
        &self,
        wait: Duration,
        enough: impl Fn(&Said) -> bool,
    ) -> Result<Said, ClientError> {
        let mut heard = self.heard.clone();
        let said = timeout(wait, heard.wait_for(enough)).await.map_err(|_| ClientError::Timeout)?;
        said.map(|said| *said).map_err(broken)
    }

    /// Waits until the connection has ended, and says how.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] after `wait`.
    pub async fn ended(&self, wait: Duration) -> Result<quinn::ConnectionError, ClientError> {
        timeout(wait, self.connection.closed()).await.map_err(|_| ClientError::Timeout)
    }
}

/// A HEADERS frame.
#[must_use]
pub fn encode(head: &[(&str, &str)]) -> Bytes {
    let mut section = BytesMut::new();
    qpack::encode_prefix(&mut section);
    for (name, value) in head {
        qpack::encode_field(name.as_bytes(), value.as_bytes(), &mut section);
    }
    let mut out = BytesMut::new();
    put_headers(&section, &mut out);
    out.freeze()
}

fn decode(section: &[u8]) -> Result<(u16, Vec<(String, String)>), ClientError> {
    let mut fields = Vec::new();
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    qpack::decode(section, HEAD_BYTES_MAX, |name, value| fields.push((text(name), text(value))))
        .map_err(|fault| ClientError::Malformed(fault.to_string()))?;
    let status = fields.iter().find(|(name, _)| name == ":status").map(|(_, value)| value);
    let status = status.and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| ClientError::Malformed("no status".to_owned()))?;
    Ok((status, fields))
}

/// Reads the gateway's unidirectional streams; the control stream's words are told.
async fn listen(connection: Connection, said: watch::Sender<Said>) {
    let said = Arc::new(said);
    while let Ok(stream) = connection.accept_uni().await {
        tokio::spawn(hear(stream, Arc::clone(&said)));
    }
}

async fn hear(mut stream: RecvStream, said: Arc<watch::Sender<Said>>) {
    let mut kind = [0];
    if stream.read_exact(&mut kind).await.is_err() || kind != [0] {
        return;
    }
    let mut frames = FrameReader::control();
    while let Ok(Some(chunk)) = stream.read_chunk(HEAD_BYTES_MAX, true).await {
        let mut bytes = chunk.bytes;
        while let Ok(Some(event)) = frames.next(&mut bytes) {
            said.send_modify(|said| match event {
                Event::Settings(settings) => said.settings = Some(settings),
                Event::Goaway(id) => said.goaway = Some(id),
                _ => {}
            });
        }
    }
}

/// Gives QUIC datagrams to their flows.
async fn deal(connection: Connection, flows: Flows) {
    while let Ok(mut datagram) = connection.read_datagram().await {
        let Some((quarter, width)) = gateway_proto::capsule::read_varint(&datagram) else {
            continue;
        };
        let payload = datagram.split_off(width);
        let flow = flows.lock().expect("the flows").get(&quarter).cloned();
        if let Some(flow) = flow {
            // One that does not read loses datagrams.
            flow.try_send(payload).ok();
        }
    }
}
