//! The event log of one gateway: its directory, its threads, its writers and readers.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::POP_TENANT;
use super::consume::Consumers;
use super::counted::CountedDisk;
use super::disk::{Disk, RealDisk};
use super::enrich::Enrichment;
use super::pack::PackQueue;
use super::progress::{Bell, Progress, Served};
use super::read::Reader;
use super::record::{Record, RecordType};
use super::redact::Redaction;
use super::segments;
use super::sink::{Heads, SinkStats, Sinks};
use super::split::{self, Splitter};
use super::stats::{Counters, Stats};
use super::store::Store;
use super::wal::{self, FileId, Wal};
use super::{flush, pack, serialize};
use crate::config::{Sink, WhenFull};
use crate::ident::Blame;
use crate::snapshot::Places;

/// Where the write-ahead logs lie, beside the tenants' directories. No tenant has this name.
pub(super) const WAL_DIRECTORY: &str = "_wal";
/// Held by the process that writes.
pub(super) const LOCK: &str = "lock";
/// A file of the write-ahead log is this part of everything the log may use, within
/// [`WAL_FILE_BYTES`].
const WAL_FILE_SHARE: u64 = 64;
/// Small enough to be gone soon after it is split, large enough that files change rarely.
const WAL_FILE_BYTES: std::ops::RangeInclusive<u64> = 256 * 1024..=64 * 1024 * 1024;
/// Workers a log can have: what the names of its files can number.
const WORKERS_MAX: usize = 1024;

/// Of a disk smaller than what the log may use, it uses this much: the rest is for the log that
/// is not split yet, and for blocks that are not full.
const DISK_PERCENT_MAX: u64 = 75;

/// How long the lock is waited for: half a second.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The point of presence, written into each record.
    pub pop: Arc<str>,
    /// No event older than this is lost.
    pub flush: Duration,
    /// Bytes of all tenants' segments together.
    pub max_bytes: u64,
    /// Threads that append; each has its own log.
    pub workers: usize,
    /// Whether the promise holds for a power cut too, and not only for the process.
    pub fsync: bool,
    /// Whether segments that are written to no more are compressed.
    pub compress: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pop: "".into(),
            flush: Duration::from_millis(100),
            max_bytes: 10 * 1024 * 1024 * 1024,
            workers: 1,
            fsync: true,
            compress: true,
        }
    }
}

/// What one tenant wants of the log.
#[derive(Clone, Debug, Default)]
pub struct TenantSettings {
    /// Bytes kept; without it, an equal share of [`Options::max_bytes`].
    pub quota_bytes: Option<u64>,
    pub redaction: Redaction,
}

/// The log. Closes when dropped.
pub struct EventLog {
    pub(super) shared: Arc<Shared>,
    root: PathBuf,
    consumers: Consumers,
    sinks: Sinks,
    threads: Mutex<Threads>,
    /// Released when the log is gone.
    _lock: File,
}

/// What writers, threads and the log itself share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) wal_directory: PathBuf,
    pub(super) wals: Vec<Wal>,
    pub(super) counters: Arc<Counters>,
    pub(super) progress: Progress,
    pub(super) write_bell: Bell,
    pub(super) sync_bell: Bell,
    pub(super) split_bell: Bell,
    pub(super) pack_bell: Bell,
    pub(super) pack_queue: PackQueue,
    /// The disk is full and the write-ahead log needs some of it.
    pub(super) reclaim_wanted: AtomicBool,
    /// [`WhenFull::RefuseTraffic`] is in force.
    refuses: AtomicBool,
    tenants: DashMap<Box<str>, TenantSettings>,
    /// Tenants that came or went: what the splitter knows of their files may be an earlier one's.
    pub(super) changed: Mutex<Vec<Box<str>>>,
    /// For what the gateway says of itself.
    standard: Redaction,
    /// For tenants that are not set, yet or any more: what they want left out is not known.
    strictest: Redaction,
    enrichment: Enrichment,
    /// Counts the rounds in which the splitter moved something.
    pub(super) grown: watch::Sender<u64>,
    /// Told by the splitter.
    pub(super) heads: Arc<Heads>,
}

#[derive(Default)]
struct Threads {
    write: Option<JoinHandle<()>>,
    sync: Option<JoinHandle<()>>,
    split: Option<JoinHandle<()>>,
    pack: Option<JoinHandle<()>>,
}

impl EventLog {
    /// Opens the log in `directory`, makes it where it is not, and splits what a crash left.
    /// Blocks while it reads.
    ///
    /// # Errors
    /// Where the directory cannot be written, or another process writes there.
    pub fn open(directory: &Path, options: Options) -> io::Result<Self> {
        Self::open_on(Arc::new(RealDisk), directory, options)
    }

