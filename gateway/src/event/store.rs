//! The tenants' segments as the splitter writes them: numbered, rolled, held to a quota.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{self, Disk, is_full};
use super::segments::{self, Segment};

/// Descriptors kept open, however many tenants there are.
const OPEN_FILES_MAX: usize = 64;
/// A quota holds about this many segments, so that eviction takes a sixteenth of it at a time.
const SEGMENTS_PER_QUOTA: u64 = 16;
/// Bounds of a segment: small enough to scan in a millisecond, large enough not to be confetti.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 16 * 1024..=8 * 1024 * 1024;
/// Bytes read at once to count a segment's lines.
const SCAN_BYTES: usize = 256 * 1024;

/// Lines of one tenant on their way into a segment.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Whole lines, each with its newline.
    lines: Vec<u8>,
    /// Bytes of them that are in a segment already.
    done: usize,
}

impl Batch {
    pub(super) fn push(&mut self, line: &[u8]) {
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
    }

    pub(super) fn each_line(&self, each: impl FnMut(&[u8])) {
        self.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(each);
    }

    /// Bytes that are in no segment yet.
    pub(super) fn waiting(&self) -> usize {
        self.lines.len() - self.done
    }

    /// Notes that a segment has the first lines of the rest; says how many there were.
    #[cfg(test)]
    pub(super) fn take(&mut self, lines: usize) -> usize {
        let ends: Vec<_> = memchr::memchr_iter(b'\n', self.rest()).take(lines).collect();
        self.done += ends.last().map_or(0, |end| end + 1);
        ends.len()
    }

    fn rest(&self) -> &[u8] {
        self.lines.get(self.done..).unwrap_or_default()
    }
}

/// What an eviction took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Evicted {
    pub(super) tenant: Box<str>,
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// All tenants' segments.
pub(super) struct Store {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    fsync: bool,
    tenants: HashMap<Box<str>, Tenant>,
    open: HashMap<Box<str>, OpenFile>,
    /// Grows with each use of an open file; the least recent is closed first.
    uses: u64,
    /// Segments that are written to no more and not packed.
    closed: Vec<Closed>,
}

/// A segment by tenant and first number.
pub(super) type Closed = (Box<str>, u64);

struct Tenant {
    segments: VecDeque<Segment>,
    /// Sequence number of the next event; unknown until the last segment's lines are counted.
    next: Option<u64>,
}

struct OpenFile {
    file: File,
    used: u64,
}

impl Store {
    /// Lists what is there.
    pub(super) fn open(disk: Arc<dyn Disk>, root: &Path, fsync: bool) -> io::Result<Self> {
        let (tenants, open, closed) = (HashMap::new(), HashMap::new(), Vec::new());
        let mut store = Self { disk, root: root.to_owned(), fsync, tenants, open, uses: 0, closed };
        for name in segments::tenants(root)? {
            let segments = store.found(&name)?;
            store.tenants.insert(name.into(), Tenant { segments, next: None });
        }
        Ok(store)
    }

    /// The segments on the disk; those that can be packed are noted.
    fn found(&mut self, name: &str) -> io::Result<VecDeque<Segment>> {
        let directory = self.root.join(name);
        let segments: VecDeque<Segment> = segments::list(&directory)?.into();
        for segment in segments.iter().rev().skip(1) {
            if segment.packed {
                // A crash between the two steps of packing left both.
                forget(&*self.disk, &segments::path(&directory, segment.first))?;
            } else {
                self.closed.push((name.into(), segment.first));
            }
        }
        Ok(segments)
    }

    /// Segments that can be packed; each is told once.
    pub(super) fn take_closed(&mut self) -> Vec<Closed> {
        std::mem::take(&mut self.closed)
    }

    /// A closed segment has been packed into this many bytes: the plain file goes. Where the segment
    /// was evicted meanwhile, the packed one does; so it does where it has the number of the one
    /// that is written to, which nobody may have packed.
    pub(super) fn packed(&mut self, closed: &Closed, bytes: u64) -> io::Result<()> {
        let (name, first) = closed;
        let directory = self.root.join(&**name);
        let segments = self.tenants.get_mut(name).map(|tenant| &mut tenant.segments);
        let kept =
            segments.and_then(|all| all.iter_mut().rev().skip(1).find(|one| one.first == *first));
        let gone = match kept {
            Some(segment) => {
                (segment.packed, segment.bytes) = (true, bytes);
                segments::path(&directory, *first)
            }
            None => segments::packed_path(&directory, *first),
        };
        forget(&*self.disk, &gone)
    }

    /// Forgets what is known of a tenant's files, and finds what is there.
    pub(super) fn look_again(&mut self, name: &str) -> io::Result<()> {
        self.open.remove(name);
        self.closed.retain(|(tenant, _)| **tenant != *name);
        let segments = self.found(name)?;
        if segments.is_empty() {
            self.tenants.remove(name);
        } else {
            self.tenants.insert(name.into(), Tenant { segments, next: None });
        }
        Ok(())
    }

