//! The keys of a DTLS 1.2 session from a pre-shared key (RFC 4279 section 2, RFC 5246 sections 5 and 6.3).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Algorithm, LessSafeKey, UnboundKey};
use aws_lc_rs::{digest, hmac};

use super::record::{Opener, Sealer};

/// What is offered and understood.
#[derive(Clone, Copy)]
pub(super) struct Suite {
    aead: &'static Algorithm,
    hmac: hmac::Algorithm,
    digest: &'static digest::Algorithm,
}

impl Suite {
    pub(super) fn of(number: u16) -> Option<Self> {
        match number {
            0x00a8 => {
                Some(Self { aead: &AES_128_GCM, hmac: hmac::HMAC_SHA256, digest: &digest::SHA256 })
            }
            0x00a9 => {
                Some(Self { aead: &AES_256_GCM, hmac: hmac::HMAC_SHA384, digest: &digest::SHA384 })
            }
            _ => None,
        }
    }
}

/// The fixed part of a GCM nonce.
const SALT_BYTES: usize = 4;
const MASTER_BYTES: usize = 48;
const FINISHED_BYTES: usize = 12;

pub(super) struct Keys {
    suite: Suite,
    master: Vec<u8>,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
}

impl Keys {
    /// The other side's keys from the client's.
    pub(super) fn derive_for_server(
        suite: Suite,
        psk: &[u8; 32],
        client_random: &[u8; 32],
        server_random: &[u8; 32],
    ) -> Option<Self> {
        Self::derive_as(suite, psk, client_random, server_random, true)
    }

    /// The client's keys; `None` where the library does not take them.
    pub(super) fn derive(
        suite: Suite,
        psk: &[u8; 32],
        client_random: &[u8; 32],
        server_random: &[u8; 32],
    ) -> Option<Self> {
        Self::derive_as(suite, psk, client_random, server_random, false)
    }

    fn derive_as(
        suite: Suite,
        psk: &[u8; 32],
        client_random: &[u8; 32],
        server_random: &[u8; 32],
        is_server: bool,
    ) -> Option<Self> {
        // As many zeros as the key is long, then the key, each behind its length.
        let mut secret = vec![0, 32];
        secret.extend_from_slice(&[0; 32]);
        secret.extend_from_slice(&[0, 32]);
        secret.extend_from_slice(psk);
        let master =
            expand(suite, &secret, &[b"master secret", client_random, server_random], MASTER_BYTES);
        let key_bytes = suite.aead.key_len();
        let block = expand(
            suite,
            &master,
            &[b"key expansion", server_random, client_random],
            2 * (key_bytes + SALT_BYTES),
        );
        let (keys, salts) = block.split_at_checked(2 * key_bytes)?;
        let (mut own_key, mut peer_key) = keys.split_at_checked(key_bytes)?;
        let (own_salt, peer_salt) = salts.split_first_chunk::<SALT_BYTES>()?;
        let (mut own_salt, mut peer_salt) = (*own_salt, *peer_salt.first_chunk()?);
        if is_server {
            std::mem::swap(&mut own_key, &mut peer_key);
            std::mem::swap(&mut own_salt, &mut peer_salt);
        }
        let key = |bytes| UnboundKey::new(suite.aead, bytes).ok().map(LessSafeKey::new);
        Some(Self {
            suite,
            sealer: Sealer::keyed(key(own_key)?, own_salt),
            opener: Opener::new(key(peer_key)?, peer_salt),
            master,
        })
    }

    /// What a Finished message says over the handshake so far.
    pub(super) fn finished(&self, label: &str, transcript: &[u8]) -> Vec<u8> {
        let hash = digest::digest(self.suite.digest, transcript);
        expand(self.suite, &self.master, &[label.as_bytes(), hash.as_ref()], FINISHED_BYTES)
    }
}

/// TLS 1.2's PRF (RFC 5246 section 5).
fn expand(suite: Suite, secret: &[u8], seed: &[&[u8]], length: usize) -> Vec<u8> {
    let key = hmac::Key::new(suite.hmac, secret);
    let seed = seed.concat();
    let (mut out, mut step) = (Vec::new(), seed.clone());
    while out.len() < length {
        step = hmac::sign(&key, &step).as_ref().to_vec();
        out.extend_from_slice(hmac::sign(&key, &[&step[..], &seed[..]].concat()).as_ref());
    }
    out.truncate(length);
    out
}
