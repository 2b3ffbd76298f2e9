//! Field compression (RFC 9204) with the static table only: no head waits for another stream, no
//! secret is ever in a table, and a connection costs no memory for it.

mod decode;
mod encode;
mod instructions;
mod tables;

pub use decode::{Decoded, decode};
pub use encode::{encode_field, encode_prefix, encode_status};
pub use instructions::{DecoderStream, EncoderStream};
