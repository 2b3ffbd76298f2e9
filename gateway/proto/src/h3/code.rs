//! Error codes (RFC 9114 section 8.1, RFC 9204 section 6) and what is wrong with a peer's bytes.

use std::fmt;

/// An HTTP/3 error code as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

impl Code {
    pub const DATAGRAM_ERROR: Self = Self(0x33);
    pub const NO_ERROR: Self = Self(0x100);
    pub const GENERAL_PROTOCOL_ERROR: Self = Self(0x101);
    pub const INTERNAL_ERROR: Self = Self(0x102);
    pub const STREAM_CREATION_ERROR: Self = Self(0x103);
    pub const CLOSED_CRITICAL_STREAM: Self = Self(0x104);
    pub const FRAME_UNEXPECTED: Self = Self(0x105);
    pub const FRAME_ERROR: Self = Self(0x106);
    pub const EXCESSIVE_LOAD: Self = Self(0x107);
    pub const ID_ERROR: Self = Self(0x108);
    pub const SETTINGS_ERROR: Self = Self(0x109);
    pub const MISSING_SETTINGS: Self = Self(0x10a);
    pub const REQUEST_REJECTED: Self = Self(0x10b);
    pub const REQUEST_CANCELLED: Self = Self(0x10c);
    pub const REQUEST_INCOMPLETE: Self = Self(0x10d);
    pub const MESSAGE_ERROR: Self = Self(0x10e);
    pub const CONNECT_ERROR: Self = Self(0x10f);
    pub const QPACK_DECOMPRESSION_FAILED: Self = Self(0x200);
    pub const QPACK_ENCODER_STREAM_ERROR: Self = Self(0x201);
    pub const QPACK_DECODER_STREAM_ERROR: Self = Self(0x202);

    /// The registered name, or `unknown`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::DATAGRAM_ERROR => "datagram_error",
            Self::NO_ERROR => "no_error",
            Self::GENERAL_PROTOCOL_ERROR => "general_protocol_error",
            Self::INTERNAL_ERROR => "internal_error",
            Self::STREAM_CREATION_ERROR => "stream_creation_error",
            Self::CLOSED_CRITICAL_STREAM => "closed_critical_stream",
            Self::FRAME_UNEXPECTED => "frame_unexpected",
            Self::FRAME_ERROR => "frame_error",
            Self::EXCESSIVE_LOAD => "excessive_load",
            Self::ID_ERROR => "id_error",
            Self::SETTINGS_ERROR => "settings_error",
            Self::MISSING_SETTINGS => "missing_settings",
            Self::REQUEST_REJECTED => "request_rejected",
            Self::REQUEST_CANCELLED => "request_cancelled",
            Self::REQUEST_INCOMPLETE => "request_incomplete",
            Self::MESSAGE_ERROR => "message_error",
            Self::CONNECT_ERROR => "connect_error",
            Self::QPACK_DECOMPRESSION_FAILED => "qpack_decompression_failed",
            Self::QPACK_ENCODER_STREAM_ERROR => "qpack_encoder_stream_error",
            Self::QPACK_DECODER_STREAM_ERROR => "qpack_decoder_stream_error",
            _ => "unknown",
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}({:#x})", self.label(), self.0)
    }
}

/// A violation that ends the whole connection: the code to close with and what was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Fault {
    pub code: Code,
    /// One phrase for logs; never bytes of the peer.
    pub why: &'static str,
}

impl Fault {
    #[must_use]
    pub fn new(code: Code, why: &'static str) -> Self {
        Self { code, why }
    }
}
