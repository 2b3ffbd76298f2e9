//! Certificates that origins forgot to send: where they say that they can be had (RFC 5280 section
//! 4.2.2.1), and which were had.

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::bounded::Bounded;
use super::own::signed_by;

/// Kept per tenant, some 2 KB each. Public authorities have some thousand, of which a company meets a
/// few dozen without their having been sent.
const KNOWN_MAX: usize = 256;

/// Appended to one chain; more than one is missing nearly never.
const MISSING_MAX: usize = 3;

/// What is known by its subject.
#[derive(Debug)]
pub(super) struct Issuers(Mutex<Bounded<Vec<u8>, CertificateDer<'static>>>);

impl Issuers {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Bounded::new(KNOWN_MAX)))
    }

    /// The chain, with what is known of its missing end.
    pub(super) fn complete(&self, chain: &[CertificateDer<'_>]) -> Vec<CertificateDer<'static>> {
        let mut whole: Vec<CertificateDer<'static>> =
            chain.iter().map(|der| der.clone().into_owned()).collect();
        let mut known = self.0.lock();
        for _ in 0..MISSING_MAX {
            // Two authorities may have the same name: only the key tells.
            let issuer = with_top(&whole, |top| {
                let der = known.find(top.issuer().as_raw())?;
                signed_by(top, der).then(|| der.clone())
            });
            match issuer.flatten() {
                Some(der) if !whole.contains(&der) => whole.push(der),
                _ => break,
            }
        }
        whole
    }

    /// Keeps `der`, if it is the certificate whose key signed the last one of `chain`.
    pub(super) fn learn(&self, chain: &[CertificateDer<'_>], der: CertificateDer<'static>) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(&der) else { return false };
        let subject = parsed.subject().as_raw().to_vec();
        let whole = self.complete(chain);
        // Somebody else was told the same meanwhile.
        if whole.get(chain.len()..).is_some_and(|known| known.contains(&der)) {
            return true;
        }
        let is_issuer =
            with_top(&whole, |top| top.issuer().as_raw() == subject && signed_by(top, &der));
        if is_issuer == Some(true) {
            self.0.lock().insert(subject, der);
        }
        is_issuer == Some(true)
    }

    /// Where the issuer of the last certificate of `chain` can be fetched. Written by a stranger.
    pub(super) fn location(&self, chain: &[CertificateDer<'_>]) -> Option<String> {
        with_top(&self.complete(chain), |top| {
            top.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityInfoAccess(access) => http_location(access),
                _ => None,
            })
        })?
    }
}

/// The first `caIssuers` with an http URL: over https it could need itself to be fetched.
fn http_location(access: &x509_parser::extensions::AuthorityInfoAccess<'_>) -> Option<String> {
    let issuers = x509_parser::oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS;
    access.accessdescs.iter().filter(|one| one.access_method == issuers).find_map(|one| {
        match one.access_location {
            GeneralName::URI(url) if url.starts_with("http://") => Some(url.to_owned()),
            _ => None,
        }
    })
}

/// Looks at the last certificate that a path of issuers leads to from the first.
fn with_top<T>(
    chain: &[CertificateDer<'_>],
    look: impl FnOnce(&X509Certificate<'_>) -> T,
) -> Option<T> {
    let parsed: Vec<X509Certificate<'_>> =
        chain.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1)).collect();
    let mut top = parsed.first()?;
    for _ in 0..parsed.len() {
        let issuer = parsed.iter().find(|other| other.subject().as_raw() == top.issuer().as_raw());
        match issuer {
            Some(issuer) if !std::ptr::eq(issuer, top) => top = issuer,
            _ => break,
        }
    }
    Some(look(top))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn only_who_signed_the_last_certificate_is_its_issuer() {
        let root = root("root");
        let (middle, namesake) =
            (intermediate(ca_params("middle"), &root), intermediate(ca_params("middle"), &root));
        let leaf = issue(&leaf_params(&["a.test"]), &middle);
        let chain = [leaf.clone()];
        let issuers = Issuers::new();
        for wrong in [root.der().clone(), namesake.der().clone(), leaf, vec![1, 2, 3].into()] {
            assert!(!issuers.learn(&chain, wrong));
            assert_eq!(issuers.complete(&chain), chain);
        }
        assert!(issuers.learn(&chain, middle.der().clone()));
        assert_eq!(issuers.complete(&chain), [chain[0].clone(), middle.der().clone()]);
        assert!(issuers.learn(&chain, middle.der().clone()), "told by another connection too");
        assert!(issuers.learn(&chain, root.der().clone()), "and so on");
        assert_eq!(issuers.complete(&chain).len(), 3);
    }

    #[test]
    fn a_namesake_that_signed_something_else_stands_in_nobodys_way() {
        let root = root("root");
        let [middle, namesake] = [(); 2].map(|()| intermediate(ca_params("middle"), &root));
        let chain = [issue(&leaf_params(&["a.test"]), &middle)];
        let others = [issue(&leaf_params(&["b.test"]), &namesake)];
        let issuers = Issuers::new();
        assert!(issuers.learn(&others, namesake.der().clone()));
        assert_eq!(issuers.complete(&chain), chain, "another key");
        assert!(issuers.learn(&chain, middle.der().clone()));
        assert_eq!(issuers.complete(&chain).len(), 2);
    }
}
