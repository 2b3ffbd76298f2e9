//! What can be wrong with an HTTP/1 message, and the status that says so.

/// Why a message is refused. After any of these the connection's framing is unknown: answer
/// with [`Malformed::status`] (or 502, when an origin sent it) and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    #[error("the head is longer than its bound")]
    HeadTooLarge,
    #[error("the head has more fields than its bound")]
    TooManyFields,
    #[error("the request target is longer than its bound")]
    TargetTooLong,
    #[error("the method is longer than its bound")]
    MethodTooLong,
    #[error("the request line is not `method SP target SP version`")]
    RequestLine,
    #[error("the method is not a token")]
    Method,
    #[error("the request target holds a character no URI has, or has no known form")]
    Target,
    #[error("the request target has a fragment")]
    Fragment,
    #[error("the version is not `HTTP/digit.digit`")]
    VersionSyntax,
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    VersionUnsupported,
    #[error("the status line is not `version SP three digits [SP reason]`")]
    StatusLine,
    #[error("a line ends in LF without CR")]
    BareLf,
    #[error("a CR stands without LF")]
    BareCr,
    #[error("a line holds a NUL or another control character")]
    ControlCharacter,
    #[error("a field is folded over lines")]
    ObsFold,
    #[error("a field line has no colon")]
    NoColon,
    #[error("a field name is empty or not a token")]
    FieldName,
    #[error("white space stands between a field name and its colon")]
    SpaceBeforeColon,
    #[error("an HTTP/1.1 request has no Host")]
    HostMissing,
    #[error("a request has more than one Host")]
    HostRepeated,
    #[error("the Host is not `host[:port]`")]
    HostInvalid,
    #[error("the Content-Length is not a decimal number below 2^64")]
    ContentLength,
    #[error("there are several Content-Length values")]
    ContentLengthRepeated,
    #[error("both Content-Length and Transfer-Encoding are present")]
    LengthAndEncoding,
    #[error("the Transfer-Encoding is not exactly `chunked`")]
    TransferEncoding,
    #[error("the Transfer-Encoding has a coding other than `chunked`")]
    TransferCodingUnknown,
    #[error("an HTTP/1.0 message has a Transfer-Encoding")]
    TransferEncodingVersion,
    #[error("a chunk size is not 1 to 16 hexadecimal digits and a line end")]
    ChunkSize,
    #[error("a chunk extension is malformed or too long")]
    ChunkExtension,
    #[error("a chunk's data does not end in CR LF")]
    ChunkEnd,
    #[error("the trailer section is longer than its bound")]
    TrailersTooLarge,
}

impl Malformed {
    /// A stable name for events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::TargetTooLong => "target_too_long",
            Self::MethodTooLong => "method_too_long",
            Self::RequestLine => "request_line",
            Self::Method => "method_invalid",
            Self::Target => "target_invalid",
            Self::Fragment => "target_fragment",
            Self::VersionSyntax => "version_syntax",
            Self::VersionUnsupported => "version_unsupported",
            Self::StatusLine => "status_line",
            Self::BareLf => "bare_lf",
            Self::BareCr => "bare_cr",
            Self::ControlCharacter => "control_character",
            Self::ObsFold => "obs_fold",
            Self::NoColon => "no_colon",
            Self::FieldName => "field_name",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::HostInvalid => "host_invalid",
            Self::ContentLength => "content_length",
            Self::ContentLengthRepeated => "content_length_repeated",
            Self::LengthAndEncoding => "length_and_encoding",
            Self::TransferEncoding => "transfer_encoding",
            Self::TransferCodingUnknown => "transfer_coding_unknown",
            Self::TransferEncodingVersion => "transfer_encoding_version",
            Self::ChunkSize => "chunk_size",
            Self::ChunkExtension => "chunk_extension",
            Self::ChunkEnd => "chunk_end",
            Self::TrailersTooLarge => "trailers_too_large",
        }
    }

    /// The status that answers a request malformed in this way.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => 431,
            Self::TargetTooLong => 414,
            Self::TransferCodingUnknown => 501,
            Self::VersionUnsupported => 505,
            Self::MethodTooLong
            | Self::RequestLine
            | Self::Method
            | Self::Target
            | Self::Fragment
            | Self::VersionSyntax
            | Self::StatusLine
            | Self::BareLf
            | Self::BareCr
            | Self::ControlCharacter
            | Self::ObsFold
            | Self::NoColon
            | Self::FieldName
            | Self::SpaceBeforeColon
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid
            | Self::ContentLength
            | Self::ContentLengthRepeated
            | Self::LengthAndEncoding
            | Self::TransferEncoding
            | Self::TransferEncodingVersion
            | Self::ChunkSize
            | Self::ChunkExtension
            | Self::ChunkEnd => 400,
        }
    }
}
