//! CONNECT-UDP over an HTTP/2 tunnel: datagrams in capsules (RFC 9297, RFC 9298).

use bytes::{Buf, BytesMut};
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::error::ClientError;
use super::h2_stream::H2Stream;
use super::tunnel::{Tunnel, WAIT_MAX, open_http2};

/// Capsule type DATAGRAM (RFC 9297 section 3.5).
const CAPSULE_DATAGRAM: u64 = 0;
/// Context id of UDP payloads (RFC 9298 section 5).
const CONTEXT_UDP: u8 = 0;

/// A datagram flow to one destination.
pub struct UdpFlow {
    stream: H2Stream,
    buffer: BytesMut,
}

impl UdpFlow {
    /// Asks the gateway `proxy` for a flow to `host:port`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the gateway does not want to.
    pub async fn open(
        tunnel: &Tunnel,
        proxy: &str,
        host: &str,
        port: u16,
    ) -> Result<Self, ClientError> {
        let Tunnel::Http2(requests, _) = tunnel else {
            return Err(ClientError::Unsupported("CONNECT-UDP here is for HTTP/2".to_owned()));
        };
        let host = host.replace(':', "%3A");
        let uri = format!("https://{proxy}/.well-known/masque/udp/{host}/{port}/");
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(uri)
            .extension(h2::ext::Protocol::from_static("connect-udp"))
            .header("capsule-protocol", "?1")
            .body(())
            .map_err(|error| ClientError::Unsupported(error.to_string()))?;
        let opening = open_http2(&mut requests.clone(), request).await;
        Ok(Self { stream: opening?, buffer: BytesMut::new() })
    }

    /// # Errors
    /// Where the stream breaks.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), ClientError> {
        send(&mut self.stream, payload).await
    }

    /// The next datagram.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] after 20 s.
    pub async fn receive(&mut self) -> Result<Vec<u8>, ClientError> {
        let received = receive(&mut self.stream, &mut self.buffer);
        timeout(WAIT_MAX, received).await.unwrap_or(Err(ClientError::Timeout))
    }

    /// The two directions, for what sends and receives at once.
    #[must_use]
    pub fn split(self) -> (UdpSender, UdpReceiver) {
        let (read, write) = tokio::io::split(self.stream);
        (UdpSender(write), UdpReceiver { stream: read, buffer: self.buffer })
    }
}

/// Sends the datagrams of a flow.
pub struct UdpSender(WriteHalf<H2Stream>);

/// Receives them.
pub struct UdpReceiver {
    stream: ReadHalf<H2Stream>,
    buffer: BytesMut,
}

impl UdpSender {
    /// # Errors
    /// Where the stream breaks.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), ClientError> {
        send(&mut self.0, payload).await
    }
}

impl UdpReceiver {
    /// The next datagram, however late.
    ///
    /// # Errors
    /// Where the stream breaks or ends.
    pub async fn receive(&mut self) -> Result<Vec<u8>, ClientError> {
        receive(&mut self.stream, &mut self.buffer).await
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> Result<(), ClientError> {
    let mut capsule = Vec::new();
    push_varint(&mut capsule, CAPSULE_DATAGRAM);
    push_varint(&mut capsule, payload.len() as u64 + 1);
    capsule.push(CONTEXT_UDP);
    capsule.extend_from_slice(payload);
    stream.write_all(&capsule).await?;
    Ok(stream.flush().await?)
}

async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Result<Vec<u8>, ClientError> {
    loop {
        if let Some((kind, payload)) = capsule(buffer) {
            if kind == CAPSULE_DATAGRAM && payload.first() == Some(&CONTEXT_UDP) {
                return Ok(payload[1..].to_vec());
            }
            continue;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(ClientError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

fn capsule(buffer: &mut BytesMut) -> Option<(u64, Vec<u8>)> {
    let (kind, first) = varint(buffer)?;
    let (length, second) = varint(&buffer[first..])?;
    let (start, length) = (first + second, usize::try_from(length).ok()?);
    let payload = buffer.get(start..start + length)?.to_vec();
    buffer.advance(start + length);
    Some((kind, payload))
}

/// Value and width of the variable-length integer at the front (RFC 9000 section 16).
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let width = 1 << (first >> 6);
    let rest = bytes.get(1..width)?;
    let start = u64::from(first & 0x3f);
    Some((rest.iter().fold(start, |value, byte| value << 8 | u64::from(*byte)), width))
}

fn push_varint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..64 => out.push(value as u8),
        64..16_384 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        _ => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
    }
}
