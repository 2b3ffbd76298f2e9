//! What was flushed is there after a crash, once, and in order.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{append, line, numbered, numbers, open, options, walk};
use crate::event::frame;
use crate::event::log::WAL_DIRECTORY;
use crate::event::wal::FileId;
use crate::event::{EventLog, Options, POP_TENANT, Reader};

/// Where a child writes until it is killed.
const CHILD_DIRECTORY: &str = "SLUICE_TEST_EVENT_CHILD";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// A log as a crash leaves it: only a write-ahead log.
fn crashed(directory: &Path, frames: &[u8]) -> PathBuf {
    let wal = directory.join(WAL_DIRECTORY);
    std::fs::create_dir_all(&wal).unwrap();
    let path = FileId { worker: 0, index: 7 }.path(&wal);
    std::fs::write(&path, frames).unwrap();
    path
}

fn frames(count: usize) -> Vec<Vec<u8>> {
    let frame = |number| {
        let mut out = Vec::new();
        let line = line(&numbered(number));
        assert!(frame::append(&mut out, "acme", |out| out.extend_from_slice(line.as_bytes())));
        out
    };
    (0..count).map(frame).collect()
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_torn_event() {
    let frames = frames(3);
    let last = frames[2].len();
    for kept in 0..=last {
        let directory = tempfile::tempdir().unwrap();
        let bytes = frames.concat();
        crashed(directory.path(), &bytes[..bytes.len() - last + kept]);
        let log = open(directory.path());
        let whole = kept == last;
        assert_eq!(numbers(directory.path(), "acme").len(), if whole { 3 } else { 2 });
        assert_eq!(log.stats().torn_tails, u64::from(kept > 0 && !whole), "{kept}");
        append(&log, "acme", 3..4);
        log.close();
        assert_eq!(numbers(directory.path(), "acme").last(), Some(&3));
    }
}

#[test]
fn a_damaged_frame_does_not_take_the_next_ones_along() {
    let frames = frames(5);
    let middle: usize = frames[..2].iter().map(Vec::len).sum();
    for damage in 0..frames[2].len() {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = frames.concat();
        bytes[middle + damage] ^= 0x55;
        crashed(directory.path(), &bytes);
        let log = open(directory.path());
        assert_eq!(numbers(directory.path(), "acme"), [0, 1, 3, 4], "{damage}");
        assert_eq!(log.stats().damaged, 1);
    }
}

#[test]
fn a_log_split_before_the_crash_is_not_split_again() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = frames(10).concat();
    crashed(directory.path(), &bytes);
    drop(open(directory.path()));
    // The same log once more, as if the crash had come before the checkpoint; the last line of
    // its segment was only half written.
    crashed(directory.path(), &bytes);
    let segment = directory.path().join("acme").join(format!("{:020}.ndjson", 0));
    let lines = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &lines[..lines.len() - 10]).unwrap();
    let log = open(directory.path());
    assert_eq!(numbers(directory.path(), "acme"), (0..10).collect::<Vec<_>>());
    assert_eq!(log.stats().already_split, 9);
}

#[test]
fn what_a_dead_gateway_left_unsplit_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    crashed(directory.path(), &frames(4).concat());
    let reader = Reader::open(directory.path());
    let mut lines = 0;
    reader.unsplit(|tenant, _| lines += usize::from(tenant == "acme")).unwrap();
    assert_eq!(lines, 4);
    let log = open(directory.path());
    reader.unsplit(|_, _| lines += 1).unwrap();
    assert_eq!(lines, 4, "a running gateway splits itself");
    drop(log);
    reader.unsplit(|_, _| lines += 1).unwrap();
    assert_eq!(lines, 4, "nothing is left after an orderly end");
}

#[test]
fn what_was_flushed_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = 0;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "event::tests::durable::child_that_is_killed", "--nocapture"])
            .env(CHILD_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut flushed = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            flushed
                .extend(line.strip_prefix("flushed ").map(|count| count.parse::<usize>().unwrap()));
            if flushed.len() > 3 + round {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let log = open(directory.path());
        let kept = numbers(directory.path(), "acme");
        let flushed = expected + flushed.last().unwrap();
        assert!(kept.len() >= flushed, "{} of {flushed}", kept.len());
        assert_eq!(kept, (0..kept.len()).collect::<Vec<_>>(), "each once, in order");
        expected = kept.len();
        drop(log);
    }
}

