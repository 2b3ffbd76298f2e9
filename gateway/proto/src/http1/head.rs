//! Splits request and response heads off a buffer (RFC 9112 sections 2 to 5).

use bytes::{Buf, Bytes, BytesMut};

use crate::target::Authority;

use crate::openconnect::TUNNEL_TARGET;

use super::line::{check_text, is_token, read_fields, split_line};
use super::{Limits, Malformed, RequestHead, ResponseHead, Version};

/// Finds the end of a head over several reads without looking at any byte twice.
///
/// One reader serves one direction of one connection; it is ready for the next head after each.
#[derive(Debug, Default)]
pub struct HeadReader {
    scanned: usize,
    line_start: usize,
    lines: usize,
    /// Bytes of the empty line that may stand before a request.
    blank: usize,
}

/// Parses a request head with a fresh [`HeadReader`].
///
/// # Errors
/// As [`HeadReader::request`].
pub fn parse_request(
    buffer: &mut BytesMut,
    limits: &Limits,
) -> Result<Option<RequestHead>, Malformed> {
    HeadReader::new().request(buffer, limits)
}

/// Parses a response head with a fresh [`HeadReader`].
///
/// # Errors
/// As [`HeadReader::response`].
pub fn parse_response(
    buffer: &mut BytesMut,
    limits: &Limits,
) -> Result<Option<ResponseHead>, Malformed> {
    HeadReader::new().response(buffer, limits)
}

impl HeadReader {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a request head off the front of `buffer`; `None` when more bytes are needed.
    /// Between calls that return `None`, bytes may only be added at the end of `buffer`.
    ///
    /// # Errors
    /// Where the bytes so far are no request this codec passes on; the buffer is then spent.
    pub fn request(
        &mut self,
        buffer: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Option<RequestHead>, Malformed> {
        let Some(head) = self.take(buffer, limits, Side::Request)? else {
            return Ok(None);
        };
        let Some((line, lines)) = split_line(&head)? else {
            return Err(Malformed::RequestLine);
        };
        let (method, target, version) = request_line(line, limits)?;
        let fields = read_fields(&head, lines, limits.fields)?;
        let request = RequestHead {
            method: head.slice_ref(method),
            target: head.slice_ref(target),
            version,
            fields,
        };
        check_host(&request)?;
        Ok(Some(request))
    }

    /// Takes a response head off the front of `buffer`; `None` when more bytes are needed.
    /// Between calls that return `None`, bytes may only be added at the end of `buffer`.
    ///
    /// # Errors
    /// Where the bytes so far are no response this codec passes on; the buffer is then spent.
    pub fn response(
        &mut self,
        buffer: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Option<ResponseHead>, Malformed> {
        let Some(head) = self.take(buffer, limits, Side::Response)? else {
            return Ok(None);
        };
        let Some((line, lines)) = split_line(&head)? else {
            return Err(Malformed::StatusLine);
        };
        let (version, status, reason) = status_line(line)?;
        let fields = read_fields(&head, lines, limits.fields)?;
        Ok(Some(ResponseHead { version, status, reason: head.slice_ref(reason), fields }))
    }

    fn take(
        &mut self,
        buffer: &mut BytesMut,
        limits: &Limits,
        side: Side,
    ) -> Result<Option<Bytes>, Malformed> {
        let Some(end) = self.head_end(buffer, limits, side)? else {
            return Ok(None);
        };
        let blank = self.blank;
        *self = Self::default();
        let mut head = buffer.split_to(end).freeze();
        head.advance(blank);
        Ok(Some(head))
    }

    /// Where the head ends: behind the first empty line.
    fn head_end(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        side: Side,
    ) -> Result<Option<usize>, Malformed> {
        loop {
            let unseen = buffer.get(self.scanned..).unwrap_or_default();
            let Some(offset) = memchr::memchr(b'\n', unseen) else {
                self.scanned = buffer.len();
                self.check_room(buffer, limits, side)?;
                return Ok(None);
            };
            let line_end = self.ending(buffer, offset)?;
            self.scanned += offset + 1;
            self.check_room(buffer, limits, side)?;
            if line_end == self.line_start {
                if self.lines > 0 {
                    return Ok(Some(self.scanned));
                }
                self.skip_blank(side)?;
            } else {
                self.lines += 1;
            }
            self.line_start = self.scanned;
        }
    }

    /// Where the line whose LF is `offset` bytes on ends: at the CR before it.
    fn ending(&self, buffer: &[u8], offset: usize) -> Result<usize, Malformed> {
        let line_end = (self.scanned + offset).checked_sub(1).ok_or(Malformed::BareLf)?;
        match buffer.get(line_end) {
            Some(b'\r') => Ok(line_end),
            _ => Err(Malformed::BareLf),
        }
    }

    /// One empty line may precede a request (RFC 9112 section 2.2).
    fn skip_blank(&mut self, side: Side) -> Result<(), Malformed> {
        match side {
            Side::Request if self.blank == 0 => {
                self.blank = self.scanned;
                Ok(())
            }
            Side::Request => Err(Malformed::RequestLine),
            Side::Response => Err(Malformed::StatusLine),
        }
    }

    /// Refuses what is too long as soon as that is certain, with the reason that fits best.
    fn check_room(&self, buffer: &[u8], limits: &Limits, side: Side) -> Result<(), Malformed> {
        if side == Side::Request && self.lines == 0 {
            let line = buffer.get(self.blank..self.scanned).unwrap_or_default();
            return check_request_line_room(line, limits);
        }
        if self.scanned > limits.head_bytes {
            return Err(Malformed::HeadTooLarge);
        }
        // The first line is not a field; the last, empty one is not counted.
        if self.lines > limits.fields.saturating_add(1) {
            return Err(Malformed::TooManyFields);
        }
        Ok(())
    }
}

/// Refuses a request line, whole or begun, whose method or target is already too long.
fn check_request_line_room(line: &[u8], limits: &Limits) -> Result<(), Malformed> {
    let longest = limits.method_bytes + limits.target_bytes + " HTTP/1.1 \r\n".len();
    if line.len() <= longest.min(limits.head_bytes) {
        return Ok(());
    }
    match memchr::memchr(b' ', line) {
        Some(method) if method <= limits.method_bytes => Err(Malformed::TargetTooLong),
        _ => Err(Malformed::MethodTooLong),
    }
}

fn request_line<'a>(
    line: &'a [u8],
    limits: &Limits,
) -> Result<(&'a [u8], &'a [u8], Version), Malformed> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(line_fault(line, Malformed::RequestLine));
    };
    if method.len() > limits.method_bytes {
        return Err(Malformed::MethodTooLong);
    }
    if !is_token(method) {
        return Err(line_fault(method, Malformed::Method));
    }
    if target.len() > limits.target_bytes {
        return Err(Malformed::TargetTooLong);
    }
    check_target(method, target)?;
    Ok((method, target, read_version(version)?))
}

