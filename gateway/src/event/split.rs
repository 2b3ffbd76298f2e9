//! Moves what is written in the write-ahead logs into the tenants' segments.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::disk::is_full;
use super::log::Shared;
use super::park::Parked;
use super::recover::{Checkpoint, Replay};
use super::scan::{self, Chunk};
use super::stats::{Duty, add, take};
use super::store::{Batch, Evicted, Store};
use super::wal::{FileId, Wal, Written};

/// Between two rounds: short enough that an event can be read well within a second.
const ROUND: Duration = Duration::from_millis(100);
/// Between two checkpoints while events come; bounds what a restart reads again.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// On a full disk, a round that gave back less than this takes a segment: what the log itself
/// frees may be next to nothing.
const FREED_BYTES_ENOUGH: u64 = 64 * 1024;

/// The state of the splitting thread.
pub(super) struct Splitter {
    store: Store,
    /// Up to where each worker's log is split.
    split: Vec<Written>,
    /// Lines taken from the log that are in no segment yet.
    parked: Parked,
    /// The disk did not take some of them.
    stuck: bool,
    chunk: Chunk,
    checkpointed: Instant,
    /// Something was split since.
    moved: bool,
    /// Something was split in this round.
    grown: bool,
}

impl Splitter {
    pub(super) fn new(store: Store, split: Vec<Written>) -> Self {
        Self {
            store,
            split,
            parked: Parked::default(),
            stuck: false,
            chunk: Chunk::default(),
            checkpointed: Instant::now(),
            moved: false,
            grown: false,
        }
    }

    /// The thread.
    pub(super) fn run(mut self, shared: &Shared) {
        shared.split_bell.answer();
        loop {
            shared.split_bell.wait();
            let stopped = shared.split_bell.is_stopped();
            let full = shared.reclaim_wanted.swap(false, Ordering::SeqCst);
            if full {
                self.rotate(shared);
            } else if let Err(error) = shared.wals.iter().try_for_each(Wal::rotate_full) {
                shared.counters.refused(Duty::Split, &error);
            }
            let ticket = shared.progress.served().written;
            let checkpoint =
                stopped || full || self.moved && self.checkpointed.elapsed() >= CHECKPOINT_EVERY;
            let done = self.round(shared, checkpoint || shared.progress.is_split_wanted());
            if std::mem::take(&mut self.grown) {
                shared.grown.send_modify(|rounds| *rounds += 1);
            }
            self.report(shared, ticket, done);
            if self.moved && checkpoint {
                let freed = self.checkpoint(shared);
                if full && freed < FREED_BYTES_ENOUGH {
                    self.make_room(shared);
                }
            }
            if stopped {
                return;
            }
            shared.split_bell.pause(ROUND);
        }
    }

    /// Says how far a round came. What it left waiting needs another one, whoever rings.
    fn report(&mut self, shared: &Shared, ticket: u64, done: io::Result<()>) {
        self.stuck = done.is_err();
        match done {
            Ok(()) => {
                shared.counters.accepted(Duty::Split);
                if self.parked.is_empty() {
                    shared.progress.serve(|served| served.split = ticket);
                } else {
                    shared.split_bell.ring();
                }
            }
            Err(error) => {
                shared.counters.refused(Duty::Split, &error);
                shared.split_bell.ring();
            }
        }
    }

    /// Takes all that is written by now, and writes it to the segments: where it is due, or `at_once`.
    fn round(&mut self, shared: &Shared, at_once: bool) -> io::Result<()> {
        for tenant in std::mem::take(&mut *shared.changed.lock()) {
            shared.heads.remove(&tenant);
            shared.pack_queue.forget(&tenant);
            self.store.look_again(&tenant)?;
        }
        for (closed, bytes) in shared.pack_queue.take_done() {
            self.store.packed(&closed, bytes)?;
        }
        if self.stuck {
            self.settle(shared)?;
        }
        for worker in 0..self.split.len() {
            while let Some((from, end)) = self.next_stretch(shared, worker)? {
                let parked = &mut self.parked;
                let (mut lines, before) = (0, parked.bytes());
                let path = from.file.path(&shared.wal_directory);
                let chunk = self.chunk.read(&path, from.bytes, end)?;
                let last = from.bytes + chunk.len() as u64 == end;
                let scanned = scan::scan(chunk, last, |tenant, line| {
                    parked.push(tenant, line);
                    lines += 1;
                });
                add(&shared.counters.split, lines);
                add(&shared.counters.damaged, scanned.damaged + u64::from(scanned.torn));
                if let Some(split) = self.split.get_mut(worker) {
                    split.bytes += scanned.bytes as u64;
                }
                // The lines themselves still want their place in segments.
                let rest = scanned.bytes.saturating_sub(self.parked.bytes() - before);
                take(&shared.counters.unsplit_bytes, rest as u64);
                self.moved = true;
                self.parked.begin(Instant::now());
                if self.parked.is_enough() {
                    self.settle(shared)?;
                }
            }
        }
        if at_once || self.parked.is_due(Instant::now()) {
            self.settle(shared)?;
        }
        let closed = self.store.take_closed();
        if !closed.is_empty() && shared.options.compress {
            shared.pack_queue.extend(closed);
            shared.pack_bell.ring();
        }
        Ok(())
    }

