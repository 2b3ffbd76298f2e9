//! TLS towards an origin: offer the strongest, judge what comes, remember per tenant.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, CommonState, Error, HandshakeKind,
    PeerMisbehaved,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use webpki::CertRevocationList;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::accept::{alert_name, tls_error};
use super::agreed;
use super::bounded::Bounded;
use super::chain::{self, Trust};
use super::distrusted::sha256;
use super::fault::{Fault, Finding};
use super::issuers::Issuers;
use super::own::OwnAuthorities;
use super::roots::Roots;
use super::sessions::Sessions;
use super::suites;
use super::verifier::{HandshakeVerifier, NOTES, NoCertificate, Notes};
use crate::ident::Blame;

/// Two round trips and a slow origin's signature.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// In TLS 1.3 an origin says after the handshake whether it goes on without the certificate it
/// asked for: by an alert, or by a ticket or data. One round trip; who stays silent longer goes on.
const CERTIFICATE_WORD_TIME_MAX: Duration = Duration::from_secs(1);

/// Read at a time while waiting for that word: tickets and first frames, far below the TLS
/// library's own bound for plaintext that nobody has read.
const CERTIFICATE_WORD_BYTES: usize = 4 * 1024;

/// Judgements remembered per tenant, so that a name visited often is not judged each time.
const JUDGEMENTS_MAX: usize = 512;

/// How long a judgement stands: certificates expire and revocation lists change.
const JUDGEMENT_LIFETIME: Duration = Duration::from_secs(300);

/// Characters of an issuer's name that are kept for events and pages.
const ISSUER_CHARS_MAX: usize = 256;

/// What origins of one tenant are held against. Built per origin settings generation.
#[derive(Clone, Debug)]
pub struct OriginTlsSettings {
    pub roots: Arc<Roots>,
    pub own: Arc<OwnAuthorities>,
    /// Revocation lists (RFC 5280 section 5), already parsed.
    pub revoked: Arc<[CertRevocationList<'static>]>,
}

/// One tenant's TLS towards origins: its own tickets, its own memory.
#[derive(Debug)]
pub struct OriginTls {
    settings: OriginTlsSettings,
    config: Arc<ClientConfig>,
    sessions: Arc<Sessions>,
    judgements: Mutex<Bounded<JudgementKey, Judgement>>,
    issuers: Issuers,
}

type JudgementKey = ([u8; 32], ServerName<'static>);

#[derive(Debug)]
struct Judgement {
    certificate: Arc<OriginCertificate>,
    own_generation: u64,
    made: SystemTime,
}

/// What an origin's certificate says and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginCertificate {
    /// Every fault, the heaviest first; empty for a sound chain.
    pub findings: Vec<Finding>,
    /// The issuer's distinguished name, at most 256 characters. Chosen by a stranger.
    pub issuer: String,
    /// SHA-256 of the certificate.
    pub sha256: [u8; 32],
    /// SHA-256 over the chain as it was sent.
    pub chain_sha256: [u8; 32],
}

impl OriginCertificate {
    /// Whether the chain ends before a root, and somebody may have what is missing.
    #[must_use]
    pub fn lacks_issuer(&self) -> bool {
        self.findings.iter().any(Finding::lacks_issuer)
    }
}

/// What was agreed with an origin, and whom it proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginFacts {
    /// `1.3` or `1.2`.
    pub version: &'static str,
    pub kx: Option<&'static str>,
    pub suite: &'static str,
    pub alpn: Option<Vec<u8>>,
    pub resumed: bool,
    /// The origin asked for a client certificate in this handshake (it got none).
    pub wanted_client_certificate: bool,
    pub certificate: Arc<OriginCertificate>,
}

/// Why there is no TLS with an origin.
#[derive(Debug, thiserror::Error)]
pub enum OriginTlsError {
    #[error("the origin did not finish the handshake in time")]
    Timeout,
    #[error("the origin closed during the handshake")]
    Closed,
    #[error("the origin ended the handshake ({alert})")]
    Alert { alert: &'static str },
    /// The origin insists on a certificate of the client, which we never have.
    #[error("the origin demands a client certificate")]
    ClientCertificate,
    /// Nothing newer than TLS 1.1, no suite with forward secrecy and AEAD, or nothing else in
    /// common.
    #[error("the origin's TLS is too old: {0}")]
    Obsolete(String),
    /// The certificate is such that the handshake could not be verified at all.
    #[error("the origin's certificate cannot be used")]
    Certificate(Arc<OriginCertificate>),
    /// What answers does not speak TLS.
    #[error("the origin does not speak TLS")]
    NotTls,
    #[error("the origin broke the protocol: {0}")]
    Malformed(String),
    #[error("the handshake failed here: {0}")]
    Internal(String),
}

impl OriginTlsError {
    /// The stable name in events and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "origin_handshake_timeout",
            Self::Closed => "origin_closed_handshake",
            Self::Alert { .. } => "origin_tls_alert",
            Self::ClientCertificate => "client_certificate_wanted",
            Self::Obsolete(_) => "origin_tls_obsolete",
            Self::Certificate(_) => "origin_certificate",
            Self::NotTls => "origin_not_tls",
            Self::Malformed(_) => "origin_tls_malformed",
            Self::Internal(_) => "origin_tls_internal",
        }
    }

    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Internal(_) => Blame::Gateway,
            _ => Blame::Origin,
        }
    }

    /// The certificate fault this failure amounts to: it cannot be tolerated, since there is no
    /// connection, but the page and the event name it.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Obsolete(_) => Some(Fault::Weak),
            Self::Certificate(certificate) => {
                certificate.findings.first().map(|finding| finding.fault)
            }
            _ => None,
        }
    }
}

