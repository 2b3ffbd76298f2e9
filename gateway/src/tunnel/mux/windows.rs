//! The connection's side of receive windows: measuring round trips, granting, growing.

use std::time::Duration;

use gateway_proto::h2::{Parameters, encode};
use tokio::time::Instant;

use super::grant::{WINDOW_TOP, starting_window};
use super::inbound::PROBE;
use super::state::State;

/// Round trips are measured at most this often: a window that doubles every 10 ms reaches its top
/// within 100 ms, and a peer sees at most 100 PINGs per second, while it sends in bulk.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// Shorter round trips are taken for this: there the machine's own scheduling is what is measured.
const TRIP_LEAST: Duration = Duration::from_micros(250);

/// The shortest round trip of a tunnel. Its connection's two ends stay, so the shortest is the
/// path's own, and what is above it is bytes waiting in queues. A window that grew with those would
/// only lengthen them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trips {
    least: Option<Duration>,
}

/// One measured round trip beside the shortest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trip {
    took: Duration,
    least: Duration,
}

impl Trips {
    fn measured(&mut self, took: Duration) -> Trip {
        let took = took.max(TRIP_LEAST);
        let least = self.least.map_or(took, |least| least.min(took));
        self.least = Some(least);
        Trip { took, least }
    }
}

impl Trip {
    /// What of `bytes`, read within this round trip, the shortest would have seen.
    pub(super) fn in_least(self, bytes: u64) -> u64 {
        let scaled = u128::from(bytes).saturating_mul(self.least.as_nanos());
        let scaled = scaled.checked_div(self.took.as_nanos()).unwrap_or(0);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

impl State {
    /// Counts `bytes` of stream `id` as read, and grants anew where it is worth a frame.
    pub(super) fn took(&mut self, id: u32, bytes: usize) {
        let epoch = self.epoch;
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.recv.ended || entry.fault.is_some() {
            entry.recv.window.close(entry.recv.queue.len(), &mut self.budget);
            return;
        }
        let joins = entry.recv.window.take(bytes, epoch);
        if joins && self.probing {
            self.candidates.push(id);
        }
        if self.grant(id) {
            self.probe(id);
        }
    }

    /// Sends the increment due to stream `id`, if any.
    pub(super) fn grant(&mut self, id: u32) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let queued = entry.recv.queue.len();
        let Some(increment) = entry.recv.window.grant(queued, &mut self.budget) else {
            return false;
        };
        encode::window_update(id, increment, &mut self.control);
        true
    }

    /// Begins to measure a round trip for stream `id`, unless one is being measured.
    fn probe(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if self.probing || entry.recv.window.target() >= WINDOW_TOP {
            return;
        }
        let now = Instant::now();
        let since = self.probed.map(|before| now.saturating_duration_since(before));
        if since.is_some_and(|since| since < PROBE_INTERVAL) {
            return;
        }
        self.probing = true;
        self.probed = Some(now);
        self.epoch = self.epoch.wrapping_add(1);
        entry.recv.window.take(0, self.epoch);
        self.candidates.clear();
        self.candidates.push(id);
        encode::ping(false, PROBE, &mut self.control);
    }

    /// Ends the measurement: streams whose readers kept up get more.
    pub(super) fn grow(&mut self, now: Instant) {
        if !std::mem::take(&mut self.probing) {
            return;
        }
        let Some(probed) = self.probed else { return };
        let epoch = self.epoch;
        let trip = self.trips.measured(now.saturating_duration_since(probed));
        for id in std::mem::take(&mut self.candidates) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let open = !entry.recv.ended && entry.fault.is_none();
            if open && entry.recv.window.grow(epoch, trip, &mut self.budget) {
                self.grant(id);
            }
        }
    }

    /// Gives back the growth of streams that fell silent.
    pub(super) fn rest(&mut self) {
        for entry in self.entries.values_mut() {
            if !entry.recv.ended && entry.fault.is_none() {
                let queued = entry.recv.queue.len();
                entry.recv.window.rest(self.start, queued, &mut self.budget);
            }
        }
    }

    /// Announces another starting size where the number of streams or the pressure asks for it.
    pub(super) fn adjust_start(&mut self) {
        let start = starting_window(self.open, self.budget.pressure(), self.start);
        if start == self.start || self.start_next.is_some() || self.ended.is_some() {
            return;
        }
        self.start_next = Some(start);
        self.unacknowledged = self.unacknowledged.saturating_add(1);
        let parameters = Parameters { initial_window_size: Some(start), ..Parameters::default() };
        encode::settings(&parameters, &mut self.control);
    }

    /// The peer has taken the new starting size: every stream's window moved by the difference.
    pub(super) fn shift_start(&mut self, start: u32) {
        let delta = i64::from(start).saturating_sub(i64::from(self.start));
        self.start = start;
        let mut granted = Vec::new();
        for (id, entry) in &mut self.entries {
            if !entry.recv.ended && entry.fault.is_none() {
                let queued = entry.recv.queue.len();
                entry.recv.window.shift(delta, queued, &mut self.budget);
                granted.push(*id);
            }
        }
        for id in granted {
            self.grant(id);
        }
        self.adjust_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_round_trip_counts_what_the_shortest_would_have_seen() {
        let mut trips = Trips::default();
        let first = trips.measured(Duration::from_millis(10));
        assert_eq!(first.in_least(1000), 1000);
        let queued = trips.measured(Duration::from_millis(100));
        assert_eq!(queued.in_least(1000), 100, "nine tenths of the time went by in queues");
        let local = trips.measured(Duration::from_micros(3));
        assert_eq!(local.in_least(1000), 1000, "what is shorter than the least counts as that");
    }
}
