//! The encoder: static names, literal values, no dynamic table. It has no state, so any stream
//! may encode its head without waiting for another, and no secret is ever in a table.

use bytes::{BufMut, BytesMut};

use super::integer;
use super::tables::static_index;

/// Static indices of `:status` values (RFC 7541, appendix A).
const STATUSES: [(u16, u8); 7] =
    [(200, 8), (204, 9), (206, 10), (304, 11), (400, 12), (404, 13), (500, 14)];

/// The static index of `:status` as a name.
const STATUS_NAME: u8 = 8;

/// Fields that no intermediary may put into a table (RFC 7541, section 7.1.3).
const NEVER_INDEXED: [&[u8]; 4] =
    [b"set-cookie", b"authorization", b"proxy-authorization", b"cookie"];

/// Appends `:status`.
pub fn encode_status(status: u16, out: &mut BytesMut) {
    if let Some((_, index)) = STATUSES.iter().find(|(known, _)| *known == status) {
        out.put_u8(0x80 | index);
        return;
    }
    let digit = |unit: u16| b'0'.wrapping_add(u8::try_from(status / unit % 10).unwrap_or(0));
    out.put_slice(&[STATUS_NAME, 3, digit(100), digit(10), digit(1)]);
}

/// Appends a field; its name goes out in lower case (RFC 9113, section 8.2).
pub fn encode_field(name: &[u8], value: &[u8], out: &mut BytesMut) {
    let lower;
    let name = if name.iter().any(u8::is_ascii_uppercase) {
        lower = name.to_ascii_lowercase();
        lower.as_slice()
    } else {
        name
    };
    let kind = if NEVER_INDEXED.contains(&name) { 0x10 } else { 0x00 };
    let index = static_index(name);
    integer::put(usize::from(index), 4, kind, out);
    if index == 0 {
        string(name, out);
    }
    string(value, out);
}

fn string(bytes: &[u8], out: &mut BytesMut) {
    integer::put(bytes.len(), 7, 0, out);
    out.put_slice(bytes);
}
