//! Frames in (RFC 9113, sections 4 and 6): sizes, padding, header blocks put together.
//!
//! DATA is given out in parts as it arrives, so a reader never waits for a frame's end and never
//! copies; everything else comes whole.

use bytes::{Buf, Bytes, BytesMut};

use super::code::{Code, Fault};
use super::encode::{
    CONTINUATION, DATA, FLAG_ACK, FLAG_END_HEADERS, FLAG_END_STREAM, FLAG_PADDED, FLAG_PRIORITY,
    GOAWAY, HEAD_BYTES, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use super::settings::{FRAME_DEFAULT, Parameters};

/// What a client sends first (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// CONTINUATION frames per header block: a 64 KiB block fits five; the rest allows for clients
/// with small frames, and ends a flood (VU#421644).
const CONTINUATIONS_MAX: u32 = 24;

/// Room for compression's own overhead above the list bound, before a block is refused unread.
const BLOCK_SLACK: usize = 16 * 1024;

/// A frame, or a part of a DATA frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Data {
        stream: u32,
        /// Length that flow control counts, of the whole frame, padding included; in the first
        /// part, 0 in the others.
        flow: u32,
        /// Bytes of content in the whole frame; in the first part only.
        content: Option<u32>,
        part: Bytes,
        /// The stream ends with this part.
        end: bool,
    },
    Headers {
        stream: u32,
        block: Bytes,
        end: bool,
        /// It claims to depend on itself.
        circular: bool,
    },
    /// PRIORITY, and frames of types we do not know.
    Ignored,
    Reset {
        stream: u32,
        code: Code,
    },
    Settings(Parameters),
    SettingsAck,
    Ping {
        ack: bool,
        opaque: [u8; 8],
    },
    GoAway {
        code: Code,
    },
    /// `stream` 0 is the connection; `increment` is not 0.
    WindowUpdate {
        stream: u32,
        increment: u32,
    },
    /// A frame whose fault ends only its stream.
    Broken {
        stream: u32,
        fault: Fault,
    },
}

/// Takes a client's bytes apart.
#[derive(Debug)]
pub struct FrameReader {
    state: State,
    block: Option<Box<OpenBlock>>,
    block_max: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Preface,
    Head,
    /// Inside DATA: content left, padding after it.
    Data {
        stream: u32,
        left: u32,
        padding: u32,
        end: bool,
    },
    Skip {
        left: u32,
    },
}

/// A header block whose END_HEADERS has not come.
#[derive(Debug)]
struct OpenBlock {
    stream: u32,
    end: bool,
    circular: bool,
    bytes: BytesMut,
    continuations: u32,
}

