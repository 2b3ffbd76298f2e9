//! Users of the explicit listeners: a name and a long random token, kept only as its hash.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;

/// Longest credentials looked at: user and token with room to spare.
const CREDENTIALS_BYTES_MAX: usize = 1_024;
/// Random bytes of a token: 256 bits, so that a plain hash of it cannot be searched.
const TOKEN_BYTES: usize = 32;

/// Who may use a tenant's explicit listeners.
#[derive(Default)]
pub struct TokenTable {
    users: HashMap<Box<str>, Vec<Entry>>,
}

struct Entry {
    sha256: [u8; 32],
    device: Option<Arc<str>>,
}

/// The user whose token was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUser {
    pub user: Arc<str>,
    pub device: Option<Arc<str>>,
}

impl TokenTable {
    pub fn insert(&mut self, user: &str, sha256: [u8; 32], device: Option<&str>) {
        let entry = Entry { sha256, device: device.map(Arc::from) };
        self.users.entry(user.into()).or_default().push(entry);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Checks the value of a `Proxy-Authorization: Basic …` header after the scheme: base64 of
    /// `user:token` (RFC 7617).
    #[must_use]
    pub fn check_basic(&self, credentials: &str) -> Option<TokenUser> {
        if credentials.len() > CREDENTIALS_BYTES_MAX {
            return None;
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(credentials.trim()).ok()?;
        let text = std::str::from_utf8(&decoded).ok()?;
        let (user, token) = text.split_once(':')?;
        self.check(user, token)
    }

    /// Checks a user's token. How long it takes tells nothing of the token: its hash is compared,
    /// in constant time, with every token of the user.
    #[must_use]
    pub fn check(&self, user: &str, token: &str) -> Option<TokenUser> {
        let shown = hash_token(token);
        let entries = self.users.get(user).map(Vec::as_slice).unwrap_or_default();
        let mut found = None;
        for entry in entries {
            if constant_time::verify_slices_are_equal(&entry.sha256, &shown).is_ok() {
                found = Some(entry);
            }
        }
        found.map(|entry| TokenUser { user: user.into(), device: entry.device.clone() })
    }
}

impl std::fmt::Debug for TokenTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenTable").field("users", &self.users.len()).finish()
    }
}

/// The form in which a token is kept.
#[must_use]
pub fn hash_token(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    for (to, from) in
        hash.iter_mut().zip(digest::digest(&digest::SHA256, token.as_bytes()).as_ref())
    {
        *to = *from;
    }
    hash
}

/// A fresh token: 256 random bits as URL-safe text. `None` where the system has no randomness.
#[must_use]
pub fn fresh_token() -> Option<zeroize::Zeroizing<String>> {
    let bytes = zeroize::Zeroizing::new(super::random::bytes::<TOKEN_BYTES>()?);
    Some(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*bytes).into())
}
