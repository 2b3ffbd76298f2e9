//! Why a QUIC tunnel ended.

use gateway_proto::h3::{Code, Fault};
use quinn::ConnectionError;

use crate::ident::Blame;

/// The end of a tunnel's connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuicEnding {
    #[error("client closed the tunnel")]
    ClientClosed,
    #[error("drained")]
    Drained,
    #[error("closed by the gateway")]
    Closed,
    #[error("no stream for too long")]
    Idle,
    #[error("client stopped answering")]
    Silent,
    #[error("the client has lost the connection's state")]
    Reset,
    #[error("QUIC violation: {0}")]
    Transport(String),
    #[error("HTTP/3 violation: {0}")]
    Violation(Fault),
    #[error("flood: {0}")]
    Flood(Fault),
}

impl QuicEnding {
    /// Stable name for events and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::Drained => "drained",
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Silent => "keepalive_timeout",
            Self::Reset => "connection_lost",
            Self::Transport(_) => "quic_violation",
            Self::Violation(_) => "http3_violation",
            Self::Flood(_) => "http3_flood",
        }
    }

    /// Whose doing it was.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Drained | Self::Closed | Self::Idle => Blame::Gateway,
            Self::ClientClosed
            | Self::Silent
            | Self::Reset
            | Self::Transport(_)
            | Self::Violation(_)
            | Self::Flood(_) => Blame::Client,
        }
    }
}

impl From<Fault> for QuicEnding {
    fn from(fault: Fault) -> Self {
        if fault.code == Code::EXCESSIVE_LOAD { Self::Flood(fault) } else { Self::Violation(fault) }
    }
}

impl From<&ConnectionError> for QuicEnding {
    fn from(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(_) | ConnectionError::ConnectionClosed(_) => {
                Self::ClientClosed
            }
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::Reset => Self::Reset,
            ConnectionError::LocallyClosed => Self::Closed,
            error => Self::Transport(error.to_string()),
        }
    }
}
