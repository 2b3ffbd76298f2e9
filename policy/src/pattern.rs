//! Text patterns: exact, or with `*` at either end, without regard to case.

use memchr::memmem;
use smallvec::SmallVec;

/// A text in lower case, on the stack where it is of usual length; a longer URL costs an allocation.
pub(crate) type Folded = SmallVec<[u8; 512]>;

/// How a pattern's text must stand in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    Exact,
    /// `text*`
    Prefix,
    /// `*text`
    Suffix,
    /// `*text*`; `*` alone has an empty text and matches every value.
    Contains,
}

/// One text to match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    pub form: Form,
    /// In lower case, without its stars.
    pub text: String,
    /// For `url` only: begins with a scheme, so it is held against the whole URL; else against
    /// `host/path?query`.
    pub whole_url: bool,
}

impl Pattern {
    /// Reads a pattern. `None` if a `*` stands inside, or the text is empty.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (front, rest) = match text.strip_prefix('*') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (back, core) = match rest.strip_suffix('*') {
            Some(core) => (true, core),
            None => (false, rest),
        };
        if core.contains('*') || text.is_empty() {
            return None;
        }
        let form = match (front, back) {
            (false, false) => Form::Exact,
            (false, true) => Form::Prefix,
            // A star alone matches everything, as does a text that holds nothing.
            (true, false) if !core.is_empty() => Form::Suffix,
            (true, _) => Form::Contains,
        };
        let folded: String = core.chars().flat_map(char::to_lowercase).collect();
        let whole_url = folded.split('/').next().is_some_and(|scheme| scheme.ends_with(':'))
            && folded.contains("://");
        Some(Self { form, text: folded, whole_url })
    }

    /// Whether a value matches, without regard to case. One that is a URL is held against a pattern
    /// of [`Self::whole_url`] as it is, and without its scheme against any other.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        self.matches_folded(fold(value, &mut Folded::new()))
    }

    /// As [`Self::matches`], of a value in lower case.
    pub(crate) fn matches_folded(&self, value: &[u8]) -> bool {
        let wanted = self.text.as_bytes();
        match self.form {
            Form::Exact => value == wanted,
            Form::Prefix => value.starts_with(wanted),
            Form::Suffix => value.ends_with(wanted),
            Form::Contains => memmem::find(value, wanted).is_some(),
        }
    }

    /// Whether every value that `other` matches is matched by this one too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if self.whole_url != other.whole_url {
            return false;
        }
        let (mine, theirs) = (self.text.as_str(), other.text.as_str());
        match (self.form, other.form) {
            (Form::Contains, _) => theirs.contains(mine),
            (Form::Prefix, Form::Exact | Form::Prefix) => theirs.starts_with(mine),
            (Form::Suffix, Form::Exact | Form::Suffix) => theirs.ends_with(mine),
            (Form::Exact, Form::Exact) => mine == theirs,
            (Form::Prefix | Form::Suffix | Form::Exact, _) => false,
        }
    }
}

/// Lower case, character by character, as patterns are kept. Most texts are in lower case already and
/// stay where they are; others are written into the caller's buffer.
pub(crate) fn fold<'b>(text: &'b str, folded: &'b mut Folded) -> &'b [u8] {
    if is_folded(text.as_bytes()) {
        return text.as_bytes();
    }
    folded.clear();
    if text.is_ascii() {
        folded.extend_from_slice(text.as_bytes());
        folded.make_ascii_lowercase();
        return folded;
    }
    for lower in text.chars().flat_map(char::to_lowercase) {
        folded.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
    }
    folded
}

/// Whether this is ASCII without a capital, told of eight bytes at once.
fn is_folded(text: &[u8]) -> bool {
    let mut rest = text;
    let mut high = 0;
    while let Some((chunk, tail)) = rest.split_first_chunk() {
        high |= not_folded(u64::from_le_bytes(*chunk));
        rest = tail;
    }
    // The end once more, with what stands before it.
    match text.last_chunk() {
        Some(last) => high |= not_folded(u64::from_le_bytes(*last)),
        None => rest.iter().for_each(|&byte| high |= not_folded(u64::from(byte))),
    }
    high == 0
}

