//! Requests and replies, the same for HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use serde_json::Value;

/// What of a reply's body is kept; the rest is counted.
pub const BODY_KEPT_BYTES: usize = 16 * 1024 * 1024;

/// A request's body.
#[derive(Clone, Debug)]
pub enum Body {
    None,
    Bytes(Bytes),
    /// That many bytes of a pattern, announced by `content-length`.
    Fill(u64),
    /// The same in chunks (HTTP/1.1) or without a length (HTTP/2).
    FillUnsized(u64),
}

impl Body {
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Fill(count) | Self::FillUnsized(count) => *count,
        }
    }
}

/// A request for one path of an origin already connected to.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub fields: Vec<(String, String)>,
    pub body: Body,
    pub trailers: Vec<(String, String)>,
}

impl Request {
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            fields: Vec::new(),
            body: Body::None,
            trailers: Vec::new(),
        }
    }

    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    #[must_use]
    pub fn post(path: &str, body: impl Into<Bytes>) -> Self {
        Self { body: Body::Bytes(body.into()), ..Self::new("POST", path) }
    }

    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// A request trailer; the body then goes without a length.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As a browser asks for a page.
    #[must_use]
    pub fn navigation(self) -> Self {
        self.field("sec-fetch-mode", "navigate").field("accept", "text/html,*/*;q=0.8")
    }
}

/// A whole reply.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    /// Informational responses before it.
    pub early: Vec<(u16, Vec<(String, String)>)>,
    /// At most [`BODY_KEPT_BYTES`] of the body.
    pub body: Vec<u8>,
    /// Bytes of the body, kept or not.
    pub length: u64,
    pub trailers: Vec<(String, String)>,
}

impl Reply {
    /// The first field of that name, whatever its case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.fields, name)
    }

    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        field(&self.trailers, name)
    }

    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `Null` where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn take(&mut self, data: &[u8]) {
        self.length += data.len() as u64;
        let room = BODY_KEPT_BYTES.saturating_sub(self.body.len());
        self.body.extend_from_slice(&data[..data.len().min(room)]);
    }
}

pub(crate) fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let hit = fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
    hit.map(|(_, value)| value.as_str())
}
