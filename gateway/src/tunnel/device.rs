//! Verifies a tunnel's client certificate during the handshake: no identity, no tunnel.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};

use crate::ident::ClientIdentity;
use crate::snapshot::Tenant;

/// A chain from a device holds the leaf and at most a few intermediates (CASES CT-16).
const CHAIN_CERTIFICATES_MAX: usize = 8;
const CHAIN_BYTES_MAX: usize = 64 * 1024;

/// Devices remembered per tenant and day; the oldest are forgotten first.
const KNOWN_DEVICES_MAX: u64 = 10_000;
const KNOWN_DEVICE_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// Devices that had a tunnel of late. A stranger's certificate with the names of one of them is
/// the mark of a middlebox that re-issues certificates.
#[derive(Debug)]
pub(super) struct KnownDevices(Cache<(String, String), ()>);

impl KnownDevices {
    pub(super) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(KNOWN_DEVICES_MAX)
                .time_to_live(KNOWN_DEVICE_TIME_MAX)
                .build(),
        )
    }

    pub(super) fn remember(&self, identity: &ClientIdentity) {
        if let Some(device) = &identity.device {
            self.0.insert((identity.user.to_string(), device.to_string()), ());
        }
    }

    fn has(&self, identity: &ClientIdentity) -> bool {
        identity.device.as_ref().is_some_and(|device| {
            self.0.contains_key(&(identity.user.to_string(), device.to_string()))
        })
    }
}

/// Checks certificates against one tenant's device CA and its revocations.
#[derive(Debug)]
pub(super) struct DeviceVerifier {
    tenant: Arc<Tenant>,
    known: Arc<KnownDevices>,
    mandatory: bool,
    anchors: Vec<TrustAnchor<'static>>,
    subjects: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl DeviceVerifier {
    pub(super) fn new(
        tenant: Arc<Tenant>,
        known: Arc<KnownDevices>,
        mandatory: bool,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        let anchors: Vec<_> = webpki::anchor_from_trusted_cert(&tenant.device_ca)
            .map(|anchor| anchor.to_owned())
            .into_iter()
            .collect();
        let subjects =
            anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect();
        Self { tenant, known, mandatory, anchors, subjects, algorithms }
    }
}

/// A certificate of another issuer was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    #[error("issued by another authority")]
    Issuer,
    /// It copies the names of a device of ours: something on the way re-issued it.
    #[error("a copy of a device's names by another authority")]
    Copy,
}

impl ClientCertVerifier for DeviceVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let bytes: usize = intermediates.iter().map(|der| der.len()).sum();
        if intermediates.len() >= CHAIN_CERTIFICATES_MAX || bytes > CHAIN_BYTES_MAX {
            return Err(CertificateError::BadEncoding.into());
        }
        let leaf = EndEntityCert::try_from(end_entity)
            .map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
        leaf.verify_for_usage(
            self.algorithms.all,
            &self.anchors,
            intermediates,
            now,
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(|error| self.refusal(&error, end_entity))?;
        let identity = ClientIdentity::from_der(end_entity)
            .map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
        if self.tenant.revoked.revokes(Some(&identity.serial), identity.device.as_deref()) {
            return Err(CertificateError::Revoked.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl DeviceVerifier {
    /// Says apart what the event must say apart: a stranger's certificate, a middlebox's copy of
    /// one of ours, and one of ours that is merely out of date.
    fn refusal(&self, error: &webpki::Error, end_entity: &CertificateDer<'_>) -> rustls::Error {
        match error {
            webpki::Error::CertExpired { .. } => CertificateError::Expired.into(),
            webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet.into(),
            webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose.into(),
            _ => {
                let copies = ClientIdentity::from_der(end_entity)
                    .is_ok_and(|identity| self.known.has(&identity));
                let foreign = if copies { Foreign::Copy } else { Foreign::Issuer };
                CertificateError::Other(OtherError(Arc::new(foreign))).into()
            }
        }
    }
}
