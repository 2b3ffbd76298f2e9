//! Domain lists of tenants: read once for each content, shared by all who name it.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use aws_lc_rs::digest;
use parking_lot::Mutex;
use policy::list::{DomainList, ListError, ListFormat};

/// Largest list file: the most names that a list may hold, of 50 bytes each.
const LIST_BYTES_MAX: u64 = 256 << 20;

/// SHA-256 of a file.
pub(super) type Digest = [u8; 32];

/// A list in force.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) digest: Digest,
    pub(super) list: Arc<DomainList>,
    /// What of the file was not understood: line and text of the first few, and how many.
    pub(super) malformed: Arc<(usize, Vec<(u32, String)>)>,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListFailure {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Content(#[from] ListError),
}

/// The lists that some tenant uses.
#[derive(Debug, Default)]
pub(super) struct Lists {
    known: Mutex<Known>,
}

/// The file as it was when it was read: unchanged, it is not read again.
type Stamp = (PathBuf, u64, Option<SystemTime>, u64);
type Content = (Digest, Option<ListFormat>);
type Malformed = Arc<(usize, Vec<(u32, String)>)>;

#[derive(Debug, Default)]
struct Known {
    files: HashMap<Stamp, Digest>,
    lists: HashMap<Content, (Weak<DomainList>, Malformed)>,
}

impl Lists {
    /// The list in a file. Reads it only where nobody has this very content in use; a list in
    /// use goes on while its successor is read.
    ///
    /// # Errors
    /// Where the file cannot be read or is no list.
    pub(super) fn load(
        &self,
        path: &Path,
        format: Option<ListFormat>,
    ) -> Result<Loaded, ListFailure> {
        let meta = fs::metadata(path)?;
        let stamp = (path.to_owned(), meta.len(), meta.modified().ok(), meta.ino());
        let digest = self.known.lock().files.get(&stamp).copied();
        if let Some(loaded) = digest.and_then(|digest| self.in_use(digest, format)) {
            return Ok(loaded);
        }
        let bytes = read(path)?;
        let digest = digest_of(&bytes);
        let loaded = match self.in_use(digest, format) {
            Some(loaded) => loaded,
            None => {
                let read = DomainList::read(&bytes, format)?;
                Loaded {
                    digest,
                    list: Arc::new(read.list),
                    malformed: Arc::new((read.malformed, read.malformed_shown)),
                }
            }
        };
        self.note(stamp, format, &loaded);
        Ok(loaded)
    }

    fn in_use(&self, digest: Digest, format: Option<ListFormat>) -> Option<Loaded> {
        let known = self.known.lock();
        let (list, malformed) = known.lists.get(&(digest, format))?;
        Some(Loaded { digest, list: list.upgrade()?, malformed: Arc::clone(malformed) })
    }

    /// Remembers a list, and forgets those that nobody uses any more.
    fn note(&self, stamp: Stamp, format: Option<ListFormat>, loaded: &Loaded) {
        let mut known = self.known.lock();
        let entry = (Arc::downgrade(&loaded.list), Arc::clone(&loaded.malformed));
        known.lists.insert((loaded.digest, format), entry);
        known.lists.retain(|_, (list, _)| list.strong_count() > 0);
        let Known { files, lists } = &mut *known;
        files.insert(stamp, loaded.digest);
        files.retain(|_, digest| lists.keys().any(|(in_use, _)| in_use == digest));
    }

    /// Whether some tenant uses a list of this content.
    fn uses(&self, digest: &str) -> bool {
        let known = self.known.lock();
        let mut in_use = known.lists.iter().filter(|(_, (list, _))| list.strong_count() > 0);
        in_use.any(|((known, _), _)| crate::ident::hex::encode(known) == digest)
    }

    /// Keeps a copy of a list's file for a start without it, once for each content.
    pub(super) fn keep(folder: &Path, path: &Path, digest: &Digest) {
        let name = crate::ident::hex::encode(digest);
        let kept = folder.join(&name);
        if kept.exists() {
            return;
        }
        let copy = || -> io::Result<()> {
            fs::create_dir_all(folder)?;
            let new = folder.join(format!("{name}.new"));
            fs::copy(path, &new)?;
            fs::File::open(&new)?.sync_all()?;
            fs::rename(new, &kept)
        };
        if let Err(error) = copy() {
            tracing::warn!(path = %kept.display(), %error, "last good copy not kept");
        }
    }

    /// Lets go of copies whose content no tenant uses.
    pub(super) fn sweep(&self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !self.uses(&entry.file_name().to_string_lossy())
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "old copy not removed");
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= LIST_BYTES_MAX) {
        return Ok(bytes);
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 256 MiB"))
}

fn digest_of(bytes: &[u8]) -> Digest {
    let mut whole = [0; 32];
    let digest = digest::digest(&digest::SHA256, bytes);
    whole.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    whole
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn one_content_is_one_list_whoever_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("a.txt"), dir.path().join("b.txt"));
        fs::write(&one, "ads.test\n").unwrap();
        fs::write(&other, "ads.test\n").unwrap();
        let lists = Lists::default();
        let first = lists.load(&one, None).unwrap();
        assert!(Arc::ptr_eq(&first.list, &lists.load(&other, None).unwrap().list));
        assert!(Arc::ptr_eq(&first.list, &lists.load(&one, None).unwrap().list));
        fs::write(&one, "ads.test\nmore.test\n").unwrap();
        let next = lists.load(&one, None).unwrap();
        assert_eq!((first.list.len(), next.list.len()), (1, 2));
    }

    #[test]
    fn copies_are_kept_while_somebody_uses_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("a.txt"), dir.path().join("kept"));
        fs::write(&file, "ads.test\n").unwrap();
        let lists = Lists::default();
        let loaded = lists.load(&file, None).unwrap();
        Lists::keep(&folder, &file, &loaded.digest);
        lists.sweep(&folder);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        drop(loaded);
        lists.sweep(&folder);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}
