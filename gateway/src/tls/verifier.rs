//! What the TLS library asks while it shakes hands with an origin.
//!
//! The proof that the origin holds its certificate's key is always demanded. The chain itself is
//! judged after the handshake, so that a fault can be shown on a page instead of ending in a
//! broken connection, and so that a resumed connection is judged like a fresh one.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::suites;

tokio::task_local! {
    /// What is noted about the handshake this task is in. The configuration is shared by all
    /// connections (resumption depends on that), so the notes cannot live in it.
    pub(crate) static NOTES: Notes;
}

/// What an origin did in one handshake.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    wanted_client_certificate: Cell<bool>,
    chain: RefCell<Vec<CertificateDer<'static>>>,
}

impl Notes {
    pub(crate) fn wanted_client_certificate(&self) -> bool {
        self.wanted_client_certificate.get()
    }

    /// The chain of a full handshake, even of one that failed later.
    pub(crate) fn take_chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.take()
    }
}

/// Verifies the handshake's signature, and notes the chain for the judgement.
#[derive(Debug)]
pub(crate) struct HandshakeVerifier {
    algorithms: WebPkiSupportedAlgorithms,
}

impl HandshakeVerifier {
    pub(crate) fn new() -> Self {
        Self { algorithms: suites::crypto().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for HandshakeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let noted = NOTES.try_with(|notes| {
            let mut chain = notes.chain.borrow_mut();
            chain.push(end_entity.clone().into_owned());
            chain.extend(intermediates.iter().map(|other| other.clone().into_owned()));
        });
        match noted {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(_) => Err(Error::General("handshake outside of a judged connection".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Notes that an origin asked for a client certificate, and offers none, ever.
#[derive(Debug)]
pub(crate) struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        // Outside of a scope nobody wants to know.
        NOTES.try_with(|notes| notes.wanted_client_certificate.set(true)).ok();
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
