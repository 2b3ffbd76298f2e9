//! Error codes (RFC 9113, section 7) and what is wrong with a peer's bytes.

use std::fmt;

/// An HTTP/2 error code as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

impl Code {
    pub const NO_ERROR: Self = Self(0x0);
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    pub const INTERNAL_ERROR: Self = Self(0x2);
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    pub const SETTINGS_TIMEOUT: Self = Self(0x4);
    pub const STREAM_CLOSED: Self = Self(0x5);
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    pub const REFUSED_STREAM: Self = Self(0x7);
    pub const CANCEL: Self = Self(0x8);
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    pub const CONNECT_ERROR: Self = Self(0xa);
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
    pub const INADEQUATE_SECURITY: Self = Self(0xc);
    pub const HTTP_1_1_REQUIRED: Self = Self(0xd);

    /// The registered name, or `unknown`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NO_ERROR => "no_error",
            Self::PROTOCOL_ERROR => "protocol_error",
            Self::INTERNAL_ERROR => "internal_error",
            Self::FLOW_CONTROL_ERROR => "flow_control_error",
            Self::SETTINGS_TIMEOUT => "settings_timeout",
            Self::STREAM_CLOSED => "stream_closed",
            Self::FRAME_SIZE_ERROR => "frame_size_error",
            Self::REFUSED_STREAM => "refused_stream",
            Self::CANCEL => "cancel",
            Self::COMPRESSION_ERROR => "compression_error",
            Self::CONNECT_ERROR => "connect_error",
            Self::ENHANCE_YOUR_CALM => "enhance_your_calm",
            Self::INADEQUATE_SECURITY => "inadequate_security",
            Self::HTTP_1_1_REQUIRED => "http_1_1_required",
            _ => "unknown",
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}({})", self.label(), self.0)
    }
}

/// A violation that ends the whole connection: the code for GOAWAY and what was wrong.
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

    #[must_use]
    pub(crate) fn protocol(why: &'static str) -> Self {
        Self::new(Code::PROTOCOL_ERROR, why)
    }

    #[must_use]
    pub(crate) fn frame_size(why: &'static str) -> Self {
        Self::new(Code::FRAME_SIZE_ERROR, why)
    }
}
