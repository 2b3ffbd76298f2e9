//! What the log does to the file system: the seam where tests put a disk that is full or broken.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The acts that a disk can refuse. What stands here is the real one.
pub(super) trait Disk: Send + Sync {
    /// Makes an empty file.
    fn create(&self, path: &Path) -> io::Result<File> {
        File::options().write(true).create(true).truncate(true).open(path)
    }

    /// Writes at a place, perhaps only the beginning. Says how much.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }

    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Makes the names in a directory durable: a synced file without a name is lost.
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    /// Makes everything in the directory's file system durable.
    fn sync_all(&self, directory: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(directory)?)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(directory)?;
        if found.f_blocks == 0 {
            // Some network and user-space file systems do not tell.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { total: bytes(found.f_blocks), free: bytes(found.f_bavail) })
    }
}

/// The file system's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) total: u64,
    /// What is left for this process.
    pub(super) free: u64,
}

pub(super) struct RealDisk;

impl Disk for RealDisk {}

/// Writes as much of `bytes` as the disk takes. Says how much, and why no more.
pub(super) fn write_at(
    disk: &dyn Disk,
    file: &File,
    bytes: &[u8],
    offset: u64,
) -> (usize, io::Result<()>) {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match disk.write_at(file, rest, offset + done as u64) {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// Whether more room would help. A file size limit counts: a new file is a new beginning.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
