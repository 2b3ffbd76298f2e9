//! Judges an origin's chain: which faults it has, all of them, as of a given moment.
//!
//! The chain is built as it must be (strong signatures, now, revocation). Where that fails the
//! reason is noted, that one demand is dropped, and it is built again, so that an expired chain
//! under an unknown root is found to be both. A fault tolerated by a tenant therefore never hides
//! another.

use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::distrusted::{is_distrusted, sha256};
use super::fault::{Fault, Finding};
use super::name;
use super::own::{OwnAuthorities, signed_by};
use super::roots::{Roots, moment};
use super::suites;
use super::weakness;

/// What a chain is held against.
pub(crate) struct Trust<'a> {
    pub(crate) roots: &'a Roots,
    pub(crate) own: &'a OwnAuthorities,
    pub(crate) revoked: &'a [CertRevocationList<'static>],
}

/// Certificates looked at beyond the first; real chains have three.
const INTERMEDIATES_MAX: usize = 16;

/// Of those, how many may share a subject, as cross-signed ones do. Paths multiply with this at
/// each of at most six levels, and path building's own budget would let a maze cost a second.
const SAME_SUBJECT_MAX: usize = 4;

/// Demands that can be dropped one after another: unbelievable revocation lists, revocation,
/// strength, and time, the latter as often as certificates of one chain disagree about it.
const ATTEMPTS_MAX: usize = 9;

/// Every fault of `chain` (the origin's own certificate first) for `name` at `now`; the heaviest
/// first, each at most once.
pub(crate) fn judge(
    chain: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    now: SystemTime,
    trust: &Trust<'_>,
) -> Vec<Finding> {
    let mut findings = Findings::default();
    let Some((leaf_der, rest)) = chain.split_first() else {
        findings.add_fixed(Fault::UntrustedRoot, "no_certificate");
        return findings.sorted();
    };
    let rest = useful(rest);
    let (Ok(leaf), Ok((_, parsed))) =
        (EndEntityCert::try_from(leaf_der), X509Certificate::from_der(leaf_der))
    else {
        findings.add_fixed(Fault::UntrustedRoot, "malformed");
        return findings.sorted();
    };
    let presented = Presented { leaf: &leaf, leaf_der, parsed: &parsed, rest: &rest };

    if trust.own.vouch_for(chain) {
        findings.add_fixed(Fault::UntrustedRoot, "own_authority");
    }
    if presented.any_distrusted() {
        findings.add_fixed(Fault::UntrustedRoot, "known_bad_authority");
    }
    judge_path(&presented, moment(now), trust, &mut findings);
    if let Some(detail) = weakness::of_key(&parsed) {
        findings.add(Fault::Weak, detail);
    }
    if let Some(detail) = name::mismatch(&leaf, &parsed, name) {
        findings.add(Fault::NameMismatch, detail);
    }
    findings.sorted()
}

/// The intermediates that are looked at, each once.
fn useful<'a>(sent: &'a [CertificateDer<'_>]) -> Vec<CertificateDer<'a>> {
    let mut kept: Vec<(Vec<u8>, CertificateDer<'a>)> = Vec::new();
    for der in sent.iter().take(INTERMEDIATES_MAX) {
        let Ok((_, parsed)) = X509Certificate::from_der(der) else { continue };
        let subject = parsed.subject().as_raw().to_vec();
        let namesakes = kept.iter().filter(|(other, _)| *other == subject).count();
        if namesakes < SAME_SUBJECT_MAX && kept.iter().all(|(_, other)| other != der) {
            kept.push((subject, CertificateDer::from(der.as_ref())));
        }
    }
    kept.into_iter().map(|(_, der)| der).collect()
}

struct Presented<'a> {
    leaf: &'a EndEntityCert<'a>,
    leaf_der: &'a CertificateDer<'a>,
    parsed: &'a X509Certificate<'a>,
    rest: &'a [CertificateDer<'a>],
}

