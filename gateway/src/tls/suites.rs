//! The one crypto provider of both legs, and the algorithms a chain is checked with.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::signature::{self, RsaParameters, UnparsedPublicKey};
use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};

/// TLS 1.3 and 1.2, ECDHE with AEAD only, X25519MLKEM768 first, and AES-128 before AES-256 as
/// browsers have it: the key schedule and the bulk cost a third less.
pub(crate) fn crypto() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = provider::default_provider();
        provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
            suite if suite.as_str().is_some_and(|name| name.starts_with("TLS13")) => 1,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 2,
            _ => 3,
        });
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// What a chain must be signed with to count as sound.
pub(crate) fn strong() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    static STRONG: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> =
        LazyLock::new(|| {
            provider::default_provider().signature_verification_algorithms.all.to_vec()
        });
    &STRONG
}

/// What a chain may be signed with to be *merely weak* rather than unverifiable: the strong ones,
/// and RSA from 1024 bits with SHA-1 or SHA-2. MD5 is not among them.
pub(crate) fn lenient() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    static LENIENT: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> =
        LazyLock::new(|| {
            let mut all = strong().to_vec();
            all.extend([LEGACY_SHA1, LEGACY_SHA256, LEGACY_SHA512]);
            all
        });
    &LENIENT
}

const LEGACY_SHA1: &dyn SignatureVerificationAlgorithm = &LegacyRsa {
    parameters: &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
    signature: SHA1_WITH_RSA,
};
const LEGACY_SHA256: &dyn SignatureVerificationAlgorithm = &LegacyRsa {
    parameters: &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    signature: alg_id::RSA_PKCS1_SHA256,
};
const LEGACY_SHA512: &dyn SignatureVerificationAlgorithm = &LegacyRsa {
    parameters: &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
    signature: alg_id::RSA_PKCS1_SHA512,
};

/// `sha1WithRSAEncryption` with a NULL parameter, 1.2.840.113549.1.1.5 (RFC 8017 appendix A.2.4).
const SHA1_WITH_RSA: AlgorithmIdentifier = AlgorithmIdentifier::from_slice(&[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05, 0x00,
]);

/// RSA as it was: only ever used to tell a weak chain from a forged one.
#[derive(Debug)]
struct LegacyRsa {
    parameters: &'static RsaParameters,
    signature: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for LegacyRsa {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        UnparsedPublicKey::new(self.parameters, public_key)
            .verify(message, signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}
