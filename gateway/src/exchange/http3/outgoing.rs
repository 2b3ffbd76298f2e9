//! The sending half of a request's stream.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use gateway_proto::fields::Fields;
use gateway_proto::h3::qpack::{encode_field, encode_prefix, encode_status};
use gateway_proto::h3::{Code, put_data_header, put_headers};
use quinn::{SendStream, VarInt};

use crate::exchange::{Frame, Length};

/// See the module. Dropped before its end, the stream is reset: the client sees a truncation.
pub(super) struct Outgoing {
    stream: SendStream,
    /// Frames, or the header of one whose payload is `data`.
    frames: BytesMut,
    data: Bytes,
    /// Bytes still announced by `content-length`.
    left: Option<u64>,
    /// No frame follows.
    ending: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Finished,
    Reset,
}

impl Outgoing {
    pub(super) fn new(stream: SendStream) -> Self {
        let (frames, data) = (BytesMut::new(), Bytes::new());
        Self { stream, frames, data, left: None, ending: false, state: State::Open }
    }

    pub(super) fn stream(&self) -> &SendStream {
        &self.stream
    }

    pub(super) fn head(&mut self, status: u16, fields: &Fields) {
        let mut section = BytesMut::new();
        encode_prefix(&mut section);
        encode_status(status, &mut section);
        put_fields(fields, &mut section);
        put_headers(&section, &mut self.frames);
    }

    /// What follows the final head; `bodiless` where it was all.
    pub(super) fn begin(&mut self, length: Length, bodiless: bool) {
        self.ending = bodiless;
        self.left = match length {
            Length::Exact(count) if !bodiless => Some(count),
            _ => None,
        };
    }

    /// Hands to the stream what waits; ready when nothing does.
    pub(super) fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.state == State::Open {
            let piece: &[u8] = if self.frames.is_empty() { &self.data } else { &self.frames };
            if piece.is_empty() {
                if self.ending {
                    self.state = State::Finished;
                    self.stream.finish()?;
                }
                break;
            }
            let written = ready!(std::pin::Pin::new(&mut self.stream).poll_write(context, piece))?;
            if self.frames.is_empty() {
                self.data.advance(written);
            } else {
                self.frames.advance(written);
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn send(&mut self, frame: Frame) -> io::Result<()> {
        if self.ending {
            return Ok(());
        }
        match frame {
            Frame::Data(data) => {
                let length = data.len() as u64;
                if let Some(left) = &mut self.left {
                    *left = left
                        .checked_sub(length)
                        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                }
                if length > 0 {
                    put_data_header(length, &mut self.frames);
                    self.data = data;
                }
            }
            Frame::Trailers(fields) => {
                let mut section = BytesMut::new();
                encode_prefix(&mut section);
                put_fields(&fields, &mut section);
                put_headers(&section, &mut self.frames);
                self.ending = true;
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.left.is_some_and(|left| left > 0) && !self.ending {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.ending = true;
        Ok(())
    }

    /// Ends the stream with an error, if it has not ended.
    pub(super) fn reset(&mut self, code: Code) {
        if self.state == State::Open {
            self.state = State::Reset;
            // The connection may be gone.
            drop(self.stream.reset(VarInt::from_u32(code.0)));
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state == State::Finished
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // By itself it would end as if all had been said.
        self.reset(Code::INTERNAL_ERROR);
    }
}

/// Fields whose names or values HTTP/3 cannot carry are left out.
fn put_fields(fields: &Fields, section: &mut BytesMut) {
    for field in fields.iter() {
        let clean = !field.name.is_empty()
            && !field.name.contains(&b':')
            && memchr::memchr3(b'\r', b'\n', 0, &field.value).is_none();
        if clean {
            encode_field(&field.name, &field.value, section);
        }
    }
}
