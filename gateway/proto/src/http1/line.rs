//! The characters and lines that heads and trailers share (RFC 9112 section 5, RFC 9110 section 5).

use bytes::Bytes;

use crate::fields::Fields;

use super::Malformed;

/// Whether `bytes` is a token: a method or field name (RFC 9110 section 5.6.2).
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// Reads the field lines of `section`, every one ended by CR LF, as slices of it.
pub(super) fn read_fields(
    section: &Bytes,
    lines: &[u8],
    fields_max: usize,
) -> Result<Fields, Malformed> {
    let mut fields = Fields::new();
    let mut rest = lines;
    while let Some((line, after)) = split_line(rest)? {
        rest = after;
        if line.is_empty() {
            continue;
        }
        if fields.len() >= fields_max {
            return Err(Malformed::TooManyFields);
        }
        let (name, value) = field_line(line)?;
        fields.push(section.slice_ref(name), section.slice_ref(value));
    }
    Ok(fields)
}

/// A line without its end, and what follows it.
type Split<'a> = (&'a [u8], &'a [u8]);

/// The line before the first CR LF and what follows it; `None` where there is no LF.
pub(super) fn split_line(bytes: &[u8]) -> Result<Option<Split<'_>>, Malformed> {
    let Some(line_feed) = memchr::memchr(b'\n', bytes) else {
        return Ok(None);
    };
    let (line, rest) = bytes.split_at_checked(line_feed).unwrap_or((bytes, b""));
    let line = line.strip_suffix(b"\r").ok_or(Malformed::BareLf)?;
    Ok(Some((line, rest.strip_prefix(b"\n").unwrap_or(rest))))
}

/// Splits one field line into its name and its value without surrounding white space.
fn field_line(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        return Err(Malformed::ObsFold);
    }
    let name_end = line.iter().position(|byte| !is_token_byte(*byte));
    let Some((name, rest)) = name_end.and_then(|end| line.split_at_checked(end)) else {
        return Err(Malformed::NoColon);
    };
    let Some(value) = rest.strip_prefix(b":") else {
        return Err(name_fault(rest));
    };
    if name.is_empty() {
        return Err(Malformed::FieldName);
    }
    let value = trim(value);
    check_text(value)?;
    Ok((name, value))
}

/// Why a field name ended before a colon.
fn name_fault(rest: &[u8]) -> Malformed {
    match rest.first() {
        Some(b' ' | b'\t') if trim(rest).starts_with(b":") => Malformed::SpaceBeforeColon,
        Some(b'\r') => Malformed::BareCr,
        Some(byte) if byte.is_ascii_control() && *byte != b'\t' => Malformed::ControlCharacter,
        _ if memchr::memchr(b':', rest).is_none() => Malformed::NoColon,
        _ => Malformed::FieldName,
    }
}

/// Checks a field value or reason: HTAB, SP, visible characters and obs-text only.
pub(super) fn check_text(text: &[u8]) -> Result<(), Malformed> {
    // One pass without a branch per byte; the fault is looked for only when there is one.
    let clean = text
        .iter()
        .fold(true, |clean, byte| clean & TEXT.get(usize::from(*byte)).copied().unwrap_or(false));
    if clean {
        return Ok(());
    }
    match text.iter().find(|byte| !TEXT.get(usize::from(**byte)).copied().unwrap_or(false)) {
        Some(b'\r') => Err(Malformed::BareCr),
        _ => Err(Malformed::ControlCharacter),
    }
}

/// Removes optional white space, SP and HTAB, from both ends.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let allowed = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        set(&mut table, byte, allowed);
        byte += 1;
    }
    table
};

const TEXT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        set(&mut table, byte, byte == b'\t' || (byte >= 0x20 && byte != 0x7f));
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

#[expect(clippy::indexing_slicing, reason = "a byte always indexes a table of 256")]
const fn set(table: &mut [bool; 256], byte: u8, allowed: bool) {
    table[byte as usize] = allowed;
}
