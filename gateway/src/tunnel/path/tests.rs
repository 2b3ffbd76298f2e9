use super::*;

/// IPv4, UDP, a record of DTLS 1.3 and the frame's type.
const AROUND: u16 = 20 + 8 + 22 + 1;
const LOOK: Duration = Duration::from_millis(10);
const ROUND_TRIP: Duration = Duration::from_millis(40);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// How a client answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// With the bytes it was asked with.
    Same,
    /// Without any, as OpenConnect's.
    Empty,
    Never,
}

/// A client behind a path, in virtual time.
struct World {
    search: PathSearch,
    now: Instant,
    /// The largest packet that the path carries, bytes with all that is around; 0 is an outage.
    path: u16,
    answers: Answers,
    /// What passes, bytes; `None` is nothing. What the path does not carry is sent and lost.
    traffic: Option<usize>,
    /// The client is heard without traffic of its own.
    talks: bool,
    under_way: Vec<(Instant, u16)>,
    asked: usize,
    rounds: usize,
}

impl World {
    fn new(path: u16) -> Self {
        let now = Instant::now();
        Self {
            search: PathSearch::new(now, AROUND, 1_280, PathSearch::most(AROUND)),
            now,
            path,
            answers: Answers::Same,
            traffic: None,
            talks: true,
            under_way: Vec::new(),
            asked: 0,
            rounds: 0,
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let now = self.now;
            if let Some(size) = self.traffic {
                self.search.passed(now, size.min(self.search.size().into()));
            }
            if self.talks && self.path > 0 {
                self.search.heard();
            }
            let (here, later) = self.under_way.drain(..).partition(|(due, _)| *due <= now);
            self.under_way = later;
            let here: Vec<(Instant, u16)> = here;
            for (_, size) in here {
                let bytes = if self.answers == Answers::Same { size.into() } else { 0 };
                self.rounds += usize::from(self.search.answered(now, bytes).is_checked);
            }
            let step = self.search.tick(now);
            self.rounds += usize::from(step.is_checked);
            if let Some(size) = step.question {
                self.asked += 1;
                if size + AROUND <= self.path && self.answers != Answers::Never {
                    self.under_way.push((now + ROUND_TRIP, size));
                }
            }
            assert!(self.search.wake().is_none_or(|at| at > now), "it spins");
            self.now += LOOK;
        }
    }

    /// How long until the size fits the path.
    fn until_it_fits(&mut self) -> Duration {
        let begun = self.now;
        while self.search.size() + AROUND > self.path {
            self.run(LOOK);
            assert!(self.now - begun < seconds(60), "{:?}", self.search);
        }
        self.now - begun
    }

    fn questions(&mut self) -> usize {
        std::mem::take(&mut self.asked)
    }
}

#[test]
fn a_search_finds_the_largest_size_that_is_answered() {
    let paths = [(1_500, 1_500), (1_450, 1_428), (1_400, 1_400), (1_340, 1_331), (1_290, 1_280)];
    for (answers, (path, found)) in [Answers::Same, Answers::Empty]
        .into_iter()
        .flat_map(|answers| paths.into_iter().map(move |path| (answers, path)))
    {
        let mut world = World::new(path);
        world.answers = answers;
        // The usual one at once, the others with a question after a second, what is below the begin after four.
        let time = match found {
            1_500 => ROUND_TRIP,
            1_280 => seconds(4) + 3 * ROUND_TRIP,
            _ => seconds(1) + 8 * ROUND_TRIP,
        };
        world.run(time + 8 * LOOK);
        assert_eq!(world.search.size(), found - AROUND, "{path}");
        world.run(seconds(5));
        assert_eq!((world.search.size(), world.rounds), (found - AROUND, 1), "{path}");
        assert!(world.questions() <= PATHS.len() + 6);
    }
}

#[test]
fn a_path_that_became_smaller_is_known_within_seconds_whichever_way_packets_go() {
    // Packets go on, or nothing passes any more, or the next one is small and the path changed in silence.
    let traffic = [(Some(1_449), Some(1_449)), (Some(1_449), None), (None, Some(60))];
    for (before, after) in traffic {
        for offset in 0..12 {
            let mut world = World::new(1_500);
            world.answers = if offset % 2 == 0 { Answers::Same } else { Answers::Empty };
            world.traffic = before;
            world.run(seconds(60) + Duration::from_millis(offset * 270));
            assert_eq!(world.search.size(), 1_449);
            (world.path, world.traffic) = (1_400, after);
            let took = world.until_it_fits();
            assert!(took <= seconds(6) + 3 * ROUND_TRIP + 8 * LOOK, "{took:?} {before:?}");
            world.run(seconds(2));
            assert_eq!(world.search.size(), 1_400 - AROUND);
        }
    }
}

