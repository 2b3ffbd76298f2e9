//! One worker's write-ahead log: a bounded buffer in memory, and the file it goes to.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::disk::{self, Disk};
use super::frame;
use super::stats::{Counters, add};
use crate::config::WhenFull;

/// Bytes a worker holds while the disk is slow; about 40,000 events. When it is full some are lost and
/// counted: a request never waits for the log.
const BUFFER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// From here on a log that may lose nothing takes no new traffic: the rest is for the ends of what is under
/// way, and for what says that traffic is refused.
const BUFFER_BYTES_CLOSED: usize = BUFFER_BYTES_MAX / 2;
/// What is lost at once, so that the rest is not moved for every event.
const DISPLACED_BYTES: usize = BUFFER_BYTES_MAX / 8;
/// Capacity an idle worker keeps.
const BUFFER_BYTES_IDLE: usize = 256 * 1024;
/// Left to the splitter on a disk that fills up, beside what it has still to split: a block for
/// the checkpoint and for the segments of some tenants.
const RESERVE_BYTES: u64 = 64 * 1024;
/// Ends the names of the log's files.
const SUFFIX: &str = ".wal";

/// Which file of which worker. Files of one worker are read in the order of `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileId {
    pub(super) worker: u32,
    pub(super) index: u64,
}

impl FileId {
    pub(super) fn name(self) -> String {
        format!("{:04}-{:012}{SUFFIX}", self.worker, self.index)
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let (worker, index) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        Some(Self { worker: worker.parse().ok()?, index: index.parse().ok()? })
    }

    pub(super) fn path(self, directory: &Path) -> PathBuf {
        directory.join(self.name())
    }
}

/// The log's files in `directory`, oldest first.
pub(super) fn list(directory: &Path) -> io::Result<Vec<FileId>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        files.extend(entry?.file_name().to_str().and_then(FileId::parse));
    }
    files.sort_unstable();
    Ok(files)
}

/// Up to where the log is whole: all files below `file`, and `bytes` of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) file: FileId,
    pub(super) bytes: u64,
}

/// One worker's log.
pub(super) struct Wal {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// What appenders have left. Held only to append or to swap.
    buffer: Mutex<Buffer>,
    output: Mutex<Output>,
    written: Mutex<Written>,
    /// Held by whoever begins a new file.
    rotating: Mutex<()>,
    file_bytes_max: u64,
    fsync: bool,
}

#[derive(Default)]
struct Buffer {
    frames: Vec<u8>,
    /// The log is closing: nothing would write what came now.
    closed: bool,
}

struct Output {
    file: Arc<File>,
    /// Whole frames taken from the buffer: a write that fails is tried again.
    pending: Vec<u8>,
    /// Bytes of them that are written.
    done: usize,
    /// Written to and not synced since.
    unsynced: Vec<Arc<File>>,
}

