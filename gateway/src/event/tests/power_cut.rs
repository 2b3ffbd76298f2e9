//! A power cut at any moment: only what was synced is left, and that is all that was promised.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use serde_json::Value;

use super::{append, options, walk};
use crate::event::disk::{Disk, RealDisk, Space};
use crate::event::{EventLog, Options, Reader};

/// A disk that knows what a power cut leaves of it.
struct CutDisk {
    root: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Clone, Default)]
struct Kept {
    /// Names as of the last sync of their directory: by path, the file.
    names: HashMap<PathBuf, u64>,
    /// Content as of the last sync, by file.
    content: HashMap<u64, Vec<u8>>,
    /// Which file an inode is: a number is used again once its file is gone.
    files: HashMap<u64, u64>,
    made: u64,
}

/// What becomes of names that no sync of a directory has made durable.
#[derive(Clone, Copy, Debug)]
enum Names {
    /// They are as they were at the last one.
    Synced,
    /// The file system's journal has them all the same.
    Newest,
}

impl Kept {
    fn file(&mut self, path: &Path) {
        // Gone between the listing and now: a later sync sees it.
        let Ok(metadata) = std::fs::metadata(path) else { return };
        if let Ok(bytes) = std::fs::read(path) {
            let file = self.known(metadata.ino());
            self.content.insert(file, bytes);
        }
    }

    /// A file of its own, whatever had the inode before.
    fn made(&mut self, inode: u64) -> u64 {
        self.made += 1;
        self.files.insert(inode, self.made);
        self.made
    }

    fn known(&mut self, inode: u64) -> u64 {
        self.files.get(&inode).copied().unwrap_or_else(|| self.made(inode))
    }

    fn directory(&mut self, directory: &Path) {
        self.names.retain(|path, _| path.parent() != Some(directory));
        for path in files(directory) {
            if let Ok(metadata) = std::fs::metadata(&path) {
                let file = self.known(metadata.ino());
                self.names.insert(path, file);
            }
        }
    }
}

/// The files right below.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

/// The directory and those below.
fn directories(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
        found.extend(directories(&path));
    }
    found
}

impl CutDisk {
    /// The state in which the machine comes up again, in a folder of its own.
    fn cut(&self, names: Names) -> tempfile::TempDir {
        // Nothing becomes durable, or gets another name, while this is taken down.
        let left = {
            let kept = self.kept.lock();
            let mut left = kept.clone();
            if matches!(names, Names::Newest) {
                directories(&self.root).iter().for_each(|directory| left.directory(directory));
            }
            left
        };
        let folder = tempfile::tempdir().unwrap();
        for (path, file) in &left.names {
            let to = folder.path().join(path.strip_prefix(&self.root).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            let content = left.content.get(file).map_or(&[][..], Vec::as_slice);
            std::fs::write(to, content).unwrap();
        }
        folder
    }
}

impl Disk for CutDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        let mut kept = self.kept.lock();
        let fresh = !path.exists();
        let file = RealDisk.create(path)?;
        if fresh {
            kept.made(file.metadata()?.ino());
        }
        Ok(file)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut kept = self.kept.lock();
        // The path by which it is open; one that was removed has none that is read.
        let path = std::fs::read_link(format!("/proc/self/fd/{}", descriptor(file)))?;
        kept.file(&path);
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.kept.lock().directory(directory);
        Ok(())
    }

    fn sync_all(&self, root: &Path) -> io::Result<()> {
        let mut kept = self.kept.lock();
        for directory in directories(root) {
            kept.directory(&directory);
            files(&directory).iter().for_each(|path| kept.file(path));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _still = self.kept.lock();
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let _still = self.kept.lock();
        RealDisk.remove(path)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        RealDisk.space(directory)
    }
}

fn descriptor(file: &File) -> i32 {
    use std::os::fd::AsRawFd as _;
    file.as_raw_fd()
}

/// Cuts of the power in each way.
const CUTS: usize = 15;
/// Events between two waits until they are durable, and such waits of one run of the gateway.
const BATCH: usize = 60;
const BATCHES: usize = 8;
/// A quota that has pushed something out has left a tenant at least this many.
const KEPT_MIN: usize = 1_000;

#[test]
fn what_was_durable_is_there_after_a_power_cut_at_any_moment() {
    for names in [Names::Synced, Names::Newest] {
        cuts(names);
    }
}

/// Ends whoever looks at it, however the test ends.
struct Ends<'d>(&'d AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn cuts(names: Names) {
    let folder = tempfile::tempdir().unwrap();
    let kept = Mutex::default();
    let disk = Arc::new(CutDisk { root: folder.path().to_owned(), kept });
    // Small segments, which roll, are packed and evicted.
    let options = Options { fsync: true, compress: true, max_bytes: 1 << 20, ..options() };
    let (durable, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let ends = Ends(&done);
        scope.spawn(|| {
            // Ends and begins again all the time: each end makes a checkpoint and removes what it
            // covers, each beginning recovers.
            while !done.load(Ordering::SeqCst) {
                run(&disk, folder.path(), &options, &durable);
            }
        });
        for cut in 0..CUTS {
            std::thread::sleep(std::time::Duration::from_micros(17_310 * (cut as u64 % 7 + 1)));
            // What is promised now, before the cut.
            let promised = durable.load(Ordering::SeqCst);
            let left = disk.cut(names);
            survived(left.path(), &options, promised, cut);
        }
        drop(ends);
    });
    assert!(durable.into_inner() > BATCHES * BATCH * 3, "the power was cut while events came");
}

/// One run of a gateway.
fn run(disk: &Arc<CutDisk>, root: &Path, options: &Options, durable: &AtomicUsize) {
    let shared = Arc::clone(disk) as Arc<dyn Disk>;
    let log = EventLog::open_on(shared, root, options.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..BATCHES {
        let next = durable.load(Ordering::SeqCst);
        append(&log, "acme", next..next + BATCH);
        append(&log, "beta", next..next + BATCH);
        runtime.block_on(log.flush());
        durable.store(next + BATCH, Ordering::SeqCst);
    }
    log.close();
}

/// Opens the log as the machine that comes up does.
fn survived(root: &Path, options: &Options, promised: usize, cut: usize) {
    let log = EventLog::open(root, options.clone()).unwrap();
    log.close();
    for tenant in ["acme", "beta"] {
        let events = walk(&Reader::open(root), tenant, None, 100_000);
        let numbered = events.iter().filter(|event| event["type"] == "transaction");
        let number = |event: &Value| event["object"].as_str()?.parse::<usize>().ok();
        let found: Vec<usize> = numbered.filter_map(number).collect();
        let first = found.first().copied().unwrap_or(0);
        let next = found.last().map_or(0, |last| last + 1);
        assert!(next >= promised, "cut {cut}: {tenant} ends at {next}, promised were {promised}");
        let gap = found.windows(2).find(|pair| pair[1] != pair[0] + 1);
        assert_eq!(gap, None, "cut {cut}: {tenant} lost or repeated one in between");
        // Only what a quota took is not there.
        assert!(first == 0 || found.len() >= KEPT_MIN, "cut {cut}: {tenant} begins at {first}");
    }
}
