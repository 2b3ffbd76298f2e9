//! Integers with a prefix of some bits (RFC 7541 section 5.1): HPACK's, and QPACK's too (RFC 9204
//! section 4.1.1).

use bytes::{BufMut, BytesMut};

/// Why there is no integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoInteger {
    CutOff,
    TooLarge,
}

/// Takes an integer with a prefix of `bits`, below 2^28 and some: no size or index that we accept is
/// larger.
pub(crate) fn take(input: &mut &[u8], bits: u32) -> Result<usize, NoInteger> {
    let mut byte = || {
        let (first, rest) = input.split_first().ok_or(NoInteger::CutOff)?;
        *input = rest;
        Ok(*first)
    };
    let mask = (1_usize << bits) - 1;
    let mut value = usize::from(byte()?) & mask;
    if value < mask {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = byte()?;
        value += usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(NoInteger::TooLarge)
}

/// Appends an integer; `flags` are the bits before its prefix.
#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
pub(crate) fn put(value: usize, bits: u32, flags: u8, out: &mut BytesMut) {
    let mask = (1_usize << bits) - 1;
    if value < mask {
        out.put_u8(flags | value as u8);
        return;
    }
    out.put_u8(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.put_u8(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}
