//! Folders watched through inotify(7): which unit a change belongs to.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use super::UnitName;
use crate::ident::TenantName;

/// What a watched folder is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// Every file in it belongs to this unit.
    Of(UnitName),
    /// Only this file in it does.
    Holds(UnitName, Box<str>),
    /// Its folders are tenants.
    Tenants,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Changed {
    Unit(UnitName),
    /// More than could be told: look at everything.
    Everything,
}

/// The kernel's list of watched folders, and ours.
pub(super) struct Folders {
    kernel: OwnedFd,
    by_path: HashMap<PathBuf, i32>,
    meaning: HashMap<i32, Vec<Folder>>,
}

/// Finished writes, and every way in which a name appears, is replaced or goes.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::ONLYDIR);

/// Bytes read at once: some hundred changes.
const READ_BYTES: usize = 16 << 10;

impl Folders {
    /// # Errors
    /// Where the kernel gives no more of these.
    pub(super) fn new() -> io::Result<Self> {
        let kernel = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { kernel, by_path: HashMap::new(), meaning: HashMap::new() })
    }

    /// Watches a folder, if it is there. Watching it again adds what it is.
    ///
    /// # Errors
    /// Where the kernel watches no more folders for this user.
    pub(super) fn watch(&mut self, path: &Path, folder: &Folder) -> io::Result<()> {
        let watch = match self.by_path.get(path) {
            Some(watch) => *watch,
            None => match add_watch(&self.kernel, path, CHANGES) {
                Ok(watch) => {
                    self.by_path.insert(path.to_owned(), watch);
                    watch
                }
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                Err(error) => return Err(error.into()),
            },
        };
        let meanings = self.meaning.entry(watch).or_default();
        if !meanings.contains(folder) {
            meanings.push(folder.clone());
        }
        Ok(())
    }

    /// Forgets a folder and what is below it: another may stand in its place by now.
    pub(super) fn forget(&mut self, path: &Path) {
        self.by_path.retain(|other, _| !other.starts_with(path));
    }

    /// Everything that changed since the last call; never waits.
    pub(super) fn read(&mut self) -> Vec<Changed> {
        let mut changes = Vec::new();
        let mut gone = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        let mut reader = Reader::new(&self.kernel, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().and_then(|name| name.to_str().ok());
                    if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                        changes.push(Changed::Everything);
                    }
                    if event.events().contains(ReadFlags::IGNORED) {
                        gone.push(event.wd());
                    }
                    let folders = self.meaning.get(&event.wd()).map(Vec::as_slice);
                    let meant = folders.unwrap_or_default().iter();
                    changes.extend(meant.filter_map(|folder| meaning(folder, name)));
                }
                Err(Errno::INTR) => {}
                // `AGAIN` once all is read.
                Err(_) => break,
            }
        }
        for watch in gone {
            self.meaning.remove(&watch);
            self.by_path.retain(|_, other| *other != watch);
        }
        changes.sort();
        changes.dedup();
        changes
    }
}

fn meaning(folder: &Folder, name: Option<&str>) -> Option<Changed> {
    let name = name?;
    match folder {
        Folder::Of(unit) => Some(Changed::Unit(unit.clone())),
        Folder::Holds(unit, file) => {
            // A mounted ConfigMap swaps one link, `..data`, for all its files.
            let meant = name == &**file || name.starts_with("..");
            meant.then(|| Changed::Unit(unit.clone()))
        }
        Folder::Tenants => {
            let tenant = TenantName::parse(name).ok()?;
            Some(Changed::Unit(UnitName::Tenant(tenant)))
        }
    }
}
