//! Takes a WebSocket client's messages out of its frames (RFC 6455 section 5) to be looked at, under a
//! bound. The frames themselves stay with the caller, who holds them back while a message is gathered.

use super::websocket::{CONTROL, FIN, LENGTH, MASKED, OPCODE, RESERVED};

const KEY_BYTES: usize = 4;

/// Longest head of a frame: two bytes, eight of length, four of the masking key.
const HEAD_BYTES_MAX: usize = 14;

/// What was found in the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A whole message, unmasked.
    Message(Vec<u8>),
    /// A message that is longer than the bound; no more of it is told.
    TooLong,
    /// Frames that only an agreed extension could read, or that are none (section 5.2, 5.4); nothing more
    /// is told of the message they stand in.
    Unreadable,
}

/// Where one direction of a WebSocket stands, and the message that is being gathered.
#[derive(Debug)]
pub struct Messages {
    bound: usize,
    head: Head,
    /// Of the frame's payload.
    left: u64,
    key: [u8; KEY_BYTES],
    /// Of the payload, for the masking key.
    at: usize,
    frame: Frame,
    stage: Stage,
    message: Vec<u8>,
}

/// The head of a frame, as far as it has come.
#[derive(Debug, Default)]
struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    length: usize,
}

/// The frame whose payload follows.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    control: bool,
    last: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// No message is begun.
    #[default]
    Between,
    Gathering,
    /// The rest of a message that is not gathered.
    Passing,
}

impl Messages {
    /// At the beginning, for messages of at most `bound` bytes.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            bound,
            head: Head::default(),
            left: 0,
            key: [0; KEY_BYTES],
            at: 0,
            frame: Frame::default(),
            stage: Stage::Between,
            message: Vec::new(),
        }
    }

    /// Reads on over `bytes`, which follow those of the last call, until something is told. Returns how
    /// many were read: all of them where nothing is.
    pub fn advance(&mut self, bytes: &[u8]) -> (usize, Option<Told>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let told = if self.left > 0 { self.payload(&mut rest) } else { self.head(&mut rest) };
            if told.is_some() {
                return (bytes.len() - rest.len(), told);
            }
        }
        (bytes.len(), None)
    }

    /// Whether a message is begun of which nothing was told yet: its frames are not for passing on.
    #[must_use]
    pub fn is_gathering(&self) -> bool {
        // The first byte of a head says what follows.
        let begun = self.stage == Stage::Between && self.left == 0 && self.head.length > 0;
        self.stage == Stage::Gathering || (begun && !self.head.is_control())
    }

    fn head(&mut self, rest: &mut &[u8]) -> Option<Told> {
        let (&byte, others) = rest.split_first()?;
        *rest = others;
        if !self.head.is_whole_with(byte) {
            return None;
        }
        let head = std::mem::take(&mut self.head);
        self.frame = Frame { control: head.is_control(), last: head.first() & FIN != 0 };
        (self.left, self.key, self.at) = (head.payload_bytes(), head.key(), 0);
        let told = if self.frame.control { None } else { self.begin(&head) };
        if self.left == 0 { told.or_else(|| self.end()) } else { told }
    }

    /// A data frame begins.
    fn begin(&mut self, head: &Head) -> Option<Told> {
        let begins = matches!(head.first() & OPCODE, 1 | 2);
        let continues = head.first() & OPCODE == 0;
        let in_turn = if self.stage == Stage::Between { begins } else { continues };
        if self.stage == Stage::Passing && in_turn {
            return None;
        }
        if !in_turn || head.first() & RESERVED != 0 {
            return self.pass(Told::Unreadable);
        }
        self.stage = Stage::Gathering;
        let room = self.bound.saturating_sub(self.message.len());
        if usize::try_from(self.left).is_ok_and(|bytes| bytes <= room) {
            return None;
        }
        self.pass(Told::TooLong)
    }

    /// Tells why the message is not gathered, and gathers no more of it.
    fn pass(&mut self, told: Told) -> Option<Told> {
        self.message = Vec::new();
        self.stage = Stage::Passing;
        if self.left == 0 && self.frame.last {
            self.stage = Stage::Between;
        }
        Some(told)
    }

    fn payload(&mut self, rest: &mut &[u8]) -> Option<Told> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
        let (now, later) = rest.split_at_checked(count)?;
        *rest = later;
        if !self.frame.control && self.stage == Stage::Gathering {
            let masked = now.iter().zip(self.key.iter().cycle().skip(self.at % KEY_BYTES));
            self.message.extend(masked.map(|(byte, key)| byte ^ key));
        }
        self.at = (self.at + count) % KEY_BYTES;
        self.left -= count as u64;
        if self.left == 0 { self.end() } else { None }
    }

    /// A frame has ended.
    fn end(&mut self) -> Option<Told> {
        if self.frame.control || !self.frame.last {
            return None;
        }
        match std::mem::take(&mut self.stage) {
            Stage::Gathering => Some(Told::Message(std::mem::take(&mut self.message))),
            Stage::Between | Stage::Passing => None,
        }
    }
}

