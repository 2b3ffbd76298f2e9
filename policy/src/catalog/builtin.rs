//! The catalog files that come with the program, one per category.

/// Names a file of the catalog and embeds it.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../catalog/", $name)))),*]
    };
}

/// `(name, YAML)` of each file.
pub(super) const FILES: &[(&str, &str)] = files![
    "cloud-storage.yaml",
    "object-storage.yaml",
    "collaboration.yaml",
    "mail.yaml",
    "generative-ai.yaml",
    "code-hosting.yaml",
    "messaging.yaml",
    "conferencing.yaml",
    "project-management.yaml",
    "notes.yaml",
    "crm.yaml",
];
