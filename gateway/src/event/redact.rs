//! Takes secrets out of a URL: user names and passwords, and the values of telling query keys; and
//! what a tenant wants said of nobody.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use aho_corasick::AhoCorasick;
use aws_lc_rs::hmac;
use percent_encoding::percent_decode_str;
use policy::Pattern;

/// Finds [`SECRET_PARTS`] in whatever case, in one pass.
static SECRET_PARTS_FINDER: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::builder().ascii_case_insensitive(true).build(SECRET_PARTS).ok());

/// Stands where a value was.
const REDACTED: &str = "REDACTED";

/// Keys whose value is a secret wherever it is seen, compared in lower case.
const SECRET_KEYS: &[&str] = &[
    "key",
    "sig",
    "auth",
    "code",
    "pwd",
    "pass",
    "sid",
    "otp",
    "pin",
    "ticket",
    "jwt",
    "state",
    "nonce",
    "hmac",
    "samlresponse",
    "samlrequest",
    "assertion",
    "authorization",
];

/// Parts of a key that make its value a secret: `access_token`, `X-Amz-Signature`, `PHPSESSID`.
const SECRET_PARTS: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "signature",
    "session",
    "sessid",
    "credential",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "accesskey",
    "private_key",
    "bearer",
    "oauth",
    "auth_",
    "_auth",
    "auth-",
    "_code",
    "csrf",
    "xsrf",
];

/// Most bytes of one value that are decoded to look for secrets inside it: no more are written.
const NESTED_BYTES_MAX: usize = super::line::URL_BYTES_MAX;

/// How much an event says of who it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disclosure {
    #[default]
    Keep,
    /// A pseudonym: the same for the same value, and of no use without the key.
    Hash,
    Drop,
}

/// What one tenant keeps out of its events: secrets of URLs, the ones everybody has and its own, and
/// where it says so, parts of URLs, users and addresses.
#[derive(Clone, Default)]
pub struct Redaction {
    keys: Box<[Pattern]>,
    paths: Box<[Pattern]>,
    user: Disclosure,
    address: Disclosure,
    /// Of pseudonyms.
    key: Option<Arc<hmac::Key>>,
}

/// Bytes of a pseudonym that are written: 128 bits, as hexadecimal digits.
const PSEUDONYM_BYTES: usize = 16;

