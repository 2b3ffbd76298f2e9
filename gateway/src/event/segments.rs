//! Names on disk: `<tenant>/<sequence number of its first event>.ndjson`, and `.ndjson.zst` once it is
//! closed and packed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Longest tenant name, and the room a frame gives it.
pub(super) const NAME_BYTES_MAX: usize = 40;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// Ends the names of segments.
const SUFFIX: &str = ".ndjson";
const PACKED_SUFFIX: &str = ".ndjson.zst";

/// One file of a tenant's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// Sequence number of its first event.
    pub(super) first: u64,
    pub(super) bytes: u64,
    /// Compressed; `bytes` is what that takes.
    pub(super) packed: bool,
}

impl Segment {
    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        if self.packed { packed_path(directory, self.first) } else { path(directory, self.first) }
    }

    /// When it was last written to. A packed one has the time of what it was packed from.
    pub(super) fn written(&self, directory: &Path) -> io::Result<SystemTime> {
        match std::fs::metadata(self.path(directory)) {
            // It was packed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::metadata(packed_path(directory, self.first))?.modified()
            }
            found => found?.modified(),
        }
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

pub(super) fn packed_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}{PACKED_SUFFIX}"))
}

/// A segment's text from a place in it on, packed or not. The packed file is there before the plain
/// one goes, so one of them always is, unless the segment was evicted.
pub(super) fn open(directory: &Path, first: u64, offset: u64) -> io::Result<Box<dyn BufRead>> {
    match File::open(path(directory, first)) {
        Ok(mut file) => {
            file.seek(SeekFrom::Start(offset))?;
            Ok(Box::new(BufReader::with_capacity(READ_BYTES, file)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = File::open(packed_path(directory, first))?;
            let mut text = BufReader::with_capacity(READ_BYTES, zstd::Decoder::new(file)?);
            io::copy(&mut text.by_ref().take(offset), &mut io::sink())?;
            Ok(Box::new(text))
        }
        Err(error) => Err(error),
    }
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
        let name = entry.file_name().to_str().and_then(parse);
        if let Some((first, packed)) = name {
            segments.extend(look_at(directory, first, packed)?);
        }
    }
    // Of a segment that is there twice the packed one counts: it is whole before it has its name.
    segments.sort_unstable_by_key(|segment| (segment.first, !segment.packed));
    segments.dedup_by_key(|segment| segment.first);
    Ok(segments)
}

/// What a name in a listing stands for by now; nothing where it was evicted since. A plain one can
/// have been packed, under a name that the listing does not have.
fn look_at(directory: &Path, first: u64, packed: bool) -> io::Result<Option<Segment>> {
    let path = if packed { packed_path(directory, first) } else { path(directory, first) };
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(Segment { first, bytes: metadata.len(), packed })),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) if packed => Ok(None),
        Err(_) => look_at(directory, first, true),
    }
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

/// The number in a segment's name, and whether it is that of a packed one.
fn parse(name: &str) -> Option<(u64, bool)> {
    let packed = name.ends_with(PACKED_SUFFIX);
    let number = name.strip_suffix(if packed { PACKED_SUFFIX } else { SUFFIX })?;
    Some((number.parse().ok()?, packed))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_segment_packed_since_it_was_listed_is_still_the_one() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        std::fs::write(path(directory, 0), b"plain").unwrap();
        let listed = list(directory).unwrap();
        let plain = Segment { first: 0, bytes: 5, packed: false };
        assert_eq!(listed, [plain]);
        std::fs::write(packed_path(directory, 0), b"packed").unwrap();
        std::fs::remove_file(path(directory, 0)).unwrap();
        assert!(plain.written(directory).is_ok());
        let found = look_at(directory, 0, false).unwrap();
        assert_eq!(found, Some(Segment { first: 0, bytes: 6, packed: true }));
        std::fs::remove_file(packed_path(directory, 0)).unwrap();
        assert!(plain.written(directory).is_err());
        assert_eq!(look_at(directory, 0, false).unwrap(), None);
    }
}
