//! Addresses that have not shown that they are their senders' own: each gets at most three times
//! what came from it (RFC 9000 section 8.1). The QUIC library lets the last datagram go beyond.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What may be sent for each byte received.
const FACTOR: u64 = 3;
/// Addresses in each half; beyond it the older half is forgotten.
const ADDRESSES_MAX: usize = 4_096;
/// Handshakes are over by then, one way or the other.
const TIME_MAX: Duration = Duration::from_secs(15);

/// See the module. Where it is full or late it forgets, and the library's own limit stands.
#[derive(Debug, Default)]
pub(super) struct Unproven {
    halves: Mutex<Halves>,
    /// Whether there is anything to look for.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Halves {
    new: HashMap<SocketAddr, Account>,
    old: HashMap<SocketAddr, Account>,
    turned: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    received: u64,
    sent: u64,
}

impl Unproven {
    /// A packet came that anybody could have sent.
    pub(super) fn received(&self, peer: SocketAddr, bytes: usize) {
        let mut halves = self.halves.lock();
        let turned = *halves.turned.get_or_insert_with(Instant::now);
        if halves.new.len() >= ADDRESSES_MAX || turned.elapsed() > TIME_MAX {
            halves.old = std::mem::take(&mut halves.new);
            halves.turned = None;
        }
        let before = halves.old.remove(&peer);
        let account = halves.new.entry(peer).or_default();
        if let Some(before) = before {
            *account = before;
        }
        account.received += bytes as u64;
        self.any.store(true, Ordering::Relaxed);
    }

    /// A packet came to an id that only who receives there can know.
    pub(super) fn proven(&self, peer: SocketAddr) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut halves = self.halves.lock();
        halves.new.remove(&peer);
        halves.old.remove(&peer);
        if halves.new.is_empty() && halves.old.is_empty() {
            self.any.store(false, Ordering::Relaxed);
        }
    }

    /// Whether so many bytes may be sent; they are counted then.
    pub(super) fn allows(&self, peer: SocketAddr, bytes: usize) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return true;
        }
        let mut halves = self.halves.lock();
        let Halves { new, old, .. } = &mut *halves;
        let Some(account) = new.get_mut(&peer).or_else(|| old.get_mut(&peer)) else { return true };
        let sent = account.sent.saturating_add(bytes as u64);
        let allowed = sent <= account.received.saturating_mul(FACTOR);
        if allowed {
            account.sent = sent;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn h3_17_nobody_gets_more_than_three_times_what_it_sent_before_it_is_proven() {
        let unproven = Unproven::default();
        assert!(unproven.allows(peer(1), 1 << 30), "nobody is known");
        unproven.received(peer(1), 1_200);
        assert!(unproven.allows(peer(1), 3_000));
        assert!(!unproven.allows(peer(1), 601));
        assert!(unproven.allows(peer(1), 600));
        unproven.received(peer(1), 1_200);
        assert!(unproven.allows(peer(1), 3_600));
        assert!(!unproven.allows(peer(1), 1));
        assert!(unproven.allows(peer(2), 1 << 30), "another");
        unproven.proven(peer(1));
        assert!(unproven.allows(peer(1), 1 << 30));
        assert!(!unproven.any.load(Ordering::Relaxed));
    }

    #[test]
    fn a_flood_of_addresses_is_forgotten_half_by_half() {
        let unproven = Unproven::default();
        for port in 0..=u16::MAX {
            unproven.received(peer(port), 1_200);
        }
        let halves = unproven.halves.lock();
        assert!(halves.new.len() <= ADDRESSES_MAX && halves.old.len() <= ADDRESSES_MAX);
        drop(halves);
        assert!(!unproven.allows(peer(u16::MAX), 4_000));
    }
}