impl Redaction {
    /// The standard keys and `extra` ones: exact, or with `*` at either end, without regard to case.
    #[must_use]
    pub fn with_keys<'k>(extra: impl IntoIterator<Item = &'k str>) -> Self {
        let keys = extra.into_iter().filter_map(Pattern::parse).collect();
        Self { keys, ..Self::default() }
    }

    /// What is said of a tenant whose wishes are not known: nothing of people or of paths.
    pub(super) fn strictest() -> Self {
        Self::default().without_paths(["*"]).disclosing(Disclosure::Drop, Disclosure::Drop, None)
    }

    /// Replaces the path and query of URLs whose `host/path` matches one of these: exact, or with
    /// `*` at either end.
    #[must_use]
    pub fn without_paths<'p>(mut self, patterns: impl IntoIterator<Item = &'p str>) -> Self {
        self.paths = patterns.into_iter().filter_map(Pattern::parse).collect();
        self
    }

    /// Says this much of users and addresses. Without a key there are no pseudonyms, and what asks
    /// for one is dropped.
    #[must_use]
    pub fn disclosing(mut self, user: Disclosure, address: Disclosure, key: Option<&[u8]>) -> Self {
        (self.user, self.address) = (user, address);
        self.key = key.map(|key| Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key)));
        self
    }

    /// A user as it may be written.
    #[must_use]
    pub fn user<'t>(&self, user: &'t str) -> Option<Cow<'t, str>> {
        match self.user {
            Disclosure::Keep => Some(Cow::Borrowed(user)),
            Disclosure::Hash => self.pseudonym(&user.to_lowercase()).map(Cow::Owned),
            Disclosure::Drop => None,
        }
    }

    /// An address as it may be written.
    #[must_use]
    pub fn address(&self, address: IpAddr) -> Option<String> {
        match self.address {
            Disclosure::Keep => Some(address.to_string()),
            Disclosure::Hash => self.pseudonym(&address.to_canonical().to_string()),
            Disclosure::Drop => None,
        }
    }

    fn pseudonym(&self, text: &str) -> Option<String> {
        let tag = hmac::sign(self.key.as_ref()?, text.as_bytes());
        let kept = tag.as_ref().get(..PSEUDONYM_BYTES)?;
        Some(format!("hash:{}", crate::ident::hex::encode(kept)))
    }

    /// The authority of a URL whose path is to be kept out, scheme included.
    fn hidden<'u>(&self, url: &'u str) -> Option<&'u str> {
        if self.paths.is_empty() {
            return None;
        }
        let start = url.find("://").map_or(0, |at| at + 3);
        let rest = url.get(start..)?;
        let path = rest.split(['?', '#']).next().unwrap_or(rest);
        let authority = rest.find('/').unwrap_or(path.len());
        self.paths
            .iter()
            .any(|pattern| pattern.matches(path))
            .then(|| url.get(..start + authority))?
    }

    /// The URL without userinfo, each secret value replaced. Borrows where nothing was to hide.
    #[must_use]
    pub fn url<'u>(&self, url: &'u str) -> Cow<'u, str> {
        if let Some(authority) = self.hidden(url) {
            return Cow::Owned(format!("{}/{REDACTED}", without_userinfo(authority)));
        }
        if !url.bytes().any(|byte| matches!(byte, b'?' | b'#' | b'@' | b';')) {
            return Cow::Borrowed(url);
        }
        let (before_fragment, fragment) = cut(url, '#');
        let (path, query) = cut(before_fragment, '?');
        let (path, parameters) = cut(path, ';');
        let path = without_userinfo(path);
        let parameters = parameters.map(|parameters| self.pairs(parameters));
        let query = query.map(|query| self.pairs(query));
        let fragment = fragment.map(|fragment| self.pairs(fragment));
        let untouched = |part: &Option<Cow<'_, str>>| !matches!(part, Some(Cow::Owned(_)));
        if matches!(path, Cow::Borrowed(_))
            && [&parameters, &query, &fragment].into_iter().all(untouched)
        {
            return Cow::Borrowed(url);
        }
        let mut clean = path.into_owned();
        for (mark, part) in [(';', parameters), ('?', query), ('#', fragment)] {
            if let Some(part) = part {
                clean.push(mark);
                clean.push_str(&part);
            }
        }
        Cow::Owned(clean)
    }

    /// `a=b&c=d` with secret values replaced; borrowed where there is none.
    fn pairs<'p>(&self, pairs: &'p str) -> Cow<'p, str> {
        let mut clean = String::new();
        // Bytes of `pairs` that are in `clean`, and bytes looked at.
        let (mut copied, mut seen) = (0, 0);
        for pair in pairs.split_inclusive(is_separator) {
            let body = pair.trim_end_matches(is_separator);
            if let Some((key, _)) = body.split_once('=')
                && self.is_secret_pair(body)
            {
                clean.push_str(pairs.get(copied..seen + key.len() + 1).unwrap_or_default());
                clean.push_str(REDACTED);
                copied = seen + body.len();
            }
            seen += pair.len();
        }
        if clean.is_empty() {
            return Cow::Borrowed(pairs);
        }
        clean.push_str(pairs.get(copied..).unwrap_or_default());
        Cow::Owned(clean)
    }

    fn is_secret_pair(&self, pair: &str) -> bool {
        let Some((key, value)) = pair.split_once('=') else { return false };
        !value.is_empty() && (self.is_secret_key(key) || self.hides_secrets(value))
    }

    fn is_secret_key(&self, key: &str) -> bool {
        let decoded = Cow::from(percent_decode_str(key));
        let key = String::from_utf8_lossy(&decoded);
        let key = key.trim_start_matches(['/', '?', '!', '#']);
        SECRET_KEYS.iter().any(|secret| key.eq_ignore_ascii_case(secret))
            || has_secret_part(key)
            || self.keys.iter().any(|own| own.matches(key))
    }

    /// A value that is itself a URL or form with a secret in it, as redirects carry.
    fn hides_secrets(&self, value: &str) -> bool {
        let end = value.floor_char_boundary(NESTED_BYTES_MAX.min(value.len()));
        let (value, _) = value.split_at_checked(end).unwrap_or((value, ""));
        if !value.contains(['=', '%']) {
            return false;
        }
        let inner = Cow::from(percent_decode_str(value));
        let inner = String::from_utf8_lossy(&inner);
        inner
            .split(|mark| is_separator(mark) || mark == '?' || mark == '#')
            .filter_map(|pair| pair.split_once('='))
            .any(|(key, value)| !value.is_empty() && self.is_secret_key(key))
    }
}

