//! Names as lists write them, and what each of them covers.

use std::net::Ipv4Addr;

/// Longest name (RFC 1035 section 2.3.4), and longest label of one.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// What an entry covers, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Covers(pub(super) u8);

impl Covers {
    /// The name itself.
    pub(super) const SELF: Self = Self(1);
    /// Every name below it.
    pub(super) const BELOW: Self = Self(2);
    pub(super) const BOTH: Self = Self(3);
    /// An exception: what it covers is in no category of this list.
    pub(super) const EXCEPT: Self = Self(4 | 3);

    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn is_exception(self) -> bool {
        self.0 & 4 != 0
    }
}

/// A name in lower case without its marks, and what it covers: `name`, `.name`, `*.name`.
/// Borrowed from `buffer`. `None` where it is no name.
pub(super) fn canonical<'b>(written: &str, buffer: &'b mut String) -> Option<(&'b str, Covers)> {
    let (bare, covers) = match (written.strip_prefix("*."), written.strip_prefix('.')) {
        (Some(bare), _) => (bare, Covers::BELOW),
        (None, Some(bare)) => (bare, Covers::BOTH),
        (None, None) => (written, Covers::BOTH),
    };
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    if bare.is_empty() || bare.len() > NAME_BYTES_MAX {
        return None;
    }
    buffer.clear();
    buffer.push_str(bare);
    buffer.make_ascii_lowercase();
    let last = buffer.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        // No name ends in a number: it is an address, which has nothing below it.
        let address = buffer.parse::<Ipv4Addr>().is_ok() && bare.len() == written.len();
        return address.then_some((buffer.as_str(), Covers::SELF));
    }
    buffer.split('.').all(is_label).then_some((buffer.as_str(), covers))
}

fn is_label(label: &str) -> bool {
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(plain)
}

/// A category as rules name it: lower case, words joined by hyphens. `None` where nothing is left
/// of it or it is longer than a word or two.
pub(super) fn category(written: &str) -> Option<Box<str>> {
    /// Longest category name, bytes.
    const CATEGORY_BYTES_MAX: usize = 64;
    let mut name = String::new();
    for word in written.split(|it: char| !it.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if !name.is_empty() {
            name.push('-');
        }
        name.extend(word.chars().flat_map(char::to_lowercase));
        if name.len() > CATEGORY_BYTES_MAX {
            return None;
        }
    }
    (!name.is_empty()).then(|| name.into_boxed_str())
}
