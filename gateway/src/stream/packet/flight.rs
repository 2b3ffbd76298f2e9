//! How much of a connection's data may be on its way: as much as the path has been seen to carry in a
//! round trip, twice. After BBR (draft-ietf-ccwg-bbr), without its pacing.
//!
//! smoltcp sends whatever its buffer holds and recovers badly from losing many packets at once, so the
//! buffer is given no more than the path takes. Single losses do not count: what was delivered does.

use std::time::{Duration, Instant};

/// What a connection begins with (RFC 6928), and the least it has.
const FIRST_BYTES: usize = 14_600;
/// Rounds over which the best rate is remembered.
const ROUNDS: usize = 10;
/// The path is full when this many rounds in a row were hardly faster.
const FULL_ROUNDS: u8 = 3;
/// The shortest round trip is measured anew this often: paths change.
const SHORTEST_KEPT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Flight {
    /// Bytes that may be unacknowledged.
    limit: usize,
    most: usize,
    written: u64,
    acknowledged: u64,
    round: Option<Round>,
    /// Bytes a second, of the last rounds.
    rates: [u64; ROUNDS],
    rounds: usize,
    shortest: Option<(Duration, Instant)>,
    /// The best rate when the search for the path's limit last looked, and how often it was no better;
    /// `None` once it is found.
    search: Option<(u64, u8)>,
}

/// From the sending of some byte to its acknowledgement: what was acknowledged meanwhile is what the path
/// delivers in a round trip.
#[derive(Debug)]
struct Round {
    until: u64,
    began: Instant,
    acknowledged: u64,
    /// The sender had nothing more: the rate says nothing about the path.
    idle: bool,
}

impl Flight {
    /// At most `most` bytes on their way.
    pub(super) fn new(most: usize) -> Self {
        Self {
            limit: FIRST_BYTES.min(most),
            most,
            written: 0,
            acknowledged: 0,
            round: None,
            rates: [0; ROUNDS],
            rounds: 0,
            shortest: None,
            search: Some((0, 0)),
        }
    }

    /// How many more bytes may be written, where `queued` are not acknowledged yet.
    pub(super) fn room(&self, queued: usize) -> usize {
        self.limit.saturating_sub(queued)
    }

    /// Whether it is worth waking the writer: with a part of the limit, not with every packet.
    pub(super) fn has_room(&self, queued: usize) -> bool {
        self.room(queued) >= self.limit / 4
    }

    /// Notes that `bytes` were written, and are `queued` bytes now.
    pub(super) fn wrote(&mut self, bytes: usize, queued: usize, now: Instant) {
        self.written += bytes as u64;
        self.acknowledged = self.written.saturating_sub(queued as u64);
        self.round.get_or_insert(Round {
            until: self.written,
            began: now,
            acknowledged: self.acknowledged,
            idle: false,
        });
    }

    /// Notes that `queued` bytes are not acknowledged yet.
    pub(super) fn acknowledged(&mut self, queued: usize, now: Instant) {
        let acknowledged = self.written.saturating_sub(queued as u64);
        let fresh = acknowledged.saturating_sub(self.acknowledged);
        self.acknowledged = acknowledged;
        if fresh == 0 {
            return;
        }
        if self.search.is_some() {
            // Twice as much with each round trip.
            let fresh = usize::try_from(fresh).unwrap_or(usize::MAX);
            self.limit = self.limit.saturating_add(fresh).min(self.most);
        }
        let Some(round) = &mut self.round else { return };
        round.idle |= queued == 0;
        if acknowledged < round.until {
            return;
        }
        let took = now.duration_since(round.began).max(Duration::from_micros(50));
        let bytes = acknowledged - round.acknowledged;
        let idle = round.idle;
        self.measured(took, bytes, idle, now);
        self.round = None;
    }

    fn measured(&mut self, took: Duration, bytes: u64, idle: bool, now: Instant) {
        match &mut self.shortest {
            Some((shortest, since))
                if *shortest <= took && now.duration_since(*since) < SHORTEST_KEPT => {}
            other => *other = Some((took, now)),
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let rate = bytes.saturating_mul(1_000_000) / micros;
        if idle && rate < self.best() {
            return;
        }
        if let Some(place) = self.rates.get_mut(self.rounds % ROUNDS) {
            *place = rate;
        }
        self.rounds += 1;
        let best = self.best();
        if let Some((before, times)) = &mut self.search {
            if best > *before + *before / 4 {
                (*before, *times) = (best, 0);
            } else if !idle {
                *times += 1;
                if *times >= FULL_ROUNDS {
                    self.search = None;
                }
            }
        }
        if self.search.is_none()
            && let Some((shortest, _)) = self.shortest
        {
            let micros = u64::try_from(shortest.as_micros()).unwrap_or(u64::MAX);
            let carried = best.saturating_mul(micros) / 1_000_000;
            let limit = usize::try_from(carried.saturating_mul(2)).unwrap_or(usize::MAX);
            self.limit = limit.max(2 * FIRST_BYTES).min(self.most);
        }
    }

    fn best(&self) -> u64 {
        self.rates.iter().copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path of `rate` bytes a second and `delay` there and back, fed as fast as the limit allows:
    /// the limit after `rounds` round trips, and the bytes that were delivered.
    fn fed(rate: u64, delay: Duration, rounds: u32) -> (usize, u64) {
        let began = Instant::now();
        let mut flight = Flight::new(4 << 20);
        let tick = Duration::from_millis(1);
        let (mut queued, mut delivered) = (0_usize, 0_u64);
        // What was written, and when its acknowledgement is here.
        let mut on_the_way: std::collections::VecDeque<(Instant, usize)> = Default::default();
        let mut line_free = began;
        let mut now = began;
        while now < began + delay * rounds {
            while on_the_way.front().is_some_and(|(at, _)| *at <= now) {
                let (_, bytes) = on_the_way.pop_front().unwrap_or((now, 0));
                queued -= bytes;
                delivered += bytes as u64;
                flight.acknowledged(queued, now);
            }
            let room = flight.room(queued);
            for packet in vec![1_400; room / 1_400] {
                let takes = Duration::from_nanos(packet as u64 * 1_000_000_000 / rate);
                line_free = line_free.max(now) + takes;
                on_the_way.push_back((line_free + delay, packet));
                queued += packet;
                flight.wrote(packet, queued, now);
            }
            now += tick;
        }
        (flight.limit, delivered)
    }

    #[test]
    fn a_path_is_filled_and_not_flooded() {
        for (rate, delay_ms) in
            [(1_250_000, 40), (12_500_000, 40), (12_500_000, 100), (125_000, 20)]
        {
            let delay = Duration::from_millis(delay_ms);
            let carried = rate * delay_ms / 1_000;
            let (limit, delivered) = fed(rate, delay, 100);
            let least = usize::try_from(carried).unwrap_or(0);
            assert!(limit >= least && limit <= (4 * least).max(2 * FIRST_BYTES), "{rate}: {limit}");
            let possible = carried * 100;
            assert!(delivered * 10 >= possible * 8, "{rate}: {delivered} of {possible}");
        }
    }

    #[test]
    fn a_sender_with_little_to_say_learns_nothing_wrong() {
        let mut flight = Flight::new(1 << 20);
        let began = Instant::now();
        for step in 0..100_u32 {
            let now = began + Duration::from_millis(100) * step;
            flight.wrote(500, 500, now);
            flight.acknowledged(0, now + Duration::from_millis(40));
        }
        assert!(flight.limit > FIRST_BYTES);
        assert!(flight.search.is_some());
    }
}