    /// Where a worker's log goes on, and where that file ends for now. Goes on to the next file at
    /// the end of one.
    fn next_stretch(
        &mut self,
        shared: &Shared,
        worker: usize,
    ) -> io::Result<Option<(Written, u64)>> {
        let Some((split, wal)) = self.split.get_mut(worker).zip(shared.wals.get(worker)) else {
            return Ok(None);
        };
        let written = wal.written();
        loop {
            let end = if split.file == written.file {
                written.bytes
            } else {
                std::fs::metadata(split.file.path(&shared.wal_directory))?.len()
            };
            if split.bytes < end {
                return Ok(Some((*split, end)));
            }
            if split.file == written.file {
                return Ok(None);
            }
            let next = FileId { index: split.file.index + 1, ..split.file };
            *split = Written { file: next, bytes: 0 };
        }
    }

    /// Brings the parked lines into their segments, and each tenant back to its quota.
    fn settle(&mut self, shared: &Shared) -> io::Result<()> {
        let mut parked = std::mem::take(&mut self.parked);
        let (bytes, result) = parked.settle(|tenant, batch| self.append(shared, tenant, batch));
        self.parked = parked;
        self.grown |= bytes > 0;
        take(&shared.counters.unsplit_bytes, bytes as u64);
        result
    }

    /// Appends one tenant's lines, making room where the disk is full.
    fn append(&mut self, shared: &Shared, tenant: &str, batch: &mut Batch) -> io::Result<()> {
        let quota = shared.quota(tenant, self.store.tenant_count());
        while let Err(error) = self.store.append(tenant, batch, quota) {
            if !is_full(&error) || !self.reclaim(shared)? {
                return Err(error);
            }
        }
        if let Some(next) = self.store.next(tenant) {
            shared.heads.insert(tenant.into(), next);
        }
        let evicted = self.store.enforce(tenant, quota)?;
        for taken in &evicted {
            add(&shared.counters.evicted_segments, 1);
            add(&shared.counters.evicted, taken.events);
            add(&shared.counters.evicted_bytes, taken.bytes);
        }
        let events = evicted.iter().map(|taken| taken.events).sum();
        shared.report_loss(tenant, "events_evicted", events);
        Ok(())
    }

    /// Removes one segment for want of disk space. `false` where there is none.
    fn reclaim(&mut self, shared: &Shared) -> io::Result<bool> {
        let Some(Evicted { tenant, events, bytes }) = self.store.reclaim()? else {
            return Ok(false);
        };
        add(&shared.counters.reclaimed_segments, 1);
        add(&shared.counters.evicted, events);
        add(&shared.counters.evicted_bytes, bytes);
        shared.report_loss(&tenant, "events_evicted", events);
        Ok(true)
    }

    /// The log itself found the disk full: what it holds by now becomes a file that can go once it
    /// is split.
    fn rotate(&mut self, shared: &Shared) {
        if let Err(error) = shared.wals.iter().try_for_each(Wal::rotate) {
            shared.counters.refused(Duty::Split, &error);
        }
        self.moved = true;
    }

    /// The oldest events go, so that new ones can be kept.
    fn make_room(&mut self, shared: &Shared) {
        if let Err(error) = self.reclaim(shared) {
            shared.counters.refused(Duty::Split, &error);
        }
    }

    /// Makes durable what is split, then forgets the log files it came from. Says how many bytes
    /// of them.
    fn checkpoint(&mut self, shared: &Shared) -> u64 {
        self.checkpointed = Instant::now();
        if !self.parked.is_empty() {
            return 0;
        }
        let mut freed = 0;
        match self.store.sync().and_then(|()| self.forget(shared, &mut freed)) {
            Ok(()) => self.moved = false,
            Err(error) => shared.counters.refused(Duty::Split, &error),
        }
        freed
    }

    fn forget(&self, shared: &Shared, freed: &mut u64) -> io::Result<()> {
        for file in super::wal::list(&shared.wal_directory)? {
            let split = self.split.iter().find(|split| split.file.worker == file.worker);
            if split.is_some_and(|split| file.index < split.file.index) {
                let path = file.path(&shared.wal_directory);
                let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
                shared.disk.remove(&path)?;
                *freed += bytes;
            }
        }
        let split = self.split.iter().map(|split| (split.file, split.bytes)).collect();
        Checkpoint(split).store(&*shared.disk, &shared.wal_directory, shared.options.fsync)
    }
}

/// Splits what an earlier run left, before this one begins.
pub(super) fn recover(shared: &Shared, store: Store, root: &Path) -> io::Result<Store> {
    let mut splitter = Splitter::new(store, Vec::new());
    let mut replay = Replay::prepare(root, &shared.wal_directory)?;
    for file in replay.files() {
        let scanned = replay.read(file, |batches| {
            for (tenant, mut batch) in batches {
                splitter.append(shared, &tenant, &mut batch)?;
            }
            Ok(())
        })?;
        add(&shared.counters.damaged, scanned.damaged);
        add(&shared.counters.torn_tails, u64::from(scanned.torn));
    }
    add(&shared.counters.already_split, replay.already_split);
    splitter.store.sync()?;
    for file in replay.files() {
        shared.disk.remove(&file.path(&shared.wal_directory))?;
    }
    Ok(splitter.store)
}
