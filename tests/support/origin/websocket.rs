//! The origin's WebSocket echo (RFC 6455), and the frames a test client needs.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::{BoxStream, sha1};

const OPCODE_CLOSE: u8 = 8;

/// The 101 response to a handshake with this `Sec-WebSocket-Key`.
pub(super) fn reply(key: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {}\r\n\r\n",
        accept(key)
    )
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455 section 1.3).
#[must_use]
pub fn accept(key: &str) -> String {
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(sha1::digest(joined.as_bytes()))
}

/// Sends every message back until the peer closes.
pub(super) async fn echo(stream: &mut BoxStream, mut buffer: BytesMut) -> io::Result<()> {
    while let Some((opcode, payload)) = read_frame(stream, &mut buffer).await? {
        stream.write_all(&frame(opcode, &payload, None)).await?;
        stream.flush().await?;
        if opcode == OPCODE_CLOSE {
            stream.shutdown().await?;
            break;
        }
    }
    Ok(())
}

/// Reads one frame, unmasked; `None` at the end of the stream.
///
/// # Errors
/// Those of the stream.
pub async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Option<(u8, Vec<u8>)>> {
    loop {
        if let Some((head, length, mask)) = header(buffer)
            && buffer.len() >= head + length
        {
            let opcode = buffer[0] & 15;
            buffer.advance(head);
            let mut payload = buffer.split_to(length).to_vec();
            if let Some(mask) = mask {
                payload.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= mask[i % 4]);
            }
            return Ok(Some((opcode, payload)));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Header length, payload length and mask.
fn header(buffer: &[u8]) -> Option<(usize, usize, Option<[u8; 4]>)> {
    let second = *buffer.get(1)?;
    let (mut at, length) = match second & 127 {
        126 => (4, usize::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?))),
        127 => {
            let length = u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?);
            (10, usize::try_from(length).ok()?)
        }
        short => (2, usize::from(short)),
    };
    let mut mask = None;
    if second & 128 != 0 {
        mask = Some(buffer.get(at..at + 4)?.try_into().ok()?);
        at += 4;
    }
    Some((at, length, mask))
}

/// One final frame; clients must mask.
#[must_use]
pub fn frame(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 128 } else { 0 };
    let mut out = vec![128 | opcode];
    match payload.len() {
        short @ 0..126 => out.push(masked | short as u8),
        middle @ 126..65_536 => {
            out.push(masked | 126);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            out.push(masked | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| out.extend_from_slice(mask)).unwrap_or_default();
    out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
    out
}