    /// The same on a disk of one's own.
    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        directory: &Path,
        mut options: Options,
    ) -> io::Result<Self> {
        let wal_directory = directory.join(WAL_DIRECTORY);
        std::fs::create_dir_all(&wal_directory)?;
        let lock = lock(&wal_directory)?;
        if let Ok(space) = disk.space(directory) {
            let most = space.total / 100 * DISK_PERCENT_MAX;
            if most < options.max_bytes {
                tracing::info!(bytes = most, "event log: the disk holds less than configured");
                options.max_bytes = most;
            }
        }
        let fsync = options.fsync;
        let mut shared = Shared::new(options, disk, wal_directory);
        let store = Store::open(Arc::clone(&shared.disk), directory, fsync)?;
        let next = wal::list(&shared.wal_directory)?.iter().map(|file| file.index + 1).max();
        let store = split::recover(&shared, store, directory)?;
        shared.create_wals(next.unwrap_or(0))?;
        let written = shared.wals.iter().map(Wal::written).collect();
        let splitter = Splitter::new(store, written);
        let shared = Arc::new(shared);
        let sinks = Sinks::new(directory.to_owned(), Arc::clone(&shared.heads));
        let log = Self {
            shared,
            root: directory.to_owned(),
            consumers: Consumers::new(directory),
            sinks,
            threads: Mutex::default(),
            _lock: lock,
        };
        log.start(splitter)?;
        Ok(log)
    }

    fn start(&self, splitter: Splitter) -> io::Result<()> {
        let mut threads = self.threads.lock();
        let spawn = |name: &str, work: Box<dyn FnOnce(&Shared) + Send>| {
            let shared = Arc::clone(&self.shared);
            std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared))
        };
        threads.write = Some(spawn("events-write", Box::new(flush::write))?);
        threads.sync = Some(spawn("events-sync", Box::new(flush::sync))?);
        threads.split = Some(spawn("events-split", Box::new(|shared| splitter.run(shared)))?);
        if self.shared.options.compress {
            let root = self.root.clone();
            threads.pack = Some(spawn("events-pack", Box::new(move |it| pack::run(it, &root)))?);
        }
        Ok(())
    }

    /// The writer of one worker. Any number is taken, modulo the workers there are.
    #[must_use]
    pub fn writer(&self, worker: usize) -> Writer {
        Writer { shared: Arc::clone(&self.shared), worker: worker % self.shared.wals.len().max(1) }
    }

    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::open(&self.root)
    }

    /// Consumers whose place is kept here.
    #[must_use]
    pub fn consumers(&self) -> &Consumers {
        &self.consumers
    }

    /// Puts these sinks into force.
    pub fn set_sinks(&self, sinks: &[Sink]) {
        self.sinks.set(sinks, &self.changes());
    }

    /// What gives way from now on where events cannot be kept.
    pub fn set_when_full(&self, when_full: WhenFull) {
        self.shared.refuses.store(when_full == WhenFull::RefuseTraffic, Ordering::Relaxed);
    }

    /// Events from now on say country and network by these.
    pub fn set_places(&self, places: Arc<Places>) {
        self.shared.enrichment.set_places(places);
    }

    /// What each sink has done, by name.
    #[must_use]
    pub fn sink_stats(&self) -> Vec<(String, SinkStats)> {
        self.sinks.stats()
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.snapshot()
    }

    /// Changes whenever there may be more to read: follow by reading, then waiting.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.shared.grown.subscribe())
    }

    /// Sets what a tenant wants; applies from the next event on. Before, and once it is forgotten,
    /// its events name no user, no address of a client and no path.
    pub fn set_tenant(&self, tenant: &str, settings: TenantSettings) {
        if self.shared.tenants.insert(tenant.into(), settings).is_none() {
            self.shared.changed.lock().push(tenant.into());
        }
    }

    /// Forgets what a tenant wanted. Its events stay until its share pushes them out, or until
    /// somebody takes its directory away.
    pub fn forget_tenant(&self, tenant: &str) {
        self.shared.tenants.remove(tenant);
        if let Err(error) = self.consumers.forget(tenant) {
            tracing::warn!(%error, "event log: the places of a tenant's collectors stay");
        }
        self.shared.changed.lock().push(tenant.into());
    }

    /// Waits until everything appended so far is durable, or the log has closed.
    pub async fn flush(&self) {
        let ticket = self.shared.progress.draw();
        self.wait(ticket, |served, ticket| served.written >= ticket && served.synced >= ticket)
            .await;
    }

    /// Waits until everything appended so far is durable and readable, or the log has closed.
    pub async fn settle(&self) {
        let ticket = self.shared.progress.draw();
        self.shared.progress.want_split(ticket);
        self.wait(ticket, |served, ticket| served.synced >= ticket && served.split >= ticket).await;
    }

    async fn wait(&self, ticket: u64, done: impl Fn(Served, u64) -> bool) {
        let mut watch = self.shared.progress.watch();
        self.shared.write_bell.ring();
        // Fails only where the sender is gone, and the log itself holds it.
        let _gone = watch.wait_for(|served| done(*served, ticket)).await.is_err();
    }

    /// Writes, syncs and splits what is left, lets the sinks send it, and ends. Blocks. What is appended afterwards is
    /// counted as dropped.
    pub fn close(&self) {
        let mut threads = self.threads.lock();
        self.shared.write_bell.stop();
        join(&mut threads.write);
        self.shared.sync_bell.stop();
        join(&mut threads.sync);
        self.shared.split_bell.stop();
        join(&mut threads.split);
        self.shared.pack_bell.stop();
        join(&mut threads.pack);
        // Nobody waits for what cannot come any more.
        self.shared.progress.serve(|served| *served = Served::ALL);
        self.sinks.close();
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn new(options: Options, disk: Arc<dyn Disk>, wal_directory: PathBuf) -> Self {
        let counters = Arc::<Counters>::default();
        Self {
            options,
            disk: Arc::new(CountedDisk::new(disk, Arc::clone(&counters))),
            wal_directory,
            wals: Vec::new(),
            counters,
            progress: Progress::new(),
            write_bell: Bell::default(),
            sync_bell: Bell::default(),
            split_bell: Bell::default(),
            pack_bell: Bell::default(),
            pack_queue: PackQueue::default(),
            reclaim_wanted: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            tenants: DashMap::new(),
            changed: Mutex::default(),
            standard: Redaction::default(),
            strictest: Redaction::strictest(),
            enrichment: Enrichment::default(),
            grown: watch::Sender::new(0),
            heads: Arc::default(),
        }
    }

    fn create_wals(&mut self, index: u64) -> io::Result<()> {
        let bytes_max = (self.options.max_bytes / WAL_FILE_SHARE)
            .clamp(*WAL_FILE_BYTES.start(), *WAL_FILE_BYTES.end());
        for worker in (0..).take(self.options.workers.clamp(1, WORKERS_MAX)) {
            let file = FileId { worker, index };
            let disk = Arc::clone(&self.disk);
            let (directory, fsync) = (&self.wal_directory, self.options.fsync);
            self.wals.push(Wal::create(disk, directory, file, bytes_max, fsync)?);
        }
        Ok(())
    }

    /// Serialises a record into a worker's log.
    fn append(&self, worker: usize, tenant: &str, record: &Record) {
        let tenant = if segments::is_directory_name(tenant) { tenant } else { POP_TENANT };
        let Some(wal) = self.wals.get(worker) else { return };
        let settings = self.tenants.get(tenant);
        let unset = if tenant == POP_TENANT { &self.standard } else { &self.strictest };
        let redaction = settings.as_ref().map_or(unset, |settings| &settings.redaction);
        wal.append(tenant, &self.counters, self.when_full(), |out| {
            let (pop, enrichment) = (&*self.options.pop, &self.enrichment);
            let setting = serialize::Setting { pop, tenant, redaction, enrichment };
            serialize::write(out, record, &setting);
        });
        self.write_bell.ring();
    }

    fn when_full(&self) -> WhenFull {
        if self.refuses.load(Ordering::Relaxed) {
            WhenFull::RefuseTraffic
        } else {
            WhenFull::DropOldest
        }
    }

    /// Bytes the tenant may keep: its own setting, or an equal share. A share depends on how many
    /// tenants there are and never on how much another one writes.
    pub(super) fn quota(&self, tenant: &str, known: usize) -> u64 {
        let own = self.tenants.get(tenant).and_then(|settings| settings.quota_bytes);
        own.unwrap_or_else(|| self.options.max_bytes / known.max(self.tenants.len()).max(1) as u64)
    }

    /// Records in the tenant's own log that `events` of it are gone.
    pub(super) fn report_loss(&self, tenant: &str, error: &'static str, events: u64) {
        if events == 0 {
            return;
        }
        tracing::warn!(error, events, "events lost");
        let mut record = Record::now(RecordType::Alert);
        record.app.object_type = Some("events".into());
        record.app.object = Some(events.to_string().into());
        record.end.error = Some(error);
        record.end.error_side = Some(Blame::Gateway);
        self.append(0, tenant, &record);
    }
}

