//! The canonical request and response that every HTTP version becomes.

use bytes::Bytes;
use gateway_proto::fields::Fields;
use gateway_proto::target::Host;

use super::body::Length;

/// The one protocol that anyone switches to.
pub const WEBSOCKET: Bytes = Bytes::from_static(b"websocket");

/// `http` or `https`.
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

    /// The scheme's default port.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The HTTP version one side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    Http10,
    Http11,
    Http2,
    Http3,
}

impl Version {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Http3 => "HTTP/3",
        }
    }
}

/// A request as policy and origin see it. Connection-level fields are gone; the rest is as sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub version: Version,
    pub method: Bytes,
    pub scheme: Scheme,
    /// From `:authority` or `Host`, canonical; never names a tenant.
    pub host: Host,
    pub port: u16,
    /// Path and query as sent, or `*`.
    pub target: Bytes,
    pub fields: Fields,
    pub body: Length,
    /// The protocol of an `Upgrade` or of an extended CONNECT, such as `websocket`.
    pub upgrade: Option<Bytes>,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

impl Request {
    /// The method as text; methods are tokens, so always ASCII.
    #[must_use]
    pub fn method(&self) -> &str {
        std::str::from_utf8(&self.method).unwrap_or("")
    }

    /// Path and query as text. Targets are ASCII after parsing; anything else gives `/`.
    #[must_use]
    pub fn target(&self) -> &str {
        std::str::from_utf8(&self.target).unwrap_or("/")
    }

    /// Host, with the port where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == self.scheme.port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The same in memory of its own. Fields share the buffer that the head was read into, which
    /// a request that is kept for long would keep whole.
    #[must_use]
    pub fn detached(&self) -> Self {
        let copied = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        let mut fields = Fields::new();
        for field in self.fields.iter() {
            fields.push(copied(&field.name), copied(&field.value));
        }
        let (method, target) = (copied(&self.method), copied(&self.target));
        Self { method, target, fields, ..self.clone() }
    }

    /// Whether sending it twice is the same as once (RFC 9110 section 9.2.2).
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        matches!(self.method(), "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE")
    }
}

/// A final or interim response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub reason: Bytes,
    pub fields: Fields,
    pub body: Length,
}

impl Response {
    /// A response with a body of known length.
    #[must_use]
    pub fn new(status: u16, fields: Fields, length: u64) -> Self {
        Self { status, reason: Bytes::new(), fields, body: Length::Exact(length) }
    }
}
