//! The hop-by-hop rules (RFC 9110 section 7.6.1) as the test applies them to what was seen direct.

use super::origin::MARK;
use super::seen::Seen;
use super::shape::Pairs;

const CONNECTION_FIELDS: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
    "http2-settings",
];

/// What of `fields` goes on to the next connection.
pub fn end_to_end(fields: &Pairs) -> Pairs {
    let listed: Vec<String> = fields
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"))
        .flat_map(|(_, value)| {
            let value = String::from_utf8_lossy(value).to_ascii_lowercase();
            value.split(',').map(|it| it.trim().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    let stays = |name: &[u8], value: &[u8]| {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if name == "te" {
            return !value.eq_ignore_ascii_case(b"trailers");
        }
        CONNECTION_FIELDS.contains(&name.as_str()) || listed.contains(&name)
    };
    fields.iter().filter(|(name, value)| !stays(name, value)).cloned().collect()
}

/// `seen` without what belongs to its connection, and without the lane's own mark.
pub fn stripped(seen: &Seen) -> Seen {
    let mut seen = seen.clone();
    seen.fields = end_to_end(&seen.fields);
    for (name, value) in &mut seen.fields {
        if name.eq_ignore_ascii_case(MARK.as_bytes()) {
            *value = b"*".to_vec();
        }
    }
    for (_, _, fields) in &mut seen.interim {
        *fields = end_to_end(fields);
    }
    seen
}
