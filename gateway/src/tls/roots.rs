//! The roots an origin's chain may end at.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::distrusted::{is_distrusted, sha256};

/// Where the base set of roots comes from (`origin.roots`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RootSource {
    /// The machine's store; where it is empty, Mozilla's, and a warning says so.
    #[default]
    System,
    /// Mozilla's list as compiled in.
    Webpki,
    /// None: only `extra_roots` count.
    None,
}

/// A root store, built once per origin settings generation and shared by all tenants.
#[derive(Debug, Default)]
pub struct Roots {
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    /// Subject to the validity of each key under that subject. Anchors carry no dates, so that
    /// path building alone would accept an expired root.
    validity: HashMap<Vec<u8>, Vec<Validity>>,
}

#[derive(Debug)]
struct Validity {
    key: Vec<u8>,
    not_before: UnixTime,
    not_after: UnixTime,
}

/// Something the operator should know about the store. `Display` is for the log.
#[derive(Debug, PartialEq, Eq)]
pub enum RootWarning {
    /// The machine has no roots; Mozilla's compiled-in list is used in their place.
    SystemStoreEmpty { cause: String },
    /// This root is past its time and will vouch for nothing.
    Expired { subject: String },
    /// This root is on the list of keys that are public knowledge and was left out.
    Distrusted { subject: String },
    /// A certificate of the store cannot be read and was left out.
    Unreadable { cause: String },
}

impl fmt::Display for RootWarning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SystemStoreEmpty { cause } => write!(
                formatter,
                "this machine has no root certificates ({cause}): using Mozilla's, as compiled in"
            ),
            Self::Expired { subject } => {
                write!(formatter, "the root `{subject}` has expired and vouches for nothing")
            }
            Self::Distrusted { subject } => write!(
                formatter,
                "the root `{subject}` is left out: its private key is public knowledge"
            ),
            Self::Unreadable { cause } => {
                write!(formatter, "a root certificate is left out, it cannot be read: {cause}")
            }
        }
    }
}

impl Roots {
    /// Builds the store of `source` and `extra`, and says what is odd about it as of `now`.
    #[must_use]
    pub fn load(
        source: RootSource,
        extra: &[CertificateDer<'static>],
        now: SystemTime,
    ) -> (Self, Vec<RootWarning>) {
        let mut roots = Self::default();
        let mut warnings = Vec::new();
        match source {
            RootSource::System => roots.add_system(now, &mut warnings),
            RootSource::Webpki => roots.add_webpki(),
            RootSource::None => {}
        }
        for certificate in extra {
            roots.add(certificate, now, &mut warnings);
        }
        (roots, warnings)
    }

    /// How many roots there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Whether `anchor` is within its own time at `time`. A root that came without dates is.
    pub(crate) fn check_time(
        &self,
        anchor: &TrustAnchor<'_>,
        time: UnixTime,
    ) -> Result<(), webpki::Error> {
        let key = anchor.subject_public_key_info.as_ref();
        let known = self.validity.get(anchor.subject.as_ref());
        let Some(validity) = known.into_iter().flatten().find(|known| known.key == key) else {
            return Ok(());
        };
        if time < validity.not_before {
            return Err(webpki::Error::CertNotValidYet { time, not_before: validity.not_before });
        }
        if time > validity.not_after {
            return Err(webpki::Error::CertExpired { time, not_after: validity.not_after });
        }
        Ok(())
    }

    fn add_system(&mut self, now: SystemTime, warnings: &mut Vec<RootWarning>) {
        let found = rustls_native_certs::load_native_certs();
        for certificate in &found.certs {
            self.add(certificate, now, warnings);
        }
        if self.anchors.is_empty() {
            let first = found.errors.first().map(ToString::to_string);
            let cause = first.unwrap_or_else(|| "the store is empty".to_owned());
            warnings.push(RootWarning::SystemStoreEmpty { cause });
            self.add_webpki();
        }
    }

    fn add_webpki(&mut self) {
        self.anchors.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }

    fn add(
        &mut self,
        der: &CertificateDer<'static>,
        now: SystemTime,
        warnings: &mut Vec<RootWarning>,
    ) {
        let (certificate, anchor) =
            match (X509Certificate::from_der(der), webpki::anchor_from_trusted_cert(der)) {
                (Ok((_, certificate)), Ok(anchor)) => (certificate, anchor.to_owned()),
                (Err(error), _) => {
                    return warnings.push(RootWarning::Unreadable { cause: error.to_string() });
                }
                (_, Err(error)) => {
                    return warnings.push(RootWarning::Unreadable { cause: error.to_string() });
                }
            };
        let subject = certificate.subject().to_string();
        if is_distrusted(&sha256(certificate.public_key().raw)) {
            return warnings.push(RootWarning::Distrusted { subject });
        }
        let validity = Validity {
            key: anchor.subject_public_key_info.as_ref().to_vec(),
            not_before: unix_time(certificate.validity().not_before.timestamp()),
            not_after: unix_time(certificate.validity().not_after.timestamp()),
        };
        if moment(now) > validity.not_after {
            warnings.push(RootWarning::Expired { subject });
        }
        self.remember(anchor, validity);
    }

    /// One key under one subject is one root, however often it was issued anew: its time is the
    /// span of all its certificates.
    fn remember(&mut self, anchor: TrustAnchor<'static>, validity: Validity) {
        let keys = self.validity.entry(anchor.subject.as_ref().to_vec()).or_default();
        match keys.iter_mut().find(|known| known.key == validity.key) {
            Some(known) => {
                known.not_before = known.not_before.min(validity.not_before);
                known.not_after = known.not_after.max(validity.not_after);
            }
            None => {
                keys.push(validity);
                self.anchors.push(anchor);
            }
        }
    }
}

/// A moment as path building counts it.
pub(crate) fn moment(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn unix_time(timestamp: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(timestamp).unwrap_or(0)))
}
