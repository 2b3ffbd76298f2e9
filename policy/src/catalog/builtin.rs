//! The catalog files that come with the program, one per category, of which an app is in the file of its first.

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
    "file-transfer.yaml",
    "paste.yaml",
    "collaboration.yaml",
    "notes.yaml",
    "project-management.yaml",
    "mail.yaml",
    "messaging.yaml",
    "conferencing.yaml",
    "social.yaml",
    "generative-ai.yaml",
    "code-hosting.yaml",
    "developer-platform.yaml",
    "cloud-console.yaml",
    "identity.yaml",
    "password-manager.yaml",
    "crm.yaml",
    "erp.yaml",
    "hr.yaml",
    "customer-support.yaml",
    "e-signature.yaml",
    "design.yaml",
    "finance.yaml",
    "health.yaml",
    "government.yaml",
    "news.yaml",
    "shopping.yaml",
    "streaming.yaml",
    "search.yaml",
    "reference.yaml",
    "education.yaml",
    "travel.yaml",
    "gaming.yaml",
    "security.yaml",
    "update.yaml",
    "remote-access.yaml",
    "anonymizer.yaml",
    "analytics.yaml",
    "advertising.yaml",
    "content-delivery.yaml",
];
