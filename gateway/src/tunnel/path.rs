//! How large packets may be on the path of a datagram channel: found by questions as long as packets, and
//! doubted again as long as packets pass (RFC 8899: a path that becomes smaller says nothing).
//!
//! There is one question at a time, so that an answer without a length belongs to it: OpenConnect's clients
//! answer so. A round asks for the size in use and, where that stays unanswered, for the least: three times the
//! one lost and the other answered is a black hole, anything else is loss. Then it asks for one size after the
//! other above the least. Nothing else makes packets smaller: what routers or the system say is a reason to
//! ask, since anybody could have said it.

use std::time::{Duration, Instant};

/// Paths that are tried, bytes of an IP packet: Ethernet, what PPP, tunnels and mobile networks leave of it, and
/// the least that every path of IPv6 carries (RFC 8200 section 5).
const PATHS: [u16; 8] = [1_500, 1_480, 1_428, 1_400, 1_360, 1_320, 1_300, 1_280];
/// Questions for a size before it is taken for lost (RFC 8899 section 5.1.2, MAX_PROBES). A size that is only
/// hoped for is asked for once.
const LOST_MAX: u8 = 3;
/// How often even the least may stay unanswered in a round: then there is too much loss to judge by.
const UNCLEAR_MAX: u8 = 2;
/// How long a question waits for its answer (section 5.1.1: not below a second), or twice as long as the last one
/// took, within reason.
const QUESTION_TIME: Duration = Duration::from_secs(1);
const QUESTION_TIME_MAX: Duration = Duration::from_secs(4);
/// While large packets pass, the size in use is confirmed so often: with the three questions it is 6 s until a
/// path that became smaller is known, for half a KB a second each way.
const BUSY: Duration = Duration::from_secs(3);
/// While nothing but small packets passes: the large ones may be what is missing.
const QUIET: Duration = Duration::from_secs(15);
/// So long after the last packet a channel still counts as used; then nothing is asked until one passes.
const USED: Duration = Duration::from_secs(10);
/// Larger sizes are tried again after so long (RFC 8899 section 5.1.1, PMTU_RAISE_TIMER).
const RAISE: Duration = Duration::from_secs(600);
/// And once sooner after the size came down: it may have been an outage.
const RAISE_FIRST: Duration = Duration::from_secs(30);
/// A client that leaves so many whole rounds unanswered does not answer questions with bytes in them at all.
const DEAF_ROUNDS: u8 = 3;

/// The search on one path. Does no I/O and reads no clock.
#[derive(Debug)]
pub struct PathSearch {
    /// Packet sizes, the smallest first.
    sizes: Vec<u16>,
    /// The one in use.
    size: u16,
    round: Option<Round>,
    /// When the last round ended.
    checked: Instant,
    /// When larger sizes are tried again.
    raise: Instant,
    /// When a packet last passed, of whatever size, and one that a smaller path would not carry.
    passed: Option<Instant>,
    large: Option<Instant>,
    /// Until then an answer without a length may be another question's.
    blurred: Option<Instant>,
    /// How long the last answer took.
    round_trip: Duration,
    /// A whole round went by without a word of the client: nothing is asked until there is one. A client whose
    /// own way out is shut would take the path for good as long as it hears us.
    is_silent: bool,
    /// The client has answered.
    answers: bool,
    deaf_rounds: u8,
}

#[derive(Debug)]
struct Round {
    stage: Stage,
    /// The size that is asked for.
    target: u16,
    /// What was in use and is lost: nothing larger is asked for. It is, once more.
    lost: Option<u16>,
    /// It tries sizes above the one in use.
    widens: bool,
    /// How often it was lost, and the least was not.
    losses: u8,
    /// How often both were.
    unclear: u8,
    /// When the question that is out was asked.
    asked: Option<Instant>,
    /// When it has waited long enough, or may go.
    next: Instant,
    /// The client was heard since the last question.
    heard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The largest, which most paths carry.
    Most,
    /// The one in use.
    InUse,
    /// The smallest: whether it is the size, or loss.
    Least,
    /// One after the other, until one is lost.
    Up,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// A size to ask for.
    pub question: Option<u16>,
    /// A round is over.
    pub is_checked: bool,
}

