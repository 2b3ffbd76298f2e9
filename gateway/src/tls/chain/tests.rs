#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod, KeyUsagePurpose, NameConstraints,
    RevokedCertParams, SanType, SerialNumber,
};
use webpki::OwnedCertRevocationList;

use super::super::testing::*;
use super::*;

type Der = CertificateDer<'static>;

/// Judges `chain` for `name` now, under `roots`.
fn found(chain: &[Der], name: &str, roots: &[&Ca]) -> Vec<(Fault, &'static str)> {
    found_at(chain, name, roots, SystemTime::now())
}

fn found_at(
    chain: &[Der],
    name: &str,
    roots: &[&Ca],
    now: SystemTime,
) -> Vec<(Fault, &'static str)> {
    let trust = Trust { roots: &trusting(roots), own: &OwnAuthorities::new(), revoked: &[] };
    let findings = judge(chain, &named(name), now, &trust);
    findings.iter().map(|finding| (finding.fault, finding.detail)).collect()
}

const SOUND: Vec<(Fault, &str)> = Vec::new();

#[test]
fn a_sound_chain_has_no_fault() {
    let root = root("root");
    let middle = intermediate(ca_params("middle"), &root);
    let leaf = issue(&leaf_params(&["a.test"]), &middle);
    assert_eq!(found(&[leaf, middle.der().clone()], "a.test", &[&root]), SOUND);
    let direct = issue(&leaf_params(&["a.test", "*.b.test"]), &root);
    assert_eq!(found(std::slice::from_ref(&direct), "A.TEST", &[&root]), SOUND);
    assert_eq!(found(&[direct], "x.b.test", &[&root]), SOUND);
}

