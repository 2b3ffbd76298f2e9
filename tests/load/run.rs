//! One run: brings tunnels and streams up, then loads them until the time is over.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::tests::client::carrier::lock;
use ::tests::client::error::ClientError;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::Options;
use crate::gauge::{Clock, Gauge};
use crate::histogram::Histogram;
use crate::inside::Inside;
use crate::mix::Mix;
use crate::packets::Carried;
use crate::target::{Held, Target};

/// Handshakes under way at once while the run comes up: enough to keep a gateway busy, too few to
/// look like a flood to it.
const COMING_UP_MAX: usize = 64;
/// A stream that cannot send pauses so long before it tries again, so as not to spin.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
/// Requests under way at the end get this long.
const GRACE: Duration = Duration::from_secs(5);

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) tunnels_wanted: u64,
    pub(crate) tunnels: u64,
    pub(crate) streams_wanted: u64,
    pub(crate) streams: u64,
    pub(crate) coming_up: Duration,
    pub(crate) measured: Duration,
    pub(crate) rate: Option<f64>,
    pub(crate) never_sent: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) latency: Histogram,
    /// Requests whose answer was not 2xx or 3xx, by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
    /// Of packet tunnels.
    pub(crate) carried: Option<Carried>,
}

impl Outcome {
    /// Whether everything asked for came up and every due request was sent.
    pub(crate) fn up(&self) -> bool {
        self.tunnels == self.tunnels_wanted
            && self.streams == self.streams_wanted
            && self.never_sent == 0
    }
}

/// What one stream counted.
struct Tally {
    latency: Histogram,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
    sent_bytes: u64,
    received_bytes: u64,
    carried: Option<Carried>,
}

impl Tally {
    fn new() -> Self {
        Self {
            latency: Histogram::new(),
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            sent_bytes: 0,
            received_bytes: 0,
            carried: None,
        }
    }

    fn error(&mut self, error: &ClientError) {
        let label = match error.status() {
            Some(status) => format!("{}_{status}", error.label()),
            None => error.label().to_owned(),
        };
        *self.errors.entry(label).or_default() += 1;
    }

    fn merge(&mut self, other: Self) {
        self.latency.merge(&other.latency);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (label, count) in other.errors {
            *self.errors.entry(label).or_default() += count;
        }
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        if let Some(carried) = other.carried {
            self.carried.get_or_insert_default().merge(&carried);
        }
    }
}

/// What every stream is given.
struct Shared {
    target: Target,
    mix: Mix,
    gauge: Gauge,
    gate: Semaphore,
    /// Packet tunnels that say goodbye: no part of what is measured.
    goodbyes: Mutex<JoinSet<()>>,
    /// `Some` once everything is up: the load begins.
    clock: watch::Receiver<Option<Arc<Clock>>>,
}

pub(crate) async fn run(options: &Options, target: Target, mix: Mix, progress: bool) -> Outcome {
    let (begin, clock) = watch::channel(None);
    let shares_tunnels = target.is_shared();
    let gate = Semaphore::new(COMING_UP_MAX);
    let (gauge, goodbyes) = (Gauge::default(), Mutex::default());
    let shared = Arc::new(Shared { target, mix, gauge, gate, goodbyes, clock });
    let begun = Instant::now();
    let mut streams = JoinSet::new();
    let mut ups = Vec::new();
    for _ in 0..options.tunnels {
        let (up, is_up) = tokio::sync::oneshot::channel();
        ups.push(is_up);
        streams.spawn(tunnel(Arc::clone(&shared), options.streams, up));
    }
    let watching = progress.then(|| tokio::spawn(show_progress(Arc::clone(&shared), begun)));
    for up in ups {
        // A tunnel that failed has dropped its sender; it counts itself.
        up.await.ok();
    }
    let coming_up = begun.elapsed();
    let clock = Arc::new(Clock::new(options.rate, options.duration));
    begin.send_replace(Some(Arc::clone(&clock)));
    let (tally, measured) = gather(streams, &clock).await;
    let goodbyes = std::mem::take(&mut *lock(&shared.goodbyes));
    goodbyes.join_all().await;
    shared.gauge.ending.store(true, Ordering::Relaxed);
    if let Some(watching) = watching {
        watching.await.ok();
    }
    let streams_wanted = u64::from(options.tunnels) * u64::from(options.streams);
    Outcome {
        tunnels_wanted: if shares_tunnels { options.tunnels.into() } else { 0 },
        tunnels: Gauge::load(&shared.gauge.tunnels),
        streams_wanted,
        streams: Gauge::load(&shared.gauge.streams),
        coming_up,
        measured,
        rate: options.rate,
        never_sent: clock.never_sent(),
        sent_bytes: tally.sent_bytes,
        received_bytes: tally.received_bytes,
        latency: tally.latency,
        statuses: tally.statuses,
        errors: tally.errors,
        carried: tally.carried,
    }
}

async fn gather(mut streams: JoinSet<Tally>, clock: &Clock) -> (Tally, Duration) {
    let mut all = Tally::new();
    let last = tokio::time::Instant::from_std(clock.ends + GRACE);
    let mut cut = false;
    loop {
        match tokio::time::timeout_at(last, streams.join_next()).await {
            Ok(Some(Ok(tally))) => all.merge(tally),
            Ok(Some(Err(_))) => *all.errors.entry("stream_died".to_owned()).or_default() += 1,
            Ok(None) => break,
            Err(_) => {
                cut = true;
                break;
            }
        }
    }
    if cut {
        let left = streams.len() as u64;
        *all.errors.entry("unanswered_at_the_end".to_owned()).or_default() += left;
    }
    // Throughput counts to the last answer.
    (all, clock.begun.elapsed())
}

