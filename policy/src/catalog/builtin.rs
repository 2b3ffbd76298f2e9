//! The catalog files that come with the program, one per category.

/// `(name, YAML)` of each file.
pub(super) const FILES: &[(&str, &str)] =
    &[("cloud-storage.yaml", include_str!("../../catalog/cloud-storage.yaml"))];
