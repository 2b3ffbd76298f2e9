//! The ways to read a body: as it is, and without the escapes that its form puts in.

use std::borrow::Cow;

use memchr::memchr;

/// What is searched.
#[derive(Debug)]
pub struct Text<'b> {
    raw: Cow<'b, [u8]>,
    unescaped: Option<Vec<u8>>,
    is_text: bool,
}

impl<'b> Text<'b> {
    /// Of a body with this Content-Type (empty where there is none).
    #[must_use]
    pub fn of(content_type: &[u8], bytes: &'b [u8]) -> Self {
        let raw = utf16(bytes).map_or(Cow::Borrowed(bytes), Cow::Owned);
        let kind = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
        let is_form = kind.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded");
        let unescaped = if is_form {
            Some(without_percents(&raw))
        } else {
            memchr(b'\\', &raw).map(|_| without_backslashes(&raw))
        };
        let is_text = is_text(&raw);
        Self { raw, unescaped, is_text }
    }

    /// Whether all of it could be read. What is packed, encrypted or a picture could not; it is searched
    /// as it is all the same.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.is_text
    }

    pub(super) fn readings(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&*self.raw).chain(self.unescaped.as_deref())
    }
}

/// UTF-8 of a text that says it is UTF-16 (its byte order mark, RFC 2781 section 3.2).
fn utf16(bytes: &[u8]) -> Option<Vec<u8>> {
    let (read, rest): (fn([u8; 2]) -> u16, _) = match bytes {
        [0xff, 0xfe, rest @ ..] => (u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => (u16::from_be_bytes, rest),
        _ => return None,
    };
    let units = rest.as_chunks::<2>().0.iter().map(|pair| read(*pair));
    let characters = char::decode_utf16(units);
    let text: String = characters.map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Some(text.into_bytes())
}

/// Nothing in it that no text has: U+0000, or many other control characters.
fn is_text(bytes: &[u8]) -> bool {
    let odd = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t'..=b'\r' | 0x1b);
    memchr(0, bytes).is_none() && bytes.iter().filter(|byte| odd(byte)).count() <= bytes.len() / 100
}

/// `%41` and `+` of a form (URL Standard, urlencoded parsing).
fn without_percents(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        let escaped = (first == b'%').then(|| behind.split_at_checked(2)).flatten();
        match escaped.and_then(|(digits, behind)| Some((hex(digits)?, behind))) {
            Some((code, behind)) => {
                out.push(u8::try_from(code).unwrap_or(b'?'));
                rest = behind;
            }
            None => out.push(if first == b'+' { b' ' } else { first }),
        }
    }
    out
}

/// The escapes of JSON's strings (RFC 8259 section 7), wherever they stand.
fn without_backslashes(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'\\' {
            out.push(first);
            continue;
        }
        let Some((&escape, behind)) = rest.split_first() else { break };
        rest = behind;
        match escape {
            b'n' | b'r' | b't' | b'b' | b'f' => out.push(b' '),
            b'u' => match unit(rest) {
                Some((character, behind)) => {
                    out.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = behind;
                }
                None => out.push(b'u'),
            },
            other => out.push(other),
        }
    }
    out
}

/// The character of four hexadecimal digits, or of two such that make one, and what is behind.
fn unit(bytes: &[u8]) -> Option<(char, &[u8])> {
    let (digits, behind) = bytes.split_at_checked(4)?;
    let high = hex(digits)?;
    if let Some(character) = char::from_u32(high) {
        return Some((character, behind));
    }
    let (digits, behind) = behind.strip_prefix(b"\\u")?.split_at_checked(4)?;
    let units = [u16::try_from(high).ok()?, u16::try_from(hex(digits)?).ok()?];
    let character = char::decode_utf16(units).next()?.ok()?;
    Some((character, behind))
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
}
