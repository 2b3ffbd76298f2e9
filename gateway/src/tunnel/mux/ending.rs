//! Why a tunnel's HTTP/2 connection ended.

use gateway_proto::h2::{Code, Fault};

use crate::ident::Blame;

/// The end of a tunnel's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    #[error("client closed the tunnel")]
    ClientClosed,
    #[error("connection lost: {0:?}")]
    Lost(std::io::ErrorKind),
    #[error("drained")]
    Drained,
    #[error("closed by the gateway")]
    Closed,
    #[error("no stream for too long")]
    Idle,
    #[error("client stopped answering")]
    Silent,
    #[error("protocol violation: {0}")]
    Violation(Fault),
    #[error("flood: {0}")]
    Flood(Fault),
}

impl Ending {
    /// Stable name for events and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::Lost(_) => "connection_lost",
            Self::Drained => "drained",
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Silent => "keepalive_timeout",
            Self::Violation(_) => "http2_violation",
            Self::Flood(_) => "http2_flood",
        }
    }

    /// Whose doing it was.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Drained | Self::Closed | Self::Idle => Blame::Gateway,
            Self::ClientClosed
            | Self::Lost(_)
            | Self::Silent
            | Self::Violation(_)
            | Self::Flood(_) => Blame::Client,
        }
    }
}

impl From<Fault> for Ending {
    fn from(fault: Fault) -> Self {
        if fault.code == Code::ENHANCE_YOUR_CALM {
            Self::Flood(fault)
        } else {
            Self::Violation(fault)
        }
    }
}

/// Why one stream broke off; found inside the [`std::io::Error`] of a read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    #[error("reset by the client ({0:?})")]
    ResetByClient(Code),
    #[error("reset by the gateway ({0:?})")]
    ResetByGateway(Code),
    #[error("tunnel ended")]
    TunnelEnded,
}

impl StreamFault {
    /// Stable name for events.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ResetByClient(_) => "stream_reset",
            Self::ResetByGateway(_) => "stream_refused",
            Self::TunnelEnded => "tunnel_ended",
        }
    }

    /// Whose doing it was: a gateway reset answers a client's violation.
    #[must_use]
    pub fn blame(&self) -> Blame {
        Blame::Client
    }
}

impl From<StreamFault> for std::io::Error {
    fn from(fault: StreamFault) -> Self {
        let kind = match fault {
            StreamFault::ResetByClient(_) | StreamFault::ResetByGateway(_) => {
                std::io::ErrorKind::ConnectionReset
            }
            StreamFault::TunnelEnded => std::io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, fault)
    }
}
