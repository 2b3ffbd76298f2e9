//! The first request on a connection that speaks HTTP/1.1 to the gateway itself: `CONNECT`, or a
//! plain request in absolute form. Tunnels without HTTP/2 and explicit listeners begin this way.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gateway_proto::fields::Fields;
use gateway_proto::http1::{self, HeadReader, Limits, Malformed, RequestHead, ResponseHead};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The whole first head must be there by then (CASES RX-01).
const HEAD_TIME_MAX: Duration = Duration::from_secs(20);
/// An idle HTTP/1.1 tunnel carries nothing: clients that open one ahead of need use it at once.
const FIRST_BYTE_TIME_MAX: Duration = Duration::from_secs(120);
const READ_BYTES: usize = 2 * 1024;

/// The first head and everything read with it.
pub struct First {
    pub head: RequestHead,
    /// The head as it came, for a stage that reads it again.
    pub raw: Bytes,
    /// What came behind the head.
    pub rest: Bytes,
}

/// Why there is no first request.
#[derive(Debug, thiserror::Error)]
pub enum FirstError {
    #[error("the client ended before a request")]
    Ended,
    #[error("no whole request came in time")]
    Slow,
    #[error("malformed request: {0}")]
    Malformed(#[from] Malformed),
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

impl FirstError {
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Ended => "ended_early",
            Self::Slow => "slow_head",
            Self::Malformed(malformed) => malformed.label(),
            Self::Io(_) => "connection_lost",
        }
    }
}

/// Reads the first request head.
///
/// # Errors
/// Where none comes, or what comes is malformed.
pub async fn first<Io: AsyncRead + Unpin>(io: &mut Io) -> Result<First, FirstError> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut reader = HeadReader::new();
    let mut wait = FIRST_BYTE_TIME_MAX;
    loop {
        let before = buffer.clone();
        if let Some(head) = reader.request(&mut buffer, &Limits::REQUEST)? {
            let head_bytes = before.len() - buffer.len();
            let raw = before.freeze().slice(..head_bytes);
            return Ok(First { head, raw, rest: buffer.freeze() });
        }
        let count =
            timeout(wait, io.read_buf(&mut buffer)).await.map_err(|_| FirstError::Slow)??;
        if count == 0 {
            return Err(FirstError::Ended);
        }
        wait = HEAD_TIME_MAX;
    }
}

/// Answers the first request with a head and a short body.
///
/// # Errors
/// Where the connection breaks.
pub async fn answer<Io: AsyncWrite + Unpin>(
    io: &mut Io,
    status: u16,
    fields: &Fields,
    body: &[u8],
) -> io::Result<()> {
    let mut out = BytesMut::with_capacity(256 + body.len());
    let head = ResponseHead {
        version: http1::Version::Http11,
        status,
        reason: Bytes::new(),
        fields: fields.clone(),
    };
    http1::write_response_head(&head, &mut out)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    out.extend_from_slice(body);
    io.write_all(&out).await?;
    io.flush().await
}
