//! One direction of a link, without I/O or clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::{Impairment, Random};

/// Datagrams under way at once: 60 Mbyte of full ones. What comes beyond counts as lost in the queue.
const UNDER_WAY_MAX: usize = 40_000;

/// A datagram, and which of the link's flows it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub flow: usize,
    pub bytes: Vec<u8>,
}

/// What became of what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub sent: u64,
    pub delivered: u64,
    /// By chance.
    pub lost: u64,
    /// For want of room in the queue.
    pub overflowed: u64,
    pub blocked: u64,
    pub too_long: u64,
    pub reordered: u64,
    pub duplicated: u64,
    pub corrupted: u64,
}

/// One direction. [`Lane::send`] puts datagrams in; [`Lane::poll`] gives those that have arrived.
#[derive(Debug)]
pub struct Lane {
    impairment: Impairment,
    random: Random,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    /// When the last datagram is through the bottleneck.
    busy_until: Option<Instant>,
    /// When the last datagram that keeps its place arrives.
    last_due: Option<Instant>,
    number: u64,
    counts: Counts,
}

#[derive(Debug)]
struct UnderWay {
    due: Instant,
    number: u64,
    datagram: Datagram,
}

impl Lane {
    #[must_use]
    pub fn new(impairment: Impairment, seed: u64) -> Self {
        Self {
            impairment,
            random: Random::new(seed),
            under_way: BinaryHeap::new(),
            busy_until: None,
            last_due: None,
            number: 0,
            counts: Counts::default(),
        }
    }

    /// Another impairment from now on. What is under way stays so, unless the new one blocks.
    pub fn set(&mut self, impairment: Impairment) {
        if impairment.blocked {
            self.counts.blocked += self.under_way.len() as u64;
            self.under_way.clear();
            self.last_due = None;
        }
        if impairment.rate.is_none() {
            self.busy_until = None;
        }
        self.impairment = impairment;
    }

    #[must_use]
    pub fn impairment(&self) -> Impairment {
        self.impairment
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn send(&mut self, now: Instant, mut datagram: Datagram) {
        self.counts.sent += 1;
        if self.impairment.blocked {
            self.counts.blocked += 1;
            return;
        }
        if self.impairment.longest.is_some_and(|longest| datagram.bytes.len() > longest) {
            self.counts.too_long += 1;
            return;
        }
        // The bottleneck stands before the lossy part, as a modem does before the air.
        let Some(through) = self.bottleneck(now, datagram.bytes.len()) else {
            self.counts.overflowed += 1;
            return;
        };
        if self.random.happens(self.impairment.loss) {
            self.counts.lost += 1;
            return;
        }
        if self.random.happens(self.impairment.corrupt) {
            self.corrupt(&mut datagram.bytes);
        }
        let due = self.due(through);
        if self.random.happens(self.impairment.duplicate) {
            self.counts.duplicated += 1;
            self.put(due, datagram.clone());
        }
        self.put(due, datagram);
    }

    /// The next datagram that has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<Datagram> {
        let first = self.under_way.peek()?;
        if first.0.due > now {
            return None;
        }
        let arrived = self.under_way.pop()?;
        self.counts.delivered += 1;
        Some(arrived.0.datagram)
    }

    /// When the next datagram arrives.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.peek().map(|first| first.0.due)
    }

    /// When the datagram is through the rate; `None` where the queue has no room.
    fn bottleneck(&mut self, now: Instant, length: usize) -> Option<Instant> {
        if self.under_way.len() >= UNDER_WAY_MAX {
            return None;
        }
        let Some(rate) = self.impairment.rate else { return Some(now) };
        let begins = self.busy_until.map_or(now, |busy| busy.max(now));
        let waiting = begins.duration_since(now).as_secs_f64() * rate as f64 / 8.0;
        if waiting as usize + length > self.impairment.queue_bytes.max(length) {
            return None;
        }
        let through = begins + Duration::from_secs_f64(length as f64 * 8.0 / rate as f64);
        self.busy_until = Some(through);
        Some(through)
    }

    fn due(&mut self, through: Instant) -> Instant {
        let jitter = self.impairment.jitter.mul_f64(self.random.share());
        let due = through + self.impairment.delay + jitter;
        if self.random.happens(self.impairment.reorder) {
            self.counts.reordered += 1;
            return due + self.impairment.reorder_by;
        }
        let due = self.last_due.map_or(due, |last| last.max(due));
        self.last_due = Some(due);
        due
    }

    fn corrupt(&mut self, bytes: &mut [u8]) {
        let at = self.random.below(bytes.len() * 8);
        if let Some(byte) = bytes.get_mut(at / 8) {
            *byte ^= 1 << (at % 8);
            self.counts.corrupted += 1;
        }
    }

    fn put(&mut self, due: Instant, datagram: Datagram) {
        self.number += 1;
        self.under_way.push(Reverse(UnderWay { due, number: self.number, datagram }));
    }
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.number) == (other.due, other.number)
    }
}

impl Eq for UnderWay {}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for UnderWay {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}
