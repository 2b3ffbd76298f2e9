//! Test CAs, and origin certificates with any one fault.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, NameConstraints, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate chain, leaf first, with the leaf's key.
#[derive(Debug)]
pub struct Chain {
    pub certificates: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Chain {
    /// The certificates as PEM, leaf first.
    #[must_use]
    pub fn certificates_pem(&self) -> String {
        self.certificates.iter().map(|one| pem("CERTIFICATE", one)).collect()
    }

    /// The key as PEM (PKCS #8).
    #[must_use]
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.secret_der())
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

impl Clone for Chain {
    fn clone(&self) -> Self {
        Self { certificates: self.certificates.clone(), key: self.key.clone_key() }
    }
}

/// One thing wrong with an origin's certificate (or nothing).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    None,
    /// UC-01.
    SelfSigned,
    /// UC-02: complete chain to a root nobody trusts.
    UntrustedRoot,
    /// UC-03: one bit of the leaf's signature.
    TamperedSignature,
    /// UC-04: names the trusted root as its issuer, signed by another key.
    FakeIssuer,
    /// UC-06: the name stands in the common name only.
    NoSan,
    /// UC-07: another name in the SAN.
    NameMismatch,
    /// UC-08: a wildcard that covers one label less than the name has.
    WildcardTooShallow,
    /// UC-09: a wildcard over a public suffix; the asked name must be under `co.uk`.
    WildcardOnPublicSuffix,
    /// UC-10: `*` alone.
    WildcardAlone,
    /// UC-15.
    Expired,
    /// UC-16.
    ExpiredIntermediate,
    /// UC-17: below a root in the store that has expired.
    ExpiredRoot,
    /// UC-18.
    NotYetValid,
    /// UC-20: the issuer is no CA.
    IssuerNotCa,
    /// UC-22.
    PathLength,
    /// UC-23.
    NameConstraints,
    /// UC-25.
    UnknownCriticalExtension,
    /// UC-27: the intermediate may not sign certificates.
    IssuerKeyUsage,
    /// UC-28: good for clients only.
    ClientUsageOnly,
    /// UC-30: SHA-1 signature (made with the openssl command).
    WeakSha1,
    /// UC-36: the intermediate is not sent.
    IncompleteChain,
    /// UC-39: named by [`Pki::lists_pem`].
    Revoked,
    /// UC-39: its intermediate is named by [`Pki::lists_pem`].
    RevokedIntermediate,
}

/// A CA with its key, for chains built by hand.
pub type Issuer = CertifiedIssuer<'static, KeyPair>;

/// The CAs of one test run: one root that gateways are told to trust, and one they are not.
pub struct Pki {
    root: Issuer,
    intermediate: Issuer,
    stranger: Issuer,
    expired_root: Issuer,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    #[must_use]
    pub fn new() -> Self {
        let root = root("Test Origin Root", |_| {});
        let intermediate = below(&root, "Test Origin Intermediate", |_| {});
        let stranger = root_named("Stranger Root");
        let expired_root = root_with_dates("Expired Test Root", 900, 400);
        Self { root, intermediate, stranger, expired_root }
    }

    /// The roots to trust, as PEM: the good one and the expired one of [`Fault::ExpiredRoot`].
    #[must_use]
    pub fn roots_pem(&self) -> String {
        self.root.pem() + &self.expired_root.pem()
    }

