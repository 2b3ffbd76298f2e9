//! Receive windows: what each stream's peer may send before anyone reads.
//!
//! A stream starts with [`WINDOW_START`]. Its *target* doubles whenever its reader took a quarter
//! of it within one round trip, as long as the tunnel's shortest, up to [`WINDOW_TOP`], out of the tunnel's and the process's
//! budget; under pressure targets shrink, which is to say that bytes are not granted again once
//! read. What is *charged* to the budgets is the larger of the target and what is queued: a
//! window granted to a stream that then fell silent is no longer charged, and charged again as
//! bytes come. With many streams open, or under critical pressure, the starting size goes down to
//! [`WINDOW_LEAST`] for all (SETTINGS), so that 1,000 streams fit the tunnel's budget.
//!
//! The connection's window is never the limit: it covers every stream at its starting size and
//! the whole budget of growth, and is refilled as bytes arrive, not as they are read. So streams
//! that nobody reads cannot hold up another.

use gateway_proto::h2::Fault;

use super::windows::Trip;
use crate::limit::window::{Pressure, TUNNEL_WINDOW_BYTES, TunnelWindow};

/// A stream's first window.
pub(super) const WINDOW_START: u32 = 64 * 1024;

/// A stream's first window when many are open or memory is short: one frame of full size.
pub(super) const WINDOW_LEAST: u32 = 16 * 1024;

/// The largest target: 1 Gbit/s × 100 ms is 12.5 MB, and updates come late by half a MiB.
pub(super) const WINDOW_TOP: u32 = 16 * 1024 * 1024;

/// Above this many streams the starting size goes down: they hold half the tunnel's budget then.
const CROWDED_STREAMS: u32 = 256;

/// Below this many it goes up again; the distance keeps it from flapping.
const SPARSE_STREAMS: u32 = 128;

/// A window is granted again at the latest when so much of it was read. Small, so that a large
/// target needs little above the bandwidth-delay product.
const UPDATE_BYTES_MAX: u32 = 512 * 1024;

/// Share of a target that must be read within a round trip for it to double, as a divisor. Half
/// is the least that a sender limited by its window achieves; a quarter leaves room for updates
/// that are under way when the measurement ends.
const GROWTH_DIVISOR: u64 = 4;

/// What the connection's window may lag behind before it is refilled.
pub(super) const CONNECTION_SLACK: u32 = 16 * 1024 * 1024;

/// The connection's window: all streams at their start, all growth, and the refill's lag.
pub(super) fn connection_window(streams_max: u32) -> u32 {
    let growth = u32::try_from(TUNNEL_WINDOW_BYTES).unwrap_or(u32::MAX);
    streams_max
        .saturating_mul(WINDOW_START)
        .saturating_add(growth)
        .saturating_add(CONNECTION_SLACK)
        .min(gateway_proto::h2::WINDOW_MAX)
}

/// The starting size that fits `open` streams under `pressure`, given the `current` one.
pub(super) fn starting_window(open: u32, pressure: Pressure, current: u32) -> u32 {
    if open > CROWDED_STREAMS || pressure == Pressure::Critical {
        WINDOW_LEAST
    } else if open < SPARSE_STREAMS && pressure == Pressure::Low {
        WINDOW_START
    } else {
        current
    }
}

/// One stream's receive window.
#[derive(Debug)]
pub(super) struct RecvWindow {
    /// What the peer may still send. Negative after a SETTINGS change.
    window: i64,
    /// What `window` and the unread bytes should add up to.
    target: u32,
    /// What the budgets hold for this stream.
    charged: u32,
    /// The round trip in which `taken` bytes were read.
    epoch: u32,
    taken: u64,
    /// Bytes arrived since the last look at idle streams.
    pub(super) touched: bool,
}

impl RecvWindow {
    pub(super) fn new(start: u32, budget: &mut TunnelWindow) -> Self {
        budget.owe(u64::from(start));
        Self {
            window: i64::from(start),
            target: start,
            charged: start,
            epoch: 0,
            taken: 0,
            touched: true,
        }
    }

    pub(super) fn target(&self) -> u32 {
        self.target
    }

