//! TLS towards the peers of sinks.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::SinkError;
use crate::config::SinkTls;

/// A connection, with TLS or without.
pub(super) trait Link: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

/// The settings of the peer's TLS.
pub(super) fn client_config(tls: &SinkTls) -> Result<ClientConfig, SinkError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(SinkError::settings)?
        .with_root_certificates(roots(tls.ca.as_deref())?);
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_file(key).map_err(SinkError::settings)?;
    builder.with_client_auth_cert(certificates(cert)?, key).map_err(SinkError::settings)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, SinkError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(SinkError::settings)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SinkError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| SinkError::Settings(format!("{}: {error}", path.display())))
}

/// Connects, with TLS where there are settings for it.
pub(super) async fn connect(
    host: &str,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Box<dyn Link>, SinkError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((host, port)).await.map_err(SinkError::unreachable)?;
    tcp.set_nodelay(true).map_err(SinkError::unreachable)?;
    let Some(config) = tls else { return Ok(Box::new(tcp)) };
    let name = ServerName::try_from(host.to_owned()).map_err(SinkError::settings)?;
    let stream = TlsConnector::from(config).connect(name, tcp).await;
    Ok(Box::new(stream.map_err(|error| SinkError::handshake(&error))?))
}

/// Host and port of `host:port`, or of `host` with a default port.
pub(super) fn host_and_port(authority: &str, default: u16) -> Result<(String, u16), SinkError> {
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of a bare IPv6 address in brackets are no port's.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse()),
        _ => (authority, Ok(default)),
    };
    let port = port.map_err(|_| SinkError::Settings(format!("no port in `{authority}`")))?;
    Ok((host.to_owned(), port))
}
