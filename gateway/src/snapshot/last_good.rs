//! Copies of each unit's texts as they last loaded, for a start with a broken configuration.

use std::fs;
use std::path::{Path, PathBuf};

use super::lists::Lists;
use super::{GatewayUnit, Tenant};
use crate::config::{Layout, Secrecy, sync_below, write_atomically, write_many_atomically};
use crate::ident::TenantName;

pub(super) fn tenant_folder(layout: &Layout, name: &TenantName) -> PathBuf {
    layout.last_good().join("tenants").join(name.as_str())
}

/// Where lists are kept, each once, under its digest.
pub(super) fn lists_folder(layout: &Layout) -> PathBuf {
    layout.last_good().join("lists")
}

/// The copies of a tenant's lists, in order.
pub(super) fn list_files(layout: &Layout, copies: &Path) -> Vec<PathBuf> {
    let names = fs::read_to_string(copies.join(LISTS)).unwrap_or_default();
    let known = names.lines().filter(|name| crate::ident::hex::decode(name).is_some());
    known.map(|name| lists_folder(layout).join(name)).collect()
}

/// Names the digests of a tenant's lists, one a line.
const LISTS: &str = "lists.txt";

pub(super) fn keep_gateway(layout: &Layout, unit: &GatewayUnit) {
    for (name, text) in &unit.texts {
        keep(&layout.last_good().join(name), text, Sync::Now);
    }
}

/// When copies reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    Now,
    /// With [`sync`], once for many tenants.
    Later,
}

/// Keeps a tenant's texts and lets go of them in memory.
pub(super) fn keep_tenant(layout: &Layout, tenant: &Tenant, sync: Sync) {
    let folder = tenant_folder(layout, &tenant.name);
    for (name, text) in std::mem::take(&mut *tenant.texts.lock()) {
        keep(&folder.join(name), &text, sync);
    }
    let mut names = String::new();
    for (list, digest) in tenant.config.lists.iter().zip(&tenant.list_digests) {
        Lists::keep(&lists_folder(layout), &list.file, digest);
        names.push_str(&crate::ident::hex::encode(digest));
        names.push('\n');
    }
    if !names.is_empty() {
        keep(&folder.join(LISTS), &names, sync);
    }
}

/// Puts all copies on the disk.
pub(super) fn sync(layout: &Layout) {
    if let Err(error) = sync_below(&layout.last_good()) {
        tracing::warn!(%error, "last good copies may not survive a power cut");
    }
}

pub(super) fn forget_tenant(layout: &Layout, name: &TenantName) {
    let folder = tenant_folder(layout, name);
    if folder.exists()
        && let Err(error) = fs::remove_dir_all(&folder)
    {
        tracing::warn!(tenant = %name, %error, "last good copy not removed");
    }
}

/// A failure here costs the next start its fallback, not this one its configuration.
fn keep(path: &Path, text: &str, sync: Sync) {
    if fs::read(path).is_ok_and(|kept| kept == text.as_bytes()) {
        return;
    }
    let write = match sync {
        Sync::Now => write_atomically,
        Sync::Later => write_many_atomically,
    };
    if let Err(error) = write(path, text.as_bytes(), Secrecy::Secret) {
        tracing::warn!(path = %path.display(), %error, "last good copy not kept");
    }
}
