//! Reads a tenant's events from where a cursor left off.
//!
//! A cursor names the next event by its number, and the line before it by place, length and
//! checksum. Where that line is no longer there (a power cut took what was not synced, and
//! other events have taken its numbers) reading begins at the segment's start again: an event may
//! come twice, and never not at all.

use std::fs::File;
use std::io::{self, BufRead as _, Read as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::cursor::Cursor;
use super::filter::Filter;
use super::recover::Replay;
use super::segments::{self, Segment};

/// Most bytes of one page, whatever limit is asked for: it is collected in memory. A page of one
/// longer line is that line.
pub(super) const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most events that are looked at for one page, wanted or not: about a second's work.
pub const SEEN_MAX: usize = 400_000;
/// Longest line a cursor is believed to name; no record is longer.
const LINE_BYTES_MAX: u64 = super::frame::PAYLOAD_BYTES_MAX as u64;

/// Some events in the order they were logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// NDJSON: whole lines, each with its newline.
    pub lines: Vec<u8>,
    pub events: usize,
    /// Events looked at, wanted or not.
    pub seen: usize,
    /// Events that were gone before they were read: a quota, or a full disk, took them.
    pub missed: u64,
    /// Number of the tenant's next event.
    pub next: u64,
    /// Where this page began.
    pub start: String,
    /// Where the next page begins. Opaque, without white space; stays good over restarts.
    pub cursor: String,
}

impl Page {
    /// Whether it ended at a bound and not at the log's end.
    pub(super) fn is_full(&self, bounds: &Bounds) -> bool {
        self.events >= bounds.events || self.lines.len() >= bounds.bytes || self.seen >= bounds.seen
    }
}

/// How far one page goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Events on the page.
    pub(super) events: usize,
    /// Events looked at.
    pub(super) seen: usize,
    /// Bytes on the page.
    pub(super) bytes: usize,
    /// Without a cursor, segments that hold nothing this young are passed over.
    pub(super) since: Option<Timestamp>,
}

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the cursor is none of ours")]
    Cursor,
    #[error("`{0}` is no tenant name")]
    Tenant(String),
    #[error("the event log cannot be read: {0}")]
    Disk(#[from] io::Error),
}

impl ReadError {
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Cursor => "bad_cursor",
            Self::Tenant(_) => "bad_tenant",
            Self::Disk(_) => "event_log_unreadable",
        }
    }
}

/// Reads the directory of a log, whether or not a gateway writes there. Blocks: call it where
/// blocking is fine.
#[derive(Clone, Debug)]
pub struct Reader {
    root: PathBuf,
}

