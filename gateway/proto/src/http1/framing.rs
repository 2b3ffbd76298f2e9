//! How a body is framed (RFC 9112 section 6), decided once and without a second reading.

use bytes::Bytes;

use crate::fields::Fields;

use super::line::trim;
use super::{Malformed, RequestHead, ResponseHead, Version};

/// How long a body is, or how its end shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body, whatever the fields say of its length.
    None,
    Exact(u64),
    Chunked,
    /// The body ends where the connection does: responses only.
    UntilClose,
}

/// The framing of a request's body (RFC 9112 section 6.3).
///
/// # Errors
/// Where the fields contradict each other or can be read in two ways.
pub fn request_body(head: &RequestHead) -> Result<BodyLength, Malformed> {
    let mut encodings = head.fields.all("transfer-encoding");
    let mut lengths = head.fields.all("content-length");
    match (encodings.next(), lengths.next()) {
        (None, None) => Ok(BodyLength::None),
        (Some(_), Some(_)) => Err(Malformed::LengthAndEncoding),
        (Some(_), None) if head.version == Version::Http10 => {
            Err(Malformed::TransferEncodingVersion)
        }
        // Names of codings ignore case, yet no client spells this one otherwise but to be read
        // differently by two recipients.
        (Some(encoding), None) if encoding.as_ref() == b"chunked" => match encodings.next() {
            None => Ok(BodyLength::Chunked),
            Some(_) => Err(Malformed::TransferEncoding),
        },
        (Some(encoding), None) => Err(coding_fault(encoding)),
        (None, Some(length)) => match lengths.next() {
            None => read_length(length).map(BodyLength::Exact),
            Some(_) => Err(Malformed::ContentLengthRepeated),
        },
    }
}

/// The framing of the body of a response to a request of `request_method`
/// (RFC 9112 section 6.3). After 2xx to CONNECT, and after 101, what follows is no body.
///
/// # Errors
/// Where the fields contradict each other or can be read in two ways.
pub fn response_body(head: &ResponseHead, request_method: &[u8]) -> Result<BodyLength, Malformed> {
    let bodiless = request_method == b"HEAD"
        || matches!(head.status, 100..=199 | 204 | 304)
        || (request_method == b"CONNECT" && matches!(head.status, 200..=299));
    if bodiless {
        return Ok(BodyLength::None);
    }
    let mut encodings = head.fields.all("transfer-encoding");
    match (encodings.next(), head.fields.has("content-length")) {
        (None, false) => Ok(BodyLength::UntilClose),
        (None, true) => repeated_length(&head.fields).map(BodyLength::Exact),
        (Some(_), true) => Err(Malformed::LengthAndEncoding),
        (Some(_), false) if head.version == Version::Http10 => {
            Err(Malformed::TransferEncodingVersion)
        }
        (Some(encoding), false) if encoding.eq_ignore_ascii_case(b"chunked") => {
            match encodings.next() {
                None => Ok(BodyLength::Chunked),
                Some(_) => Err(Malformed::TransferEncoding),
            }
        }
        (Some(encoding), false) => Err(coding_fault(encoding)),
    }
}

/// Makes `fields` say `length` and nothing else about framing, before they are written.
///
/// `None` leaves a Content-Length alone: a response to HEAD, or 304, tells a length it does not
/// send. A caller that drops a request's body removes the field itself.
pub fn frame(fields: &mut Fields, length: BodyLength) {
    fields.remove("transfer-encoding");
    match length {
        BodyLength::None => {}
        BodyLength::Exact(bytes) => fields.set("Content-Length", bytes.to_string()),
        BodyLength::Chunked => {
            fields.remove("content-length");
            fields.set("Transfer-Encoding", Bytes::from_static(b"chunked"));
        }
        BodyLength::UntilClose => fields.remove("content-length"),
    }
}

/// One length, possibly said several times over: origins behind two caches do that, and browsers
/// take it.
fn repeated_length(fields: &Fields) -> Result<u64, Malformed> {
    let mut known = None;
    for value in fields.all("content-length") {
        for element in value.split(|byte| *byte == b',') {
            let length = read_length(trim(element))?;
            if known.replace(length).is_some_and(|earlier| earlier != length) {
                return Err(Malformed::ContentLengthRepeated);
            }
        }
    }
    known.ok_or(Malformed::ContentLength)
}

fn read_length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() {
        return Err(Malformed::ContentLength);
    }
    value.iter().try_fold(0_u64, |length, byte| {
        if !byte.is_ascii_digit() {
            let list = *byte == b',';
            return Err(if list {
                Malformed::ContentLengthRepeated
            } else {
                Malformed::ContentLength
            });
        }
        length
            .checked_mul(10)
            .and_then(|length| length.checked_add(u64::from(byte - b'0')))
            .ok_or(Malformed::ContentLength)
    })
}

/// Tells codings we do not speak from a `chunked` in disguise.
fn coding_fault(value: &[u8]) -> Malformed {
    let known = |name: &[u8]| {
        [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"x-compress", b"br", b"zstd"]
            .iter()
            .any(|coding| name.eq_ignore_ascii_case(coding))
    };
    let mut names = value.split(|byte| *byte == b',').map(trim);
    if names.any(known) { Malformed::TransferCodingUnknown } else { Malformed::TransferEncoding }
}
