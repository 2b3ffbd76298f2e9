//! What a tenant keeps out of its events is not in any of them.

use serde_json::Value;

use super::{full, line_with, open, walk};
use crate::event::{Disclosure, POP_TENANT, Redaction, TenantSettings};

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

#[test]
fn a_tenant_that_is_not_set_yet_or_any_more_says_nothing_of_people() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let writer = log.writer(0);
    writer.append("acme", &full());
    log.set_tenant("acme", TenantSettings::default());
    writer.append("acme", &full());
    log.forget_tenant("acme");
    writer.append("acme", &full());
    writer.append(POP_TENANT, &full());
    log.close();
    let events = walk(&log.reader(), "acme", None, 10);
    for event in [&events[0], &events[2]] {
        assert_eq!(event["url"], "https://www.example.com/REDACTED");
        for name in ["user", "from_user", "to_user", "client_ip"] {
            assert_eq!(event[name], Value::Null, "{name}");
        }
    }
    assert_eq!(events[1]["user"], "alice@acme.test");
    assert_eq!(events[1]["client_ip"], "198.51.100.7");
    assert_eq!(walk(&log.reader(), POP_TENANT, None, 1)[0]["client_ip"], "198.51.100.7");
}
