//! The client's handshake, and what its failure says about the client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, CommonState, Error, HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::agreed;
use crate::ident::Blame;

/// A client that has sent its ClientHello needs one more round trip; even a satellite link takes
/// less than this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What was agreed with the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// `1.3` or `1.2`.
    pub version: &'static str,
    /// The key exchange group, such as `X25519MLKEM768`; absent on some resumptions.
    pub kx: Option<&'static str>,
    pub suite: &'static str,
    pub alpn: Option<Vec<u8>>,
    pub resumed: bool,
}

/// Why a client's handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The client does not accept our certificate: it pins another, or lacks the tenant's CA.
    #[error("the client refused the certificate ({alert})")]
    Pinned { alert: &'static str },
    /// The client went away without a word. Some pinning clients do just that.
    #[error("the client closed during the handshake")]
    Closed,
    #[error("the client did not finish the handshake in time")]
    Timeout,
    #[error("the client ended the handshake ({alert})")]
    Alert { alert: &'static str },
    /// No version, suite or protocol in common.
    #[error("nothing in common with the client: {0}")]
    Incompatible(String),
    #[error("the client broke the protocol: {0}")]
    Malformed(String),
    #[error("the handshake failed here: {0}")]
    Internal(String),
}

impl AcceptError {
    /// The stable name in events and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Pinned { .. } => "client_pinned",
            Self::Closed => "client_closed_handshake",
            Self::Timeout => "client_handshake_timeout",
            Self::Alert { .. } => "client_tls_alert",
            Self::Incompatible(_) => "client_tls_incompatible",
            Self::Malformed(_) => "client_tls_malformed",
            Self::Internal(_) => "client_tls_internal",
        }
    }

    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Internal(_) => Blame::Gateway,
            _ => Blame::Client,
        }
    }
}

/// Accepts a client's TLS over `io`, which begins with its ClientHello.
///
/// # Errors
/// Says whether the client refused the certificate ([`AcceptError::Pinned`]) or what else failed.
pub async fn accept<Io>(
    io: Io,
    config: Arc<ServerConfig>,
) -> Result<(TlsStream<Io>, ClientTls), AcceptError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    accept_within(io, config, HANDSHAKE_TIMEOUT).await
}

pub(super) async fn accept_within<Io>(
    io: Io,
    config: Arc<ServerConfig>,
    limit: Duration,
) -> Result<(TlsStream<Io>, ClientTls), AcceptError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let stream = timeout(limit, TlsAcceptor::from(config).accept(io))
        .await
        .map_err(|_| AcceptError::Timeout)?
        .map_err(|error| classify(&error))?;
    let client = client_tls(stream.get_ref().1);
    Ok((stream, client))
}

/// The alert in `error`, where it says that the peer refuses our certificate. A TLS 1.3 client
/// may say so only after its handshake is done on our side: ask this of the first failed read.
#[must_use]
pub(super) fn refused_certificate(error: &io::Error) -> Option<&'static str> {
    match tls_error(error)? {
        Error::AlertReceived(alert) if is_refusal(*alert) => Some(alert_name(*alert)),
        _ => None,
    }
}

fn client_tls(connection: &CommonState) -> ClientTls {
    ClientTls {
        version: agreed::version(connection),
        kx: agreed::key_exchange(connection),
        suite: agreed::suite(connection),
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}

fn classify(error: &io::Error) -> AcceptError {
    let Some(tls) = tls_error(error) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => AcceptError::Closed,
            _ => AcceptError::Internal(error.to_string()),
        };
    };
    match tls {
        Error::AlertReceived(alert) if is_refusal(*alert) => {
            AcceptError::Pinned { alert: alert_name(*alert) }
        }
        Error::AlertReceived(AlertDescription::CloseNotify) => AcceptError::Closed,
        Error::AlertReceived(alert) => AcceptError::Alert { alert: alert_name(*alert) },
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => {
            AcceptError::Incompatible(tls.to_string())
        }
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_)
        | Error::DecryptError
        | Error::PeerSentOversizedRecord => AcceptError::Malformed(tls.to_string()),
        _ => AcceptError::Internal(tls.to_string()),
    }
}

pub(super) fn is_refusal(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
    )
}

/// The TLS library's error inside an I/O error.
pub(crate) fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}

/// The alert's name in RFC 8446 section 6.
pub(crate) fn alert_name(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CloseNotify => "close_notify",
        AlertDescription::UnexpectedMessage => "unexpected_message",
        AlertDescription::BadRecordMac => "bad_record_mac",
        AlertDescription::RecordOverflow => "record_overflow",
        AlertDescription::HandshakeFailure => "handshake_failure",
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::CertificateUnknown => "certificate_unknown",
        AlertDescription::IllegalParameter => "illegal_parameter",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::AccessDenied => "access_denied",
        AlertDescription::DecodeError => "decode_error",
        AlertDescription::DecryptError => "decrypt_error",
        AlertDescription::ProtocolVersion => "protocol_version",
        AlertDescription::InsufficientSecurity => "insufficient_security",
        AlertDescription::InternalError => "internal_error",
        AlertDescription::InappropriateFallback => "inappropriate_fallback",
        AlertDescription::UserCanceled => "user_canceled",
        AlertDescription::MissingExtension => "missing_extension",
        AlertDescription::UnsupportedExtension => "unsupported_extension",
        AlertDescription::UnrecognisedName => "unrecognized_name",
        AlertDescription::CertificateRequired => "certificate_required",
        AlertDescription::NoApplicationProtocol => "no_application_protocol",
        _ => "other",
    }
}