/// Checks a target's characters, and that its form fits the method (RFC 9112 section 3.2).
fn check_target(method: &[u8], target: &[u8]) -> Result<(), Malformed> {
    if memchr::memchr(b'#', target).is_some() {
        return Err(Malformed::Fragment);
    }
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err(line_fault(target, Malformed::Target));
    }
    let fits = match target {
        [] => false,
        // The one CONNECT without an authority.
        TUNNEL_TARGET if method == b"CONNECT" => true,
        _ if method == b"CONNECT" => Authority::parse(target).is_ok_and(|it| it.port.is_some()),
        [b'/', ..] => true,
        b"*" => method == b"OPTIONS",
        _ => target.windows(3).any(|window| window == b"://"),
    };
    if fits { Ok(()) } else { Err(Malformed::Target) }
}

fn read_version(version: &[u8]) -> Result<Version, Malformed> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Malformed::VersionUnsupported)
        }
        _ => Err(line_fault(version, Malformed::VersionSyntax)),
    }
}

fn status_line(line: &[u8]) -> Result<(Version, u16, &[u8]), Malformed> {
    let (version, rest) = line.split_at_checked("HTTP/1.1".len()).ok_or(Malformed::StatusLine)?;
    let version = read_version(version)?;
    let ([b' ', hundreds, tens, ones], reason) =
        rest.split_first_chunk::<4>().ok_or(Malformed::StatusLine)?
    else {
        return Err(Malformed::StatusLine);
    };
    let mut status = 0_u16;
    for digit in [hundreds, tens, ones] {
        if !digit.is_ascii_digit() {
            return Err(Malformed::StatusLine);
        }
        status = status * 10 + u16::from(digit - b'0');
    }
    // The space before an empty reason is required, and left out by many origins.
    let reason = match reason {
        [] => reason,
        [b' ', reason @ ..] => reason,
        _ => return Err(Malformed::StatusLine),
    };
    check_text(reason)?;
    if status < 100 { Err(Malformed::StatusLine) } else { Ok((version, status, reason)) }
}

/// Exactly one Host in HTTP/1.1, at most one in 1.0, and it names a host (RFC 9112 section 3.2).
fn check_host(request: &RequestHead) -> Result<(), Malformed> {
    let mut hosts = request.fields.all("host");
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version == Version::Http10 => Ok(()),
        (None, _) => Err(Malformed::HostMissing),
        (Some(_), Some(_)) => Err(Malformed::HostRepeated),
        // Names beyond ASCII travel as A-labels (RFC 3986 section 3.2.2).
        (Some(host), None) if host.is_ascii() && Authority::parse(host).is_ok() => Ok(()),
        (Some(_), None) => Err(Malformed::HostInvalid),
    }
}

/// The better reason for a fault when the text holds a control character.
fn line_fault(text: &[u8], otherwise: Malformed) -> Malformed {
    match text.iter().find(|byte| byte.is_ascii_control()) {
        Some(b'\r') => Malformed::BareCr,
        Some(_) => Malformed::ControlCharacter,
        None => otherwise,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}