impl OriginTls {
    /// # Errors
    /// Where the TLS library refuses its own defaults.
    pub fn new(settings: OriginTlsSettings) -> Result<Self, Error> {
        let sessions = Arc::new(Sessions::new());
        let mut config = ClientConfig::builder_with_provider(suites::crypto())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(HandshakeVerifier::new()))
            .with_client_cert_resolver(Arc::new(NoCertificate));
        config.resumption = Resumption::store(Arc::clone(&sessions) as _);
        config.enable_early_data = false;
        let judgements = Mutex::new(Bounded::new(JUDGEMENTS_MAX));
        let issuers = Issuers::new();
        Ok(Self { settings, config: Arc::new(config), sessions, judgements, issuers })
    }

    /// Shakes hands over `io` with the origin called `name`, offering `alpn`.
    ///
    /// A certificate fault does not fail the handshake: look at the findings
    /// ([`FaultSettings::judge`](super::FaultSettings::judge)) before sending anything.
    ///
    /// # Errors
    /// Where there is no TLS connection whose peer proved to hold its certificate's key.
    pub async fn connect<Io>(
        &self,
        io: Io,
        name: &ServerName<'_>,
        alpn: &[&[u8]],
    ) -> Result<(TlsStream<Io>, OriginFacts), OriginTlsError>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let name = name.to_owned();
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let handshake = connector.with_alpn(alpn).connect(name.clone(), io);
        let noted = async {
            let outcome = timeout(HANDSHAKE_TIMEOUT, handshake).await;
            NOTES.with(|notes| (outcome, notes.wanted_client_certificate(), notes.take_chain()))
        };
        let (outcome, wanted, chain) = NOTES.scope(Notes::default(), noted).await;
        let now = SystemTime::now();
        match outcome {
            Err(_) => Err(OriginTlsError::Timeout),
            Ok(Err(error)) => Err(self.classify(&error, wanted, &chain, &name, now)),
            Ok(Ok(mut stream)) => {
                let facts = self.facts(stream.get_ref().1, &name, wanted, now);
                if wanted && facts.version == "1.3" {
                    goes_on_without_certificate(&mut stream)
                        .await
                        .map_err(|error| self.classify(&error, true, &chain, &name, now))?;
                }
                Ok((stream, facts))
            }
        }
    }

    fn facts(
        &self,
        connection: &CommonState,
        name: &ServerName<'static>,
        wanted_client_certificate: bool,
        now: SystemTime,
    ) -> OriginFacts {
        let chain = connection.peer_certificates().unwrap_or_default();
        let certificate = self.judge(chain, name, now);
        self.sessions.mark(name, !certificate.findings.is_empty());
        OriginFacts {
            version: agreed::version(connection),
            kx: agreed::key_exchange(connection),
            suite: agreed::suite(connection),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            wanted_client_certificate,
            certificate,
        }
    }

    /// Judges `chain` for `name` at `now`, or finds the judgement made a moment ago.
    fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'static>,
        now: SystemTime,
    ) -> Arc<OriginCertificate> {
        let key = (chain_hash(chain), name.clone());
        let own_generation = self.settings.own.generation();
        if let Some(known) = self.judgements.lock().find(&key) {
            let age = now.duration_since(known.made);
            if known.own_generation == own_generation
                && age.is_ok_and(|age| age < JUDGEMENT_LIFETIME)
            {
                return Arc::clone(&known.certificate);
            }
        }
        let trust = Trust {
            roots: &self.settings.roots,
            own: &self.settings.own,
            revoked: &self.settings.revoked,
        };
        let mut findings = chain::judge(chain, name, now, &trust);
        if findings.iter().any(Finding::lacks_issuer) {
            let whole = self.issuers.complete(chain);
            if whole.len() > chain.len() {
                findings = chain::judge(&whole, name, now, &trust);
            }
        }
        let certificate = Arc::new(OriginCertificate {
            findings,
            issuer: chain.first().map(issuer_text).unwrap_or_default(),
            sha256: chain.first().map(|leaf| sha256(leaf)).unwrap_or_default(),
            chain_sha256: key.0,
        });
        let judgement =
            Judgement { certificate: Arc::clone(&certificate), own_generation, made: now };
        self.judgements.lock().insert(key, judgement);
        certificate
    }

    /// Where the issuer that `chain` lacks can be fetched: an http URL that the origin chose.
    #[must_use]
    pub fn issuer_location(&self, chain: &[CertificateDer<'_>]) -> Option<String> {
        self.issuers.location(chain)
    }

    /// Takes a certificate for the issuer that `chain` lacks, and judges the chain again with it.
    /// `None` where it is not the issuer. It adds no trust: the path must lead to a root as before.
    #[must_use]
    pub fn learn_issuer(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        issuer: CertificateDer<'static>,
    ) -> Option<Arc<OriginCertificate>> {
        if !self.issuers.learn(chain, issuer) {
            return None;
        }
        let name = name.to_owned();
        self.judgements.lock().remove(&(chain_hash(chain), name.clone()));
        let certificate = self.judge(chain, &name, SystemTime::now());
        self.sessions.mark(&name, !certificate.findings.is_empty());
        Some(certificate)
    }

    fn classify(
        &self,
        error: &io::Error,
        wanted: bool,
        chain: &[CertificateDer<'static>],
        name: &ServerName<'static>,
        now: SystemTime,
    ) -> OriginTlsError {
        let Some(tls) = tls_error(error) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => {
                    // Some say so by hanging up once they have seen that none came.
                    if wanted { OriginTlsError::ClientCertificate } else { OriginTlsError::Closed }
                }
                _ => OriginTlsError::Internal(error.to_string()),
            };
        };
        match tls {
            Error::AlertReceived(AlertDescription::CertificateRequired) => {
                OriginTlsError::ClientCertificate
            }
            Error::AlertReceived(alert) if wanted && misses_certificate(*alert) => {
                OriginTlsError::ClientCertificate
            }
            Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity,
            )
            | Error::PeerIncompatible(_)
            | Error::PeerMisbehaved(
                PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme
                | PeerMisbehaved::SignedKxWithWrongAlgorithm
                | PeerMisbehaved::SelectedUnofferedCipherSuite
                | PeerMisbehaved::SelectedUnofferedKxGroup,
            ) => OriginTlsError::Obsolete(tls.to_string()),
            // Before it has shown a certificate, this says that nothing offered will do (RFC 8446
            // section 6.2).
            Error::AlertReceived(AlertDescription::HandshakeFailure) if chain.is_empty() => {
                OriginTlsError::Obsolete(tls.to_string())
            }
            Error::AlertReceived(alert) => OriginTlsError::Alert { alert: alert_name(*alert) },
            Error::InvalidCertificate(_) => {
                OriginTlsError::Certificate(self.judge(chain, name, now))
            }
            Error::InvalidMessage(_) if chain.is_empty() => OriginTlsError::NotTls,
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(_)
            | Error::DecryptError
            | Error::PeerSentOversizedRecord => OriginTlsError::Malformed(tls.to_string()),
            _ => OriginTlsError::Internal(tls.to_string()),
        }
    }
}