const NOTHING: Step = Step { question: None, is_checked: false };

impl PathSearch {
    /// A search where `around` bytes stand around each packet. It begins with `size`, and goes no higher
    /// than `most`.
    #[must_use]
    pub fn new(now: Instant, around: u16, size: u16, most: u16) -> Self {
        let size = size.min(most);
        let mut sizes: Vec<u16> = PATHS.iter().map(|path| path.saturating_sub(around)).collect();
        sizes.extend([size, most]);
        sizes.retain(|it| *it <= most);
        sizes.sort_unstable();
        sizes.dedup();
        let mut this = Self {
            sizes,
            size,
            round: None,
            checked: now,
            raise: now,
            passed: None,
            large: None,
            blurred: None,
            round_trip: Duration::ZERO,
            is_silent: false,
            answers: false,
            deaf_rounds: 0,
        };
        this.begin(now);
        this
    }

    /// The largest packet of Ethernet's paths with `around` bytes around it.
    #[must_use]
    pub fn most(around: u16) -> u16 {
        PATHS.first().map_or(0, |path| path.saturating_sub(around))
    }

    /// The size in use.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Packets passed, either way; `largest` is the size of the largest.
    pub fn passed(&mut self, now: Instant, largest: usize) {
        self.passed = Some(now);
        if largest > usize::from(self.least()) {
            self.large = Some(now);
        }
    }

    /// The client was heard.
    pub fn heard(&mut self) {
        self.is_silent = false;
        if let Some(round) = &mut self.round {
            round.heard = true;
        }
    }

    /// The client was asked something else, whose answer looks like one of these.
    pub fn blur(&mut self, now: Instant) {
        self.blurred = Some(now + QUESTION_TIME);
    }

    /// Something says that the size in use does not pass: a reason to ask now, and no more than that.
    pub fn doubt(&mut self, now: Instant) {
        let may = now >= self.checked + QUESTION_TIME && !self.is_deaf() && !self.is_silent;
        if self.round.is_none() && may {
            self.begin(now);
        }
    }

    /// The client has answered, with so many bytes.
    pub fn answered(&mut self, now: Instant, bytes: usize) -> Step {
        if bytes == 0 && self.blurred.is_some_and(|until| now < until) {
            return NOTHING;
        }
        let Some(round) = &self.round else { return NOTHING };
        if bytes == 0 {
            // Without a question it comes too late to say which one it answers.
            let target = round.asked.map(|_| round.target);
            return target.map_or(NOTHING, |target| self.carries(now, target));
        }
        match u16::try_from(bytes) {
            Ok(size) if size == round.target => self.carries(now, size),
            // Late, but it says which.
            Ok(size) if size > self.size && self.sizes.contains(&size) => {
                self.size = size;
                NOTHING
            }
            _ => NOTHING,
        }
    }

    /// Says what time it is.
    pub fn tick(&mut self, now: Instant) -> Step {
        if self.round.is_none() && self.due().is_some_and(|due| due <= now) {
            self.begin(now);
        }
        let Some(round) = &mut self.round else { return NOTHING };
        if now < round.next {
            return NOTHING;
        }
        if round.asked.is_some() && self.is_over_without(now) {
            return self.finish(now);
        }
        let patience = (2 * self.round_trip).clamp(QUESTION_TIME, QUESTION_TIME_MAX);
        let Some(round) = self.round.as_mut().filter(|round| round.next <= now) else {
            return NOTHING;
        };
        round.asked = Some(now);
        round.next = now + patience;
        round.heard = false;
        Step { question: Some(round.target), is_checked: false }
    }

