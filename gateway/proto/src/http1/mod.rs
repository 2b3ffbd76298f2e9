//! HTTP/1.0 and 1.1 messages (RFC 9112), strict on both sides: one reading or none.
//!
//! 1. [`HeadReader`] splits a head off the buffer, without copying its bytes.
//! 2. [`request_body`] or [`response_body`] says how the body is framed.
//! 3. [`BodyDecoder`] takes the body off the buffer, piece by piece, then the trailers.
//! 4. [`strip_hop_by_hop`] and [`frame`] make the fields fit for the next connection.
//! 5. [`write_request_head`], [`write_chunk_header`] and their like write it again.

mod body;
mod chunk;
mod encode;
mod error;
mod framing;
mod head;
mod hop;
mod line;

use std::fmt;

use bytes::Bytes;

use crate::fields::Fields;

pub use body::{BodyDecoder, Decoded, Truncated};
pub use encode::{
    CHUNK_END, write_chunk_header, write_last_chunk, write_request_head, write_response_head,
};
pub use error::Malformed;
pub use framing::{BodyLength, frame, request_body, response_body};
pub use head::{HeadReader, parse_request, parse_response};
pub use hop::{connection_lists, hop_by_hop, strip_hop_by_hop};
pub use line::is_token;

/// The two versions this codec speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    Http10,
    Http11,
}

impl Version {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// A request's head as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestHead {
    pub method: Bytes,
    /// The request target, unparsed: see [`crate::target::RequestTarget`].
    pub target: Bytes,
    pub version: Version,
    pub fields: Fields,
}

/// A response's head as it came; 1xx heads are parsed like any other.
#[derive(Clone, PartialEq, Eq)]
pub struct ResponseHead {
    pub version: Version,
    /// 100 to 999.
    pub status: u16,
    pub reason: Bytes,
    pub fields: Fields,
}

impl RequestHead {
    /// Whether the sender will go on with this connection (RFC 9112 section 9.3).
    #[must_use]
    pub fn persistent(&self) -> bool {
        persistent(self.version, &self.fields)
    }
}

impl ResponseHead {
    /// Whether the sender will go on with this connection, unless the body runs to its end.
    #[must_use]
    pub fn persistent(&self) -> bool {
        persistent(self.version, &self.fields)
    }

    /// Whether another head follows for the same request: 1xx other than 101.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// Whether a connection goes on after a message with this version and these fields.
#[must_use]
pub fn persistent(version: Version, fields: &Fields) -> bool {
    if connection_lists(fields, "close") {
        return false;
    }
    version == Version::Http11 || connection_lists(fields, "keep-alive")
}

// Targets and fields carry tokens and cookies: neither appears in logs by way of Debug.

impl fmt::Debug for RequestHead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RequestHead")
            .field("method", &self.method)
            .field("target_bytes", &self.target.len())
            .field("version", &self.version)
            .field("fields", &self.fields.len())
            .finish()
    }
}

impl fmt::Debug for ResponseHead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ResponseHead")
            .field("version", &self.version)
            .field("status", &self.status)
            .field("fields", &self.fields.len())
            .finish()
    }
}

/// What a head may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole head, its last empty line included.
    pub head_bytes: usize,
    pub fields: usize,
    pub target_bytes: usize,
    pub method_bytes: usize,
}

impl Limits {
    /// 96 KiB and 256 fields: sites with 64 KiB of cookies exist, beside them there is room for
    /// the rest, and fields of 100 KB do not pass (CASES H1-22); HTTP/2 header lists have the same
    /// bound. 32 KiB of target: the longest URL that any browser or CDN in use lets through. 32
    /// bytes of method: twice the longest registered one.
    pub const REQUEST: Self =
        Self { head_bytes: 96 << 10, fields: 256, target_bytes: 32 << 10, method_bytes: 32 };

    /// Chromium takes 256 KiB of response head; what it takes must pass.
    pub const RESPONSE: Self =
        Self { head_bytes: 256 << 10, fields: 1024, target_bytes: 0, method_bytes: 0 };
}

#[cfg(test)]
mod tests;
