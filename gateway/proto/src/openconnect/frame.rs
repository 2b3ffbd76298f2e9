//! Frames of the OpenConnect channels: CSTP inside TLS, and one type byte inside DTLS
//! (draft-mavrogiannopoulos-openconnect section 2).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The 8 bytes before each payload inside TLS.
pub const CSTP_HEADER_BYTES: usize = 8;
/// The byte before each payload inside DTLS.
pub const DTLS_HEADER_BYTES: usize = 1;
const MAGIC: [u8; 4] = [b'S', b'T', b'F', 1];

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One IP packet.
    Data,
    /// Asks whether the other side lives; the answer carries the same payload.
    DpdRequest,
    DpdResponse,
    Disconnect,
    KeepAlive,
    /// A compressed packet, which nobody was offered.
    Compressed,
    /// The server ends the session.
    Terminate,
}

impl Kind {
    #[must_use]
    pub fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Data,
            3 => Self::DpdRequest,
            4 => Self::DpdResponse,
            5 => Self::Disconnect,
            7 => Self::KeepAlive,
            8 => Self::Compressed,
            9 => Self::Terminate,
            _ => return None,
        })
    }

    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::DpdRequest => 3,
            Self::DpdResponse => 4,
            Self::Disconnect => 5,
            Self::KeepAlive => 7,
            Self::Compressed => 8,
            Self::Terminate => 9,
        }
    }
}

/// One frame of either channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub payload: Bytes,
}

/// Why bytes are no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FrameProblem {
    #[error("a frame does not begin with STF and version 1")]
    Magic,
    #[error("a frame of unknown type {0}")]
    Kind(u8),
    #[error("an empty datagram")]
    Empty,
}

/// Takes the next whole CSTP frame out of `buffer`; `None` asks for more bytes. A payload is at most
/// 65,535 bytes, so `buffer` need never hold more than that and a header.
///
/// # Errors
/// Where the bytes are no frame; the connection is then of no more use.
pub fn take_cstp(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameProblem> {
    let Some((header, _)) = buffer.split_first_chunk::<CSTP_HEADER_BYTES>() else {
        return Ok(None);
    };
    let [m0, m1, m2, m3, high, low, kind, _] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(FrameProblem::Magic);
    }
    let kind = Kind::of(kind).ok_or(FrameProblem::Kind(kind))?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if buffer.len() < CSTP_HEADER_BYTES + length {
        return Ok(None);
    }
    buffer.advance(CSTP_HEADER_BYTES);
    Ok(Some(Frame { kind, payload: buffer.split_to(length).freeze() }))
}

/// Writes one CSTP frame. `payload` is at most 65,535 bytes, as every IP packet is; what is longer is cut.
pub fn put_cstp(kind: Kind, payload: &[u8], out: &mut BytesMut) {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    out.reserve(CSTP_HEADER_BYTES + payload.len());
    out.put_slice(&MAGIC);
    out.put_u16(length);
    out.put_u8(kind.byte());
    out.put_u8(0);
    out.put_slice(payload.get(..usize::from(length)).unwrap_or(payload));
}

/// Reads the plaintext of one DTLS record.
///
/// # Errors
/// Where it is empty or of no known type.
pub fn read_dtls(mut plain: Bytes) -> Result<Frame, FrameProblem> {
    let byte = *plain.first().ok_or(FrameProblem::Empty)?;
    let kind = Kind::of(byte).ok_or(FrameProblem::Kind(byte))?;
    plain.advance(DTLS_HEADER_BYTES);
    Ok(Frame { kind, payload: plain })
}

/// Writes the plaintext of one DTLS record into `out`, which is emptied first.
pub fn put_dtls(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(kind.byte());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let mut wire = BytesMut::new();
        put_cstp(Kind::Data, b"packet", &mut wire);
        put_cstp(Kind::DpdRequest, b"", &mut wire);
        let wire = wire.freeze();
        for cut in 0..wire.len() {
            let mut buffer = BytesMut::from(wire.slice(..cut).as_ref());
            let mut frames = Vec::new();
            while let Ok(Some(frame)) = take_cstp(&mut buffer) {
                frames.push(frame);
            }
            buffer.extend_from_slice(&wire.slice(cut..));
            while let Ok(Some(frame)) = take_cstp(&mut buffer) {
                frames.push(frame);
            }
            let kinds: Vec<_> = frames.iter().map(|it| (it.kind, it.payload.as_ref())).collect();
            assert_eq!(kinds, [(Kind::Data, &b"packet"[..]), (Kind::DpdRequest, b"")], "{cut}");
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        let bad = |bytes: &[u8]| take_cstp(&mut BytesMut::from(bytes));
        assert_eq!(bad(b"GET / HT"), Err(FrameProblem::Magic));
        assert_eq!(bad(b"STF\x01\0\0\x06\0"), Err(FrameProblem::Kind(6)));
        assert_eq!(bad(b"STF\x01\0\x09\0\0short"), Ok(None));
        assert_eq!(read_dtls(Bytes::new()), Err(FrameProblem::Empty));
    }

    #[test]
    fn every_kind_has_its_byte() {
        for byte in 0..=u8::MAX {
            if let Some(kind) = Kind::of(byte) {
                assert_eq!(kind.byte(), byte);
            }
        }
    }
}
