//! What identity material promises: who is let in, and which forgeries are not.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn device_ca() -> CaMaterial {
    CaMaterial::generate(Purpose::Device, "acme", now()).unwrap().0
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

// Certificates

#[test]
fn an_issued_certificate_names_user_device_and_serial() {
    let issued = device_ca().issue_device("alice@acme.test", "laptop-7", now()).unwrap();
    let who = ClientIdentity::from_der(&der(&issued.cert_pem)).unwrap();
    assert_eq!(&*who.user, "alice@acme.test");
    assert_eq!(who.device.as_deref(), Some("laptop-7"));
    assert_eq!(*who.serial, *issued.serial);
}

#[test]
fn a_device_certificate_lives_a_year_at_most_and_has_a_serial_of_128_random_bits() {
    let authority = device_ca();
    let issue = || authority.issue_device("alice@acme.test", "laptop-7", now()).unwrap();
    let (one, other) = (issue(), issue());
    assert_ne!(one.serial, other.serial);
    assert_eq!(one.serial.len(), 34, "16 random bytes below a leading one");
    let cert = der(&one.cert_pem);
    let (_, cert) = x509_parser::parse_x509_certificate(&cert).unwrap();
    let seconds = cert.validity().not_after.timestamp() - cert.validity().not_before.timestamp();
    assert!(seconds <= 365 * 86_400, "{seconds}");
}

#[test]
fn certificates_that_do_not_name_exactly_one_user_are_refused() {
    let authority = device_ca();
    let server = authority.issue_server("gw", &["gateway-acme.localhost".to_owned()], now());
    let found = ClientIdentity::from_der(&der(&server.unwrap().cert_pem));
    assert_eq!(found, Err(CertificateError::WrongUsage));
    assert_eq!(ClientIdentity::from_der(b"junk"), Err(CertificateError::Malformed));
    assert!(authority.issue_device("", "laptop-7", now()).is_err());
    let odd = authority.issue_device("al ice@acme.test", "laptop-7", now()).unwrap();
    let found = ClientIdentity::from_der(&der(&odd.cert_pem));
    assert_eq!(found, Err(CertificateError::BadName));
}

#[test]
fn an_authority_needs_its_own_key() {
    let (_, one) = CaMaterial::generate(Purpose::Intercept, "acme", now()).unwrap();
    let (_, other) = CaMaterial::generate(Purpose::Intercept, "acme", now()).unwrap();
    assert_ne!(one.cert_pem, other.cert_pem);
    let found = CaMaterial::from_pem(&one.cert_pem, &other.key_pem);
    assert!(matches!(found, Err(AuthorityError::KeyMismatch)));
    let leaf = device_ca().issue_device("alice@acme.test", "laptop-7", now()).unwrap();
    let found = CaMaterial::from_pem(&leaf.cert_pem, &leaf.key_pem);
    assert!(matches!(found, Err(AuthorityError::NotAuthority)));
}

#[test]
fn keys_and_tokens_are_not_in_debug_output() {
    let (authority, issued) = CaMaterial::generate(Purpose::Device, "acme", now()).unwrap();
    let mut table = TokenTable::default();
    table.insert("alice@acme.test", hash_token("secret"), None);
    let shown = format!("{authority:?} {issued:?} {table:?}");
    assert!(!shown.contains("PRIVATE") && !shown.contains("secret"), "{shown}");
}

// Revocation

#[test]
fn a_serial_is_revoked_however_it_is_spelled() {
    for spelling in ["4a001b", "4A:00:1B", "0x4a001b", "004a001b", " 4A 00 1b "] {
        let mut list = RevocationList::default();
        assert!(list.revoke_serial(spelling), "{spelling}");
        assert!(list.revokes(Some("4a001b"), None), "{spelling}");
    }
    let mut list = RevocationList::default();
    assert!(!list.revoke_serial("not hex") && !list.revoke_serial("") && !list.revoke_serial("00"));
}

