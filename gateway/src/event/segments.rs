//! Names on disk: `<tenant>/<sequence number of its first event>.ndjson`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Longest tenant name, and the room a frame gives it.
pub(super) const NAME_BYTES_MAX: usize = 40;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// Ends the names of segments.
const SUFFIX: &str = ".ndjson";

/// One file of a tenant's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// Sequence number of its first event.
    pub(super) first: u64,
    pub(super) bytes: u64,
}

impl Segment {
    /// When it was last written to.
    pub(super) fn written(&self, directory: &Path) -> io::Result<SystemTime> {
        std::fs::metadata(path(directory, self.first))?.modified()
    }
}

/// Whether the name can be a tenant's directory, and nothing else: no dot, no slash.
pub(super) fn is_directory_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name == super::POP_TENANT
        || (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

pub(super) fn path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}{SUFFIX}"))
}

/// A segment's text from a place in it on.
pub(super) fn open(directory: &Path, first: u64, offset: u64) -> io::Result<Box<dyn BufRead>> {
    let mut file = File::open(path(directory, first))?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(Box::new(BufReader::with_capacity(READ_BYTES, file)))
}

/// A tenant's segments, oldest first; none where it has no directory.
pub(super) fn list(directory: &Path) -> io::Result<Vec<Segment>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry?;
        let first = entry.file_name().to_str().and_then(parse);
        if let Some(first) = first {
            match entry.metadata() {
                Ok(metadata) => segments.push(Segment { first, bytes: metadata.len() }),
                // Evicted between the listing and now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// The tenants that have a directory, in order.
pub(super) fn tenants(root: &Path) -> io::Result<Vec<String>> {
    let mut tenants = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if is_directory_name(&name) && entry.file_type()?.is_dir() {
            tenants.push(name);
        }
    }
    tenants.sort_unstable();
    Ok(tenants)
}

fn parse(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}
