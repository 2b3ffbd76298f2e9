//! The record layer: AES-256-GCM under one epoch's keys, and a window against replays (RFC 6347
//! section 4.1, RFC 5288 section 3).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

pub(super) const HEADER_BYTES: usize = 13;
pub(super) const KEY_BYTES: usize = 32;
/// The part of each nonce that both ends keep to themselves.
pub(super) const SALT_BYTES: usize = 4;
/// The part of each nonce that travels: ours is epoch and sequence number.
const EXPLICIT_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
/// DTLS 1.2 on the wire.
const VERSION: [u8; 2] = [0xfe, 0xfd];
/// A record's plaintext (RFC 5246 section 6.2.1).
const PLAIN_BYTES_MAX: usize = 1 << 14;
/// Sequence numbers have 48 bits and must never repeat.
const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// What a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    ChangeCipherSpec,
    Alert,
    Handshake,
    Application,
}

impl Content {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            20 => Self::ChangeCipherSpec,
            21 => Self::Alert,
            22 => Self::Handshake,
            23 => Self::Application,
            _ => return None,
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::ChangeCipherSpec => 20,
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Application => 23,
        }
    }
}

/// One record as it came.
pub(super) struct Record<'a> {
    pub(super) content: Content,
    pub(super) epoch: u16,
    sequence: u64,
    pub(super) body: &'a [u8],
}

/// The first record of a datagram, and what follows it; `None` where there is none that makes sense,
/// and with it the rest of the datagram.
pub(super) fn first(datagram: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (header, rest) = datagram.split_first_chunk::<HEADER_BYTES>()?;
    let [content, 0xfe, 0xfd | 0xff, e0, e1, s0, s1, s2, s3, s4, s5, l0, l1] = *header else {
        return None;
    };
    let (body, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
    let record = Record {
        content: Content::of(content)?,
        epoch: u16::from_be_bytes([e0, e1]),
        sequence: u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5]),
        body,
    };
    Some((record, rest))
}

fn header(content: Content, epoch: u16, sequence: u64, length: usize) -> [u8; HEADER_BYTES] {
    let [e0, e1] = epoch.to_be_bytes();
    let [_, _, s0, s1, s2, s3, s4, s5] = sequence.to_be_bytes();
    let [l0, l1] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let [v0, v1] = VERSION;
    [content.byte(), v0, v1, e0, e1, s0, s1, s2, s3, s4, s5, l0, l1]
}

/// Writes a record of epoch 0, in the clear.
pub(super) fn put_plain(content: Content, sequence: u64, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&header(content, 0, sequence, body.len()));
    out.extend_from_slice(body);
}

/// One direction's key.
pub(super) struct Key {
    key: LessSafeKey,
    salt: [u8; SALT_BYTES],
}

impl Key {
    pub(super) fn new(key: &[u8], salt: &[u8]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        Some(Self { key, salt: salt.try_into().ok()? })
    }

