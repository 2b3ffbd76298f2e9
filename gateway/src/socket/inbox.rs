//! Datagrams that wait for one worker's QUIC endpoint: a bounded queue, so that a flood of one
//! protocol of the port costs the others no more than its reading.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use quinn_udp::{EcnCodepoint, RecvMeta};

use super::udp::{Batch, Way};
use super::unproven::Unproven;

/// What may wait: 10 ms at 3 Gbit/s, as much as the kernel keeps for us.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// What a batch counts beyond its bytes.
const BATCH_BYTES: usize = 128;

/// See the module.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    unproven: Unproven,
}

/// Who sent a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Somebody who has received an id of ours.
    Client,
    /// Anybody.
    Stranger,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Arrived>,
    bytes: usize,
    reader: Option<Waker>,
}

#[derive(Debug)]
struct Arrived {
    way: Way,
    ecn: Option<EcnCodepoint>,
    size: usize,
    joined: Vec<u8>,
    /// Bytes that were taken out already.
    taken: usize,
}

impl Arrived {
    /// The next datagram, and whether it is the last.
    fn next(&mut self) -> (&[u8], bool) {
        let rest = self.joined.get(self.taken..).unwrap_or_default();
        let datagram = rest.get(..self.size.min(rest.len())).unwrap_or_default();
        self.taken += datagram.len();
        (datagram, datagram.is_empty() || self.taken >= self.joined.len())
    }
}

impl Inbox {
    /// Puts a batch in; false where there is no room.
    #[must_use]
    pub fn put(&self, batch: &Batch<'_>, known: Known) -> bool {
        match known {
            Known::Client => self.unproven.proven(batch.way.peer),
            Known::Stranger => self.unproven.received(batch.way.peer, batch.joined.len()),
        }
        let mut waiting = self.waiting.lock();
        let bytes = batch.joined.len() + BATCH_BYTES;
        if waiting.bytes + bytes > WAITING_BYTES_MAX {
            return false;
        }
        waiting.bytes += bytes;
        let joined = batch.joined.to_vec();
        let Batch { way, ecn, size, .. } = *batch;
        let arrived = Arrived { way, ecn, size, joined, taken: 0 };
        waiting.batches.push_back(arrived);
        let reader = waiting.reader.take();
        drop(waiting);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }

    /// Whether so many bytes of a handshake may go to `peer`.
    pub(super) fn allows(&self, peer: SocketAddr, bytes: usize) -> bool {
        self.unproven.allows(peer, bytes)
    }

    /// Takes datagrams out, one to a buffer. The library keeps all of a buffer's contents for as long as it keeps a
    /// byte of them, and counts one packet's: joined, forty times as much would be kept (CASES H3-24).
    pub(super) fn poll_take(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<usize> {
        let mut waiting = self.waiting.lock();
        let Waiting { batches, bytes, reader } = &mut *waiting;
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some(arrived) = batches.front_mut() else { break };
            (meta.addr, meta.dst_ip, meta.ecn) = (arrived.way.peer, arrived.way.local, arrived.ecn);
            let (datagram, last) = arrived.next();
            // What is longer than the buffer is longer than any datagram we allow.
            let length = datagram.len().min(buffer.len());
            if let (Some(to), Some(from)) = (buffer.get_mut(..length), datagram.get(..length)) {
                to.copy_from_slice(from);
            }
            (meta.len, meta.stride) = (length, length);
            count += 1;
            if last && let Some(done) = batches.pop_front() {
                *bytes = bytes.saturating_sub(done.joined.len() + BATCH_BYTES);
            }
        }
        if count == 0 {
            *reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(count)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::task::Waker;

    use super::*;

    #[test]
    fn what_waits_is_bounded_and_comes_out_as_it_came_in() {
        let inbox = Inbox::default();
        let way = Way { peer: "192.0.2.1:9".parse().unwrap(), local: None };
        let joined: Vec<u8> = (0..60_000_u32).map(|it| it.to_le_bytes()[0]).collect();
        let batch = Batch { way, ecn: Some(EcnCodepoint::Ect0), size: 1_201, joined: &joined };
        let put = (0..1_000).take_while(|_| inbox.put(&batch, Known::Client)).count();
        assert_eq!(put, WAITING_BYTES_MAX / (60_000 + BATCH_BYTES));
        let mut context = Context::from_waker(Waker::noop());
        let mut taken = 0;
        loop {
            let mut room = vec![vec![0; 1_472]; 7];
            let mut slices: Vec<_> = room.iter_mut().map(|it| IoSliceMut::new(it)).collect();
            let mut meta = [RecvMeta::default(); 7];
            let Poll::Ready(count) = inbox.poll_take(&mut context, &mut slices, &mut meta) else {
                break;
            };
            for (meta, bytes) in meta.iter().zip(&slices).take(count) {
                let from = taken % 60_000;
                assert_eq!((meta.addr, meta.stride), (way.peer, meta.len));
                assert_eq!(meta.len, 1_201.min(60_000 - from), "the last one is shorter");
                assert_eq!(bytes.get(..meta.len), joined.get(from..from + meta.len));
                taken += meta.len;
            }
        }
        assert_eq!(taken, put * 60_000);
        assert!(inbox.put(&batch, Known::Stranger));
    }
}