#[test]
fn a_revoked_device_takes_all_its_certificates_along() {
    let mut list = RevocationList::default();
    list.revoke_device("laptop-7");
    assert!(list.revokes(Some("01"), Some("laptop-7")));
    assert!(!list.revokes(Some("01"), Some("laptop-8")) && !list.revokes(None, None));
}

// Directory

#[test]
fn the_directory_knows_groups_and_device_class_whatever_the_case() {
    let text =
        "User,groups,device_class,os,phone\nAlice@acme.test,finance; staff,managed,macos,1\n";
    let directory = Directory::parse(text).unwrap();
    let alice = directory.person("alice@ACME.test").unwrap();
    assert_eq!(alice.groups.iter().map(|it| &**it).collect::<Vec<_>>(), ["finance", "staff"]);
    assert_eq!(alice.device_class.as_deref(), Some("managed"));
    assert!(directory.person("bob@acme.test").is_none());
}

#[test]
fn the_directory_tells_each_mistake_with_its_line() {
    let text = "groups,user\nfinance,alice\nfinance,\nhr,ALICE\nstaff,b ob\n";
    let found = Directory::parse(text).unwrap_err();
    let places: Vec<(u32, u32)> = found.iter().map(|it| (it.line, it.column)).collect();
    assert_eq!(places, [(3, 2), (4, 1), (5, 2)], "{found:#?}");
    assert_eq!(Directory::parse("name\nx\n").unwrap_err().len(), 1);
}

// Basic

#[test]
fn the_right_token_opens_and_others_do_not() {
    let mut table = TokenTable::default();
    table.insert("alice@acme.test", hash_token("one"), Some("laptop-7"));
    table.insert("alice@acme.test", hash_token("two"), None);
    let basic = |text: &str| table.check_basic(&STANDARD.encode(text));
    let found = basic("alice@acme.test:one").unwrap();
    assert_eq!((&*found.user, found.device.as_deref()), ("alice@acme.test", Some("laptop-7")));
    assert_eq!(basic("alice@acme.test:two").unwrap().device, None);
    for wrong in ["alice@acme.test:", "alice@acme.test:three", "bob:one", "alice@acme.test", ":"] {
        assert!(basic(wrong).is_none(), "{wrong}");
    }
    assert!(table.check_basic("***").is_none());
    assert!(table.check_basic(&STANDARD.encode(vec![b'a'; 4096])).is_none());
}

// Tokens

struct Issuer {
    key: EncodingKey,
    public: Vec<u8>,
    jwks: Jwks,
}

fn jwk(key: &KeyPair, id: &str) -> Value {
    let raw = key.public_key_raw();
    json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id,
        "x": URL_SAFE_NO_PAD.encode(&raw[1..33]), "y": URL_SAFE_NO_PAD.encode(&raw[33..65]),
    })
}

fn issuer() -> Issuer {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let set = json!({ "keys": [jwk(&key, "k1")] });
    Issuer {
        key: EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap(),
        public: key.public_key_raw().to_vec(),
        jwks: Jwks::parse(&set.to_string()).unwrap(),
    }
}

fn header() -> Header {
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("k1".to_owned());
    header
}

fn claims() -> Value {
    json!({
        "iss": "https://login.acme.test/", "aud": ["sluice", "other"], "exp": NOW + 600,
        "iat": NOW - 10, "email": "alice@acme.test", "groups": ["finance"], "device": "laptop-7",
    })
}

const EXPECT: Expectations<'static> = Expectations {
    issuer: "https://login.acme.test/",
    audience: "sluice",
    leeway_s: 30,
    bound: false,
    user_claim: "email",
    groups_claim: "groups",
    device_claim: "device",
    device_class_claim: "device_class",
    os_claim: "os",
};

impl Issuer {
    fn sign(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }

    fn verify(&self, token: &str) -> Result<TokenIdentity, TokenError> {
        self.jwks.verify(token, &EXPECT, Channel::default(), NOW)
    }

