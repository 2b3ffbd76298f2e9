//! The explicit listener's client: CONNECT and absolute-form over plain TCP, with Basic credentials.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::ClientError;
use super::message::{Reply, Request};
use super::tunnel::{WAIT_MAX, connect_http1};
use super::wire::Wire;
use crate::BoxStream;

/// How to reach an explicit listener.
#[derive(Clone, Debug)]
pub struct Explicit {
    pub address: SocketAddr,
    /// The value of `Proxy-Authorization`.
    pub credentials: Option<String>,
}

impl Explicit {
    /// From a `proxy.url` as `sluice enroll` writes it: `http://user:token@address`.
    ///
    /// # Errors
    /// Where it is not of that form.
    pub fn from_url(url: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::Unsupported(format!("`{url}` is not http://user:token@address"));
        let rest = url.trim().trim_end_matches('/').strip_prefix("http://").ok_or_else(bad)?;
        let (user_info, address) = match rest.rsplit_once('@') {
            Some((user_info, address)) => (Some(user_info), address),
            None => (None, rest),
        };
        let credentials = user_info.map(|it| format!("Basic {}", STANDARD.encode(decoded(it))));
        Ok(Self { address: address.parse().map_err(|_| bad())?, credentials })
    }

    /// CONNECT to `host:port`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with 407 without credentials, and so on.
    pub async fn open(&self, authority: &str) -> Result<BoxStream, ClientError> {
        let stream = self.tcp().await?;
        let fields: Vec<_> =
            self.credentials.iter().map(|it| ("Proxy-Authorization", it.as_str())).collect();
        let opened = timeout(WAIT_MAX, connect_http1(stream, authority, &fields)).await;
        opened.unwrap_or(Err(ClientError::Timeout))
    }

    /// One request in absolute-form (`http://host:port/path`).
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn absolute(&self, url: &str, mut request: Request) -> Result<Reply, ClientError> {
        let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        let host = host.unwrap_or_default().to_owned();
        if let Some(credentials) = &self.credentials {
            request = request.field("Proxy-Authorization", credentials);
        }
        let mut wire = Wire::new(self.tcp().await?);
        let whole = async {
            wire.write_head(&request, url, &host).await?;
            wire.write_body(&request).await?;
            let (reply, framing) = wire.read_head(&request.method).await?;
            wire.finish(reply, framing).await
        };
        timeout(WAIT_MAX, whole).await.unwrap_or(Err(ClientError::Timeout))
    }

    async fn tcp(&self) -> Result<BoxStream, ClientError> {
        let tcp = TcpStream::connect(self.address).await.map_err(ClientError::Connect)?;
        tcp.set_nodelay(true).map_err(ClientError::Connect)?;
        Ok(Box::new(tcp))
    }
}

fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if *first == b'%' => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}
