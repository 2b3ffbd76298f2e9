//! Checks a JSON Web Token against one tenant's keys (RFC 7519, RFC 8725).
//!
//! The order: size, header, key by exact `kid`, algorithm by the key's type, signature, times,
//! issuer, audience, channel binding, names. No URL in a token is ever followed.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time;
use base64::Engine as _;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::certificate::{valid_device, valid_user};
use super::names::Blame;

/// Largest token: identity providers stay below 8 KiB even with many groups.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Most claims of a token.
const CLAIMS_MAX: usize = 256;
/// Most groups of a token.
const GROUPS_MAX: usize = 1_000;
/// Largest key set file.
const JWKS_BYTES_MAX: usize = 256 << 10;
/// Most keys of a set.
const KEYS_MAX: usize = 64;
/// Smallest RSA modulus (RFC 7518 3.3), in bytes.
const RSA_BYTES_MIN: usize = 256;

/// One tenant's public keys by `kid`.
#[derive(Default)]
pub struct Jwks {
    keys: HashMap<Box<str>, Key>,
}

struct Key {
    verify: DecodingKey,
    algorithms: &'static [Algorithm],
    /// The key's own `alg`, which then is the only one.
    only: Option<Algorithm>,
}

/// Why a key set file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    #[error("not a JSON Web Key Set of at most 256 KiB")]
    Malformed,
    #[error("key {0} has no `kid`")]
    NoKeyId(usize),
    #[error("two keys have the `kid` `{0}`")]
    Duplicate(String),
    #[error("key `{0}` is none of RSA (2048 bits or more), P-256 or Ed25519 for signatures")]
    Unsupported(String),
    #[error("no keys, or more than 64")]
    Count,
}

/// What a tenant wants of its tokens.
#[derive(Clone, Copy, Debug)]
pub struct Expectations<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    pub leeway_s: u64,
    /// Refuse tokens that are not bound to the channel.
    pub bound: bool,
    pub user_claim: &'a str,
    pub groups_claim: &'a str,
    pub device_claim: &'a str,
    pub device_class_claim: &'a str,
    pub os_claim: &'a str,
}

/// The channel a token came over: the tunnel's TLS exporter value (RFC 9266), where it has one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Channel<'a> {
    pub tls_exporter: Option<&'a [u8]>,
}

/// Whether a token was tied to the tunnel it came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    None,
    TlsExporter,
}

impl ChannelBinding {
    /// As events say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::TlsExporter => "channel",
        }
    }
}

/// Who a token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIdentity {
    pub user: Arc<str>,
    pub groups: Arc<[Arc<str>]>,
    pub device: Option<Arc<str>>,
    pub device_class: Option<Arc<str>>,
    pub os: Option<Arc<str>>,
    pub binding: ChannelBinding,
    /// Seconds since the Unix epoch; the session ends then.
    pub expires: u64,
}

/// Why a token is refused. Outward there is one constant answer; the label goes to the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("token larger than 16 KiB")]
    TooLarge,
    #[error("not a signed JSON Web Token")]
    Malformed,
    #[error("header with a parameter that is never accepted")]
    ForbiddenHeader,
    #[error("algorithm not allowed for this key")]
    Algorithm,
    #[error("no key with this id")]
    UnknownKey,
    #[error("signature does not verify")]
    Signature,
    #[error("token expired")]
    Expired,
    #[error("token not valid yet")]
    NotYetValid,
    #[error("token of another issuer")]
    Issuer,
    #[error("token for another audience")]
    Audience,
    #[error("a required claim is missing or malformed")]
    Claim,
    #[error("token bound to another channel")]
    BoundElsewhere,
    #[error("token not bound to the channel")]
    Unbound,
}

impl TokenError {
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "token_too_large",
            Self::Malformed => "token_malformed",
            Self::ForbiddenHeader => "token_forbidden_header",
            Self::Algorithm => "token_algorithm",
            Self::UnknownKey => "token_unknown_key",
            Self::Signature => "token_signature",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Claim => "token_claim",
            Self::BoundElsewhere => "tunnel_intercepted",
            Self::Unbound => "token_unbound",
        }
    }

    #[must_use]
    pub fn blame(self) -> Blame {
        Blame::Client
    }
}

