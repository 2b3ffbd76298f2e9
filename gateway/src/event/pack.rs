//! Compresses segments that are written to no more, beside everything else.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use parking_lot::Mutex;

use super::disk;
use super::log::Shared;
use super::segments;
use super::store::Closed;

/// About a fifth of the size at a few milliseconds a megabyte; slower levels gain little on text that
/// repeats itself so much.
const LEVEL: i32 = 3;

/// Segments to be packed, and those that are. No more than there are segments.
#[derive(Default)]
pub(super) struct PackQueue(Mutex<Packing>);

#[derive(Default)]
struct Packing {
    waiting: VecDeque<Closed>,
    /// Being packed, unless its tenant was forgotten meanwhile.
    working: Option<Closed>,
    /// With the bytes each takes now, until the splitter takes note.
    done: Vec<(Closed, u64)>,
}

impl PackQueue {
    pub(super) fn extend(&self, closed: Vec<Closed>) {
        self.0.lock().waiting.extend(closed);
    }

    /// Those that have been packed since the last call.
    pub(super) fn take_done(&self) -> Vec<(Closed, u64)> {
        std::mem::take(&mut self.0.lock().done)
    }

    /// A tenant came or went: a segment of this number is another one now.
    pub(super) fn forget(&self, tenant: &str) {
        let mut packing = self.0.lock();
        packing.waiting.retain(|(name, _)| **name != *tenant);
        packing.done.retain(|((name, _), _)| **name != *tenant);
        packing.working.take_if(|(name, _)| **name == *tenant);
    }

    /// The next to be packed.
    pub(super) fn begin(&self) -> Option<Closed> {
        let mut packing = self.0.lock();
        packing.working = packing.waiting.pop_front();
        packing.working.clone()
    }

    /// Gives the packed segment its name, unless its tenant was forgotten meanwhile. Nobody is
    /// forgotten while that happens.
    fn finish(&self, bytes: u64, name: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut packing = self.0.lock();
        let closed = packing.working.take().ok_or(io::ErrorKind::NotFound)?;
        name()?;
        packing.done.push((closed, bytes));
        Ok(())
    }
}

/// The thread.
pub(super) fn run(shared: &Shared, root: &Path) {
    shared.pack_bell.answer();
    loop {
        shared.pack_bell.wait();
        while !shared.pack_bell.is_stopped() {
            let Some(closed) = shared.pack_queue.begin() else { break };
            match pack(shared, root, &closed) {
                Ok(()) => shared.split_bell.ring(),
                // It was evicted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // It stays as it is until the next start.
                Err(error) => tracing::debug!(%error, "event log: a segment stays unpacked"),
            }
        }
        if shared.pack_bell.is_stopped() {
            return;
        }
    }
}

/// Packs one segment beside itself.
fn pack(shared: &Shared, root: &Path, closed: &Closed) -> io::Result<()> {
    let (tenant, first) = closed;
    let directory = root.join(&**tenant);
    let plain = segments::path(&directory, *first);
    let written = std::fs::metadata(&plain)?.modified()?;
    let packed = zstd::bulk::compress(&std::fs::read(&plain)?, LEVEL)?;
    let scratch = directory.join(format!("{first:020}.new"));
    let name = || shared.disk.rename(&scratch, &segments::packed_path(&directory, *first));
    let made = store(shared, &scratch, &packed, written)
        .and_then(|()| shared.pack_queue.finish(packed.len() as u64, name));
    if made.is_err() {
        // Where even this fails, the next start does it.
        shared.disk.remove(&scratch).unwrap_or_default();
    }
    made
}

/// Writes the file durably; with the time of its events, by which readers pass it over.
fn store(
    shared: &Shared,
    path: &Path,
    bytes: &[u8],
    written: std::time::SystemTime,
) -> io::Result<()> {
    let file = shared.disk.create(path)?;
    disk::write_at(&*shared.disk, &file, bytes, 0).1?;
    file.set_modified(written)?;
    if shared.options.fsync {
        shared.disk.sync(&file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn nothing_of_a_forgotten_tenant_is_packed_or_told_of() {
        let queue = PackQueue::default();
        let closed = |name: &str, first| -> Closed { (name.into(), first) };
        queue.extend(vec![closed("acme", 0), closed("acme", 7), closed("beta", 0)]);
        assert_eq!(queue.begin(), Some(closed("acme", 0)));
        queue.finish(9, || Ok(())).unwrap();
        assert_eq!(queue.begin(), Some(closed("acme", 7)));
        queue.forget("acme");
        let mut named = false;
        let finished = queue.finish(9, || {
            named = true;
            Ok(())
        });
        assert_eq!(finished.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!named, "it would take the place of another's");
        assert_eq!(queue.begin(), Some(closed("beta", 0)));
        queue.finish(5, || Ok(())).unwrap();
        assert_eq!((queue.begin(), queue.take_done()), (None, vec![(closed("beta", 0), 5)]));
    }
}
