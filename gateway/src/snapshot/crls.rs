//! The revocation lists of `origin.crls`: read whole, bounded, and known by their times.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::source::Source;

/// Largest file: the largest lists of public authorities have about 10 MB.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Bytes of all files: parsed, they take about four times as much memory.
const ALL_BYTES_MAX: u64 = 64 << 20;
/// Lists in all files: each is looked at for every certificate of a chain.
const LISTS_MAX: usize = 256;
/// How a list in PEM begins (RFC 7468 section 6).
const PEM_BEGIN: &[u8] = b"-----BEGIN X509 CRL-----";

/// Signatures that can be checked: RSA with SHA-1 or SHA-2, RSA-PSS, ECDSA with SHA-2, Ed25519. A list
/// with another would be in force in name only.
const SIGNATURES: [&str; 9] = [
    "1.2.840.113549.1.1.5",
    "1.2.840.113549.1.1.11",
    "1.2.840.113549.1.1.12",
    "1.2.840.113549.1.1.13",
    "1.2.840.113549.1.1.10",
    "1.2.840.10045.4.3.2",
    "1.2.840.10045.4.3.3",
    "1.2.840.10045.4.3.4",
    "1.3.101.112",
];

/// Revocation lists in force.
#[derive(Clone, Default)]
pub struct OriginCrls {
    /// The newest first: of two lists of one issuer, the first is asked.
    pub lists: Arc<[CertRevocationList<'static>]>,
    /// When each list promises its successor.
    next_updates: Vec<SystemTime>,
    digests: Vec<[u8; digest::SHA256_OUTPUT_LEN]>,
}

impl fmt::Debug for OriginCrls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OriginCrls").field("lists", &self.lists.len()).finish()
    }
}

impl PartialEq for OriginCrls {
    fn eq(&self, other: &Self) -> bool {
        self.digests == other.digests
    }
}

impl OriginCrls {
    /// Lists past the time at which they promised a successor.
    #[must_use]
    pub fn expired(&self, now: SystemTime) -> usize {
        self.next_updates.iter().filter(|next| **next <= now).count()
    }

    /// Reads the files, live ones always: there are no copies of what changes by the hour. The
    /// error names the file by its index. Beside a last good configuration, which must load, a
    /// list that cannot be read is left out.
    pub(super) fn load(source: Source, paths: &[PathBuf]) -> Result<Self, (usize, String)> {
        let mut found = Vec::new();
        let mut bytes_left = ALL_BYTES_MAX;
        for (index, path) in paths.iter().enumerate() {
            let read = read(path, bytes_left).and_then(|bytes| {
                bytes_left = bytes_left.saturating_sub(bytes.len() as u64);
                parse(&bytes)
            });
            match read {
                Ok(lists) if found.len() + lists.len() <= LISTS_MAX => found.extend(lists),
                Ok(_) => return Err((index, format!("more than {LISTS_MAX} revocation lists"))),
                Err(what) if source == Source::LastGood => {
                    tracing::warn!(path = %path.display(), "revocation list left out: {what}");
                }
                Err(what) => return Err((index, what)),
            }
        }
        found.sort_by_key(|list| std::cmp::Reverse(list.this_update));
        Ok(Self {
            next_updates: found.iter().map(|list| list.next_update).collect(),
            digests: found.iter().map(|list| list.digest).collect(),
            lists: found.into_iter().map(|list| list.list).collect(),
        })
    }
}

fn read(path: &Path, bytes_left: u64) -> Result<Vec<u8>, String> {
    let most = FILE_BYTES_MAX.min(bytes_left);
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > most {
        return Err(format!(
            "too large: a file may have {FILE_BYTES_MAX} bytes, all together {ALL_BYTES_MAX}"
        ));
    }
    Ok(bytes)
}

struct List {
    list: CertRevocationList<'static>,
    this_update: i64,
    next_update: SystemTime,
    digest: [u8; digest::SHA256_OUTPUT_LEN],
}

/// One list in DER, or any number in PEM.
fn parse(bytes: &[u8]) -> Result<Vec<List>, String> {
    if memchr::memmem::find(bytes, PEM_BEGIN).is_none() {
        return Ok(vec![list(bytes)?]);
    }
    let lists = CertificateRevocationListDer::pem_slice_iter(bytes);
    let lists: Result<Vec<List>, String> =
        lists.map(|der| list(&der.map_err(|_| "broken PEM".to_owned())?)).collect();
    lists.and_then(|lists| {
        if lists.is_empty() { Err("no revocation list in it".to_owned()) } else { Ok(lists) }
    })
}

