//! The static table (RFC 7541, appendix A) and the dynamic one of a decoder (section 2.3.2).

use std::collections::VecDeque;

use bytes::Bytes;

/// What each entry counts beyond its bytes (RFC 7541, section 4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;

/// `SETTINGS_HEADER_TABLE_SIZE`: the protocol's default, which every peer may assume anyway.
pub(super) const TABLE_BYTES: usize = 4096;

#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The first static index of a lower-case `name`, or 0.
pub(super) fn static_index(name: &[u8]) -> u8 {
    match name {
        b"accept-charset" => 15,
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"accept-ranges" => 18,
        b"accept" => 19,
        b"access-control-allow-origin" => 20,
        b"age" => 21,
        b"allow" => 22,
        b"authorization" => 23,
        b"cache-control" => 24,
        b"content-disposition" => 25,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-length" => 28,
        b"content-location" => 29,
        b"content-range" => 30,
        b"content-type" => 31,
        b"cookie" => 32,
        b"date" => 33,
        b"etag" => 34,
        b"expect" => 35,
        b"expires" => 36,
        b"from" => 37,
        b"host" => 38,
        b"if-match" => 39,
        b"if-modified-since" => 40,
        b"if-none-match" => 41,
        b"if-range" => 42,
        b"if-unmodified-since" => 43,
        b"last-modified" => 44,
        b"link" => 45,
        b"location" => 46,
        b"max-forwards" => 47,
        b"proxy-authenticate" => 48,
        b"proxy-authorization" => 49,
        b"range" => 50,
        b"referer" => 51,
        b"refresh" => 52,
        b"retry-after" => 53,
        b"server" => 54,
        b"set-cookie" => 55,
        b"strict-transport-security" => 56,
        b"transfer-encoding" => 57,
        b"user-agent" => 58,
        b"vary" => 59,
        b"via" => 60,
        b"www-authenticate" => 61,
        _ => 0,
    }
}

/// What a peer's encoder has asked to remember, newest first.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<(Bytes, Bytes)>,
    size: usize,
    limit: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: TABLE_BYTES }
    }

    /// Name and value at `index`, static ones first, counted from 1.
    pub(super) fn entry(&self, index: usize) -> Option<(Bytes, Bytes)> {
        let index = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(index) {
            let fixed = |text: &'static str| Bytes::from_static(text.as_bytes());
            return Some((fixed(name), fixed(value)));
        }
        self.entries.get(index.checked_sub(STATIC.len())?).cloned()
    }

    /// Adds an entry, evicting from the oldest; one larger than the table empties it
    /// (RFC 7541, section 4.4).
    pub(super) fn insert(&mut self, name: Bytes, value: Bytes) {
        let size = name.len().saturating_add(value.len()).saturating_add(ENTRY_OVERHEAD);
        self.shrink(self.limit.saturating_sub(size.min(self.limit)));
        if size <= self.limit {
            self.size = self.size.saturating_add(size);
            self.entries.push_front((name, value));
        }
    }

    /// Applies a size update; false where `limit` is above what we announced.
    pub(super) fn resize(&mut self, limit: usize) -> bool {
        if limit > TABLE_BYTES {
            return false;
        }
        self.limit = limit;
        self.shrink(limit);
        true
    }

    fn shrink(&mut self, size: usize) {
        while self.size > size {
            let Some((name, value)) = self.entries.pop_back() else { break };
            let freed = name.len().saturating_add(value.len()).saturating_add(ENTRY_OVERHEAD);
            self.size = self.size.saturating_sub(freed);
        }
    }
}
