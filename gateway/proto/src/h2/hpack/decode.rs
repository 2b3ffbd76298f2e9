//! The decoder: one header block to fields, its list bounded while it is decoded.

use bytes::Bytes;

use super::huffman;
use super::integer::{self, NoInteger};
use super::tables::{ENTRY_OVERHEAD, Table};
use crate::h2::code::{Code, Fault};

/// Size updates that may stand before a block's first field (RFC 7541, section 4.2: the smallest
/// and the final size).
const SIZE_UPDATES_MAX: u32 = 2;

/// Bytes of scratch kept between blocks, so that an idle connection holds little.
const SCRATCH_KEPT: usize = 1024;

/// How a block's list ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    Whole,
    /// The list went over its bound; no field after that point was given out, and the dynamic
    /// table is in step with the peer's nevertheless.
    TooLarge,
}

/// A decoder with its dynamic table; one per connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    scratch: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    #[must_use]
    pub fn new() -> Self {
        Self { table: Table::new(), scratch: Vec::new() }
    }

    /// Decodes a whole `block`, giving each field to `sink` until the list is larger than
    /// `list_max` bytes (counted as RFC 9113 section 6.5.2 does).
    ///
    /// # Errors
    /// `COMPRESSION_ERROR` where the block is malformed; the connection cannot go on.
    pub fn decode(
        &mut self,
        block: &[u8],
        list_max: usize,
        mut sink: impl FnMut(Bytes, Bytes),
    ) -> Result<Decoded, Fault> {
        let mut rest = Rest(block);
        let mut left = list_max;
        let mut outcome = Decoded::Whole;
        let mut updates_left = SIZE_UPDATES_MAX;
        while let Some(first) = rest.peek() {
            let (name, value) = match first {
                0x80.. => {
                    let index = rest.integer(7)?;
                    self.table.entry(index).ok_or_else(|| fault("index beyond the tables"))?
                }
                0x40..0x80 => {
                    let (name, value) = self.literal(&mut rest, 6)?;
                    self.table.insert(name.clone(), value.clone());
                    (name, value)
                }
                0x20..0x40 => {
                    updates_left = updates_left
                        .checked_sub(1)
                        .ok_or_else(|| fault("size update out of place"))?;
                    let size = rest.integer(5)?;
                    if !self.table.resize(size) {
                        return Err(fault("table size above what was announced"));
                    }
                    if rest.peek().is_none() {
                        return Err(fault("size update at the end of a block"));
                    }
                    continue;
                }
                _ if outcome == Decoded::TooLarge => {
                    rest.skip_literal()?;
                    continue;
                }
                _ => self.literal(&mut rest, 4)?,
            };
            updates_left = 0;
            let size = name.len().saturating_add(value.len()).saturating_add(ENTRY_OVERHEAD);
            match left.checked_sub(size) {
                Some(fewer) if outcome == Decoded::Whole => {
                    left = fewer;
                    sink(name, value);
                }
                _ => outcome = Decoded::TooLarge,
            }
        }
        if self.scratch.capacity() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
        Ok(outcome)
    }

    fn literal(&mut self, rest: &mut Rest<'_>, prefix: u32) -> Result<(Bytes, Bytes), Fault> {
        let name = match rest.integer(prefix)? {
            0 => self.string(rest)?,
            index => self.table.entry(index).ok_or_else(|| fault("index beyond the tables"))?.0,
        };
        Ok((name, self.string(rest)?))
    }

    fn string(&mut self, rest: &mut Rest<'_>) -> Result<Bytes, Fault> {
        let (coded, bytes) = rest.string()?;
        if !coded {
            return Ok(Bytes::copy_from_slice(bytes));
        }
        self.scratch.clear();
        if !huffman::decode(bytes, &mut self.scratch) {
            return Err(fault("malformed huffman code"));
        }
        Ok(Bytes::copy_from_slice(&self.scratch))
    }
}

fn fault(why: &'static str) -> Fault {
    Fault::new(Code::COMPRESSION_ERROR, why)
}

/// What is left of a block.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn integer(&mut self, bits: u32) -> Result<usize, Fault> {
        integer::take(&mut self.0, bits).map_err(|why| match why {
            NoInteger::CutOff => fault("header block cut off"),
            NoInteger::TooLarge => fault("integer too large"),
        })
    }

    /// A string's bytes, and whether they are Huffman-coded.
    fn string(&mut self) -> Result<(bool, &'a [u8]), Fault> {
        let coded = self.peek().is_some_and(|byte| byte >= 0x80);
        let length = self.integer(7)?;
        let (bytes, rest) =
            self.0.split_at_checked(length).ok_or_else(|| fault("string longer than its block"))?;
        self.0 = rest;
        Ok((coded, bytes))
    }

    /// Passes over a literal that is neither stored nor given out.
    fn skip_literal(&mut self) -> Result<(), Fault> {
        if self.integer(4)? == 0 {
            self.string()?;
        }
        self.string().map(|_| ())
    }
}