fn has_secret_part(key: &str) -> bool {
    match &*SECRET_PARTS_FINDER {
        Some(finder) => finder.is_match(key),
        // The list is fixed and builds; if it ever did not, hiding too much is the safe side.
        None => true,
    }
}

fn is_separator(character: char) -> bool {
    matches!(character, '&' | ';')
}

fn cut(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Removes `user:password@` from the authority, of an absolute URL or of a bare authority.
fn without_userinfo(url: &str) -> Cow<'_, str> {
    let start = url.find("//").map_or(0, |at| at + 2);
    let (scheme, rest) = url.split_at_checked(start).unwrap_or(("", url));
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((_, host)) => Cow::Owned(format!("{scheme}{host}{path}")),
        None => Cow::Borrowed(url),
    }
}

impl std::fmt::Debug for Redaction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Redaction").field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::Redaction;

    #[track_caller]
    fn check(url: &str, clean: &str) {
        assert_eq!(Redaction::default().url(url), clean);
    }

    #[test]
    fn secrets_are_replaced_and_their_keys_kept() {
        check("https://a.test/?token=x&q=1", "https://a.test/?token=REDACTED&q=1");
        check("https://a.test/p?a=1;SIG=x;b", "https://a.test/p?a=1;SIG=REDACTED;b");
        check(
            "https://s3.test/o?X-Amz-Signature=ab&X-Amz-Date=2",
            "https://s3.test/o?X-Amz-Signature=REDACTED&X-Amz-Date=2",
        );
        check("https://a.test/?%74oken=x", "https://a.test/?%74oken=REDACTED");
        check("https://a.test/#access_token=x&t=1", "https://a.test/#access_token=REDACTED&t=1");
        check("https://a.test/i;jsessionid=9F?x=1", "https://a.test/i;jsessionid=REDACTED?x=1");
        check("/path?PHPSESSID=1&&key=2", "/path?PHPSESSID=REDACTED&&key=REDACTED");
    }

    #[test]
    fn names_and_passwords_leave_the_authority() {
        check("https://user:pa@ss@a.test/x@y", "https://a.test/x@y");
        check("user:pass@a.test:443", "a.test:443");
        check("https://user@a.test?code=1", "https://a.test?code=REDACTED");
    }

    #[test]
    fn a_url_inside_a_value_hides_nothing() {
        check(
            "https://a.test/go?to=https%3A%2F%2Fb.test%2F%3Ftoken%3Dx&n=1",
            "https://a.test/go?to=REDACTED&n=1",
        );
        check("https://a.test/go?to=https://b.test/?code=x", "https://a.test/go?to=REDACTED");
    }

    #[test]
    fn what_hides_nothing_is_not_copied() {
        for url in ["https://a.test/", "https://a.test/?q=key&page=2#top", "https://a.test/?token="]
        {
            assert!(matches!(Redaction::default().url(url), Cow::Borrowed(same) if same == url));
        }
    }
}
