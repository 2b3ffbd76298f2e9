//! Brings what workers append to the kernel, and from there to the disk.
//!
//! Two threads, so that a slow sync does not hold up the write that makes events survive the
//! process.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::disk::is_full;
use super::log::Shared;
use super::stats::{Duty, add};

/// Writes happen this many times per flush interval: an event is in the kernel after a quarter.
const WRITES_PER_FLUSH: u32 = 4;
/// Attempts to write what is left at the end, [`LAST_PAUSE`] apart.
const LAST_ATTEMPTS: u32 = 10;
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// The writing thread.
pub(super) fn write(shared: &Shared) {
    shared.write_bell.answer();
    let mut reported = 0;
    while !shared.write_bell.is_stopped() {
        shared.write_bell.wait();
        shared.write_bell.pause(shared.options.flush / WRITES_PER_FLUSH);
        if drain(shared) {
            report(shared, &mut reported);
        } else {
            shared.write_bell.ring();
        }
    }
    for wal in &shared.wals {
        wal.close();
    }
    for _ in 0..LAST_ATTEMPTS {
        if drain(shared) {
            return;
        }
        std::thread::sleep(LAST_PAUSE);
    }
}

/// Writes every worker's buffer. `false` where the disk refused one.
fn drain(shared: &Shared) -> bool {
    let ticket = shared.progress.newest();
    let mut drained = true;
    for wal in &shared.wals {
        if let Err(error) = wal.drain(&shared.counters) {
            drained = false;
            shared.counters.refused(Duty::Write, &error);
            if is_full(&error) {
                shared.reclaim_wanted.store(true, Ordering::SeqCst);
            }
        }
    }
    if drained {
        shared.counters.accepted(Duty::Write);
        shared.progress.serve(|served| served.written = ticket);
    }
    shared.sync_bell.ring();
    shared.split_bell.ring();
    drained
}

/// Tells the log itself how many events it has lost since it last said so.
fn report(shared: &Shared, reported: &mut u64) {
    let dropped = shared.counters.dropped.load(Ordering::Relaxed);
    shared.report_loss(super::POP_TENANT, "events_dropped", dropped - *reported);
    *reported = dropped;
}

/// The syncing thread: one sync of each worker's file per flush interval while events come.
pub(super) fn sync(shared: &Shared) {
    shared.sync_bell.answer();
    let mut began = Instant::now();
    let mut took = Duration::ZERO;
    loop {
        shared.sync_bell.wait();
        let stopped = shared.sync_bell.is_stopped();
        // A sync counts for the interval when it ends, so it begins as much sooner as it takes.
        let every = shared.options.flush.saturating_sub(took).max(shared.options.flush / 2);
        shared.sync_bell.pause(every.saturating_sub(began.elapsed()));
        began = Instant::now();
        let ticket = shared.progress.served().written;
        if !shared.options.fsync || sync_all(shared) {
            shared.progress.serve(|served| served.synced = ticket);
        } else {
            // Whoever waits need not wait for the next event.
            shared.sync_bell.ring();
        }
        took = began.elapsed();
        if stopped {
            return;
        }
    }
}

fn sync_all(shared: &Shared) -> bool {
    let mut synced = true;
    for wal in &shared.wals {
        match wal.sync() {
            Ok(syncs) => add(&shared.counters.syncs, syncs),
            Err(error) => {
                synced = false;
                shared.counters.refused(Duty::Sync, &error);
            }
        }
    }
    if synced {
        shared.counters.accepted(Duty::Sync);
    }
    synced
}
