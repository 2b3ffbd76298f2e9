//! QUIC tunnels: HTTP/3 from clients (RFC 9000, RFC 9114), with QUIC datagrams (RFC 9297).
//!
//! 1. A datagram finds its worker: [`Ids`], or a new connection begins: [`QuicEndpoint`].
//! 2. The ClientHello says whose tunnel it is: `crypto`.
//! 3. The connection speaks HTTP/3: [`Http3`]; each request stream gives a [`Request`].
//! 4. The request is answered, and its stream carries bytes: [`QuicStream`], or datagrams:
//!    [`Datagrams`].

mod congestion;
mod crypto;
mod datagrams;
mod ending;
mod endpoint;
mod granted;
mod http3;
mod ids;
mod keys;
mod request;
mod shared;
mod stream;
mod unidirectional;

pub use crypto::{Chooser, ConfigOf, Seen};
pub use datagrams::Datagrams;
pub use ending::QuicEnding;
pub use endpoint::{QuicEndpoint, WINDOW_BYTES_MIN};
pub use gateway_proto::h3::Code;
pub use granted::Granted;
pub use http3::{Arriving, Http3, Owner};
pub use ids::{Generation, Ids, Route, destination};
pub use keys::QuicKeys;
pub use request::{Request, Responder, Rest};
pub use stream::QuicStream;