impl Presented<'_> {
    fn any_distrusted(&self) -> bool {
        let of = |parsed: &X509Certificate<'_>| is_distrusted(&sha256(parsed.public_key().raw));
        of(self.parsed) || self.others().any(|other| of(&other))
    }

    fn others(&self) -> impl Iterator<Item = X509Certificate<'_>> {
        self.rest.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1))
    }

    /// What is weak about a signature in the chain. What a certificate says of itself is skipped:
    /// nobody relies on that signature.
    fn weak_signature(&self) -> Option<&'static str> {
        let others = self
            .others()
            .find_map(|other| weakness::of_signature(&other).or_else(|| weakness::of_key(&other)));
        weakness::of_signature(self.parsed).or(others)
    }
}

/// The demands that are still made.
struct Demands<'a> {
    time: UnixTime,
    algorithms: &'a [&'a dyn SignatureVerificationAlgorithm],
    revocation: bool,
}

fn judge_path(presented: &Presented<'_>, now: UnixTime, trust: &Trust<'_>, into: &mut Findings) {
    let mut demands = Demands { time: now, algorithms: suites::strong(), revocation: true };
    let mut strength_dropped = false;
    let mut lists: Vec<&CertRevocationList<'_>> = trust.revoked.iter().collect();
    let mut lists_sifted = false;
    for _ in 0..ATTEMPTS_MAX {
        let Err(error) = build(presented, &demands, trust, &lists) else { return };
        if is_about_lists(&error) && demands.revocation && !lists_sifted {
            // A list that cannot be believed counts as if it were not there; the others count.
            lists_sifted = true;
            let given = lists.len();
            lists.retain(|list| {
                let alone = build(presented, &demands, trust, &[list]);
                !alone.is_err_and(|error| is_about_lists(&error))
            });
            tracing::debug!(left_out = given - lists.len(), "revocation lists cannot be believed");
            if revoked_by_old_list(presented, &demands, trust) {
                into.add(Fault::Revoked, "revoked");
                demands.revocation = false;
            }
            continue;
        }
        if !strength_dropped && is_about_signatures(&error) {
            strength_dropped = true;
            if let Some(detail) = presented.weak_signature() {
                into.add(Fault::Weak, detail);
                demands.algorithms = suites::lenient();
                continue;
            }
        }
        match error {
            Error::CertExpired { not_after, .. } => {
                into.add(Fault::Expired, "expired");
                demands.time = not_after;
            }
            Error::CertNotValidYet { not_before, .. } => {
                into.add(Fault::NotYetValid, "not_yet_valid");
                demands.time = not_before;
            }
            Error::CertRevoked if demands.revocation => {
                into.add(Fault::Revoked, "revoked");
                demands.revocation = false;
            }
            error => return into.extend(explain(presented, &error)),
        }
    }
    into.add(Fault::UntrustedRoot, "never_valid");
}

fn build(
    presented: &Presented<'_>,
    demands: &Demands<'_>,
    trust: &Trust<'_>,
    lists: &[&CertRevocationList<'_>],
) -> Result<(), Error> {
    let revocation = if demands.revocation { revocation(lists) } else { None };
    let check_path = |path: &VerifiedPath<'_>| {
        trust.roots.check_time(path.anchor(), demands.time)?;
        path.intermediate_certificates().try_for_each(|issuer| may_sign(&issuer.der()))
    };
    presented
        .leaf
        .verify_for_usage(
            demands.algorithms,
            &trust.roots.anchors,
            presented.rest,
            demands.time,
            KeyUsage::server_auth(),
            revocation,
            Some(&check_path),
        )
        .map(|_| ())
}

/// Whether a list that is signed as current ones no longer are (SHA-1) names the certificate. Such
/// a signature is not enough to trust a certificate, but to forge it would only block one.
fn revoked_by_old_list(
    presented: &Presented<'_>,
    demands: &Demands<'_>,
    trust: &Trust<'_>,
) -> bool {
    let demands = Demands { algorithms: suites::lenient(), revocation: true, ..*demands };
    trust
        .revoked
        .iter()
        .any(|list| matches!(build(presented, &demands, trust, &[list]), Err(Error::CertRevoked)))
}

/// The configured lists, for every certificate they speak about. A list past its time still
/// revokes what it names.
fn revocation<'a>(lists: &'a [&'a CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
    let builder = RevocationOptionsBuilder::new(lists).ok()?;
    Some(
        builder
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .with_expiration_policy(ExpirationPolicy::Ignore)
            .build(),
    )
}

