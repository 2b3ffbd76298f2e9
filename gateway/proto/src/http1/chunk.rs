//! The chunked coding (RFC 9112 section 7.1): size line, data, and at the end the trailers.

use bytes::{Buf, BytesMut};

use crate::fields::Field;

use super::Malformed;
use super::body::Decoded;
use super::line::{is_token_byte, read_fields, split_line};

/// One size line: 16 digits and an extension or two.
const SIZE_LINE_BYTES_MAX: usize = 1024;

/// Extensions of one body: else a sender spends many bytes per byte of content, unseen by any
/// limit on bodies.
const EXTENSION_BYTES_MAX: usize = 16 << 10;

/// A trailer section: checksums and gRPC status with details fit many times over.
const TRAILER_BYTES_MAX: usize = 16 << 10;

/// Trailer fields of one body.
const TRAILER_FIELDS_MAX: usize = 64;

/// Digits of a chunk size: 16 hold every 64-bit number, and leading zeros end there too.
const SIZE_DIGITS_MAX: usize = 16;

/// Reads a chunked body.
#[derive(Debug, Default)]
pub(super) struct ChunkReader {
    state: State,
    extension_bytes: usize,
    scanned: usize,
}

impl ChunkReader {
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Malformed> {
        loop {
            match self.state {
                State::Size => match self.size(buffer)? {
                    None => return Ok(Decoded::NeedMore),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Data(size),
                },
                State::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(Decoded::NeedMore);
                    }
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    let left = left.saturating_sub(here as u64);
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Decoded::Data(buffer.split_to(here).freeze()));
                }
                State::DataEnd => {
                    match buffer.as_ref() {
                        [b'\r', b'\n', ..] => buffer.advance(2),
                        [] | [b'\r'] => return Ok(Decoded::NeedMore),
                        _ => return Err(Malformed::ChunkEnd),
                    }
                    self.state = State::Size;
                }
                State::Trailers => return self.trailers(buffer),
                State::End => return Ok(Decoded::End),
            }
        }
    }

    /// Takes a size line; `None` when it is not whole.
    fn size(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, Malformed> {
        let unseen = buffer.get(self.scanned..).unwrap_or_default();
        let line_feed = memchr::memchr(b'\n', unseen).map(|offset| self.scanned + offset);
        let seen = line_feed.unwrap_or(buffer.len());
        if seen > SIZE_LINE_BYTES_MAX {
            return Err(size_fault(buffer));
        }
        let Some(line_feed) = line_feed else {
            // A wrong first byte will not get better by waiting.
            if buffer.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
                return Err(Malformed::ChunkSize);
            }
            self.scanned = buffer.len();
            return Ok(None);
        };
        self.scanned = 0;
        let Some((line, _)) = split_line(buffer)? else {
            return Ok(None);
        };
        let (size, extension) = read_size(line)?;
        self.extension_bytes = self.extension_bytes.saturating_add(extension.len());
        if self.extension_bytes > EXTENSION_BYTES_MAX || !is_extension(extension) {
            return Err(Malformed::ChunkExtension);
        }
        buffer.advance(line_feed + 1);
        Ok(Some(size))
    }

    /// Takes the trailer section, dropping what must not come in one.
    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Malformed> {
        let Some(end) = self.section_end(buffer)? else {
            return Ok(Decoded::NeedMore);
        };
        let section = buffer.split_to(end).freeze();
        let mut fields = match read_fields(&section, &section, TRAILER_FIELDS_MAX) {
            Ok(fields) => fields,
            Err(Malformed::TooManyFields) => return Err(Malformed::TrailersTooLarge),
            Err(other) => return Err(other),
        };
        fields.retain(|field| !is_forbidden(field));
        self.state = State::End;
        if fields.is_empty() { Ok(Decoded::End) } else { Ok(Decoded::Trailers(Box::new(fields))) }
    }

    /// Where the trailer section ends: behind its empty line.
    fn section_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, Malformed> {
        loop {
            let rest = buffer.get(self.scanned..).unwrap_or_default();
            let line = split_line(rest)?;
            let taken = line.map_or(rest.len(), |(line, _)| line.len() + 2);
            if self.scanned.saturating_add(taken) > TRAILER_BYTES_MAX {
                return Err(Malformed::TrailersTooLarge);
            }
            match line {
                None => return Ok(None),
                Some((line, _)) => {
                    self.scanned += taken;
                    if line.is_empty() {
                        return Ok(Some(self.scanned));
                    }
                }
            }
        }
    }
}

fn read_size(line: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extension) = line.split_at_checked(digits).ok_or(Malformed::ChunkSize)?;
    if digits.is_empty() || digits.len() > SIZE_DIGITS_MAX {
        return Err(Malformed::ChunkSize);
    }
    if !matches!(extension, [] | [b';', ..]) {
        return Err(Malformed::ChunkSize);
    }
    let size = digits.iter().fold(0_u64, |size, digit| {
        let value = char::from(*digit).to_digit(16).unwrap_or_default();
        size << 4 | u64::from(value)
    });
    Ok((size, extension))
}

/// Why a size line that is too long is refused.
fn size_fault(buffer: &[u8]) -> Malformed {
    let digits = buffer.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits <= SIZE_DIGITS_MAX && buffer.get(digits) == Some(&b';') {
        Malformed::ChunkExtension
    } else {
        Malformed::ChunkSize
    }
}

/// Whether `text` is `*( ";" token [ "=" ( token / quoted-string ) ] )`. The white space that
/// the grammar's obsolete part lets in is refused: nobody sends it in good faith.
fn is_extension(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(after) = rest.strip_prefix(b";") {
        let Some(named) = skip_token(after) else {
            return false;
        };
        rest = match named.strip_prefix(b"=") {
            None => named,
            Some(value) => match skip_token(value).or_else(|| skip_quoted(value)) {
                Some(after) => after,
                None => return false,
            },
        };
    }
    rest.is_empty()
}

fn skip_token(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|byte| is_token_byte(**byte)).count();
    if length == 0 { None } else { text.get(length..) }
}

fn skip_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', escaped, after @ ..] if *escaped == b'\t' || !escaped.is_ascii_control() => {
                rest = after;
            }
            [byte, after @ ..]
                if *byte != b'\\' && (*byte == b'\t' || !byte.is_ascii_control()) =>
            {
                rest = after;
            }
            _ => return None,
        }
    }
}

/// Whether a field must not come as a trailer (RFC 9110 section 6.5.1): framing, routing,
/// credentials, and what says how the content was to be handled.
fn is_forbidden(field: &Field) -> bool {
    const FORBIDDEN: [&str; 24] = [
        "transfer-encoding",
        "content-length",
        "host",
        "content-encoding",
        "content-type",
        "content-range",
        "content-disposition",
        "trailer",
        "te",
        "connection",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "expect",
        "authorization",
        "proxy-authorization",
        "proxy-authenticate",
        "www-authenticate",
        "cookie",
        "set-cookie",
        "cache-control",
        "range",
        "max-forwards",
        "location",
    ];
    FORBIDDEN.iter().any(|name| field.is(name))
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    End,
}
