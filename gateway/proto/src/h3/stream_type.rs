//! What a unidirectional stream is for (RFC 9114 section 6.2, RFC 9204 section 4.2).

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use crate::capsule::read_varint;

/// The kinds that a server meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamType {
    Control,
    /// Only servers push.
    Push,
    QpackEncoder,
    QpackDecoder,
    /// To be read no further.
    Unknown,
}

impl StreamType {
    pub const CONTROL: u8 = 0x00;
    pub const QPACK_ENCODER: u8 = 0x02;
    pub const QPACK_DECODER: u8 = 0x03;
}

/// Reads the type off the stream's first bytes, however they are split.
#[derive(Debug, Default)]
pub struct StreamTypeReader(SmallVec<[u8; 8]>);

impl StreamTypeReader {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes off `chunk`; `None` when more are needed.
    pub fn next(&mut self, chunk: &mut Bytes) -> Option<StreamType> {
        while let Some(byte) = chunk.first().copied() {
            chunk.advance(1);
            self.0.push(byte);
            if let Some((kind, _)) = read_varint(&self.0) {
                return Some(match kind {
                    0 => StreamType::Control,
                    1 => StreamType::Push,
                    2 => StreamType::QpackEncoder,
                    3 => StreamType::QpackDecoder,
                    _ => StreamType::Unknown,
                });
            }
        }
        None
    }
}