/// Not a test of its own: what [`what_was_flushed_survives_kill_9`] runs and kills.
#[test]
fn child_that_is_killed() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let directory = PathBuf::from(directory);
    let log = EventLog::open(&directory, Options { fsync: true, ..options() }).unwrap();
    let first = numbers(&directory, "acme").len();
    let runtime = runtime();
    for batch in 0.. {
        append(&log, "acme", first + batch * 50..first + batch * 50 + 50);
        if batch % 3 == 0 {
            runtime.block_on(log.flush());
            let mut stdout = std::io::stdout();
            std::io::Write::write_fmt(&mut stdout, format_args!("\nflushed {}\n", batch * 50 + 50))
                .unwrap();
        }
    }
}

#[test]
fn a_cursor_walks_in_append_order_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    // A quota that makes segments small: the walk crosses many of them.
    let options = Options { max_bytes: 8 << 20, ..options() };
    let mut cursor = None;
    let mut read = Vec::new();
    for run in 0..4 {
        let log = EventLog::open(directory.path(), options.clone()).unwrap();
        append(&log, "acme", run * 5000..run * 5000 + 5000);
        runtime().block_on(log.settle());
        for limit in [1, 7, 1000] {
            let page = log.reader().after("acme", cursor.as_deref(), limit).unwrap();
            read.extend(super::parse(&page.lines));
            cursor = Some(page.cursor);
        }
    }
    read.extend(walk(&Reader::open(directory.path()), "acme", cursor, 333));
    let numbers: Vec<usize> =
        read.iter().map(|event| event["object"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..20_000).collect::<Vec<_>>());
    assert!(std::fs::read_dir(directory.path().join("acme")).unwrap().count() > 4);
}

#[test]
fn a_cursor_into_lines_a_power_cut_took_reads_again_rather_than_skip() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, "acme", 0..10);
    log.close();
    drop(log);
    let reader = Reader::open(directory.path());
    let cursor = reader.after("acme", None, 9).unwrap().cursor;
    // The last four lines are gone, and others have taken their numbers.
    let segment = directory.path().join("acme").join(format!("{:020}.ndjson", 0));
    let text = std::fs::read_to_string(&segment).unwrap();
    let kept: String = text.split_inclusive('\n').take(6).collect();
    std::fs::write(&segment, kept).unwrap();
    let log = open(directory.path());
    append(&log, "acme", 100..110);
    log.close();
    let events = walk(&reader, "acme", Some(cursor), 100);
    let read = |number: &str| events.iter().any(|event| event["object"] == number);
    assert!((100..110).all(|number| read(&number.to_string())));
}

#[test]
fn a_cursor_that_is_none_is_refused() {
    let reader = Reader::open(Path::new("/nonexistent"));
    for wrong in ["", "x", "1-2-3", "1-2-3-4-5", "1-2-3-100000000", "-1-0-0-0"] {
        assert_eq!(reader.after("acme", Some(wrong), 1).unwrap_err().label(), "bad_cursor");
    }
    for wrong in ["..", "a/b", "", "_wal", "ACME"] {
        assert_eq!(reader.after(wrong, None, 1).unwrap_err().label(), "bad_tenant");
    }
}

#[test]
fn two_processes_cannot_write_one_log() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    assert!(EventLog::open(directory.path(), options()).is_err());
    drop(log);
    drop(open(directory.path()));
}

#[test]
fn what_comes_after_the_end_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, "acme", 0..2);
    log.close();
    append(&log, "acme", 2..5);
    assert_eq!((log.stats().appended, log.stats().dropped), (2, 3));
    assert_eq!(numbers(directory.path(), "acme"), [0, 1]);
}

#[test]
fn what_belongs_to_no_tenant_goes_to_the_pop() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, POP_TENANT, 0..1);
    append(&log, "../../etc", 1..2);
    log.close();
    assert_eq!(numbers(directory.path(), POP_TENANT), [0, 1]);
}

#[tokio::test]
async fn whoever_waits_for_events_is_woken_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let mut changes = log.changes();
    append(&log, "acme", 0..1);
    tokio::time::timeout(Duration::from_secs(10), changes.changed()).await.unwrap();
    assert_eq!(numbers(directory.path(), "acme"), [0]);
}