    /// Number of the tenant's next event, once it was written to.
    pub(super) fn next(&self, name: &str) -> Option<u64> {
        self.tenants.get(name)?.next
    }

    pub(super) fn tenant_count(&self) -> usize {
        self.tenants.len()
    }

    /// Appends the batch and notes in it what was appended, so that a call that failed half-way can
    /// be repeated.
    pub(super) fn append(&mut self, name: &str, batch: &mut Batch, quota: u64) -> io::Result<()> {
        let segment_bytes_max =
            (quota / SEGMENTS_PER_QUOTA).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
        self.prepare(name)?;
        while !batch.rest().is_empty() {
            let used = self.active(name).map_or(0, |segment| segment.bytes);
            let room = segment_bytes_max.saturating_sub(used);
            let take = whole_lines(batch.rest(), usize::try_from(room).unwrap_or(usize::MAX));
            if take == 0 && used > 0 {
                self.roll(name)?;
                continue;
            }
            let take = if take > 0 { take } else { first_line(batch.rest()) };
            let (done, result) = self.write(name, batch.rest().get(..take).unwrap_or_default());
            batch.done += done;
            result?;
        }
        Ok(())
    }

    /// Removes oldest whole segments of the tenant until it keeps to its quota.
    pub(super) fn enforce(&mut self, name: &str, quota: u64) -> io::Result<Vec<Evicted>> {
        let mut evicted = Vec::new();
        while let Some(tenant) = self.tenants.get(name)
            && tenant.segments.len() > 1
            && tenant.bytes() > quota
        {
            evicted.extend(self.evict_oldest(name)?);
        }
        Ok(evicted)
    }

    /// Frees disk space at the cost of the tenant that uses most of it: its oldest segment, even
    /// the one being written where it has no other. `None` where there is nothing left to free.
    pub(super) fn reclaim(&mut self) -> io::Result<Option<Evicted>> {
        let largest = self
            .tenants
            .iter()
            .max_by_key(|(_, tenant)| tenant.bytes())
            .filter(|(_, tenant)| tenant.bytes() > 0)
            .map(|(name, tenant)| (name.clone(), tenant.segments.len()));
        let Some((name, segments)) = largest else { return Ok(None) };
        if segments < 2 {
            self.prepare(&name)?;
            match self.roll(&name) {
                // Not even the name of another file fits.
                Err(error) if is_full(&error) => return self.empty(&name),
                rolled => rolled?,
            }
        }
        self.evict_oldest(&name)
    }

    /// Turns the tenant's only segment into the empty one that follows it. Emptied before it gets
    /// its new name: a crash in between repeats numbers, which cursors notice, and not events.
    fn empty(&mut self, name: &str) -> io::Result<Option<Evicted>> {
        let directory = self.root.join(name);
        let Some(tenant) = self.tenants.get_mut(name) else { return Ok(None) };
        let (Some(next), Some(only)) = (tenant.next, tenant.segments.back_mut()) else {
            return Ok(None);
        };
        let evicted = Evicted { tenant: name.into(), events: next - only.first, bytes: only.bytes };
        let path = segments::path(&directory, only.first);
        let file = File::options().write(true).open(&path)?;
        self.disk.set_len(&file, 0)?;
        self.disk.rename(&path, &segments::path(&directory, next))?;
        *only = Segment { first: next, bytes: 0, packed: false };
        self.open.remove(name);
        Ok(Some(evicted))
    }

