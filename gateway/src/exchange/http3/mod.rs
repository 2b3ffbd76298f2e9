//! The client's side over HTTP/3: one QUIC stream is one exchange (RFC 9114).

mod connection;
mod head;
mod outgoing;
mod stream;

pub use connection::{Room, STREAMS_GRANTED, settings, transport};
pub use head::Unreadable;
pub use stream::Http3;
