//! A host as one canonical value: a lower-case A-label name without trailing dot, or an address.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use idna::AsciiDenyList;

use super::ipv4::{ends_in_number, parse_ipv4};
use super::script::is_mixed_script;

/// A whole name in its text form, trailing dot excluded (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// One label (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// What is read before canonicalisation: a name in full-width letters takes three bytes each.
const INPUT_BYTES_MAX: usize = 4 * NAME_BYTES_MAX;

/// A canonical host. Two spellings of one host compare equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// Lower-case A-labels of letters, digits, `-` and `_`, without trailing dot.
    Name(Arc<str>),
    /// From any legacy spelling; an IPv4-mapped address is the IPv4 address.
    Ip(IpAddr),
}

/// Why bytes name no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HostError {
    #[error("the host is empty")]
    Empty,
    #[error("the host is longer than 253 bytes or has a label of more than 63")]
    TooLong,
    #[error("the host holds a character no host name has")]
    Character,
    #[error("the host has an empty label")]
    EmptyLabel,
    #[error("the host is no valid internationalised name")]
    Idna,
    #[error("the host ends in a number but is no IPv4 address")]
    Ipv4,
    #[error("the host is no IPv6 address in brackets")]
    Ipv6,
    #[error("the host has a zone id, which means nothing here")]
    ZoneId,
}

impl HostError {
    /// A stable name for events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Empty => "host_empty",
            Self::TooLong => "host_too_long",
            Self::Character => "host_character",
            Self::EmptyLabel => "host_empty_label",
            Self::Idna => "host_idna",
            Self::Ipv4 => "host_ipv4",
            Self::Ipv6 => "host_ipv6",
            Self::ZoneId => "host_zone_id",
        }
    }
}

impl Host {
    /// Parses a host as it stands in an authority: an IPv6 address in brackets.
    ///
    /// # Errors
    /// Where the bytes name no host, or could name two.
    pub fn parse(text: &[u8]) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > INPUT_BYTES_MAX {
            return Err(HostError::TooLong);
        }
        if let Some(bracketed) = text.strip_prefix(b"[") {
            return parse_ipv6(bracketed.strip_suffix(b"]").ok_or(HostError::Ipv6)?);
        }
        let name = canonical_name(text)?;
        if ends_in_number(&name) {
            return parse_ipv4(&name).map(|ip| Self::Ip(ip.into())).ok_or(HostError::Ipv4);
        }
        Ok(Self::Name(name.into()))
    }

    /// The name, where it is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Ip(_) => None,
        }
    }

    /// The address, where it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Ip(ip) => Some(*ip),
        }
    }

    /// The host as policy and events spell it: no brackets around an IPv6 address.
    #[must_use]
    pub fn text(&self) -> Arc<str> {
        match self {
            Self::Name(name) => Arc::clone(name),
            Self::Ip(ip) => ip.to_string().into(),
        }
    }

    /// Whether a label of the name mixes scripts, as look-alikes of known names do.
    #[must_use]
    pub fn is_mixed_script(&self) -> bool {
        self.name().is_some_and(is_mixed_script)
    }
}

/// As in an authority: an IPv6 address stands in brackets.
impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(formatter),
            Self::Ip(IpAddr::V6(ip)) => write!(formatter, "[{ip}]"),
        }
    }
}

fn parse_ipv6(text: &[u8]) -> Result<Host, HostError> {
    if memchr::memchr(b'%', text).is_some() {
        return Err(HostError::ZoneId);
    }
    let text = std::str::from_utf8(text).map_err(|_| HostError::Ipv6)?;
    let ip: Ipv6Addr = text.parse().map_err(|_| HostError::Ipv6)?;
    Ok(Host::Ip(ip.to_canonical()))
}

/// The name in lower-case A-labels, one trailing dot removed, every label checked.
fn canonical_name(text: &[u8]) -> Result<Cow<'_, str>, HostError> {
    let mapped = if needs_idna(text) {
        if text.iter().any(|byte| byte.is_ascii() && !is_name_byte(*byte) && *byte != b'.') {
            return Err(HostError::Character);
        }
        // Hyphens anywhere are allowed: names like `r3---sn-x` are in daily use.
        idna::domain_to_ascii_cow(text, AsciiDenyList::URL).map_err(|_| HostError::Idna)?
    } else {
        let name = std::str::from_utf8(text).map_err(|_| HostError::Character)?;
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        }
    };
    let name = match mapped {
        Cow::Borrowed(name) => Cow::Borrowed(name.strip_suffix('.').unwrap_or(name)),
        Cow::Owned(mut name) => {
            if name.ends_with('.') {
                name.pop();
            }
            Cow::Owned(name)
        }
    };
    check_labels(&name)?;
    Ok(name)
}

/// Whether a name has to go through UTS 46: not ASCII, or an A-label that must be checked.
fn needs_idna(text: &[u8]) -> bool {
    !text.is_ascii()
        || text
            .split(|byte| *byte == b'.')
            .any(|label| label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"xn--")))
}

fn check_labels(name: &str) -> Result<(), HostError> {
    if name.is_empty() {
        return Err(HostError::EmptyLabel);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(HostError::TooLong);
    }
    for label in name.as_bytes().split(|byte| *byte == b'.') {
        if label.is_empty() {
            return Err(HostError::EmptyLabel);
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(HostError::TooLong);
        }
        if !label.iter().all(|byte| is_name_byte(*byte)) {
            return Err(HostError::Character);
        }
    }
    Ok(())
}

/// Letters, digits and hyphens (RFC 952, RFC 1123), and the underscore that is in wide use.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}
