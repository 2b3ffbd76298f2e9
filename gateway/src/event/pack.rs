//! Compresses segments that are written to no more, beside everything else.

use std::io;
use std::path::Path;

use super::disk;
use super::log::Shared;
use super::segments;
use super::store::Closed;

/// About a fifth of the size at a few milliseconds a megabyte; slower levels gain little on text that
/// repeats itself so much.
const LEVEL: i32 = 3;

/// The thread.
pub(super) fn run(shared: &Shared, root: &Path) {
    shared.pack_bell.answer();
    loop {
        shared.pack_bell.wait();
        while !shared.pack_bell.is_stopped() {
            let Some(closed) = shared.pack_queue.lock().pop_front() else { break };
            match pack(shared, root, &closed) {
                Ok(bytes) => {
                    shared.packed.lock().push((closed, bytes));
                    shared.split_bell.ring();
                }
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

/// Packs one segment beside itself. Says how many bytes it takes.
fn pack(shared: &Shared, root: &Path, closed: &Closed) -> io::Result<u64> {
    let (tenant, first) = closed;
    let directory = root.join(&**tenant);
    let plain = segments::path(&directory, *first);
    let written = std::fs::metadata(&plain)?.modified()?;
    let packed = zstd::bulk::compress(&std::fs::read(&plain)?, LEVEL)?;
    let scratch = directory.join(format!("{first:020}.new"));
    let made = store(shared, &scratch, &packed, written)
        .and_then(|()| shared.disk.rename(&scratch, &segments::packed_path(&directory, *first)));
    if made.is_err() {
        // Where even this fails, the next start does it.
        shared.disk.remove(&scratch).unwrap_or_default();
    }
    made.map(|()| packed.len() as u64)
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