    /// Makes everything written so far durable, in one call for all tenants.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.fsync {
            self.disk.sync_all(&self.root)?;
        }
        Ok(())
    }

    fn active(&self, name: &str) -> Option<Segment> {
        self.tenants.get(name)?.segments.back().copied()
    }

    /// Makes the tenant ready for writing: a directory, a segment, and a known next number.
    fn prepare(&mut self, name: &str) -> io::Result<()> {
        if self.tenants.get(name).is_some_and(|tenant| tenant.next.is_some()) {
            // Where the disk refused the first segment, it is asked again.
            return if self.active(name).is_none() { self.roll(name) } else { Ok(()) };
        }
        let directory = self.root.join(name);
        std::fs::create_dir_all(&directory)?;
        let mut segments: VecDeque<Segment> = segments::list(&directory)?.into();
        let next = match segments.back_mut() {
            Some(last) if last.packed => {
                // Somebody took the file that was being written to.
                let text = segments::open(&directory, last.first, 0)?;
                last.first + text.split(b'\n').count() as u64
            }
            Some(last) => {
                let (lines, bytes) = repair(&segments::path(&directory, last.first))?;
                last.bytes = bytes;
                last.first + lines
            }
            None => 0,
        };
        self.tenants.insert(name.into(), Tenant { segments, next: Some(next) });
        if self.active(name).is_none_or(|active| active.packed) { self.roll(name) } else { Ok(()) }
    }

    /// Begins a new segment. The old one is synced, so that a power cut can only touch the last
    /// segment of a tenant; cursors rely on it.
    fn roll(&mut self, name: &str) -> io::Result<()> {
        let directory = self.root.join(name);
        let last = self.active(name).filter(|last| !last.packed);
        if let Some(last) = last
            && self.fsync
        {
            self.disk.sync(&File::open(segments::path(&directory, last.first))?)?;
        }
        self.open.remove(name);
        let Some(tenant) = self.tenants.get_mut(name) else { return Ok(()) };
        let first = tenant.next.unwrap_or(0);
        let path = segments::path(&directory, first);
        self.disk.create(&path)?;
        self.closed.extend(last.map(|last| (name.into(), last.first)));
        tenant.segments.push_back(Segment { first, bytes: 0, packed: false });
        Ok(())
    }

    /// Appends what the disk takes of `lines`, cut after the last whole one. Says how much.
    fn write(&mut self, name: &str, lines: &[u8]) -> (usize, io::Result<()>) {
        let Some(active) = self.active(name) else {
            return (0, Err(io::ErrorKind::NotFound.into()));
        };
        let disk = Arc::clone(&self.disk);
        let file = match self.file(name, active.first) {
            Ok(file) => file,
            Err(error) => return (0, Err(error)),
        };
        let (count, result) = disk::write_at(&*disk, file, lines, active.bytes);
        let whole = if result.is_ok() { count } else { whole_lines(lines, count) };
        if result.is_err() {
            // Where this fails too, the next write begins at the same place all the same.
            disk.set_len(file, active.bytes + whole as u64).unwrap_or_default();
        }
        if let Some(tenant) = self.tenants.get_mut(name)
            && let Some(active) = tenant.segments.back_mut()
        {
            active.bytes += whole as u64;
            let done = lines.get(..whole).unwrap_or_default();
            let count = memchr::memchr_iter(b'\n', done).count() as u64;
            tenant.next = tenant.next.map(|next| next + count);
        }
        (whole, result)
    }

    /// The tenant's active segment, open; the least recently used one makes room.
    fn file(&mut self, name: &str, first: u64) -> io::Result<&File> {
        self.uses += 1;
        if !self.open.contains_key(name) && self.open.len() >= OPEN_FILES_MAX {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.open.remove(&oldest);
            }
        }
        let used = self.uses;
        match self.open.entry(name.into()) {
            std::collections::hash_map::Entry::Occupied(entry) => {
                let open = entry.into_mut();
                open.used = used;
                Ok(&open.file)
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                let path = segments::path(&self.root.join(name), first);
                let file = File::options().write(true).open(path)?;
                Ok(&entry.insert(OpenFile { file, used }).file)
            }
        }
    }

    fn evict_oldest(&mut self, name: &str) -> io::Result<Option<Evicted>> {
        let Some(tenant) = self.tenants.get_mut(name) else { return Ok(None) };
        let (Some(oldest), Some(second)) = (tenant.segments.front(), tenant.segments.get(1)) else {
            return Ok(None);
        };
        let events = second.first - oldest.first;
        let evicted = Evicted { tenant: name.into(), events, bytes: oldest.bytes };
        match self.disk.remove(&oldest.path(&self.root.join(name))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // Removed by somebody else is removed.
            Ok(()) | Err(_) => tenant.segments.pop_front(),
        };
        Ok(Some(evicted))
    }
}

impl Tenant {
    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

/// Removes a file that may be gone already.
fn forget(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Cuts a line that was being written when the process died; counts those that are whole.
fn repair(path: &Path) -> io::Result<(u64, u64)> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut buffer = vec![0; SCAN_BYTES];
    let (mut lines, mut offset, mut whole) = (0, 0, 0);
    loop {
        let count = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
        for newline in memchr::memchr_iter(b'\n', read) {
            lines += 1;
            whole = offset + newline as u64 + 1;
        }
        offset += count as u64;
    }
    if whole < offset {
        file.set_len(whole)?;
    }
    Ok((lines, whole))
}

/// Bytes of the whole lines that fit in `room`.
fn whole_lines(lines: &[u8], room: usize) -> usize {
    let fitting = lines.get(..room.min(lines.len())).unwrap_or_default();
    memchr::memrchr(b'\n', fitting).map_or(0, |newline| newline + 1)
}

fn first_line(lines: &[u8]) -> usize {
    memchr::memchr(b'\n', lines).map_or(lines.len(), |newline| newline + 1)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::event::disk::RealDisk;

    #[test]
    fn the_segment_that_is_written_to_is_not_taken_for_one_that_was_packed() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(Arc::new(RealDisk), folder.path(), false).unwrap();
        let mut batch = Batch::default();
        batch.push(b"one");
        store.append("acme", &mut batch, 1 << 20).unwrap();
        let directory = folder.path().join("acme");
        // Of an earlier tenant of this name.
        std::fs::write(segments::packed_path(&directory, 0), b"another's").unwrap();
        store.packed(&("acme".into(), 0), 9).unwrap();
        assert!(!segments::packed_path(&directory, 0).exists());
        assert_eq!(std::fs::read(segments::path(&directory, 0)).unwrap(), b"one\n");
    }
}
