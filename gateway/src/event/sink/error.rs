//! Why a sink's peer did not take a batch.

/// What went wrong; all but [`SinkError::TooLarge`] is tried again until it goes well.
#[derive(Debug, thiserror::Error)]
pub(super) enum SinkError {
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("TLS failed: {0}")]
    Tls(String),
    #[error("did not answer in time")]
    Timeout,
    #[error("refused: {0}")]
    Refused(String),
    #[error("the batch is larger than it takes")]
    TooLarge,
    #[error("its settings cannot be used: {0}")]
    Settings(String),
    #[error("cannot be written: {0}")]
    Disk(#[from] std::io::Error),
}

impl SinkError {
    /// The reason as metrics have it.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Tls(_) => "tls",
            Self::Timeout => "timeout",
            Self::Refused(_) => "refused",
            Self::TooLarge => "too_large",
            Self::Settings(_) => "settings",
            Self::Disk(_) => "disk",
        }
    }

    pub(super) fn unreachable(error: impl std::fmt::Display) -> Self {
        Self::Unreachable(error.to_string())
    }

    /// Of a handshake: what TLS says, or the connection under it.
    pub(super) fn handshake(error: &std::io::Error) -> Self {
        let tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        if tls { Self::Tls(error.to_string()) } else { Self::unreachable(error) }
    }

    pub(super) fn refused(error: impl std::fmt::Display) -> Self {
        Self::Refused(error.to_string())
    }

    pub(super) fn settings(error: impl std::fmt::Display) -> Self {
        Self::Settings(error.to_string())
    }
}
