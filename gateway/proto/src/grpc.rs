//! Takes a gRPC call's messages out of its body ("gRPC over HTTP2", Length-Prefixed-Message), under a
//! bound: a byte that says whether the message is compressed, four of its length, the message. What was
//! read stays with the caller, who holds it back while a message is gathered.

/// The compressed flag, and the length.
const PREFIX_BYTES: usize = 5;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A whole message. A compressed one is in the coding that the call's `grpc-encoding` names.
    Message { compressed: bool, bytes: Vec<u8> },
    /// A message that is longer than the bound; no more of it is told.
    TooLong,
    /// A message whose flag is none that is known; no more of it is told.
    Unreadable,
}

/// Where one direction of a call stands, and the message that is being gathered.
#[derive(Debug)]
pub struct Messages {
    bound: usize,
    prefix: [u8; PREFIX_BYTES],
    /// Of the prefix, bytes that have come.
    come: usize,
    /// Of the message, bytes that are still to come.
    left: usize,
    message: Option<Vec<u8>>,
}

impl Messages {
    /// At the beginning, for messages of at most `bound` bytes.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { bound, prefix: [0; PREFIX_BYTES], come: 0, left: 0, message: None }
    }

    /// Reads on over `bytes`, which follow those of the last call, until something is told. Returns how
    /// many were read: all of them where nothing is.
    pub fn advance(&mut self, bytes: &[u8]) -> (usize, Option<Told>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let told = if self.left > 0 { self.payload(&mut rest) } else { self.prefix(&mut rest) };
            if told.is_some() {
                return (bytes.len() - rest.len(), told);
            }
        }
        (bytes.len(), None)
    }

    /// Whether a message is begun of which nothing was told yet: it is not for passing on.
    #[must_use]
    pub fn is_gathering(&self) -> bool {
        self.come > 0 || self.message.is_some()
    }

    fn prefix(&mut self, rest: &mut &[u8]) -> Option<Told> {
        let (&byte, others) = rest.split_first()?;
        *rest = others;
        if let Some(place) = self.prefix.get_mut(self.come) {
            *place = byte;
        }
        self.come += 1;
        if self.come < PREFIX_BYTES {
            return None;
        }
        self.come = 0;
        let [flag, length @ ..] = self.prefix;
        self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if flag > 1 {
            return Some(Told::Unreadable);
        }
        if self.left > self.bound {
            return Some(Told::TooLong);
        }
        // What is announced is not what comes: memory is taken as it does.
        self.message = Some(Vec::new());
        if self.left == 0 { self.end() } else { None }
    }

    fn payload(&mut self, rest: &mut &[u8]) -> Option<Told> {
        let (now, later) = rest.split_at_checked(self.left.min(rest.len()))?;
        *rest = later;
        self.left -= now.len();
        self.message.as_mut()?.extend_from_slice(now);
        if self.left == 0 { self.end() } else { None }
    }

    fn end(&mut self) -> Option<Told> {
        let [flag, ..] = self.prefix;
        let bytes = self.message.take()?;
        Some(Told::Message { compressed: flag == 1, bytes })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    fn message(flag: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[flag][..], &length, bytes].concat()
    }

    fn plain(bytes: &[u8]) -> Told {
        Told::Message { compressed: false, bytes: bytes.to_vec() }
    }

    /// Everything told of `bytes` cut in pieces, each with how much had been read by then.
    fn told(bytes: &[u8], piece: usize, bound: usize) -> Vec<(usize, Told)> {
        let mut messages = Messages::new(bound);
        let (mut read, mut all) = (0, Vec::new());
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                let (count, told) = messages.advance(piece);
                assert!(count > 0 && (told.is_some() || count == piece.len()));
                read += count;
                all.extend(told.map(|told| (read, told)));
                piece = &piece[count..];
            }
        }
        all
    }

    #[test]
    fn messages_are_whole_however_they_are_cut() {
        let parts = [message(0, b"one"), message(0, b""), message(1, b"packed"), message(0, b"x")];
        let bytes = parts.concat();
        let wanted = [
            (8, plain(b"one")),
            (13, plain(b"")),
            (24, Told::Message { compressed: true, bytes: b"packed".to_vec() }),
            (30, plain(b"x")),
        ];
        for piece in [1, 2, 3, 7, bytes.len()] {
            assert_eq!(told(&bytes, piece, 6), wanted, "by {piece}");
        }
    }

    #[test]
    fn what_is_too_long_or_unknown_is_told_at_once_and_stepped_over() {
        let bytes = [message(0, b"seven b"), message(2, b"odd"), message(0, b"fine")].concat();
        let wanted = [(5, Told::TooLong), (17, Told::Unreadable), (29, plain(b"fine"))];
        for piece in [1, 2, 3, 7, bytes.len()] {
            assert_eq!(told(&bytes, piece, 6), wanted, "by {piece}");
        }
    }

    #[test]
    fn a_message_is_being_gathered_from_its_first_byte_to_its_last() {
        let mut messages = Messages::new(10);
        assert!(!messages.is_gathering());
        let bytes = message(0, b"ab");
        for byte in &bytes[..6] {
            assert_eq!(messages.advance(&[*byte]), (1, None));
            assert!(messages.is_gathering());
        }
        assert_eq!(messages.advance(&bytes[6..]), (1, Some(plain(b"ab"))));
        assert!(!messages.is_gathering());
        assert_eq!(messages.advance(&[0, 255, 255, 255, 255]).1, Some(Told::TooLong));
        assert!(!messages.is_gathering());
    }
}