#[test]
fn uc_01_self_signed() {
    let mut params = leaf_params(&["a.test"]);
    params.use_authority_key_identifier_extension = false;
    let key = rcgen::KeyPair::generate().unwrap();
    let plain = params.self_signed(&key).unwrap().der().clone();
    assert_eq!(found(&[plain], "a.test", &[]), [(Fault::SelfSigned, "self_signed")]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().der().clone();
    assert_eq!(found(&[authority], "a.test", &[]), [(Fault::SelfSigned, "self_signed")]);
}

#[test]
fn uc_02_untrusted_root_with_the_chain_complete() {
    let (ours, theirs) = (root("ours"), root("theirs"));
    let leaf = issue(&leaf_params(&["a.test"]), &theirs);
    let chain = [leaf, theirs.der().clone()];
    assert_eq!(found(&chain, "a.test", &[&ours]), [(Fault::UntrustedRoot, "unknown_root")]);
    let middle = intermediate(ca_params("middle"), &theirs);
    let chain = [issue(&leaf_params(&["a.test"]), &middle), middle.der().clone()];
    assert_eq!(found(&chain, "a.test", &[&ours]), [(Fault::UntrustedRoot, "unknown_root")]);
}

#[test]
fn uc_03_one_bit_of_the_signature_flipped() {
    let root = root("root");
    let leaf = issue(&leaf_params(&["a.test"]), &root);
    let mut bytes = leaf.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let chain = [Der::from(bytes)];
    assert_eq!(found(&chain, "a.test", &[&root]), [(Fault::UntrustedRoot, "bad_signature")]);
}

#[test]
fn uc_04_the_name_of_a_real_authority_and_another_key() {
    let (real, fake) = (root("real"), root("real"));
    let leaf = issue(&leaf_params(&["a.test"]), &fake);
    for chain in [vec![leaf.clone()], vec![leaf, fake.der().clone()]] {
        assert_eq!(found(&chain, "a.test", &[&real])[0].0, Fault::UntrustedRoot);
    }
}

#[test]
fn uc_06_uc_07_the_common_name_does_not_count() {
    let root = root("root");
    let mut no_alternative = leaf_params(&[]);
    no_alternative.distinguished_name = called("a.test");
    let mut other = leaf_params(&["b.test"]);
    other.distinguished_name = called("a.test");
    for params in [no_alternative, other] {
        let chain = [issue(&params, &root)];
        let expected = [(Fault::NameMismatch, "name_not_covered")];
        assert_eq!(found(&chain, "a.test", &[&root]), expected);
    }
}

#[test]
fn uc_08_uc_09_uc_10_wildcards_cover_one_label_of_one_owner() {
    let root = root("root");
    for (pattern, name) in [
        ("*.a.test", "x.y.a.test"),
        ("*.a.test", "a.test"),
        ("f*.a.test", "foo.a.test"),
        ("*", "test"),
        ("a.*.test", "a.b.test"),
        ("*.*.test", "a.b.test"),
        ("*.com", "bank.com"),
    ] {
        let mut params = leaf_params(&[]);
        params.subject_alt_names = vec![SanType::DnsName(pattern.try_into().unwrap())];
        let chain = [issue(&params, &root)];
        assert_eq!(found(&chain, name, &[&root])[0].0, Fault::NameMismatch, "{pattern} {name}");
    }
    for (pattern, name) in [("*.co.uk", "bank.co.uk"), ("*.com.br", "bank.com.br")] {
        let chain = [issue(&leaf_params(&[pattern]), &root)];
        let expected = [(Fault::NameMismatch, "wildcard_on_public_suffix")];
        assert_eq!(found(&chain, name, &[&root]), expected);
        let both = [issue(&leaf_params(&[pattern, name]), &root)];
        assert_eq!(found(&both, name, &[&root]), SOUND, "the exact name beside it counts");
    }
    let owned = [issue(&leaf_params(&["*.github.io"]), &root)];
    assert_eq!(found(&owned, "pages.github.io", &[&root]), SOUND);
}

#[test]
fn uc_11_uc_12_addresses_match_addresses_only() {
    let root = root("root");
    let mut text = leaf_params(&[]);
    text.subject_alt_names = vec![SanType::DnsName("192.0.2.1".try_into().unwrap())];
    let chain = [issue(&text, &root)];
    let expected = [(Fault::NameMismatch, "name_not_covered")];
    assert_eq!(found(&chain, "192.0.2.1", &[&root]), expected);
    let chain = [issue(&leaf_params(&["192.0.2.1", "2001:db8::1"]), &root)];
    assert_eq!(found(&chain, "192.0.2.1", &[&root]), SOUND);
    assert_eq!(found(&chain, "2001:db8::1", &[&root]), SOUND);
    assert_eq!(found(&chain, "192.0.2.2", &[&root]), expected);
}

#[test]
fn uc_14_a_u_label_is_not_an_a_label() {
    let root = root("root");
    let ascii = leaf_params(&["b-cher.test"]);
    let mut bytes = issue(&ascii, &root).to_vec();
    let at = bytes.windows(7).position(|window| window == b"b-cher.").unwrap();
    bytes[at + 1] = 0xfc;
    assert!(!found(&[Der::from(bytes)], "xn--bcher-kva.test", &[&root]).is_empty());
}

#[test]
fn uc_15_uc_16_uc_17_uc_18_the_time_of_every_certificate_counts() {
    let long_ago = SystemTime::now() - 400 * DAY;
    let yesterday = SystemTime::now() - DAY;
    let tomorrow = SystemTime::now() + DAY;
    let expired = |mut params: CertificateParams| {
        (params.not_before, params.not_after) = (long_ago.into(), yesterday.into());
        params
    };
    let future = |mut params: CertificateParams| {
        params.not_before = tomorrow.into();
        params
    };
    let leaf = || leaf_params(&["a.test"]);
    for (spoil, fault) in
        [(&expired as &dyn Fn(_) -> _, Fault::Expired), (&future, Fault::NotYetValid)]
    {
        let sound = root("root");
        let detail = fault.as_str();
        assert_eq!(found(&[issue(&spoil(leaf()), &sound)], "a.test", &[&sound]), [(fault, detail)]);

        let middle = intermediate(spoil(ca_params("middle")), &sound);
        let chain = [issue(&leaf(), &middle), middle.der().clone()];
        assert_eq!(found(&chain, "a.test", &[&sound]), [(fault, detail)]);

        let stale = root_of(spoil(ca_params("root")));
        assert_eq!(found(&[issue(&leaf(), &stale)], "a.test", &[&stale]), [(fault, detail)]);
    }
}

#[test]
fn an_expired_root_is_named_when_the_store_is_loaded() {
    let mut params = ca_params("old root");
    params.not_after = (SystemTime::now() - DAY).into();
    let old = root_of(params).der().clone();
    let (roots, warnings) = Roots::load(super::super::RootSource::None, &[old], SystemTime::now());
    assert_eq!(roots.len(), 1);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].to_string().contains("old root"), "{}", warnings[0]);
}

