//! Small text operations: percent-decoding, key-value pairs, case-blind search.

use std::borrow::Cow;

/// Decodes `%XX`, and `+` as a space where `plus` says so. Bytes that are not UTF-8 become U+FFFD.
pub(super) fn decode(text: &str, plus: bool) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || (plus && byte == b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' if plus => out.push(b' '),
            b'%' => match hex_pair(tail) {
                Some((value, after)) => {
                    out.push(value);
                    rest = after;
                }
                None => out.push(byte),
            },
            _ => out.push(byte),
        }
    }
    Cow::Owned(
        String::from_utf8(out)
            .unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned()),
    )
}

fn hex_pair(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (pair, rest) = bytes.split_at_checked(2)?;
    let mut value = 0;
    for &digit in pair {
        value = value * 16 + char::from(digit).to_digit(16)?;
    }
    Some((u8::try_from(value).ok()?, rest))
}

/// First value of `key` in `a=1&b=2`, decoded. A key without `=` has an empty value.
pub(super) fn pair<'a>(pairs: &'a str, key: &str) -> Option<Cow<'a, str>> {
    pairs.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let same = name == key || (name.contains('%') && decode(name, true) == key);
        same.then(|| decode(value, true))
    })
}

/// Position of `needle` in `hay`, ASCII case ignored.
pub(super) fn find_ignore_case(hay: &str, needle: &str) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    hay.as_bytes()
        .windows(needle.len())
        .position(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
}

/// `text` without `prefix`, ASCII case ignored.
pub(super) fn strip_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

/// `text` without `suffix`, ASCII case ignored.
pub(super) fn strip_suffix<'t>(text: &'t str, suffix: &str) -> Option<&'t str> {
    let (head, tail) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    tail.eq_ignore_ascii_case(suffix).then_some(head)
}

/// The text after the last `/`; the whole where there is none.
pub(super) fn last_segment(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

/// What stands after the last dot, unless that is nothing or the whole.
pub(super) fn extension(name: &str) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then_some(extension)
}

/// A media type without its parameters, blanks trimmed.
pub(super) fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// A parameter of a header such as `form-data; name="a"`: quoted or token, `name*` too.
pub(super) fn parameter<'a>(header: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut extended = None;
    let mut plain = None;
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest);
    while !rest.is_empty() {
        let (key, value, tail) = next_parameter(rest)?;
        if key.eq_ignore_ascii_case(name) {
            plain = plain.or(Some(value));
        } else if key.strip_suffix('*').is_some_and(|key| key.eq_ignore_ascii_case(name)) {
            // RFC 8187: charset'language'percent-encoded
            extended = value.splitn(3, '\'').nth(2).map(|value| decode(value, false));
        }
        rest = tail;
    }
    extended.or_else(|| plain.map(unescape))
}

fn next_parameter(text: &str) -> Option<(&str, &str, &str)> {
    let (key, rest) = text.split_once('=')?;
    let key = key.rsplit_once(';').map_or(key, |(_, key)| key).trim();
    let rest = rest.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, tail) = rest.split_once(';').unwrap_or((rest, ""));
        return Some((key, value.trim(), tail));
    };
    let mut escaped = false;
    let end = quoted.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })?;
    let (value, tail) = quoted.split_at_checked(end)?;
    let tail = tail.split_once(';').map_or("", |(_, tail)| tail);
    Some((key, value, tail))
}

/// Browsers write `%22` for a quote and leave backslashes alone; others write `\"`.
fn unescape(value: &str) -> Cow<'_, str> {
    if value.contains("\\\"") {
        return Cow::Owned(value.replace("\\\"", "\""));
    }
    Cow::Borrowed(value)
}