    /// The good root alone.
    #[must_use]
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// A server certificate for `name` with `fault`.
    #[must_use]
    pub fn chain(&self, name: &str, fault: Fault) -> Chain {
        match fault {
            Fault::SelfSigned => self_signed(name),
            Fault::UntrustedRoot => leaf(name, &[&self.stranger], |_| {}),
            Fault::TamperedSignature => tampered(self.good(name, |_| {})),
            Fault::FakeIssuer => leaf(name, &[&root_named("Test Origin Root")], |_| {}),
            Fault::NoSan => self.good(name, |p| p.subject_alt_names.clear()),
            Fault::NameMismatch => self.good(name, |p| san(p, "other.test")),
            Fault::WildcardTooShallow => self.good(name, |p| {
                let parent = name.splitn(3, '.').nth(2).unwrap_or("test");
                san(p, &format!("*.{parent}"));
            }),
            Fault::WildcardOnPublicSuffix => self.good(name, |p| san(p, "*.co.uk")),
            Fault::WildcardAlone => self.good(name, |p| san(p, "*")),
            Fault::Expired => self.good(name, |p| dates(p, -60, -2)),
            Fault::NotYetValid => self.good(name, |p| dates(p, 2, 60)),
            Fault::ExpiredIntermediate => self.under(name, |p| dates(p, -60, -2), &self.root),
            Fault::ExpiredRoot => leaf(name, &[&self.expired_root], |_| {}),
            Fault::IssuerNotCa => self.under(name, |p| p.is_ca = IsCa::ExplicitNoCa, &self.root),
            Fault::PathLength => self.path_too_long(name),
            Fault::NameConstraints => self.under(name, only_elsewhere, &self.root),
            Fault::UnknownCriticalExtension => self.good(name, critical_extension),
            Fault::IssuerKeyUsage => self.under(
                name,
                |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature],
                &self.root,
            ),
            Fault::ClientUsageOnly => self.good(name, |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
            Fault::WeakSha1 => self.sha1(name),
            Fault::IncompleteChain => {
                let mut chain = self.good(name, |_| {});
                chain.certificates.truncate(1);
                chain
            }
            Fault::Revoked => self.good(name, |p| p.serial_number = Some(LEAF_REVOKED.into())),
            Fault::RevokedIntermediate => self.under(
                name,
                |p| p.serial_number = Some(INTERMEDIATE_REVOKED.into()),
                &self.root,
            ),
            Fault::None => self.good(name, |_| {}),
        }
    }

    /// A server certificate without its intermediate that says where to fetch it from, and where to
    /// ask whether it is revoked (SD-22).
    #[must_use]
    pub fn chain_with_urls(&self, name: &str, issuer: &str, responder: &str) -> Chain {
        let urls = authority_information(issuer, responder);
        let mut chain = self.good(name, |params| params.custom_extensions.push(urls));
        chain.certificates.truncate(1);
        chain
    }

    /// The intermediate's certificate.
    #[must_use]
    pub fn intermediate_der(&self) -> Vec<u8> {
        self.intermediate.der().to_vec()
    }

    /// Revocation lists of the intermediate and of the root, as PEM. They name what
    /// [`Fault::Revoked`] and [`Fault::RevokedIntermediate`] serve.
    #[must_use]
    pub fn lists_pem(&self) -> String {
        list(&self.intermediate, Some(LEAF_REVOKED), 1)
            + &list(&self.root, Some(INTERMEDIATE_REVOKED), 1)
    }

    /// Lists that name nothing, and promised a successor two days ago.
    #[must_use]
    pub fn old_empty_lists_pem(&self) -> String {
        list(&self.intermediate, None, -2) + &list(&self.root, None, -2)
    }

    fn good(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Chain {
        leaf(name, &[&self.intermediate], change)
    }

    fn under(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
        root: &Issuer,
    ) -> Chain {
        leaf(name, &[&below(root, "Test Odd Intermediate", change)], |_| {})
    }

    fn path_too_long(&self, name: &str) -> Chain {
        let first = below(&self.root, "Test Last Intermediate", |p| {
            p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        });
        let second = below(&first, "Test Surplus Intermediate", |_| {});
        leaf(name, &[&second, &first], |_| {})
    }

    fn sha1(&self, name: &str) -> Chain {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        self.issue_with_openssl(folder.path(), name, &key, "-sha1");
        let path = |file: &str| folder.path().join(file);
        let leaf = CertificateDer::from_pem_file(path("leaf.pem")).expect("openssl's certificate");
        Chain {
            certificates: vec![leaf, self.intermediate.der().clone()],
            key: PrivateKeyDer::from_pem_file(path("leaf.key")).expect("openssl's key"),
        }
    }

    /// A client certificate below the good intermediate, for origins that ask for one.
    #[must_use]
    pub fn client(&self, user: &str) -> Chain {
        self.client_between(user, -1, 30)
    }

    /// The same, good between these days from now.
    #[must_use]
    pub fn client_between(&self, user: &str, from: i64, to: i64) -> Chain {
        let mut wanted = CertificateParams::default();
        wanted.distinguished_name.push(DnType::CommonName, user);
        wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        dates(&mut wanted, from, to);
        let key = KeyPair::generate().expect("a key");
        let leaf = wanted.signed_by(&key, &self.intermediate).expect("a certificate");
        let certificates = vec![leaf.der().clone(), self.intermediate.der().clone()];
        Chain { certificates, key: der(&key) }
    }

    /// Makes `leaf.pem`, `leaf.key` and the issuer's `ca.pem` in `folder` with the openssl command,
    /// which issues what this process's own library refuses to: short keys, old digests.
    pub fn issue_with_openssl(&self, folder: &Path, name: &str, key: &[&str], digest: &str) {
        let path = |file: &str| folder.join(file);
        write(&path("ca.pem"), &self.intermediate.pem());
        write(&path("ca.key"), &self.intermediate.key().serialize_pem());
        write(&path("ext"), &format!("subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth\n"));
        let mut request = vec!["req", "-new", "-nodes", "-newkey"];
        request.extend_from_slice(key);
        let subject = format!("/CN={name}");
        openssl(folder, &request, &["-keyout", "leaf.key", "-out", "leaf.csr", "-subj", &subject]);
        openssl(
            folder,
            &["x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", digest],
            &["-CAcreateserial", "-days", "30", "-extfile", "ext", "-out", "leaf.pem"],
        );
    }
}

/// `id-pe-authorityInfoAccess` (RFC 5280 section 4.2.2.1).
const AUTHORITY_INFORMATION: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 1];

