//! Tenants are strangers in the log too.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{append, numbered, numbers, open, options};
use crate::event::disk::Disk;
use crate::event::segments;
use crate::event::{EventLog, Options, Redaction, TenantSettings};

#[test]
fn a_noisy_tenant_pushes_out_only_its_own_events() {
    let directory = tempfile::tempdir().unwrap();
    let log =
        EventLog::open(directory.path(), Options { max_bytes: 1 << 20, ..options() }).unwrap();
    append(&log, "quiet", 0..100);
    append(&log, "noisy", 0..20_000);
    log.close();
    assert_eq!(numbers(directory.path(), "quiet"), (0..100).collect::<Vec<_>>());
    let noisy = numbers(directory.path(), "noisy");
    assert_eq!(noisy.last(), Some(&19_999), "the oldest go first");
    let stats = log.stats();
    let kept = |tenant| super::walk(&log.reader(), tenant, None, 1000).len() as u64;
    assert_eq!(kept("quiet") + kept("noisy") + stats.evicted, stats.appended);
    assert!(bytes(directory.path(), "noisy") <= 1 << 19);
    assert!(bytes(directory.path(), "noisy") > 1 << 18, "a quota is used");
}

#[test]
fn an_eviction_is_told_in_the_tenants_own_log() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let settings = TenantSettings { quota_bytes: Some(256 * 1024), ..TenantSettings::default() };
    log.set_tenant("acme", settings);
    append(&log, "acme", 0..2000);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        log.settle().await;
        log.settle().await;
    });
    let told = super::walk(&log.reader(), "acme", None, 100)
        .iter()
        .filter(|event| event["error"] == "events_evicted")
        .filter_map(|event| event["object"].as_str()?.parse::<u64>().ok())
        .sum::<u64>();
    assert!(told > 0);
    assert_eq!(told, log.stats().evicted);
}

/// Counts the calls that wait for the disk.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Disk for Counted {
    fn sync(&self, _: &File) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn sync_all(&self, _: &Path) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn every_sync_is_counted_whoever_asks_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Counted::default());
    // Small segments and small files of the log: many of both are full, and packed.
    let options = Options { fsync: true, compress: true, max_bytes: 1 << 20, ..options() };
    let shared = Arc::clone(&disk) as Arc<dyn Disk>;
    let log = EventLog::open_on(shared, directory.path(), options).unwrap();
    append(&log, "acme", 0..20_000);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(log.settle());
    log.close();
    let stats = log.stats();
    assert_eq!(stats.disk_syncs, disk.0.load(Ordering::SeqCst) as u64);
    // All segments but the last were full, and synced then.
    let kept = segments::list(&directory.path().join("acme")).unwrap().len() as u64;
    let full = kept + stats.evicted_segments - 1;
    assert!(full > 20 && stats.disk_syncs - stats.syncs >= full, "{full} full, {stats:?}");
}

#[test]
fn the_log_is_synced_once_an_interval_however_many_events_come() {
    let directory = tempfile::tempdir().unwrap();
    let flush = Duration::from_millis(100);
    let options = Options { fsync: true, flush, ..options() };
    let disk = Arc::new(Counted::default());
    let begun = Instant::now();
    let log = EventLog::open_on(disk, directory.path(), options).unwrap();
    for number in 0..500 {
        append(&log, "acme", number..number + 1);
        std::thread::sleep(Duration::from_millis(2));
    }
    let syncs = u128::from(log.stats().syncs);
    // One that takes long begins sooner, but never within half an interval of the one before.
    let most = begun.elapsed().as_millis() / (flush.as_millis() / 2) + 1;
    assert!((2..=most).contains(&syncs), "{syncs} syncs, at most {most}");
}

#[test]
fn two_thousand_tenants_share_the_syncs_of_one() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Counted::default());
    let options = Options { fsync: true, ..options() };
    let shared = Arc::clone(&disk) as Arc<dyn Disk>;
    let log = EventLog::open_on(shared, directory.path(), options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for round in 0..3 {
        for tenant in 0..2000 {
            append(&log, &format!("tenant-{tenant}"), round..round + 1);
        }
        runtime.block_on(log.settle());
    }
    log.close();
    // One for each flush interval in which something came, two for each checkpoint, and one for each
    // file of the log.
    let syncs = disk.0.load(Ordering::SeqCst);
    assert!((3..400).contains(&syncs), "{syncs} syncs for 6,000 events of 2,000 tenants");
    assert_eq!(log.reader().tenants().unwrap().len(), 2000);
}

#[test]
fn two_thousand_tenants_share_a_handful_of_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for round in 0..3 {
        for tenant in 0..2000 {
            append(&log, &format!("tenant-{tenant}"), round..round + 1);
        }
        runtime.block_on(log.settle());
        assert!(descriptors(directory.path()) <= 72, "{}", descriptors(directory.path()));
    }
    assert_eq!(numbers(directory.path(), "tenant-1999"), [0, 1, 2]);
    assert_eq!(log.reader().tenants().unwrap().len(), 2000);
}

#[test]
fn files_of_the_log_are_closed_when_they_are_full() {
    let directory = tempfile::tempdir().unwrap();
    for fsync in [false, true] {
        // The smallest file there is: this fills about twenty.
        let options = Options { max_bytes: 1 << 20, fsync, ..options() };
        let log = EventLog::open(directory.path(), options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for batch in 0..20 {
            append(&log, "acme", batch * 1500..batch * 1500 + 1500);
            runtime.block_on(log.settle());
        }
        assert!(descriptors(directory.path()) <= 4, "{}", descriptors(directory.path()));
    }
}

#[test]
fn each_tenant_redacts_its_own_keys_beside_the_standard_ones() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let redaction = Redaction::with_keys(["employee", "*_No", "x-*"]);
    log.set_tenant("acme", TenantSettings { redaction, ..TenantSettings::default() });
    log.set_tenant("other", TenantSettings::default());
    let mut record = numbered(0);
    record.http.url =
        Some("https://a.test/?Employee=7&staff_no=8&X-Id=9&token=t&page=2&no=1".into());
    for tenant in ["acme", "other"] {
        log.writer(0).append(tenant, &record);
    }
    log.close();
    let url = |tenant| super::walk(&log.reader(), tenant, None, 1)[0]["url"].clone();
    let own = "Employee=REDACTED&staff_no=REDACTED&X-Id=REDACTED&token=REDACTED&page=2&no=1";
    assert_eq!(url("acme"), format!("https://a.test/?{own}"));
    let others = "https://a.test/?Employee=7&staff_no=8&X-Id=9&token=REDACTED&page=2&no=1";
    assert_eq!(url("other"), others);
}

fn bytes(directory: &Path, tenant: &str) -> u64 {
    let files = std::fs::read_dir(directory.join(tenant)).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// Open files below the directory.
fn descriptors(directory: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(directory)).count()
}
