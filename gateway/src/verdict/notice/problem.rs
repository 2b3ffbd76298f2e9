//! The same facts for programs: RFC 9457 problem documents.

use serde_json::json;

use super::{Kind, Notice};

/// The problem document.
pub(super) fn document(notice: &Notice<'_>) -> String {
    let mut document = json!({
        "type": format!("urn:sluice:problem:{}", notice.kind.name()),
        "title": title(notice.kind),
        "status": notice.status,
        "instance": format!("urn:uuid:{}", notice.reference),
        "reference": notice.reference.to_string(),
        "host": notice.host,
    });
    let known = [
        ("detail", notice.message),
        ("app", notice.app),
        ("activity", notice.activity),
        ("rule", notice.rule),
        ("error", notice.label),
        ("contact", notice.contact),
        ("proceed", notice.proceed),
    ];
    if let Some(document) = document.as_object_mut() {
        for (name, value) in known {
            if let Some(value) = value {
                document.insert(name.to_owned(), value.into());
            }
        }
    }
    format!("{document:#}\n")
}

/// What happened, in a few words.
pub(super) fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Blocked => "Blocked by policy",
        Kind::Coached => "Needs a justification",
        Kind::Fault => "The site's certificate cannot be trusted",
        Kind::Failed => "The request could not be carried out",
    }
}
