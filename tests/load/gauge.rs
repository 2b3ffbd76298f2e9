//! What all streams of a run share: counters, and the clock that deals out due times.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counters that the progress line reads while the run goes on.
#[derive(Default)]
pub(crate) struct Gauge {
    pub(crate) tunnels: AtomicU64,
    pub(crate) streams: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) ending: AtomicBool,
}

impl Gauge {
    pub(crate) fn load(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

/// When requests are due.
pub(crate) struct Clock {
    pub(crate) begun: Instant,
    pub(crate) ends: Instant,
    /// Seconds between requests; `None` in closed loop.
    apart: Option<f64>,
    dealt: AtomicU64,
}

impl Clock {
    pub(crate) fn new(rate: Option<f64>, duration: Duration) -> Self {
        let begun = Instant::now();
        let apart = rate.map(|rate| 1.0 / rate);
        Self { begun, ends: begun + duration, apart, dealt: AtomicU64::new(0) }
    }

    /// The time the next request of any stream is due; `None` when the run is over.
    pub(crate) fn next(&self) -> Option<Instant> {
        let due = match self.apart {
            None => Instant::now(),
            Some(apart) => {
                let number = self.dealt.fetch_add(1, Ordering::Relaxed);
                self.begun + Duration::from_secs_f64(number as f64 * apart)
            }
        };
        (due < self.ends).then_some(due)
    }

    /// Requests that were due but that no stream was free to send: the gateway was behind.
    pub(crate) fn never_sent(&self) -> u64 {
        let Some(apart) = self.apart else { return 0 };
        let due = (self.ends.duration_since(self.begun).as_secs_f64() / apart).ceil() as u64;
        due.saturating_sub(self.dealt.load(Ordering::Relaxed))
    }
}
