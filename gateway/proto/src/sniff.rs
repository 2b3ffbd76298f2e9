//! What a TCP stream speaks, told from its first bytes.

use crate::http1::is_token;

/// What the first bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sniffed {
    /// A TLS record with a handshake message: go on with [`crate::client_hello`].
    Tls,
    /// A line that begins like an HTTP/1 request, well-formed or not.
    Http1,
    /// The whole HTTP/2 connection preface (RFC 9113 section 3.4).
    Http2Preface,
    Ssh,
    /// Nothing known, or a protocol in which the server speaks first.
    Other,
    /// Every answer is still open; never at [`SNIFF_BYTES_MAX`] or more.
    NeedMore,
}

/// The HTTP/2 client connection preface.
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// By here every answer is certain: an empty line, the longest method and the longest start of
/// a target that tells HTTP from other line protocols.
pub const SNIFF_BYTES_MAX: usize = 64;

/// Twice the longest registered method.
const METHOD_BYTES_MAX: usize = 32;

/// Tells what `bytes`, the whole of a stream so far, begin.
#[must_use]
pub fn sniff(bytes: &[u8]) -> Sniffed {
    [tls(bytes), prefix(bytes, HTTP2_PREFACE, Sniffed::Http2Preface), ssh(bytes), http1(bytes)]
        .into_iter()
        .reduce(|earlier, later| match (earlier, later) {
            (Sniffed::Other, later) => later,
            (Sniffed::NeedMore, Sniffed::Other) => Sniffed::NeedMore,
            // `PRI * …` reads as a request as well until the preface is whole or broken.
            (earlier, _) => earlier,
        })
        .unwrap_or(Sniffed::Other)
}

/// A handshake record of version 3.x with a ClientHello in it (RFC 8446 section 5.1). The length
/// may be 1: records can be split anywhere.
fn tls(bytes: &[u8]) -> Sniffed {
    let expected = |at: usize, byte: u8| match at {
        0 => byte == 0x16,
        1 => byte == 3,
        2 => byte <= 4,
        5 => byte == 1,
        _ => true,
    };
    const SEEN: usize = 6;
    if !bytes.iter().take(SEEN).enumerate().all(|(at, byte)| expected(at, *byte)) {
        return Sniffed::Other;
    }
    if bytes.len() >= SEEN { Sniffed::Tls } else { Sniffed::NeedMore }
}

fn ssh(bytes: &[u8]) -> Sniffed {
    prefix(bytes, b"SSH-", Sniffed::Ssh)
}

fn prefix(bytes: &[u8], expected: &[u8], answer: Sniffed) -> Sniffed {
    if bytes.starts_with(expected) {
        answer
    } else if expected.starts_with(bytes) {
        Sniffed::NeedMore
    } else {
        Sniffed::Other
    }
}

/// A method, one space, and the start of a target. Other line protocols have no `/`, `*` or
/// `http` behind their verb; HTTP that is malformed later on is still HTTP, and refused as such.
fn http1(bytes: &[u8]) -> Sniffed {
    if bytes == b"\r" {
        return Sniffed::NeedMore;
    }
    let line = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    if line.is_empty() {
        return Sniffed::NeedMore;
    }
    let Some(space) = line.iter().take(METHOD_BYTES_MAX + 1).position(|byte| *byte == b' ') else {
        let begun = is_token(line) && line.len() <= METHOD_BYTES_MAX;
        return if begun { Sniffed::NeedMore } else { Sniffed::Other };
    };
    let (method, target) = line.split_at_checked(space).unwrap_or((line, b""));
    if !is_token(method) {
        return Sniffed::Other;
    }
    match target.strip_prefix(b" ").unwrap_or(target) {
        [] => Sniffed::NeedMore,
        [b'/' | b'*', ..] => Sniffed::Http1,
        _ if method == b"CONNECT" => Sniffed::Http1,
        target => absolute(target),
    }
}

fn absolute(target: &[u8]) -> Sniffed {
    let lower = target.iter().take(b"https://".len()).map(u8::to_ascii_lowercase);
    let start: smallvec::SmallVec<[u8; 8]> = lower.collect();
    match prefix(&start, b"http://", Sniffed::Http1) {
        Sniffed::Other => prefix(&start, b"https://", Sniffed::Http1),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_told_by_its_first_bytes() {
        let cases: [(&[u8], Sniffed); 16] = [
            (b"\x16\x03\x01\x02\x00\x01\x00", Sniffed::Tls),
            (b"\x16\x03\x01\x00\x01\x01", Sniffed::Tls),
            (b"\x16\x03\x01\x00\x05\x02", Sniffed::Other),
            (b"\x16\x02\x01", Sniffed::Other),
            (HTTP2_PREFACE, Sniffed::Http2Preface),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Sniffed::Http1),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Sniffed::Ssh),
            (b"GET / HTTP/1.1\r\n", Sniffed::Http1),
            (b"GET /\r\n", Sniffed::Http1),
            (b"\r\nPOST /x HTTP/1.1\r\n", Sniffed::Http1),
            (b"GET HTTP://example.test/ HTTP/1.1\r\n", Sniffed::Http1),
            (b"CONNECT example.test:443 HTTP/1.1\r\n", Sniffed::Http1),
            (b"EHLO mail.example.test\r\n", Sniffed::Other),
            (b"USER anonymous\r\n", Sniffed::Other),
            (b"\x00\x00\x00\x08", Sniffed::Other),
            (b"", Sniffed::NeedMore),
        ];
        for (bytes, answer) in cases {
            assert_eq!(sniff(bytes), answer, "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn an_answer_never_changes_with_more_bytes(
            bytes in proptest::collection::vec(0_u8.., 0..80),
            start in 0_usize..6,
        ) {
            let starts: [&[u8]; 6] =
                [b"", b"GET h", b"SSH", b"\x16\x03", b"PRI * HTTP/2.0\r\n", b"\r\nPUT "];
            let bytes = [starts.get(start).copied().unwrap_or_default(), &bytes].concat();
            let mut known = Sniffed::NeedMore;
            for end in 0..=bytes.len() {
                let now = sniff(bytes.get(..end).unwrap_or_default());
                if known != Sniffed::NeedMore {
                    proptest::prop_assert_eq!(now, known);
                }
                proptest::prop_assert!(now != Sniffed::NeedMore || end < SNIFF_BYTES_MAX);
                known = now;
            }
        }
    }
}
