//! Reads a DTLS ClientHello in front of the library that will serve it (RFC 9147 section 5, RFC 6347
//! section 4.2): which tenant it asks for, which versions it offers, and the session it points at.

use crate::client_hello::{ClientHello, HelloProblem};
use crate::ranges::Ranges;

/// The longest hello. A post-quantum key share is 1.2 KiB; nobody sends ten of them, and every stranger
/// may make us keep this much.
pub const HELLO_BYTES_MAX: usize = 8 << 10;
/// Fragments that are joined to one hello: more would be smaller than any sensible path.
const PARTS_MAX: usize = 32;
/// DTLS 1.3 and 1.2 on the wire.
pub const VERSION_1_3: u16 = 0xfefc;
pub const VERSION_1_2: u16 = 0xfefd;

const RECORD_HEADER_BYTES: usize = 13;
const FRAGMENT_HEADER_BYTES: usize = 12;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// Joins the fragments of one client's first flight. Holds at most [`HELLO_BYTES_MAX`].
#[derive(Debug, Default)]
pub struct HelloReader {
    message: Vec<u8>,
    /// Which bytes of the message have come.
    parts: Ranges,
    sequence: u16,
    begun: bool,
}

/// What a reader knows after a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    NeedMore,
    Done(Box<DtlsHello>),
    /// No first flight of a DTLS client.
    NotHello(HelloProblem),
}

/// A ClientHello that came over DTLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DtlsHello {
    pub hello: ClientHello,
    /// A server's cookie comes back (RFC 6347 section 4.2.1).
    pub has_cookie: bool,
}

impl DtlsHello {
    /// Whether the client can speak DTLS 1.3.
    #[must_use]
    pub fn offers_1_3(&self) -> bool {
        self.hello.supported_versions.contains(&VERSION_1_3)
    }

    /// Takes apart the body of a ClientHello message: that of TLS, with a cookie in it.
    ///
    /// # Errors
    /// As [`ClientHello::parse`].
    pub fn parse(body: &[u8]) -> Result<Self, HelloProblem> {
        let (fixed, cookie, rest) = around_cookie(body).ok_or(HelloProblem::Malformed)?;
        let mut plain = Vec::with_capacity(body.len());
        plain.extend_from_slice(fixed);
        plain.extend_from_slice(rest);
        Ok(Self { hello: ClientHello::parse(&plain)?, has_cookie: !cookie.is_empty() })
    }
}