    /// A good token but for one claim.
    fn with(&self, name: &str, value: Value) -> Result<TokenIdentity, TokenError> {
        let mut claims = claims();
        claims[name] = value;
        self.verify(&self.sign(&header(), &claims))
    }
}

fn raw(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_good_token_names_user_groups_and_device() {
    let issuer = issuer();
    let found = issuer.verify(&issuer.sign(&header(), &claims())).unwrap();
    assert_eq!(&*found.user, "alice@acme.test");
    assert_eq!(&*found.groups[0], "finance");
    assert_eq!(found.device.as_deref(), Some("laptop-7"));
    assert_eq!((found.binding, found.expires), (ChannelBinding::None, NOW + 600));
}

#[test]
fn ta_02_tokens_out_of_their_time_or_place_are_refused() {
    let issuer = issuer();
    let cases = [
        ("exp", json!(NOW - 31), TokenError::Expired),
        ("exp", Value::Null, TokenError::Claim),
        ("exp", json!("soon"), TokenError::Claim),
        ("exp", json!(-1), TokenError::Claim),
        ("nbf", json!(NOW + 31), TokenError::NotYetValid),
        ("iat", json!(NOW + 31), TokenError::NotYetValid),
        ("iss", json!("https://evil.test/"), TokenError::Issuer),
        ("iss", json!(["https://login.acme.test/"]), TokenError::Issuer),
        ("aud", json!("other"), TokenError::Audience),
        ("aud", json!([]), TokenError::Audience),
        ("email", Value::Null, TokenError::Claim),
        ("email", json!("a\nb"), TokenError::Claim),
        ("groups", json!({ "a": 1 }), TokenError::Claim),
        ("device", json!("lap top"), TokenError::Claim),
    ];
    for (name, value, expected) in cases {
        assert_eq!(issuer.with(name, value.clone()), Err(expected), "{name}: {value}");
    }
    assert!(issuer.with("exp", json!(NOW - 29)).is_ok(), "within the leeway");
}

#[test]
fn ta_03_forged_headers_are_refused() {
    let issuer = issuer();
    let verify = |header: Value, signature: &[u8]| {
        issuer.verify(&raw(&header, &claims(), signature)).unwrap_err()
    };
    for alg in ["none", "None", "nOnE", "HS256", "HS512", "RS1", "ES512", ""] {
        let found = verify(json!({ "alg": alg, "kid": "k1" }), b"");
        assert_eq!(found, TokenError::Algorithm, "{alg}");
    }
    // The public key as an HMAC secret.
    let secret = EncodingKey::from_secret(&issuer.public);
    let mut hmac = Header::new(Algorithm::HS256);
    hmac.kid = Some("k1".to_owned());
    let token = jsonwebtoken::encode(&hmac, &claims(), &secret).unwrap();
    assert_eq!(issuer.verify(&token), Err(TokenError::Algorithm));
    // An algorithm of the list, but not this key's.
    for alg in ["RS256", "PS256", "EdDSA"] {
        let found = verify(json!({ "alg": alg, "kid": "k1" }), &[0; 64]);
        assert_eq!(found, TokenError::Algorithm, "{alg}");
    }
    for kid in ["../../k1", "K1", "k1\0", "", "k1/../k1"] {
        let found = verify(json!({ "alg": "ES256", "kid": kid }), &[0; 64]);
        assert_eq!(found, TokenError::UnknownKey, "{kid}");
    }
    assert_eq!(verify(json!({ "alg": "ES256" }), &[0; 64]), TokenError::UnknownKey);
    for name in ["jku", "x5u", "jwk", "x5c", "crit", "b64"] {
        let found = verify(json!({ "alg": "ES256", "kid": "k1", name: "https://evil.test/" }), b"");
        assert_eq!(found, TokenError::ForbiddenHeader, "{name}");
    }
    assert_eq!(verify(json!({ "alg": "ES256", "kid": "k1" }), &[0; 64]), TokenError::Signature);
}

#[test]
fn ta_03_changed_or_cut_tokens_are_refused() {
    let issuer = issuer();
    let token = issuer.sign(&header(), &claims());
    let parts: Vec<&str> = token.split('.').collect();
    let mut other = claims();
    other["email"] = json!("root@acme.test");
    let other = issuer.sign(&header(), &other);
    let swapped = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
    assert_eq!(issuer.verify(&swapped), Err(TokenError::Signature));
    for cut in ["", "a", "a.b", "..", token.split_at(token.len() / 2).0, &format!("{token}.x")] {
        assert!(issuer.verify(cut).is_err(), "{cut}");
    }
}

#[test]
fn ta_04_a_token_of_another_tenants_issuer_is_refused() {
    let (a, b) = (issuer(), issuer());
    assert_eq!(b.verify(&a.sign(&header(), &claims())), Err(TokenError::Signature));
}

#[test]
fn ta_14_oversized_and_deep_tokens_are_refused() {
    let issuer = issuer();
    assert_eq!(issuer.with("pad", json!("x".repeat(20_000))), Err(TokenError::TooLarge));
    let mut many = claims();
    for index in 0..1_000 {
        many[format!("c{index}")] = json!(1);
    }
    assert!(issuer.verify(&issuer.sign(&header(), &many)).is_err());
    let deep = format!("{}{}", "[".repeat(4_000), "]".repeat(4_000));
    let body = format!("{{\"a\":{deep}}}");
    let header = json!({ "alg": "ES256", "kid": "k1" }).to_string();
    let token = format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(body));
    assert!(issuer.verify(&token).is_err());
}

