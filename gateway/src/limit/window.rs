//! Receive-window budgets: how many bytes peers may send that nobody has read yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Most a tunnel's windows may add up to: two streams at full size, each of which fills
/// 1 Gbit/s × 100 ms.
pub const TUNNEL_WINDOW_BYTES: u64 = 32 * 1024 * 1024;

/// Above this share of the process budget (percent) windows stop growing and begin to shrink.
const HIGH_PERCENT: u64 = 75;

/// Above this share (percent) every stream falls back to the smallest window.
const CRITICAL_PERCENT: u64 = 90;

/// How tight memory is. Ordered: later is tighter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Windows may grow.
    Low,
    /// Windows do not grow, and shrink as they drain.
    High,
    /// Windows shrink to their smallest as they drain; new streams start with the smallest.
    Critical,
}

/// The process-wide budget, shared by every tunnel. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProcessWindow(Arc<ProcessState>);

#[derive(Debug)]
struct ProcessState {
    limit: u64,
    used: AtomicU64,
    /// The memory watcher's own reading, as [`Pressure`].
    outside: AtomicU8,
}

impl ProcessWindow {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(ProcessState { limit, used: AtomicU64::new(0), outside: AtomicU8::new(0) }))
    }

    /// How tight the budget is: the tighter of its own use and of what
    /// [`ProcessWindow::press`] last said.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let used = self.used().saturating_mul(100);
        let own = if used >= self.0.limit.saturating_mul(CRITICAL_PERCENT) {
            Pressure::Critical
        } else if used >= self.0.limit.saturating_mul(HIGH_PERCENT) {
            Pressure::High
        } else {
            Pressure::Low
        };
        let outside = match self.0.outside.load(Ordering::Relaxed) {
            0 => Pressure::Low,
            1 => Pressure::High,
            _ => Pressure::Critical,
        };
        own.max(outside)
    }

    /// Says how tight the process's memory is as a whole.
    pub fn press(&self, pressure: Pressure) {
        self.0.outside.store(pressure as u8, Ordering::Relaxed);
    }

    /// Bytes promised to peers now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The budget, bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// A tunnel's share, at most `limit` bytes of growth.
    #[must_use]
    pub fn tunnel(&self, limit: u64) -> TunnelWindow {
        TunnelWindow { process: self.clone(), limit, used: 0 }
    }

    fn try_take(&self, bytes: u64) -> bool {
        let take = |used: u64| used.checked_add(bytes).filter(|total| *total <= self.0.limit);
        self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// One tunnel's share of the process budget; what it took goes back when it is dropped.
#[derive(Debug)]
pub struct TunnelWindow {
    process: ProcessWindow,
    limit: u64,
    used: u64,
}

impl TunnelWindow {
    /// Takes `bytes` for growth, or nothing where either budget has no room.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let fits = self.used.saturating_add(bytes) <= self.limit && self.process.try_take(bytes);
        if fits {
            self.used = self.used.saturating_add(bytes);
        }
        fits
    }

    /// Takes `bytes` whatever the budgets say, for what a peer is owed already: a new stream's
    /// first window, and bytes that have arrived. Overdraft shows as [`Pressure`].
    pub fn owe(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
        self.process.0.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives `bytes` back.
    pub fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.used);
        self.used = self.used.saturating_sub(bytes);
        self.process.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes this tunnel holds.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// See [`ProcessWindow::pressure`].
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.process.pressure()
    }
}

impl Drop for TunnelWindow {
    fn drop(&mut self) {
        self.release(self.used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_stops_at_either_budget() {
        let process = ProcessWindow::new(100);
        let (mut one, mut two) = (process.tunnel(60), process.tunnel(60));
        assert!(one.grow(60));
        assert!(!one.grow(1), "the tunnel's own budget");
        assert!(!two.grow(41), "the process's budget");
        assert!(two.grow(40));
        assert_eq!(process.used(), 100);
    }

    #[test]
    fn a_dropped_tunnel_gives_everything_back() {
        let process = ProcessWindow::new(100);
        let mut tunnel = process.tunnel(60);
        tunnel.owe(90);
        assert_eq!(process.pressure(), Pressure::Critical);
        drop(tunnel);
        assert_eq!((process.used(), process.pressure()), (0, Pressure::Low));
    }

    #[test]
    fn the_memory_watcher_can_only_tighten() {
        let process = ProcessWindow::new(100);
        process.press(Pressure::High);
        assert_eq!(process.pressure(), Pressure::High);
        process.tunnel(1).owe(0);
        let mut tunnel = process.tunnel(60);
        tunnel.owe(95);
        assert_eq!(process.pressure(), Pressure::Critical);
    }
}
