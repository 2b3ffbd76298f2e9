//! Inner streams: what a client wants to reach, and the bytes to and from it.

mod datagrams;
mod io;
pub mod packet;
pub mod quic;

pub use datagrams::{Datagrams, Outbox, Outgoing};
pub use io::{Io, Rewind};
