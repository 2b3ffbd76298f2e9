//! Accepts a TLS tunnel: ClientHello → SNI → tenant → handshake → identity.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier as _;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ProtocolVersion, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::device::{DeviceVerifier, Foreign, KnownDevices};
use crate::config::Require;
use crate::ident::{Blame, ClientIdentity, TenantName};
use crate::snapshot::{Snapshot, Tenant};

/// A handshake takes two round trips; ten seconds is generous on the worst mobile link and short
/// enough that half-open ones do not pile up (CASES RX-05).
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Why a tunnel was refused. The label is the `error` of its `session` record.
#[derive(Debug, thiserror::Error)]
pub enum RefusalReason {
    #[error("the first bytes are no TLS ClientHello")]
    BadFirstBytes,
    #[error("the name asked for is no tenant's")]
    UnknownTenant,
    #[error(
        "over DTLS only ECDSA certificates (P-256, P-384) that the device CA issued itself are \
         understood: this device needs a TLS, QUIC or OpenConnect tunnel"
    )]
    UnsupportedCertificate,
    #[error("no client certificate was shown")]
    NoCertificate,
    #[error("the client certificate was issued by another authority")]
    ForeignCertificate,
    #[error("the client certificate copies a device's names but not its issuer")]
    TunnelIntercepted,
    #[error("the client certificate is revoked")]
    Revoked,
    #[error("the client certificate is not valid now")]
    ExpiredCertificate,
    #[error("the client certificate is malformed or not for client authentication")]
    BadCertificate,
    #[error("the handshake was not finished in time")]
    HandshakeTimeout,
    #[error("the handshake failed: {0}")]
    Handshake(rustls::Error),
    #[error("the connection broke: {0}")]
    Io(io::ErrorKind),
    #[error("the gateway cannot serve this tenant's tunnels: {0}")]
    Gateway(String),
    #[error("no token was shown")]
    NoToken,
    #[error("the token was refused: {0}")]
    BadToken(&'static str),
    #[error("over TLS 1.2 nothing but OpenConnect is served")]
    OldTls,
    #[error("the gateway's limit of tunnels is reached")]
    TooManyTunnels,
}

impl RefusalReason {
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::BadFirstBytes => "bad_first_bytes",
            Self::UnknownTenant => "unknown_tenant",
            Self::UnsupportedCertificate => "unsupported_certificate",
            Self::NoCertificate => "no_certificate",
            Self::ForeignCertificate => "foreign_certificate",
            Self::TunnelIntercepted => "tunnel_intercepted",
            Self::Revoked => "revoked",
            Self::ExpiredCertificate => "expired_certificate",
            Self::BadCertificate => "bad_certificate",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Handshake(_) => "handshake_failed",
            Self::Io(_) => "connection_lost",
            Self::Gateway(_) => "gateway",
            Self::NoToken => "no_token",
            Self::BadToken(_) => "bad_token",
            Self::OldTls => "old_tls",
            Self::TooManyTunnels => "too_many_tunnels",
        }
    }

    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Gateway(_) | Self::TooManyTunnels => Blame::Gateway,
            _ => Blame::Client,
        }
    }
}

/// A refused tunnel; `tenant` is known once a known SNI was seen.
#[derive(Debug)]
pub struct Refusal {
    pub tenant: Option<TenantName>,
    pub reason: RefusalReason,
}

/// A tunnel whose TLS is up.
pub struct Accepted {
    pub tls: TlsStream<TcpStream>,
    pub tenant: Arc<Tenant>,
    /// From the client certificate; `None` only where the tenant takes tokens.
    pub identity: Option<ClientIdentity>,
    pub facts: TunnelTls,
}

/// What the tunnel's own TLS negotiated.
#[derive(Clone, Debug)]
pub struct TunnelTls {
    pub version: &'static str,
    pub kx: Option<String>,
    pub http2: bool,
    /// Below TLS 1.3: for OpenConnect's bootstrap and nothing else.
    pub bootstrap_only: bool,
}

impl TunnelTls {
    /// A DTLS 1.3 tunnel's.
    #[must_use]
    pub fn dtls() -> Self {
        Self { version: "DTLS 1.3", kx: None, http2: false, bootstrap_only: false }
    }
}

/// One tenant's server configuration, built once per generation of the tenant and certificate of
/// the gateway.
pub struct TunnelConfig {
    current: ArcSwapOption<Built>,
    known: Arc<KnownDevices>,
}