impl Wal {
    /// A log that begins with a fresh file.
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        directory: &Path,
        file: FileId,
        file_bytes_max: u64,
        fsync: bool,
    ) -> io::Result<Self> {
        let first = new_file(&*disk, directory, file)?;
        let output = Output { file: first, pending: Vec::new(), done: 0, unsynced: Vec::new() };
        Ok(Self {
            disk,
            directory: directory.to_owned(),
            buffer: Mutex::default(),
            output: Mutex::new(output),
            written: Mutex::new(Written { file, bytes: 0 }),
            rotating: Mutex::default(),
            file_bytes_max,
            fsync,
        })
    }

    /// Appends the line that `write` produces. Where there is no room, the oldest make some, or it is the new
    /// one that is lost.
    pub(super) fn append(
        &self,
        tenant: &str,
        counters: &Counters,
        when_full: WhenFull,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut buffer = self.buffer.lock();
        if buffer.frames.len() >= BUFFER_BYTES_MAX && when_full == WhenFull::DropOldest {
            let oldest = frame::whole(&buffer.frames, DISPLACED_BYTES);
            let count = buffer.frames.get(..oldest).map_or(0, frame::count);
            buffer.frames.drain(..oldest);
            add(&counters.displaced, count);
            add(&counters.dropped, count);
        }
        let kept = !buffer.closed
            && buffer.frames.len() < BUFFER_BYTES_MAX
            && frame::append(&mut buffer.frames, tenant, write);
        drop(buffer);
        add(if kept { &counters.appended } else { &counters.dropped }, 1);
    }

    /// Whether so much waits that nothing new should begin.
    pub(super) fn is_filling(&self) -> bool {
        self.buffer.lock().frames.len() >= BUFFER_BYTES_CLOSED
    }

    /// Brings what is in memory to the kernel.
    ///
    /// # Errors
    /// Where the disk refuses; nothing is lost, the next call goes on after the last whole frame.
    pub(super) fn drain(&self, counters: &Counters) -> io::Result<()> {
        let mut output = self.output.lock();
        // What a failed attempt left, then what came since.
        self.write_pending(&mut output, counters)?;
        std::mem::swap(&mut output.pending, &mut self.buffer.lock().frames);
        self.write_pending(&mut output, counters)
    }

    /// Writes what it can. A frame that did not fit is cut off again: half of one would hold
    /// blocks that nobody can reclaim.
    fn write_pending(&self, output: &mut Output, counters: &Counters) -> io::Result<()> {
        let Output { file, pending, done, unsynced } = output;
        let Some(rest) = pending.get(*done..).filter(|rest| !rest.is_empty()) else {
            return Ok(());
        };
        let written = self.written();
        let fitting = rest.get(..frame::whole(rest, self.room(counters))).unwrap_or_default();
        let (count, result) = disk::write_at(&*self.disk, file, fitting, written.bytes);
        let whole = frame::whole(fitting, count);
        let bytes = written.bytes + whole as u64;
        if result.is_err() {
            // Where this fails too, the next write begins at the same place all the same.
            self.disk.set_len(file, bytes).unwrap_or_default();
        }
        if whole > 0 {
            *done += whole;
            add(&counters.written_bytes, whole as u64);
            add(&counters.unsplit_bytes, whole as u64);
            // Where nobody syncs, nobody would close it either, and a removed file would keep its
            // blocks.
            if self.fsync && !unsynced.iter().any(|known| Arc::ptr_eq(known, file)) {
                unsynced.push(Arc::clone(file));
            }
            *self.written.lock() = Written { bytes, ..written };
        }
        result?;
        if *done < pending.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if pending.len() < pending.capacity() / 16 {
            pending.shrink_to(BUFFER_BYTES_IDLE);
        }
        pending.clear();
        *done = 0;
        Ok(())
    }

    /// Bytes that may be written now. Each byte takes another one when it is split, and only what
    /// is split can be removed: a log that filled the disk could never leave it.
    fn room(&self, counters: &Counters) -> usize {
        let Ok(space) = self.disk.space(&self.directory) else { return usize::MAX };
        let owed = counters.unsplit_bytes.load(Ordering::Relaxed).saturating_add(RESERVE_BYTES);
        usize::try_from(space.free.saturating_sub(owed) / 2).unwrap_or(usize::MAX)
    }

    /// Takes nothing more from appenders.
    pub(super) fn close(&self) {
        self.buffer.lock().closed = true;
    }

    /// Begins a new file where this one is full. Not for whoever writes: to make a name durable can
    /// take as long as to write all that is dirty, and meanwhile the buffer would fill up. So a
    /// file can become somewhat larger than it should.
    pub(super) fn rotate_full(&self) -> io::Result<()> {
        if self.written().bytes < self.file_bytes_max { Ok(()) } else { self.rotate() }
    }

    /// Begins a new file, so that the old one can be removed once it is split.
    pub(super) fn rotate(&self) -> io::Result<()> {
        let _one_at_a_time = self.rotating.lock();
        let written = self.written();
        if written.bytes == 0 {
            return Ok(());
        }
        let next = FileId { index: written.file.index + 1, ..written.file };
        let file = new_file(&*self.disk, &self.directory, next)?;
        let mut output = self.output.lock();
        self.disk.set_len(&output.file, self.written().bytes)?;
        output.file = file;
        *self.written.lock() = Written { file: next, bytes: 0 };
        Ok(())
    }

    /// Syncs what is written. Says how many syncs that took.
    ///
    /// # Errors
    /// Where the disk refuses. The kernel may have forgotten what it could not write, so the log
    /// goes on in a new file rather than trust this one. What is not synced is tried again.
    pub(super) fn sync(&self) -> io::Result<u64> {
        let files = std::mem::take(&mut self.output.lock().unsynced);
        for (done, file) in files.iter().enumerate() {
            if let Err(error) = self.disk.sync(file) {
                let mut output = self.output.lock();
                for left in files.iter().skip(done) {
                    if !output.unsynced.iter().any(|known| Arc::ptr_eq(known, left)) {
                        output.unsynced.push(Arc::clone(left));
                    }
                }
                drop(output);
                self.rotate()?;
                return Err(error);
            }
        }
        Ok(files.len() as u64)
    }

    pub(super) fn written(&self) -> Written {
        *self.written.lock()
    }
}

