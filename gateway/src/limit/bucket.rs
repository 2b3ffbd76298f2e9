//! So much at once, and so much more each second.

use std::time::{Duration, Instant};

/// A leaky bucket of tokens.
#[derive(Debug)]
pub struct Bucket {
    tokens: u32,
    burst: u32,
    interval: Duration,
    at: Instant,
}

impl Bucket {
    /// Full.
    #[must_use]
    pub fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { tokens: burst, burst, interval: Duration::from_secs(1) / per_second, at: now }
    }

    /// Takes so many tokens; false where they are not there, and what was there is gone.
    pub fn spend(&mut self, cost: u32, now: Instant) -> bool {
        if self.tokens < cost {
            let earned =
                now.saturating_duration_since(self.at).as_nanos() / self.interval.as_nanos();
            self.credit(u32::try_from(earned).unwrap_or(u32::MAX));
            self.at = now;
        }
        let left = self.tokens.checked_sub(cost);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }

    /// Puts tokens in, up to a full bucket.
    pub fn credit(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_add(tokens).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_used_up_and_comes_back_by_the_second() {
        let now = Instant::now();
        let mut bucket = Bucket::new(64, 2, now);
        assert!(bucket.spend(64, now));
        assert!(!bucket.spend(1, now));
        let later = now + Duration::from_secs(5);
        assert!(bucket.spend(10, later));
        assert!(!bucket.spend(1, later));
        let next_day = later + Duration::from_secs(86_400);
        assert!(bucket.spend(64, next_day) && !bucket.spend(1, next_day));
    }
}
