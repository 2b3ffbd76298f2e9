//! A bad network in front of a good one: delay, jitter, loss, reordering, duplication, corruption, and
//! a rate with a bounded queue, each way for itself, by a seed. [`Tap`] records what passes.
//!
//! [`Lane`] is one direction without I/O or clock, for tests in virtual time. [`UdpRelay`] puts two of
//! them between UDP sockets on loopback, [`TcpRelay`] delays and paces TCP connections (a lost byte of
//! those needs a device below TCP).

mod lane;
mod random;
mod tap;
mod tcp;
mod udp;

pub use lane::{Counts, Datagram, Lane};
pub use random::Random;
pub use tap::Tap;
pub use tcp::{Pace, TcpRelay};
pub use udp::UdpRelay;
pub(crate) use udp::socket;

use std::time::Duration;

/// What one direction does to datagrams. Shares are of 1, each on its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairment {
    /// On the way at least so long.
    pub delay: Duration,
    /// And up to so much longer, without change of order.
    pub jitter: Duration,
    /// Share that is lost.
    pub loss: f64,
    /// Share that comes later than its successors.
    pub reorder: f64,
    /// How much later those come.
    pub reorder_by: Duration,
    /// Share that comes twice.
    pub duplicate: f64,
    /// Share with one bit turned.
    pub corrupt: f64,
    /// Bits per second; `None` does not limit.
    pub rate: Option<u64>,
    /// Bytes that wait for the rate; what comes beyond is lost.
    pub queue_bytes: usize,
    /// What is longer, in bytes of what the link carries, is lost without a word.
    pub longest: Option<usize>,
    /// Nothing gets through.
    pub blocked: bool,
}

/// The queue where none is told: 250 ms at 10 Mbit/s.
const QUEUE_BYTES: usize = 320 * 1024;

impl Impairment {
    /// Lets everything through at once.
    #[must_use]
    pub fn none() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(5),
            duplicate: 0.0,
            corrupt: 0.0,
            rate: None,
            queue_bytes: QUEUE_BYTES,
            longest: None,
            blocked: false,
        }
    }

    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    #[must_use]
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    #[must_use]
    pub fn loss(mut self, share: f64) -> Self {
        self.loss = share;
        self
    }

    #[must_use]
    pub fn reorder(mut self, share: f64, by: Duration) -> Self {
        self.reorder = share;
        self.reorder_by = by;
        self
    }

    #[must_use]
    pub fn duplicate(mut self, share: f64) -> Self {
        self.duplicate = share;
        self
    }

    #[must_use]
    pub fn corrupt(mut self, share: f64) -> Self {
        self.corrupt = share;
        self
    }

    #[must_use]
    pub fn rate(mut self, bits_per_s: u64, queue_bytes: usize) -> Self {
        self.rate = Some(bits_per_s);
        self.queue_bytes = queue_bytes;
        self
    }

    #[must_use]
    pub fn longest(mut self, bytes: usize) -> Self {
        self.longest = Some(bytes);
        self
    }

    #[must_use]
    pub fn blocked(mut self) -> Self {
        self.blocked = true;
        self
    }
}

#[cfg(test)]
mod tests;
