//! What flows through an exchange after its head: frames, and who gives and takes them.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use gateway_proto::fields::Fields;

/// One piece of a body. Cheap to clone: data is shared.
#[derive(Clone, Debug)]
pub enum Frame {
    Data(Bytes),
    /// Ends the body. Boxed: they are rare, and data is what a queue is full of.
    Trailers(Box<Fields>),
}

/// Gives a body piece by piece.
pub trait Source {
    /// The next piece; `None` at the clean end of the body. A body that stops early is an error,
    /// never an end.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>>;

    /// Whether the body is known to have ended without asking for a further piece. Lets the last
    /// piece carry the end of an HTTP/2 stream; `false` is always a right answer.
    fn is_ended(&self) -> bool {
        false
    }
}

/// Takes a body piece by piece. Holds at most one piece beside what its transport buffers.
pub trait Sink {
    /// Ready when the sink can take one more frame.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes one frame; only after `poll_ready` said so.
    fn send(&mut self, frame: Frame) -> io::Result<()>;

    /// Says that no frame follows (idempotent; a no-op after trailers).
    fn end(&mut self) -> io::Result<()>;

    /// Ready when all that was taken has been handed to the transport.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// How a body ends, as its head announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// No body follows the head.
    None,
    Exact(u64),
    /// Framed by the protocol (chunked, END_STREAM): the length is not known ahead.
    Framed,
    /// HTTP/1.0 style: the connection's end ends the body.
    UntilClose,
}

impl Length {
    #[must_use]
    pub fn is_none(self) -> bool {
        matches!(self, Self::None | Self::Exact(0))
    }
}