/// An authority-information extension: where to fetch the issuer, and where to ask for revocation.
fn authority_information(issuer: &str, responder: &str) -> CustomExtension {
    // AccessDescription: a method below 1.3.6.1.5.5.7.48, and a URL.
    let description = |method: u8, url: &str| {
        let mut inner = vec![6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, method, 0x86, short(url.len())];
        inner.extend(url.as_bytes());
        let mut outer = vec![0x30, short(inner.len())];
        outer.extend(inner);
        outer
    };
    let both = [description(1, responder), description(2, issuer)].concat();
    let content = [vec![0x30, 0x81, u8::try_from(both.len()).expect("short URLs")], both].concat();
    CustomExtension::from_oid_content(AUTHORITY_INFORMATION, content)
}

/// A DER length of one byte.
fn short(length: usize) -> u8 {
    u8::try_from(length).ok().filter(|length| *length < 128).expect("a short value")
}

/// Serial numbers that the lists name.
const LEAF_REVOKED: u64 = 0x3939;
const INTERMEDIATE_REVOKED: u64 = 0x3940;

/// A revocation list, to be followed by another in `days`.
fn list(issuer: &Issuer, revoked: Option<u64>, days: i64) -> String {
    let mut times = CertificateParams::default();
    dates(&mut times, -10, days);
    let revoked = revoked.map(|serial| RevokedCertParams {
        serial_number: serial.into(),
        revocation_time: times.not_before,
        reason_code: None,
        invalidity_date: None,
    });
    let list = CertificateRevocationListParams {
        this_update: times.not_before,
        next_update: times.not_after,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.into_iter().collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(issuer).and_then(|list| list.pem()).expect("a revocation list")
}

/// A server certificate for `name` issued by a CA given as PEM (UC-34: one of a tenant's own).
#[must_use]
pub fn chain_below_ca(name: &str, ca_pem: &str, ca_key_pem: &str) -> Chain {
    let key = KeyPair::from_pem(ca_key_pem).expect("the CA's key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(ca_pem, key).expect("the CA's certificate");
    let leaf_key = KeyPair::generate().expect("a key");
    let leaf = params(name).signed_by(&leaf_key, &issuer).expect("a certificate");
    let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("PEM");
    Chain { certificates: vec![leaf.der().clone(), ca], key: der(&leaf_key) }
}

/// A client certificate as `sluice enroll` issues them, below a CA of our own making or a given one.
#[must_use]
pub fn client_chain(
    user: &str,
    device: &str,
    ca: Option<(&str, &str)>,
    change: impl FnOnce(&mut CertificateParams),
) -> Chain {
    let mut wanted = CertificateParams::default();
    wanted.distinguished_name.push(DnType::CommonName, user);
    wanted.subject_alt_names = vec![
        SanType::Rfc822Name(user.try_into().expect("an ASCII user")),
        SanType::URI(format!("device:{device}").try_into().expect("an ASCII device")),
    ];
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    wanted.use_authority_key_identifier_extension = true;
    dates(&mut wanted, -1, 30);
    change(&mut wanted);
    let key = KeyPair::generate().expect("a key");
    let leaf = match ca {
        Some((pem, ca_key)) => {
            let ca_key = KeyPair::from_pem(ca_key).expect("the CA's key");
            let issuer = rcgen::Issuer::from_ca_cert_pem(pem, ca_key).expect("the CA");
            wanted.signed_by(&key, &issuer)
        }
        None => wanted.signed_by(&key, &root_named("Foreign Device CA")),
    };
    Chain { certificates: vec![leaf.expect("a certificate").der().clone()], key: der(&key) }
}

/// Sets the validity, in days from now.
pub fn dates(params: &mut CertificateParams, from: i64, to: i64) {
    let at = |days: i64| {
        let span = DAY * u32::try_from(days.unsigned_abs()).expect("a small number of days");
        if days < 0 { SystemTime::now() - span } else { SystemTime::now() + span }
    };
    params.not_before = at(from).into();
    params.not_after = at(to).into();
}

fn root_named(name: &str) -> Issuer {
    root(name, |_| {})
}

fn root_with_dates(name: &str, from_days_ago: i64, to_days_ago: i64) -> Issuer {
    root(name, |p| dates(p, -from_days_ago, -to_days_ago))
}

fn root(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issuer {
    let mut wanted = ca_params(name);
    change(&mut wanted);
    CertifiedIssuer::self_signed(wanted, KeyPair::generate().expect("a key")).expect("a root")
}

fn below(issuer: &Issuer, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issuer {
    let mut wanted = ca_params(name);
    wanted.use_authority_key_identifier_extension = true;
    change(&mut wanted);
    CertifiedIssuer::signed_by(wanted, KeyPair::generate().expect("a key"), issuer)
        .expect("an intermediate")
}

fn ca_params(name: &str) -> CertificateParams {
    let mut wanted = CertificateParams::default();
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted.distinguished_name.push(DnType::CommonName, name);
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    dates(&mut wanted, -30, 3_650);
    wanted
}

fn leaf(name: &str, path: &[&Issuer], change: impl FnOnce(&mut CertificateParams)) -> Chain {
    let mut wanted = params(name);
    change(&mut wanted);
    let key = KeyPair::generate().expect("a key");
    let signed = wanted.signed_by(&key, path[0]).expect("a leaf");
    let mut certificates = vec![signed.der().clone()];
    certificates.extend(path.iter().map(|issuer| issuer.der().clone()));
    Chain { certificates, key: der(&key) }
}

fn params(name: &str) -> CertificateParams {
    let mut wanted = CertificateParams::default();
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted.distinguished_name.push(DnType::CommonName, name);
    san(&mut wanted, name);
    wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    wanted.use_authority_key_identifier_extension = true;
    dates(&mut wanted, -1, 90);
    wanted
}

fn san(params: &mut CertificateParams, name: &str) {
    params.subject_alt_names = vec![match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into().expect("an ASCII name")),
    }];
}

fn self_signed(name: &str) -> Chain {
    let key = KeyPair::generate().expect("a key");
    let leaf = params(name).self_signed(&key).expect("a certificate");
    Chain { certificates: vec![leaf.der().clone()], key: der(&key) }
}

fn tampered(mut chain: Chain) -> Chain {
    let mut bytes = chain.certificates[0].to_vec();
    *bytes.last_mut().expect("a certificate is not empty") ^= 1;
    chain.certificates[0] = bytes.into();
    chain
}

fn only_elsewhere(params: &mut CertificateParams) {
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("elsewhere.example".into())],
        excluded_subtrees: vec![],
    });
}

fn critical_extension(params: &mut CertificateParams) {
    let mut odd = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    odd.set_criticality(true);
    params.custom_extensions.push(odd);
}

fn der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file in the temporary folder");
}

/// Runs the openssl command in `folder`; the arguments come in two parts to keep callers readable.
fn openssl(folder: &Path, what: &[&str], how: &[&str]) {
    let run = Command::new("openssl").current_dir(folder).args(what).args(how).output();
    let run = run.expect("the openssl command");
    assert!(run.status.success(), "openssl: {}", String::from_utf8_lossy(&run.stderr));
}