    fn nonce(&self, explicit: [u8; EXPLICIT_BYTES]) -> Nonce {
        let mut nonce = [0; SALT_BYTES + EXPLICIT_BYTES];
        let (salt, rest) = nonce.split_at_mut(SALT_BYTES);
        salt.copy_from_slice(&self.salt);
        rest.copy_from_slice(&explicit);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// What is authenticated beside the text: epoch, sequence number, type, version, length.
fn aad(content: Content, epoch: u16, sequence: u64, length: usize) -> Aad<[u8; HEADER_BYTES]> {
    let [content, v0, v1, e0, e1, s0, s1, s2, s3, s4, s5, l0, l1] =
        header(content, epoch, sequence, length);
    Aad::from([e0, e1, s0, s1, s2, s3, s4, s5, content, v0, v1, l0, l1])
}

/// Encrypts the records of epoch 1.
pub(super) struct Sealer {
    key: Key,
    next: u64,
}

impl Sealer {
    pub(super) fn new(key: Key) -> Self {
        Self { key, next: 0 }
    }

    /// Appends a record; false where the connection has run out of sequence numbers or the text is too
    /// long.
    pub(super) fn seal(&mut self, content: Content, text: &[u8], out: &mut Vec<u8>) -> bool {
        if self.next > SEQUENCE_MAX || text.len() > PLAIN_BYTES_MAX {
            return false;
        }
        let sequence = self.next;
        self.next += 1;
        let explicit = (1_u64 << 48 | sequence).to_be_bytes();
        let length = EXPLICIT_BYTES + text.len() + TAG_BYTES;
        out.extend_from_slice(&header(content, 1, sequence, length));
        out.extend_from_slice(&explicit);
        let start = out.len();
        out.extend_from_slice(text);
        let nonce = self.key.nonce(explicit);
        let aad = aad(content, 1, sequence, text.len());
        let Some(sealed) = out.get_mut(start..) else { return false };
        match self.key.key.seal_in_place_separate_tag(nonce, aad, sealed) {
            Ok(tag) => {
                out.extend_from_slice(tag.as_ref());
                true
            }
            Err(_) => false,
        }
    }
}

/// Decrypts the records of epoch 1, each once.
pub(super) struct Opener {
    key: Key,
    window: Window,
}

impl Opener {
    pub(super) fn new(key: Key) -> Self {
        Self { key, window: Window::default() }
    }

    /// The text of a record; `None` where it is forged, damaged, or has come before.
    pub(super) fn open(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        if !self.window.is_new(record.sequence) {
            return None;
        }
        let (explicit, sealed) = record.body.split_first_chunk::<EXPLICIT_BYTES>()?;
        let length = sealed.len().checked_sub(TAG_BYTES)?;
        let aad = aad(record.content, record.epoch, record.sequence, length);
        let mut text = sealed.to_vec();
        self.key.key.open_in_place(self.key.nonce(*explicit), aad, &mut text).ok()?;
        text.truncate(length);
        // Only what is authentic moves the window.
        self.window.note(record.sequence);
        Some(text)
    }
}

/// Which of the last records have come (RFC 6347 section 4.1.2.6): 1,024 of them, since a burst on a
/// fast path may be overtaken by as many.
#[derive(Default)]
struct Window {
    seen: [u64; WORDS],
    /// One more than the highest number seen.
    top: u64,
}

const WORDS: usize = 16;
const SPAN: u64 = 64 * WORDS as u64;

impl Window {
    fn is_new(&self, sequence: u64) -> bool {
        if sequence >= self.top {
            return true;
        }
        let recent = self.top - sequence <= SPAN;
        let (word, bit) = Self::place(sequence);
        recent && self.seen.get(word).is_some_and(|seen| seen & bit == 0)
    }

    fn note(&mut self, sequence: u64) {
        if sequence >= self.top {
            // What leaves the window at its end makes room at its front.
            let cleared = (sequence - self.top + 1).min(SPAN);
            for passed in sequence + 1 - cleared..=sequence {
                let (word, bit) = Self::place(passed);
                if let Some(seen) = self.seen.get_mut(word) {
                    *seen &= !bit;
                }
            }
            self.top = sequence + 1;
        }
        let (word, bit) = Self::place(sequence);
        if let Some(seen) = self.seen.get_mut(word) {
            *seen |= bit;
        }
    }

    fn place(sequence: u64) -> (usize, u64) {
        let at = sequence % SPAN;
        (usize::try_from(at / 64).unwrap_or(0), 1 << (at % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_window_takes_each_recent_number_once(
            numbers in proptest::collection::vec(0_u64..5_000, 0..3_000),
        ) {
            let mut window = Window::default();
            let mut seen = BTreeSet::new();
            for number in numbers {
                let top = seen.last().map_or(0, |last| last + 1);
                let expected = number >= top || (top - number <= SPAN && !seen.contains(&number));
                prop_assert_eq!(window.is_new(number), expected);
                if expected {
                    window.note(number);
                    seen.insert(number);
                }
            }
        }
    }
}
