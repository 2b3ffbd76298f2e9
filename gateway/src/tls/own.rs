//! Our own interception authorities, so that an origin hiding behind one is recognised.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::distrusted::{KeyHash, sha256};
use super::suites;

/// The interception CA certificates of every tenant of this process.
///
/// A client trusts its tenant's CA, so a chain under any of them must not come from an origin:
/// somebody has a key of ours, or traffic is going round in a loop.
#[derive(Debug, Default)]
pub struct OwnAuthorities {
    inner: RwLock<Inner>,
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    by_tenant: HashMap<String, CertificateDer<'static>>,
    by_subject: HashMap<Vec<u8>, Vec<CertificateDer<'static>>>,
    keys: HashSet<KeyHash>,
}

/// So many authorities of one subject are tried by signature; beyond, the name alone condemns.
const SAME_SUBJECT_MAX: usize = 16;

impl OwnAuthorities {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the CA certificate of `tenant`, or removes it. A certificate that cannot be read is
    /// ignored: it cannot have issued anything either.
    pub fn replace(&self, tenant: &str, certificate: Option<CertificateDer<'static>>) {
        let mut inner = self.inner.write();
        if inner.by_tenant.get(tenant) == certificate.as_ref() {
            return;
        }
        if let Some(old) = inner.by_tenant.remove(tenant) {
            inner.forget(&old);
        }
        if let Some(new) = certificate {
            inner.learn(&new);
            inner.by_tenant.insert(tenant.to_owned(), new);
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Changes whenever the set does; what was judged under another value is judged again.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether any certificate of `chain` is one of ours or was signed by one of ours.
    pub(crate) fn vouch_for(&self, chain: &[CertificateDer<'_>]) -> bool {
        let inner = self.inner.read();
        !inner.keys.is_empty() && chain.iter().any(|certificate| inner.is_ours(certificate))
    }
}

impl Inner {
    fn learn(&mut self, certificate: &CertificateDer<'static>) {
        if let Ok((_, parsed)) = X509Certificate::from_der(certificate) {
            self.keys.insert(sha256(parsed.public_key().raw));
            let same_subject = self.by_subject.entry(parsed.subject().as_raw().to_vec());
            same_subject.or_default().push(certificate.clone());
        }
    }

    fn forget(&mut self, certificate: &CertificateDer<'static>) {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return };
        let shared = self.by_tenant.values().any(|other| other == certificate);
        if !shared {
            self.keys.remove(&sha256(parsed.public_key().raw));
        }
        let subject = parsed.subject().as_raw();
        if let Some(list) = self.by_subject.get_mut(subject) {
            if let Some(at) = list.iter().position(|other| other == certificate) {
                list.swap_remove(at);
            }
            if list.is_empty() {
                self.by_subject.remove(subject);
            }
        }
    }

    fn is_ours(&self, der: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
        if self.keys.contains(&sha256(certificate.public_key().raw)) {
            return true;
        }
        let Some(issuers) = self.by_subject.get(certificate.issuer().as_raw()) else {
            return false;
        };
        issuers.len() > SAME_SUBJECT_MAX
            || issuers.iter().any(|issuer| signed_by(&certificate, issuer))
    }
}

/// Whether `issuer`'s key made the signature of `certificate`, with any algorithm we can verify.
pub(crate) fn signed_by(certificate: &X509Certificate<'_>, issuer: &CertificateDer<'_>) -> bool {
    let Ok(issuer) = EndEntityCert::try_from(issuer) else { return false };
    let signed = certificate.tbs_certificate.as_ref();
    let signature = certificate.signature_value.data.as_ref();
    suites::lenient()
        .iter()
        .any(|&algorithm| issuer.verify_signature(algorithm, signed, signature).is_ok())
}
