//! Why a synthetic client got no answer.

use std::fmt;
use std::io;

/// Each variant has a stable label, which the load generator counts by.
#[derive(Debug)]
pub enum ClientError {
    /// TCP did not connect.
    Connect(io::Error),
    /// A TLS handshake failed: the tunnel's or the inner one.
    Tls(io::Error),
    /// The gateway answered CONNECT with something else than 2xx.
    Refused { status: u16, fields: Vec<(String, String)>, body: Vec<u8> },
    /// The stream or connection broke.
    Broken(io::Error),
    /// An HTTP/2 error: reset, GOAWAY.
    Http2(h2::Error),
    /// The QUIC connection failed.
    Quic(quinn::ConnectionError),
    /// An HTTP/3 error: reset, GOAWAY, closed.
    Http3(String),
    /// What came was not HTTP as expected.
    Malformed(String),
    /// Nothing came in time.
    Timeout,
    /// The caller asked for something this client does not do.
    Unsupported(String),
}

impl ClientError {
    /// Stable, snake_case.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Refused { .. } => "refused",
            Self::Broken(_) => "broken",
            Self::Http2(_) => "http2",
            Self::Quic(_) => "quic",
            Self::Http3(_) => "http3",
            Self::Malformed(_) => "malformed",
            Self::Timeout => "timeout",
            Self::Unsupported(_) => "unsupported",
        }
    }

    /// The status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the connection was ended by the peer, in whatever way.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Broken(_) | Self::Http2(_))
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(formatter, "cannot connect: {error}"),
            Self::Tls(error) => write!(formatter, "TLS handshake failed: {error}"),
            Self::Refused { status, body, .. } => {
                write!(formatter, "refused with {status}: {}", String::from_utf8_lossy(body))
            }
            Self::Broken(error) => write!(formatter, "connection broke: {error}"),
            Self::Http2(error) => write!(formatter, "HTTP/2: {error}"),
            Self::Quic(error) => write!(formatter, "QUIC: {error}"),
            Self::Http3(error) => write!(formatter, "HTTP/3: {error}"),
            Self::Malformed(what) => write!(formatter, "not HTTP as expected: {what}"),
            Self::Timeout => formatter.write_str("nothing came in time"),
            Self::Unsupported(what) => formatter.write_str(what),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<h2::Error> for ClientError {
    fn from(error: h2::Error) -> Self {
        Self::Http2(error)
    }
}
