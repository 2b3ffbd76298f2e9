#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;
use std::process::Command;

use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::super::testing::{DAY, authority, authority_valid};
use super::*;

fn der(leaf: &Leaf) -> &CertificateDer<'static> {
    leaf.certified_key().cert.first().unwrap()
}

#[tokio::test]
async fn a_thousand_clients_at_once_cost_one_leaf() {
    let authority = Arc::new(authority("ca").0);
    let now = SystemTime::now();
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let authority = Arc::clone(&authority);
            tokio::spawn(async move { authority.leaf("a.test", now).await.unwrap() })
        })
        .collect();
    let mut seen = HashSet::new();
    for task in tasks {
        seen.insert(der(&task.await.unwrap()).to_vec());
    }
    assert_eq!((seen.len(), authority.minted()), (1, 1));
}

#[tokio::test]
async fn ct_20_endless_names_do_not_grow_the_cache() {
    let authority = authority("ca").0;
    for number in 0..LEAFS_MAX + 500 {
        authority.leaf(&format!("n{number}.test"), SystemTime::now()).await.unwrap();
        assert!(authority.kept() <= LEAFS_MAX);
    }
}

#[tokio::test]
async fn ct_18_a_leaf_says_what_it_must_and_no_more() {
    let now = SystemTime::now();
    let (authority, ca) = authority("ca");
    let leaf = authority.leaf("www.a.test", now).await.unwrap();
    let (_, parsed) = X509Certificate::from_der(der(&leaf)).unwrap();
    let (_, ca) = X509Certificate::from_der(&ca).unwrap();
    let mut names = Vec::new();
    let (mut authority_key, mut subject_key) = (None, None);
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(all) => names.extend(&all.general_names),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority_key = id.key_identifier.as_ref().map(|id| id.0);
            }
            ParsedExtension::SubjectKeyIdentifier(id) => subject_key = Some(id.0),
            _ => {}
        }
    }
    assert_eq!(names, [&GeneralName::DNSName("www.a.test")]);
    let ca_key = ca.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    assert!(ca_key.is_some());
    assert_eq!(authority_key, ca_key);
    assert!(subject_key.is_some_and(|id| Some(id) != ca_key));
    assert!(!parsed.is_ca());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth && !usage.any && usage.other.is_empty());
    assert!((9..=17).contains(&parsed.raw_serial().len()));
    let lifetime = parsed.validity().not_after - parsed.validity().not_before;
    assert!(lifetime.unwrap().whole_days() <= 30);
    assert!(parsed.validity().is_valid());
    assert_ne!(parsed.public_key().raw, ca.public_key().raw);
}

/// Whether the strictest reading of openssl accepts `leaf` for `name`.
fn check_with_openssl(ca: &CertificateDer<'_>, leaf: &CertificateDer<'_>, name: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    for (file, der) in [("ca", ca), ("leaf", leaf)] {
        let input = dir.path().join(format!("{file}.der"));
        std::fs::write(&input, der).unwrap();
        let pem = dir.path().join(format!("{file}.pem"));
        let status = Command::new("openssl")
            .args(["x509", "-inform", "DER", "-in"])
            .arg(&input)
            .arg("-out")
            .arg(&pem)
            .status();
        assert!(status.unwrap().success());
    }
    let run = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem"])
        .args(name)
        .arg("leaf.pem")
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[tokio::test]
async fn ct_19_names_and_addresses_of_every_kind_are_accepted_by_strict_openssl() {
    let (authority, ca) = authority("ca");
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}.test", "b".repeat(56));
    assert_eq!(longest.len(), 253);
    for name in ["a.test", "xn--bcher-kva.test", "under_score.test", &longest, "A.Test."] {
        let leaf = authority.leaf(name, SystemTime::now()).await.unwrap();
        let asked = name.trim_end_matches('.');
        check_with_openssl(&ca, der(&leaf), &["-verify_hostname", asked]);
    }
    for address in ["192.0.2.1", "2001:db8::1", "[2001:db8::1]"] {
        let leaf = authority.leaf(address, SystemTime::now()).await.unwrap();
        let asked = address.trim_matches(['[', ']']);
        check_with_openssl(&ca, der(&leaf), &["-verify_ip", asked]);
    }
    for name in ["", ".", "*.a.test", "a..test", "a b.test", "bücher.test", "a.test\0.b", "-a.test"]
    {
        let refused = authority.leaf(name, SystemTime::now()).await.unwrap_err();
        assert_eq!(refused, LeafError::Name, "{name:?}");
    }
    let too_long = format!("{longest}x");
    assert!(authority.leaf(&too_long, SystemTime::now()).await.is_err());
}

