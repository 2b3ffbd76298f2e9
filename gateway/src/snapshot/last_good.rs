//! Copies of each unit's texts as they last loaded, for a start with a broken configuration.

use std::fs;
use std::path::{Path, PathBuf};

use super::{GatewayUnit, Tenant};
use crate::config::{Layout, Secrecy, write_atomically};
use crate::ident::TenantName;

pub(super) fn tenant_folder(layout: &Layout, name: &TenantName) -> PathBuf {
    layout.last_good().join("tenants").join(name.as_str())
}

pub(super) fn keep_gateway(layout: &Layout, unit: &GatewayUnit) {
    for (name, text) in &unit.texts {
        keep(&layout.last_good().join(name), text);
    }
}

/// Keeps a tenant's texts and lets go of them in memory.
pub(super) fn keep_tenant(layout: &Layout, tenant: &Tenant) {
    let folder = tenant_folder(layout, &tenant.name);
    for (name, text) in std::mem::take(&mut *tenant.texts.lock()) {
        keep(&folder.join(name), &text);
    }
}

pub(super) fn forget_tenant(layout: &Layout, name: &TenantName) {
    let folder = tenant_folder(layout, name);
    if folder.exists() {
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::warn!(tenant = %name, %error, "last good copy not removed");
        }
    }
}

/// A failure here costs the next start its fallback, not this one its configuration.
fn keep(path: &Path, text: &str) {
    if fs::read(path).is_ok_and(|kept| kept == text.as_bytes()) {
        return;
    }
    if let Err(error) = write_atomically(path, text.as_bytes(), Secrecy::Secret) {
        tracing::warn!(path = %path.display(), %error, "last good copy not kept");
    }
}