impl Head {
    /// Takes a byte more; whether the head is whole then.
    fn is_whole_with(&mut self, byte: u8) -> bool {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length += 1;
        self.length >= 2 && self.length >= self.whole()
    }

    fn first(&self) -> u8 {
        let [first, ..] = self.bytes;
        first
    }

    fn second(&self) -> u8 {
        let [_, second, ..] = self.bytes;
        second
    }

    fn is_control(&self) -> bool {
        self.first() & CONTROL != 0
    }

    fn extended(&self) -> usize {
        match self.second() & LENGTH {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn whole(&self) -> usize {
        let key = if self.second() & MASKED != 0 { KEY_BYTES } else { 0 };
        2 + self.extended() + key
    }

    fn payload_bytes(&self) -> u64 {
        let extended = self.bytes.iter().skip(2).take(self.extended());
        match self.extended() {
            0 => u64::from(self.second() & LENGTH),
            _ => extended.fold(0, |length, &byte| (length << 8) | u64::from(byte)),
        }
    }

    fn key(&self) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        if self.second() & MASKED != 0 {
            let sent = self.bytes.iter().skip(2 + self.extended());
            key.iter_mut().zip(sent).for_each(|(key, byte)| *key = *byte);
        }
        key
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    const KEY: [u8; 4] = [7, 0x80, 3, 0xff];

    /// A client's frame, in the shortest form.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
            long => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(long).unwrap().to_be_bytes());
            }
        }
        frame.extend(KEY);
        frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
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
        let long = vec![b'x'; 400];
        let parts = [
            frame(0x81, b"one"),
            // In three fragments with a ping between, and an empty one.
            frame(0x01, b"tw"),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x80, b"o"),
            frame(0x82, &long),
            frame(0x81, b""),
            frame(0x88, b"\x03\xe8"),
        ];
        let bytes = parts.concat();
        let end_of = |count: usize| parts[..count].concat().len();
        let wanted = [
            (end_of(1), Told::Message(b"one".to_vec())),
            (end_of(5), Told::Message(b"two".to_vec())),
            (end_of(6), Told::Message(long)),
            (end_of(7), Told::Message(Vec::new())),
        ];
        for piece in [1, 2, 3, 5, 64, bytes.len()] {
            assert_eq!(told(&bytes, piece, 400), wanted, "by {piece}");
        }
    }

    #[test]
    fn what_is_told_late_is_held_back_until_then() {
        let mut messages = Messages::new(100);
        assert!(!messages.is_gathering());
        let bytes = frame(0x01, b"ab");
        for byte in &bytes {
            assert_eq!(messages.advance(&[*byte]), (1, None));
            assert!(messages.is_gathering());
        }
        messages.advance(&frame(0x8a, b"pong"));
        assert!(messages.is_gathering(), "amid a message, whatever stands between");
        let last = frame(0x80, b"");
        assert_eq!(messages.advance(&last), (last.len(), Some(Told::Message(b"ab".to_vec()))));
        assert!(!messages.is_gathering());
        messages.advance(&frame(0x89, b"ping")[..3]);
        assert!(!messages.is_gathering(), "a ping may pass");
    }

    #[test]
    fn what_is_too_long_or_unreadable_is_told_once_and_the_next_is_read() {
        let next = frame(0x81, b"next");
        let of = |frames: &[Vec<u8>]| {
            let bytes = [frames.concat(), next.clone()].concat();
            let mut all = Vec::new();
            for piece in [1, 7, bytes.len()] {
                all = told(&bytes, piece, 5).into_iter().map(|(_, told)| told).collect();
                assert_eq!(all.pop(), Some(Told::Message(b"next".to_vec())), "by {piece}");
            }
            all
        };
        assert_eq!(of(&[frame(0x81, b"123456")]), [Told::TooLong]);
        let pieces = [frame(0x01, b"123"), frame(0x00, b"456"), frame(0x80, b"7")];
        assert_eq!(of(&pieces), [Told::TooLong]);
        // Compressed; of a reserved kind; going on with nothing.
        assert_eq!(of(&[frame(0xc1, b"123")]), [Told::Unreadable]);
        assert_eq!(of(&[frame(0x83, b"1")]), [Told::Unreadable]);
        assert_eq!(of(&[frame(0x80, b"")]), [Told::Unreadable]);
        // A message begun amid another.
        assert_eq!(of(&[frame(0x01, b"1"), frame(0x81, b"2")]), [Told::Unreadable]);
    }

    #[test]
    fn a_length_that_no_memory_holds_takes_none() {
        let mut messages = Messages::new(1 << 20);
        let mut huge = vec![0x82, 0xff];
        huge.extend(u64::MAX.to_be_bytes());
        huge.extend(KEY);
        assert_eq!(messages.advance(&huge), (huge.len(), Some(Told::TooLong)));
        assert_eq!(messages.advance(b"some of it"), (10, None));
        assert!(!messages.is_gathering());
    }
}
