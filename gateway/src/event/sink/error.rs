//! Why a sink's peer did not take a batch.

/// What went wrong; all but [`SinkError::TooLarge`] is tried again until it goes well.
#[derive(Debug, thiserror::Error)]
pub(super) enum SinkError {
    #[error("cannot be reached: {0}")]
    Unreachable(String),
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
    pub(super) fn unreachable(error: impl std::fmt::Display) -> Self {
        Self::Unreachable(error.to_string())
    }

    pub(super) fn refused(error: impl std::fmt::Display) -> Self {
        Self::Refused(error.to_string())
    }

    pub(super) fn settings(error: impl std::fmt::Display) -> Self {
        Self::Settings(error.to_string())
    }
}
