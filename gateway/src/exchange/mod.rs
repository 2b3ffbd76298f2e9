//! Exchanges: each HTTP request, whatever its version, as one canonical request and response.

mod body;
mod canonical;
mod coding;
pub(crate) mod framing;
pub mod http1;
pub mod http2;
mod http2_io;
pub mod http3;
pub mod muxed;
mod wire;

pub use body::{Frame, Length, Sink, Source};
pub use canonical::{Request, Response, Scheme, Version, WEBSOCKET};
pub use coding::Coding;
pub use http2_io::Http2Io;
pub use wire::Wire;
