//! A disk that counts what it is asked to make durable, whoever asks: the log, its segments, their
//! packing, checkpoints.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, Space};
use super::stats::{Counters, add};

pub(super) struct CountedDisk {
    disk: Arc<dyn Disk>,
    counters: Arc<Counters>,
}

impl CountedDisk {
    pub(super) fn new(disk: Arc<dyn Disk>, counters: Arc<Counters>) -> Self {
        Self { disk, counters }
    }

    fn count(&self, done: io::Result<()>) -> io::Result<()> {
        done.inspect(|()| add(&self.counters.disk_syncs, 1))
    }
}

impl Disk for CountedDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.disk.create(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.disk.write_at(file, bytes, offset)
    }

    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.disk.set_len(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.count(self.disk.sync(file))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.count(self.disk.sync_directory(directory))
    }

    fn sync_all(&self, directory: &Path) -> io::Result<()> {
        self.count(self.disk.sync_all(directory))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        self.disk.space(directory)
    }
}
