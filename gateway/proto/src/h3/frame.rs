//! Frames (RFC 9114 section 7): which may stand where, in which order, and how they are written.
//!
//! A request stream is: HEADERS, then DATA, then perhaps HEADERS (trailers); after CONNECT only
//! DATA (section 4.4). A control stream is: SETTINGS, then GOAWAY, MAX_PUSH_ID, CANCEL_PUSH.
//! Frames of unknown types are passed over anywhere.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::code::{Code, Fault};
use super::settings::Settings;
use crate::capsule::{read_varint, write_varint};

const DATA: u64 = 0x00;
const HEADERS: u64 = 0x01;
const CANCEL_PUSH: u64 = 0x03;
const SETTINGS: u64 = 0x04;
const PUSH_PROMISE: u64 = 0x05;
const GOAWAY: u64 = 0x07;
const MAX_PUSH_ID: u64 = 0x0d;

/// Room of a SETTINGS frame: 64 entries of two wide integers.
const SETTINGS_BYTES_MAX: u64 = 1024;
/// One integer.
const ID_BYTES_MAX: u64 = 8;
/// Unknown frames are passed over without being held, but not without end.
const SKIPPED_BYTES_MAX: u64 = 1 << 20;

/// What stands on a stream next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole encoded field section.
    Headers(Bytes),
    /// One that is longer than was allowed for; it has not been held.
    HeadersTooLarge,
    /// A part of a DATA frame's payload.
    Data(Bytes),
    Settings(Settings),
    Goaway(u64),
    MaxPushId(u64),
    CancelPush(u64),
}

/// Where a stream is in its order of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    RequestHead,
    RequestBody,
    RequestEnd,
    Tunnel,
    ControlStart,
    Control,
}

#[derive(Debug)]
enum Step {
    /// Between frames, or inside a frame's header.
    Header,
    Data {
        left: u64,
    },
    Skip {
        left: u64,
        headers: bool,
    },
    Whole {
        kind: u64,
        left: u64,
        bytes: BytesMut,
    },
}

/// Reads the frames of one stream. Holds at most one field section, or SETTINGS.
#[derive(Debug)]
pub struct FrameReader {
    place: Place,
    step: Step,
    header: SmallVec<[u8; 16]>,
    headers_bytes_max: u64,
    skipped: u64,
}

impl FrameReader {
    /// Of a request stream; field sections may have `headers_bytes_max`.
    #[must_use]
    pub fn request(headers_bytes_max: u64) -> Self {
        Self::new(Place::RequestHead, headers_bytes_max)
    }

    /// Of a client's control stream.
    #[must_use]
    pub fn control() -> Self {
        Self::new(Place::ControlStart, 0)
    }

    fn new(place: Place, headers_bytes_max: u64) -> Self {
        let header = SmallVec::new();
        Self { place, step: Step::Header, header, headers_bytes_max, skipped: 0 }
    }

    /// The request was CONNECT: from here on only DATA may come.
    pub fn tunnel(&mut self) {
        self.place = Place::Tunnel;
    }

    /// Takes bytes off `chunk`; `None` when more are needed.
    ///
    /// # Errors
    /// Where a frame is malformed or out of place: the connection is over.
    pub fn next(&mut self, chunk: &mut Bytes) -> Result<Option<Event>, Fault> {
        loop {
            match &mut self.step {
                Step::Header => {
                    let Some((kind, length)) = take_header(&mut self.header, chunk) else {
                        return Ok(None);
                    };
                    self.step = self.begin(kind, length)?;
                }
                Step::Data { left: 0 } => self.step = Step::Header,
                Step::Data { left } => {
                    let part = split_at_most(chunk, left);
                    return Ok((!part.is_empty()).then_some(Event::Data(part)));
                }
                Step::Skip { left: 0, headers } => {
                    let headers = *headers;
                    self.step = Step::Header;
                    if headers {
                        self.headed();
                        return Ok(Some(Event::HeadersTooLarge));
                    }
                }
                Step::Skip { left, .. } => {
                    if split_at_most(chunk, left).is_empty() {
                        return Ok(None);
                    }
                }
                Step::Whole { kind, left, bytes } => {
                    bytes.extend_from_slice(&split_at_most(chunk, left));
                    if *left > 0 {
                        return Ok(None);
                    }
                    let (kind, payload) = (*kind, std::mem::take(bytes).freeze());
                    self.step = Step::Header;
                    return self.whole(kind, payload).map(Some);
                }
            }
        }
    }

    /// Says that the stream ended.
    ///
    /// # Errors
    /// Where it ended inside a frame (section 7.1).
    pub fn finish(&self) -> Result<(), Fault> {
        let between =
            matches!(self.step, Step::Header | Step::Data { left: 0 }) && self.header.is_empty();
        if between { Ok(()) } else { Err(Fault::new(Code::FRAME_ERROR, "a frame is cut off")) }
    }

