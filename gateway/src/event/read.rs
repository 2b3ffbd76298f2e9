//! Reads a tenant's events from where a cursor left off.
//!
//! A cursor names the next event by its number, and the line before it by place, length and
//! checksum. Where that line is no longer there (a power cut took what was not synced, and
//! other events have taken its numbers) reading begins at the segment's start again: an event may
//! come twice, and never not at all.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::recover::Replay;
use super::segments::{self, Segment};

/// Most bytes of one page, whatever limit is asked for: it is collected in memory. A page of one
/// longer line is that line.
const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest line a cursor is believed to name; no record is longer.
const LINE_BYTES_MAX: u64 = super::frame::PAYLOAD_BYTES_MAX as u64;

/// Some events in the order they were logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// NDJSON: whole lines, each with its newline.
    pub lines: Vec<u8>,
    pub events: usize,
    /// Where the next page begins. Opaque, without white space; stays good over restarts.
    pub cursor: String,
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
        if !segments::is_directory_name(tenant) {
            return Err(ReadError::Tenant(tenant.to_owned()));
        }
        let cursor = cursor.map(Cursor::parse).transpose()?.unwrap_or_default();
        let directory = self.root.join(tenant);
        let list = segments::list(&directory)?;
        let mut page = Page { cursor: cursor.print(), ..Page::default() };
        let Some(mut at) = place(&directory, &list, cursor)? else { return Ok(page) };
        let first = at.segment;
        let rest = list.iter().filter(|segment| segment.first >= first);
        for segment in rest {
            if segment.first != at.segment {
                at = At::start(segment.first);
            }
            match read(&directory, &mut at, limit, &mut page) {
                // Evicted between the listing and now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
            if page.events >= limit || page.lines.len() >= PAGE_BYTES_MAX {
                break;
            }
        }
        page.cursor = at.cursor.print();
        Ok(page)
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

/// The next event, and the line before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    next: u64,
    /// Where the line before ends in its segment; 0 at the beginning of one.
    offset: u64,
    length: u64,
    checksum: u32,
}

impl Cursor {
    fn print(self) -> String {
        format!("{:x}-{:x}-{:x}-{:x}", self.next, self.offset, self.length, self.checksum)
    }

    fn parse(text: &str) -> Result<Self, ReadError> {
        let mut parts = text.split('-').map(|part| u64::from_str_radix(part, 16));
        let mut part = || parts.next().and_then(Result::ok).ok_or(ReadError::Cursor);
        let (next, offset, length) = (part()?, part()?, part()?);
        let checksum = u32::try_from(part()?).map_err(|_| ReadError::Cursor)?;
        if parts.next().is_some() {
            return Err(ReadError::Cursor);
        }
        Ok(Self { next, offset, length, checksum })
    }
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
    if cursor.length == 0 || cursor.length > LINE_BYTES_MAX || cursor.offset > segment.bytes {
        return Ok(false);
    }
    let mut line = vec![0; usize::try_from(cursor.length).unwrap_or(0)];
    let read = File::open(segments::path(directory, segment.first))
        .and_then(|file| file.read_exact_at(&mut line, start));
    match read {
        Ok(()) => Ok(crc32fast::hash(&line) == cursor.checksum),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads whole lines of one segment onto the page.
fn read(directory: &Path, at: &mut At, limit: usize, page: &mut Page) -> io::Result<()> {
    let mut file = File::open(segments::path(directory, at.segment))?;
    file.seek(SeekFrom::Start(at.cursor.offset))?;
    let mut file = BufReader::with_capacity(256 * 1024, file);
    while page.events < limit && page.lines.len() < PAGE_BYTES_MAX {
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
        page.events += 1;
    }
    Ok(())
}
