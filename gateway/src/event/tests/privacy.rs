//! What a tenant keeps out of its events is not in any of them.

use serde_json::Value;

use super::{full, line_with};
use crate::event::{Disclosure, Redaction};

fn event(redaction: &Redaction) -> Value {
    serde_json::from_str(&line_with(&full(), redaction)).unwrap()
}

#[test]
fn users_and_addresses_are_dropped_or_pseudonyms() {
    let dropped = Redaction::default().disclosing(Disclosure::Drop, Disclosure::Drop, None);
    let line = line_with(&full(), &dropped);
    assert!(!line.contains("alice") && !line.contains("\"client_ip\""), "{line}");

    let hashing = |key: &[u8]| {
        event(&Redaction::default().disclosing(Disclosure::Hash, Disclosure::Hash, Some(key)))
    };
    let (one, same, other) = (hashing(b"key one"), hashing(b"key one"), hashing(b"key two"));
    for name in ["user", "from_user", "client_ip"] {
        let text = one[name].as_str().unwrap();
        assert!(text.starts_with("hash:") && text.len() == 37, "{text}");
        assert_eq!(one[name], same[name]);
        assert_ne!(one[name], other[name]);
    }
    assert_eq!(one["user"], one["from_user"], "the same person in both");
    // Without its key a pseudonym would be a plain hash that anybody can search.
    let keyless = event(&Redaction::default().disclosing(Disclosure::Hash, Disclosure::Keep, None));
    assert_eq!((&keyless["user"], &keyless["client_ip"]), (&Value::Null, &"198.51.100.7".into()));
}

#[test]
fn paths_that_tell_too_much_are_kept_out() {
    let redaction = Redaction::default().without_paths(["www.example.com/up*", "*/secret"]);
    assert_eq!(event(&redaction)["url"], "https://www.example.com/REDACTED");
    for (url, clean) in [
        ("https://a:b@x.test/of/Secret?q=1", "https://x.test/REDACTED"),
        ("https://x.test/secrets", "https://x.test/secrets"),
        (
            "https://www.example.com/download?token=x",
            "https://www.example.com/download?token=REDACTED",
        ),
    ] {
        assert_eq!(redaction.url(url), clean);
    }
}
