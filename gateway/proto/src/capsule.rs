//! Capsules on a stream (RFC 9297 section 3.2) and the UDP payloads in them (RFC 9298 section 5).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The capsule that carries one HTTP Datagram.
pub const DATAGRAM: u64 = 0;

/// The context of plain UDP payloads (RFC 9298 section 4).
pub const CONTEXT_UDP: u64 = 0;

/// The longest UDP payload that CONNECT-UDP carries (RFC 9298 section 5).
pub const UDP_PAYLOAD_BYTES_MAX: usize = 65_527;

/// The longest datagram: such a payload and the widest context id.
pub const DATAGRAM_BYTES_MAX: usize = UDP_PAYLOAD_BYTES_MAX + VARINT_BYTES_MAX;

/// The widest variable-length integer (RFC 9000 section 16).
const VARINT_BYTES_MAX: usize = 8;

/// The largest number a variable-length integer holds.
const VARINT_MAX: u64 = (1 << 62) - 1;

/// Unknown capsules are skipped without being held, but not without end: this much of one is
/// more than any registered type has.
const SKIPPED_BYTES_MAX: u64 = 1 << 20;

/// Reads the capsules of one direction of one stream. Holds nothing itself; the buffer needs
/// room for one datagram.
#[derive(Debug, Default)]
pub struct CapsuleReader {
    /// Bytes to come of an unknown capsule.
    skipping: u64,
}

/// Why a capsule stream cannot go on. Each ends that stream only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CapsuleError {
    #[error("a datagram is longer than UDP carries")]
    DatagramTooLong,
    #[error("an unknown capsule is longer than 1 MiB")]
    CapsuleTooLong,
    #[error("the stream ended inside a capsule")]
    Truncated,
}

impl CapsuleError {
    /// A stable name for events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::DatagramTooLong => "datagram_too_long",
            Self::CapsuleTooLong => "capsule_too_long",
            Self::Truncated => "capsule_truncated",
        }
    }
}

impl CapsuleReader {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next HTTP Datagram off `buffer`, without copying; `None` when more bytes are
    /// needed. Capsules of other types are dropped (RFC 9297 section 3.2).
    ///
    /// # Errors
    /// Where a length is beyond its bound.
    pub fn datagram(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, CapsuleError> {
        loop {
            self.skip(buffer);
            if self.skipping > 0 {
                return Ok(None);
            }
            let Some((kind, length, header)) = read_header(buffer) else {
                return Ok(None);
            };
            if kind != DATAGRAM {
                if length > SKIPPED_BYTES_MAX {
                    return Err(CapsuleError::CapsuleTooLong);
                }
                buffer.advance(header);
                self.skipping = length;
                continue;
            }
            let length = usize::try_from(length)
                .ok()
                .filter(|length| *length <= DATAGRAM_BYTES_MAX)
                .ok_or(CapsuleError::DatagramTooLong)?;
            if buffer.len() - header < length {
                return Ok(None);
            }
            buffer.advance(header);
            return Ok(Some(buffer.split_to(length).freeze()));
        }
    }

    /// Says that the stream ended, with `left` the bytes not taken.
    ///
    /// # Errors
    /// Where it ended inside a capsule: the message is malformed (RFC 9297 section 3.3).
    pub fn finish(&self, left: &[u8]) -> Result<(), CapsuleError> {
        if left.is_empty() && self.skipping == 0 { Ok(()) } else { Err(CapsuleError::Truncated) }
    }

    fn skip(&mut self, buffer: &mut BytesMut) {
        let here = usize::try_from(self.skipping).unwrap_or(usize::MAX).min(buffer.len());
        buffer.advance(here);
        self.skipping = self.skipping.saturating_sub(here as u64);
    }
}

/// The UDP payload of an HTTP Datagram; `None` for other contexts, which are to be dropped, and
/// for what is no datagram at all (RFC 9298 section 5).
#[must_use]
pub fn udp_payload(datagram: &Bytes) -> Option<Bytes> {
    let (context, width) = read_varint(datagram)?;
    let payload = datagram.get(width..)?;
    let fits = context == CONTEXT_UDP && payload.len() <= UDP_PAYLOAD_BYTES_MAX;
    fits.then(|| datagram.slice_ref(payload))
}

/// Appends `payload` as a UDP datagram capsule. What no UDP datagram can hold is dropped.
pub fn write_udp(payload: &[u8], output: &mut BytesMut) {
    if payload.len() > UDP_PAYLOAD_BYTES_MAX {
        return;
    }
    output.reserve(2 * VARINT_BYTES_MAX + payload.len());
    write_varint(DATAGRAM, output);
    write_varint(payload.len() as u64 + 1, output);
    write_varint(CONTEXT_UDP, output);
    output.put_slice(payload);
}

/// Reads a variable-length integer: its value and width (RFC 9000 section 16).
#[must_use]
pub fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let width = 1_usize << (first >> 6);
    let rest = bytes.get(1..width)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, it| value << 8 | u64::from(*it));
    Some((value, width))
}

