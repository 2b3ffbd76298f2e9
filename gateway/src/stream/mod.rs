//! Inner streams: what a client wants to reach, and the bytes to and from it.

mod io;
pub mod packet;

pub use io::{Io, Rewind};