#[test]
fn questions_are_few_and_none_while_nothing_passes() {
    let mut world = World::new(1_500);
    world.run(seconds(5));
    world.questions();
    world.run(seconds(600));
    assert_eq!(world.questions(), 0, "nothing passes");
    world.traffic = Some(1_449);
    world.run(seconds(60));
    assert!((15..=22).contains(&world.questions()), "large packets");
    world.traffic = None;
    world.run(seconds(60));
    assert!(world.questions() <= 5, "until it counts as unused");
    world.traffic = Some(80);
    world.run(seconds(60));
    assert!((3..=6).contains(&world.questions()), "small packets");
}

#[test]
fn an_outage_does_not_make_packets_smaller() {
    let mut world = World::new(1_500);
    world.traffic = Some(1_449);
    world.run(seconds(20));
    world.questions();
    world.path = 0;
    world.run(seconds(300));
    assert_eq!(world.search.size(), 1_449);
    // A client whose own way out is shut must not be kept believing in this one.
    assert!(world.questions() <= 6);
    world.path = 1_500;
    world.run(seconds(15));
    assert_eq!(world.search.size(), 1_449);
}

#[test]
fn a_client_that_answers_no_questions_keeps_its_size_and_is_left_alone() {
    let mut world = World::new(1_500);
    (world.answers, world.traffic) = (Answers::Never, Some(1_280));
    world.run(seconds(60));
    assert_eq!(world.search.size(), 1_280);
    world.questions();
    world.run(seconds(2_000));
    world.search.doubt(world.now);
    world.run(seconds(60));
    assert_eq!(world.questions(), 0);
}

#[test]
fn larger_sizes_are_tried_again_soon_and_then_seldom() {
    let mut world = World::new(1_500);
    world.traffic = Some(1_449);
    world.run(seconds(10));
    world.path = 1_300;
    world.until_it_fits();
    world.run(seconds(2));
    world.path = 1_500;
    world.run(seconds(25));
    assert_eq!(world.search.size(), 1_300 - AROUND);
    world.run(seconds(10));
    assert_eq!(world.search.size(), 1_449, "half a minute later");
    world.path = 1_300;
    world.until_it_fits();
    world.run(seconds(40));
    world.path = 1_500;
    world.run(seconds(500));
    assert_eq!(world.search.size(), 1_300 - AROUND, "it has just been tried");
    world.run(seconds(110));
    assert_eq!(world.search.size(), 1_449);
}

#[test]
fn a_hint_leads_to_a_question_and_to_nothing_else() {
    let mut world = World::new(1_500);
    world.run(seconds(10));
    world.questions();
    for _ in 0..1_000 {
        world.search.doubt(world.now);
        world.run(LOOK);
    }
    assert_eq!(world.search.size(), 1_449);
    assert!(world.questions() <= 10, "one a second at most");
    // Where it is right, that is known in half the time.
    world.path = 1_400;
    world.run(seconds(2));
    world.search.doubt(world.now);
    assert!(world.until_it_fits() <= seconds(3) + 3 * ROUND_TRIP + 8 * LOOK);
}

#[test]
fn an_answer_counts_only_for_what_was_asked() {
    let now = Instant::now();
    let mut search = PathSearch::new(now, AROUND, 1_280, 1_390);
    assert_eq!((search.answered(now, 0), search.size()), (NOTHING, 1_280), "nothing was asked");
    // As high as its client was told, and no higher.
    assert_eq!(search.tick(now).question, Some(1_390));
    for bytes in [9_000, 1, 1_280] {
        assert_eq!((search.answered(now, bytes), search.size()), (NOTHING, 1_280));
    }
    // Somebody else has asked, too.
    search.blur(now);
    assert_eq!((search.answered(now, 0), search.size()), (NOTHING, 1_280));
    assert!(search.answered(now + QUESTION_TIME, 0).is_checked);
    assert_eq!(search.size(), 1_390);
    assert_eq!((search.answered(now, 0), search.size()), (NOTHING, 1_390));
}

#[test]
fn loss_does_not_look_like_a_smaller_path() {
    // Whatever its size, nothing passes for half of the time.
    let mut world = World::new(1_500);
    world.traffic = Some(1_449);
    world.run(seconds(10));
    for number in 0..200 {
        world.path = if number % 4 < 2 { 0 } else { 1_500 };
        world.run(Duration::from_millis(1_300));
        assert_eq!(world.search.size(), 1_449);
    }
}

#[test]
fn an_answer_that_comes_late_is_not_taken_for_that_to_the_next_question() {
    let mut now = Instant::now();
    let mut search = PathSearch::new(now, AROUND, 1_280, 1_280);
    let mut asks = |search: &mut PathSearch, size| {
        assert_eq!(search.tick(now).question, Some(size));
        now += QUESTION_TIME;
        now
    };
    let least = 1_280 - AROUND;
    asks(&mut search, 1_280);
    let now = asks(&mut search, least);
    // The least is answered, but late.
    assert_eq!(search.tick(now), NOTHING);
    assert_eq!((search.answered(now, 0), search.size()), (NOTHING, 1_280));
    assert_eq!(search.tick(now + QUESTION_TIME).question, Some(1_280));
}
