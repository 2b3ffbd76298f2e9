//! Reads a stretch of a write-ahead log frame by frame, past whatever is damaged in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::frame::{self, Next};

/// Bytes read at once. Holds the longest frame, so every chunk makes progress.
const CHUNK_BYTES: usize = frame::PAYLOAD_BYTES_MAX + 1024;

/// What a chunk held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Bytes dealt with; the rest is the beginning of a frame that goes on after the chunk.
    pub(super) bytes: usize,
    /// Damaged stretches stepped over.
    pub(super) damaged: u64,
    /// The log ends in something that is no whole frame.
    pub(super) torn: bool,
}

/// A buffer that one stretch of a log after the other is read into.
#[derive(Default)]
pub(super) struct Chunk(Vec<u8>);

impl Chunk {
    /// Reads up to a chunk of the file from `from`, no further than `to`.
    pub(super) fn read(&mut self, path: &Path, from: u64, to: u64) -> io::Result<&[u8]> {
        let wanted = usize::try_from(to.saturating_sub(from)).unwrap_or(CHUNK_BYTES);
        let wanted = wanted.min(CHUNK_BYTES);
        if self.0.len() < wanted {
            self.0.resize(wanted, 0);
        }
        let chunk = self.0.get_mut(..wanted).unwrap_or_default();
        File::open(path)?.read_exact_at(chunk, from)?;
        Ok(chunk)
    }
}

/// Calls `each` with the tenant and line of every frame. `last` says that nothing follows.
pub(super) fn scan(chunk: &[u8], last: bool, mut each: impl FnMut(&str, &[u8])) -> Scanned {
    let mut scanned = Scanned::default();
    loop {
        let rest = chunk.get(scanned.bytes..).unwrap_or_default();
        match frame::next(rest) {
            Next::End => return scanned,
            Next::Frame { tenant, line, bytes } => {
                each(tenant, line);
                scanned.bytes += bytes;
            }
            Next::Partial if !last && rest.len() < chunk.len() => return scanned,
            Next::Partial | Next::Damaged => match frame::resync(rest) {
                Some(skipped) => {
                    scanned.bytes += skipped;
                    scanned.damaged += 1;
                }
                None => {
                    scanned.bytes = chunk.len();
                    scanned.torn = last;
                    scanned.damaged += u64::from(!last);
                    return scanned;
                }
            },
        }
    }
}
