//! The client's handshake over QUIC (RFC 9001): the same leafs, and the same words for what fails.

use std::sync::Arc;

use quinn::ConnectionError;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use rustls::AlertDescription;

use super::accept::{AcceptError, ClientTls, alert_name, is_refusal};
use super::leaf::{Leaf, client_facing};
use crate::limit::quic::Bounded;

/// The protocol of HTTP/3 in ALPN.
pub const ALPN: &[u8] = b"h3";

/// What to accept a client with, showing `leaf`.
///
/// # Errors
/// Where the TLS library has no suite for Initial packets.
pub fn server(
    leaf: &Leaf,
    transport: quinn::TransportConfig,
) -> Result<quinn::ServerConfig, AcceptError> {
    let tls = QuicServerConfig::try_from(client_facing(leaf, &[ALPN]))
        .map_err(|error| AcceptError::Internal(error.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(Bounded(Arc::new(tls))));
    // One client, one connection, one way between them.
    config.transport_config(Arc::new(transport)).migration(false).max_incoming(1);
    Ok(config)
}

/// What was agreed.
#[must_use]
pub fn agreed(connection: &quinn::Connection) -> ClientTls {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    ClientTls {
        version: "1.3",
        kx: None,
        suite: "other",
        alpn: data.and_then(|data| data.protocol),
        resumed: false,
    }
}

/// Why a handshake failed.
#[must_use]
pub fn failure(error: &ConnectionError) -> AcceptError {
    match error {
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code.into()) {
            Some(alert) if is_refusal(alert) => AcceptError::Pinned { alert: alert_name(alert) },
            Some(alert) => AcceptError::Alert { alert: alert_name(alert) },
            None => AcceptError::Closed,
        },
        ConnectionError::ApplicationClosed(_) | ConnectionError::Reset => AcceptError::Closed,
        ConnectionError::TimedOut => AcceptError::Timeout,
        ConnectionError::TransportError(ours) if alert(ours.code.into()).is_some() => {
            AcceptError::Incompatible(ours.to_string())
        }
        ConnectionError::TransportError(_) | ConnectionError::VersionMismatch => {
            AcceptError::Malformed(error.to_string())
        }
        ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            AcceptError::Internal(error.to_string())
        }
    }
}

/// The TLS alert in a transport error code (RFC 9001 section 4.8).
fn alert(code: u64) -> Option<AlertDescription> {
    match code {
        0x100..=0x1ff => u8::try_from(code - 0x100).ok().map(AlertDescription::from),
        _ => None,
    }
}
