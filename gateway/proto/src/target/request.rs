//! The four forms of a request target (RFC 9112 section 3.2).

use super::authority::{Authority, AuthorityError};

/// A request target, taken apart. Path and query are as they came: they are forwarded unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestTarget<'a> {
    /// `/path?query`: what an origin is asked.
    Origin(PathAndQuery<'a>),
    /// `scheme://authority/path?query`: what a proxy is asked.
    Absolute { scheme: Scheme, authority: Authority, resource: PathAndQuery<'a> },
    /// `host:port`: CONNECT.
    Authority(Authority),
    /// `*`: OPTIONS of the server as a whole.
    Asterisk,
}

/// A path and the query behind its `?`, both raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathAndQuery<'a> {
    /// Both, with the `?`: what an origin is sent. Begins with `/`, or with `?` or is empty in
    /// an absolute form without a path.
    pub whole: &'a [u8],
    pub path: &'a [u8],
    pub query: Option<&'a [u8]>,
}

/// The schemes a proxy is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port where the authority names none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Why bytes are no request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TargetError {
    #[error("the target has none of the four forms")]
    Form,
    #[error("the target's scheme is neither http nor https")]
    Scheme,
    #[error("CONNECT names no port")]
    PortMissing,
    #[error("the target has a fragment")]
    Fragment,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl TargetError {
    /// A stable name for events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Form => "target_form",
            Self::Scheme => "target_scheme",
            Self::PortMissing => "target_port_missing",
            Self::Fragment => "target_fragment",
            Self::Authority(authority) => authority.label(),
        }
    }
}

impl<'a> RequestTarget<'a> {
    /// Parses the target of a request of `method`.
    ///
    /// # Errors
    /// Where it has no form that fits the method.
    pub fn parse(method: &[u8], target: &'a [u8]) -> Result<Self, TargetError> {
        if method == b"CONNECT" {
            let authority = Authority::parse(target)?;
            if authority.port.is_none() {
                return Err(TargetError::PortMissing);
            }
            return Ok(Self::Authority(authority));
        }
        if memchr::memchr(b'#', target).is_some() {
            return Err(TargetError::Fragment);
        }
        match target {
            b"*" if method == b"OPTIONS" => Ok(Self::Asterisk),
            [b'/', ..] => Ok(Self::Origin(PathAndQuery::split(target))),
            _ => Self::absolute(target),
        }
    }

    fn absolute(target: &'a [u8]) -> Result<Self, TargetError> {
        let (scheme, rest) = if let Some(rest) = strip_scheme(target, b"http://") {
            (Scheme::Http, rest)
        } else if let Some(rest) = strip_scheme(target, b"https://") {
            (Scheme::Https, rest)
        } else if target.windows(3).any(|window| window == b"://") {
            return Err(TargetError::Scheme);
        } else {
            return Err(TargetError::Form);
        };
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'\\'));
        let (authority, resource) =
            rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, b""));
        if resource.first() == Some(&b'\\') {
            return Err(TargetError::Form);
        }
        let authority = Authority::parse(authority)?;
        Ok(Self::Absolute { scheme, authority, resource: PathAndQuery::split(resource) })
    }

    /// The path and query, where the form has them.
    #[must_use]
    pub fn resource(&self) -> Option<PathAndQuery<'a>> {
        match self {
            Self::Origin(resource) | Self::Absolute { resource, .. } => Some(*resource),
            Self::Authority(_) | Self::Asterisk => None,
        }
    }
}

impl<'a> PathAndQuery<'a> {
    /// Splits at the first `?`.
    #[must_use]
    pub fn split(whole: &'a [u8]) -> Self {
        match memchr::memchr(b'?', whole).and_then(|at| whole.split_at_checked(at)) {
            None => Self { whole, path: whole, query: None },
            Some((path, query)) => Self { whole, path, query: query.strip_prefix(b"?") },
        }
    }
}

fn strip_scheme<'a>(target: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = target.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}
