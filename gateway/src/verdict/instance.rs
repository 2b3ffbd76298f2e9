//! Whose instance of an app a request goes to: the company's, a private one, or nobody knows.

use crate::config::Instances;
use crate::event::InstanceKind;

/// Judges an instance id that the request shows against what the tenant calls its own.
#[must_use]
pub(super) fn kind(configured: Option<&Instances>, instance: Option<&str>) -> InstanceKind {
    let Some(instance) = instance else { return InstanceKind::Unknown };
    let Some(configured) = configured else { return InstanceKind::Unknown };
    if configured.corporate.iter().any(|pattern| matches(pattern, instance)) {
        return InstanceKind::Corporate;
    }
    // Where the company's own are named, any other that the app shows is not the company's.
    if !configured.corporate.is_empty()
        || configured.personal.iter().any(|pattern| matches(pattern, instance))
    {
        return InstanceKind::Personal;
    }
    InstanceKind::Unknown
}

/// Exact or with `*` at either end, whatever the case.
fn matches(pattern: &str, text: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let text = text.to_ascii_lowercase();
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) => text.contains(pattern.trim_matches('*')),
        (Some(end), None) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => text == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_beside_the_companys_own_is_personal() {
        let own = Instances { corporate: vec!["acme*".to_owned()], personal: Vec::new() };
        assert_eq!(kind(Some(&own), Some("Acme-eu")), InstanceKind::Corporate);
        assert_eq!(kind(Some(&own), Some("other")), InstanceKind::Personal);
        assert_eq!(kind(Some(&own), None), InstanceKind::Unknown);
        assert_eq!(kind(None, Some("other")), InstanceKind::Unknown);
    }
}
