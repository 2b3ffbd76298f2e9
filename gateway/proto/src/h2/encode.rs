//! Frames out (RFC 9113, section 6).

use bytes::{BufMut, BytesMut};

use super::code::Code;
use super::settings::{FRAME_DEFAULT, Parameters};

/// Length of a frame's head, bytes.
pub const HEAD_BYTES: usize = 9;

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const PRIORITY: u8 = 0x2;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PUSH_PROMISE: u8 = 0x5;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const WINDOW_UPDATE: u8 = 0x8;
pub(super) const CONTINUATION: u8 = 0x9;

pub(super) const FLAG_ACK: u8 = 0x1;
pub(super) const FLAG_END_STREAM: u8 = 0x1;
pub(super) const FLAG_END_HEADERS: u8 = 0x4;
pub(super) const FLAG_PADDED: u8 = 0x8;
pub(super) const FLAG_PRIORITY: u8 = 0x20;

/// The head of a DATA frame whose `length` bytes follow.
pub fn data_head(stream: u32, length: u32, end: bool, out: &mut BytesMut) {
    head(length, DATA, if end { FLAG_END_STREAM } else { 0 }, stream, out);
}

/// HEADERS, and CONTINUATION where `block` is longer than any peer's smallest frame.
pub fn headers(stream: u32, block: &[u8], end: bool, out: &mut BytesMut) {
    let mut kind = HEADERS;
    let mut flags = if end { FLAG_END_STREAM } else { 0 };
    let mut rest = block;
    loop {
        let (now, later) = rest.split_at_checked(FRAME_DEFAULT as usize).unwrap_or((rest, &[]));
        if later.is_empty() {
            flags |= FLAG_END_HEADERS;
        }
        head(length(now.len()), kind, flags, stream, out);
        out.put_slice(now);
        if later.is_empty() {
            return;
        }
        (kind, flags, rest) = (CONTINUATION, 0, later);
    }
}

pub fn reset(stream: u32, code: Code, out: &mut BytesMut) {
    head(4, RST_STREAM, 0, stream, out);
    out.put_u32(code.0);
}

pub fn settings(parameters: &Parameters, out: &mut BytesMut) {
    let mut payload = BytesMut::new();
    parameters.put(&mut payload);
    head(length(payload.len()), SETTINGS, 0, 0, out);
    out.put_slice(&payload);
}

pub fn settings_ack(out: &mut BytesMut) {
    head(0, SETTINGS, FLAG_ACK, 0, out);
}

pub fn ping(ack: bool, opaque: [u8; 8], out: &mut BytesMut) {
    head(8, PING, if ack { FLAG_ACK } else { 0 }, 0, out);
    out.put_slice(&opaque);
}

pub fn goaway(last_stream: u32, code: Code, out: &mut BytesMut) {
    head(8, GOAWAY, 0, 0, out);
    out.put_u32(last_stream);
    out.put_u32(code.0);
}

/// `stream` 0 is the connection.
pub fn window_update(stream: u32, increment: u32, out: &mut BytesMut) {
    head(4, WINDOW_UPDATE, 0, stream, out);
    out.put_u32(increment);
}

fn head(length: u32, kind: u8, flags: u8, stream: u32, out: &mut BytesMut) {
    let [_, length @ ..] = length.to_be_bytes();
    out.put_slice(&length);
    out.put_slice(&[kind, flags]);
    out.put_u32(stream);
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
