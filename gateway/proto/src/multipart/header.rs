//! The header of one part: Content-Disposition and Content-Type, with their parameters.

use crate::http1::is_token;

use super::{MultipartError, Part};

/// Reads a part's header, without the empty line at its end.
pub(super) fn read_part_header(header: &[u8]) -> Result<Part, MultipartError> {
    let mut part = Part::default();
    let mut disposed = false;
    let mut rest = header;
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        let (line, after) = rest.split_at_checked(end).unwrap_or((rest, b""));
        rest = after.strip_prefix(b"\r\n").unwrap_or(after);
        let (name, value) = split_field(line)?;
        if name.eq_ignore_ascii_case(b"content-disposition") {
            if std::mem::replace(&mut disposed, true) {
                return Err(MultipartError::NameRepeated);
            }
            read_disposition(value, &mut part)?;
        } else if name.eq_ignore_ascii_case(b"content-type") {
            set_once(&mut part.content_type, essence(value))?;
        } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            set_once(&mut part.transfer_encoding, essence(value))?;
        }
    }
    Ok(part)
}

/// The parameters of a multipart Content-Type; `None` for any other type.
pub(super) fn multipart_parameters(content_type: &[u8]) -> Option<&[u8]> {
    let value = content_type.trim_ascii();
    let (kind, subtype) = value.split_at_checked("multipart/".len())?;
    let end = subtype.iter().position(|byte| *byte == b';').unwrap_or(subtype.len());
    let (_, parameters) = subtype.split_at_checked(end)?;
    kind.eq_ignore_ascii_case(b"multipart/").then_some(parameters)
}

/// A parameter's name, and its value without quotes.
type Parameter<'a> = (&'a [u8], Vec<u8>);

/// `*( ";" name "=" ( token / quoted-string ) )`
pub(super) struct Parameters<'a> {
    rest: &'a [u8],
}

impl<'a> Parameters<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn next(&mut self) -> Result<Option<Parameter<'a>>, MultipartError> {
        let rest = self.rest.trim_ascii_start();
        let Some(rest) = rest.strip_prefix(b";") else {
            return if rest.is_empty() { Ok(None) } else { Err(MultipartError::Header) };
        };
        let rest = rest.trim_ascii_start();
        if rest.is_empty() {
            self.rest = rest;
            return Ok(None);
        }
        let equals = memchr::memchr(b'=', rest).ok_or(MultipartError::Header)?;
        let (name, rest) = rest.split_at_checked(equals).ok_or(MultipartError::Header)?;
        let value = rest.strip_prefix(b"=").unwrap_or_default();
        if !is_token(name) {
            return Err(MultipartError::Header);
        }
        let (value, rest) = read_value(value)?;
        self.rest = rest;
        Ok(Some((name, value)))
    }
}

/// A token or quoted string, and what follows it.
fn read_value(text: &[u8]) -> Result<(Vec<u8>, &[u8]), MultipartError> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| *byte == b';').unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end).ok_or(MultipartError::Header)?;
        let value = value.trim_ascii_end();
        // Names beyond ASCII come bare from some senders; what could begin another reading
        // does not.
        let bare =
            |byte: &u8| !byte.is_ascii() || is_token(&[*byte]) || b"/:@[]?(){}".contains(byte);
        let fits = !value.is_empty() && value.iter().all(bare);
        return if fits { Ok((value.to_vec(), rest)) } else { Err(MultipartError::Header) };
    };
    let mut value = Vec::new();
    let mut rest = quoted;
    loop {
        match rest {
            [] => return Err(MultipartError::Header),
            [b'"', after @ ..] => return Ok((value, after)),
            // Other backslashes are part of the name: browsers do not escape them.
            [b'\\', escaped @ (b'"' | b'\\'), after @ ..] => {
                value.push(*escaped);
                rest = after;
            }
            [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
        }
    }
}

fn read_disposition(value: &[u8], part: &mut Part) -> Result<(), MultipartError> {
    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    let (kind, parameters) = value.split_at_checked(end).ok_or(MultipartError::Header)?;
    if !is_token(kind.trim_ascii()) {
        return Err(MultipartError::Header);
    }
    let mut parameters = Parameters::new(parameters);
    while let Some((name, value)) = parameters.next()? {
        if name.eq_ignore_ascii_case(b"name") {
            set_once(&mut part.name, text(&value)?)?;
        } else if name.eq_ignore_ascii_case(b"filename") {
            set_once(&mut part.file_name, text(&value)?)?;
        } else if name.eq_ignore_ascii_case(b"filename*") {
            set_once(&mut part.extended_file_name, text(&extended(&value)?)?)?;
        } else if names_a_piece(name) {
            // Continuations (RFC 2231 section 3) spell a name that few readers put together.
            return Err(MultipartError::Header);
        }
    }
    Ok(())
}

fn names_a_piece(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.starts_with(b"filename*") || lower.starts_with(b"name*")
}

/// Decodes `charset'language'percent-encoded` (RFC 8187 section 3.2.1).
fn extended(value: &[u8]) -> Result<Vec<u8>, MultipartError> {
    let mut pieces = value.splitn(3, |byte| *byte == b'\'');
    let (Some(charset), Some(_language), Some(encoded)) =
        (pieces.next(), pieces.next(), pieces.next())
    else {
        return Err(MultipartError::Header);
    };
    let decoded: Vec<u8> = percent_encoding::percent_decode(encoded).collect();
    if charset.eq_ignore_ascii_case(b"utf-8") {
        Ok(decoded)
    } else if charset.eq_ignore_ascii_case(b"iso-8859-1") {
        Ok(decoded.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes())
    } else {
        Err(MultipartError::Header)
    }
}

fn text(value: &[u8]) -> Result<String, MultipartError> {
    if value.iter().any(u8::is_ascii_control) {
        return Err(MultipartError::ControlCharacter);
    }
    Ok(String::from_utf8_lossy(value).into_owned())
}

/// The value without parameters, in lower case.
fn essence(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    let essence = value.get(..end).unwrap_or(value).trim_ascii();
    String::from_utf8_lossy(essence).to_ascii_lowercase()
}

fn set_once(slot: &mut Option<String>, value: String) -> Result<(), MultipartError> {
    if slot.replace(value).is_some() { Err(MultipartError::NameRepeated) } else { Ok(()) }
}

/// A field's name and value. No folding, no white space before the colon, no control character.
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), MultipartError> {
    let colon = memchr::memchr(b':', line).ok_or(MultipartError::Header)?;
    let (name, value) = line.split_at_checked(colon).ok_or(MultipartError::Header)?;
    let value = value.strip_prefix(b":").unwrap_or_default();
    if !is_token(name) {
        return Err(MultipartError::Header);
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(MultipartError::ControlCharacter);
    }
    Ok((name, value.trim_ascii()))
}
