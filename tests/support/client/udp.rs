//! CONNECT-UDP over an HTTP/2 tunnel: datagrams in capsules (RFC 9297, RFC 9298).

use bytes::{Buf, BytesMut};
use http::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
        let mut capsule = Vec::new();
        push_varint(&mut capsule, CAPSULE_DATAGRAM);
        push_varint(&mut capsule, payload.len() as u64 + 1);
        capsule.push(CONTEXT_UDP);
        capsule.extend_from_slice(payload);
        self.stream.write_all(&capsule).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next datagram.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] after 20 s.
    pub async fn receive(&mut self) -> Result<Vec<u8>, ClientError> {
        timeout(WAIT_MAX, self.receive_unbounded()).await.unwrap_or(Err(ClientError::Timeout))
    }

    async fn receive_unbounded(&mut self) -> Result<Vec<u8>, ClientError> {
        loop {
            if let Some((kind, payload)) = self.capsule() {
                if kind == CAPSULE_DATAGRAM && payload.first() == Some(&CONTEXT_UDP) {
                    return Ok(payload[1..].to_vec());
                }
                continue;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ClientError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn capsule(&mut self) -> Option<(u64, Vec<u8>)> {
        let (kind, first) = varint(&self.buffer)?;
        let (length, second) = varint(&self.buffer[first..])?;
        let (start, length) = (first + second, usize::try_from(length).ok()?);
        let payload = self.buffer.get(start..start + length)?.to_vec();
        self.buffer.advance(start + length);
        Some((kind, payload))
    }
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
