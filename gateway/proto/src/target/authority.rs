//! `host[:port]`, as in Host, CONNECT and `:authority` (RFC 9110 section 7.2).

use std::fmt;

use super::host::{Host, HostError};

/// A canonical host with the port, where one was given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    pub host: Host,
    pub port: Option<u16>,
}

/// Why bytes are no authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AuthorityError {
    #[error("the authority has user information")]
    Userinfo,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error(transparent)]
    Host(#[from] HostError),
}

impl AuthorityError {
    /// A stable name for events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Userinfo => "authority_userinfo",
            Self::Port => "authority_port",
            Self::Host(host) => host.label(),
        }
    }
}

impl Authority {
    /// Parses `host[:port]`. No user information, no white space, no empty port.
    ///
    /// # Errors
    /// Where the bytes are no authority, or could be read as two.
    pub fn parse(text: &[u8]) -> Result<Self, AuthorityError> {
        if memchr::memchr(b'@', text).is_some() {
            return Err(AuthorityError::Userinfo);
        }
        let (host, port) = split_port(text)?;
        let port = port.map(parse_port).transpose()?;
        Ok(Self { host: Host::parse(host)?, port })
    }

    /// The port, or `otherwise` where none was given.
    #[must_use]
    pub fn port_or(&self, otherwise: u16) -> u16 {
        self.port.unwrap_or(otherwise)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => self.host.fmt(formatter),
            Some(port) => write!(formatter, "{}:{port}", self.host),
        }
    }
}

type HostAndPort<'a> = (&'a [u8], Option<&'a [u8]>);

fn split_port(text: &[u8]) -> Result<HostAndPort<'_>, AuthorityError> {
    let host_end = if text.first() == Some(&b'[') {
        memchr::memchr(b']', text).ok_or(HostError::Ipv6)? + 1
    } else {
        memchr::memchr(b':', text).unwrap_or(text.len())
    };
    let (host, rest) = text.split_at_checked(host_end).unwrap_or((text, b""));
    match rest {
        [] => Ok((host, None)),
        [b':', port @ ..] => Ok((host, Some(port))),
        _ => Err(AuthorityError::Host(HostError::Ipv6)),
    }
}

fn parse_port(digits: &[u8]) -> Result<u16, AuthorityError> {
    // Five digits at most: a longer one with leading zeros is nobody's honest spelling.
    if digits.is_empty() || digits.len() > 5 {
        return Err(AuthorityError::Port);
    }
    let port = digits.iter().try_fold(0_u32, |port, byte| {
        byte.is_ascii_digit().then(|| port * 10 + u32::from(byte - b'0'))
    });
    match port.and_then(|port| u16::try_from(port).ok()) {
        None | Some(0) => Err(AuthorityError::Port),
        Some(port) => Ok(port),
    }
}
