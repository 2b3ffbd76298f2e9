//! A request's head: from the first frame of its stream to the canonical request.

use bytes::Bytes;
use gateway_proto::h3::qpack::{Decoded, decode};
use gateway_proto::h3::{Code, Fault, HeadBuilder, Malformed, RequestHead};
use gateway_proto::target::Authority;

use crate::exchange::http2::HEADER_LIST_BYTES_MAX;
use crate::exchange::{Length, Request, Scheme, Version, WEBSOCKET};

/// Why a stream is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("malformed head: {0}")]
    Malformed(Malformed),
    #[error("`:authority` is missing or is not one host")]
    Authority,
    #[error("the fields are too large")]
    TooLarge,
    #[error("the head does not come in time")]
    Slow,
    /// The client or its connection went away; there is nothing to say of it.
    #[error("the stream ended before its head")]
    Gone,
}

impl Unreadable {
    /// A stable name for events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed(malformed) => malformed.label(),
            Self::Authority => "bad_authority",
            Self::TooLarge => "head_too_large",
            Self::Slow => "head_timeout",
            Self::Gone => "client_gone",
        }
    }

    /// The status that says it, where it is said by a response.
    pub(super) fn status(self) -> Option<u16> {
        match self {
            Self::TooLarge => Some(431),
            Self::Authority => Some(400),
            Self::Slow => Some(408),
            Self::Malformed(_) | Self::Gone => None,
        }
    }

    /// The code that says it else.
    pub(super) fn code(self) -> Code {
        match self {
            Self::Malformed(_) => Code::MESSAGE_ERROR,
            _ => Code::REQUEST_INCOMPLETE,
        }
    }
}

/// Why there is no head: for the connection, or for the stream.
pub(super) enum HeadFault {
    Connection(Fault),
    Stream(Unreadable),
}

/// Takes a field section apart.
pub(super) fn read(section: &[u8]) -> Result<RequestHead, HeadFault> {
    let mut builder = HeadBuilder::default();
    let room = HEADER_LIST_BYTES_MAX as usize;
    let decoded = decode(section, room, |name, value| builder.field(name, value));
    match decoded {
        Err(fault) => Err(HeadFault::Connection(fault)),
        Ok(Decoded::TooLarge) => Err(HeadFault::Stream(Unreadable::TooLarge)),
        Ok(Decoded::Whole) => {
            builder.finish().map_err(|it| HeadFault::Stream(Unreadable::Malformed(it)))
        }
    }
}

/// The canonical request. Whether a body without announced length follows shows later.
pub(super) fn canonical(
    head: RequestHead,
    scheme: Scheme,
    port: u16,
) -> Result<Request, Unreadable> {
    let authority = Authority::parse(&head.authority).map_err(|_| Unreadable::Authority)?;
    let mut fields = head.fields;
    fields.remove("host");
    let upgrade = head.protocol.map(|protocol| {
        if protocol.eq_ignore_ascii_case(&WEBSOCKET) { WEBSOCKET } else { protocol }
    });
    let is_connect = head.method.as_ref() == b"CONNECT";
    let expects_continue =
        fields.text("expect").is_some_and(|it| it.eq_ignore_ascii_case("100-continue"));
    Ok(Request {
        version: Version::Http3,
        method: head.method,
        scheme,
        port: authority.port_or(port),
        host: authority.host,
        target: if head.path.is_empty() { Bytes::from_static(b"/") } else { head.path },
        fields,
        body: match head.content_length {
            _ if is_connect => Length::None,
            Some(length) => Length::Exact(length),
            None => Length::Framed,
        },
        upgrade,
        expects_continue,
    })
}
