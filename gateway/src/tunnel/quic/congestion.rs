//! Congestion control of what goes to clients: Cubic (RFC 9438), which is told of lost packets where they show
//! that the path is full. Radio loses packets on a path that is not, and a sender that slows down for each of
//! them stands still at one in a hundred (decisions/0012).
//!
//! A full path has a queue that does not go away (as in RFC 8289): even the fastest packets are under way for
//! longer than they need. One without a queue, as behind a policer, loses many; and so does slow start on every
//! path that it fills, so that it need not be ended for less.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig};
use quinn_proto::RttEstimator;

/// Packets over which losses are counted: so many that one in a hundred is told from one in thirty.
const COUNTED_PACKETS: f64 = 512.0;
/// What is lost of them at most without a word about the path, as a share: radio as bad as that is left rarely,
/// and a policed path gives up no more than that.
const LOST_MAX: f64 = 1.0 / 32.0;
/// The queue that says nothing, beside a quarter of the round trip: what schedulers and radio add.
const QUEUE_MIN: Duration = Duration::from_millis(5);
/// What a connection begins with: as much as the six connections to one server that browsers open begin with
/// together (RFC 6928), since a tunnel stands for more of them. Pacing spreads it over a round trip.
const FIRST_BYTES: u64 = 64 * 1_200;

/// Makes the controllers of connections.
#[derive(Debug)]
pub(super) struct Congestion {
    cubic: Arc<CubicConfig>,
}

impl Default for Congestion {
    fn default() -> Self {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(FIRST_BYTES);
        Self { cubic: Arc::new(cubic) }
    }
}

impl ControllerFactory for Congestion {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let cubic = Cubic::new(Arc::clone(&self.cubic), now, mtu);
        Box::new(Patient { cubic, path: Path::new(mtu) })
    }
}

/// Cubic behind the judgement of its losses.
#[derive(Clone, Debug)]
struct Patient {
    cubic: Cubic,
    path: Path,
}

