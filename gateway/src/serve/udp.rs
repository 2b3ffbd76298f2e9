//! The UDP port: which protocol a datagram is of, and to which worker it goes.

use std::sync::Arc;
use std::time::Duration;

use super::packets;
use super::pop::Worker;
use crate::socket::{Batch, Buffers, Inbox, Known, Passed, To, UdpPort};
use crate::tunnel::quic::{Generation, Ids, Route, destination};

/// After a failed read the port rests, instead of spinning.
const REST: Duration = Duration::from_millis(50);
/// How often other processes at the port are looked for: a session that a new one has is asked for by
/// then.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The protocols of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Dtls,
    Quic,
}

impl Protocol {
    /// By the first byte (RFC 9443 section 3): STUN, ZRTP and TURN are not spoken here.
    fn of(datagram: &[u8]) -> Option<Self> {
        match datagram.first()? {
            20..=63 => Some(Self::Dtls),
            64..=127 | 192..=255 => Some(Self::Quic),
            _ => None,
        }
    }
}

/// How a datagram came to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Directly,
    /// Another process passed it on; it is not passed on again.
    HandedOver,
}

impl Came {
    /// Passes datagrams to another process at the port, where there is one that may have them; what it
    /// does not take is lost.
    pub(super) fn pass_on(self, worker: &Worker, to: To, batch: &Batch<'_>) -> bool {
        let metrics = &worker.pop.metrics;
        let handover = worker.pop.handover.as_ref().filter(|_| self == Self::Directly);
        match handover.map_or(Passed::Nobody, |handover| handover.pass(to, batch)) {
            Passed::Nobody => return false,
            Passed::Full => metrics.datagram_dropped("handover"),
            Passed::Yes => {
                metrics.datagrams_handed_over_total.inc_by(batch.datagrams().count() as u64);
            }
        }
        true
    }
}

/// The workers' inboxes, and how a datagram says to which it goes.
pub(super) struct Sorter {
    pub(super) ids: Arc<Ids>,
    pub(super) inboxes: Vec<Arc<Inbox>>,
}

/// Reads one socket of the UDP port until the process stops.
pub(super) async fn serve(worker: Arc<Worker>, port: Arc<UdpPort>, sorter: Arc<Sorter>) {
    let mut buffers = Buffers::default();
    let stopping = worker.pop.stopping.clone();
    loop {
        let read =
            port.receive(&mut buffers, |batch| sorter.take(&worker, &port, &batch, Came::Directly));
        tokio::select! {
            read = read => if let Err(error) = read {
                tracing::warn!("the UDP port: {error}");
                tokio::time::sleep(REST).await;
            },
            () = stopping.cancelled() => return,
        }
    }
}

/// Serves what other processes at the same port pass on, until this one stops. Answers leave from
/// `port`.
pub(super) async fn serve_handed_over(
    worker: Arc<Worker>,
    port: Arc<UdpPort>,
    sorter: Arc<Sorter>,
) {
    let Some(handover) = &worker.pop.handover else { return };
    let mut buffer = Vec::new();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            read = handover.receive(&mut buffer, |batch| {
                sorter.take(&worker, &port, batch, Came::HandedOver);
            }) => if let Err(error) = read {
                tracing::warn!("the handover socket: {error}");
                tokio::time::sleep(REST).await;
            },
            _ = looks.tick() => handover.look(),
            () = worker.pop.stopping.cancelled() => return,
        }
    }
}

impl Sorter {
    /// Gives what came together to whom it belongs.
    fn take(&self, worker: &Arc<Worker>, port: &Arc<UdpPort>, batch: &Batch<'_>, came: Came) {
        if all_of_one_connection(batch) {
            return self.put(worker, batch, came);
        }
        for datagram in batch.datagrams() {
            match Protocol::of(datagram) {
                Some(Protocol::Dtls) => {
                    packets::take_dtls(worker, port, batch.way, datagram, came);
                }
                Some(Protocol::Quic) => self.put(worker, &batch.only(datagram), came),
                None => worker.pop.metrics.datagram_dropped("unknown"),
            }
        }
    }

    /// Gives datagrams of one QUIC connection to its worker, or to the process that has it.
    fn put(&self, worker: &Worker, batch: &Batch<'_>, came: Came) {
        let first = batch.datagrams().next().unwrap_or_default();
        let route = self.ids.route(first);
        let elsewhere = match route {
            Route::Elsewhere(Generation(number)) => Some(To::Process(number.into())),
            Route::Here if worker.pop.draining.is_cancelled() => Some(To::Newest),
            Route::Here | Route::Worker(_) => None,
        };
        if elsewhere.is_some_and(|to| came.pass_on(worker, to, batch)) {
            return;
        }
        let (index, known) = match route {
            Route::Worker(index) => (index.into(), Known::Client),
            // What is of a process that is no more is answered with a stateless reset.
            Route::Here | Route::Elsewhere(_) => (worker.index, Known::Stranger),
        };
        match self.inboxes.get(index) {
            Some(inbox) if inbox.put(batch, known) => {}
            Some(_) => worker.pop.metrics.datagram_dropped("queue"),
            None => worker.pop.metrics.datagram_dropped("stray"),
        }
    }
}

/// Whether these are datagrams of QUIC, all to one id.
fn all_of_one_connection(batch: &Batch<'_>) -> bool {
    let mut datagrams = batch.datagrams();
    let Some(first) = datagrams.next() else { return false };
    let id = destination(first);
    Protocol::of(first) == Some(Protocol::Quic)
        && datagrams.all(|datagram| {
            Protocol::of(datagram) == Some(Protocol::Quic)
                && id.is_some()
                && destination(datagram) == id
        })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::socket::Way;

    #[test]
    fn dt_18_every_first_byte_has_its_protocol_or_none() {
        for byte in 0..=255_u8 {
            let expected = match byte {
                0..=19 | 128..=191 => None,
                20..=63 => Some(Protocol::Dtls),
                64..=127 | 192..=255 => Some(Protocol::Quic),
            };
            assert_eq!(Protocol::of(&[byte, 1, 2]), expected, "{byte}");
        }
        assert_eq!(Protocol::of(&[]), None);
    }

    #[test]
    fn only_datagrams_of_one_connection_stay_together() {
        let way = Way { peer: "192.0.2.1:9".parse().unwrap(), local: None };
        let datagram = |first: u8, id: u8| [&[first][..], &[id; 16], &[9; 13]].concat();
        let together = |datagrams: &[Vec<u8>]| {
            let joined = datagrams.concat();
            all_of_one_connection(&Batch { way, ecn: None, size: 30, joined: &joined })
        };
        assert!(together(&[datagram(0x41, 1), datagram(0x5f, 1)]));
        assert!(!together(&[datagram(0x41, 1), datagram(0x41, 2)]));
        assert!(!together(&[datagram(0x41, 1), datagram(0x17, 1)]));
        assert!(!together(&[datagram(0x17, 1), datagram(0x41, 1)]));
        assert!(!together(&[datagram(0x41, 1), vec![0x41, 1]]));
        assert!(!together(&[]));
    }
}
