//! TLS towards the gateway and, inside the tunnel, towards what it claims to be the origin.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::ClientError;
use crate::BoxStream;
use crate::pki::Chain;

/// A client configuration that trusts the CAs of a PEM text and speaks `alpn`.
///
/// # Errors
/// Where the PEM holds no certificate, or the client's own certificate does not fit its key.
pub fn config(
    trusted_pem: &str,
    client: Option<&Chain>,
    alpn: &[&str],
) -> Result<ClientConfig, ClientError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    config_with(provider, trusted_pem, client, alpn)
}

/// The same with the cryptography of one's own choice.
///
/// # Errors
/// As [`config`], and where the provider has nothing for TLS.
pub fn config_with(
    provider: CryptoProvider,
    trusted_pem: &str,
    client: Option<&Chain>,
    alpn: &[&str],
) -> Result<ClientConfig, ClientError> {
    let unusable = |what: String| ClientError::Unsupported(what);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| unusable(format!("CA file: {error}")))?;
        roots.add(certificate).map_err(|error| unusable(format!("CA file: {error}")))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(chain) => builder
            .with_client_auth_cert(chain.certificates.clone(), chain.key.clone_key())
            .map_err(|error| unusable(format!("client certificate: {error}")))?,
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

/// Shakes hands over `stream`.
///
/// # Errors
/// [`ClientError::Tls`] with the alert or the verification failure.
pub async fn connect(
    stream: BoxStream,
    name: &str,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<BoxStream>, ClientError> {
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| ClientError::Unsupported(format!("`{name}` is no server name")))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(ClientError::Tls)
}

/// The protocol both sides chose.
#[must_use]
pub fn alpn(stream: &TlsStream<BoxStream>) -> Option<String> {
    let name = stream.get_ref().1.alpn_protocol()?;
    Some(String::from_utf8_lossy(name).into_owned())
}