impl Reader {
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        Self { root: directory.to_owned() }
    }

    /// The tenants with events, in order; [`super::POP_TENANT`] among them.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn tenants(&self) -> Result<Vec<String>, ReadError> {
        Ok(segments::tenants(&self.root)?)
    }

    /// Up to `limit` events after the cursor, or from the oldest kept. Fewer where there are no
    /// more, or where they are large. What a quota has removed in between is skipped.
    ///
    /// # Errors
    /// Where the cursor or the name is malformed, or the disk cannot be read.
    pub fn after(
        &self,
        tenant: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        self.find(tenant, cursor, limit, &Filter::default())
    }

    /// As [`Reader::after`], of the events that are wanted. No more than [`SEEN_MAX`] are looked
    /// at: a page can be empty and its cursor move on all the same.
    ///
    /// # Errors
    /// Where the cursor or the name is malformed, or the disk cannot be read.
    pub fn find(
        &self,
        tenant: &str,
        cursor: Option<&str>,
        limit: usize,
        filter: &Filter,
    ) -> Result<Page, ReadError> {
        let bounds = Bounds {
            events: limit,
            seen: SEEN_MAX,
            bytes: PAGE_BYTES_MAX,
            since: filter.since_time(),
        };
        self.scan(tenant, cursor, &bounds, |line| filter.wants(line))
    }

    /// As [`Reader::find`], of the events for which `wants` says so.
    pub(super) fn scan(
        &self,
        tenant: &str,
        cursor: Option<&str>,
        bounds: &Bounds,
        mut wants: impl FnMut(&[u8]) -> bool,
    ) -> Result<Page, ReadError> {
        if !segments::is_directory_name(tenant) {
            return Err(ReadError::Tenant(tenant.to_owned()));
        }
        let start = cursor.map(Cursor::parse).transpose()?;
        let cursor = start.unwrap_or_default();
        let directory = self.root.join(tenant);
        let mut list = segments::list(&directory)?;
        let start_cursor = cursor.print();
        let mut page = Page {
            cursor: start_cursor.clone(),
            start: start_cursor,
            next: cursor.next,
            ..Page::default()
        };
        if start.is_none() {
            skip_older(&directory, &mut list, bounds)?;
        } else if let Some(oldest) = list.first() {
            page.missed = oldest.first.saturating_sub(cursor.next);
        }
        let Some(mut at) = place(&directory, &list, cursor)? else { return Ok(page) };
        page.start = at.cursor.print();
        let first = at.segment;
        let rest = list.iter().filter(|segment| segment.first >= first);
        for segment in rest {
            if segment.first != at.segment {
                // Of one that was evicted while the page was read, the rest is gone.
                page.missed += segment.first.saturating_sub(at.cursor.next);
                at = At::start(segment.first);
            }
            match read(&directory, &mut at, bounds, &mut wants, &mut page) {
                // Evicted between the listing and now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
            if page.is_full(bounds) {
                break;
            }
        }
        page.cursor = at.cursor.print();
        page.next = at.cursor.next;
        Ok(page)
    }

    /// A cursor before the oldest event there is.
    pub(super) fn begin(&self, tenant: &str) -> Result<String, ReadError> {
        let oldest = segments::list(&self.root.join(tenant))?.first().copied();
        Ok(At::start(oldest.map_or(0, |oldest| oldest.first)).cursor.print())
    }

    /// A cursor after the last event there is.
    pub(super) fn end(&self, tenant: &str) -> Result<String, ReadError> {
        let directory = self.root.join(tenant);
        let Some(last) = segments::list(&directory)?.last().copied() else {
            return Ok(Cursor::default().print());
        };
        let mut at = At::start(last.first);
        let bounds =
            Bounds { events: usize::MAX, seen: usize::MAX, bytes: PAGE_BYTES_MAX, since: None };
        match read(&directory, &mut at, &bounds, |_| false, &mut Page::default()) {
            // Evicted between the listing and now.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(at.cursor.print()),
        }
    }

    /// What a gateway that is gone left in its write-ahead log and no segment has yet. Nothing
    /// while one runs: it splits within a second itself.
    ///
    /// # Errors
    /// Where the disk cannot be read.
    pub fn unsplit(&self, mut each: impl FnMut(&str, &[u8])) -> Result<(), ReadError> {
        let directory = self.root.join(super::log::WAL_DIRECTORY);
        if !directory.exists() || is_locked(&directory.join(super::log::LOCK)) {
            return Ok(());
        }
        let mut replay = Replay::prepare(&self.root, &directory)?;
        for file in replay.files() {
            replay.read(file, |batches| {
                for (tenant, batch) in &batches {
                    batch.each_line(|line| each(tenant, line));
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Whether a gateway runs. Lets go of the lock at once: one that starts must not find it held.
fn is_locked(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|lock| lock.try_lock_shared().is_err())
}

/// A place in a segment.
#[derive(Clone, Copy, Debug)]
struct At {
    segment: u64,
    cursor: Cursor,
}

impl At {
    fn start(segment: u64) -> Self {
        Self { segment, cursor: Cursor { next: segment, ..Cursor::default() } }
    }
}

/// Where to go on reading; `None` where the tenant has no segment.
fn place(directory: &Path, list: &[Segment], cursor: Cursor) -> io::Result<Option<At>> {
    let Some(oldest) = list.first() else { return Ok(None) };
    let holder = list.iter().rev().find(|segment| segment.first <= cursor.next);
    let Some(segment) = holder else { return Ok(Some(At::start(oldest.first))) };
    if cursor.next == segment.first || !is_there(directory, segment, cursor)? {
        return Ok(Some(At::start(segment.first)));
    }
    Ok(Some(At { segment: segment.first, cursor }))
}

/// Whether the line before the cursor is the one it was made from.
fn is_there(directory: &Path, segment: &Segment, cursor: Cursor) -> io::Result<bool> {
    let Some(start) = cursor.offset.checked_sub(cursor.length) else { return Ok(false) };
    if cursor.length == 0 || cursor.length > LINE_BYTES_MAX {
        return Ok(false);
    }
    let mut line = vec![0; usize::try_from(cursor.length).unwrap_or(0)];
    let read = segments::open(directory, segment.first, start)
        .and_then(|mut file| file.read_exact(&mut line));
    match read {
        Ok(()) => Ok(crc32fast::hash(&line) == cursor.checksum),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Drops segments that hold nothing young enough: a file is written to no earlier than its last
/// event happened. The newest one stays.
fn skip_older(directory: &Path, list: &mut Vec<Segment>, bounds: &Bounds) -> io::Result<()> {
    let Some(since) = bounds.since else { return Ok(()) };
    let since = std::time::SystemTime::from(since);
    let mut old = 0;
    for segment in list.iter().take(list.len().saturating_sub(1)) {
        match segment.written(directory) {
            Ok(written) if written >= since => break,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => old += 1,
        }
    }
    list.drain(..old);
    Ok(())
}

/// Reads whole lines of one segment onto the page.
fn read(
    directory: &Path,
    at: &mut At,
    bounds: &Bounds,
    mut wants: impl FnMut(&[u8]) -> bool,
    page: &mut Page,
) -> io::Result<()> {
    let mut file = segments::open(directory, at.segment, at.cursor.offset)?;
    while !page.is_full(bounds) {
        let start = page.lines.len();
        let length = file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut page.lines)?;
        let line = page.lines.get(start..).unwrap_or_default();
        if line.last() != Some(&b'\n') {
            // The rest of it is being written.
            page.lines.truncate(start);
            return Ok(());
        }
        at.cursor = Cursor {
            next: at.cursor.next + 1,
            offset: at.cursor.offset + length as u64,
            length: length as u64,
            checksum: crc32fast::hash(line),
        };
        page.seen += 1;
        if wants(line) {
            page.events += 1;
        } else {
            page.lines.truncate(start);
        }
    }
    Ok(())
}
