//! Closed segments are compressed, and nobody who reads notices.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{append, numbers, options, walk};
use crate::event::{EventLog, Options, Reader, TenantSettings};

fn files(directory: &Path, ending: &str) -> usize {
    let entries = std::fs::read_dir(directory.join("acme")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(ending)).count()
}

/// Some hundred events in segments of 64 KiB, all but the last packed.
async fn packed(directory: &Path) -> EventLog {
    let options = Options { compress: true, max_bytes: 1 << 20, ..options() };
    let log = EventLog::open(directory, options).unwrap();
    append(&log, "acme", 0..1_500);
    log.settle().await;
    let begun = Instant::now();
    while files(directory, ".ndjson") > 1 {
        assert!(begun.elapsed() < Duration::from_secs(20), "not packed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    log
}

#[tokio::test]
async fn packed_segments_read_as_plain_ones_do() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let log = packed(directory).await;
    assert!(files(directory, ".ndjson.zst") >= 3);
    let wanted: Vec<usize> = (0..1_500).collect();
    assert_eq!(numbers(directory, "acme"), wanted);
    // A cursor from the middle of a packed segment goes on there.
    let reader = Reader::open(directory);
    let page = reader.after("acme", None, 70).unwrap();
    let rest = walk(&reader, "acme", Some(page.cursor), 333);
    assert_eq!(rest.len(), 1_430);
    drop(log);
    // After a restart too, and with what comes then.
    let log = EventLog::open(directory, Options { compress: true, ..options() }).unwrap();
    append(&log, "acme", 1_500..1_600);
    log.settle().await;
    assert_eq!(numbers(directory, "acme"), (0..1_600).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_crash_between_packing_and_removing_leaves_each_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    drop(packed(directory).await);
    // The plain file of the first segment is back, as if it had never been removed.
    let plain = directory.join("acme").join(format!("{:020}.ndjson", 0));
    std::fs::write(&plain, b"not looked at").unwrap();
    let log = EventLog::open(directory, Options { compress: true, ..options() }).unwrap();
    assert!(!plain.exists());
    assert_eq!(numbers(directory, "acme"), (0..1_500).collect::<Vec<_>>());
    drop(log);
}

#[tokio::test]
async fn a_quota_counts_what_packed_segments_take() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let log = packed(directory).await;
    for more in 1..8 {
        append(&log, "acme", more * 1_500..(more + 1) * 1_500);
        log.settle().await;
    }
    let kept = numbers(directory, "acme");
    let last = *kept.last().unwrap();
    assert_eq!(last, 11_999);
    // Plain, about 5,000 of them would fill the quota.
    assert!(kept.len() > 7_000, "{} kept", kept.len());
    let bytes: u64 = std::fs::read_dir(directory.join("acme"))
        .unwrap()
        // What is packed meanwhile is gone by the time it is looked at.
        .filter_map(|entry| Some(entry.unwrap().metadata().ok()?.len()))
        .sum();
    assert!(bytes < 2 << 20, "{bytes}");
}

#[tokio::test]
async fn what_was_still_to_be_packed_of_a_former_tenant_is_not_its_successors() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody packs: what is to be packed stays where it is.
    let log = EventLog::open(folder.path(), options()).unwrap();
    log.shared.pack_queue.extend(vec![("acme".into(), 0), ("beta".into(), 0)]);
    log.forget_tenant("acme");
    log.set_tenant("acme", TenantSettings::default());
    append(&log, "acme", 0..1);
    log.settle().await;
    let left = std::iter::from_fn(|| log.shared.pack_queue.begin()).collect::<Vec<_>>();
    assert_eq!(left, [("beta".into(), 0)]);
}
