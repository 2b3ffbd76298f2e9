//! Chains made to cost much, and keys and signatures that only other programs still make.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::super::distrusted::IN_THIS_TEST;
use super::super::testing::*;
use super::*;

type Der = CertificateDer<'static>;

/// What judging may cost: 50 ms of CPU, five times as much here, since our own code is not
/// optimised in tests.
const COST_MAX: Duration = Duration::from_millis(250);

fn found(chain: &[Der], roots: &Roots) -> Vec<(Fault, &'static str)> {
    let trust = Trust { roots, own: &OwnAuthorities::new(), revoked: &[] };
    let begun = processor_time();
    let findings = judge(chain, &named("a.test"), SystemTime::now(), &trust);
    let cost = processor_time() - begun;
    assert!(cost < COST_MAX, "judging took {cost:?}");
    findings.iter().map(|it| (it.fault, it.detail)).collect()
}

/// Time this thread has spent on a processor, whatever else the machine does.
fn processor_time() -> Duration {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    match std::fs::read_to_string("/proc/thread-self/schedstat") {
        Ok(text) => Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap()),
        // A kernel that keeps no such figure: the time that went by, which is more.
        Err(_) => BEGUN.elapsed(),
    }
}

/// Runs a script with the openssl command; gives back the DER files it wrote.
fn by_openssl(script: &str, files: &[&str]) -> Vec<Der> {
    let dir = tempfile::tempdir().unwrap();
    let run = Command::new("sh").args(["-ec", script]).current_dir(dir.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let read = |name: &&str| Der::from(std::fs::read(dir.path().join(name)).unwrap());
    files.iter().map(read).collect()
}

fn roots_of(der: &Der) -> Roots {
    Roots::load(super::super::RootSource::None, std::slice::from_ref(der), SystemTime::now()).0
}

/// A root, and a leaf for a.test directly below it with a key of the kind `$KEY`.
const ROOT: &str = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
    -subj /CN=root -addext keyUsage=critical,keyCertSign -keyout root.key -out root.pem
  openssl x509 -in root.pem -outform DER -out root.der
  printf 'subjectAltName=DNS:a.test\nextendedKeyUsage=serverAuth\n' > leaf.ext
";

#[test]
fn uc_30_a_weak_signature_on_an_intermediate_counts() {
    let script = format!(
        "{ROOT}printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n' > ca.ext
         openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=middle \
           -keyout ca.key -out ca.csr
         openssl x509 -req -in ca.csr -CA root.pem -CAkey root.key -CAcreateserial -days 20 -sha1 \
           -extfile ca.ext -out ca.pem
         openssl x509 -in ca.pem -outform DER -out ca.der
         openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=leaf \
           -keyout leaf.key -out leaf.csr
         openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 10 -sha256 \
           -extfile leaf.ext -outform DER -out leaf.der"
    );
    let made = by_openssl(&script, &["root.der", "leaf.der", "ca.der"]);
    let findings = found(&made[1..], &roots_of(&made[0]));
    assert!(findings.contains(&(Fault::Weak, "sha1_signature")), "{findings:?}");
}

#[test]
fn uc_41_a_list_with_an_old_signature_still_revokes() {
    let made = by_openssl(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=root \
           -addext keyUsage=critical,keyCertSign,cRLSign -keyout root.key -out root.pem
         openssl x509 -in root.pem -outform DER -out root.der
         printf 'subjectAltName=DNS:a.test\nextendedKeyUsage=serverAuth\n' > leaf.ext
         for name in bad good; do
           openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=leaf \
             -keyout leaf.key -out leaf.csr
           openssl x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days 10 \
             -sha256 -extfile leaf.ext -out $name.pem
           openssl x509 -in $name.pem -outform DER -out $name.der
         done
         : > index
         echo 01 > number
         printf '[ca]\ndefault_ca=a\n[a]\ndatabase=index\ndefault_crl_days=9\ncrlnumber=number\n' > ca.cnf
         set -- -config ca.cnf -cert root.pem -keyfile root.key -md sha1
         openssl ca \"$@\" -revoke bad.pem
         openssl ca \"$@\" -gencrl -out list.pem
         openssl crl -in list.pem -outform DER -out list.der",
        &["root.der", "bad.der", "good.der", "list.der"],
    );
    let list = webpki::OwnedCertRevocationList::from_der(&made[3]).unwrap();
    let revoked = [CertRevocationList::Owned(list)];
    let roots = roots_of(&made[0]);
    let trust = Trust { roots: &roots, own: &OwnAuthorities::new(), revoked: &revoked };
    let found =
        |leaf: &Der| judge(std::slice::from_ref(leaf), &named("a.test"), SystemTime::now(), &trust);
    assert_eq!(found(&made[1])[0].fault, Fault::Revoked);
    assert_eq!(found(&made[2]), []);
}

#[test]
fn uc_31_a_dsa_key_is_refused() {
    let script = format!(
        "{ROOT}openssl dsaparam -genkey -out leaf.key 1024 2>/dev/null
         openssl req -new -key leaf.key -subj /CN=leaf -out leaf.csr
         openssl x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days 10 \
           -sha256 -extfile leaf.ext -outform DER -out leaf.der"
    );
    let made = by_openssl(&script, &["root.der", "leaf.der"]);
    assert!(!found(&made[1..], &roots_of(&made[0])).is_empty());
}

#[test]
fn uc_32_a_huge_rsa_key_is_taken_and_costs_little() {
    // Five primes are found sooner than two; whoever checks sees the modulus only.
    let script = format!(
        "{ROOT}openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:8192 \
           -pkeyopt rsa_keygen_primes:5 -quiet -out big.key 2>/dev/null
         openssl req -x509 -key big.key -days 30 -subj /CN=big -out big.pem \
           -addext keyUsage=critical,keyCertSign
         openssl x509 -in big.pem -outform DER -out big.der
         openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=leaf \
           -keyout leaf.key -out leaf.csr
         openssl x509 -req -in leaf.csr -CA big.pem -CAkey big.key -CAcreateserial -days 10 \
           -sha256 -extfile leaf.ext -outform DER -out leaf.der"
    );
    let made = by_openssl(&script, &["big.der", "leaf.der"]);
    assert_eq!(found(&made[1..], &roots_of(&made[0])), []);
}

#[test]
fn uc_32_many_names_cost_little() {
    let root = root("root");
    let roots = trusting(&[&root]);
    for (count, sound) in [(1_000, true), (10_000, false)] {
        let mut names: Vec<String> = (1..count).map(|number| format!("n{number}.test")).collect();
        names.push("a.test".to_owned());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let findings = found(&[issue(&leaf_params(&names), &root)], &roots);
        assert_eq!(findings.is_empty(), sound, "{count} names: {findings:?}");
    }
}

#[test]
fn uc_38_a_maze_of_issuers_costs_little() {
    let sound = root("root");
    // Every certificate could be issued by every other: paths without number.
    let maze: Vec<Ca> = (0..100).map(|_| root("maze")).collect();
    let mut chain = vec![issue(&leaf_params(&["a.test"]), &maze[0])];
    chain.extend(maze.iter().map(|ca| ca.der().clone()));
    assert!(!found(&chain, &trusting(&[&sound])).is_empty());
    // A chain that is merely long, each certificate issued by the next.
    let mut issuer = root("root 0");
    let last = issuer.der().clone();
    let mut long = Vec::new();
    for number in 1..100 {
        issuer = intermediate(ca_params(&format!("ca {number}")), &issuer);
        long.insert(0, issuer.der().clone());
    }
    long.insert(0, issue(&leaf_params(&["a.test"]), &issuer));
    assert!(!found(&long, &roots_of(&last)).is_empty());
}

#[test]
fn uc_35_a_distrusted_key_vouches_for_nobody_though_it_is_among_the_roots() {
    let known_bad = root("preinstalled");
    let (_, parsed) = X509Certificate::from_der(known_bad.der()).unwrap();
    let chain = [issue(&leaf_params(&["a.test"]), &known_bad), known_bad.der().clone()];
    // Trusted, as long as nothing is known of it.
    let pasted = trusting(&[&known_bad]);
    assert_eq!(found(&chain, &pasted), []);
    IN_THIS_TEST.with_borrow_mut(|keys| keys.push(sha256(parsed.public_key().raw)));
    let trust = Trust { roots: &pasted, own: &OwnAuthorities::new(), revoked: &[] };
    let findings = judge(&chain, &named("a.test"), SystemTime::now(), &trust);
    assert!(findings.iter().any(|it| it.fixed), "no setting allows it: {findings:?}");
    // A store that is loaded now does not take it in the first place.
    let (roots, warnings) =
        Roots::load(super::super::RootSource::None, &[known_bad.der().clone()], SystemTime::now());
    assert!(roots.is_empty() && warnings[0].to_string().contains("preinstalled"));
}