struct Built {
    generation: u64,
    certificate: Arc<CertifiedKey>,
    tls: Arc<ServerConfig>,
    /// For clients that may be old OpenConnect ones, where the tenant lets them in.
    old: Option<Arc<ServerConfig>>,
    quic: Arc<ServerConfig>,
}

impl Built {
    /// The configuration for a TLS client that offers application protocols, or none. Browsers and other
    /// users of proxies offer some, OpenConnect clients none.
    fn for_client(&self, offers_protocols: bool) -> Arc<ServerConfig> {
        let old = self.old.as_ref().filter(|_| !offers_protocols);
        Arc::clone(old.unwrap_or(&self.tls))
    }
}

impl Default for TunnelConfig {
    fn default() -> Self {
        Self { current: ArcSwapOption::empty(), known: Arc::new(KnownDevices::new()) }
    }
}

impl TunnelConfig {
    fn of(&self, tenant: &Arc<Tenant>, snapshot: &Snapshot) -> Result<Arc<Built>, RefusalReason> {
        let shown = snapshot
            .tunnel_identity(&tenant.name)
            .map_err(|error| RefusalReason::Gateway(error.to_string()))?;
        let certificate = Arc::clone(&shown.certified);
        if let Some(current) = self.current.load_full()
            && current.generation == tenant.generation
            && Arc::ptr_eq(&current.certificate, &certificate)
        {
            return Ok(current);
        }
        let failed = |error: rustls::Error| RefusalReason::Gateway(error.to_string());
        let config = build(tenant, &self.known, &certificate).map_err(failed)?;
        let old = tenant.config.openconnect.tls_1_2;
        let old = old.then(|| build_old(tenant, &self.known, &certificate)).transpose();
        let mut quic = config.clone();
        quic.alpn_protocols = vec![b"h3".to_vec()];
        let built = Arc::new(Built {
            generation: tenant.generation,
            certificate,
            tls: Arc::new(config),
            old: old.map_err(failed)?.map(Arc::new),
            quic: Arc::new(quic),
        });
        self.current.store(Some(Arc::clone(&built)));
        Ok(built)
    }

    /// The configuration of QUIC tunnels.
    ///
    /// # Errors
    /// Where the gateway has no certificate for this tenant.
    pub fn quic(
        &self,
        tenant: &Arc<Tenant>,
        snapshot: &Snapshot,
    ) -> Result<Arc<ServerConfig>, RefusalReason> {
        self.of(tenant, snapshot).map(|built| Arc::clone(&built.quic))
    }

    /// A device had a tunnel of late.
    pub fn remember(&self, identity: &ClientIdentity) {
        self.known.remember(identity);
    }
}

impl TunnelConfig {
    /// Checks a client's certificate that came another way than by TLS, just as it would be there.
    ///
    /// # Errors
    /// With the reason of refusal.
    pub fn verify(
        &self,
        tenant: &Arc<Tenant>,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<ClientIdentity, RefusalReason> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        let known = Arc::clone(&self.known);
        let verifier = DeviceVerifier::new(Arc::clone(tenant), known, true, algorithms);
        verifier.verify_client_cert(certificate, &[], now).map_err(|error| refusal_of(&error))?;
        let identity = ClientIdentity::from_der(certificate);
        let identity = identity.map_err(|_| RefusalReason::BadCertificate)?;
        self.known.remember(&identity);
        Ok(identity)
    }
}

