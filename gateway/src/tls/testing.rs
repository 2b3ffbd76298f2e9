//! Certificates for the tests of this folder: sound ones, to be spoilt by whoever asks.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, ServerName};
use zeroize::Zeroizing;

use super::{Authority, RootSource, Roots};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) type Ca = CertifiedIssuer<'static, KeyPair>;

/// A common name.
pub(crate) fn called(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// The parameters of a CA, valid for ten years around now.
pub(crate) fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = called(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (SystemTime::now() - 1800 * DAY).into();
    params.not_after = (SystemTime::now() + 1800 * DAY).into();
    params
}

/// The parameters of an origin's certificate, valid for two months around now.
pub(crate) fn leaf_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = called("origin");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (SystemTime::now() - 30 * DAY).into();
    params.not_after = (SystemTime::now() + 30 * DAY).into();
    params
}

pub(crate) fn root(name: &str) -> Ca {
    root_of(ca_params(name))
}

pub(crate) fn root_of(params: CertificateParams) -> Ca {
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(crate) fn intermediate(params: CertificateParams, issuer: &Ca) -> Ca {
    CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), issuer).unwrap()
}

pub(crate) fn issue(params: &CertificateParams, issuer: &Ca) -> CertificateDer<'static> {
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
}

pub(crate) fn trusting(roots: &[&Ca]) -> Roots {
    let extra: Vec<_> = roots.iter().map(|root| root.der().clone()).collect();
    Roots::load(RootSource::None, &extra, SystemTime::now()).0
}

pub(crate) fn named(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

/// An interception CA as a tenant has it.
pub(crate) fn authority(name: &str) -> (Authority, CertificateDer<'static>) {
    authority_valid(name, SystemTime::now() + 3650 * DAY)
}

pub(crate) fn authority_valid(
    name: &str,
    until: SystemTime,
) -> (Authority, CertificateDer<'static>) {
    let mut params = ca_params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.not_after = until.into();
    let ca = root_of(params);
    let key = Zeroizing::new(ca.key().serialize_der());
    (Authority::new(ca.der().clone(), &key).unwrap(), ca.der().clone())
}