#[test]
fn uc_19_uc_26_mangled_certificates_are_refused_without_a_panic() {
    let root = root("root");
    let sound = issue(&leaf_params(&["a.test"]), &root).to_vec();
    let dates = sound.windows(2).enumerate().filter(|(_, window)| *window == [0x17, 0x0d]);
    let mut mangled: Vec<Vec<u8>> = dates
        .map(|(at, _)| {
            let mut bytes = sound.clone();
            bytes[at + 4..at + 6].copy_from_slice(b"13");
            bytes
        })
        .collect();
    assert_eq!(mangled.len(), 2, "two dates");
    mangled.push([sound.as_slice(), &[0]].concat());
    mangled.extend((0..sound.len()).map(|len| sound[..len].to_vec()));
    mangled.extend((0..sound.len()).map(|at| {
        let mut bytes = sound.clone();
        bytes[at] ^= 0xff;
        bytes
    }));
    for bytes in mangled {
        assert!(!found(&[Der::from(bytes)], "a.test", &[&root]).is_empty());
    }
}

/// A chain through one spoilt intermediate.
fn through(params: CertificateParams, leaf: &CertificateParams) -> Vec<(Fault, &'static str)> {
    let root = root("root");
    let middle = intermediate(params, &root);
    found(&[issue(leaf, &middle), middle.der().clone()], "a.test", &[&root])
}

#[test]
fn uc_20_uc_27_an_intermediate_must_be_an_authority_that_may_sign() {
    let mut no_authority = ca_params("middle");
    no_authority.is_ca = IsCa::ExplicitNoCa;
    let mut may_not_sign = ca_params("middle");
    may_not_sign.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    for params in [no_authority, may_not_sign] {
        let expected = [(Fault::UntrustedRoot, "issuer_is_no_authority")];
        assert_eq!(through(params, &leaf_params(&["a.test"])), expected);
    }
}

#[test]
fn uc_22_path_length() {
    let mut params = ca_params("narrow");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let sound = root("root");
    let narrow = intermediate(params, &sound);
    let below = intermediate(ca_params("below"), &narrow);
    let chain =
        [issue(&leaf_params(&["a.test"]), &below), below.der().clone(), narrow.der().clone()];
    let expected = [(Fault::UntrustedRoot, "path_length")];
    assert_eq!(found(&chain, "a.test", &[&sound]), expected);
}

#[test]
fn uc_23_uc_24_name_constraints() {
    let permitted = |subtree: GeneralSubtree| {
        let mut params = ca_params("middle");
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: vec![subtree], excluded_subtrees: vec![] });
        params
    };
    let excluded = |subtree: GeneralSubtree| {
        let mut params = ca_params("middle");
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: vec![], excluded_subtrees: vec![subtree] });
        params
    };
    let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let violated = [(Fault::UntrustedRoot, "name_constraint")];
    let leaf = leaf_params(&["a.test"]);
    assert_eq!(through(permitted(dns("b.test")), &leaf), violated);
    assert_eq!(through(excluded(dns("a.test")), &leaf), violated);
    assert_eq!(through(permitted(dns("a.test")), &leaf), SOUND);
    let network = rcgen::CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8);
    let leaf = leaf_params(&["a.test", "192.0.2.1"]);
    assert_eq!(through(permitted(GeneralSubtree::IpAddress(network)), &leaf), violated);
}

#[test]
fn uc_25_an_unknown_critical_extension() {
    let root = root("root");
    let mut params = leaf_params(&["a.test"]);
    let mut extension =
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions = vec![extension];
    let findings = found(&[issue(&params, &root)], "a.test", &[&root]);
    assert_eq!(findings, [(Fault::UntrustedRoot, "malformed")]);
}