    /// Counts `flow` bytes in.
    pub(super) fn arrive(&mut self, flow: u32) -> Result<(), Fault> {
        let left = self.window.saturating_sub(i64::from(flow));
        if left < 0 && flow > 0 {
            let code = gateway_proto::h2::Code::FLOW_CONTROL_ERROR;
            return Err(Fault::new(code, "more data than the stream's window"));
        }
        self.window = left;
        self.touched = true;
        Ok(())
    }

    /// Charges what is `queued` where that is more than the target promised.
    pub(super) fn charge(&mut self, queued: usize, budget: &mut TunnelWindow) {
        let needed = self.target.max(u32::try_from(queued).unwrap_or(u32::MAX));
        if needed > self.charged {
            budget.owe(u64::from(needed.saturating_sub(self.charged)));
        } else {
            budget.release(u64::from(self.charged.saturating_sub(needed)));
        }
        self.charged = needed;
    }

    /// Counts `bytes` as read in round trip `epoch`; true where the stream is new to it.
    pub(super) fn take(&mut self, bytes: usize, epoch: u32) -> bool {
        let joins = self.epoch != epoch;
        if joins {
            self.epoch = epoch;
            self.taken = 0;
        }
        self.taken = self.taken.saturating_add(bytes as u64);
        joins
    }

    /// The increment to grant now that `queued` bytes are unread, if it is worth a frame.
    pub(super) fn grant(&mut self, queued: usize, budget: &mut TunnelWindow) -> Option<u32> {
        let least = i64::from((self.target / 2).min(UPDATE_BYTES_MAX));
        if self.missing(queued) < least {
            return None;
        }
        match budget.pressure() {
            Pressure::Low => {}
            Pressure::High => self.target = (self.target / 2).max(self.target.min(WINDOW_START)),
            Pressure::Critical => self.target = self.target.min(WINDOW_LEAST),
        }
        self.charge(queued, budget);
        let increment = u32::try_from(self.missing(queued)).ok().filter(|more| *more > 0)?;
        self.window = self.window.saturating_add(i64::from(increment));
        Some(increment)
    }

    /// Doubles the target where its reader kept up with it in round trip `epoch`, which was `trip`.
    pub(super) fn grow(&mut self, epoch: u32, trip: Trip, budget: &mut TunnelWindow) -> bool {
        let taken = trip.in_least(self.taken);
        let kept_up =
            self.epoch == epoch && taken.saturating_mul(GROWTH_DIVISOR) >= u64::from(self.target);
        if !kept_up || self.target >= WINDOW_TOP || budget.pressure() > Pressure::Low {
            return false;
        }
        let more = self.target.min(WINDOW_TOP.saturating_sub(self.target));
        if !budget.grow(u64::from(more)) {
            return false;
        }
        self.charged = self.charged.saturating_add(more);
        self.target = self.target.saturating_add(more);
        true
    }

    /// Gives growth back where no byte came since the last call.
    pub(super) fn rest(&mut self, start: u32, queued: usize, budget: &mut TunnelWindow) {
        if !std::mem::take(&mut self.touched) && self.target > start {
            self.target = start;
            self.charge(queued, budget);
        }
    }

    /// Follows an acknowledged change of the starting size (RFC 9113, section 6.9.2).
    pub(super) fn shift(&mut self, delta: i64, queued: usize, budget: &mut TunnelWindow) {
        self.window = self.window.saturating_add(delta);
        let target = i64::from(self.target).saturating_add(delta);
        let range = i64::from(WINDOW_LEAST)..=i64::from(WINDOW_TOP);
        let target = target.clamp(*range.start(), *range.end());
        self.target = u32::try_from(target).unwrap_or(WINDOW_LEAST);
        self.charge(queued, budget);
    }

    /// Gives back what unread bytes do not need: the peer sends no more.
    pub(super) fn close(&mut self, queued: usize, budget: &mut TunnelWindow) {
        self.target = 0;
        self.charge(queued, budget);
    }

    fn missing(&self, queued: usize) -> i64 {
        let held = self.window.saturating_add(i64::try_from(queued).unwrap_or(i64::MAX));
        i64::from(self.target).saturating_sub(held)
    }
}
