//! Header compression (RFC 7541): a decoder bounded while it decodes, and a stateless encoder.

mod codes;
mod decode;
mod encode;
pub(crate) mod huffman;
pub(crate) mod integer;
mod tables;
#[cfg(test)]
mod tests;

pub use decode::{Decoded, Decoder};
pub use encode::{encode_field, encode_status};
