//! The keys of Initial packets: anybody can derive them who sees the first one (RFC 9001 section 5.2,
//! RFC 9369 section 3.3).

use aws_lc_rs::aead::quic::{AES_128, HeaderProtectionKey};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use super::header::Long;

/// The versions of QUIC that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    V1,
    V2,
}

impl Version {
    pub(super) fn of(number: u32) -> Option<Self> {
        [Self::V1, Self::V2].into_iter().find(|version| version.number() == number)
    }

    pub(super) fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 0x6b33_43cf,
        }
    }

    /// The packet type of an Initial.
    pub(super) fn initial(self) -> u8 {
        match self {
            Self::V1 => 0,
            Self::V2 => 1,
        }
    }

    pub(super) fn retry(self) -> u8 {
        match self {
            Self::V1 => 3,
            Self::V2 => 0,
        }
    }

    fn salt(self) -> [u8; 20] {
        match self {
            Self::V1 => [
                0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8,
                0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a,
            ],
            Self::V2 => [
                0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26,
                0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
            ],
        }
    }

    fn labels(self) -> [&'static [u8]; 3] {
        match self {
            Self::V1 => [b"quic key", b"quic iv", b"quic hp"],
            Self::V2 => [b"quicv2 key", b"quicv2 iv", b"quicv2 hp"],
        }
    }
}

/// What opens the Initial packets of one client.
pub(super) struct ClientKeys {
    pub(super) version: Version,
    seal: LessSafeKey,
    iv: [u8; IV_BYTES],
    header: HeaderProtectionKey,
}

const SECRET_BYTES: usize = 32;
const KEY_BYTES: usize = 16;
const IV_BYTES: usize = 12;
const SAMPLE_BYTES: usize = 16;

/// A packet's number and frames.
pub(super) struct Opened {
    pub(super) number: u64,
    pub(super) frames: Vec<u8>,
}

impl ClientKeys {
    /// The keys that follow from the destination that a client chose for its first packet.
    pub(super) fn derive(version: Version, destination: &[u8]) -> Option<Self> {
        let initial = Salt::new(HKDF_SHA256, &version.salt()).extract(destination);
        let secret: [u8; SECRET_BYTES] = expand(&initial, b"client in")?;
        let client = Prk::new_less_safe(HKDF_SHA256, &secret);
        let [key_label, iv_label, header_label] = version.labels();
        let key: [u8; KEY_BYTES] = expand(&client, key_label)?;
        let seal = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
        let iv = expand(&client, iv_label)?;
        let header: [u8; KEY_BYTES] = expand(&client, header_label)?;
        let header = HeaderProtectionKey::new(&AES_128, &header).ok()?;
        Some(Self { version, seal, iv, header })
    }

    /// Takes a packet's protection off. `None` where it is not one of this client's. `expected` is the
    /// number after the greatest so far.
    pub(super) fn open(&self, packet: &Long<'_>, expected: u64) -> Option<Opened> {
        let (head, body) = packet.packet.split_at_checked(packet.number_at)?;
        let sample = body.get(4..4 + SAMPLE_BYTES)?;
        let [mask_first, mask_number @ ..] = self.header.new_mask(sample).ok()?;
        let mut clear = head.to_vec();
        let first = clear.first_mut()?;
        *first ^= mask_first & 0x0f;
        let length = usize::from(*first & 3) + 1;
        let (number, sealed) = body.split_at_checked(length)?;
        let number = number.iter().zip(mask_number).map(|(byte, mask)| byte ^ mask);
        clear.extend(number);
        let short = clear.get(packet.number_at..)?.iter();
        let short = short.fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let number = whole_number(short, length, expected);
        let mut frames = sealed.to_vec();
        let opened = self.seal.open_in_place(self.nonce(number), Aad::from(&clear), &mut frames);
        let length = opened.ok()?.len();
        frames.truncate(length);
        Some(Opened { number, frames })
    }

    /// Protects a packet whose header ends in a number of four bytes, as a client would.
    pub(super) fn seal(&self, header: &[u8], frames: &[u8]) -> Option<Vec<u8>> {
        let (_, number) = header.split_last_chunk::<4>()?;
        let mut sealed = frames.to_vec();
        let nonce = self.nonce(u64::from(u32::from_be_bytes(*number)));
        self.seal.seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed).ok()?;
        let [mask_first, mask_number @ ..] =
            self.header.new_mask(sealed.get(..SAMPLE_BYTES)?).ok()?;
        let mut packet = header.to_vec();
        *packet.first_mut()? ^= mask_first & 0x0f;
        for (byte, mask) in packet.iter_mut().skip(header.len() - 4).zip(mask_number) {
            *byte ^= mask;
        }
        packet.extend(sealed);
        Some(packet)
    }

    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = self.iv;
        for (byte, of_number) in nonce.iter_mut().rev().zip(number.to_le_bytes()) {
            *byte ^= of_number;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The packet number nearest to the expected one that ends in these bytes (RFC 9000 appendix A.3).
fn whole_number(short: u64, bytes: usize, expected: u64) -> u64 {
    let window = 1_u64 << (8 * bytes);
    let candidate = (expected & !(window - 1)) | short;
    if candidate + window / 2 <= expected && candidate < (1 << 62) - window {
        candidate + window
    } else if candidate > expected + window / 2 && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

/// HKDF-Expand-Label without context (RFC 8446 section 7.1).
fn expand<const BYTES: usize>(secret: &Prk, label: &[u8]) -> Option<[u8; BYTES]> {
    let (high, low) = (u8::try_from(BYTES >> 8).ok()?, u8::try_from(BYTES & 0xff).ok()?);
    let label_bytes = u8::try_from(TLS13.len() + label.len()).ok()?;
    let info = [&[high, low, label_bytes], TLS13, label, &[0]];
    let mut out = [0; BYTES];
    secret.expand(&info, Length(BYTES)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

const TLS13: &[u8] = b"tls13 ";

#[derive(Clone, Copy)]
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}
