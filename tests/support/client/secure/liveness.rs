//! Whether the other side of a channel still lives: dead-peer detection, without I/O or clock.

use std::time::{Duration, Instant};

/// How long a channel waits before it asks, and before it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A silent channel is asked so long after the last sign of life.
    pub idle: Duration,
    /// A question is answered within this.
    pub answer: Duration,
    /// So many questions in a row unanswered, and the peer is dead.
    pub tries: u32,
}

impl Patience {
    /// Finds a dead peer within a second of sending to it, so that its sessions are shaken anew before a
    /// person notices.
    pub const QUICK: Self =
        Self { idle: Duration::from_secs(10), answer: Duration::from_millis(300), tries: 3 };

    /// What is sent goes unanswered for so long before the first question: long for a network, short
    /// beside the questions that follow.
    fn unanswered(&self) -> Duration {
        self.answer / 3
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Send a dead-peer question.
    Probe,
    Dead,
}

/// The state of one channel.
#[derive(Clone, Debug)]
pub struct Liveness {
    patience: Patience,
    heard: Instant,
    /// When something was first sent since then.
    spoke: Option<Instant>,
    /// Questions since then, and when the last was put.
    asked: u32,
    asked_at: Option<Instant>,
}

impl Liveness {
    #[must_use]
    pub fn new(now: Instant, patience: Patience) -> Self {
        Self { patience, heard: now, spoke: None, asked: 0, asked_at: None }
    }

    /// Something authentic came.
    pub fn heard(&mut self, now: Instant) {
        *self = Self::new(now, self.patience);
    }

    /// Something was sent that an answer may be expected to.
    pub fn spoke(&mut self, now: Instant) {
        self.spoke.get_or_insert(now);
    }

    /// When [`Liveness::poll`] next has something to say.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        if let Some(asked_at) = self.asked_at {
            return asked_at + self.patience.answer;
        }
        let idle = self.heard + self.patience.idle;
        self.spoke.map_or(idle, |spoke| idle.min(spoke + self.patience.unanswered()))
    }

    pub fn poll(&mut self, now: Instant) -> Option<Pulse> {
        if now < self.deadline() {
            return None;
        }
        if self.asked >= self.patience.tries {
            return Some(Pulse::Dead);
        }
        self.asked += 1;
        self.asked_at = Some(now);
        Some(Pulse::Probe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The times, from the start, at which a silent peer is asked and found dead.
    fn silence(liveness: &mut Liveness, begun: Instant) -> Vec<(Duration, Pulse)> {
        let mut said = Vec::new();
        while said.last().is_none_or(|(_, pulse)| *pulse != Pulse::Dead) {
            let due = liveness.deadline();
            assert_eq!(liveness.poll(due - MS), None);
            said.push((due - begun, liveness.poll(due).unwrap()));
        }
        said
    }

    #[test]
    fn a_peer_that_stays_silent_is_dead_within_a_second_of_being_spoken_to() {
        let begun = Instant::now();
        let mut liveness = Liveness::new(begun, Patience::QUICK);
        liveness.spoke(begun);
        liveness.spoke(begun + 50 * MS);
        let expected = [
            (100 * MS, Pulse::Probe),
            (400 * MS, Pulse::Probe),
            (700 * MS, Pulse::Probe),
            (1_000 * MS, Pulse::Dead),
        ];
        assert_eq!(silence(&mut liveness, begun), expected);
    }

    #[test]
    fn a_silent_channel_is_asked_when_it_was_idle_for_long() {
        let begun = Instant::now();
        let mut liveness = Liveness::new(begun, Patience::QUICK);
        let said = silence(&mut liveness, begun);
        assert_eq!(said.first(), Some(&(10_000 * MS, Pulse::Probe)));
        assert_eq!(said.last(), Some(&(10_900 * MS, Pulse::Dead)));
    }

    #[test]
    fn any_sign_of_life_starts_over() {
        let begun = Instant::now();
        let mut liveness = Liveness::new(begun, Patience::QUICK);
        liveness.spoke(begun);
        assert_eq!(liveness.poll(begun + 100 * MS), Some(Pulse::Probe));
        liveness.heard(begun + 200 * MS);
        assert_eq!(liveness.deadline(), begun + 10_200 * MS);
    }
}
