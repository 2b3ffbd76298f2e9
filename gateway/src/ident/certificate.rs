//! Reads user and device out of a client certificate.

use std::sync::Arc;

use x509_parser::extensions::GeneralName;

use super::names::Blame;

/// Scheme of the URI that names a device in a certificate.
pub const DEVICE_URI_PREFIX: &str = "device:";
/// Longest user: a mailbox is at most 254 bytes (RFC 5321 4.5.3.1 with RFC 3696 erratum 1690).
const USER_BYTES_MAX: usize = 254;
/// Longest device id: a UUID or an asset tag, with room.
const DEVICE_BYTES_MAX: usize = 128;
/// Largest certificate read. Ours are below 1 KiB; an operator's own may be larger.
const CERTIFICATE_BYTES_MAX: usize = 16 << 10;

/// Who a verified client certificate names. The caller has verified chain, time and possession.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    pub user: Arc<str>,
    pub device: Option<Arc<str>>,
    /// Lower-case hexadecimal.
    pub serial: Arc<str>,
    /// The issuer's distinguished name, DER.
    pub issuer: Box<[u8]>,
    /// Seconds since the Unix epoch; the session ends then.
    pub expires: u64,
}

/// Why a certificate names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("not a certificate")]
    Malformed,
    #[error("no user in the subject alternative name")]
    NoUser,
    #[error("more than one user or device in the subject alternative name")]
    Ambiguous,
    #[error("user or device too long, or with characters that do not belong there")]
    BadName,
    #[error("not for client authentication")]
    WrongUsage,
}

impl CertificateError {
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "certificate_malformed",
            Self::NoUser => "certificate_without_user",
            Self::Ambiguous => "certificate_ambiguous",
            Self::BadName => "certificate_bad_name",
            Self::WrongUsage => "certificate_wrong_usage",
        }
    }

    #[must_use]
    pub fn blame(self) -> Blame {
        Blame::Client
    }
}

impl ClientIdentity {
    /// Reads a verified certificate: user in the `rfc822Name`, device in the URI `device:<id>`.
    ///
    /// # Errors
    /// Where it does not name exactly one user, or is not for client authentication.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::Malformed);
        }
        let (rest, cert) =
            x509_parser::parse_x509_certificate(der).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        let usage = cert.extended_key_usage().map_err(|_| CertificateError::Malformed)?;
        if usage.is_some_and(|usage| !usage.value.client_auth) {
            return Err(CertificateError::WrongUsage);
        }
        let names = cert.subject_alternative_name().map_err(|_| CertificateError::Malformed)?;
        let names = names.ok_or(CertificateError::NoUser)?;
        let (mut user, mut device) = (None, None);
        for name in &names.value.general_names {
            let taken = match name {
                GeneralName::RFC822Name(mailbox) => {
                    user.replace(name_text(mailbox, USER_BYTES_MAX)?)
                }
                GeneralName::URI(uri) => match uri.strip_prefix(DEVICE_URI_PREFIX) {
                    Some(id) => device.replace(name_text(id, DEVICE_BYTES_MAX)?),
                    None => None,
                },
                _ => None,
            };
            if taken.is_some() {
                return Err(CertificateError::Ambiguous);
            }
        }
        Ok(Self {
            user: user.ok_or(CertificateError::NoUser)?,
            device,
            serial: super::hex::encode(unsigned(cert.raw_serial())).into(),
            issuer: cert.issuer().as_raw().into(),
            // One that ended before 1970 was refused in the handshake.
            expires: u64::try_from(cert.validity().not_after.timestamp()).unwrap_or(0),
        })
    }
}

/// A serial's DER has a leading zero byte where its first bit would make it negative; people and
/// tools write it without.
fn unsigned(serial: &[u8]) -> &[u8] {
    match serial.split_first() {
        Some((0, rest)) if !rest.is_empty() => rest,
        _ => serial,
    }
}

/// Printable text within a bound. What gets into events and pages must not carry control bytes.
fn name_text(text: &str, bytes_max: usize) -> Result<Arc<str>, CertificateError> {
    if valid_name(text, bytes_max) { Ok(text.into()) } else { Err(CertificateError::BadName) }
}

fn valid_name(text: &str, bytes_max: usize) -> bool {
    let inside = |c: char| !c.is_control() && !c.is_whitespace();
    (1..=bytes_max).contains(&text.len()) && text.chars().all(inside)
}

/// Whether this may be a user's name in a certificate or token.
#[must_use]
pub fn valid_user(user: &str) -> bool {
    valid_name(user, USER_BYTES_MAX)
}

/// Whether this may be a device's id.
#[must_use]
pub fn valid_device(device: &str) -> bool {
    valid_name(device, DEVICE_BYTES_MAX)
}