/// Creates the file, and its name durably.
fn new_file(disk: &dyn Disk, directory: &Path, file: FileId) -> io::Result<Arc<File>> {
    let created = disk.create(&file.path(directory))?;
    disk.sync_directory(directory)?;
    Ok(Arc::new(created))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use super::{BUFFER_BYTES_MAX, DISPLACED_BYTES, FileId, Wal, WhenFull, frame};
    use crate::event::disk::RealDisk;
    use crate::event::stats::Counters;

    fn log(directory: &std::path::Path) -> Wal {
        let file = FileId { worker: 0, index: 0 };
        Wal::create(Arc::new(RealDisk), directory, file, 1 << 20, true).unwrap()
    }

    /// A line of a megabyte, filled with one byte.
    fn megabyte(byte: u8) -> impl FnOnce(&mut Vec<u8>) {
        move |out| out.resize(out.len() + (1 << 20), byte)
    }

    #[test]
    fn a_disk_that_does_not_keep_up_costs_counted_events_and_bounded_memory() {
        let directory = tempfile::tempdir().unwrap();
        let (wal, counters) = (log(directory.path()), Counters::default());
        for number in 0..40 {
            wal.append("acme", &counters, WhenFull::RefuseTraffic, megabyte(number));
        }
        let kept = (BUFFER_BYTES_MAX >> 20) as u64;
        assert_eq!((counters.snapshot().appended, counters.snapshot().dropped), (kept, 40 - kept));
        assert_eq!(counters.snapshot().displaced, 0);
        wal.drain(&counters).unwrap();
        wal.rotate_full().unwrap();
        wal.append("acme", &counters, WhenFull::RefuseTraffic, megabyte(0));
        assert_eq!(counters.snapshot().appended, kept + 1);
        assert_eq!(wal.written().file.index, 1, "a full file makes room for the next");
    }

    #[test]
    fn the_oldest_that_wait_make_room_for_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let (wal, counters) = (log(directory.path()), Counters::default());
        for number in 0..100 {
            wal.append("acme", &counters, WhenFull::DropOldest, megabyte(number));
            assert!(wal.buffer.lock().frames.len() <= BUFFER_BYTES_MAX + (2 << 20));
        }
        let stats = counters.snapshot();
        assert_eq!((stats.appended, stats.dropped), (100, stats.displaced));
        let waiting = std::mem::take(&mut wal.buffer.lock().frames);
        assert_eq!(frame::count(&waiting), 100 - stats.displaced);
        assert_eq!(waiting.last(), Some(&99), "the newest is there");
        let at_least = (BUFFER_BYTES_MAX - DISPLACED_BYTES) >> 20;
        assert!(frame::count(&waiting) >= at_least as u64 - 1);
    }
}