#[derive(Clone, Copy)]
struct Head {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn parse(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl FrameReader {
    /// A reader for a connection's start, header lists bounded by `list_max` bytes.
    #[must_use]
    pub fn new(list_max: usize) -> Self {
        let block_max = list_max.saturating_add(BLOCK_SLACK);
        Self { state: State::Preface, block: None, block_max }
    }

    /// Takes the next frame or part off `buffer`; `None` where it needs more bytes.
    ///
    /// # Errors
    /// A fault that ends the connection.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Fault> {
        loop {
            match self.state {
                State::Preface => match preface(buffer)? {
                    true => self.state = State::Head,
                    false => return Ok(None),
                },
                State::Head => {
                    let Some(head) = buffer.first_chunk::<HEAD_BYTES>().map(Head::parse) else {
                        return Ok(None);
                    };
                    self.check(head)?;
                    if head.kind == DATA {
                        return self.data(head, buffer);
                    }
                    if head.kind > CONTINUATION {
                        buffer.advance(HEAD_BYTES);
                        self.state = State::Skip { left: head.length };
                        return Ok(Some(Frame::Ignored));
                    }
                    let whole = HEAD_BYTES.saturating_add(head.length as usize);
                    if buffer.len() < whole {
                        return Ok(None);
                    }
                    buffer.advance(HEAD_BYTES);
                    let payload = buffer.split_to(head.length as usize).freeze();
                    match self.whole(head, payload)? {
                        Some(frame) => return Ok(Some(frame)),
                        None => continue,
                    }
                }
                State::Data { stream, left, padding, end } => {
                    return Ok(self.part(buffer, stream, left, padding, end, (0, None)));
                }
                State::Skip { left } => {
                    let now = (left as usize).min(buffer.len());
                    buffer.advance(now);
                    let left = left.saturating_sub(size(now));
                    if left > 0 {
                        self.state = State::Skip { left };
                        return Ok(None);
                    }
                    self.state = State::Head;
                }
            }
        }
    }

    /// Rules that hold for a frame's head alone.
    fn check(&self, head: Head) -> Result<(), Fault> {
        if head.length > FRAME_DEFAULT {
            return Err(Fault::frame_size("frame larger than announced"));
        }
        match &self.block {
            Some(open) if head.kind != CONTINUATION || head.stream != open.stream => {
                Err(Fault::protocol("header block interrupted"))
            }
            None if head.kind == CONTINUATION => {
                Err(Fault::protocol("CONTINUATION without a header block"))
            }
            _ => Ok(()),
        }
    }

    fn data(&mut self, head: Head, buffer: &mut BytesMut) -> Result<Option<Frame>, Fault> {
        if head.stream == 0 {
            return Err(Fault::protocol("DATA on stream 0"));
        }
        let padded = head.has(FLAG_PADDED);
        let (content, padding) = if padded {
            if head.length == 0 {
                return Err(Fault::frame_size("padded DATA without a length"));
            }
            let Some(padding) = buffer.get(HEAD_BYTES).copied().map(u32::from) else {
                return Ok(None);
            };
            let content = (head.length - 1).checked_sub(padding);
            (content.ok_or_else(|| Fault::protocol("padding longer than the frame"))?, padding)
        } else {
            (head.length, 0)
        };
        buffer.advance(HEAD_BYTES + usize::from(padded));
        let whole = (head.length, Some(content));
        Ok(self.part(buffer, head.stream, content, padding, head.has(FLAG_END_STREAM), whole))
    }

    /// The next part of DATA, with what the frame's first part says (`whole`).
    fn part(
        &mut self,
        buffer: &mut BytesMut,
        stream: u32,
        left: u32,
        padding: u32,
        end: bool,
        (flow, content): (u32, Option<u32>),
    ) -> Option<Frame> {
        if buffer.is_empty() && left > 0 && content.is_none() {
            return None;
        }
        let part = buffer.split_to((left as usize).min(buffer.len())).freeze();
        let left = left.saturating_sub(size(part.len()));
        self.state = if left > 0 {
            State::Data { stream, left, padding, end }
        } else {
            State::Skip { left: padding }
        };
        Some(Frame::Data { stream, flow, content, part, end: end && left == 0 })
    }

    fn whole(&mut self, head: Head, payload: Bytes) -> Result<Option<Frame>, Fault> {
        match head.kind {
            HEADERS => self.headers(head, payload),
            CONTINUATION => self.continuation(head, &payload),
            PRIORITY => priority(head, &payload).map(Some),
            RST_STREAM => rst_stream(head, &payload).map(Some),
            SETTINGS => settings(head, &payload).map(Some),
            PING => ping(head, &payload).map(Some),
            GOAWAY => goaway(head, &payload).map(Some),
            WINDOW_UPDATE => window_update(head, &payload).map(Some),
            PUSH_PROMISE => Err(Fault::protocol("PUSH_PROMISE from a client")),
            _ => Ok(Some(Frame::Ignored)),
        }
    }

    fn headers(&mut self, head: Head, mut payload: Bytes) -> Result<Option<Frame>, Fault> {
        if head.stream == 0 {
            return Err(Fault::protocol("HEADERS on stream 0"));
        }
        if head.has(FLAG_PADDED) {
            let padding = payload.try_get_u8().map(usize::from);
            let padding = padding.map_err(|_| Fault::frame_size("padded HEADERS cut off"))?;
            let kept = payload.len().checked_sub(padding);
            payload.truncate(kept.ok_or_else(|| Fault::protocol("padding longer than the frame"))?);
        }
        let mut circular = false;
        if head.has(FLAG_PRIORITY) {
            let on = payload.try_get_u32().map(|on| on & 0x7fff_ffff);
            circular = on.map_err(|_| Fault::frame_size("priority cut off"))? == head.stream;
            payload.try_get_u8().map_err(|_| Fault::frame_size("priority cut off"))?;
        }
        let (stream, end) = (head.stream, head.has(FLAG_END_STREAM));
        if head.has(FLAG_END_HEADERS) {
            return Ok(Some(Frame::Headers { stream, block: payload, end, circular }));
        }
        let bytes = BytesMut::from(payload.as_ref());
        self.block = Some(Box::new(OpenBlock { stream, end, circular, bytes, continuations: 0 }));
        Ok(None)
    }

    fn continuation(&mut self, head: Head, payload: &[u8]) -> Result<Option<Frame>, Fault> {
        let Some(mut open) = self.block.take() else { return Ok(None) };
        open.continuations = open.continuations.saturating_add(1);
        let bytes = open.bytes.len().saturating_add(payload.len());
        if open.continuations > CONTINUATIONS_MAX || bytes > self.block_max {
            return Err(Fault::new(Code::ENHANCE_YOUR_CALM, "header block too long"));
        }
        open.bytes.extend_from_slice(payload);
        if !head.has(FLAG_END_HEADERS) {
            self.block = Some(open);
            return Ok(None);
        }
        let OpenBlock { stream, end, circular, bytes, .. } = *open;
        Ok(Some(Frame::Headers { stream, block: bytes.freeze(), end, circular }))
    }
}

/// Whether the preface has come whole.
fn preface(buffer: &mut BytesMut) -> Result<bool, Fault> {
    let length = PREFACE.len().min(buffer.len());
    if buffer.get(..length) != PREFACE.get(..length) {
        return Err(Fault::protocol("no HTTP/2 preface"));
    }
    if length < PREFACE.len() {
        return Ok(false);
    }
    buffer.advance(length);
    Ok(true)
}

fn priority(head: Head, payload: &[u8]) -> Result<Frame, Fault> {
    if head.stream == 0 {
        return Err(Fault::protocol("PRIORITY on stream 0"));
    }
    let stream = head.stream;
    let Some((on, [_weight])) = payload.split_first_chunk::<4>() else {
        let fault = Fault::frame_size("PRIORITY not of five bytes");
        return Ok(Frame::Broken { stream, fault });
    };
    if u32::from_be_bytes(*on) & 0x7fff_ffff == stream {
        let fault = Fault::protocol("a stream that depends on itself");
        return Ok(Frame::Broken { stream, fault });
    }
    Ok(Frame::Ignored)
}

fn rst_stream(head: Head, payload: &[u8]) -> Result<Frame, Fault> {
    let code = fixed::<4>(payload, "RST_STREAM not of four bytes")?;
    if head.stream == 0 {
        return Err(Fault::protocol("RST_STREAM on stream 0"));
    }
    Ok(Frame::Reset { stream: head.stream, code: Code(u32::from_be_bytes(code)) })
}

fn settings(head: Head, payload: &[u8]) -> Result<Frame, Fault> {
    if head.stream != 0 {
        return Err(Fault::protocol("SETTINGS on a stream"));
    }
    if !head.has(FLAG_ACK) {
        return Parameters::parse(payload).map(Frame::Settings);
    }
    fixed::<0>(payload, "SETTINGS acknowledgement with a payload")?;
    Ok(Frame::SettingsAck)
}

fn ping(head: Head, payload: &[u8]) -> Result<Frame, Fault> {
    if head.stream != 0 {
        return Err(Fault::protocol("PING on a stream"));
    }
    let opaque = fixed::<8>(payload, "PING not of eight bytes")?;
    Ok(Frame::Ping { ack: head.has(FLAG_ACK), opaque })
}

fn goaway(head: Head, payload: &[u8]) -> Result<Frame, Fault> {
    if head.stream != 0 {
        return Err(Fault::protocol("GOAWAY on a stream"));
    }
    let Some(([_, _, _, _, code @ ..], _debug)) = payload.split_first_chunk::<8>() else {
        return Err(Fault::frame_size("GOAWAY cut off"));
    };
    Ok(Frame::GoAway { code: Code(u32::from_be_bytes(*code)) })
}

fn window_update(head: Head, payload: &[u8]) -> Result<Frame, Fault> {
    let increment = fixed::<4>(payload, "WINDOW_UPDATE not of four bytes")?;
    let increment = u32::from_be_bytes(increment) & 0x7fff_ffff;
    let stream = head.stream;
    match (increment, stream) {
        (0, 0) => Err(Fault::protocol("window increment of 0")),
        (0, _) => Ok(Frame::Broken { stream, fault: Fault::protocol("window increment of 0") }),
        _ => Ok(Frame::WindowUpdate { stream, increment }),
    }
}

fn fixed<const N: usize>(payload: &[u8], why: &'static str) -> Result<[u8; N], Fault> {
    payload.try_into().map_err(|_| Fault::frame_size(why))
}

fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
