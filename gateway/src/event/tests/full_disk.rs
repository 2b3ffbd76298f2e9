//! A full disk costs what is oldest and what does not fit in memory, both counted; it never
//! wedges the log. The same promises on a disk of arithmetic and, as root, on a real small one.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{append, numbered, numbers, options, walk};
use crate::config::WhenFull;
use crate::event::disk::{Disk, RealDisk, Space};
use crate::event::{EventLog, Options, POP_TENANT, Reader};

/// Longer than any of this takes on the slowest machine: what waits longer is wedged.
const WEDGED: Duration = Duration::from_secs(300);

/// A place for a log, and something else that can take all the room in it.
trait Place {
    fn root(&self) -> &Path;
    fn disk(&self) -> Arc<dyn Disk>;
    fn fill(&self);
    fn clear(&self);
}

/// A directory that may hold `capacity` bytes.
struct Small {
    directory: tempfile::TempDir,
    disk: Arc<SmallDisk>,
}

struct SmallDisk {
    root: PathBuf,
    capacity: u64,
    foreign: AtomicU64,
}

impl SmallDisk {
    fn free(&self) -> u64 {
        let taken = self.foreign.load(Ordering::SeqCst) + bytes_below(&self.root);
        self.capacity.saturating_sub(taken)
    }
}

fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().filter_map(Result::ok);
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        // Removed in between.
        Err(_) => 0,
    });
    bytes.sum()
}

impl Disk for SmallDisk {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let old = file.metadata()?.len().saturating_sub(offset);
        let fits = usize::try_from(old + self.free()).unwrap().min(bytes.len());
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        RealDisk.write_at(file, &bytes[..fits], offset)
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(Space { total: self.capacity, free: self.free() })
    }
}

impl Small {
    fn new(capacity: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        let disk = Arc::new(SmallDisk { root, capacity, foreign: AtomicU64::new(0) });
        Self { directory, disk }
    }
}

impl Place for Small {
    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk) as Arc<dyn Disk>
    }

    fn fill(&self) {
        self.disk.foreign.fetch_add(self.disk.free(), Ordering::SeqCst);
    }

    fn clear(&self) {
        self.disk.foreign.store(0, Ordering::SeqCst);
    }
}

/// A file system of its own in memory.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    /// `None` where this process may not mount.
    fn mount(bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(directory.path())
            .output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then(|| {
            std::fs::create_dir(directory.path().join("log")).unwrap();
            let root = directory.path().join("log");
            assert!(root.is_dir());
            Self(directory)
        })
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the file system stays mounted");
    }
}

/// The log lies one below the mount, beside what fills the rest.
struct OnTmpfs {
    root: PathBuf,
    tmpfs: Tmpfs,
}

impl Place for OnTmpfs {
    fn root(&self) -> &Path {
        &self.root
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }

    fn fill(&self) {
        let mut filler =
            File::options().append(true).create(true).open(self.tmpfs.filler()).unwrap();
        let block = [0; 4096];
        while filler.write_all(&block).is_ok() {}
        assert_eq!(RealDisk.space(&self.root).unwrap().free, 0);
    }

    fn clear(&self) {
        std::fs::remove_file(self.tmpfs.filler()).unwrap();
    }
}

/// Runs a promise on every kind of disk there is.
fn on_each(capacity: u64, promise: impl Fn(&dyn Place)) {
    promise(&Small::new(capacity));
    if let Some(tmpfs) = Tmpfs::mount(capacity) {
        promise(&OnTmpfs { root: tmpfs.0.path().join("log"), tmpfs });
    }
}

fn open(place: &dyn Place) -> EventLog {
    let options = Options { fsync: true, max_bytes: 1 << 40, ..options() };
    EventLog::open_on(place.disk(), place.root(), options).unwrap()
}

/// Waits until all that was appended is readable.
pub(super) fn settle(log: &EventLog) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let settled = runtime.block_on(async { tokio::time::timeout(WEDGED, log.settle()).await });
    assert!(settled.is_ok(), "wedged: {:?}", log.stats());
}

fn until(log: &EventLog, mut reached: impl FnMut(&EventLog) -> bool) {
    let began = Instant::now();
    while !reached(log) {
        assert!(began.elapsed() < WEDGED, "{:?}", log.stats());
        std::thread::yield_now();
    }
}

/// Appends large events until then; how many.
fn flood(log: &EventLog, reached: impl Fn(&EventLog) -> bool) -> u64 {
    let writer = log.writer(0);
    let mut record = numbered(0);
    record.http.url = Some("https://www.example.com/".repeat(80).into());
    let mut appended = 0;
    until(log, |log| {
        (0..500).for_each(|_| writer.append("acme", &record));
        appended += 500;
        reached(log)
    });
    appended
}

