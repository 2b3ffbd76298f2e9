//! QUIC tunnels: who gets one, what goes through it, where it may move, and what strangers get.

mod aioquic;
mod datagrams;
mod hostile;
mod moves;
mod requests;
mod rules;
mod scenarios;
mod strangers;
mod tunnels;

use std::time::Duration;

use tests::client::quic::QuicTunnel;
use tests::{ClientError, Gateway, Origin, Reply};

const SOON: Duration = Duration::from_secs(10);

/// What a page of the origin says through the tunnel.
async fn fetch(
    gateway: &Gateway,
    tunnel: &QuicTunnel,
    origin: &Origin,
    path: &str,
) -> Result<Reply, ClientError> {
    let authority = format!("site.test:{}", origin.port());
    let stream = tunnel.open(&authority).await?;
    gateway.browser().inner(stream, &authority).await?.get(path).await
}

/// Whether the gateway lets a client in: TLS 1.3 tells it of a refusal only with the first answer.
async fn is_let_in(
    tunnel: Result<QuicTunnel, ClientError>,
    authority: &str,
) -> Result<(), ClientError> {
    tunnel?.open(authority).await.map(|_| ())
}
