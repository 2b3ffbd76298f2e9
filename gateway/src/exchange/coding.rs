//! Unpacks what is compressed (a body, a message of a gRPC call), under a bound.

use std::io::{BufRead, Read};

use flate2::bufread::{GzDecoder, ZlibDecoder};
use policy::fact::Unobtainable;

/// What `Content-Encoding` (RFC 9110 section 8.4.1) or a call's `grpc-encoding` ("gRPC over HTTP2",
/// Message-Encoding) names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Deflate,
    /// None, or one that is not read here: what is compressed all the same cannot be had.
    Other,
}

impl Coding {
    #[must_use]
    pub fn named(name: Option<&str>) -> Self {
        match name {
            Some("gzip" | "x-gzip") => Self::Gzip,
            Some("deflate") => Self::Deflate,
            _ => Self::Other,
        }
    }

    /// Unpacks to at most `bound` bytes.
    ///
    /// # Errors
    /// What is larger, broken off, or packed in a way that is not read here.
    pub fn read(self, packed: &[u8], bound: usize) -> Result<Vec<u8>, Unobtainable> {
        match self {
            Self::Gzip => unpack(GzDecoder::new(packed), GzDecoder::into_inner, bound),
            Self::Deflate => unpack(ZlibDecoder::new(packed), ZlibDecoder::into_inner, bound),
            Self::Other => Err(Unobtainable::Unreadable),
        }
    }
}

/// What is left over some readers drop and others read as more: it is no message that can be judged.
fn unpack<D: Read, R: BufRead>(
    mut from: D,
    rest: impl FnOnce(D) -> R,
    bound: usize,
) -> Result<Vec<u8>, Unobtainable> {
    let mut message = Vec::new();
    let read = from.by_ref().take(bound as u64 + 1).read_to_end(&mut message);
    if message.len() > bound {
        return Err(Unobtainable::Bound);
    }
    let left = read.and_then(|_| rest(from).fill_buf().map(<[u8]>::len));
    if left.is_ok_and(|left| left == 0) { Ok(message) } else { Err(Unobtainable::Unreadable) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn what_the_name_promises_is_unpacked() {
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(b"text").unwrap();
        let deflated = packer.finish().unwrap();
        assert_eq!(Coding::named(Some("gzip")).read(&gzip(b"text"), 4), Ok(b"text".to_vec()));
        assert_eq!(Coding::named(Some("deflate")).read(&deflated, 4), Ok(b"text".to_vec()));
        for other in [None, Some("identity"), Some("snappy")] {
            assert_eq!(Coding::named(other).read(b"text", 4), Err(Unobtainable::Unreadable));
        }
    }

    #[test]
    fn a_bomb_and_what_readers_differ_about_cannot_be_had() {
        let gzipped = Coding::Gzip;
        assert_eq!(gzipped.read(&gzip(&[0; 1 << 20]), 1 << 10), Err(Unobtainable::Bound));
        assert_eq!(gzipped.read(&gzip(&[0; 1 << 10]), 1 << 10), Ok(vec![0; 1 << 10]));
        let two = [gzip(b"one"), gzip(b"two")].concat();
        let tailed = [gzip(b"one"), b"rest".to_vec()].concat();
        let cut = gzip(b"cut short").split_last().unwrap().1.to_vec();
        for unreadable in [two, tailed, cut, b"plain".to_vec(), Vec::new()] {
            assert_eq!(gzipped.read(&unreadable, 100), Err(Unobtainable::Unreadable));
        }
    }
}