/// Appends a variable-length integer; what is beyond 2^62 - 1 is written as that.
pub fn write_varint(value: u64, output: &mut BytesMut) {
    let value = value.min(VARINT_MAX);
    let (prefix, width) = match value {
        0..=0x3f => (0_u64, 1),
        0x40..=0x3fff => (1, 2),
        0x4000..=0x3fff_ffff => (2, 4),
        _ => (3, VARINT_BYTES_MAX),
    };
    output.put_uint(value | prefix << (8 * width - 2), width);
}

/// The type, the length, and the width of both.
fn read_header(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (kind, kind_width) = read_varint(bytes)?;
    let (length, length_width) = read_varint(bytes.get(kind_width..)?)?;
    Some((kind, length, kind_width + length_width))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn varints_read_as_in_the_rfc() {
        // RFC 9000 appendix A.1.
        let cases: [(&[u8], u64); 5] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (bytes, value) in cases {
            assert_eq!(read_varint(bytes), Some((value, bytes.len())));
            assert_eq!(read_varint(bytes.get(..bytes.len() - 1).unwrap()), None);
        }
    }

    #[test]
    fn unknown_capsules_are_skipped_unheld() {
        let mut buffer = BytesMut::new();
        write_varint(0x1234_5678, &mut buffer);
        write_varint(100_000, &mut buffer);
        let mut reader = CapsuleReader::new();
        assert_eq!(reader.datagram(&mut buffer), Ok(None));
        for _ in 0..100 {
            assert_eq!(reader.finish(&buffer), Err(CapsuleError::Truncated));
            buffer.put_bytes(7, 1000);
            assert_eq!(reader.datagram(&mut buffer), Ok(None));
            assert!(buffer.is_empty());
        }
        assert_eq!(reader.finish(&buffer), Ok(()));
        write_udp(b"x", &mut buffer);
        let datagram = reader.datagram(&mut buffer).unwrap().unwrap();
        assert_eq!(udp_payload(&datagram).unwrap().as_ref(), b"x");
    }

    #[test]
    fn ta_19_lengths_that_lie_end_the_stream() {
        let capsule = |kind: u64, length: u64| {
            let mut buffer = BytesMut::new();
            write_varint(kind, &mut buffer);
            write_varint(length, &mut buffer);
            CapsuleReader::new().datagram(&mut buffer)
        };
        assert_eq!(capsule(0, 65_536), Err(CapsuleError::DatagramTooLong));
        assert_eq!(capsule(0, 65_535), Ok(None));
        assert_eq!(capsule(0, u64::MAX), Err(CapsuleError::DatagramTooLong));
        assert_eq!(capsule(9, u64::MAX), Err(CapsuleError::CapsuleTooLong));
    }

    #[test]
    fn other_contexts_are_no_udp_payload() {
        assert_eq!(udp_payload(&Bytes::from_static(&[2, b'x'])), None);
        assert_eq!(udp_payload(&Bytes::from_static(&[])), None);
        assert_eq!(udp_payload(&Bytes::from_static(&[0x40])), None);
        assert_eq!(udp_payload(&Bytes::from_static(&[0])), Some(Bytes::new()));
        let mut output = BytesMut::new();
        write_udp(&[0; UDP_PAYLOAD_BYTES_MAX + 1], &mut output);
        assert!(output.is_empty());
    }

    proptest! {
        #[test]
        fn datagrams_come_out_as_they_went_in(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            step in 1_usize..400,
        ) {
            let mut stream = BytesMut::new();
            for payload in &payloads {
                write_udp(payload, &mut stream);
            }
            let (mut reader, mut buffer) = (CapsuleReader::new(), BytesMut::new());
            let mut read = Vec::new();
            for piece in stream.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(datagram) = reader.datagram(&mut buffer).unwrap() {
                    read.push(udp_payload(&datagram).unwrap().to_vec());
                }
            }
            prop_assert_eq!(read, payloads);
            prop_assert_eq!(reader.finish(&buffer), Ok(()));
        }

        #[test]
        fn varints_read_back(value in 0_u64..1 << 62, shift in 0_u32..62) {
            let mut output = BytesMut::new();
            write_varint(value >> shift, &mut output);
            prop_assert_eq!(read_varint(&output), Some((value >> shift, output.len())));
        }
    }
}
