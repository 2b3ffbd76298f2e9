//! Where everything lies below a configuration directory, and how its files are written.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::ident::TenantName;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Owner writes, others may read.
    Public,
    /// Owner only: keys, tokens, copies of configuration.
    Secret,
}

/// A configuration directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()) }
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    #[must_use]
    pub fn gateway_yaml(&self) -> PathBuf {
        self.root.join("gateway.yaml")
    }

    #[must_use]
    pub fn tunnel(&self) -> PathBuf {
        self.root.join("tunnel")
    }

    #[must_use]
    pub fn tenants(&self) -> PathBuf {
        self.root.join("tenants")
    }

    #[must_use]
    pub fn tenant(&self, tenant: &TenantName) -> PathBuf {
        self.tenants().join(tenant.as_str())
    }

    /// Copies of what loaded last, for the next start.
    #[must_use]
    pub fn last_good(&self) -> PathBuf {
        self.root.join("data").join("last-good")
    }

    /// The secret of the QUIC port.
    #[must_use]
    pub fn quic_key(&self) -> PathBuf {
        self.root.join("data").join("quic.key")
    }

    /// The path as messages show it: relative to the directory where it is inside.
    #[must_use]
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// Names of the tenants' folders, sorted. Folders that are no tenant's name are passed over.
    ///
    /// # Errors
    /// Where the folder cannot be read; that it is missing is no error.
    pub fn tenant_names(&self) -> io::Result<Vec<TenantName>> {
        let entries = match fs::read_dir(self.tenants()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(|name| TenantName::parse(name).ok()) else {
                continue;
            };
            if entry.path().is_dir() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Reads a text file of at most `bytes_max`.
///
/// # Errors
/// Where it cannot be read, is larger, or is not UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(bytes_max.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "file too large"));
    }
    Ok(text)
}

/// Replaces a file whole: readers see the old text or the new, never a part, also after a crash.
///
/// # Errors
/// Where the folder cannot be written.
pub fn write_atomically(path: &Path, text: &[u8], secrecy: Secrecy) -> io::Result<()> {
    write_and_rename(path, text, secrecy, true)?.sync_all()
}

/// As [`write_atomically`], but a power cut may undo it until [`sync_below`] is called: for many
/// files at once.
///
/// # Errors
/// Where the folder cannot be written.
pub(crate) fn write_many_atomically(path: &Path, text: &[u8], secrecy: Secrecy) -> io::Result<()> {
    write_and_rename(path, text, secrecy, false).map(drop)
}

/// Puts everything written on this folder's file system on the disk.
///
/// # Errors
/// Where the folder cannot be opened or the disk fails.
pub(crate) fn sync_below(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}

/// Gives the folder, whose entry is not synced yet.
fn write_and_rename(path: &Path, text: &[u8], secrecy: Secrecy, sync: bool) -> io::Result<File> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    make_folder(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.tmp", uuid::Uuid::now_v7().simple()));
    let mode = match secrecy {
        Secrecy::Public => 0o644,
        Secrecy::Secret => 0o600,
    };
    let written = (|| {
        // The umask narrows the mode further, never widens it.
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        File::open(folder)
    })();
    if written.is_err() {
        // The reason for the failure matters, not whether its debris could be removed.
        let _removed = fs::remove_file(&temporary);
    }
    written
}

/// Makes a folder that only the owner may enter, with its parents.
///
/// # Errors
/// Where it cannot be made.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Whether others than the owner may read a file that holds a secret.
#[must_use]
pub fn is_exposed(path: &Path) -> bool {
    const GROUP_AND_OTHERS: u32 = 0o077;
    fs::metadata(path).is_ok_and(|meta| {
        let permissions: Permissions = meta.permissions();
        permissions.mode() & GROUP_AND_OTHERS != 0
    })
}