#[tokio::test]
async fn ct_21_no_two_tenants_share_a_leaf_key_and_none_is_the_ca_key() {
    let now = SystemTime::now();
    let mut keys = HashSet::new();
    for tenant in ["a", "b", "c"] {
        let (authority, ca) = authority(tenant);
        let leaf = authority.leaf("same.test", now).await.unwrap();
        let (_, parsed) = X509Certificate::from_der(der(&leaf)).unwrap();
        let (_, ca) = X509Certificate::from_der(&ca).unwrap();
        assert_eq!(parsed.issuer(), ca.subject());
        assert!(keys.insert(parsed.public_key().raw.to_vec()));
        assert!(keys.insert(ca.public_key().raw.to_vec()));
    }
}

#[tokio::test]
async fn sl_05_the_leaf_key_changes_daily() {
    let authority = authority("ca").0;
    let now = SystemTime::now();
    let today = authority.leaf("a.test", now).await.unwrap();
    let later = authority.leaf("a.test", now + DAY / 2).await.unwrap();
    assert!(Arc::ptr_eq(&today, &later));
    let tomorrow = authority.leaf("a.test", now + DAY).await.unwrap();
    let key =
        |leaf: &Leaf| X509Certificate::from_der(der(leaf)).unwrap().1.public_key().raw.to_vec();
    assert_ne!(key(&today), key(&tomorrow));
    assert_eq!(authority.kept(), 1, "the old one is gone");
}

#[tokio::test]
async fn a_leaf_never_outlives_its_authority() {
    let now = SystemTime::now();
    let end = now + 2 * DAY;
    let (authority, ca) = authority_valid("ca", end);
    let leaf = authority.leaf("a.test", now).await.unwrap();
    let (_, parsed) = X509Certificate::from_der(der(&leaf)).unwrap();
    let (_, ca) = X509Certificate::from_der(&ca).unwrap();
    assert_eq!(parsed.validity().not_after, ca.validity().not_after);
    let expired = authority.leaf("a.test", end + DAY).await.unwrap_err();
    assert_eq!(expired.label(), "authority_expired");
}

#[tokio::test]
async fn sl_06_a_retired_authority_signs_and_hands_out_nothing() {
    let authority = authority("ca").0;
    authority.leaf("a.test", SystemTime::now()).await.unwrap();
    authority.retire();
    let refused = authority.leaf("a.test", SystemTime::now()).await.unwrap_err();
    assert_eq!((refused, authority.kept()), (LeafError::AuthorityRetired, 0));
}

#[test]
fn a_foreign_key_or_a_plain_certificate_makes_no_authority() {
    let (one, other) = (super::super::testing::root("one"), super::super::testing::root("other"));
    let foreign = Zeroizing::new(other.key().serialize_der());
    assert!(matches!(
        Authority::new(one.der().clone(), &foreign),
        Err(AuthorityError::KeyMismatch)
    ));
    let key = rcgen::KeyPair::generate().unwrap();
    let plain = super::super::testing::leaf_params(&["a.test"]).self_signed(&key).unwrap();
    let key = Zeroizing::new(key.serialize_der());
    assert!(matches!(Authority::new(plain.der().clone(), &key), Err(AuthorityError::NoAuthority)));
    let nonsense = Zeroizing::new(vec![1, 2, 3]);
    assert!(matches!(Authority::new(one.der().clone(), &nonsense), Err(AuthorityError::Key)));
}
