//! Certificate authorities: making them, keeping them, issuing from them.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority's life: long enough that rolling it out to devices again is rare.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// A device certificate's life; renewal is by enrolling again.
const DEVICE_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// The gateway's own certificate: within what browsers take from public authorities.
const SERVER_LIFETIME: Duration = Duration::from_secs(397 * 86_400);
/// How far a certificate's start lies in the past, for clients whose clock is slow.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// What an authority is for. Its common name says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Signs the leaves that clients of one tenant see in place of origins' certificates.
    Intercept,
    /// Signs the client certificates of one tenant's devices.
    Device,
    /// Signs the gateway's own certificate.
    Tunnel,
}

/// Why an authority could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("no certificate in PEM form")]
    NoCertificate,
    #[error("no private key in PEM form")]
    NoKey,
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    #[error("not a certificate of an authority")]
    NotAuthority,
    #[error("`{0}` cannot stand in a certificate")]
    Name(String),
    #[error("signing failed: {0}")]
    Signing(#[from] rcgen::Error),
    #[error("no randomness")]
    Randomness,
}

/// A certificate authority's certificate and private key.
#[derive(PartialEq, Eq)]
pub struct CaMaterial {
    cert_pem: String,
    cert_der: CertificateDer<'static>,
    key_der: PrivateKeyDer<'static>,
}

/// A certificate and its key, as PEM. The key is wiped from memory on drop.
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: zeroize::Zeroizing<String>,
    /// Lower-case hexadecimal.
    pub serial: String,
}

impl CaMaterial {
    /// Makes a fresh authority: ECDSA P-256, self-signed, for 10 years, signing leaves only.
    ///
    /// # Errors
    /// Where the random source or the signature fails.
    pub fn generate(
        purpose: Purpose,
        owner: &str,
        now: SystemTime,
    ) -> Result<(Self, Issued), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let serial = fresh_serial()?;
        let name = match purpose {
            Purpose::Intercept => format!("{owner} web gateway CA"),
            Purpose::Device => format!("{owner} device CA"),
            Purpose::Tunnel => format!("{owner} tunnel CA"),
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Sluice");
        // Installations must not share a subject: a client that trusts two of them could not tell
        // which key belongs to which certificate.
        let tag: String = crate::ident::hex::encode(&serial).chars().take(8).collect();
        params.distinguished_name.push(DnType::CommonName, format!("{name} {tag}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + AUTHORITY_LIFETIME).into();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let cert = params.self_signed(&key)?;
        let issued = Issued {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem().into(),
            serial: crate::ident::hex::encode(&serial),
        };
        Ok((Self::from_pem(&issued.cert_pem, &issued.key_pem)?, issued))
    }

    /// Reads an authority's certificate and key.
    ///
    /// # Errors
    /// Where either is missing or malformed, they do not belong together, or the certificate is no
    /// authority's.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let cert_der = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|_| AuthorityError::NoCertificate)?;
        let key_der =
            PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| AuthorityError::NoKey)?;
        check_pair(&cert_der, &key_der)?;
        let (_, cert) = x509_parser::parse_x509_certificate(&cert_der)
            .map_err(|_| AuthorityError::NoCertificate)?;
        let authority = cert.basic_constraints().ok().flatten().is_some_and(|ext| ext.value.ca);
        if !authority {
            return Err(AuthorityError::NotAuthority);
        }
        Ok(Self { cert_pem: cert_pem.to_owned(), cert_der, key_der })
    }

    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    #[must_use]
    pub fn cert_der(&self) -> &CertificateDer<'static> {
        &self.cert_der
    }

    /// The private key. Whoever holds it can pose as any origin or device of the tenant.
    #[must_use]
    pub fn key_der(&self) -> &PrivateKeyDer<'static> {
        &self.key_der
    }

    /// Issues a client certificate for a user's device, for one year at most.
    ///
    /// # Errors
    /// Where user or device cannot stand in a certificate, or signing fails.
    pub fn issue_device(
        &self,
        user: &str,
        device: &str,
        now: SystemTime,
    ) -> Result<Issued, AuthorityError> {
        let mut params = leaf_params(user)?;
        params.subject_alt_names = vec![
            SanType::Rfc822Name(ia5(user)?),
            SanType::URI(ia5(&format!("{}{device}", super::certificate::DEVICE_URI_PREFIX))?),
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, DEVICE_LIFETIME, now)
    }

    /// Issues a server certificate for these names.
    ///
    /// # Errors
    /// Where a name cannot stand in a certificate, or signing fails.
    pub fn issue_server(
        &self,
        common_name: &str,
        names: &[String],
        now: SystemTime,
    ) -> Result<Issued, AuthorityError> {
        let mut params = leaf_params(common_name)?;
        params.subject_alt_names = names
            .iter()
            .map(|name| ia5(name).map(SanType::DnsName))
            .collect::<Result<Vec<_>, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, SERVER_LIFETIME, now)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Issued, AuthorityError> {
        let serial = fresh_serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = (now - BACKDATED).into();
        // The backdating counts: the whole life stays within the bound.
        params.not_after = (now + (lifetime - BACKDATED)).into();
        let issuer_key = KeyPair::from_der_and_sign_algo(&self.key_der, &PKCS_ECDSA_P256_SHA256)
            .or_else(|_| KeyPair::try_from(&self.key_der))?;
        let issuer = Issuer::from_ca_cert_der(&self.cert_der, issuer_key)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let cert = params.signed_by(&key, &issuer)?;
        Ok(Issued {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem().into(),
            serial: super::hex::encode(&serial),
        })
    }
}

impl fmt::Debug for CaMaterial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CaMaterial").finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Issued").field("serial", &self.serial).finish_non_exhaustive()
    }
}

fn leaf_params(common_name: &str) -> Result<CertificateParams, AuthorityError> {
    /// X.520 bounds a common name at 64 characters.
    const COMMON_NAME_CHARS_MAX: usize = 64;
    if common_name.is_empty() || common_name.chars().any(char::is_control) {
        return Err(AuthorityError::Name(common_name.to_owned()));
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let shown: String = common_name.chars().take(COMMON_NAME_CHARS_MAX).collect();
    params.distinguished_name.push(DnType::CommonName, shown);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn ia5(text: &str) -> Result<rcgen::string::Ia5String, AuthorityError> {
    text.try_into().map_err(|_| AuthorityError::Name(text.to_owned()))
}

/// 128 random bits below a leading byte that keeps the number positive (RFC 5280 4.1.2.2).
fn fresh_serial() -> Result<Vec<u8>, AuthorityError> {
    let mut serial = super::random::bytes::<17>().ok_or(AuthorityError::Randomness)?.to_vec();
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    Ok(serial)
}

/// Whether the key signs for the certificate.
fn check_pair(cert: &CertificateDer<'_>, key: &PrivateKeyDer<'_>) -> Result<(), AuthorityError> {
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(key)
        .map_err(|_| AuthorityError::NoKey)?;
    let public = signing.public_key().ok_or(AuthorityError::NoKey)?;
    let (_, cert) =
        x509_parser::parse_x509_certificate(cert).map_err(|_| AuthorityError::NoCertificate)?;
    if public.as_ref() == cert.public_key().raw { Ok(()) } else { Err(AuthorityError::KeyMismatch) }
}