/// One tunnel with its streams; their tallies are merged.
async fn tunnel(shared: Arc<Shared>, streams: u32, up: tokio::sync::oneshot::Sender<()>) -> Tally {
    let mut tally = Tally::new();
    let opened = {
        let Ok(_permit) = shared.gate.acquire().await else { return tally };
        shared.target.tunnel().await
    };
    let tunnel = match opened {
        Ok(tunnel) => tunnel.map(Arc::new),
        Err(error) => {
            tally.error(&error);
            return tally;
        }
    };
    if tunnel.is_some() {
        Gauge::add(&shared.gauge.tunnels, 1);
    }
    let mut tasks = JoinSet::new();
    let mut ready = Vec::new();
    for number in 0..streams {
        let (stream_up, is_up) = tokio::sync::oneshot::channel();
        ready.push(is_up);
        let (shared, tunnel) = (Arc::clone(&shared), tunnel.clone());
        tasks.spawn(async move { stream(&shared, tunnel.as_deref(), number, stream_up).await });
    }
    for is_up in ready {
        is_up.await.ok();
    }
    if up.send(()).is_ok() && streams == 0 {
        hold(&shared).await;
    }
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(stream) => tally.merge(stream),
            Err(_) => *tally.errors.entry("stream_died".to_owned()).or_default() += 1,
        }
    }
    if let Some(Ok(Held::Packets(tunnel))) = tunnel.map(Arc::try_unwrap) {
        tally.carried.get_or_insert_default().add(&tunnel);
        lock(&shared.goodbyes).spawn(tunnel.close());
    }
    tally
}

/// Waits for the load to begin.
async fn begin(shared: &Shared) -> Option<Arc<Clock>> {
    let mut clock = shared.clock.clone();
    let begun = clock.wait_for(Option::is_some).await.ok()?;
    begun.as_ref().map(Arc::clone)
}

async fn hold(shared: &Shared) {
    if let Some(clock) = begin(shared).await {
        tokio::time::sleep_until(clock.ends.into()).await;
    }
}

/// One stream: connects, waits for the start, requests until the end.
async fn stream(
    shared: &Shared,
    tunnel: Option<&Held>,
    number: u32,
    up: tokio::sync::oneshot::Sender<()>,
) -> Tally {
    let mut tally = Tally::new();
    let mut connections: HashMap<String, Inside> = HashMap::new();
    let mut count = usize::try_from(number).unwrap_or(0);
    if let Some(entry) = shared.mix.at(count) {
        let connected = {
            let Ok(_permit) = shared.gate.acquire().await else { return tally };
            shared.target.connect(tunnel, entry).await
        };
        match connected {
            Ok(inner) => {
                Gauge::add(&shared.gauge.streams, 1);
                connections.insert(entry.authority.clone(), inner);
            }
            Err(error) => tally.error(&error),
        }
    }
    // Nobody waits any more where the run was cut short.
    up.send(()).ok();
    let Some(clock) = begin(shared).await else { return tally };
    while let Some(due) = clock.next() {
        tokio::time::sleep_until(due.into()).await;
        let failed = request(shared, tunnel, count, &mut connections, due, &mut tally).await;
        count += 1;
        if failed {
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
    }
    tally
}

/// Returns whether it failed.
async fn request(
    shared: &Shared,
    tunnel: Option<&Held>,
    count: usize,
    connections: &mut HashMap<String, Inside>,
    due: Instant,
    tally: &mut Tally,
) -> bool {
    let Some(entry) = shared.mix.at(count) else { return true };
    let mut inner = match connections.remove(&entry.authority) {
        Some(inner) => inner,
        None => match shared.target.connect(tunnel, entry).await {
            Ok(inner) => inner,
            Err(error) => {
                Gauge::add(&shared.gauge.failed, 1);
                tally.error(&error);
                return true;
            }
        },
    };
    match inner.send(entry.request.clone()).await {
        Ok(reply) => {
            tally.latency.add(due.elapsed());
            tally.sent_bytes += entry.request.body.length();
            tally.received_bytes += reply.length;
            Gauge::add(&shared.gauge.answered, 1);
            Gauge::add(&shared.gauge.received, reply.length);
            if !(200..400).contains(&reply.status) {
                *tally.statuses.entry(reply.status).or_default() += 1;
            }
            // A connection the other side will close is not used again.
            let closes = reply.field("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
            if !closes {
                connections.insert(entry.authority.clone(), inner);
            }
            false
        }
        Err(error) => {
            Gauge::add(&shared.gauge.failed, 1);
            tally.error(&error);
            true
        }
    }
}

/// Redraws one line on stderr each half second until the run ends.
async fn show_progress(shared: Arc<Shared>, begun: Instant) {
    let (gauge, mut before) = (&shared.gauge, 0);
    while !gauge.ending.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let answered = Gauge::load(&gauge.answered);
        let line = format!(
            "\r{:5.1} s  {} tunnels  {} streams  {} answered ({}/s)  {} failed  {} MB\x1b[K",
            begun.elapsed().as_secs_f64(),
            Gauge::load(&gauge.tunnels),
            Gauge::load(&gauge.streams),
            answered,
            (answered - before) * 2,
            Gauge::load(&gauge.failed),
            Gauge::load(&gauge.received) / 1_000_000,
        );
        before = answered;
        // A terminal that went away takes nothing from the measurement.
        std::io::stderr().write_all(line.as_bytes()).ok();
    }
    std::io::stderr().write_all(b"\r\x1b[K").ok();
}