/// One worker's way into the log.
#[derive(Clone)]
pub struct Writer {
    shared: Arc<Shared>,
    worker: usize,
}

impl Writer {
    /// Whether nothing new should begin, since it could not be recorded. Only ever so where that is
    /// configured.
    #[must_use]
    pub fn refuses_traffic(&self) -> bool {
        self.shared.when_full() == WhenFull::RefuseTraffic
            && self.shared.counters.is_degraded()
            && self.shared.wals.get(self.worker).is_some_and(Wal::is_filling)
    }

    /// Appends a record, redacted and bounded, without waiting for the disk. Where the disk has
    /// not kept up and the buffer is full, records are lost and counted. A tenant that can be
    /// none goes to [`POP_TENANT`].
    pub fn append(&self, tenant: &str, record: &Record) {
        self.shared.append(self.worker, tenant, record);
    }
}

/// Tells when there may be more to read.
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<u64>);

impl Changes {
    /// Waits for a change since the last call. Never returns once the log is gone.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Takes the lock, waiting a moment for one who ends, or who only looks.
fn lock(directory: &Path) -> io::Result<File> {
    let path = directory.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("another process writes events in `{}`", directory.display()),
    ))
}

fn join(thread: &mut Option<JoinHandle<()>>) {
    if let Some(thread) = thread.take()
        && thread.join().is_err()
    {
        tracing::error!("event log: a thread panicked");
    }
}