    /// When [`PathSearch::tick`] has something to do.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        self.round.as_ref().map(|round| round.next).or_else(|| self.due())
    }

    fn begin(&mut self, now: Instant) {
        let most = self.most_tried();
        let widens = self.size < most && now >= self.raise;
        let (stage, target) = if widens { (Stage::Most, most) } else { (Stage::InUse, self.size) };
        self.round = Some(Round {
            stage,
            target,
            lost: None,
            widens,
            losses: 0,
            unclear: 0,
            asked: None,
            next: now,
            heard: false,
        });
    }

    /// The size that was asked for passes.
    fn carries(&mut self, now: Instant, size: u16) -> Step {
        self.answers = true;
        let Some(round) = &mut self.round else { return NOTHING };
        if let Some(asked) = round.asked.take() {
            self.round_trip = now.saturating_duration_since(asked);
        }
        round.next = now;
        match round.stage {
            Stage::Most => {
                self.size = size;
                return self.finish(now);
            }
            Stage::InUse if !round.widens => return self.finish(now),
            Stage::Least => {
                round.losses += 1;
                if round.losses < LOST_MAX {
                    (round.stage, round.target) = (Stage::InUse, self.size);
                    return NOTHING;
                }
                round.lost = Some(self.size);
            }
            Stage::InUse | Stage::Up => {}
        }
        self.size = size;
        let lost = round.lost.unwrap_or(u16::MAX);
        let Some(above) = self.sizes.iter().copied().find(|it| *it > size && *it <= lost) else {
            return self.finish(now);
        };
        (round.stage, round.target) = (Stage::Up, above);
        NOTHING
    }

    /// What was asked for is lost: goes on with something smaller, or says that there is nothing.
    fn is_over_without(&mut self, now: Instant) -> bool {
        let (size, least) = (self.size, self.least());
        let Some(round) = &mut self.round else { return true };
        round.asked = None;
        match round.stage {
            Stage::Most => (round.stage, round.target) = (Stage::InUse, size),
            Stage::InUse if size > least => (round.stage, round.target) = (Stage::Least, least),
            Stage::Least if round.unclear + 1 < UNCLEAR_MAX => {
                round.unclear += 1;
                (round.stage, round.target) = (Stage::InUse, size);
                // Its late answer must not be taken for that of the next question.
                round.next = now + QUESTION_TIME;
            }
            Stage::Up => return true,
            Stage::InUse | Stage::Least => {
                self.is_silent = !round.heard;
                return true;
            }
        }
        false
    }

    fn finish(&mut self, now: Instant) -> Step {
        let Some(round) = self.round.take() else { return NOTHING };
        self.checked = now;
        if round.widens {
            self.raise = now + RAISE;
        }
        if round.lost.is_some_and(|lost| self.size < lost) {
            self.raise = now + RAISE_FIRST;
        }
        self.deaf_rounds += u8::from(!self.answers && round.heard);
        Step { question: None, is_checked: true }
    }

    /// When the next round begins; `None` while the channel is not used.
    fn due(&self) -> Option<Instant> {
        let passed = self.passed.filter(|_| !self.is_deaf() && !self.is_silent)?;
        let since = |at: Instant, last: Option<Instant>| last.is_some_and(|it| it + USED > at);
        let confirm = if self.size == self.least() {
            None
        } else if since(self.checked, self.large) {
            Some(self.checked + BUSY)
        } else {
            since(self.checked, Some(passed)).then_some(self.checked + QUIET)
        };
        let widens = self.size < self.most_tried() && since(self.raise, Some(passed));
        confirm.into_iter().chain(widens.then_some(self.raise)).min()
    }

    fn is_deaf(&self) -> bool {
        self.deaf_rounds >= DEAF_ROUNDS
    }

    fn least(&self) -> u16 {
        self.sizes.first().copied().unwrap_or(self.size)
    }

    fn most_tried(&self) -> u16 {
        self.sizes.last().copied().unwrap_or(self.size)
    }
}

#[cfg(test)]
mod tests;
