//! A request's head from its fields (RFC 9113 sections 8.2, 8.3 and 8.5, RFC 8441 section 4).

use bytes::{BufMut, Bytes, BytesMut};

use crate::fields::Fields;

/// A request's head, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub method: Bytes,
    pub scheme: Option<Bytes>,
    pub authority: Bytes,
    pub path: Bytes,
    pub protocol: Option<Bytes>,
    pub fields: Fields,
    /// Of requests other than CONNECT.
    pub content_length: Option<u64>,
}

/// Why a head is malformed (RFC 9113, section 8.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("malformed, unknown, repeated or late pseudo-header")]
    Pseudo,
    #[error("a pseudo-header is missing or out of place for the method")]
    PseudoSet,
    #[error("malformed field name")]
    Name,
    #[error("malformed field value")]
    Value,
    #[error("connection-specific field")]
    ConnectionSpecific,
    #[error("malformed or contradicting content-length")]
    ContentLength,
    #[error("`host` differs from `:authority`")]
    HostDiffers,
}

impl Malformed {
    /// Stable name for events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pseudo => "pseudo_header",
            Self::PseudoSet => "pseudo_header_set",
            Self::Name => "field_name",
            Self::Value => "field_value",
            Self::ConnectionSpecific => "connection_specific_field",
            Self::ContentLength => "content_length",
            Self::HostDiffers => "host_differs",
        }
    }
}

/// Gathers a head, field by field, as the decoder gives them.
#[derive(Debug, Default)]
pub struct HeadBuilder {
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    protocol: Option<Bytes>,
    content_length: Option<u64>,
    cookies: u32,
    regular: bool,
    fields: Fields,
    fault: Option<Malformed>,
}

impl HeadBuilder {
    /// Takes the next field; a fault shows in [`HeadBuilder::finish`].
    pub fn field(&mut self, name: Bytes, value: Bytes) {
        if self.fault.is_none() {
            self.fault = self.take(name, value).err();
        }
    }

    fn take(&mut self, name: Bytes, value: Bytes) -> Result<(), Malformed> {
        if name.first() == Some(&b':') {
            return self.pseudo(&name, value);
        }
        self.regular = true;
        check_field(&name, &value)?;
        match name.as_ref() {
            b"content-length" => {
                let length = content_length(&value).ok_or(Malformed::ContentLength)?;
                if self.content_length.replace(length).is_some_and(|before| before != length) {
                    return Err(Malformed::ContentLength);
                }
            }
            b"cookie" => self.cookies = self.cookies.saturating_add(1),
            _ => {}
        }
        self.fields.push(name, value);
        Ok(())
    }

    fn pseudo(&mut self, name: &[u8], value: Bytes) -> Result<(), Malformed> {
        let (slot, well_formed) = match name {
            b":method" => (&mut self.method, is_token(&value)),
            b":scheme" => (&mut self.scheme, is_scheme(&value)),
            b":authority" => (&mut self.authority, is_authority(&value)),
            b":path" => (&mut self.path, is_path(&value)),
            b":protocol" => (&mut self.protocol, is_token(&value)),
            _ => return Err(Malformed::Pseudo),
        };
        if self.regular || !well_formed || slot.replace(value).is_some() {
            return Err(Malformed::Pseudo);
        }
        Ok(())
    }