fn build(
    tenant: &Arc<Tenant>,
    known: &Arc<KnownDevices>,
    certificate: &Arc<CertifiedKey>,
) -> Result<ServerConfig, rustls::Error> {
    let mandatory = tenant.config.identity.require == Require::Certificate;
    let versions = &[&rustls::version::TLS13];
    let mut config = build_with(tenant, known, certificate, mandatory, versions)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// With TLS 1.2 beside 1.3, so that a client which knows both notices a downgrade. The library's suites
/// of 1.2 are all ECDHE with an AEAD, and it never renegotiates. Without the extended master secret the
/// key that is exported for the DTLS channel would not be bound to this connection (RFC 7627).
fn build_old(
    tenant: &Arc<Tenant>,
    known: &Arc<KnownDevices>,
    certificate: &Arc<CertifiedKey>,
) -> Result<ServerConfig, rustls::Error> {
    let versions = &[&rustls::version::TLS13, &rustls::version::TLS12];
    // OpenConnect clients are known by their certificates, and in 1.2 only they are served. One that can
    // speak 1.3 may show a token instead, as everywhere; who shows nothing in 1.2 gets nothing.
    let mandatory = tenant.config.identity.require == Require::Certificate;
    let mut config = build_with(tenant, known, certificate, mandatory, versions)?;
    config.require_ems = true;
    Ok(config)
}

/// Ticket keys and session storage would live in the tenant's own configuration (CASES TI-01,
/// TI-02), but resumption is off: a resumed session would carry an identity past its revocation.
fn build_with(
    tenant: &Arc<Tenant>,
    known: &Arc<KnownDevices>,
    certificate: &Arc<CertifiedKey>,
    mandatory: bool,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let verifier =
        Arc::new(DeviceVerifier::new(Arc::clone(tenant), Arc::clone(known), mandatory, algorithms));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(OneCertificate(Arc::clone(certificate))));
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

#[derive(Debug)]
struct OneCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for OneCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Runs the handshake of one connection. `config_of` finds a tenant's cached configuration.
///
/// # Errors
/// With the reason of refusal, for the `session` record.
pub async fn accept(
    stream: TcpStream,
    snapshot: &Snapshot,
    config_of: impl FnOnce(&Arc<Tenant>) -> Arc<TunnelConfig>,
) -> Result<Accepted, Refusal> {
    let mut tenant = None;
    let handshake = handshake(stream, snapshot, config_of, &mut tenant);
    let outcome = timeout(HANDSHAKE_TIME_MAX, handshake).await;
    let reason = match outcome {
        Ok(Ok(accepted)) => return Ok(accepted),
        Ok(Err(reason)) => reason,
        Err(_) => RefusalReason::HandshakeTimeout,
    };
    Err(Refusal { tenant, reason })
}

async fn handshake(
    stream: TcpStream,
    snapshot: &Snapshot,
    config_of: impl FnOnce(&Arc<Tenant>) -> Arc<TunnelConfig>,
    known: &mut Option<TenantName>,
) -> Result<Accepted, RefusalReason> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream)
        .await
        .map_err(|error| first_bytes(&error))?;
    let hello = start.client_hello();
    let tenant = hello.server_name().and_then(|name| snapshot.tenant_by_name(name));
    let tenant = tenant.ok_or(RefusalReason::UnknownTenant)?;
    *known = Some(tenant.name.clone());
    let offers_protocols = hello.alpn().is_some();
    let cached = config_of(&tenant);
    let config = cached.of(&tenant, snapshot)?.for_client(offers_protocols);
    let tls = start.into_stream(config).await.map_err(|error| refusal(&error))?;
    let (_, connection) = tls.get_ref();
    let identity = match connection.peer_certificates().and_then(<[_]>::first) {
        Some(leaf) => {
            let identity =
                ClientIdentity::from_der(leaf).map_err(|_| RefusalReason::BadCertificate)?;
            cached.known.remember(&identity);
            Some(identity)
        }
        None => None,
    };
    let bootstrap_only = connection.protocol_version() != Some(ProtocolVersion::TLSv1_3);
    let facts = TunnelTls {
        version: if bootstrap_only { "1.2" } else { "1.3" },
        kx: connection.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())),
        http2: connection.alpn_protocol() == Some(b"h2"),
        bootstrap_only,
    };
    Ok(Accepted { tls, tenant, identity, facts })
}

fn first_bytes(error: &io::Error) -> RefusalReason {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(_) => RefusalReason::BadFirstBytes,
        None if error.kind() == io::ErrorKind::InvalidData => RefusalReason::BadFirstBytes,
        None => RefusalReason::Io(error.kind()),
    }
}

fn refusal(error: &io::Error) -> RefusalReason {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
    else {
        return RefusalReason::Io(error.kind());
    };
    refusal_of(error)
}

pub(super) fn refusal_of(error: &rustls::Error) -> RefusalReason {
    match error {
        rustls::Error::NoCertificatesPresented => RefusalReason::NoCertificate,
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Revoked => RefusalReason::Revoked,
            CertificateError::Expired | CertificateError::NotValidYet => {
                RefusalReason::ExpiredCertificate
            }
            CertificateError::Other(other) => match other.0.downcast_ref::<Foreign>() {
                Some(Foreign::Copy) => RefusalReason::TunnelIntercepted,
                _ => RefusalReason::ForeignCertificate,
            },
            _ => RefusalReason::BadCertificate,
        },
        other => RefusalReason::Handshake(other.clone()),
    }
}
