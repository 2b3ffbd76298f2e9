//! HTTP/1.1 body framing over a wire, the same for the client's side and the origin's.

use std::io;
use std::task::{Context, Poll, ready};

use gateway_proto::fields::Fields;
use gateway_proto::http1::{self, BodyDecoder, BodyLength, Decoded};
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{Frame, Length};
use super::wire::Wire;

/// The body being read.
pub(crate) struct Incoming {
    decoder: BodyDecoder,
    done: bool,
}

impl Incoming {
    pub(crate) fn new(length: BodyLength) -> Self {
        Self {
            decoder: BodyDecoder::new(length),
            done: matches!(length, BodyLength::None | BodyLength::Exact(0)),
        }
    }

    pub(crate) fn none() -> Self {
        Self::new(BodyLength::None)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Decodes the next piece from `wire`.
    pub(crate) fn poll_frame<Io: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<Io>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Frame>>> {
        if self.done {
            return Poll::Ready(Ok(None));
        }
        loop {
            let decoded = self
                .decoder
                .decode(&mut wire.read)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            match decoded {
                Decoded::Data(data) => {
                    // The announced length tells the end before it is asked for.
                    self.done = self.decoder.is_done();
                    return Poll::Ready(Ok(Some(Frame::Data(data))));
                }
                Decoded::Trailers(fields) => {
                    self.done = true;
                    return Poll::Ready(Ok(Some(Frame::Trailers(fields))));
                }
                Decoded::End => {
                    self.done = true;
                    return Poll::Ready(Ok(None));
                }
                Decoded::NeedMore => {
                    if ready!(wire.poll_fill(context))? == 0 {
                        self.decoder
                            .finish()
                            .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
                        self.done = true;
                        return Poll::Ready(Ok(None));
                    }
                }
            }
        }
    }
}

/// How the body being written is framed, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    None,
    Exact(u64),
    Chunked,
    UntilClose,
}

impl Outgoing {
    /// Queues one frame. More data than was announced is an error: it would be read as the next
    /// message.
    pub(crate) fn send<Io: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        frame: Frame,
        wire: &mut Wire<Io>,
    ) -> io::Result<()> {
        match (frame, &mut *self) {
            (Frame::Data(data), _) if data.is_empty() => {}
            // A HEAD or 304 whose origin sends a body anyway: dropped.
            (Frame::Data(_) | Frame::Trailers(_), Self::None) => {}
            (Frame::Data(data), Self::Exact(left)) => {
                *left = left
                    .checked_sub(data.len() as u64)
                    .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                wire.queue(data);
            }
            (Frame::Data(data), Self::Chunked) => {
                http1::write_chunk_header(data.len() as u64, wire.buffer());
                wire.queue_chunk(data);
            }
            (Frame::Data(data), Self::UntilClose) => wire.queue(data),
            (Frame::Trailers(fields), Self::Chunked) => {
                write_end(&fields, wire)?;
                *self = Self::None;
            }
            // Only chunked framing carries trailers.
            (Frame::Trailers(_), Self::Exact(_) | Self::UntilClose) => {}
        }
        Ok(())
    }

    /// Queues the end of the body; less data than announced is an error.
    pub(crate) fn end<Io: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<Io>,
    ) -> io::Result<()> {
        let ended = std::mem::replace(self, Self::None);
        match ended {
            Self::Chunked => write_end(&Fields::new(), wire)?,
            Self::Exact(left) if left > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
        Ok(())
    }
}

fn write_end<Io: AsyncRead + AsyncWrite + Unpin>(
    trailers: &Fields,
    wire: &mut Wire<Io>,
) -> io::Result<()> {
    http1::write_last_chunk(trailers, wire.buffer())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

pub(crate) fn length_of(length: BodyLength) -> Length {
    match length {
        BodyLength::None => Length::None,
        BodyLength::Exact(count) => Length::Exact(count),
        BodyLength::Chunked => Length::Framed,
        BodyLength::UntilClose => Length::UntilClose,
    }
}
