//! The kit that proves Sluice: synthetic clients, a scriptable origin, test CAs and a launcher.
//!
//! A test is three nouns and an assertion:
//!
//! ```text
//! let origin = Origin::start().await;
//! let gateway = Gateway::start(&origin);
//! let reply = gateway.browser().get(&origin.url("site.test", "/hello")).await?;
//! assert_eq!(reply.status, 200);
//! ```
//!
//! Kit code that sets a test up panics when it cannot; client code returns [`ClientError`], because
//! refusals are what many tests (and the load generator) are about.

pub mod client;
pub mod collector;
pub mod curl;
pub mod dns;
pub mod gateway;
pub mod http3;
pub mod kafka;
pub mod link;
pub mod namespace;
pub mod nginx;
pub mod openconnect;
pub mod origin;
pub mod pki;
pub mod relay;
pub mod services;
pub mod sha1;
pub mod webdriver;
pub mod wire;

pub use client::error::ClientError;
pub use client::explicit::Explicit;
pub use client::inner::{Http, Inner};
pub use client::message::{Reply, Request};
pub use client::tunnel::{Leg, Tunnel};
pub use gateway::{Browser, Gateway, Identity};
pub use origin::Origin;
pub use pki::{Fault, Pki};

use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream of any kind: TCP, TLS, or a stream inside a tunnel.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Stream for T {}

/// A boxed [`Stream`].
pub type BoxStream = Box<dyn Stream>;

/// SHA-256 in lower-case hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.hex()
}

/// A running SHA-256, from the TLS library's own provider, so that the kit needs no further crate.
pub struct Sha256(Box<dyn rustls::crypto::hash::Context>);

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl Sha256 {
    #[must_use]
    pub fn new() -> Self {
        let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
        let rustls::SupportedCipherSuite::Tls13(suite) = suite else {
            panic!("TLS13_AES_128_GCM_SHA256 is a TLS 1.3 suite");
        };
        Self(suite.common.hash_provider.start())
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    #[must_use]
    pub fn hex(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A number that no other call in this process gets, for names that must not collide.
#[must_use]
pub fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