#[test]
fn a_bound_token_works_on_its_own_channel_only() {
    let issuer = issuer();
    let mut bound = claims();
    bound["cnf"] = json!({ "tls-exporter": URL_SAFE_NO_PAD.encode([7; 32]) });
    let token = issuer.sign(&header(), &bound);
    let on = |exporter: Option<&[u8]>| {
        issuer.jwks.verify(&token, &EXPECT, Channel { tls_exporter: exporter }, NOW)
    };
    assert_eq!(on(Some(&[7; 32])).unwrap().binding, ChannelBinding::TlsExporter);
    for elsewhere in [Some(&[8; 32][..]), Some(&[7; 31]), None] {
        let found = on(elsewhere).unwrap_err();
        assert_eq!(found.label(), "tunnel_intercepted");
    }
    let strict = Expectations { bound: true, ..EXPECT };
    let unbound = issuer.sign(&header(), &claims());
    let found = issuer.jwks.verify(&unbound, &strict, Channel::default(), NOW);
    assert_eq!(found, Err(TokenError::Unbound));
}

#[test]
fn key_sets_with_unsafe_keys_are_refused() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let parse = |keys: Value| Jwks::parse(&json!({ "keys": keys }).to_string()).map(drop);
    let mut nameless = jwk(&key, "k1");
    nameless.as_object_mut().unwrap().remove("kid");
    assert_eq!(parse(json!([nameless])), Err(JwksError::NoKeyId(0)));
    let twice = json!([jwk(&key, "k1"), jwk(&key, "k1")]);
    assert_eq!(parse(twice), Err(JwksError::Duplicate("k1".to_owned())));
    let secret = json!([{ "kty": "oct", "kid": "s", "k": "c2VjcmV0" }]);
    assert_eq!(parse(secret), Err(JwksError::Unsupported("s".to_owned())));
    let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let weak = json!([{ "kty": "RSA", "kid": "r", "n": short, "e": "AQAB" }]);
    assert_eq!(parse(weak), Err(JwksError::Unsupported("r".to_owned())));
    let mut encrypting = jwk(&key, "e");
    encrypting["use"] = json!("enc");
    assert_eq!(parse(json!([encrypting])), Err(JwksError::Unsupported("e".to_owned())));
    assert_eq!(parse(json!([])), Err(JwksError::Count));
    assert_eq!(Jwks::parse("{").map(drop), Err(JwksError::Malformed));
}
