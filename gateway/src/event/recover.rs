//! After a crash: what the write-ahead log holds and the segments do not.
//!
//! The checkpoint says up to where the log had been split durably. What follows it may be in the
//! segments already or not; since a line is there whole or (cut by [`Store`](super::store::Store)) not at all, lines
//! found at the end of the tenant's segments are skipped, and the rest is appended.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::disk::{self, Disk};
use super::scan::{self, Chunk, Scanned};
use super::segments;
use super::store::Batch;
use super::wal::{self, FileId};

/// The name of the file that says how far the splitter came.
const CHECKPOINT: &str = "checkpoint";
/// Read of a tenant's segments beside what its part of the log amounts to: lines whose frame is
/// damaged do not count there.
const TAIL_SLACK_BYTES: u64 = 256 * 1024;

/// How far each file of the log has been split, durably.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint(pub(super) HashMap<FileId, u64>);

impl Checkpoint {
    /// What the last run left; nothing where it left nothing readable, which only costs time.
    pub(super) fn load(directory: &Path) -> Self {
        let text = std::fs::read_to_string(directory.join(CHECKPOINT)).unwrap_or_default();
        let parse = |line: &str| {
            let (name, bytes) = line.split_once(' ')?;
            Some((FileId::parse(name)?, bytes.parse().ok()?))
        };
        Self(text.lines().filter_map(parse).collect())
    }

    /// Replaces the file whole.
    pub(super) fn store(&self, disk: &dyn Disk, directory: &Path, fsync: bool) -> io::Result<()> {
        let scratch = directory.join("checkpoint.new");
        let file = disk.create(&scratch)?;
        let mut text = String::new();
        for (id, bytes) in &self.0 {
            // Writing to a string cannot fail.
            writeln!(text, "{} {bytes}", id.name()).unwrap_or_default();
        }
        disk::write_at(disk, &file, text.as_bytes(), 0).1?;
        if fsync {
            disk.sync(&file)?;
        }
        disk.rename(&scratch, &directory.join(CHECKPOINT))
    }

    fn split(&self, file: FileId) -> u64 {
        self.0.get(&file).copied().unwrap_or(0)
    }
}

/// What is to be read again.
pub(super) struct Replay {
    root: PathBuf,
    directory: PathBuf,
    files: Vec<FileId>,
    checkpoint: Checkpoint,
    /// Bytes of each tenant's lines in the part to be read again.
    volume: HashMap<Box<str>, u64>,
    seen: HashMap<Box<str>, HashSet<u64>>,
    /// Lines that were in their segment already.
    pub(super) already_split: u64,
}

impl Replay {
    /// Looks through the log once.
    pub(super) fn prepare(root: &Path, directory: &Path) -> io::Result<Self> {
        let mut replay = Self {
            root: root.to_owned(),
            directory: directory.to_owned(),
            files: wal::list(directory)?,
            checkpoint: Checkpoint::load(directory),
            volume: HashMap::new(),
            seen: HashMap::new(),
            already_split: 0,
        };
        let mut volume: HashMap<Box<str>, u64> = HashMap::new();
        for &file in &replay.files {
            replay.scan(file, |chunk, last| {
                Ok(scan::scan(chunk, last, |tenant, line| {
                    let bytes = line.len() as u64 + 1;
                    match volume.get_mut(tenant) {
                        Some(sum) => *sum += bytes,
                        None => {
                            volume.insert(tenant.into(), bytes);
                        }
                    }
                }))
            })?;
        }
        replay.volume = volume;
        Ok(replay)
    }

    pub(super) fn files(&self) -> Vec<FileId> {
        self.files.clone()
    }

    /// Hands over the lines of one file that no segment has, a chunk at a time.
    pub(super) fn read(
        &mut self,
        file: FileId,
        mut each: impl FnMut(HashMap<Box<str>, Batch>) -> io::Result<()>,
    ) -> io::Result<Scanned> {
        let mut seen = std::mem::take(&mut self.seen);
        let mut already_split = 0;
        let result = self.scan(file, |chunk, last| {
            let mut batches: HashMap<Box<str>, Batch> = HashMap::new();
            let mut failed = None;
            let scanned = scan::scan(chunk, last, |tenant, line| {
                let known = match seen.entry(tenant.into()) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => {
                        let lines = self.tail(tenant).unwrap_or_else(|error| {
                            failed = Some(error);
                            HashSet::new()
                        });
                        place.insert(lines)
                    }
                };
                if known.contains(&fingerprint(line)) {
                    already_split += 1;
                } else {
                    batches.entry(tenant.into()).or_default().push(line);
                }
            });
            failed.map_or(Ok(()), Err)?;
            each(batches)?;
            Ok(scanned)
        });
        self.seen = seen;
        self.already_split += already_split;
        result
    }

    /// Reads the file from its checkpoint on; sums up what was found.
    fn scan(
        &self,
        file: FileId,
        mut chunk: impl FnMut(&[u8], bool) -> io::Result<Scanned>,
    ) -> io::Result<Scanned> {
        let path = file.path(&self.directory);
        let end = std::fs::metadata(&path)?.len();
        let mut total = Scanned::default();
        let mut from = self.checkpoint.split(file);
        let mut buffer = Chunk::default();
        while from < end {
            let bytes = buffer.read(&path, from, end)?;
            let scanned = chunk(bytes, from + bytes.len() as u64 == end)?;
            from += scanned.bytes as u64;
            total.bytes += scanned.bytes;
            total.damaged += scanned.damaged;
            total.torn |= scanned.torn;
        }
        Ok(total)
    }

    /// Fingerprints of the tenant's last lines, as many as could come from the log read again.
    fn tail(&self, tenant: &str) -> io::Result<HashSet<u64>> {
        let directory = self.root.join(tenant);
        let mut wanted = self.volume.get(tenant).copied().unwrap_or(0) + TAIL_SLACK_BYTES;
        let mut lines = HashSet::new();
        for segment in segments::list(&directory)?.into_iter().rev() {
            let mut text = Vec::new();
            if segment.packed {
                segments::open(&directory, segment.first, 0)?.read_to_end(&mut text)?;
                let surplus = text.len().saturating_sub(usize::try_from(wanted).unwrap_or(0));
                text.drain(..surplus);
            } else {
                let bytes = segment.bytes.min(wanted);
                text.resize(usize::try_from(bytes).unwrap_or(0), 0);
                let file = File::open(segments::path(&directory, segment.first))?;
                file.read_exact_at(&mut text, segment.bytes - bytes)?;
            }
            lines.extend(text.split(|byte| *byte == b'\n').map(fingerprint));
            wanted -= text.len() as u64;
            if wanted == 0 {
                break;
            }
        }
        Ok(lines)
    }
}

fn fingerprint(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}