    /// The whole head.
    ///
    /// # Errors
    /// Where it is malformed: a stream error, `PROTOCOL_ERROR`.
    pub fn finish(mut self) -> Result<RequestHead, Malformed> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let method = self.method.take().ok_or(Malformed::PseudoSet)?;
        let connect = method.as_ref() == b"CONNECT";
        let plain_connect = connect && self.protocol.is_none();
        let pair = self.scheme.is_some() && self.path.is_some();
        let neither = self.scheme.is_none() && self.path.is_none();
        let fits = if plain_connect { neither } else { pair };
        if !fits || (self.protocol.is_some() && !connect) {
            return Err(Malformed::PseudoSet);
        }
        let authority = self.authority(connect)?;
        let path = self.path.take().unwrap_or_default();
        if path.as_ref() == b"*" && method.as_ref() != b"OPTIONS" {
            return Err(Malformed::Pseudo);
        }
        if self.cookies > 1 {
            join_cookies(&mut self.fields);
        }
        Ok(RequestHead {
            method,
            scheme: self.scheme,
            authority,
            path,
            protocol: self.protocol,
            content_length: self.content_length.filter(|_| !connect),
            fields: self.fields,
        })
    }

    /// One name for the host, whichever field gives it (RFC 9113, section 8.3.1).
    fn authority(&mut self, connect: bool) -> Result<Bytes, Malformed> {
        let mut hosts = self.fields.all("host");
        let (host, second) = (hosts.next(), hosts.next());
        if second.is_some() {
            return Err(Malformed::HostDiffers);
        }
        match (self.authority.take(), host) {
            (Some(authority), Some(host)) if !connect => {
                let same = authority.eq_ignore_ascii_case(host);
                if same { Ok(authority) } else { Err(Malformed::HostDiffers) }
            }
            (Some(authority), _) => Ok(authority),
            (None, Some(host)) if !connect && is_authority(host) => Ok(host.clone()),
            _ => Err(Malformed::PseudoSet),
        }
    }
}

/// Checks one trailer field; pseudo-headers have no place there (RFC 9113, section 8.1).
///
/// # Errors
/// Where it is malformed, or frames or routes a message (RFC 9110, section 6.5.1).
pub fn check_trailer(name: &[u8], value: &[u8]) -> Result<(), Malformed> {
    if name.first() == Some(&b':') {
        return Err(Malformed::Pseudo);
    }
    if matches!(name, b"content-length" | b"host" | b"te") {
        return Err(Malformed::ConnectionSpecific);
    }
    check_field(name, value)
}

fn check_field(name: &[u8], value: &[u8]) -> Result<(), Malformed> {
    if !is_token(name) || name.iter().any(u8::is_ascii_uppercase) {
        return Err(Malformed::Name);
    }
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if memchr::memchr3(b'\r', b'\n', 0, value).is_some()
        || blank(value.first())
        || blank(value.last())
    {
        return Err(Malformed::Value);
    }
    match name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            Err(Malformed::ConnectionSpecific)
        }
        b"te" if !value.eq_ignore_ascii_case(b"trailers") => Err(Malformed::ConnectionSpecific),
        _ => Ok(()),
    }
}

/// RFC 9113 section 8.2.3: one `cookie` field, at the first one's place.
fn join_cookies(fields: &mut Fields) {
    let mut joined = BytesMut::new();
    for crumb in fields.all("cookie") {
        if !joined.is_empty() {
            joined.put_slice(b"; ");
        }
        joined.put_slice(crumb);
    }
    let joined = joined.freeze();
    let mut all = Fields::new();
    let mut placed = false;
    for field in fields.iter() {
        if field.name.as_ref() != b"cookie" {
            all.push(field.name.clone(), field.value.clone());
        } else if !placed {
            placed = true;
            all.push(field.name.clone(), joined.clone());
        }
    }
    *fields = all;
}

fn content_length(value: &[u8]) -> Option<u64> {
    // Nineteen digits fit 63 bits, which every later reader can hold.
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok().filter(|length| i64::try_from(*length).is_ok())
}

fn is_token(bytes: &[u8]) -> bool {
    let other = |byte: &u8| b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || other(byte))
}

fn is_scheme(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

/// Bytes that an authority can be made of, user information excluded. Whether it is a host and a
/// port is the next stage's question.
fn is_authority(bytes: &[u8]) -> bool {
    let inside = |byte: &u8| byte.is_ascii_graphic() && !b"@/\\?#\"<>`{}|^,".contains(byte);
    !bytes.is_empty() && bytes.iter().all(inside)
}

/// Origin form, or the asterisk; nothing that a request line would end at.
fn is_path(bytes: &[u8]) -> bool {
    let clean = bytes.iter().all(|byte| *byte > b' ' && *byte != 0x7f && *byte != b'#');
    (bytes.first() == Some(&b'/') || bytes == b"*") && clean
}

#[cfg(test)]
mod tests;
