//! The gateway's own certificate: made where there is none, never touched where it is the
//! operator's.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use policy::Problem;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry;
use x509_parser::prelude::X509Certificate;

use crate::config::{
    FIRST, GatewayConfig, Layout, Secrecy, make_folder, problem, read_text, write_atomically,
};
use crate::ident::{AuthorityError, CaMaterial, Issued, Purpose, TenantName};

/// Tenants whose names stand in the certificate on disk. Beyond that it would outgrow what
/// clients accept (16 KiB of handshake message in some), and each tenant's tunnel shows a
/// certificate of its own, issued in memory, in any case.
const TENANTS_IN_FILE_MAX: usize = 100;
/// Largest PEM file read here.
const PEM_BYTES_MAX: u64 = 1 << 20;
/// Age at which a certificate issued in memory is issued anew: far inside its year.
const REISSUE_AFTER: Duration = Duration::from_secs(30 * 86_400);
/// Time left at which the certificate on disk is issued anew.
const RENEW_BEFORE_S: i64 = 60 * 86_400;

/// Why the gateway has no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    #[error("tunnel/{file}: {error}")]
    File { file: &'static str, error: std::io::Error },
    #[error("tunnel/{file}: {error}")]
    Authority { file: &'static str, error: AuthorityError },
    #[error("tunnel/cert.pem and tunnel/cert.key: {0}")]
    Pair(#[from] rustls::Error),
}

impl TunnelError {
    pub(super) fn problem(&self) -> Problem {
        let file = match self {
            Self::File { file, .. } | Self::Authority { file, .. } => *file,
            Self::Pair(_) => "cert.pem",
        };
        let expected = "a certificate and its key in PEM form";
        problem(&format!("tunnel/{file}"), FIRST, self.to_string(), expected)
    }
}

/// What tunnels show.
pub(super) enum TunnelIdentity {
    /// Issued per tenant from the gateway's own authority.
    Own {
        authority: CaMaterial,
        issued: DashMap<TenantName, (SystemTime, String, Arc<Shown>)>,
        /// What is on disk, with many tenants' names in it.
        common: Arc<Shown>,
    },
    /// The operator's.
    Given(Arc<Shown>),
}

/// A certificate and its key, as each kind of tunnel takes them.
pub struct Shown {
    pub certified: Arc<CertifiedKey>,
    leaf: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Shown {
    /// The leaf and its key in DER form, where DTLS can use them: ECDSA on P-256 or P-384.
    #[must_use]
    pub fn for_dtls(&self) -> Option<(&[u8], &[u8])> {
        let (_, leaf) = x509_parser::parse_x509_certificate(&self.leaf).ok()?;
        let parameters = leaf.public_key().algorithm.parameters.as_ref()?;
        let curve = parameters.as_oid().ok()?;
        let known = [oid_registry::OID_EC_P256, oid_registry::OID_NIST_EC_P384];
        known.contains(&curve).then(|| (self.leaf.as_ref(), self.key.secret_der()))
    }
}

impl TunnelIdentity {
    pub(super) fn load(layout: &Layout) -> Result<Self, TunnelError> {
        let cert_pem = read_pem(layout, "cert.pem")?;
        if is_ours(layout, &cert_pem) {
            let key = zeroize::Zeroizing::new(read_pem(layout, "ca.key")?);
            let authority = CaMaterial::from_pem(&read_pem(layout, "ca.pem")?, &key)
                .map_err(|error| TunnelError::Authority { file: "ca.pem", error })?;
            let key_pem = zeroize::Zeroizing::new(read_pem(layout, "cert.key")?);
            let common = Arc::new(shown(&cert_pem, &key_pem)?);
            return Ok(Self::Own { authority, issued: DashMap::new(), common });
        }
        let key_pem = zeroize::Zeroizing::new(read_pem(layout, "cert.key")?);
        Ok(Self::Given(Arc::new(shown(&cert_pem, &key_pem)?)))
    }

    /// What a client sees that has not said whose it is.
    pub(super) fn common(&self) -> Arc<Shown> {
        match self {
            Self::Given(shown) | Self::Own { common: shown, .. } => Arc::clone(shown),
        }
    }

    pub(super) fn of(
        &self,
        config: &GatewayConfig,
        tenant: &TenantName,
        now: SystemTime,
    ) -> Result<Arc<Shown>, TunnelError> {
        let (authority, issued) = match self {
            Self::Given(shown) => return Ok(Arc::clone(shown)),
            Self::Own { authority, issued, .. } => (authority, issued),
        };
        let name = config.tunnel_name(tenant);
        if let Some(entry) = issued.get(tenant) {
            let (since, for_name, shown) = &*entry;
            let young = now.duration_since(*since).is_ok_and(|age| age < REISSUE_AFTER);
            if young && *for_name == name {
                return Ok(Arc::clone(shown));
            }
        }
        let names = [name.clone(), config.backup_name(tenant)];
        let leaf = authority
            .issue_server(&name, &names, now)
            .map_err(|error| TunnelError::Authority { file: "ca.pem", error })?;
        let fresh = Arc::new(shown(&leaf.cert_pem, &leaf.key_pem)?);
        issued.insert(tenant.clone(), (now, name, Arc::clone(&fresh)));
        Ok(fresh)
    }
}

fn shown(cert_pem: &str, key_pem: &str) -> Result<Shown, TunnelError> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(cert_pem.as_bytes()).collect::<Result<_, _>>().map_err(
            |_| TunnelError::Authority { file: "cert.pem", error: AuthorityError::NoCertificate },
        )?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|_| TunnelError::Authority { file: "cert.key", error: AuthorityError::NoKey })?;
    let leaf = chain
        .first()
        .cloned()
        .ok_or(TunnelError::Authority { file: "cert.pem", error: AuthorityError::NoCertificate })?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = Arc::new(CertifiedKey::from_der(chain, key.clone_key(), &provider)?);
    Ok(Shown { certified, leaf, key })
}

/// Makes the gateway's authority and certificate where they are missing, and issues the
/// certificate anew where it is ours and lacks a tenant's names or ends soon. Says whether it
/// wrote anything.
///
/// # Errors
/// Where files cannot be written or the authority cannot be used.
pub fn ensure_tunnel_identity(
    layout: &Layout,
    config: &GatewayConfig,
    tenants: &[TenantName],
    now: SystemTime,
) -> Result<bool, TunnelError> {
    let folder = layout.tunnel();
    let names = names_in_file(config, tenants);
    let cert = fs::read_to_string(folder.join("cert.pem")).ok();
    if let Some(cert_pem) = &cert
        && (!is_ours(layout, cert_pem) || is_enough(cert_pem, &names, now))
    {
        return Ok(false);
    }
    make_folder(&folder).map_err(|error| TunnelError::File { file: "", error })?;
    let authority = match read_text(&folder.join("ca.pem"), PEM_BYTES_MAX) {
        Ok(pem) => {
            let key = zeroize::Zeroizing::new(read_pem(layout, "ca.key")?);
            CaMaterial::from_pem(&pem, &key)
                .map_err(|error| TunnelError::Authority { file: "ca.pem", error })?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (authority, issued) =
                CaMaterial::generate(Purpose::Tunnel, config.domain.as_str(), now)
                    .map_err(|error| TunnelError::Authority { file: "ca.pem", error })?;
            write_pair(layout, ("ca.pem", "ca.key"), &issued)?;
            authority
        }
        Err(error) => return Err(TunnelError::File { file: "ca.pem", error }),
    };
    let common_name = format!("gateway.{}", config.domain.as_str());
    let issued = authority
        .issue_server(&common_name, &names, now)
        .map_err(|error| TunnelError::Authority { file: "ca.pem", error })?;
    write_pair(layout, ("cert.pem", "cert.key"), &issued)?;
    Ok(true)
}

/// Names of the first tenants, by name, up to the bound.
fn names_in_file(config: &GatewayConfig, tenants: &[TenantName]) -> Vec<String> {
    let mut tenants: Vec<_> = tenants.iter().collect();
    tenants.sort();
    tenants.truncate(TENANTS_IN_FILE_MAX);
    let both = |tenant: &&TenantName| [config.tunnel_name(tenant), config.backup_name(tenant)];
    tenants.iter().flat_map(both).collect()
}

/// The key goes first: a certificate without its key is the worse half to be left with.
fn write_pair(
    layout: &Layout,
    (cert, key): (&'static str, &'static str),
    issued: &Issued,
) -> Result<(), TunnelError> {
    let folder = layout.tunnel();
    write_atomically(&folder.join(key), issued.key_pem.as_bytes(), Secrecy::Secret)
        .map_err(|error| TunnelError::File { file: key, error })?;
    write_atomically(&folder.join(cert), issued.cert_pem.as_bytes(), Secrecy::Public)
        .map_err(|error| TunnelError::File { file: cert, error })
}

fn read_pem(layout: &Layout, file: &'static str) -> Result<String, TunnelError> {
    read_text(&layout.tunnel().join(file), PEM_BYTES_MAX)
        .map_err(|error| TunnelError::File { file, error })
}

/// Whether a certificate was issued by an authority that this program made and whose key is here.
/// Everything else is the operator's and left alone.
fn is_ours(layout: &Layout, cert_pem: &str) -> bool {
    let folder = layout.tunnel();
    let Ok(ca_pem) = read_text(&folder.join("ca.pem"), PEM_BYTES_MAX) else { return false };
    if !folder.join("ca.key").is_file() {
        return false;
    }
    let (Ok(ca), Ok(cert)) = (
        CertificateDer::from_pem_slice(ca_pem.as_bytes()),
        CertificateDer::from_pem_slice(cert_pem.as_bytes()),
    ) else {
        return false;
    };
    let (Ok((_, ca)), Ok((_, cert))) =
        (x509_parser::parse_x509_certificate(&ca), x509_parser::parse_x509_certificate(&cert))
    else {
        return false;
    };
    let made_here =
        ca.subject().iter_organization().any(|organization| organization.as_str() == Ok("Sluice"));
    made_here
        && cert.issuer() == ca.subject()
        && cert.verify_signature(Some(ca.public_key())).is_ok()
}

/// Whether the certificate has all names and time left.
fn is_enough(cert_pem: &str, names: &[String], now: SystemTime) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(cert_pem.as_bytes()) else { return false };
    let Ok((_, cert)) = x509_parser::parse_x509_certificate(&der) else { return false };
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let lasts = cert.validity().not_after.timestamp() > now.saturating_add(RENEW_BEFORE_S);
    let present = dns_names(&cert);
    lasts && names.iter().all(|name| present.contains(name.as_str()))
}

fn dns_names<'c>(cert: &'c X509Certificate<'_>) -> std::collections::HashSet<&'c str> {
    let names = cert.subject_alternative_name().ok().flatten();
    names
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default()
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect()
}