impl Jwks {
    /// Reads a JSON Web Key Set.
    ///
    /// # Errors
    /// Where it is malformed or holds a key that could not be used safely.
    pub fn parse(text: &str) -> Result<Self, JwksError> {
        if text.len() > JWKS_BYTES_MAX {
            return Err(JwksError::Malformed);
        }
        let set: JwkSet = serde_json::from_str(text).map_err(|_| JwksError::Malformed)?;
        if !(1..=KEYS_MAX).contains(&set.keys.len()) {
            return Err(JwksError::Count);
        }
        let mut keys = HashMap::new();
        for (index, jwk) in set.keys.iter().enumerate() {
            let id = jwk.common.key_id.as_deref().filter(|id| !id.is_empty());
            let id = id.ok_or(JwksError::NoKeyId(index))?;
            let key = key(jwk).ok_or_else(|| JwksError::Unsupported(id.to_owned()))?;
            if keys.insert(id.into(), key).is_some() {
                return Err(JwksError::Duplicate(id.to_owned()));
            }
        }
        Ok(Self { keys })
    }

    /// Checks a token. `now` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(
        &self,
        token: &str,
        expect: &Expectations<'_>,
        channel: Channel<'_>,
        now: u64,
    ) -> Result<TokenIdentity, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLarge);
        }
        let (key, algorithm) = self.choose(token)?;
        let claims = signed_claims(token, key, algorithm)?;
        let expires = check_times(&claims, expect.leeway_s, now)?;
        if text(&claims, "iss") != Some(expect.issuer) {
            return Err(TokenError::Issuer);
        }
        if !audience_includes(&claims, expect.audience) {
            return Err(TokenError::Audience);
        }
        let binding = check_binding(&claims, expect, channel)?;
        let user = text(&claims, expect.user_claim).filter(|user| valid_user(user));
        let device = optional(&claims, expect.device_claim)?;
        if device.as_deref().is_some_and(|device| !valid_device(device)) {
            return Err(TokenError::Claim);
        }
        Ok(TokenIdentity {
            user: user.ok_or(TokenError::Claim)?.into(),
            groups: groups(&claims, expect.groups_claim)?,
            device,
            device_class: optional(&claims, expect.device_class_claim)?,
            os: optional(&claims, expect.os_claim)?,
            binding,
            expires,
        })
    }

    /// The key the header names, and the algorithm, if that key may be used with it.
    fn choose(&self, token: &str) -> Result<(&Key, Algorithm), TokenError> {
        let header = token.split('.').next().unwrap_or_default();
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(header)
            .map_err(|_| TokenError::Malformed)?;
        let header: Map<String, Value> =
            serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
        // Keys by URL or by value would let the token choose who vouches for it; `crit` and `b64`
        // change what is signed (RFC 7515 4.1, RFC 7797).
        const FORBIDDEN: &[&str] = &["jku", "x5u", "jwk", "x5c", "crit", "b64", "zip", "enc"];
        if FORBIDDEN.iter().any(|name| header.contains_key(*name)) {
            return Err(TokenError::ForbiddenHeader);
        }
        let algorithm = match header.get("alg").and_then(Value::as_str) {
            Some("RS256") => Algorithm::RS256,
            Some("PS256") => Algorithm::PS256,
            Some("ES256") => Algorithm::ES256,
            Some("EdDSA") => Algorithm::EdDSA,
            _ => return Err(TokenError::Algorithm),
        };
        let id = header.get("kid").and_then(Value::as_str).ok_or(TokenError::UnknownKey)?;
        let key = self.keys.get(id).ok_or(TokenError::UnknownKey)?;
        let allowed = key.only.map_or_else(
            || key.algorithms.contains(&algorithm),
            |only| only == algorithm && key.algorithms.contains(&only),
        );
        if allowed { Ok((key, algorithm)) } else { Err(TokenError::Algorithm) }
    }
}

