//! A file that events are appended to.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use super::error::SinkError;
use super::gather::Batch;
use crate::config::Sink;

pub(super) struct FilePeer {
    path: PathBuf,
}

impl FilePeer {
    pub(super) fn new(sink: &Sink) -> Self {
        Self { path: PathBuf::from(&sink.to) }
    }

    /// Opens the file for each batch, so that it can be rotated by renaming.
    pub(super) fn send(&self, batch: &Batch) -> Result<(), SinkError> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        let before = file.metadata()?.len();
        let written = file.write_all(&batch.lines(&batch.items)).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a line would spoil the next one.
            file.set_len(before)?;
        }
        Ok(written?)
    }
}
