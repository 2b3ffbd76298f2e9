//! A minted leaf and the server configurations that show it.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use smallvec::SmallVec;

use super::suites;

/// A leaf with its key, as a client of this tenant gets to see it.
#[derive(Debug)]
pub struct Leaf {
    key: Arc<CertifiedKey>,
    /// The configuration of this leaf, with its own ticket keys, before ALPN is known.
    base: ServerConfig,
    by_alpn: Mutex<SmallVec<[Arc<ServerConfig>; 1]>>,
}

/// Lists of protocols seen per leaf; beyond, a configuration is made and not kept. The driver
/// offers the same list to everybody, so more than one is rare.
const ALPN_LISTS_MAX: usize = 4;

impl Leaf {
    /// Tickets are sealed with keys of this leaf alone: what one name of one tenant gave out
    /// opens nowhere else, and dies with the leaf.
    pub(crate) fn new(key: Arc<CertifiedKey>, authority: &ServerConfig) -> Self {
        let mut base = authority.clone();
        base.cert_resolver = Arc::new(Only(Arc::clone(&key)));
        if let Ok(ticketer) = Ticketer::new() {
            base.ticketer = ticketer;
        }
        Self { key, base, by_alpn: Mutex::default() }
    }

    /// The chain and key.
    #[must_use]
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

/// The configuration to accept a client with, showing `leaf` and offering `alpn`. Built once per
/// leaf and list.
#[must_use]
pub fn client_facing(leaf: &Leaf, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let mut kept = leaf.by_alpn.lock();
    if let Some(config) = kept.iter().find(|config| config.alpn_protocols == alpn) {
        return Arc::clone(config);
    }
    let mut config = leaf.base.clone();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let config = Arc::new(config);
    if kept.len() < ALPN_LISTS_MAX {
        kept.push(Arc::clone(&config));
    }
    config
}

/// What all client-facing configurations have in common: TLS 1.3 and 1.2, no early data (it can
/// be replayed, RFC 8446 section 8), no sessions kept on our side.
pub(crate) fn base() -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(suites::crypto())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Nothing));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Shows one certificate, whatever name the client says.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Stands where a leaf is not known yet.
#[derive(Debug)]
struct Nothing;

impl ResolvesServerCert for Nothing {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