/// The high bit of each byte that is a capital or no ASCII.
fn not_folded(bytes: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = EACH * 0x80;
    let low = bytes & !HIGH;
    let from_a = low + EACH * (0x80 - b'A' as u64);
    let beyond_z = low + EACH * (0x80 - b'Z' as u64 - 1);
    (bytes | (from_a & !beyond_z)) & HIGH
}

/// What follows the scheme of a URL; the whole text where it has none.
pub(crate) fn without_scheme(url: &[u8]) -> &[u8] {
    let scheme_end = url.iter().position(|&byte| byte == b'/');
    match scheme_end {
        Some(end)
            if end > 0 && url.get(end - 1) == Some(&b':') && url.get(end + 1) == Some(&b'/') =>
        {
            url.get(end + 2..).unwrap_or_default()
        }
        _ => url,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn stars_count_only_at_the_ends() {
        assert_eq!(Pattern::parse("Abc").unwrap().form, Form::Exact);
        assert_eq!(Pattern::parse("*.Example.com").unwrap().text, ".example.com");
        assert_eq!(Pattern::parse("a*").unwrap().form, Form::Prefix);
        assert_eq!(Pattern::parse("*a*").unwrap().form, Form::Contains);
        for everything in ["*", "**"] {
            let pattern = Pattern::parse(everything).unwrap();
            assert_eq!((pattern.form, pattern.text.as_str()), (Form::Contains, ""));
        }
        for refused in ["", "a*b", "a**", "*a*b*", "***"] {
            assert_eq!(Pattern::parse(refused), None, "{refused}");
        }
    }

    #[test]
    fn folding_is_lower_case_wherever_the_capital_stands() {
        for length in 0..40 {
            for at in 0..length {
                for byte in
                    ["@", "A", "M", "Z", "[", "`", "a", "z", "{", "\u{7f}", "\u{c4}", "\u{130}"]
                {
                    let mut text = "q".repeat(length);
                    text.replace_range(at..=at, byte);
                    let mut buffer = Folded::new();
                    let wanted: String = text.chars().flat_map(char::to_lowercase).collect();
                    assert_eq!(fold(&text, &mut buffer), wanted.as_bytes(), "{text}");
                }
            }
        }
    }

    #[test]
    fn only_a_leading_scheme_makes_a_whole_url() {
        assert!(Pattern::parse("https://a.example/*").unwrap().whole_url);
        assert!(!Pattern::parse("a.example/login?to=https://b.example").unwrap().whole_url);
        assert_eq!(without_scheme(b"https://a/b"), b"a/b");
        assert_eq!(without_scheme(b"a/b?c=d://e"), b"a/b?c=d://e");
        assert_eq!(without_scheme(b"a:/b"), b"a:/b");
    }

    #[test]
    fn each_form_matches_where_it_stands_whatever_the_case() {
        for (pattern, matched, others) in [
            ("Acme.test", ["acme.TEST", "acme.test"], ["xacme.test", "acme.test."]),
            ("Ärger*", ["ärger", "ÄRGERnis"], ["", "mehr ärger"]),
            ("*.x", ["a.x", ".X"], ["x", "a.xy"]),
            ("*mid*", ["mid", "aMIDb"], ["mi", "m-id"]),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            assert!(matched.iter().all(|value| pattern.matches(value)), "{pattern:?}");
            assert!(!others.iter().any(|value| pattern.matches(value)), "{pattern:?}");
        }
        assert!(Pattern::parse("*").unwrap().matches(""));
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        let covers = |a, b| Pattern::parse(a).unwrap().covers(&Pattern::parse(b).unwrap());
        assert!(covers("*", "x*") && covers("*.acme.test", "a.acme.test") && covers("*a*", "bab"));
        assert!(!covers("x*", "*x") && !covers("a.acme.test", "*.acme.test"));
    }
}
