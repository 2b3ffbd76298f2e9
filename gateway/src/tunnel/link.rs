//! The way of packets to a client: one bounded queue, drained by whichever channel the client used
//! last (TLS or DTLS).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Packets that wait: 10 ms at 1 Gbit/s. More would be delay and no throughput; TCP stops sending
/// when it is full, and what else comes is dropped, as on every link.
const QUEUED_MAX: usize = 1024;

/// Packets for one client.
pub struct Link {
    queue: Mutex<VecDeque<Vec<u8>>>,
    /// A packet came, or another channel became the active one.
    changed: Notify,
    /// The channel that drains; zero is none.
    active: AtomicU64,
    channels: AtomicU64,
    /// The largest packet that fits every channel in use, bytes.
    mtu: AtomicU16,
    /// The largest that ever did: what connections that are open may have been offered.
    widest: AtomicU16,
    began: Instant,
    /// Milliseconds after `began` at which the client was last heard.
    heard_ms: AtomicU64,
}

/// One channel of a link. Numbers grow: a later channel is a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel(u64);

impl Link {
    /// A link for packets of at most `mtu` bytes.
    #[must_use]
    pub fn new(mtu: u16) -> Self {
        Self {
            queue: Mutex::default(),
            changed: Notify::new(),
            active: AtomicU64::new(0),
            channels: AtomicU64::new(0),
            mtu: AtomicU16::new(mtu),
            widest: AtomicU16::new(mtu),
            began: Instant::now(),
            heard_ms: AtomicU64::new(0),
        }
    }

    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.mtu.load(Ordering::Relaxed)
    }

    pub fn set_mtu(&self, mtu: u16) {
        self.mtu.store(mtu, Ordering::Relaxed);
        self.widest.fetch_max(mtu, Ordering::Relaxed);
    }

    /// The largest packet that the client was ever led to send.
    #[must_use]
    pub fn widest(&self) -> u16 {
        self.widest.load(Ordering::Relaxed)
    }

    /// Queues a packet; false where the queue is full and the packet is lost.
    pub fn push(&self, packet: Vec<u8>) -> bool {
        let mut queue = self.queue.lock();
        if queue.len() >= QUEUED_MAX {
            return false;
        }
        queue.push_back(packet);
        let first = queue.len() == 1;
        drop(queue);
        if first {
            self.changed.notify_waiters();
        }
        true
    }

    /// Queues packets that came together, so that they can leave together; gives how many were lost for want
    /// of room.
    pub fn push_all(&self, packets: Vec<Vec<u8>>) -> usize {
        let mut queue = self.queue.lock();
        let was_empty = queue.is_empty();
        let count = packets.len();
        let room = QUEUED_MAX.saturating_sub(queue.len()).min(count);
        queue.extend(packets.into_iter().take(room));
        drop(queue);
        if was_empty && room > 0 {
            self.changed.notify_waiters();
        }
        count - room
    }

    /// Queues an answer to a packet that was just taken: there is one of it at most, so it may stand
    /// over the bound.
    pub fn push_answer(&self, packet: Vec<u8>) {
        let mut queue = self.queue.lock();
        if queue.len() >= 2 * QUEUED_MAX {
            return;
        }
        queue.push_back(packet);
        let first = queue.len() == 1;
        drop(queue);
        if first {
            self.changed.notify_waiters();
        }
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queue.lock().len() >= QUEUED_MAX
    }

    /// Notes that the client was heard on `channel`, which drains from now on.
    pub fn heard(&self, channel: Channel) {
        self.alive();
        self.hand_over(channel);
    }

    /// Lets `channel` drain from now on.
    pub fn hand_over(&self, channel: Channel) {
        if self.active.swap(channel.0, Ordering::AcqRel) != channel.0 {
            self.changed.notify_waiters();
        }
    }

    /// Notes that the client was heard, whatever it said.
    pub fn alive(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(since, Ordering::Relaxed);
    }

    /// Time since the client was last heard on any channel.
    #[must_use]
    pub fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(heard)
    }

    /// Another channel; it drains once the client is heard on it.
    #[must_use]
    pub fn channel(&self) -> Channel {
        Channel(self.channels.fetch_add(1, Ordering::Relaxed).saturating_add(1))
    }

    /// Waits until `channel` drains and there are packets, and moves up to `max` of them to `out`.
    /// Nothing is lost where this is dropped.
    pub async fn take(&self, channel: Channel, max: usize, out: &mut Vec<Vec<u8>>) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.active.load(Ordering::Acquire) == channel.0 {
                let mut queue = self.queue.lock();
                let count = queue.len().min(max);
                out.extend(queue.drain(..count));
                if count > 0 {
                    return;
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_go_out_on_the_channel_last_heard() {
        let link = Link::new(1400);
        let (old, new) = (link.channel(), link.channel());
        link.heard(old);
        assert!(link.push(vec![1]));
        let mut out = Vec::new();
        link.take(old, 8, &mut out).await;
        assert_eq!(out, [vec![1]]);
        link.heard(new);
        assert!(link.push(vec![2]));
        let waited = tokio::time::timeout(Duration::from_millis(20), link.take(old, 8, &mut out));
        assert!(waited.await.is_err());
        link.take(new, 8, &mut out).await;
        assert_eq!(out, [vec![1], vec![2]]);
    }

    #[test]
    fn a_full_link_drops_what_comes() {
        let link = Link::new(1400);
        let taken = (0..2 * QUEUED_MAX).filter(|_| link.push(vec![0])).count();
        assert_eq!(taken, QUEUED_MAX);
        assert!(link.is_full());
        let link = Link::new(1400);
        assert_eq!(link.push_all(vec![vec![0]; QUEUED_MAX - 1]), 0);
        assert_eq!(link.push_all(vec![vec![0]; 3]), 2);
        assert!(link.is_full());
    }
}