/// Events of all tenants that can be read; all of them are whole.
fn kept(root: &Path) -> u64 {
    let reader = Reader::open(root);
    let tenants = reader.tenants().unwrap();
    tenants.iter().map(|tenant| walk(&reader, tenant, None, 1000).len() as u64).sum()
}

/// What is accepted is kept, or was the oldest and is counted.
fn assert_adds_up(log: &EventLog, root: &Path) {
    let stats = log.stats();
    assert_eq!((stats.split, stats.damaged), (stats.appended - stats.displaced, 0), "{stats:?}");
    assert_eq!(kept(root), stats.split - stats.evicted, "{stats:?}");
}

#[test]
fn a_full_disk_takes_the_oldest_and_never_the_newest() {
    on_each(1 << 20, |place| {
        let log = open(place);
        append(&log, "acme", 0..1000);
        settle(&log);
        place.fill();
        append(&log, "acme", 1000..6000);
        settle(&log);
        assert!(log.stats().reclaimed_segments > 0, "{:?}", log.stats());
        assert_eq!(log.stats().dropped, 0);
        log.close();
        let kept = numbers(place.root(), "acme");
        assert_eq!(kept, (6000 - kept.len()..6000).collect::<Vec<_>>());
        assert!(kept.len() > 20, "{}", kept.len());
        assert_adds_up(&log, place.root());
        drop(log);
    });
}

#[test]
fn a_log_that_alone_fills_its_disk_goes_on() {
    on_each(1 << 20, |place| {
        let log = open(place);
        for round in 0..8 {
            append(&log, "acme", round * 1000..round * 1000 + 1000);
            append(&log, "globex", round * 1000..round * 1000 + 1000);
        }
        settle(&log);
        assert_eq!(log.stats().dropped, 0);
        log.close();
        for tenant in ["acme", "globex"] {
            let kept = numbers(place.root(), tenant);
            assert_eq!(kept, (8000 - kept.len()..8000).collect::<Vec<_>>());
            assert!(kept.len() > 100, "{}", kept.len());
        }
        assert_adds_up(&log, place.root());
        drop(log);
    });
}

#[test]
fn a_disk_without_a_free_byte_costs_counted_events_until_space_returns() {
    on_each(64 << 20, |place| {
        let log = open(place);
        place.fill();
        flood(&log, |log| log.stats().dropped > 0);
        assert!(log.stats().degraded && log.stats().displaced > 0);
        assert!(!log.writer(0).refuses_traffic(), "a log that may lose events never closes");
        assert_eq!((log.stats().split, log.stats().written_bytes), (0, 0));
        let dropped = log.stats().dropped;
        place.clear();
        settle(&log);
        append(&log, "acme", 1..100);
        // What the log says of itself is appended when it writes again.
        until(&log, |log| told(log, place.root()) == dropped);
        settle(&log);
        assert!(!log.stats().degraded);
        assert_eq!(log.stats().dropped, dropped);
        log.close();
        assert_eq!(numbers(place.root(), "acme").last(), Some(&99));
        assert_adds_up(&log, place.root());
        drop(log);
    });
}

#[test]
fn a_log_that_may_lose_nothing_closes_before_it_is_full_and_opens_again() {
    on_each(64 << 20, |place| {
        let log = open(place);
        log.set_when_full(WhenFull::RefuseTraffic);
        place.fill();
        let writer = log.writer(0);
        let appended = flood(&log, |_| writer.refuses_traffic());
        assert_eq!(log.stats().dropped, 0, "what is under way still has room");
        place.clear();
        settle(&log);
        assert!(!writer.refuses_traffic());
        log.close();
        assert_eq!(kept(place.root()), appended);
        drop(log);
    });
}

/// Events whose loss the log has told of.
fn told(log: &EventLog, root: &Path) -> u64 {
    settle(log);
    let alerts = walk(&Reader::open(root), POP_TENANT, None, 100);
    let dropped = alerts.iter().filter(|alert| alert["error"] == "events_dropped");
    dropped.map(|alert| alert["object"].as_str().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn a_log_on_a_full_disk_can_be_opened_again() {
    on_each(1 << 20, |place| {
        let log = open(place);
        append(&log, "acme", 0..1000);
        settle(&log);
        place.fill();
        append(&log, "acme", 1000..1500);
        log.close();
        drop(log);
        let log = open(place);
        append(&log, "acme", 1500..1600);
        settle(&log);
        log.close();
        assert_eq!(numbers(place.root(), "acme").last(), Some(&1599));
        drop(log);
    });
}
