//! What a QUIC client may have the library do without end, bounded where each packet is opened and sealed.
//!
//! - quinn-proto makes a connection id for each that a client gives back, and an event for each such frame, two bytes
//!   of a packet, and queues both without bound: even where the client acknowledges nothing.
//! - It joins the pieces of a stream anew each time that a few more of them have come, however small they are: 400 µs
//!   of CPU for a packet full of single bytes.
//! - It answers each word from a new address with a PATH_CHALLENGE of 1,200 bytes to that address, however short the
//!   word was: the address may be somebody else's (RFC 9000 section 9.3.1).
//!
//! Who goes beyond is closed with PROTOCOL_VIOLATION. Everything else that a client may stuff it bounds itself.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::BytesMut;
use gateway_proto::quic_frames::{Survey, challenge, survey};
use parking_lot::Mutex;
use quinn::{ConnectionId, Side, crypto};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;

use super::bucket::Bucket;

/// Ids that a client may give back at once. It has eight at most; what is lost it says again.
const RETIREMENTS_BURST: u32 = 64;
/// Paths that are challenged at once: the new one and the one before, for each of sixteen moves. Sixteen
/// answers to somebody else's address are some three times what the handshake took of the client.
const CHALLENGES_BURST: u32 = 32;
/// And so many more of each: a client that moves every other second.
const PER_SECOND: u32 = 1;

/// STREAM frames of a few bytes that a packet may have: what of each stream a packet has no more room for.
const THIN_MAX: u32 = 4;
/// Beyond those, so many at once and a second, as over HTTP/2.
const THIN_BURST: u32 = 10_000;
const THIN_PER_SECOND: u32 = 1_000;

/// A server's configuration whose connections are bounded.
pub struct Bounded<C>(pub Arc<C>);

impl<C: crypto::ServerConfig + 'static> crypto::ServerConfig for Bounded<C> {
    fn initial_keys(
        &self,
        version: u32,
        id: &ConnectionId,
    ) -> Result<crypto::Keys, crypto::UnsupportedVersion> {
        self.0.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, id, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        parameters: &TransportParameters,
    ) -> Box<dyn crypto::Session> {
        let session = Arc::clone(&self.0).start_session(version, parameters);
        Box::new(BoundedSession { session, account: Arc::new(Account::new()) })
    }
}

/// A session whose keys look at what they open.
struct BoundedSession {
    session: Box<dyn crypto::Session>,
    account: Arc<Account>,
}

impl BoundedSession {
    fn bounded(
        &self,
        keys: crypto::KeyPair<Box<dyn crypto::PacketKey>>,
    ) -> crypto::KeyPair<Box<dyn crypto::PacketKey>> {
        let bounded = |key| -> Box<dyn crypto::PacketKey> {
            Box::new(BoundedKey { key, account: Arc::clone(&self.account) })
        };
        crypto::KeyPair { local: bounded(keys.local), remote: bounded(keys.remote) }
    }
}

impl crypto::Session for BoundedSession {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> crypto::Keys {
        self.session.initial_keys(id, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn crypto::HeaderKey>, Box<dyn crypto::PacketKey>)> {
        self.session.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        self.session.read_handshake(bytes)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<crypto::Keys> {
        let crypto::Keys { header, packet } = self.session.write_handshake(out)?;
        Some(crypto::Keys { header, packet: self.bounded(packet) })
    }

    fn next_1rtt_keys(&mut self) -> Option<crypto::KeyPair<Box<dyn crypto::PacketKey>>> {
        let keys = self.session.next_1rtt_keys()?;
        Some(self.bounded(keys))
    }

    fn is_valid_retry(&self, id: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(id, header, payload)
    }

    fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), crypto::ExportKeyingMaterialError> {
        self.session.export_keying_material(out, label, context)
    }
}

/// A key, and whose.
struct BoundedKey {
    key: Box<dyn crypto::PacketKey>,
    account: Arc<Account>,
}

impl crypto::PacketKey for BoundedKey {
    fn encrypt(&self, packet: u64, buffer: &mut [u8], header_bytes: usize) {
        let frames = header_bytes..buffer.len().saturating_sub(self.key.tag_len());
        self.account.says(buffer.get(frames).unwrap_or_default());
        self.key.encrypt(packet, buffer, header_bytes);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), crypto::CryptoError> {
        self.key.decrypt(packet, header, payload)?;
        if !self.account.hears(payload) {
            // A packet without a frame closes the connection (RFC 9000 section 12.4).
            payload.clear();
        }
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.key.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.key.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.key.integrity_limit()
    }
}

/// What one connection has used of what it may.
struct Account {
    retirements: Mutex<Bucket>,
    thin: Mutex<Bucket>,
    /// The last challenge, and what is left.
    challenges: Mutex<(u64, Bucket)>,
    /// It has moved too often.
    moved: AtomicBool,
}

impl Account {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            retirements: Mutex::new(Bucket::new(RETIREMENTS_BURST, PER_SECOND, now)),
            thin: Mutex::new(Bucket::new(THIN_BURST, THIN_PER_SECOND, now)),
            challenges: Mutex::new((0, Bucket::new(CHALLENGES_BURST, PER_SECOND, now))),
            moved: AtomicBool::new(false),
        }
    }

    /// Takes note of what we are about to say.
    fn says(&self, frames: &[u8]) {
        let Some(token) = challenge(frames) else { return };
        let (last, left) = &mut *self.challenges.lock();
        // Until it is answered a challenge is said again in each packet.
        if *last != token {
            *last = token;
            if !left.spend(1, Instant::now()) {
                self.moved.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Takes note of what the client says; false where that is too much.
    fn hears(&self, frames: &[u8]) -> bool {
        let Survey { retirements, thin } = survey(frames);
        let pays =
            |bucket: &Mutex<Bucket>, cost| cost == 0 || bucket.lock().spend(cost, Instant::now());
        pays(&self.retirements, retirements)
            && pays(&self.thin, thin.saturating_sub(THIN_MAX))
            && !self.moved.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_given_back_without_end_are_too_many() {
        let account = Account::new();
        assert!(account.hears(&[0x19, 1].repeat(RETIREMENTS_BURST as usize)));
        assert!(account.hears(&[1]), "what else is said");
        assert!(!account.hears(&[0x19, 1]));
    }

    #[test]
    fn single_bytes_without_end_are_too_many_and_a_few_in_each_packet_are_not() {
        let account = Account::new();
        let thin = [0x0a, 0, 1, 7];
        for _ in 0..20_000 {
            assert!(account.hears(&thin.repeat(THIN_MAX as usize)));
        }
        let flood = thin.repeat(200);
        let taken = (0..10_000).take_while(|_| account.hears(&flood)).count();
        assert!((51..1_000).contains(&taken), "{taken} packets of 200");
    }

    #[test]
    fn moves_without_end_are_too_many_and_a_challenge_said_again_is_none() {
        let account = Account::new();
        let challenge = |token: u64| [&[0x1a][..], &token.to_be_bytes()].concat();
        for token in 1..=u64::from(CHALLENGES_BURST) {
            (0..10).for_each(|_| account.says(&challenge(token)));
        }
        assert!(account.hears(&[1]));
        account.says(&challenge(99));
        assert!(!account.hears(&[1]));
    }
}