fn list(der: &[u8]) -> Result<List, String> {
    let Ok((rest, parsed)) = CertificateRevocationList::from_der(der) else {
        return Err("no revocation list in it".to_owned());
    };
    if !rest.is_empty() {
        return Err("bytes after the revocation list".to_owned());
    }
    let algorithm = parsed.signature_algorithm.algorithm.to_id_string();
    if !SIGNATURES.contains(&algorithm.as_str()) {
        return Err(format!("a revocation list whose signature cannot be checked ({algorithm})"));
    }
    let owned = OwnedCertRevocationList::from_der(der)
        .map_err(|error| format!("a revocation list of an unknown kind ({error:?})"))?;
    let next = parsed.next_update().map_or(0, |time| time.timestamp());
    let mut sum = [0; digest::SHA256_OUTPUT_LEN];
    sum.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    Ok(List {
        list: CertRevocationList::Owned(owned),
        this_update: parsed.last_update().timestamp(),
        next_update: SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(next).unwrap_or(0)),
        digest: sum,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use rcgen::{
        CertificateParams, CertificateRevocationListParams, CertifiedIssuer, KeyIdMethod, KeyPair,
        KeyUsagePurpose, SerialNumber,
    };

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    /// A list in PEM and in DER, good for `days`.
    fn made(days: u32) -> (String, Vec<u8>) {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let now = SystemTime::now();
        let list = CertificateRevocationListParams {
            this_update: (now - DAY).into(),
            next_update: (now + DAY * days).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&issuer).unwrap();
        (list.pem().unwrap(), list.der().to_vec())
    }

    fn load(files: &[&[u8]], source: Source) -> Result<OriginCrls, (usize, String)> {
        let folder = tempfile::tempdir().unwrap();
        let write = |(index, bytes): (usize, &&[u8])| {
            let path = folder.path().join(index.to_string());
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let paths: Vec<PathBuf> = files.iter().enumerate().map(write).collect();
        OriginCrls::load(source, &paths)
    }

    #[test]
    fn lists_come_in_der_and_several_in_one_pem_file() {
        let (first, second, third) = (made(3), made(5), made(7));
        let pem = format!("a comment\n{}{}", first.0, second.0);
        let crls = load(&[pem.as_bytes(), &third.1], Source::Live).unwrap();
        assert_eq!(crls.lists.len(), 3);
        let now = SystemTime::now();
        let expired = [0, 4, 6, 8].map(|days| crls.expired(now + DAY * days));
        assert_eq!(expired, [0, 1, 2, 3]);
    }

    #[test]
    fn a_list_whose_signature_nobody_can_check_is_not_taken() {
        let (_, mut der) = made(3);
        let sha256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
        let places: Vec<usize> =
            (0..der.len() - 8).filter(|at| der[*at..*at + 8] == sha256).collect();
        assert_eq!(places.len(), 2, "inside and outside of what is signed");
        for at in places {
            // ecdsa-with-SHA224.
            der[at + 7] = 1;
        }
        let (index, what) = load(&[&der], Source::Live).unwrap_err();
        assert!(index == 0 && what.contains("1.2.840.10045.4.3.1"), "{what}");
    }

    #[test]
    fn a_file_that_is_none_is_named_and_costs_a_last_good_start_only_itself() {
        let good = made(1);
        let half = &good.1[..good.1.len() / 2];
        let more = [good.1.as_slice(), b"x"].concat();
        let cut = &good.0.as_bytes()[..good.0.len() / 2];
        for wrong in [half, &more, cut, b"", b"-----BEGIN X509 CRL-----\n"] {
            let (index, _) = load(&[&good.1, wrong], Source::Live).unwrap_err();
            assert_eq!(index, 1);
            assert_eq!(load(&[&good.1, wrong], Source::LastGood).unwrap().lists.len(), 1);
        }
        let missing = [PathBuf::from("/nonexistent/list.pem")];
        assert_eq!(OriginCrls::load(Source::Live, &missing).unwrap_err().0, 0);
    }

    #[test]
    fn how_much_a_list_may_hold_is_bounded() {
        let large = vec![0; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
        let (index, what) = load(&[&large], Source::Live).unwrap_err();
        assert!(index == 0 && what.starts_with("too large"), "{what}");
        let many = made(1).0.repeat(LISTS_MAX + 1);
        let (_, what) = load(&[many.as_bytes()], Source::Live).unwrap_err();
        assert!(what.starts_with("more than"), "{what}");
    }
}
