//! Keys and signatures that no longer prove anything.

use x509_parser::prelude::X509Certificate;
use x509_parser::public_key::PublicKey;

/// What current browsers demand of RSA (CA/Browser Forum baseline requirements 6.1.5).
const RSA_BITS_MIN: usize = 2048;

/// P-256, P-384 and P-521, the last in whole bytes as its points are encoded.
const EC_BITS: [usize; 3] = [256, 384, 528];

/// What is weak about the key `certificate` carries.
pub(crate) fn of_key(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => (key.key_size() < RSA_BITS_MIN).then_some("small_rsa_key"),
        Ok(PublicKey::EC(point)) => (!EC_BITS.contains(&point.key_size())).then_some("small_curve"),
        Ok(PublicKey::DSA(_) | PublicKey::GostR3410(_) | PublicKey::GostR3410_2012(_)) => {
            Some("obsolete_key")
        }
        Ok(PublicKey::Unknown(_)) | Err(_) => None,
    }
}

/// What is weak about the signature on `certificate`, unless it signed itself.
pub(crate) fn of_signature(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    if certificate.subject().as_raw() == certificate.issuer().as_raw() {
        return None;
    }
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    BROKEN.iter().find(|(oid, _)| *oid == algorithm).map(|&(_, detail)| detail)
}

/// Signature algorithms over SHA-1, MD5 or MD2.
const BROKEN: [(&str, &str); 7] = [
    ("1.2.840.113549.1.1.2", "md2_signature"),
    ("1.2.840.113549.1.1.4", "md5_signature"),
    ("1.2.840.113549.1.1.5", "sha1_signature"),
    ("1.3.14.3.2.29", "sha1_signature"),
    ("1.3.14.3.2.27", "sha1_signature"),
    ("1.2.840.10040.4.3", "sha1_signature"),
    ("1.2.840.10045.4.1", "sha1_signature"),
];