#[test]
fn uc_28_certificates_for_something_else() {
    let root = root("root");
    let mut client = leaf_params(&["a.test"]);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let expected = [(Fault::UntrustedRoot, "not_for_servers")];
    assert_eq!(found(&[issue(&client, &root)], "a.test", &[&root]), expected);
    let mut signing = ca_params("middle");
    signing.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    assert_eq!(through(signing, &leaf_params(&["a.test"])), expected);
    let mut authority = leaf_params(&["a.test"]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let expected = [(Fault::UntrustedRoot, "authority_as_server")];
    assert_eq!(found(&[issue(&authority, &root)], "a.test", &[&root]), expected);
}

/// A root and leafs for `a.test` made by the openssl command, which still makes weak ones.
fn by_openssl(leafs: &[(&str, &str)]) -> (Der, Vec<Der>) {
    let dir = tempfile::tempdir().unwrap();
    let run = |script: &str| {
        let run = Command::new("sh").args(["-ec", script]).current_dir(dir.path()).output();
        let run = run.unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    };
    let read = |name| Der::from(std::fs::read(dir.path().join(name)).unwrap());
    run("openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 30 -subj /CN=root \
           -addext keyUsage=critical,keyCertSign -keyout root.key -out root.pem
         openssl x509 -in root.pem -outform DER -out root.der
         printf 'subjectAltName=DNS:a.test\nextendedKeyUsage=serverAuth\n' > leaf.ext");
    let made = leafs.iter().map(|(key, digest)| {
        run(&format!(
            "openssl req -new -newkey {key} -nodes -subj /CN=origin -keyout leaf.key -out leaf.csr
             openssl x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial \
               -days 10 -{digest} -extfile leaf.ext -outform DER -out leaf.der"
        ));
        read("leaf.der")
    });
    let made = made.collect();
    (read("root.der"), made)
}

#[test]
fn uc_30_uc_31_weak_keys_and_signatures() {
    let weak = Fault::Weak;
    let unverifiable = (Fault::UntrustedRoot, "unverifiable_signature");
    let p192 = "ec -pkeyopt ec_paramgen_curve:prime192v1";
    let p256 = "ec -pkeyopt ec_paramgen_curve:prime256v1";
    let p521 = "ec -pkeyopt ec_paramgen_curve:secp521r1";
    let cases = [
        (("rsa:2048", "sha256"), vec![]),
        ((p521, "sha256"), vec![]),
        ((p256, "sha1"), vec![(weak, "sha1_signature")]),
        ((p256, "md5"), vec![unverifiable, (weak, "md5_signature")]),
        (("rsa:1024", "sha256"), vec![(weak, "small_rsa_key")]),
        (("rsa:512", "sha256"), vec![(weak, "small_rsa_key")]),
        ((p192, "sha256"), vec![(weak, "small_curve")]),
    ];
    let (root, leafs) = by_openssl(&cases.each_ref().map(|(leaf, _)| *leaf));
    let (roots, _) = Roots::load(super::super::RootSource::None, &[root], SystemTime::now());
    let trust = Trust { roots: &roots, own: &OwnAuthorities::new(), revoked: &[] };
    for (leaf, (asked, expected)) in leafs.into_iter().zip(cases) {
        let findings = judge(&[leaf], &named("a.test"), SystemTime::now(), &trust);
        let findings: Vec<_> = findings.iter().map(|it| (it.fault, it.detail)).collect();
        assert_eq!(findings, expected, "{asked:?}");
    }
}

#[test]
fn uc_32_uc_38_bloated_chains_end_in_a_refusal() {
    let root = root("root");
    let names: Vec<String> = (0..10_000).map(|number| format!("n{number}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let many_names = vec![issue(&leaf_params(&names), &root)];

    // Every certificate could be issued by every other: paths without number.
    let maze: Vec<Ca> = (0..100).map(|_| self::root("maze")).collect();
    let mut confusing = vec![issue(&leaf_params(&["a.test"]), &maze[0])];
    confusing.extend(maze.iter().map(|ca| ca.der().clone()));

    for chain in [many_names, confusing] {
        assert!(!found(&chain, "a.test", &[&root]).is_empty());
    }
}

#[test]
fn uc_33_one_good_path_is_enough() {
    let (good, gone) = (root("good"), root("gone"));
    let key = rcgen::KeyPair::generate().unwrap();
    let params = ca_params("middle");
    let mut expired = params.clone();
    expired.not_after = (SystemTime::now() - DAY).into();
    let by_good = params.signed_by(&key, &good).unwrap().der().clone();
    let by_gone = expired.signed_by(&key, &gone).unwrap().der().clone();
    let middle = rcgen::Issuer::new(params, key);
    let leaf = leaf_params(&["a.test"])
        .signed_by(&rcgen::KeyPair::generate().unwrap(), &middle)
        .unwrap()
        .der()
        .clone();
    for chain in [[leaf.clone(), by_gone.clone(), by_good.clone()], [leaf, by_good, by_gone]] {
        assert_eq!(found(&chain, "a.test", &[&good, &gone]), SOUND);
        assert_eq!(found(&chain, "a.test", &[&good]), SOUND);
        assert_eq!(found(&chain, "a.test", &[&gone])[0].0, Fault::Expired);
    }
}

#[test]
fn uc_34_our_own_authorities_vouch_for_nobody() {
    let (ours, theirs) = (root("tenant a"), root("theirs"));
    let own = OwnAuthorities::new();
    own.replace("a", Some(ours.der().clone()));
    let leaf = issue(&leaf_params(&["a.test"]), &ours);
    let roots = trusting(&[&ours, &theirs]);
    let judged = |chain: &[Der]| {
        let trust = Trust { roots: &roots, own: &own, revoked: &[] };
        judge(chain, &named("a.test"), SystemTime::now(), &trust)
    };
    let refused = Finding { fault: Fault::UntrustedRoot, detail: "own_authority", fixed: true };
    assert_eq!(judged(std::slice::from_ref(&leaf)), [refused], "though the root is trusted");
    assert_eq!(judged(&[leaf.clone(), ours.der().clone()]), [refused]);
    let namesake = self::root("tenant a");
    let elsewhere = [issue(&leaf_params(&["a.test"]), &namesake), namesake.der().clone()];
    assert!(judged(&elsewhere).iter().all(|finding| !finding.fixed), "a namesake is a stranger");
    own.replace("a", None);
    assert_eq!(judged(&[leaf]), []);
}

#[test]
fn uc_36_incomplete_chain() {
    let root = root("root");
    let middle = intermediate(ca_params("middle"), &root);
    let leaf = issue(&leaf_params(&["a.test"]), &middle);
    let expected = [(Fault::IncompleteChain, "issuer_not_sent")];
    assert_eq!(found(&[leaf], "a.test", &[&root]), expected);
}

/// A list of one serial number, whose successor is due in so many days.
fn list(issuer: &Ca, serial: u8, days: i32) -> CertRevocationList<'static> {
    let begun = SystemTime::now() - 20 * DAY;
    let params = CertificateRevocationListParams {
        this_update: begun.into(),
        next_update: (begun + DAY * (20 + days).unsigned_abs()).into(),
        crl_number: SerialNumber::from_slice(&[1]),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[serial]),
            revocation_time: begun.into(),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let der = params.signed_by(issuer).unwrap();
    CertRevocationList::Owned(OwnedCertRevocationList::from_der(der.der()).unwrap())
}

#[test]
fn uc_39_revocation_lists_count_for_every_certificate_of_the_chain() {
    let root = root("root");
    let mut params = ca_params("middle");
    params.serial_number = Some(SerialNumber::from_slice(&[7]));
    let middle = intermediate(params, &root);
    let mut params = leaf_params(&["a.test"]);
    params.serial_number = Some(SerialNumber::from_slice(&[9]));
    let chain = [issue(&params, &middle), middle.der().clone()];
    for (revoked, expected) in [
        (list(&middle, 9, -10), vec![(Fault::Revoked, "revoked")]),
        (list(&root, 7, -10), vec![(Fault::Revoked, "revoked")]),
        (list(&middle, 8, -10), vec![]),
    ] {
        let roots = trusting(&[&root]);
        let trust = Trust { roots: &roots, own: &OwnAuthorities::new(), revoked: &[revoked] };
        let findings = judge(&chain, &named("a.test"), SystemTime::now(), &trust);
        let findings: Vec<_> = findings.iter().map(|it| (it.fault, it.detail)).collect();
        assert_eq!(findings, expected);
    }
}

#[test]
fn uc_41_a_list_that_its_issuer_did_not_sign_counts_as_missing_and_the_others_count() {
    let (root, forger) = (root("root"), self::root("middle"));
    let mut params = ca_params("middle");
    params.serial_number = Some(SerialNumber::from_slice(&[7]));
    let middle = intermediate(params, &root);
    let leaf = issue(&leaf_params(&["a.test"]), &middle);
    let chain = [leaf, middle.der().clone()];
    let judged = |lists: &[CertRevocationList<'static>]| -> Vec<Fault> {
        let roots = trusting(&[&root]);
        let trust = Trust { roots: &roots, own: &OwnAuthorities::new(), revoked: lists };
        let findings = judge(&chain, &named("a.test"), SystemTime::now(), &trust);
        findings.iter().map(|finding| finding.fault).collect()
    };
    assert_eq!(judged(&[list(&forger, 1, 1)]), []);
    assert_eq!(judged(&[list(&forger, 1, 1), list(&root, 7, 1)]), [Fault::Revoked]);
}

#[test]
fn several_faults_are_all_found() {
    let theirs = root("theirs");
    let mut params = leaf_params(&["b.test"]);
    params.not_after = (SystemTime::now() - DAY).into();
    let chain = [issue(&params, &theirs), theirs.der().clone()];
    let faults: Vec<Fault> =
        found(&chain, "a.test", &[]).into_iter().map(|(fault, _)| fault).collect();
    assert_eq!(faults, [Fault::UntrustedRoot, Fault::Expired, Fault::NameMismatch]);
}
