//! An inner connection of either kind: over a stream, or over datagrams.

use ::tests::client::error::ClientError;
use ::tests::client::http3::{Carried, Http3};
use ::tests::client::inner::Inner;
use ::tests::client::message::{Reply, Request};
use ::tests::client::udp::UdpFlow;

use crate::packets;
use crate::target::Held;

pub(crate) enum Inside {
    Stream(Box<Inner>),
    Quic(Box<Http3>),
}

impl Inside {
    /// One exchange, read to its end.
    pub(crate) async fn send(&mut self, request: Request) -> Result<Reply, ClientError> {
        match self {
            Self::Stream(inner) => inner.send(request).await,
            Self::Quic(http3) => http3.send(request).await,
        }
    }
}

/// HTTP/3 to an authority, by the tunnel's own UDP or by CONNECT-UDP at `proxy`.
pub(crate) async fn http3(
    tunnel: Option<&Held>,
    proxy: &str,
    authority: &str,
    trusted_pem: &str,
) -> Result<Http3, ClientError> {
    let wrong = || ClientError::Unsupported(format!("`{authority}` is not HOST:PORT"));
    let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let carried = match tunnel {
        Some(Held::Streams(tunnel)) => {
            Carried::flow(UdpFlow::open(tunnel, proxy, host, port).await?).await?
        }
        Some(Held::Quic(tunnel)) => Carried::quic(tunnel.udp(proxy, host, port).await?).await?,
        Some(Held::Packets(tunnel)) => {
            let to = packets::address(tunnel, host, port).await?;
            Carried::packets(tunnel.stack().udp()?, to).await?
        }
        None => return Err(ClientError::Unsupported("UDP needs a shared tunnel".to_owned())),
    };
    Http3::connect(&carried, authority, trusted_pem).await
}
