//! One tenant's interception CA: mints leafs, each once, and keeps them while they are fresh.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use parking_lot::Mutex;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::ServerConfig;
use rustls::SignatureScheme as Scheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use tokio::sync::OnceCell;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::bounded::Bounded;
use super::leaf::{self, Leaf};
use crate::ident::Blame;

/// Leafs kept per tenant. One costs about 4 KiB with its server configuration, so a tenant that
/// asks for endless names holds some megabytes and pushes out nobody's leafs but its own.
const LEAFS_MAX: usize = 1024;

/// A leaf is made at most a day after its key, so this leaves six days to a connection that
/// stays; far below the 398 days clients accept.
const LEAF_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Clients' clocks are late more often than one thinks.
const LEAF_BACKDATE: Duration = Duration::from_secs(12 * 3600);

/// How long one key serves all leafs of a tenant.
const LEAF_KEY_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// `ub-common-name` of RFC 5280 appendix A.1: a longer name stands in the SAN only.
const COMMON_NAME_BYTES_MAX: usize = 64;

/// One tenant's interception CA, in memory. The key leaves this type in no form.
pub struct Authority {
    issuer: Issuer<'static, AuthorityKey>,
    certificate: CertificateDer<'static>,
    not_before: SystemTime,
    not_after: SystemTime,
    base: Arc<ServerConfig>,
    key: Mutex<Option<Arc<LeafKey>>>,
    leafs: Mutex<Bounded<String, Arc<Minting>>>,
    minted: AtomicU64,
    retired: AtomicBool,
}

/// A place in the cache: whoever comes first mints, the others wait.
struct Minting {
    key: Arc<LeafKey>,
    leaf: OnceCell<Arc<Leaf>>,
}

/// The key all leafs of one tenant and day share. Made here, written nowhere.
struct LeafKey {
    signing: Arc<dyn SigningKey>,
    public: SubjectPublicKeyInfo,
    born: SystemTime,
}

/// Why a CA certificate and key cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("the interception CA certificate cannot be read")]
    Certificate,
    #[error("the interception CA certificate is no authority: `CA:TRUE` and `keyCertSign` needed")]
    NoAuthority,
    #[error("the interception CA key cannot be read, or is of a kind that cannot sign leafs")]
    Key,
    #[error("the interception CA key does not belong to its certificate")]
    KeyMismatch,
    #[error("the interception CA's subject cannot be repeated exactly as a leaf's issuer")]
    Subject,
    #[error("the interception CA cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("the TLS library refuses its own defaults: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why there is no leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    #[error("not a name a certificate can carry")]
    Name,
    #[error("the tenant's interception CA is not valid now")]
    AuthorityExpired,
    #[error("the tenant's interception CA was withdrawn")]
    AuthorityRetired,
    #[error("the leaf could not be made")]
    Mint,
}

impl LeafError {
    /// The stable name in events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Name => "leaf_name",
            Self::AuthorityExpired => "authority_expired",
            Self::AuthorityRetired => "authority_retired",
            Self::Mint => "leaf_failed",
        }
    }

    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::Name => Blame::Client,
            Self::AuthorityExpired | Self::AuthorityRetired | Self::Mint => Blame::Gateway,
        }
    }
}

