//! Clients that misbehave in named ways, against the tunnel port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::error::ClientError;
use super::tls;
use crate::pki::Chain;

/// How the gateway ended a hostile connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A TLS alert, as rustls names it, or another handshake failure.
    Alert(String),
    /// The connection was closed; these bytes had come.
    Closed(Vec<u8>),
    /// It was still open after the wait.
    StillOpen,
}

/// Sends `bytes` at once and waits for the end.
///
/// # Errors
/// Where TCP does not connect.
pub async fn send_first(
    address: SocketAddr,
    bytes: &[u8],
    wait: Duration,
) -> Result<Ending, ClientError> {
    let mut tcp = TcpStream::connect(address).await.map_err(ClientError::Connect)?;
    // A gateway that closes at once makes the write fail, which is an ending too.
    tcp.write_all(bytes).await.ok();
    Ok(drain(&mut tcp, wait).await)
}

/// Sends `bytes` one by one, `apart`, as a slow handshake does.
///
/// # Errors
/// Where TCP does not connect.
pub async fn drip(
    address: SocketAddr,
    bytes: &[u8],
    apart: Duration,
    wait: Duration,
) -> Result<Ending, ClientError> {
    let mut tcp = TcpStream::connect(address).await.map_err(ClientError::Connect)?;
    for byte in bytes {
        if tcp.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(apart).await;
    }
    Ok(drain(&mut tcp, wait).await)
}

/// Connects and says nothing.
///
/// # Errors
/// Where TCP does not connect.
pub async fn half_open(address: SocketAddr) -> Result<TcpStream, ClientError> {
    TcpStream::connect(address).await.map_err(ClientError::Connect)
}

/// A handshake with any SNI (none for `None`), any client certificate, any ALPN; no verification
/// failure of ours can hide the gateway's answer, since `trusted_pem` is the tunnel's own CA.
#[derive(Clone, Debug)]
pub struct Handshake<'a> {
    pub address: SocketAddr,
    pub sni: Option<&'a str>,
    /// The name the certificate is checked against where the SNI is not sent.
    pub verify: &'a str,
    pub trusted_pem: &'a str,
    pub client: Option<&'a Chain>,
    pub alpn: &'a [&'a str],
    /// Written after the handshake.
    pub then: &'a [u8],
    pub wait: Duration,
}

impl Handshake<'_> {
    /// # Errors
    /// Where TCP does not connect or the certificate cannot be used.
    pub async fn run(self) -> Result<Ending, ClientError> {
        let tcp = TcpStream::connect(self.address).await.map_err(ClientError::Connect)?;
        let mut config = tls::config(self.trusted_pem, self.client, self.alpn)?;
        config.enable_sni = self.sni.is_some();
        let name = self.sni.unwrap_or(self.verify).to_owned();
        let name = rustls::pki_types::ServerName::try_from(name)
            .map_err(|error| ClientError::Unsupported(error.to_string()))?;
        let shaking = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let mut stream = match timeout(self.wait, shaking).await {
            Err(_) => return Ok(Ending::StillOpen),
            Ok(Err(error)) => return Ok(Ending::Alert(error.to_string())),
            Ok(Ok(stream)) => stream,
        };
        stream.write_all(self.then).await.ok();
        stream.flush().await.ok();
        Ok(drain(&mut stream, self.wait).await)
    }
}

async fn drain(stream: &mut (impl AsyncReadExt + Unpin), wait: Duration) -> Ending {
    let mut got = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return Ending::Closed(std::mem::take(&mut got)),
                // A reset carries no alert; what the TLS layer says does.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Ending::Closed(std::mem::take(&mut got));
                }
                Err(error) => return Ending::Alert(error.to_string()),
                Ok(count) => got.extend_from_slice(&buffer[..count]),
            }
        }
    };
    timeout(wait, reading).await.unwrap_or(Ending::StillOpen)
}
