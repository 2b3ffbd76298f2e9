//! The encoder: static names, literal values.

use bytes::{BufMut, BytesMut};

use super::tables::{static_entry, static_name};
use crate::h2::hpack::integer;

/// Fields that no intermediary may put into a table (RFC 9204 section 7.1.3).
const NEVER_INDEXED: [&[u8]; 4] =
    [b"set-cookie", b"authorization", b"proxy-authorization", b"cookie"];

/// Begins a field section: no dynamic entry is referred to (section 4.5.1).
pub fn encode_prefix(out: &mut BytesMut) {
    out.put_slice(&[0, 0]);
}

/// Appends `:status`.
pub fn encode_status(status: u16, out: &mut BytesMut) {
    let digit = |unit: u16| b'0'.wrapping_add(u8::try_from(status / unit % 10).unwrap_or(0));
    encode_field(b":status", &[digit(100), digit(10), digit(1)], out);
}

/// Appends a field; its name goes out in lower case (RFC 9114 section 4.2).
pub fn encode_field(name: &[u8], value: &[u8], out: &mut BytesMut) {
    let lower;
    let name = if name.iter().any(u8::is_ascii_uppercase) {
        lower = name.to_ascii_lowercase();
        lower.as_slice()
    } else {
        name
    };
    if let Some(index) = static_entry(name, value) {
        return integer::put(index, 6, 0b1100_0000, out);
    }
    let never = NEVER_INDEXED.contains(&name);
    match static_name(name) {
        Some(index) => integer::put(index, 4, 0b0101_0000 | u8::from(never) << 5, out),
        None => {
            integer::put(name.len(), 3, 0b0010_0000 | u8::from(never) << 4, out);
            out.put_slice(name);
        }
    }
    integer::put(value.len(), 7, 0, out);
    out.put_slice(value);
}
