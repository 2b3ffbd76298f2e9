//! What a UDP datagram is, told from its first byte (RFC 9443 section 3) and its port.

/// The kind of a datagram that opens a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Datagram {
    /// A QUIC packet with a long header (RFC 9000 section 17.2).
    QuicLong,
    /// Where a QUIC connection is known: a short header. TURN channels share part of the range.
    QuicShort,
    Dtls,
    Stun,
    /// A DNS query on port 53.
    Dns,
    Other,
}

/// Bytes of a DNS header (RFC 1035 section 4.1.1).
const DNS_HEADER_BYTES: usize = 12;

/// Tells what `datagram`, sent to `port`, is.
#[must_use]
pub fn classify(datagram: &[u8], port: u16) -> Datagram {
    // Any first byte can begin a DNS query: its id is random. So the port goes first.
    if port == 53 && is_dns_query(datagram) {
        return Datagram::Dns;
    }
    match datagram.first() {
        Some(0..=3) if is_stun(datagram) => Datagram::Stun,
        Some(20..=63) => Datagram::Dtls,
        Some(64..=127) => Datagram::QuicShort,
        Some(128..=255) if is_quic_long(datagram) => Datagram::QuicLong,
        _ => Datagram::Other,
    }
}

/// A query with at least one question and a plausible opcode.
fn is_dns_query(datagram: &[u8]) -> bool {
    let Some((header, _)) = datagram.split_first_chunk::<DNS_HEADER_BYTES>() else {
        return false;
    };
    let [_, _, flags, _, questions_high, questions_low, ..] = header;
    flags & 0xf8 == 0 && (*questions_high, *questions_low) != (0, 0)
}

/// The magic cookie tells STUN from whatever else begins with a zero (RFC 8489 section 5).
fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram, [_, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..])
}

/// Long form and a version. RTP shares the range, but not in both bits and all versions.
fn is_quic_long(datagram: &[u8]) -> bool {
    let [first, version @ ..] = datagram else {
        return false;
    };
    let Some((version, _)) = version.split_first_chunk::<4>() else {
        return false;
    };
    let version = u32::from_be_bytes(*version);
    let fixed_bit = first & 0x40 != 0;
    let known = matches!(version, 1 | 0x6b33_43cf) || version >> 8 == 0x00ff_0000;
    let greased = version & 0x0f0f_0f0f == 0x0a0a_0a0a;
    // A negotiation packet has version 0 and may clear the fixed bit (RFC 9000 section 17.2.1).
    version == 0 || (fixed_bit && (known || greased))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_apart() {
        let cases: [(&[u8], u16, Datagram); 10] = [
            (&[0xc3, 0, 0, 0, 1, 8], 443, Datagram::QuicLong),
            (&[0xc3, 0x6b, 0x33, 0x43, 0xcf, 8], 443, Datagram::QuicLong),
            (&[0x80, 0, 0, 0, 0, 8], 443, Datagram::QuicLong),
            (&[0x80, 0x60, 0, 1, 0, 8], 5004, Datagram::Other),
            (&[0x45, 1, 2, 3], 443, Datagram::QuicShort),
            (&[22, 0xfe, 0xfd, 0], 443, Datagram::Dtls),
            (&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42], 3478, Datagram::Stun),
            (&[22, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], 53, Datagram::Dns),
            (&[22, 9, 0x81, 0, 0, 1, 0, 0, 0, 0, 0, 0], 53, Datagram::Dtls),
            (&[], 53, Datagram::Other),
        ];
        for (bytes, port, answer) in cases {
            assert_eq!(classify(bytes, port), answer, "{bytes:?}");
        }
    }
}
