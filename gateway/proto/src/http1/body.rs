//! Takes a body off a buffer as its framing says, without copying it.

use bytes::{Bytes, BytesMut};

use crate::fields::Fields;

use super::chunk::ChunkReader;
use super::{BodyLength, Malformed};

/// Reads one body. Feed the same buffer until [`Decoded::End`]; what is left then belongs to the
/// next message. At the end of the connection call [`BodyDecoder::finish`].
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
}

/// One step of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The next bytes of content, never empty.
    Data(Bytes),
    /// The trailers, not empty; [`Decoded::End`] follows.
    Trailers(Box<Fields>),
    /// The body is complete. Further calls say so again and take nothing.
    End,
    /// The buffer is spent and the body goes on.
    NeedMore,
}

/// The connection ended inside a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection ended before the body did")]
pub struct Truncated;

impl Truncated {
    /// A stable name for events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        "body_truncated"
    }
}

impl BodyDecoder {
    #[must_use]
    pub fn new(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::None => State::Done,
            BodyLength::Exact(bytes) => State::Exact(bytes),
            BodyLength::Chunked => State::Chunked(ChunkReader::default()),
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Takes the next piece off the front of `buffer`.
    ///
    /// # Errors
    /// Where the chunked coding is malformed; nothing after that can be trusted.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Malformed> {
        match &mut self.state {
            State::Done | State::Exact(0) => {
                self.state = State::Done;
                Ok(Decoded::End)
            }
            State::Exact(_) | State::UntilClose if buffer.is_empty() => Ok(Decoded::NeedMore),
            State::Exact(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left = left.saturating_sub(here as u64);
                Ok(Decoded::Data(buffer.split_to(here).freeze()))
            }
            State::UntilClose => Ok(Decoded::Data(buffer.split().freeze())),
            State::Chunked(chunks) => {
                let decoded = chunks.decode(buffer)?;
                if decoded == Decoded::End {
                    self.state = State::Done;
                }
                Ok(decoded)
            }
        }
    }

    /// Says that the connection ended in order, with the buffer spent.
    ///
    /// # Errors
    /// Where the body was not complete: the receiver must learn that, never see a clean end.
    pub fn finish(&mut self) -> Result<(), Truncated> {
        match self.state {
            State::Done | State::Exact(0) | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Exact(_) | State::Chunked(_) => Err(Truncated),
        }
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done | State::Exact(0))
    }

    /// Bytes still to come, where the framing tells.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Exact(left) => Some(left),
            State::Chunked(_) | State::UntilClose => None,
        }
    }
}

#[derive(Debug)]
enum State {
    Exact(u64),
    Chunked(ChunkReader),
    UntilClose,
    Done,
}
