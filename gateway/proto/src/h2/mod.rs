//! HTTP/2 bytes (RFC 9113) and header compression (RFC 7541): frames in, frames out, no state
//! of streams.

pub mod code;

pub use code::{Code, Fault};
