//! Where a unit's texts come from, and whether they changed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::{Layout, read_text};
use crate::ident::TenantName;

/// Live files, or the copies of what loaded last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Live,
    LastGood,
}

/// Largest configuration text: 10,000 rules of 300 bytes, with room.
pub(super) const TEXT_BYTES_MAX: u64 = 8 << 20;

impl Source {
    /// Reads a file, or its copy of that name in the unit's last-good folder.
    pub(super) fn read(
        self,
        live: &Path,
        copies: &Path,
        copy: &str,
        bytes_max: u64,
    ) -> io::Result<String> {
        match self {
            Self::Live => read_text(live, bytes_max),
            Self::LastGood => read_text(&copies.join(copy), bytes_max),
        }
    }
}

/// Size and times of a unit's files: equal stamps mean unchanged files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<(u64, SystemTime, u64)>>);

impl Stamp {
    pub(super) fn of_gateway(layout: &Layout) -> Self {
        let tunnel = layout.tunnel();
        let files = ["ca.pem", "ca.key", "cert.pem", "cert.key"].map(|name| tunnel.join(name));
        let mut stamp = Self::of(&[layout.gateway_yaml()]);
        stamp.extend(&files);
        stamp
    }

    pub(super) fn of_tenant(layout: &Layout, name: &TenantName) -> Self {
        let folder = layout.tenant(name);
        let files = TENANT_FILES.map(|file| folder.join(file));
        Self::of(&files)
    }

    fn of(files: &[PathBuf]) -> Self {
        let mut stamp = Self::default();
        stamp.extend(files);
        stamp
    }

    /// With more files.
    pub(super) fn and(mut self, files: &[PathBuf]) -> Self {
        self.extend(files);
        self
    }

    fn extend(&mut self, files: &[PathBuf]) {
        use std::os::unix::fs::MetadataExt as _;
        self.0.extend(files.iter().map(|file| {
            let meta = fs::metadata(file).ok()?;
            Some((meta.len(), meta.modified().ok()?, meta.ino()))
        }));
    }
}

/// Every file of a tenant's own folder that has a say.
const TENANT_FILES: [&str; 8] = [
    "tenant.yaml",
    "policy.yaml",
    "revoked.yaml",
    "tokens.csv",
    "ca/intercept.pem",
    "ca/intercept.key",
    "ca/device.pem",
    "ca/device.key",
];
