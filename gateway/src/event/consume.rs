//! Consumers whose place the gateway keeps: each index of the pull iterator is one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

use super::format::{Event, Export};
use super::marks::Marks;
use super::read::{Bounds, PAGE_BYTES_MAX, ReadError, Reader};

/// Where consumers' places lie, beside the tenants' directories. No tenant has this name.
const DIRECTORY: &str = "_export";
/// Records of one page, as in the product.
const RECORDS_MAX: usize = 10_000;
/// Events looked at for one page: most of them may be of other kinds.
const SEEN_MAX: usize = 200_000;
/// Indices of one tenant: a few collectors, each with a few kinds of records.
const INDICES_MAX: usize = 256;
/// Longest name of an index.
const INDEX_BYTES_MAX: usize = 128;
/// Requests a second for each tenant and kind of records, as in the product.
pub const REQUESTS_MAX: u32 = 4;
const REQUESTS_TIME: Duration = Duration::from_secs(1);

/// What a consumer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// What follows the last page.
    Next,
    /// The last page again.
    Resend,
    /// The oldest records kept.
    Head,
    /// What comes from now on.
    Tail,
    /// Records from this time on, in seconds since 1970.
    From(i64),
}

impl Operation {
    /// Reads a name, or a number of seconds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "next" => Self::Next,
            "resend" => Self::Resend,
            "head" => Self::Head,
            "tail" => Self::Tail,
            seconds => Self::From(seconds.parse().ok().filter(|seconds| *seconds >= 0)?),
        })
    }
}

/// One page for a consumer.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub records: Vec<Value>,
    /// There is more already.
    pub more: bool,
    /// The youngest record's time, of this page or an earlier one; seconds since 1970.
    pub newest: i64,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    #[error("an index is 1 to {INDEX_BYTES_MAX} letters, digits and `-_.`")]
    Index,
    #[error("a tenant has at most {INDICES_MAX} indices")]
    Many,
    #[error("another request is using this index")]
    Busy,
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<io::Error> for ConsumeError {
    fn from(error: io::Error) -> Self {
        Self::Read(ReadError::Disk(error))
    }
}

/// Requests left, and the seconds until there are [`REQUESTS_MAX`] again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub granted: bool,
    pub remaining: u32,
    pub reset_s: u64,
}

/// The consumers of all tenants.
pub struct Consumers {
    directory: PathBuf,
    tenants: DashMap<Box<str>, Arc<Mutex<Marks>>>,
    /// Held while an index is read.
    busy: DashMap<String, ()>,
    asked: DashMap<(Box<str>, Export), (Instant, u32)>,
}

/// Where one consumer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    /// Before the last page.
    before: String,
    /// Events looked at for it.
    seen: usize,
    after: String,
    newest: i64,
    /// Records of the last page are no older; seconds since 1970.
    since: i64,
}

impl Place {
    fn print(&self) -> String {
        let Self { before, seen, after, newest, since } = self;
        format!("{before} {seen} {after} {newest} {since}")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut part = || parts.next();
        Some(Self {
            before: part()?.to_owned(),
            seen: part()?.parse().ok()?,
            after: part()?.to_owned(),
            newest: part()?.parse().ok()?,
            since: part()?.parse().ok()?,
        })
    }
}

