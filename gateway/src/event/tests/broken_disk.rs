//! Whichever act of the disk fails: no panic, nothing torn, nothing lost that was promised.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::full_disk::settle;
use super::{append, line, numbered, numbers, options};
use crate::config::WhenFull;
use crate::event::disk::{Disk, RealDisk, Space};
use crate::event::log::WAL_DIRECTORY;
use crate::event::stats::Counters;
use crate::event::wal::{FileId, Wal};
use crate::event::{EventLog, Options};

/// Fails some of its acts, counted from its making; a write that fails leaves half behind.
struct BrokenDisk {
    acts: AtomicUsize,
    fails: std::ops::Range<usize>,
    kind: io::ErrorKind,
}

impl BrokenDisk {
    fn new(fails: std::ops::Range<usize>) -> Arc<Self> {
        let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::Other, io::ErrorKind::Interrupted];
        let kind = kinds[fails.start % kinds.len()];
        Arc::new(Self { acts: AtomicUsize::new(0), fails, kind })
    }

    fn act(&self) -> io::Result<()> {
        let act = self.acts.fetch_add(1, Ordering::SeqCst);
        if self.fails.contains(&act) { Err(self.kind.into()) } else { Ok(()) }
    }

    fn acts(&self) -> usize {
        self.acts.load(Ordering::SeqCst)
    }
}

impl Disk for BrokenDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.act()?;
        RealDisk.create(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if let Err(error) = self.act() {
            RealDisk.write_at(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        // In pieces, so that an act can fail between two of them.
        RealDisk.write_at(file, &bytes[..bytes.len().min(1500)], offset)
    }

    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.act()?;
        RealDisk.set_len(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.act()?;
        RealDisk.sync(file)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.act()?;
        RealDisk.sync_directory(directory)
    }

    /// Does not really sync: other tests share the machine's file systems.
    fn sync_all(&self, _: &Path) -> io::Result<()> {
        self.act()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act()?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.act()?;
        RealDisk.remove(path)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        self.act()?;
        RealDisk.space(directory)
    }
}

/// Events one worker's log is given, one after the other.
const EVENTS: usize = 30;

/// Appends, writes and syncs event by event, however the disk answers. Says how many events are
/// promised to survive.
fn log_each(disk: &Arc<BrokenDisk>, root: &Path) -> usize {
    let directory = root.join(WAL_DIRECTORY);
    std::fs::create_dir(&directory).unwrap();
    let file = FileId { worker: 0, index: 0 };
    let shared = Arc::clone(disk) as Arc<dyn Disk>;
    let Ok(wal) = Wal::create(shared, &directory, file, 4000, true) else { return 0 };
    let counters = Counters::default();
    let mut promised = 0;
    for number in 0..EVENTS {
        let line = line(&numbered(number));
        wal.append("acme", &counters, WhenFull::DropOldest, |out| {
            out.extend_from_slice(line.as_bytes())
        });
        if wal.drain(&counters).is_ok() && wal.sync().is_ok() {
            promised = number + 1;
        }
        // Where this fails the file only becomes larger.
        wal.rotate_full().unwrap_or_default();
    }
    promised
}

/// What a gateway finds that opens the log after a crash, on a disk that works.
fn found(root: &Path) -> Vec<usize> {
    let log = EventLog::open(root, options()).unwrap();
    assert_eq!(log.stats().damaged, 0);
    numbers(root, "acme")
}

#[test]
fn any_one_failing_act_of_the_disk_loses_no_event_of_a_log() {
    for failing in 0.. {
        let directory = tempfile::tempdir().unwrap();
        let disk = BrokenDisk::new(failing..failing + 1);
        let promised = log_each(&disk, directory.path());
        let found = found(directory.path());
        if promised == 0 {
            assert!(failing < 2, "only a log that cannot be made promises nothing");
            assert!(found.is_empty());
            continue;
        }
        assert!(found.len() >= promised, "{failing}");
        assert_eq!(found, (0..found.len()).collect::<Vec<_>>(), "{failing}");
        if disk.acts() <= failing {
            assert!(failing > EVENTS * 3, "each event costs at least a look, a write and a sync");
            assert_eq!(promised, EVENTS);
            return;
        }
    }
}

#[test]
fn a_disk_that_dies_at_any_act_keeps_what_was_promised_before() {
    for failing in 0.. {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(BrokenDisk {
            acts: AtomicUsize::new(0),
            fails: failing..usize::MAX,
            kind: io::ErrorKind::StorageFull,
        });
        let promised = log_each(&disk, directory.path());
        let found = found(directory.path());
        assert!(found.len() >= promised, "{failing}: {promised} of {}", found.len());
        assert_eq!(found, (0..found.len()).collect::<Vec<_>>(), "{failing}");
        if disk.acts() <= failing {
            assert_eq!(promised, EVENTS);
            return;
        }
    }
}

#[test]
fn any_one_failing_act_of_the_disk_is_made_good_by_the_threads() {
    let next = AtomicUsize::new(0);
    // How many acts a run takes varies with the threads; some more are none that fail.
    let most = AtomicUsize::new(1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let failing = next.fetch_add(1, Ordering::SeqCst);
                    if failing > most.load(Ordering::SeqCst) {
                        return;
                    }
                    most.fetch_max(whole_log(failing), Ordering::SeqCst);
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) > 30, "writes, syncs, splits and checkpoints were tried");
}

/// Runs a whole log on a disk of which one act fails; says how many there were.
fn whole_log(failing: usize) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let disk = BrokenDisk::new(failing..failing + 1);
    let shared = Arc::clone(&disk) as Arc<dyn Disk>;
    // A quota that makes segments small, so that they roll.
    let options = Options { fsync: true, max_bytes: 400 << 10, ..options() };
    let opened = EventLog::open_on(shared, directory.path(), options.clone());
    let (mut expected, mut evicted) = (0, 0);
    if let Ok(log) = opened {
        for _ in 0..2 {
            append(&log, "acme", expected..expected + 40);
            expected += 40;
            settle(&log);
        }
        append(&log, "acme", expected..expected + 5);
        expected += 5;
        assert_eq!(log.stats().dropped, 0);
        log.close();
        assert_eq!(log.stats().damaged, 0);
        evicted = log.stats().evicted;
        drop(log);
    }
    let log = EventLog::open(directory.path(), options).unwrap();
    assert_eq!(log.stats().torn_tails, 0, "act {failing} left a torn log");
    let kept = numbers(directory.path(), "acme");
    // A disk that says it is full costs the oldest segment, counted.
    let gone = expected - kept.len();
    assert_eq!(kept, (gone..expected).collect::<Vec<_>>(), "{failing}");
    assert!(gone as u64 <= evicted, "{failing}: {gone} of {evicted}");
    assert!(gone == 0 || disk.kind == io::ErrorKind::StorageFull, "{failing}: {gone}");
    disk.acts()
}
