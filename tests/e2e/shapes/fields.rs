//! Fields of requests: values, names, numbers, cookies, hop-by-hop.

use crate::differential::shape::Framing::Sized;
use crate::differential::shape::{Shape, V, ask, bytes, get};

/// Request fields that browsers and programs send, odd ones among them.
const REQUEST_FIELDS: &[(&str, &[(&str, &str)])] = &[
    ("empty-value", &[("X-Empty", ""), ("X-After", "1")]),
    ("case", &[("X-CamelCase", "a"), ("x-lower", "b"), ("X-UPPER", "c"), ("x-MiXeD", "d")]),
    ("twice", &[("X-Twice", "1"), ("X-Twice", "2"), ("X-Twice", "1")]),
    ("twice-apart", &[("X-Twice", "1"), ("X-Other", "o"), ("x-twice", "2"), ("X-Last", "l")]),
    ("order", &[("Z", "1"), ("A", "2"), ("M", "3"), ("B", "4"), ("Y", "5")]),
    ("token-names", &[("X!#$%&'*+-.^_`|~", "odd"), ("_", "u"), ("1", "n"), ("X_Under", "s")]),
    ("under-and-dash", &[("X-Real-IP", "192.0.2.1"), ("X_Real_IP", "192.0.2.2")]),
    ("quoted", &[("X-Q", "\"a\\\"b\", 'c', (d (e))")]),
    ("tab-inside", &[("X-Tab", "a\tb\t\tc")]),
    ("spaces-inside", &[("X-Spaces", "a  b   c")]),
    ("commas", &[("X-Commas", ",a,,b,")]),
    ("punctuation", &[("X-P", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")]),
    ("accept", &[("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")]),
    ("accept-encoding", &[("Accept-Encoding", "gzip, deflate, br, zstd, dcb, dcz, unheard-of")]),
    ("accept-encoding-identity", &[("Accept-Encoding", "identity;q=1, *;q=0")]),
    ("accept-encoding-empty", &[("Accept-Encoding", "")]),
    (
        "dictionary",
        &[
            ("Available-Dictionary", ":pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=:"),
            ("Dictionary-ID", "\"v1\""),
        ],
    ),
    ("range", &[("Range", "bytes=0-9")]),
    ("range-suffix", &[("Range", "bytes=-500")]),
    ("range-many", &[("Range", "bytes=0-0,5-9, -1"), ("If-Range", "\"etag\"")]),
    ("range-unit", &[("Range", "lines=1-2")]),
    (
        "conditional",
        &[
            ("If-None-Match", "W/\"a\", \"b\""),
            ("If-Modified-Since", "Sat, 29 Oct 1994 19:43:31 GMT"),
        ],
    ),
    (
        "conditional-odd-date",
        &[("If-Modified-Since", "Saturday, 29-Oct-94 19:43:31 GMT; length=1")],
    ),
    ("if-match", &[("If-Match", "*"), ("If-Unmodified-Since", "0")]),
    ("cache", &[("Cache-Control", "no-cache, max-age=0"), ("Pragma", "no-cache")]),
    ("priority", &[("Priority", "u=1, i")]),
    ("priority-odd", &[("Priority", "u=9, foo=bar;x, i=?0")]),
    ("te-trailers", &[("X-Before", "b"), ("TE", "trailers"), ("X-Behind", "a")]),
    ("authorization", &[("Authorization", "Bearer a.b.c")]),
    ("authorization-basic", &[("Authorization", "Basic dXNlcjpwYXNz")]),
    ("cookie", &[("Cookie", "a=1; b=2; c=\"q\"; d")]),
    ("cookie-odd", &[("Cookie", "=x; ;a==b;c=d,e; f=\u{e9}")]),
    ("cookie-crumbs", &[("Cookie", "a=1"), ("X-Mid", "m"), ("Cookie", "b=2"), ("Cookie", "c=3")]),
    (
        "fetch-metadata",
        &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors"), ("Sec-GPC", "1")],
    ),
    (
        "client-hints",
        &[
            ("Sec-CH-UA", "\"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\""),
            ("Device-Memory", "8"),
        ],
    ),
    ("origin", &[("Origin", "null"), ("Referer", "https://elsewhere.test/a?b#")]),
    (
        "forwarded",
        &[
            ("Forwarded", "for=192.0.2.1;proto=https"),
            ("X-Forwarded-For", "192.0.2.1, 198.51.100.2"),
            ("Via", "1.1 inner"),
        ],
    ),
    ("max-forwards", &[("Max-Forwards", "0")]),
    ("user-agent", &[("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36")]),
    ("from-date", &[("Date", "Wed, 25 Nov 2026 00:00:00 GMT"), ("From", "alice@acme.test")]),
    ("upgrade-insecure", &[("Upgrade-Insecure-Requests", "1"), ("DNT", "1")]),
    (
        "traceparent",
        &[
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", "a=b"),
        ],
    ),
    (
        "grpc",
        &[
            ("Content-Type", "application/grpc+proto"),
            ("grpc-timeout", "1S"),
            ("grpc-encoding", "gzip"),
            ("TE", "trailers"),
            ("key-bin", "AAECAw"),
        ],
    ),
    (
        "signature",
        &[
            ("Signature-Input", "sig1=(\"@method\" \"@path\");created=1"),
            ("Signature", "sig1=:AAAA:"),
        ],
    ),
    (
        "digest",
        &[
            ("Content-Digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
            ("Want-Repr-Digest", "sha-512=3"),
        ],
    ),
    ("early-data", &[("Early-Data", "1")]),
    ("alt-used", &[("Alt-Used", "other.test:443")]),
    (
        "preflight",
        &[("Access-Control-Request-Method", "PUT"), ("Access-Control-Request-Headers", "x-a,x-b")],
    ),
    ("soap", &[("SOAPAction", "\"\""), ("Content-Type", "text/xml; charset=\"utf-8\"")]),
    ("depth", &[("Depth", "infinity"), ("Destination", "https://one.test/b"), ("Overwrite", "F")]),
    ("icy", &[("Icy-MetaData", "1")]),
    ("apns", &[("apns-id", "eabeae54"), ("apns-push-type", "alert")]),
    (
        "connection-keep-alive",
        &[("Connection", "keep-alive"), ("Keep-Alive", "timeout=5, max=100")],
    ),
    (
        "connection-lists",
        &[("Connection", "X-Hop, keep-alive"), ("X-Hop", "gone"), ("X-Stays", "s")],
    ),
    (
        "connection-lists-twice",
        &[
            ("Connection", "x-hop"),
            ("Connection", "X-Hop2 ,, close-not"),
            ("X-Hop", "1"),
            ("X-Hop2", "2"),
        ],
    ),
    ("connection-protected", &[("Connection", "cookie"), ("Cookie", "a=1")]),
    ("connection-close", &[("Connection", "close")]),
    ("proxy-connection", &[("Proxy-Connection", "keep-alive")]),
    ("te-other", &[("Connection", "TE"), ("TE", "gzip;q=0.5")]),
];

pub fn shapes() -> Vec<Shape> {
    let mut all: Vec<Shape> = REQUEST_FIELDS
        .iter()
        .map(|(name, fields)| {
            fields.iter().fold(get(format!("request-{name}")), |shape, (field, value)| {
                shape.field(field, value)
            })
        })
        .collect();
    all.extend(bytes_beyond_ascii());
    all.extend(numbers());
    all
}

fn bytes_beyond_ascii() -> Vec<Shape> {
    let every: Vec<u8> = (0x80..=0xff).collect();
    vec![
        get("request-utf8").field("X-Name", "f\u{fc}r \u{20ac} \u{1f600}"),
        get("request-latin1").field("X-Name", b"caf\xe9"),
        get("request-obs-text").field("X-Every", &every),
        get("request-broken-utf8").field("X-Broken", b"a\xc3(\xff\xfe"),
        get("request-cookie-latin1").field("Cookie", b"name=caf\xe9; b=\xff"),
        get("request-obs-text-edges").field("X-Edge", b"\xa0inside\xa0"),
    ]
}

fn numbers() -> Vec<Shape> {
    let many = |count: usize| {
        (0..count).fold(get(format!("request-fields-{count}")), |shape, at| {
            shape.field(format!("X-Field-{at}"), format!("value {at}"))
        })
    };
    let same = (0..100)
        .fold(get("request-same-field-100"), |shape, at| shape.field("X-Same", at.to_string()));
    let crumbs = (0..100)
        .fold(get("request-crumbs-100"), |shape, at| shape.field("Cookie", format!("c{at}=v{at}")));
    let cookie = |kib: usize| {
        let value = format!("c={}", "x".repeat(kib * 1024 - 2));
        get(format!("request-cookie-{kib}k")).field("Cookie", value)
    };
    // As browsers send a full jar over HTTP/2: 16 cookies of 4 KiB.
    let jar = (0..16).fold(get("request-cookie-jar-64k"), |shape, at| {
        shape.field("Cookie", format!("c{at:02}={}", "x".repeat(4_092)))
    });
    let long_name = "X-".to_owned() + &"N".repeat(1_000);
    vec![
        many(50),
        many(100),
        many(240),
        same,
        crumbs,
        cookie(4),
        cookie(16),
        cookie(32),
        cookie(48),
        cookie(64),
        jar.from(V::Two),
        get("request-long-name").field(long_name, "1"),
        get("request-long-value").field("X-Long", "v".repeat(30_000)),
        get("request-long-token")
            .field("Authorization", format!("Negotiate {}", "A".repeat(48_000))),
        ask("request-content-fields", "PUT", "/file")
            .field("Content-Type", "application/x-unknown; charset=\"odd\"")
            .field("Content-Language", "de, x-klingon")
            .field("Content-Location", "/other")
            .field("Content-Encoding", "unheard-of")
            .field("Content-Range", "bytes 0-6/100")
            .sends(Sized, vec![bytes("content")]),
    ]
}