impl Consumers {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            directory: root.join(DIRECTORY),
            tenants: DashMap::new(),
            busy: DashMap::new(),
            asked: DashMap::new(),
        }
    }

    /// Counts a request against the tenant's and kind's allowance.
    #[must_use]
    pub fn ask(&self, tenant: &str, kind: Export, now: Instant) -> Allowance {
        let mut entry = self.asked.entry((tenant.into(), kind)).or_insert((now, 0));
        let (since, count) = entry.value_mut();
        if now.saturating_duration_since(*since) >= REQUESTS_TIME {
            (*since, *count) = (now, 0);
        }
        let granted = *count < REQUESTS_MAX;
        *count += u32::from(granted);
        Allowance { granted, remaining: REQUESTS_MAX - *count, reset_s: REQUESTS_TIME.as_secs() }
    }

    /// One page of the index; its place moves. Blocks: it reads the disk.
    ///
    /// # Errors
    /// Where the index has a bad name, is in use, or the disk refuses.
    pub fn page(
        &self,
        reader: &Reader,
        tenant: &str,
        kind: Export,
        index: &str,
        operation: Operation,
    ) -> Result<Records, ConsumeError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=INDEX_BYTES_MAX).contains(&index.len()) || !index.bytes().all(allowed) {
            return Err(ConsumeError::Index);
        }
        let key = format!("{}/{index}", kind.name());
        let _busy = Busy::take(&self.busy, format!("{tenant}/{key}")).ok_or(ConsumeError::Busy)?;
        let marks = self.marks(tenant)?;
        let kept = marks.lock().get(&key).and_then(Place::parse);
        if kept.is_none() && marks.lock().len() >= INDICES_MAX {
            return Err(ConsumeError::Many);
        }
        let (records, place) = turn(reader, tenant, kind, kept.unwrap_or_default(), operation)?;
        // The place counts from now on whether or not the disk has it: only a restart reads again.
        if let Err(error) = marks.lock().put(&[(key, place.print())]) {
            tracing::error!(tenant, "the place of a consumer cannot be written: {error}");
        }
        Ok(records)
    }

    /// Forgets a tenant's indices: what comes under its name later is another's.
    pub(super) fn forget(&self, tenant: &str) -> io::Result<()> {
        self.tenants.remove(tenant);
        match std::fs::remove_file(self.directory.join(tenant)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn marks(&self, tenant: &str) -> Result<Arc<Mutex<Marks>>, ConsumeError> {
        if !super::segments::is_directory_name(tenant) {
            return Err(ReadError::Tenant(tenant.to_owned()).into());
        }
        if let Some(marks) = self.tenants.get(tenant) {
            return Ok(Arc::clone(&marks));
        }
        let opened = Arc::new(Mutex::new(Marks::open(&self.directory.join(tenant))?));
        let marks = self.tenants.entry(tenant.into()).or_insert(opened);
        Ok(Arc::clone(&marks))
    }
}

/// One page and the place after it.
fn turn(
    reader: &Reader,
    tenant: &str,
    kind: Export,
    place: Place,
    operation: Operation,
) -> Result<(Records, Place), ConsumeError> {
    let mut bounds =
        Bounds { events: RECORDS_MAX, seen: SEEN_MAX, bytes: PAGE_BYTES_MAX, since: None };
    let mut since = 0;
    let start = match operation {
        Operation::Next => Some(place.after).filter(|after| !after.is_empty()),
        Operation::Resend => {
            (bounds.seen, since) = (place.seen, place.since);
            Some(place.before).filter(|before| !before.is_empty())
        }
        Operation::Head => None,
        Operation::Tail => Some(reader.end(tenant)?),
        Operation::From(seconds) => {
            since = seconds;
            bounds.since = Some(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX));
            None
        }
    };
    let mut records = Records { newest: place.newest, ..Records::default() };
    let page = reader.scan(tenant, start.as_deref(), &bounds, |line| {
        let Some(event) = Event::parse(line).filter(|event| kind.takes(event)) else {
            return false;
        };
        let time = event.time().map_or(0, Timestamp::as_second);
        if time < since {
            return false;
        }
        records.newest = records.newest.max(time);
        records.records.push(kind.map(&event));
        true
    })?;
    records.more = page.is_full(&bounds);
    let newest = records.newest;
    let place = Place { before: page.start, seen: page.seen, after: page.cursor, newest, since };
    Ok((records, place))
}

/// Holds an index until dropped.
struct Busy<'b> {
    all: &'b DashMap<String, ()>,
    key: String,
}

impl<'b> Busy<'b> {
    fn take(all: &'b DashMap<String, ()>, key: String) -> Option<Self> {
        all.insert(key.clone(), ()).is_none().then(|| Self { all, key })
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.all.remove(&self.key);
    }
}