impl std::fmt::Debug for Jwks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Jwks").field("keys", &self.keys.len()).finish()
    }
}

fn key(jwk: &Jwk) -> Option<Key> {
    let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let algorithms: &'static [Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&rsa.n).ok()?;
            let strong = modulus.iter().skip_while(|byte| **byte == 0).count() >= RSA_BYTES_MIN;
            if strong { &[Algorithm::RS256, Algorithm::PS256] } else { &[] }
        }
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            &[Algorithm::ES256]
        }
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
            &[Algorithm::EdDSA]
        }
        _ => &[],
    };
    let only = match jwk.common.key_algorithm {
        None => None,
        Some(named) => {
            let named = named.to_string();
            let found = algorithms.iter().find(|algorithm| format!("{algorithm:?}") == named);
            Some(*found?)
        }
    };
    if !for_signatures || algorithms.is_empty() {
        return None;
    }
    Some(Key { verify: DecodingKey::from_jwk(jwk).ok()?, algorithms, only })
}

/// Verifies the signature only; the claims are checked here, against the caller's clock.
fn signed_claims(
    token: &str,
    key: &Key,
    algorithm: Algorithm,
) -> Result<Map<String, Value>, TokenError> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let data = jsonwebtoken::decode::<Map<String, Value>>(token, &key.verify, &validation)
        .map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => TokenError::Signature,
            _ => TokenError::Malformed,
        })?;
    if data.claims.len() > CLAIMS_MAX { Err(TokenError::Malformed) } else { Ok(data.claims) }
}

fn check_times(claims: &Map<String, Value>, leeway: u64, now: u64) -> Result<u64, TokenError> {
    let seconds = |name: &str| match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            // A NumericDate may have a fraction (RFC 7519 2).
            let number = value.as_f64().filter(|number| (0.0..=1e15).contains(number));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "bounded on the line above"
            )]
            let seconds = number.map(|number| number as u64);
            seconds.map(Some).ok_or(TokenError::Claim)
        }
    };
    let expires = seconds("exp")?.ok_or(TokenError::Claim)?;
    if now >= expires.saturating_add(leeway) {
        return Err(TokenError::Expired);
    }
    let begins = seconds("nbf")?.max(seconds("iat")?).unwrap_or(0);
    if begins > now.saturating_add(leeway) {
        return Err(TokenError::NotYetValid);
    }
    Ok(expires)
}

fn audience_includes(claims: &Map<String, Value>, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

/// `cnf: {"tls-exporter": base64url}` ties a token to one TLS connection.
fn check_binding(
    claims: &Map<String, Value>,
    expect: &Expectations<'_>,
    channel: Channel<'_>,
) -> Result<ChannelBinding, TokenError> {
    let Some(bound) = claims.get("cnf").and_then(|cnf| cnf.get("tls-exporter")) else {
        return if expect.bound { Err(TokenError::Unbound) } else { Ok(ChannelBinding::None) };
    };
    let bound = bound
        .as_str()
        .and_then(|text| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok())
        .ok_or(TokenError::Claim)?;
    let exporter = channel.tls_exporter.ok_or(TokenError::BoundElsewhere)?;
    constant_time::verify_slices_are_equal(&bound, exporter)
        .map(|()| ChannelBinding::TlsExporter)
        .map_err(|_| TokenError::BoundElsewhere)
}

fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name).and_then(Value::as_str)
}

fn optional(claims: &Map<String, Value>, name: &str) -> Result<Option<Arc<str>>, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= 256 => Ok(Some(text.as_str().into())),
        Some(_) => Err(TokenError::Claim),
    }
}

fn groups(claims: &Map<String, Value>, name: &str) -> Result<Arc<[Arc<str>]>, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(Arc::default()),
        Some(Value::String(one)) => Ok(Arc::from([Arc::from(one.as_str())])),
        Some(Value::Array(many)) if many.len() <= GROUPS_MAX => many
            .iter()
            .map(|group| group.as_str().map(Arc::from).ok_or(TokenError::Claim))
            .collect(),
        Some(_) => Err(TokenError::Claim),
    }
}
