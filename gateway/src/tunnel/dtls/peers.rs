//! Who is behind which address: datagrams find their connection here.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use dashmap::DashMap;
use gateway_proto::dtls::is_first_flight;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Datagrams that wait for one connection: some milliseconds of a fast upload.
const QUEUED_MAX: usize = 512;
/// Handshakes that may be under way. Anybody can begin one from any address, and each holds some
/// 20 KB until its address is proven: where there are more, the oldest goes. A client whose round trip
/// is 50 ms is still served under 80,000 forged ones a second.
const OPENING_MAX: usize = 4_096;
/// Connections at one address: the live one, and one that a client begins anew.
const AT_ONE_ADDRESS_MAX: usize = 2;

/// What comes for one connection.
pub struct Mailbox {
    number: u64,
    address: SocketAddr,
    pub datagrams: mpsc::Receiver<Bytes>,
    /// Cancelled when it has to make room.
    pub evicted: CancellationToken,
}

/// The connections of one UDP port.
#[derive(Default)]
pub struct Peers {
    table: DashMap<SocketAddr, SmallVec<[Peer; 1]>>,
    opening: Mutex<Opening>,
}

#[derive(Default)]
struct Opening {
    next: u64,
    queue: VecDeque<(u64, SocketAddr, CancellationToken)>,
}

struct Peer {
    number: u64,
    connected: bool,
    datagrams: mpsc::Sender<Bytes>,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    Yes,
    /// The connection does not keep up.
    Full,
    /// It opens something new.
    First,
    /// Nobody's.
    Stray,
}

impl Peers {
    /// Gives a datagram to the connections at its address.
    pub fn deliver(&self, address: SocketAddr, datagram: &Bytes) -> Delivered {
        let first = is_first_flight(datagram);
        let Some(peers) = self.table.get(&address) else {
            return if first { Delivered::First } else { Delivered::Stray };
        };
        // A client that lost its state begins anew from the same address; what it had stays until the
        // new handshake has proven that it is the client's (RFC 9147 section 5.11).
        if first && peers.iter().all(|peer| peer.connected) {
            return Delivered::First;
        }
        let mut delivered = Delivered::Stray;
        for peer in peers.iter().filter(|peer| !(first && peer.connected)) {
            // Both may get it: only one of them can decrypt it.
            match peer.datagrams.try_send(datagram.clone()) {
                Ok(()) => delivered = Delivered::Yes,
                Err(_) if delivered == Delivered::Stray => delivered = Delivered::Full,
                Err(_) => {}
            }
        }
        delivered
    }

    /// Adds a connection that begins its handshake.
    pub fn open(&self, address: SocketAddr) -> Option<Mailbox> {
        let (sender, datagrams) = mpsc::channel(QUEUED_MAX);
        let evicted = CancellationToken::new();
        let mut opening = self.opening.lock();
        opening.next += 1;
        let number = opening.next;
        let mut peers = self.table.entry(address).or_default();
        if peers.len() >= AT_ONE_ADDRESS_MAX {
            return None;
        }
        peers.push(Peer { number, connected: false, datagrams: sender });
        drop(peers);
        opening.queue.push_back((number, address, evicted.clone()));
        if opening.queue.len() > OPENING_MAX
            && let Some((_, _, oldest)) = opening.queue.pop_front()
        {
            oldest.cancel();
        }
        Some(Mailbox { number, address, datagrams, evicted })
    }

    /// Its handshake is done: it replaces what was at its address.
    pub fn connected(&self, mailbox: &Mailbox) {
        if let Some(mut peers) = self.table.get_mut(&mailbox.address) {
            peers.retain(|peer| peer.number == mailbox.number);
            if let Some(peer) = peers.first_mut() {
                peer.connected = true;
            }
        }
        self.opened(mailbox);
    }

    /// It is over.
    pub fn close(&self, mailbox: &Mailbox) {
        if let Some(mut peers) = self.table.get_mut(&mailbox.address) {
            peers.retain(|peer| peer.number != mailbox.number);
        }
        self.table.remove_if(&mailbox.address, |_, peers| peers.is_empty());
        self.opened(mailbox);
    }

    fn opened(&self, mailbox: &Mailbox) {
        let mut opening = self.opening.lock();
        if let Ok(at) = opening.queue.binary_search_by_key(&mailbox.number, |entry| entry.0) {
            opening.queue.remove(at);
        }
    }

    /// Handshakes under way.
    #[must_use]
    pub fn opening(&self) -> usize {
        self.opening.lock().queue.len()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn hello() -> Bytes {
        let mut hello = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
        hello.extend([0; 20]);
        hello.into()
    }

    #[test]
    fn a_new_handshake_replaces_the_old_connection_only_when_it_is_done() {
        let peers = Peers::default();
        let data = Bytes::from_static(&[0x2f, 1, 2]);
        assert_eq!(peers.deliver(address(1), &data), Delivered::Stray);
        assert_eq!(peers.deliver(address(1), &hello()), Delivered::First);
        let mut old = peers.open(address(1)).unwrap();
        assert_eq!(peers.deliver(address(1), &hello()), Delivered::Yes);
        peers.connected(&old);
        assert_eq!(peers.deliver(address(1), &hello()), Delivered::First);
        let mut new = peers.open(address(1)).unwrap();
        assert!(peers.open(address(1)).is_none());
        assert_eq!(peers.deliver(address(1), &data), Delivered::Yes);
        assert!(old.datagrams.try_recv().is_ok() && old.datagrams.try_recv().is_ok());
        assert!(new.datagrams.try_recv().is_ok());
        peers.connected(&new);
        assert!(old.datagrams.is_closed());
        peers.close(&old);
        assert_eq!(peers.deliver(address(1), &data), Delivered::Yes);
        peers.close(&new);
        assert_eq!(peers.deliver(address(1), &data), Delivered::Stray);
        assert_eq!((peers.table.len(), peers.opening()), (0, 0));
    }

    #[test]
    fn of_too_many_handshakes_the_oldest_makes_room() {
        let peers = Peers::default();
        let mailboxes: Vec<_> = (0..=OPENING_MAX)
            .map(|number| peers.open(address(u16::try_from(number + 1).unwrap())).unwrap())
            .collect();
        let evicted: Vec<_> = mailboxes.iter().map(|it| it.evicted.is_cancelled()).collect();
        assert!(evicted.first().unwrap() & !evicted.get(1).unwrap());
        assert_eq!(peers.opening(), OPENING_MAX);
    }
}