impl Authority {
    /// Takes a CA certificate and its key (PKCS#8, SEC1 or PKCS#1), both DER.
    ///
    /// # Errors
    /// Where the two do not belong together or cannot sign leafs. No message carries key material.
    pub fn new(
        certificate: CertificateDer<'static>,
        key: &Zeroizing<Vec<u8>>,
    ) -> Result<Self, AuthorityError> {
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|_| AuthorityError::Certificate)?;
        let may_sign = parsed
            .key_usage()
            .is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
        if !parsed.is_ca() || !may_sign {
            return Err(AuthorityError::NoAuthority);
        }
        let subject = parsed.subject().as_raw().to_vec();
        let validity = parsed.validity();
        let (not_before, not_after) =
            (system_time(&validity.not_before), system_time(&validity.not_after));
        let key = AuthorityKey::new(key, &parsed)?;
        let authority = Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate: certificate.clone(),
            not_before,
            not_after,
            base: leaf::base()?,
            key: Mutex::new(None),
            leafs: Mutex::new(Bounded::new(LEAFS_MAX)),
            minted: AtomicU64::new(0),
            retired: AtomicBool::new(false),
        };
        authority.prove(&subject)?;
        Ok(authority)
    }

    /// The leaf for `name`, a host name in canonical form (lower case, A-labels) or an IP address,
    /// fit to be shown at `now`. Made at most once however many ask at a time.
    ///
    /// # Errors
    /// Where the name is none, or the authority cannot sign for `now`.
    pub async fn leaf(&self, name: &str, now: SystemTime) -> Result<Arc<Leaf>, LeafError> {
        if self.retired.load(Ordering::Acquire) {
            return Err(LeafError::AuthorityRetired);
        }
        if now < self.not_before || now >= self.not_after {
            return Err(LeafError::AuthorityExpired);
        }
        let subject = Subject::parse(name)?;
        let key = self.leaf_key(now)?;
        let place = self.place(subject.text(), &key);
        let leaf = place.leaf.get_or_try_init(|| async { self.mint(&subject, &key, now) }).await?;
        Ok(Arc::clone(leaf))
    }

    /// Ends this authority: nothing is minted and nothing cached is handed out from here on. The
    /// key is wiped with the last reference.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.leafs.lock().clear();
        *self.key.lock() = None;
    }

    /// The CA certificate, for clients to trust.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Leafs minted since the start.
    #[must_use]
    pub fn minted(&self) -> u64 {
        self.minted.load(Ordering::Relaxed)
    }

    /// Leafs kept now.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.leafs.lock().len()
    }

    fn place(&self, name: &str, key: &Arc<LeafKey>) -> Arc<Minting> {
        let mut leafs = self.leafs.lock();
        match leafs.find(name) {
            Some(place) if Arc::ptr_eq(&place.key, key) => Arc::clone(place),
            _ => {
                let place = Arc::new(Minting { key: Arc::clone(key), leaf: OnceCell::new() });
                leafs.insert(name.to_owned(), Arc::clone(&place));
                place
            }
        }
    }

    fn leaf_key(&self, now: SystemTime) -> Result<Arc<LeafKey>, LeafError> {
        let mut current = self.key.lock();
        let fresh = |key: &&Arc<LeafKey>| {
            now.duration_since(key.born).is_ok_and(|age| age < LEAF_KEY_LIFETIME)
        };
        if let Some(key) = current.as_ref().filter(fresh) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(LeafKey::generate(now).ok_or(LeafError::Mint)?);
        *current = Some(Arc::clone(&key));
        Ok(key)
    }

    fn mint(
        &self,
        subject: &Subject,
        key: &LeafKey,
        now: SystemTime,
    ) -> Result<Arc<Leaf>, LeafError> {
        let der = self.sign(subject, &key.public, now).map_err(|_| LeafError::Mint)?;
        self.minted.fetch_add(1, Ordering::Relaxed);
        let chain = vec![der, self.certificate.clone()];
        let certified = CertifiedKey::new(chain, Arc::clone(&key.signing));
        Ok(Arc::new(Leaf::new(Arc::new(certified), &self.base)))
    }

    fn sign(
        &self,
        subject: &Subject,
        public: &impl PublicKeyData,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.not_before = (now - LEAF_BACKDATE).max(self.not_before).into();
        params.not_after = (now + LEAF_LIFETIME).min(self.not_after).into();
        params.serial_number = Some(serial()?);
        params.distinguished_name = subject.distinguished_name();
        params.subject_alt_names = vec![subject.alternative_name()?];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(public, &self.issuer)?.der().clone())
    }

    /// Signs once and checks that clients will find the issuer: its name must be repeated byte
    /// for byte, which a subject of unusual shape might not survive.
    fn prove(&self, subject: &[u8]) -> Result<(), AuthorityError> {
        let key = LeafKey::generate(self.not_before).ok_or(AuthorityError::Key)?;
        let name = Subject::Name("proof.invalid".to_owned());
        let der = self.sign(&name, &key.public, self.not_before + LEAF_BACKDATE)?;
        let (_, proof) =
            X509Certificate::from_der(&der).map_err(|_| AuthorityError::Certificate)?;
        if proof.issuer().as_raw() != subject {
            return Err(AuthorityError::Subject);
        }
        match super::own::signed_by(&proof, &self.certificate) {
            true => Ok(()),
            false => Err(AuthorityError::KeyMismatch),
        }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").field("kept", &self.kept()).finish_non_exhaustive()
    }
}

