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
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let same = |part: Option<&[u8]>, wanted: &[u8]| {
        part.is_some_and(|part| part.eq_ignore_ascii_case(wanted))
    };
    match (pattern.strip_prefix(b"*"), pattern.strip_suffix(b"*")) {
        (Some(inner), Some(_)) => {
            let inner = inner.strip_suffix(b"*").unwrap_or_default();
            inner.is_empty() || text.windows(inner.len()).any(|part| same(Some(part), inner))
        }
        (Some(end), None) => {
            same(text.len().checked_sub(end.len()).and_then(|at| text.get(at..)), end)
        }
        (None, Some(start)) => same(text.get(..start.len()), start),
        (None, None) => same(Some(text), pattern),
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
        for (pattern, text, wanted) in [
            ("*.Acme.test", "EU.acme.test", true),
            ("*acme*", "my-ACME-eu", true),
            ("*", "anything", true),
            ("acme", "acme-eu", false),
            ("acme.test", "xacme.test", false),
            ("*longer than it*", "it", false),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
    }
}