/// What servers are known to send where the certificate they asked for did not come.
fn misses_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::NoCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}

/// Waits until an origin that asked for a certificate and got none has gone on, or has refused.
/// What it sends meanwhile stays in the connection and is read from there.
async fn goes_on_without_certificate<Io>(stream: &mut TlsStream<Io>) -> io::Result<()>
where
    Io: AsyncRead + Unpin,
{
    let (io, connection) = stream.get_mut();
    let word = std::future::poll_fn(|context| poll_word(io, connection, context));
    timeout(CERTIFICATE_WORD_TIME_MAX, word).await.unwrap_or(Ok(()))
}

fn poll_word<Io>(
    io: &mut Io,
    connection: &mut ClientConnection,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>>
where
    Io: AsyncRead + Unpin,
{
    let invalid = |error: Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut state = connection.process_new_packets().map_err(invalid)?;
    loop {
        if connection.tls13_tickets_received() > 0 || state.plaintext_bytes_to_read() > 0 {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; CERTIFICATE_WORD_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut *io).poll_read(context, &mut buffer))?;
        let mut rest = buffer.filled();
        if rest.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        while !rest.is_empty() {
            if connection.read_tls(&mut rest)? == 0 {
                break;
            }
            state = connection.process_new_packets().map_err(invalid)?;
        }
        if state.peer_has_closed() && state.plaintext_bytes_to_read() == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

fn chain_hash(chain: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut all = Vec::with_capacity(chain.iter().map(|certificate| certificate.len()).sum());
    for certificate in chain {
        all.extend_from_slice(certificate);
    }
    sha256(&all)
}

fn issuer_text(leaf: &CertificateDer<'_>) -> String {
    let issuer = X509Certificate::from_der(leaf).map(|(_, leaf)| leaf.issuer().to_string());
    issuer.unwrap_or_default().chars().take(ISSUER_CHARS_MAX).collect()
}