/// Whom a leaf is for.
enum Subject {
    Name(String),
    Address(IpAddr, String),
}

impl Subject {
    fn parse(name: &str) -> Result<Self, LeafError> {
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            return Ok(Self::Address(address, address.to_string()));
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        DnsName::try_from(name.as_str()).map_err(|_| LeafError::Name)?;
        Ok(Self::Name(name))
    }

    fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Address(_, text) => text,
        }
    }

    fn alternative_name(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self {
            Self::Name(name) => SanType::DnsName(name.as_str().try_into()?),
            Self::Address(address, _) => SanType::IpAddress(*address),
        })
    }

    fn distinguished_name(&self) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        if self.text().len() <= COMMON_NAME_BYTES_MAX {
            name.push(DnType::CommonName, self.text());
        }
        name
    }
}

/// 128 random bits: unguessable, and never twice (RFC 5280 section 4.1.2.2).
fn serial() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    Ok(SerialNumber::from_slice(&bytes))
}

fn system_time(time: &x509_parser::time::ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

impl LeafKey {
    fn generate(now: SystemTime) -> Option<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).ok()?;
        let document = pair.to_pkcs8v1().ok()?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(document.as_ref()));
        let signing = any_supported_type(&der).ok()?;
        let public = SubjectPublicKeyInfo::from_der(&signing.public_key()?).ok()?;
        Some(Self { signing, public, born: now })
    }
}

/// The CA's key as the certificate writer wants it. Holds no encoding of the private key.
struct AuthorityKey {
    signer: Box<dyn Signer>,
    algorithm: &'static rcgen::SignatureAlgorithm,
    public: Vec<u8>,
}

/// What a CA key may sign with, in order of preference.
static SCHEMES: [(Scheme, &rcgen::SignatureAlgorithm); 5] = [
    (Scheme::ECDSA_NISTP256_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256),
    (Scheme::ECDSA_NISTP384_SHA384, &rcgen::PKCS_ECDSA_P384_SHA384),
    (Scheme::ECDSA_NISTP521_SHA512, &rcgen::PKCS_ECDSA_P521_SHA512),
    (Scheme::RSA_PKCS1_SHA256, &rcgen::PKCS_RSA_SHA256),
    (Scheme::ED25519, &rcgen::PKCS_ED25519),
];

impl AuthorityKey {
    fn new(
        key: &Zeroizing<Vec<u8>>,
        certificate: &X509Certificate<'_>,
    ) -> Result<Self, AuthorityError> {
        let der = PrivateKeyDer::try_from(key.as_slice()).map_err(|_| AuthorityError::Key)?;
        let signing = any_supported_type(&der).map_err(|_| AuthorityError::Key)?;
        let belongs = signing
            .public_key()
            .is_some_and(|public| public.as_ref() == certificate.public_key().raw);
        if !belongs {
            return Err(AuthorityError::KeyMismatch);
        }
        let schemes = SCHEMES.each_ref().map(|(scheme, _)| *scheme);
        let signer = signing.choose_scheme(&schemes).ok_or(AuthorityError::Key)?;
        let algorithm = SCHEMES
            .iter()
            .find_map(|&(scheme, algorithm)| (scheme == signer.scheme()).then_some(algorithm))
            .ok_or(AuthorityError::Key)?;
        let public = certificate.public_key().subject_public_key.data.to_vec();
        Ok(Self { signer, algorithm, public })
    }
}

impl PublicKeyData for AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

impl rcgen::SigningKey for AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signer.sign(message).map_err(|_| rcgen::Error::RingUnspecified)
    }
}

#[cfg(test)]
mod tests;