/// What stands before the cookie, the cookie, and what comes behind it.
fn around_cookie(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let session = usize::from(*body.get(34)?);
    let (fixed, rest) = body.split_at_checked(35 + session)?;
    let (length, rest) = rest.split_first()?;
    let (cookie, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((fixed, cookie, rest))
}

/// Whether a datagram can be a client's first: an epoch-0 handshake record with a ClientHello in it.
#[must_use]
pub fn is_first_flight(datagram: &[u8]) -> bool {
    matches!(
        datagram,
        [HANDSHAKE, 0xfe, 0xfd | 0xff, 0, 0, _, _, _, _, _, _, _, _, CLIENT_HELLO, ..]
    )
}

/// The `random` by which a ServerHello is a HelloRetryRequest (RFC 8446 section 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Whether a server's datagram asks the client for another hello: what is sent to an address that nobody
/// has proven yet.
#[must_use]
pub fn is_hello_retry(datagram: &[u8]) -> bool {
    const SERVER_HELLO: u8 = 2;
    const RANDOM: usize = RECORD_HEADER_BYTES + FRAGMENT_HEADER_BYTES + 2;
    datagram.first() == Some(&HANDSHAKE)
        && datagram.get(RECORD_HEADER_BYTES) == Some(&SERVER_HELLO)
        && datagram.get(RANDOM..RANDOM + RETRY_RANDOM.len()) == Some(RETRY_RANDOM.as_slice())
}

impl HelloReader {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next datagram of this client.
    pub fn push(&mut self, datagram: &[u8]) -> Progress {
        let mut left = datagram;
        while !left.is_empty() {
            let Some((record, rest)) = record(left) else {
                return Progress::NotHello(HelloProblem::NotHandshake);
            };
            left = rest;
            if let Err(problem) = self.fragments(record) {
                return Progress::NotHello(problem);
            }
        }
        if !self.is_whole() {
            return Progress::NeedMore;
        }
        match DtlsHello::parse(&self.message) {
            Ok(hello) => Progress::Done(Box::new(hello)),
            Err(problem) => Progress::NotHello(problem),
        }
    }

    fn is_whole(&self) -> bool {
        self.begun && self.parts.prefix() == self.message.len()
    }

    fn fragments(&mut self, mut record: &[u8]) -> Result<(), HelloProblem> {
        while !record.is_empty() {
            let (fragment, rest) = Fragment::read(record).ok_or(HelloProblem::Malformed)?;
            record = rest;
            self.add(&fragment)?;
        }
        Ok(())
    }

    fn add(&mut self, fragment: &Fragment<'_>) -> Result<(), HelloProblem> {
        if fragment.kind != CLIENT_HELLO {
            return Err(HelloProblem::NotClientHello);
        }
        if fragment.length > HELLO_BYTES_MAX {
            return Err(HelloProblem::TooLong);
        }
        if !self.begun {
            self.begun = true;
            self.sequence = fragment.sequence;
            self.message = vec![0; fragment.length];
        }
        if fragment.length != self.message.len() || fragment.sequence != self.sequence {
            return Err(HelloProblem::Malformed);
        }
        let end = fragment.offset + fragment.bytes.len();
        let place = self.message.get_mut(fragment.offset..end).ok_or(HelloProblem::Malformed)?;
        place.copy_from_slice(fragment.bytes);
        let added = self.parts.add(fragment.offset, end, PARTS_MAX);
        added.map_err(|_| HelloProblem::TooLong)
    }
}

/// The first record's body, and the records behind it.
fn record(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = datagram.split_first_chunk::<RECORD_HEADER_BYTES>()?;
    let [HANDSHAKE, 0xfe, 0xfd | 0xff, 0, 0, .., high, low] = header else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length == 0 {
        return None;
    }
    rest.split_at_checked(length)
}

struct Fragment<'a> {
    kind: u8,
    length: usize,
    sequence: u16,
    offset: usize,
    bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    fn read(input: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = input.split_first_chunk::<FRAGMENT_HEADER_BYTES>()?;
        let [kind, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2] = *header;
        let number = |high: u8, middle: u8, low: u8| {
            usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
        };
        let (bytes, rest) = rest.split_at_checked(number(f0, f1, f2))?;
        let fragment = Self {
            kind,
            length: number(l0, l1, l2),
            sequence: u16::from_be_bytes([s0, s1]),
            offset: number(o0, o1, o2),
            bytes,
        };
        Some((fragment, rest))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unreachable, reason = "tests")]

    use super::*;

    /// The body of a DTLS 1.2 hello with a session id, a cookie and one suite.
    fn body(session: &[u8], cookie: &[u8]) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([7; 32]);
        body.push(u8::try_from(session.len()).unwrap_or(0));
        body.extend(session);
        body.push(u8::try_from(cookie.len()).unwrap_or(0));
        body.extend(cookie);
        body.extend([0, 2, 0x00, 0xa8, 1, 0]);
        body
    }

    fn datagram(body: &[u8], parts: &[(usize, usize)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (start, end)) in parts.iter().enumerate() {
            let piece = body.get(*start..*end).unwrap_or_default();
            let bytes = |value: usize, width: usize| {
                value.to_be_bytes().into_iter().skip(8 - width).collect::<Vec<_>>()
            };
            out.extend([22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0]);
            out.push(u8::try_from(number).unwrap_or(0));
            out.extend(bytes(piece.len() + 12, 2));
            out.push(1);
            out.extend(bytes(body.len(), 3));
            out.extend([0, 0]);
            out.extend(bytes(*start, 3));
            out.extend(bytes(piece.len(), 3));
            out.extend(piece);
        }
        out
    }

    #[test]
    fn a_hello_is_joined_from_fragments_in_any_order() {
        let body = body(&[9; 32], b"cookie");
        let end = body.len();
        let mut reader = HelloReader::new();
        assert_eq!(reader.push(&datagram(&body, &[(20, end)])), Progress::NeedMore);
        assert_eq!(reader.push(&datagram(&body, &[(10, 25)])), Progress::NeedMore);
        let Progress::Done(hello) = reader.push(&datagram(&body, &[(0, 10)])) else {
            unreachable!("not whole")
        };
        assert_eq!(hello.hello.session_id, vec![9; 32]);
        assert_eq!(hello.hello.cipher_suites, vec![0xa8]);
        assert!(hello.has_cookie && !hello.offers_1_3());
    }

    #[test]
    fn several_fragments_may_share_a_datagram() {
        let body = body(b"", b"");
        let whole = datagram(&body, &[(0, 10), (10, body.len())]);
        assert!(is_first_flight(&whole));
        assert!(matches!(HelloReader::new().push(&whole), Progress::Done(_)));
    }

    #[test]
    fn what_is_no_hello_is_refused() {
        let body = body(b"", b"");
        let whole = datagram(&body, &[(0, body.len())]);
        let mut finished = whole.clone();
        if let Some(kind) = finished.get_mut(13) {
            *kind = 20;
        }
        let mut encrypted = whole.clone();
        if let Some(epoch) = encrypted.get_mut(4) {
            *epoch = 1;
        }
        let mut too_long = whole.clone();
        if let Some(length) = too_long.get_mut(14) {
            *length = 1;
        }
        let cut = whole.get(..whole.len() - 1).unwrap_or_default().to_vec();
        for bad in [finished, encrypted, too_long, cut, b"GET / HTTP/1.1".to_vec()] {
            assert!(matches!(HelloReader::new().push(&bad), Progress::NotHello(_)), "{bad:?}");
        }
    }

    #[test]
    fn fragments_that_contradict_each_other_are_refused() {
        let (one, two) = (body(b"", b""), body(&[1; 32], b""));
        let mut reader = HelloReader::new();
        assert_eq!(reader.push(&datagram(&one, &[(0, 10)])), Progress::NeedMore);
        let answer = reader.push(&datagram(&two, &[(10, 20)]));
        assert_eq!(answer, Progress::NotHello(HelloProblem::Malformed));
    }
}