/// An issuer that states its key usage must state `keyCertSign` (RFC 5280 section 4.2.1.3), which
/// path building does not look at.
fn may_sign(issuer: &CertificateDer<'_>) -> Result<(), Error> {
    let (_, issuer) = X509Certificate::from_der(issuer).map_err(|_| Error::BadDer)?;
    match issuer.key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.key_cert_sign() => Ok(()),
        Ok(Some(_)) => Err(Error::EndEntityUsedAsCa),
        Err(_) => Err(Error::ExtensionValueInvalid),
    }
}

fn is_about_signatures(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidSignatureForPublicKey
            | Error::UnsupportedSignatureAlgorithmContext(_)
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
    )
}

/// Whether a list itself is at fault: not signed by whom it names as its issuer, or by one who
/// may not sign lists.
fn is_about_lists(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCrlSignatureForPublicKey
            | Error::IssuerNotCrlSigner
            | Error::UnsupportedCrlSignatureAlgorithmContext(_)
            | Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_)
    )
}

/// Names the reason why no path leads to a root.
fn explain(presented: &Presented<'_>, error: &Error) -> Finding {
    if is_self_issued(presented.parsed) && signed_by(presented.parsed, presented.leaf_der) {
        return Finding { fault: Fault::SelfSigned, detail: "self_signed", fixed: false };
    }
    if matches!(error, Error::UnknownIssuer) && lacks_its_issuer(presented) {
        return Finding { fault: Fault::IncompleteChain, detail: "issuer_not_sent", fixed: false };
    }
    Finding { fault: Fault::UntrustedRoot, detail: detail(error), fixed: false }
}

/// Whether the chain breaks off below a root. A root itself need not be sent (RFC 8446 section
/// 4.4.2), so a chain with an intermediate counts as broken off only where its last certificate
/// says where its issuer can be fetched; a lone certificate that is not its own issuer always.
fn lacks_its_issuer(presented: &Presented<'_>) -> bool {
    let others: Vec<X509Certificate<'_>> = presented.others().collect();
    let mut top = presented.parsed;
    for _ in 0..=others.len() {
        if is_self_issued(top) {
            return false;
        }
        match others.iter().find(|other| other.subject().as_raw() == top.issuer().as_raw()) {
            Some(issuer) => top = issuer,
            None => break,
        }
    }
    std::ptr::eq(top, presented.parsed) || names_issuer_location(top)
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

fn names_issuer_location(certificate: &X509Certificate<'_>) -> bool {
    certificate.extensions().iter().any(|extension| {
        matches!(extension.parsed_extension(), ParsedExtension::AuthorityInfoAccess(_))
    })
}

fn detail(error: &Error) -> &'static str {
    match error {
        Error::UnknownIssuer => "unknown_root",
        Error::InvalidSignatureForPublicKey | Error::SignatureAlgorithmMismatch => "bad_signature",
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => "unverifiable_signature",
        Error::NameConstraintViolation | Error::MalformedNameConstraint => "name_constraint",
        Error::PathLenConstraintViolated => "path_length",
        Error::CaUsedAsEndEntity => "authority_as_server",
        Error::EndEntityUsedAsCa => "issuer_is_no_authority",
        Error::EmptyEkuExtension | Error::RequiredEkuNotFoundContext(_) => "not_for_servers",
        Error::CertDistrusted => "known_bad_authority",
        Error::MaximumNameConstraintComparisonsExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded => "too_complex",
        _ => "malformed",
    }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, fault: Fault, detail: &'static str) {
        self.extend(Finding { fault, detail, fixed: false });
    }

    fn add_fixed(&mut self, fault: Fault, detail: &'static str) {
        self.extend(Finding { fault, detail, fixed: true });
    }

    /// The first finding of a fault stands: fixed ones are looked for first.
    fn extend(&mut self, finding: Finding) {
        if self.0.iter().all(|known| known.fault != finding.fault) {
            self.0.push(finding);
        }
    }

    fn sorted(mut self) -> Vec<Finding> {
        let weight = |finding: &Finding| Fault::ALL.iter().position(|&f| f == finding.fault);
        self.0.sort_by_key(|finding| (!finding.fixed, weight(finding)));
        self.0
    }
}

#[cfg(test)]
mod hard;
#[cfg(test)]
mod tests;