impl Controller for Patient {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.path.delivered(bytes, now, now.saturating_duration_since(sent));
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.path.lost(lost_bytes);
        // Without a loss it is a router's own word (RFC 3168).
        if lost_bytes == 0 || is_persistent_congestion || self.path.is_full() {
            self.path.starting = false;
            self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
            // What was lost has had its consequence.
            self.path.lost = 0.0;
        }
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.path.packet_bytes = mtu.into();
        self.cubic.on_mtu_update(mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What is known of a path.
#[derive(Clone, Debug)]
struct Path {
    packet_bytes: f64,
    /// Share of the last packets that was lost.
    lost: f64,
    /// The shortest round trip ever.
    shortest: Option<Duration>,
    /// The shortest of the last round and of this one.
    rounds: [Duration; 2],
    round_ends: Option<Instant>,
    /// It has not been seen full yet.
    starting: bool,
}

impl Path {
    fn new(mtu: u16) -> Self {
        Self {
            packet_bytes: mtu.into(),
            lost: 0.0,
            shortest: None,
            rounds: [Duration::ZERO; 2],
            round_ends: None,
            starting: true,
        }
    }

    fn delivered(&mut self, bytes: u64, now: Instant, took: Duration) {
        self.lost -= self.lost * self.weight(bytes);
        let shortest = self.shortest.map_or(took, |shortest| shortest.min(took));
        self.shortest = Some(shortest);
        let [_, this] = self.rounds;
        if self.round_ends.is_none_or(|end| now >= end) {
            self.round_ends = Some(now + shortest);
            self.rounds = [this, took];
        } else {
            self.rounds[1] = this.min(took);
        }
    }

    /// How long even the fastest packets wait.
    fn queue(&self) -> Duration {
        let [last, this] = self.rounds;
        last.min(this).saturating_sub(self.shortest.unwrap_or_default())
    }

    fn lost(&mut self, bytes: u64) {
        self.lost += (1.0 - self.lost) * self.weight(bytes);
    }

    /// Which part of those that count so many bytes are.
    fn weight(&self, bytes: u64) -> f64 {
        (bytes as f64 / (COUNTED_PACKETS * self.packet_bytes)).min(1.0)
    }

    /// Whether a loss is to be believed.
    fn is_full(&self) -> bool {
        let usual = self.shortest.unwrap_or_default() / 4 + QUEUE_MIN;
        self.lost > LOST_MAX || (!self.starting && self.queue() > usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u16 = 1_400;
    const SHORTEST: Duration = Duration::from_millis(40);

    /// A path on which so many of a thousand packets are lost, each by itself, and the others wait as `queue`
    /// says of the number of each: in how many losses of a thousand it seemed full.
    fn believed(lost_per_mille: u64, queue: impl Fn(u32) -> Duration) -> u64 {
        let (mut path, began) = (Path::new(MTU), Instant::now());
        path.starting = false;
        path.delivered(MTU.into(), began, SHORTEST);
        let (mut losses, mut believed) = (0, 0);
        // SplitMix64: the same each time.
        let mut random = 7_u64;
        for number in 0..300_000 {
            random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            if (mixed >> 33) % 1_000 < lost_per_mille {
                path.lost(MTU.into());
                losses += 1;
                believed += u64::from(path.is_full());
            } else {
                let now = began + Duration::from_micros(500) * number;
                path.delivered(MTU.into(), now, SHORTEST + queue(number));
            }
        }
        believed * 1_000 / losses
    }

    #[test]
    fn single_losses_are_believed_where_a_queue_stands() {
        let wait = |ms| move |_| Duration::from_millis(ms);
        // In bursts: some packets of each round wait for long, some do not.
        let bursts = |number| Duration::from_millis(if number % 60 == 0 { 0 } else { 80 });
        for lost in [1, 5, 10] {
            assert!(believed(lost, wait(0)) < 10, "{lost} without a queue");
            assert!(believed(lost, wait(10)) < 10, "{lost} in a short queue");
            assert!(believed(lost, bursts) < 10, "{lost} in a queue that empties");
            assert!(believed(lost, wait(20)) > 990, "{lost} in a long one");
        }
    }

    #[test]
    fn many_losses_are_believed_where_there_is_no_queue() {
        assert!(believed(60, |_| Duration::ZERO) > 900);
        // All at once, as where a path is filled that has no room for a queue.
        let mut path = Path::new(MTU);
        path.delivered(100 * u64::from(MTU), Instant::now(), SHORTEST);
        path.lost(17 * u64::from(MTU));
        assert!(path.is_full());
    }

    #[test]
    fn slow_start_ends_with_many_losses_and_no_sooner() {
        let (mut path, now) = (Path::new(MTU), Instant::now());
        path.delivered(MTU.into(), now, SHORTEST);
        path.delivered(MTU.into(), now + 2 * SHORTEST, 3 * SHORTEST);
        path.delivered(MTU.into(), now + 5 * SHORTEST, 3 * SHORTEST);
        path.lost(2 * u64::from(MTU));
        assert!(path.queue() == 2 * SHORTEST && !path.is_full());
        path.lost(16 * u64::from(MTU));
        assert!(path.is_full());
    }

    #[test]
    fn a_path_is_forgiven() {
        let (mut path, now) = (Path::new(MTU), Instant::now());
        path.lost(200 * u64::from(MTU));
        assert!(path.is_full());
        for _ in 0..2_000 {
            path.delivered(MTU.into(), now, SHORTEST);
        }
        assert!(!path.is_full());
    }

    #[test]
    fn a_mark_of_a_router_and_persistent_congestion_shrink_the_window_at_once() {
        let now = Instant::now();
        for (persistent, lost) in [(false, 0), (true, 1_400)] {
            let mut control = Arc::new(Congestion::default()).build(now, MTU);
            let before = control.window();
            control.on_congestion_event(now, now, false, 1_400);
            assert_eq!(control.window(), before, "a single loss");
            control.on_congestion_event(now, now, persistent, lost);
            assert!(control.window() < before);
        }
    }
}
