//! Fields that belong to one connection only (RFC 9110 section 7.6.1).

use crate::fields::{Field, Fields};

use super::line::trim;

/// Fields that never go on to the next connection. `TE: trailers` is the one exception.
/// `Proxy-Authorization` names the user to this gateway and to nobody else.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Fields that a `Connection` option cannot remove: framing, routing, identity and what policy
/// judges by. Whoever lists them wants the next hop to see another message than we judged.
const END_TO_END: [&str; 16] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "content-disposition",
    "content-range",
    "authorization",
    "cookie",
    "set-cookie",
    "origin",
    "referer",
    "range",
    "expect",
    "cache-control",
    "forwarded",
    "x-forwarded-for",
];

/// The fields of `fields` that stay on this connection.
pub fn hop_by_hop(fields: &Fields) -> impl Iterator<Item = &Field> {
    fields.iter().filter(|field| stays(fields, field))
}

/// Removes what belongs to this connection. Call it before adding fields of our own, which no
/// `Connection` option can then name; a caller that passes an upgrade on reads it first.
pub fn strip_hop_by_hop(fields: &mut Fields) {
    let trailers = lists(fields, "te", "trailers");
    let listed: Vec<bytes::Bytes> = options(fields, "connection")
        .filter(|name| !END_TO_END.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes())))
        .map(bytes::Bytes::copy_from_slice)
        .collect();
    fields.retain(|field| {
        let stays_on = HOP_BY_HOP.iter().any(|name| field.is(name))
            || listed.iter().any(|name| field.name.eq_ignore_ascii_case(name));
        !stays_on || (trailers && field.is("te"))
    });
    if trailers {
        fields.set("TE", bytes::Bytes::from_static(b"trailers"));
    }
}

/// Whether a `Connection` field lists `option`.
#[must_use]
pub fn connection_lists(fields: &Fields, option: &str) -> bool {
    lists(fields, "connection", option)
}

fn stays(fields: &Fields, field: &Field) -> bool {
    if HOP_BY_HOP.iter().any(|name| field.is(name)) {
        return true;
    }
    let kept = END_TO_END.iter().any(|name| field.is(name));
    !kept && options(fields, "connection").any(|name| field.name.eq_ignore_ascii_case(name))
}

fn lists(fields: &Fields, name: &str, option: &str) -> bool {
    options(fields, name).any(|listed| listed.eq_ignore_ascii_case(option.as_bytes()))
}

fn options<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields
        .all(name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(trim)
        .filter(|option| !option.is_empty())
}
