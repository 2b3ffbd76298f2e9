//! The peer's encoder and decoder streams (RFC 9204 sections 4.3 and 4.4). With a table of no
//! capacity nearly every instruction is a violation.

use crate::h3::code::{Code, Fault};

/// The peer's encoder stream: our table has no capacity, and it may say so again.
#[derive(Debug, Default)]
pub struct EncoderStream;

impl EncoderStream {
    /// Reads what came.
    ///
    /// # Errors
    /// Where it would put something into the table, or give it a size.
    pub fn read(&self, bytes: &[u8]) -> Result<(), Fault> {
        // Set Dynamic Table Capacity to zero.
        if bytes.iter().all(|byte| *byte == 0b0010_0000) {
            return Ok(());
        }
        let why = "an instruction for a dynamic table that has no capacity";
        Err(Fault::new(Code::QPACK_ENCODER_STREAM_ERROR, why))
    }
}

/// The peer's decoder stream: we insert nothing and refer to nothing, so only cancellations make
/// sense.
#[derive(Debug, Default)]
pub struct DecoderStream {
    /// Inside a Stream Cancellation's number; its bytes so far.
    number: usize,
}

/// A number has at most this many bytes: 62 bits, seven to a byte.
const NUMBER_BYTES_MAX: usize = 10;

impl DecoderStream {
    /// Reads what came.
    ///
    /// # Errors
    /// Where it acknowledges what was never sent.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let fault = |why| Err(Fault::new(Code::QPACK_DECODER_STREAM_ERROR, why));
        for byte in bytes {
            if self.number > 0 {
                self.number += 1;
                if self.number > NUMBER_BYTES_MAX {
                    return fault("a number without end");
                }
                if *byte < 0x80 {
                    self.number = 0;
                }
                continue;
            }
            match byte {
                0b0100_0000..=0b0111_1110 => {}
                0b0111_1111 => self.number = 1,
                _ => return fault("an acknowledgement of nothing"),
            }
        }
        Ok(())
    }
}
