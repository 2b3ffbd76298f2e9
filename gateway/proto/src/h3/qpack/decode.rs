//! The decoder: bounded while it decodes.

use bytes::Bytes;

use super::tables::entry;
use crate::h2::hpack::huffman;
use crate::h2::hpack::integer::{self, NoInteger};
use crate::h3::code::{Code, Fault};

/// What each field counts beyond its bytes (RFC 9114 section 4.2.2).
const FIELD_OVERHEAD: usize = 32;

/// What came of a field section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    Whole,
    /// The fields are larger than allowed; those beyond were not given out.
    TooLarge,
}

/// Decodes one field section; `sink` gets field after field, together at most `bytes_max`.
///
/// # Errors
/// Where it is malformed or refers to a dynamic table: the connection is over.
pub fn decode(
    section: &[u8],
    bytes_max: usize,
    mut sink: impl FnMut(Bytes, Bytes),
) -> Result<Decoded, Fault> {
    let mut rest = Rest(section);
    if rest.integer(8)? != 0 {
        return Err(fault("a field section waits for a dynamic table"));
    }
    // A base below zero (section 4.5.1.2).
    if rest.peek().is_some_and(|byte| byte >= 0x80) {
        return Err(fault("a field section's base is below zero"));
    }
    rest.integer(7)?;
    let (mut left, mut outcome) = (bytes_max, Decoded::Whole);
    while let Some(first) = rest.peek() {
        let (name, value) = rest.line(first)?;
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        match left.checked_sub(size) {
            Some(fewer) if outcome == Decoded::Whole => {
                left = fewer;
                sink(name, value);
            }
            _ => outcome = Decoded::TooLarge,
        }
    }
    Ok(outcome)
}

fn fault(why: &'static str) -> Fault {
    Fault::new(Code::QPACK_DECOMPRESSION_FAILED, why)
}

/// What is left of a section.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// One field line (section 4.5).
    fn line(&mut self, first: u8) -> Result<(Bytes, Bytes), Fault> {
        let unknown = || fault("an index beyond the static table");
        match first {
            0b1100_0000.. => {
                let (name, value) = entry(self.integer(6)?).ok_or_else(unknown)?;
                Ok((Bytes::from_static(name), Bytes::from_static(value)))
            }
            0b0101_0000..=0b0101_1111 | 0b0111_0000..=0b0111_1111 => {
                let (name, _) = entry(self.integer(4)?).ok_or_else(unknown)?;
                Ok((Bytes::from_static(name), self.string(7)?))
            }
            0b0010_0000..=0b0011_1111 => Ok((self.string(3)?, self.string(7)?)),
            _ => Err(fault("a reference to a dynamic table")),
        }
    }

    fn integer(&mut self, bits: u32) -> Result<usize, Fault> {
        integer::take(&mut self.0, bits).map_err(|why| match why {
            NoInteger::CutOff => fault("field section cut off"),
            NoInteger::TooLarge => fault("integer too large"),
        })
    }

    /// A string whose length has a prefix of `bits`; the bit before them says Huffman.
    fn string(&mut self, bits: u32) -> Result<Bytes, Fault> {
        let coded = self.peek().is_some_and(|byte| byte & (1 << bits) != 0);
        let length = self.integer(bits)?;
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| fault("string longer than its section"))?;
        self.0 = rest;
        if !coded {
            return Ok(Bytes::copy_from_slice(bytes));
        }
        let mut plain = Vec::new();
        if !huffman::decode(bytes, &mut plain) {
            return Err(fault("malformed huffman code"));
        }
        Ok(plain.into())
    }
}