    /// A frame of this type and length begins.
    fn begin(&mut self, kind: u64, length: u64) -> Result<Step, Fault> {
        self.check_place(kind)?;
        let too_long = |most: u64, code| {
            if length > most {
                Err(Fault::new(code, "a control frame is too long"))
            } else {
                Ok(())
            }
        };
        match kind {
            DATA => return Ok(Step::Data { left: length }),
            HEADERS if length > self.headers_bytes_max => {
                return Ok(Step::Skip { left: length, headers: true });
            }
            HEADERS => {}
            SETTINGS => too_long(SETTINGS_BYTES_MAX, Code::EXCESSIVE_LOAD)?,
            GOAWAY | MAX_PUSH_ID | CANCEL_PUSH => too_long(ID_BYTES_MAX, Code::FRAME_ERROR)?,
            _ => {
                self.skipped = self.skipped.saturating_add(length);
                if self.skipped > SKIPPED_BYTES_MAX {
                    return Err(Fault::new(Code::EXCESSIVE_LOAD, "unknown frames without end"));
                }
                return Ok(Step::Skip { left: length, headers: false });
            }
        }
        Ok(Step::Whole { kind, left: length, bytes: BytesMut::new() })
    }

    fn check_place(&self, kind: u64) -> Result<(), Fault> {
        let fits = match kind {
            DATA => matches!(self.place, Place::RequestBody | Place::Tunnel),
            HEADERS => matches!(self.place, Place::RequestHead | Place::RequestBody),
            SETTINGS => self.place == Place::ControlStart,
            CANCEL_PUSH | GOAWAY | MAX_PUSH_ID => self.place == Place::Control,
            // HTTP/2's types are reserved (section 7.2.8); clients do not promise.
            PUSH_PROMISE | 0x02 | 0x06 | 0x08 | 0x09 => false,
            _ => self.place != Place::ControlStart,
        };
        if fits {
            return Ok(());
        }
        let code = match self.place {
            Place::ControlStart => Code::MISSING_SETTINGS,
            _ => Code::FRAME_UNEXPECTED,
        };
        Err(Fault::new(code, "a frame is out of place"))
    }

    /// A field section has been read.
    fn headed(&mut self) {
        self.place = match self.place {
            Place::RequestHead => Place::RequestBody,
            Place::RequestBody => Place::RequestEnd,
            other => other,
        };
    }

    fn whole(&mut self, kind: u64, payload: Bytes) -> Result<Event, Fault> {
        match kind {
            HEADERS => {
                self.headed();
                Ok(Event::Headers(payload))
            }
            SETTINGS => {
                self.place = Place::Control;
                Settings::parse(&payload).map(Event::Settings)
            }
            GOAWAY => id(&payload).map(Event::Goaway),
            MAX_PUSH_ID => id(&payload).map(Event::MaxPushId),
            _ => id(&payload).map(Event::CancelPush),
        }
    }
}

fn id(payload: &[u8]) -> Result<u64, Fault> {
    match read_varint(payload) {
        Some((id, width)) if width == payload.len() => Ok(id),
        _ => Err(Fault::new(Code::FRAME_ERROR, "a frame is not one integer")),
    }
}

/// Gathers a frame's type and length, once both are there.
fn take_header(header: &mut SmallVec<[u8; 16]>, chunk: &mut Bytes) -> Option<(u64, u64)> {
    while let Some(byte) = chunk.first().copied() {
        chunk.advance(1);
        header.push(byte);
        let parsed = read_varint(header).and_then(|(kind, width)| {
            read_varint(header.get(width..)?).map(|(length, _)| (kind, length))
        });
        if parsed.is_some() {
            header.clear();
            return parsed;
        }
    }
    None
}

fn split_at_most(chunk: &mut Bytes, left: &mut u64) -> Bytes {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.len());
    *left = left.saturating_sub(count as u64);
    chunk.split_to(count)
}

/// Appends the header of a DATA frame; `length` bytes follow.
pub fn put_data_header(length: u64, out: &mut BytesMut) {
    write_varint(DATA, out);
    write_varint(length, out);
}

/// Appends a HEADERS frame.
pub fn put_headers(section: &[u8], out: &mut BytesMut) {
    write_varint(HEADERS, out);
    write_varint(section.len() as u64, out);
    out.put_slice(section);
}

/// Appends a SETTINGS frame.
pub fn put_settings(settings: &Settings, out: &mut BytesMut) {
    let mut payload = BytesMut::new();
    settings.put(&mut payload);
    write_varint(SETTINGS, out);
    write_varint(payload.len() as u64, out);
    out.put_slice(&payload);
}

/// Appends a GOAWAY frame: requests from `id` on are not served.
pub fn put_goaway(id: u64, out: &mut BytesMut) {
    let mut payload = BytesMut::new();
    write_varint(id, &mut payload);
    write_varint(GOAWAY, out);
    write_varint(payload.len() as u64, out);
    out.put_slice(&payload);
}
