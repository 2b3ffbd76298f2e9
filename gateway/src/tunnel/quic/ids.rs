//! Connection ids of our own: each says, to us only, which process and worker its connection is
//! of, so that datagrams find it wherever they arrive.
//!
//! An id is one AES block: generation, worker, zeros, nonce. To anybody without the key it is a
//! random number, and two ids of one connection have nothing in common (RFC 9000 section 5.1). A
//! forged one does not decrypt to zeros, but for one in 65,536; and then its generation is one of
//! ours for one in four billion of those.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::error::Unspecified;
use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

/// Every id of ours has this length; short headers do not say it.
pub(super) const ID_BYTES: usize = 16;

/// Which process: its number among those that share the port, or else when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

impl Generation {
    /// Of a process that has a number among others, or else begins now: in seconds since the epoch,
    /// which are larger than any such number.
    #[must_use]
    pub fn new(number: Option<u64>, now: SystemTime) -> Self {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u32::try_from(number.unwrap_or(since.as_secs())).unwrap_or(u32::MAX))
    }
}

/// What an id of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub generation: Generation,
    pub worker: u16,
}

/// Makes and reads ids.
pub struct Ids {
    generation: Generation,
    encrypting: EncryptingKey,
    decrypting: DecryptingKey,
}

/// Where a datagram belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the worker it arrived at: its id is the client's own, or says so.
    Here,
    /// To this worker of this process.
    Worker(u16),
    /// To a process that began at another time.
    Elsewhere(Generation),
}

impl Ids {
    /// # Errors
    /// Where the cryptography cannot be used.
    pub fn new(key: &[u8; 16], generation: Generation) -> Result<Self, Unspecified> {
        let encrypting = EncryptingKey::ecb(UnboundCipherKey::new(&AES_128, key)?)?;
        let decrypting = DecryptingKey::ecb(UnboundCipherKey::new(&AES_128, key)?)?;
        Ok(Self { generation, encrypting, decrypting })
    }

    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    fn write(&self, worker: u16, nonce: u64) -> [u8; ID_BYTES] {
        let mut block = [0; ID_BYTES];
        let parts = [
            &self.generation.0.to_be_bytes()[..],
            &worker.to_be_bytes(),
            &[0, 0],
            &nonce.to_be_bytes(),
        ];
        block.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        // One block under a key that was good when it was made does not fail.
        drop(self.encrypting.encrypt(&mut block));
        block
    }

    /// What an id says, if it is one of ours.
    #[must_use]
    pub fn read(&self, id: &[u8]) -> Option<Place> {
        let mut block: [u8; ID_BYTES] = id.try_into().ok()?;
        self.decrypting.decrypt(&mut block, DecryptionContext::None).ok()?;
        let [a, b, c, d, high, low, 0, 0, ..] = block else { return None };
        let generation = Generation(u32::from_be_bytes([a, b, c, d]));
        Some(Place { generation, worker: u16::from_be_bytes([high, low]) })
    }

    /// Where a QUIC datagram belongs.
    #[must_use]
    pub fn route(&self, datagram: &[u8]) -> Route {
        let place = destination(datagram).and_then(|id| self.read(id));
        match place {
            Some(place) if place.generation == self.generation => Route::Worker(place.worker),
            Some(place) => Route::Elsewhere(place.generation),
            None => Route::Here,
        }
    }
}

/// The destination's id, where it has the length of ours (RFC 8999 section 5).
#[must_use]
pub fn destination(datagram: &[u8]) -> Option<&[u8]> {
    let long = *datagram.first()? & 0x80 != 0;
    match (long, datagram.get(5)) {
        (false, _) => datagram.get(1..=ID_BYTES),
        (true, Some(length)) if usize::from(*length) == ID_BYTES => datagram.get(6..6 + ID_BYTES),
        (true, _) => None,
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ids").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// Makes the ids of one worker's connections.
pub(super) struct Generator {
    ids: Arc<Ids>,
    worker: u16,
    /// Counts up from a random number: no two ids are the same.
    nonce: u64,
}

impl Generator {
    #[must_use]
    pub(super) fn new(ids: Arc<Ids>, worker: u16, nonce: u64) -> Self {
        Self { ids, worker, nonce }
    }
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        self.nonce = self.nonce.wrapping_add(1);
        ConnectionId::new(&self.ids.write(self.worker, self.nonce))
    }

    /// A stateless reset is sent for ids of any generation: of a process that is gone, too.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        self.ids.read(id).map(|_| ()).ok_or(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn ids(generation: u32) -> Arc<Ids> {
        Arc::new(Ids::new(b"sixteen byte key", Generation(generation)).unwrap())
    }

    fn short(id: &[u8]) -> Vec<u8> {
        [&[0x45][..], id, &[9; 30]].concat()
    }

    fn long(id: &[u8]) -> Vec<u8> {
        let length = u8::try_from(id.len()).unwrap();
        [&[0xc3, 0, 0, 0, 1, length][..], id, &[9; 30]].concat()
    }

    #[test]
    fn an_id_says_its_worker_and_process() {
        let (ours, newer) = (ids(100), ids(101));
        let mut generator = Generator::new(Arc::clone(&ours), 7, u64::MAX - 1);
        let made: Vec<_> = (0..1_000).map(|_| generator.generate_cid()).collect();
        for (number, id) in made.iter().enumerate() {
            assert_eq!(id.len(), ID_BYTES);
            assert!(generator.validate(id).is_ok());
            assert_eq!(ours.route(&short(id)), Route::Worker(7));
            assert_eq!(ours.route(&long(id)), Route::Worker(7));
            assert_eq!(newer.route(&short(id)), Route::Elsewhere(Generation(100)));
            assert!(!made.iter().take(number).any(|earlier| earlier == id));
        }
    }

    #[test]
    fn ids_of_clients_and_of_other_keys_are_not_ours() {
        let ours = ids(100);
        for length in 0..=20 {
            assert_eq!(ours.route(&long(&vec![0x5a; length])), Route::Here, "{length}");
        }
        for datagram in [&[][..], &[0x40], &[0x40, 1, 2], &[0xc0, 0, 0, 0, 1], &[0xc0; 10]] {
            assert_eq!(ours.route(datagram), Route::Here);
        }
        let strange = Ids::new(b"sixteen byte KEY", Generation(100)).unwrap();
        let id = strange.write(0, 1);
        assert_eq!(ours.route(&short(&id)), Route::Here);
        // A bit flipped anywhere makes another number of it.
        let id = ours.write(3, 1);
        for bit in 0..128 {
            let mut forged = id;
            if let Some(byte) = forged.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            assert_eq!(ours.route(&short(&forged)), Route::Here);
        }
    }
}
