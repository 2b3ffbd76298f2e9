//! A slow heartbeat of a connection: tells when an exchange has been open for long.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, timeout};

use crate::event::State;

/// Anything open for longer than this is recorded as open (DESIGN part 6).
pub(super) const BEAT: Duration = Duration::from_secs(5);

/// What is recorded as open gets an update this often (DESIGN part 6).
const UPDATE_TIME: Duration = Duration::from_secs(60);

/// One timer per connection, re-armed only when it has fired: exchanges shorter than a beat cost
/// no timer at all.
#[derive(Default)]
pub(super) struct Pulse {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pulse {
    /// Ready about every [`BEAT`].
    pub(super) fn poll_beat(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(BEAT)));
        if sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        sleep.as_mut().reset(Instant::now() + BEAT);
        Poll::Ready(())
    }
}

/// The lines that something long has had in the log.
#[derive(Clone, Default)]
pub(super) struct Lines {
    last: Option<std::time::Instant>,
}

impl Lines {
    pub(super) fn is_begun(&self) -> bool {
        self.last.is_some()
    }

    /// The line to write now: first the opening one, then an update each [`UPDATE_TIME`].
    pub(super) fn due(&mut self, now: std::time::Instant) -> Option<State> {
        let state = match self.last {
            None => State::Open,
            Some(last) if now.duration_since(last) >= UPDATE_TIME => State::Update,
            Some(_) => return None,
        };
        self.last = Some(now);
        Some(state)
    }
}

/// Drives `work`, which records as it goes, and polls it each minute even where nothing happens.
pub(super) async fn at_least_each_minute<W: Future>(work: W) -> W::Output {
    let mut work = std::pin::pin!(work);
    loop {
        if let Ok(done) = timeout(UPDATE_TIME, &mut work).await {
            return done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_opens_and_updates_follow_a_minute_apart() {
        let begun = std::time::Instant::now();
        let mut lines = Lines::default();
        let due: Vec<_> = (0..=150)
            .step_by(5)
            .filter_map(|at| Some((at, lines.due(begun + Duration::from_secs(at))?)))
            .collect();
        assert_eq!(due, [(0, State::Open), (60, State::Update), (120, State::Update)]);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_work_is_polled_each_minute() {
        let begun = Instant::now();
        let mut polled = Vec::new();
        let work = std::future::poll_fn(|_| {
            polled.push(begun.elapsed().as_secs());
            if begun.elapsed() < 3 * UPDATE_TIME { Poll::Pending } else { Poll::Ready(()) }
        });
        at_least_each_minute(work).await;
        // A timer that fires may poll twice.
        polled.dedup();
        assert_eq!(polled, [0, 60, 120, 180]);
    }
}
