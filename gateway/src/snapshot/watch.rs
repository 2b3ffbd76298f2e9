//! Notices changed files and loads just the units they belong to.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::inotify::{Changed, Folder, Folders};
use super::{Snapshot, UnitName};
use crate::ident::TenantName;

/// Where the kernel watches for us: how often everything is looked at all the same, for file
/// systems whose changes the kernel does not see (network mounts).
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Where it does not: often enough that a change is in force within 1 s.
const POLL_EVERY: Duration = Duration::from_millis(400);
/// How often the kernel is asked what it saw: one call. A save is several changes, which are then
/// mostly taken together.
const ASK_EVERY: Duration = Duration::from_millis(100);

const EVERYTHING: [Changed; 1] = [Changed::Everything];

/// Keeps a snapshot in step with its directory.
pub struct Watcher {
    snapshot: Snapshot,
}

impl Watcher {
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self { snapshot }
    }

    /// Runs until dropped.
    pub async fn run(self) {
        let mut watched = match Watched::new(&self.snapshot) {
            Ok(watched) => Some(watched),
            Err(error) => {
                tracing::warn!(%error, "files cannot be watched: they are polled");
                None
            }
        };
        // Whatever changed between the load and the watch.
        let snapshot = self.snapshot.clone();
        let first = tokio::task::spawn_blocking(move || snapshot.reload_changed(&EVERYTHING));
        if let Err(error) = first.await {
            tracing::error!(%error, "configuration watch failed");
        }
        loop {
            let changes = match &mut watched {
                Some(watched) => watched.changes().await,
                None => {
                    tokio::time::sleep(POLL_EVERY).await;
                    vec![Changed::Everything]
                }
            };
            let seen = match &mut watched {
                // Before loading: what changes while it is read must be seen.
                Some(watched) => watched.follow(&self.snapshot, &changes),
                None => Ok(()),
            };
            if let Err(error) = seen {
                tracing::warn!(%error, "no more files can be watched: they are polled");
                watched = None;
            }
            let snapshot = self.snapshot.clone();
            let loaded = tokio::task::spawn_blocking(move || snapshot.reload_changed(&changes));
            if let Err(error) = loaded.await {
                tracing::error!(%error, "configuration watch failed");
            }
        }
    }
}

/// The folders of a configuration directory under watch.
struct Watched {
    folders: Folders,
    ask: Interval,
    looked: Instant,
}

impl Watched {
    fn new(snapshot: &Snapshot) -> io::Result<Self> {
        let mut ask = tokio::time::interval(ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched = Self { folders: Folders::new()?, ask, looked: Instant::now() };
        watched.follow(snapshot, &EVERYTHING)?;
        Ok(watched)
    }

    /// Waits for changes.
    async fn changes(&mut self) -> Vec<Changed> {
        loop {
            let at = self.ask.tick().await;
            if at.duration_since(self.looked) >= LOOK_EVERY {
                self.looked = at;
                return vec![Changed::Everything];
            }
            let changes = self.folders.read();
            if !changes.is_empty() {
                return changes;
            }
        }
    }

    /// Watches the folders of what changed: new ones, and ones that replaced others.
    fn follow(&mut self, snapshot: &Snapshot, changes: &[Changed]) -> io::Result<()> {
        for change in changes {
            match change {
                Changed::Unit(UnitName::Tenant(name)) => {
                    self.folders.forget(&snapshot.layout().tenant(name));
                    self.follow_tenant(snapshot, name)?;
                }
                Changed::Unit(UnitName::Gateway) => self.follow_gateway(snapshot)?,
                Changed::Everything => {
                    self.follow_gateway(snapshot)?;
                    for name in snapshot.known_and_found() {
                        self.follow_tenant(snapshot, &name)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn follow_gateway(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let layout = snapshot.layout();
        let unit = UnitName::Gateway;
        self.follow_file(&layout.gateway_yaml(), &unit)?;
        self.folders.watch(&layout.tunnel(), &Folder::Of(unit.clone()))?;
        self.folders.watch(&layout.tenants(), &Folder::Tenants)?;
        let named = snapshot.gateway().extra_files();
        named.iter().try_for_each(|file| self.follow_file(file, &unit))
    }

    fn follow_tenant(&mut self, snapshot: &Snapshot, name: &TenantName) -> io::Result<()> {
        let folder = snapshot.layout().tenant(name);
        let unit = UnitName::Tenant(name.clone());
        self.folders.watch(&folder, &Folder::Of(unit.clone()))?;
        self.folders.watch(&folder.join("ca"), &Folder::Of(unit.clone()))?;
        let Some(tenant) = snapshot.tenant(name.as_str()) else { return Ok(()) };
        let outside = tenant.extra_files.iter().filter(|file| file.parent() != Some(&folder));
        let outside: Vec<&PathBuf> = outside.collect();
        outside.into_iter().try_for_each(|file| self.follow_file(file, &unit))
    }

    fn follow_file(&mut self, file: &Path, unit: &UnitName) -> io::Result<()> {
        let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return Ok(()) };
        let name = name.to_string_lossy().into_owned().into_boxed_str();
        self.folders.watch(folder, &Folder::Holds(unit.clone(), name))
    }
}

impl Snapshot {
    /// Tenants served, and tenants whose folders are there.
    pub(super) fn known_and_found(&self) -> BTreeSet<TenantName> {
        let found = self.inner.layout.tenant_names().unwrap_or_default();
        self.tenants().into_iter().chain(found).collect()
    }

    /// Loads those units whose files really changed since the last attempt.
    pub(super) fn reload_changed(&self, changes: &[Changed]) {
        for change in changes {
            match change {
                Changed::Unit(UnitName::Gateway) => self.reload_gateway_if(|_| false),
                Changed::Unit(UnitName::Tenant(name)) => self.reload_tenant_if(name, |_| false),
                Changed::Everything => {
                    self.reload_gateway_if(|_| false);
                    for name in self.known_and_found() {
                        self.reload_tenant_if(&name, |_| false);
                    }
                }
            }
        }
    }
}
