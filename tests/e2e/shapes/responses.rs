//! Heads of responses: statuses, reasons, fields, interim responses.

use crate::differential::shape::Framing::{Chunked, None as Empty, Sized};
use crate::differential::shape::{Piece, Shape, V, ask, bytes, get, post};

const STATUSES: &[(u16, &str)] = &[
    (200, "OK"),
    (201, "Created"),
    (202, "Accepted"),
    (203, "Non-Authoritative Information"),
    (206, "Partial Content"),
    (207, "Multi-Status"),
    (208, "Already Reported"),
    (218, "This is fine"),
    (226, "IM Used"),
    (299, "Odd"),
    (300, "Multiple Choices"),
    (301, "Moved Permanently"),
    (302, "Found"),
    (303, "See Other"),
    (305, "Use Proxy"),
    (307, "Temporary Redirect"),
    (308, "Permanent Redirect"),
    (399, "Odd"),
    (400, "Bad Request"),
    (401, "Unauthorized"),
    (402, "Payment Required"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (406, "Not Acceptable"),
    (407, "Proxy Authentication Required"),
    (408, "Request Timeout"),
    (409, "Conflict"),
    (410, "Gone"),
    (411, "Length Required"),
    (412, "Precondition Failed"),
    (413, "Content Too Large"),
    (414, "URI Too Long"),
    (415, "Unsupported Media Type"),
    (416, "Range Not Satisfiable"),
    (417, "Expectation Failed"),
    (418, "I'm a teapot"),
    (421, "Misdirected Request"),
    (422, "Unprocessable Content"),
    (423, "Locked"),
    (424, "Failed Dependency"),
    (425, "Too Early"),
    (426, "Upgrade Required"),
    (428, "Precondition Required"),
    (429, "Too Many Requests"),
    (431, "Request Header Fields Too Large"),
    (451, "Unavailable For Legal Reasons"),
    (460, "Client Closed"),
    (499, "Odd"),
    (500, "Internal Server Error"),
    (501, "Not Implemented"),
    (502, "Bad Gateway"),
    (503, "Service Unavailable"),
    (504, "Gateway Timeout"),
    (505, "HTTP Version Not Supported"),
    (507, "Insufficient Storage"),
    (508, "Loop Detected"),
    (511, "Network Authentication Required"),
    (520, "Odd"),
    (530, "Odd"),
    (599, "Odd"),
    (600, "Beyond"),
    (700, "Beyond"),
    (999, "Request denied"),
];

/// Response fields that sites send, odd ones among them.
const FIELDS: &[(&str, &[(&str, &str)])] = &[
    ("case", &[("X-CamelCase", "a"), ("x-lower", "b"), ("SERVER", "Odd/1.0"), ("ETag", "\"x\"")]),
    ("empty-value", &[("X-Empty", ""), ("X-After", "1")]),
    (
        "order",
        &[
            ("Z", "1"),
            ("A", "2"),
            ("M", "3"),
            ("Date", "Wed, 25 Nov 2026 00:00:00 GMT"),
            ("B", "4"),
        ],
    ),
    ("twice", &[("X-Twice", "1"), ("X-Twice", "2"), ("X-Twice", "1")]),
    ("twice-apart", &[("X-Twice", "1"), ("X-Mid", "m"), ("x-twice", "2"), ("X-Last", "l")]),
    ("set-cookie", &[("Set-Cookie", "a=1; Path=/; Secure; HttpOnly; SameSite=None; Partitioned")]),
    (
        "set-cookie-many",
        &[
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("X-Mid", "m"),
            ("Set-Cookie", "a=1"),
            ("set-cookie", "c=3"),
        ],
    ),
    (
        "set-cookie-dates",
        &[
            ("Set-Cookie", "a=1; Expires=Wed, 25-Nov-26 00:00:00 GMT"),
            ("Set-Cookie", "b=2; expires=Wed Nov 25 00:00:00 2026"),
            ("Set-Cookie", "c=3; Expires=0"),
            ("Set-Cookie", "d=4; Expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=-1"),
            ("Set-Cookie", "e=5; Expires=Wed, 31 Feb 2099 25:61:61 +0100"),
            ("Set-Cookie", "=f; ; Domain=.one.test"),
        ],
    ),
    ("hsts", &[("Strict-Transport-Security", "max-age=63072000; includeSubDomains; preload")]),
    (
        "hsts-odd",
        &[
            ("Strict-Transport-Security", "max-age=0"),
            ("Strict-Transport-Security", "max-age=\"1\""),
        ],
    ),
    ("alt-svc-clear", &[("Alt-Svc", "clear")]),
    ("alt-svc-h2", &[("Alt-Svc", "h2=\":443\"; ma=86400; persist=1")]),
    (
        "link",
        &[
            (
                "Link",
                "</a.css>; rel=preload; as=style, <https://cdn.test/b.js>; rel=\"preload\"; as=script",
            ),
            ("Link", "</c>; rel=next"),
        ],
    ),
    ("vary", &[("Vary", "Accept-Encoding, Cookie"), ("Vary", "*")]),
    (
        "disposition",
        &[(
            "Content-Disposition",
            "attachment; filename=\"a b.txt\"; filename*=UTF-8''%e2%82%ac%20rates.txt",
        )],
    ),
    (
        "disposition-odd",
        &[("Content-Disposition", "attachment; filename=a;b.txt; filename*=iso-8859-1'en'%A3")],
    ),
    (
        "csp",
        &[
            (
                "Content-Security-Policy",
                "default-src 'self'; script-src 'nonce-abc' https:; report-uri /r",
            ),
            ("Content-Security-Policy-Report-Only", "img-src *"),
        ],
    ),
    (
        "cors",
        &[("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", "x-a, x-b")],
    ),
    (
        "isolation",
        &[
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Embedder-Policy", "require-corp"),
            ("Origin-Agent-Cluster", "?1"),
        ],
    ),
    (
        "cache",
        &[
            ("Cache-Control", "public, max-age=31536000, immutable, stale-while-revalidate=60"),
            ("Expires", "-1"),
            ("Age", "0"),
            ("Pragma", "no-cache"),
        ],
    ),
    (
        "cache-status",
        &[("Cache-Status", "a; hit; ttl=1, b; fwd=miss"), ("CDN-Cache-Control", "max-age=1")],
    ),
    (
        "etag-weak",
        &[("ETag", "W/\"odd\\\"\""), ("Last-Modified", "Saturday, 29-Oct-94 19:43:31 GMT")],
    ),
    ("retry-after", &[("Retry-After", "120")]),
    ("location-relative", &[("Location", "../a?b=c#frag")]),
    ("location-absolute", &[("Location", "http://one.test:80/%7e?x=<y>")]),
    ("refresh", &[("Refresh", "0; url=/next")]),
    (
        "www-authenticate",
        &[
            ("WWW-Authenticate", "Basic realm=\"a, b\", Digest realm=\"c\", nonce=\"d\""),
            ("WWW-Authenticate", "Bearer"),
        ],
    ),
    ("use-as-dictionary", &[("Use-As-Dictionary", "match=\"/js/*\", id=\"v1\"")]),
    (
        "server-timing",
        &[("Server-Timing", "db;dur=53, app;desc=\"x\""), ("Timing-Allow-Origin", "*")],
    ),
    (
        "report",
        &[
            ("Reporting-Endpoints", "a=\"https://r.test/\""),
            ("NEL", "{\"report_to\":\"a\",\"max_age\":1}"),
        ],
    ),
    ("hpkp", &[("Public-Key-Pins", "pin-sha256=\"AAAA\"; max-age=1"), ("Expect-CT", "max-age=0")]),
    ("accept-ch", &[("Accept-CH", "Sec-CH-UA-Platform"), ("Critical-CH", "Sec-CH-UA-Platform")]),
    (
        "x-fields",
        &[
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "ALLOW-FROM x"),
            ("X-XSS-Protection", "0"),
            ("X-Powered-By", "PHP/5.2"),
        ],
    ),
    (
        "content-type-odd",
        &[
            ("Content-Type", "text/html;charset=utf-8;;charset=iso-8859-1"),
            ("Content-Type", "text/plain"),
        ],
    ),
    ("content-type-none", &[("Content-Language", "en"), ("Content-Location", "x")]),
    ("accept-ranges", &[("Accept-Ranges", "bytes"), ("Content-MD5", "Q2hlY2sgSW50ZWdyaXR5IQ==")]),
    ("priority", &[("Priority", "u=5, i=?0")]),
    ("via", &[("Via", "1.1 a, 1.0 b (x)"), ("X-Cache", "MISS")]),
    ("proxy-status", &[("Proxy-Status", "other; error=http_request_error")]),
    ("token-names", &[("X!#$%&'*+-.^_`|~", "odd"), ("_", "u"), ("1", "n")]),
    ("punctuation", &[("X-P", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")]),
    ("tabs-and-spaces", &[("X-T", "a\tb  c")]),
    ("sourcemap", &[("SourceMap", "/a.map"), ("Service-Worker-Allowed", "/")]),
    ("connection-close", &[("Connection", "close")]),
    ("keep-alive", &[("Connection", "Keep-Alive"), ("Keep-Alive", "timeout=5, max=1000")]),
    ("connection-lists", &[("Connection", "X-Hop"), ("X-Hop", "gone"), ("X-Stays", "s")]),
    ("upgrade-offer", &[("Connection", "Upgrade"), ("Upgrade", "h2,h2c")]),
    ("proxy-authenticate", &[("X-A", "1")]),
    ("tunnel-looks", &[("X-Accel-Redirect", "/i"), ("X-Sendfile", "/etc/passwd")]),
    (
        "grpc",
        &[
            ("Content-Type", "application/grpc"),
            ("grpc-encoding", "identity"),
            ("grpc-accept-encoding", "gzip"),
        ],
    ),
    ("clear-site-data", &[("Clear-Site-Data", "\"cache\", \"cookies\"")]),
    ("speculation", &[("Speculation-Rules", "\"/s.json\""), ("No-Vary-Search", "params")]),
];

/// Reason phrases that odd servers send.
const REASONS: &[(&str, &[u8])] = &[
    ("empty", b""),
    ("odd", b"Everything is Fine; really"),
    ("long", b"a reason that goes on and on and on and on and on and on and on and on and on"),
    ("latin1", b"Kein Zugriff f\xfcr Sie"),
    ("utf8", "\u{41e}\u{43a}".as_bytes()),
    ("tab", b"O\tK"),
    ("digits", b"200 200"),
    ("lower", b"ok"),
];

pub fn shapes() -> Vec<Shape> {
    let mut all = Vec::new();
    for (status, reason) in STATUSES {
        all.push(get(format!("status-{status}")).status(*status, reason));
    }
    for (name, fields) in FIELDS {
        all.push(fields.iter().fold(get(format!("response-{name}")), |shape, (field, value)| {
            shape.replies(field, value)
        }));
    }
    for (name, reason) in REASONS {
        all.push(get(format!("reason-{name}")).status(200, reason));
    }
    all.extend(bodiless());
    all.extend(ranges());
    all.extend(interims());
    all.extend(large());
    all.extend(raws());
    all
}

fn bodiless() -> Vec<Shape> {
    let head = |name: &str| ask(name, "HEAD", "/");
    vec![
        head("head-sized").gives(Sized, vec![Piece::Fill(5_000)]),
        head("head-zero").gives(Sized, vec![]),
        head("head-chunked").gives(Chunked, vec![bytes("x")]),
        head("head-nothing").gives(Empty, vec![]),
        head("head-404").status(404, "Not Found").gives(Sized, vec![bytes("none")]),
        head("head-304").bare(304, "Not Modified"),
        get("not-modified").bare(304, "Not Modified").replies("ETag", "\"x\""),
        get("not-modified-length").bare(304, "Not Modified").replies("Content-Length", "1234"),
        get("not-modified-cookie").bare(304, "Not Modified").replies("Set-Cookie", "a=1"),
        get("no-content-fields")
            .bare(204, "No Content")
            .replies("X-A", "1")
            .replies("Allow", "GET"),
        get("no-content-length").bare(204, "No Content").replies("Content-Length", "0"),
        get("reset-content").status(205, "Reset Content").gives(Sized, vec![]),
        get("redirect-empty").status(302, "Found").replies("Location", "/x").gives(Sized, vec![]),
        get("redirect-body").status(301, "Moved Permanently").replies("Location", "/x"),
        ask("options-allow", "OPTIONS", "/").replies("Allow", "GET, POST").gives(Sized, vec![]),
    ]
}

fn ranges() -> Vec<Shape> {
    let part = "--sep\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-4/20\r\n\r\nhello\r\n\
                --sep\r\nContent-Range: bytes 10-14/20\r\n\r\nworld\r\n--sep--\r\n";
    vec![
        get("range-206")
            .field("Range", "bytes=0-4")
            .status(206, "Partial Content")
            .replies("Content-Range", "bytes 0-4/20")
            .gives(Sized, vec![bytes("hello")]),
        get("range-unknown-length")
            .field("Range", "bytes=0-4")
            .status(206, "Partial Content")
            .replies("Content-Range", "bytes 0-4/*")
            .gives(Chunked, vec![bytes("hello")]),
        get("range-multipart")
            .field("Range", "bytes=0-4,10-14")
            .status(206, "Partial Content")
            .replies("Content-Type", "multipart/byteranges; boundary=sep")
            .gives(Sized, vec![bytes(part)]),
        get("range-multipart-chunked")
            .field("Range", "bytes=0-4,10-14")
            .status(206, "Partial Content")
            .replies("Content-Type", "multipart/byteranges; boundary=sep")
            .gives(Chunked, vec![bytes(part)]),
        get("range-416")
            .field("Range", "bytes=900-")
            .status(416, "Range Not Satisfiable")
            .replies("Content-Range", "bytes */20")
            .gives(Sized, vec![]),
        get("range-ignored")
            .field("Range", "bytes=0-4")
            .gives(Sized, vec![bytes("whole body here")]),
        get("range-gzip")
            .field("Range", "bytes=0-4")
            .status(206, "Partial Content")
            .replies("Content-Encoding", "gzip")
            .replies("Content-Range", "bytes 0-4/20")
            .gives(Sized, vec![bytes(b"\x1f\x8b\x08\x00\x00")]),
        ask("range-head", "HEAD", "/")
            .field("Range", "bytes=0-4")
            .status(206, "Partial Content")
            .replies("Content-Range", "bytes 0-4/20")
            .gives(Sized, vec![bytes("hello")]),
    ]
}

fn interims() -> Vec<Shape> {
    let link = ("Link", "</style.css>; rel=preload; as=style");
    let nineteen =
        (0..19).fold(get("interim-19"), |shape, _| shape.interim(103, "Early Hints", &[link]));
    vec![
        get("interim-100-unasked").interim(100, "Continue", &[]),
        get("interim-102").interim(102, "Processing", &[]),
        get("interim-103").interim(103, "Early Hints", &[link]),
        get("interim-103-twice").interim(103, "Early Hints", &[link]).interim(
            103,
            "Early Hints",
            &[("Link", "</b.js>; rel=preload"), ("X-Other", "1")],
        ),
        get("interim-103-case").interim(
            103,
            "Early Hints",
            &[("LINK", "</a>; rel=preload"), ("link", "</b>; rel=preload")],
        ),
        get("interim-mixed").interim(100, "Continue", &[]).interim(102, "Processing", &[]).interim(
            103,
            "Early Hints",
            &[link],
        ),
        get("interim-104").interim(
            104,
            "Upload Resumption Supported",
            &[("Upload-Offset", "5"), ("Location", "/u/1")],
        ),
        get("interim-unknown").interim(150, "Odd", &[("X-A", "1")]).interim(199, "Odder", &[]),
        get("interim-reason").interim(103, "Hints, early ones", &[link]),
        get("interim-reason-empty").interim(103, "", &[link]),
        nineteen,
        ask("interim-head", "HEAD", "/").interim(103, "Early Hints", &[link]),
        post("interim-upload", Sized, "data").interim(103, "Early Hints", &[link]),
        get("interim-before-304").interim(103, "Early Hints", &[link]).bare(304, "Not Modified"),
        get("interim-before-404").interim(102, "Processing", &[]).status(404, "Not Found"),
        get("interim-set-cookie").interim(
            103,
            "Early Hints",
            &[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")],
        ),
        get("interim-csp").interim(
            103,
            "Early Hints",
            &[("Content-Security-Policy", "style-src 'self'"), link],
        ),
    ]
}

fn large() -> Vec<Shape> {
    let many = |count: usize| {
        (0..count).fold(get(format!("response-fields-{count}")), |shape, at| {
            shape.replies(format!("X-Field-{at}"), format!("value {at}"))
        })
    };
    let cookies = (0..60).fold(get("response-set-cookie-60"), |shape, at| {
        shape.replies("Set-Cookie", format!("c{at}={}; Path=/", "y".repeat(1_000)))
    });
    let every: Vec<u8> = (0x80..=0xff).collect();
    vec![
        many(100),
        many(400),
        cookies,
        get("response-long-value").replies("Content-Security-Policy", "s".repeat(60_000)),
        get("response-very-long-value").replies("X-Long", "l".repeat(200_000)),
        get("response-long-name").replies("X-".to_owned() + &"N".repeat(1_000), "1"),
        get("response-utf8").replies("X-Name", "f\u{fc}r \u{20ac}"),
        get("response-latin1").replies("Content-Disposition", b"attachment; filename=caf\xe9.txt"),
        get("response-obs-text").replies("X-Every", &every),
        get("response-broken-utf8").replies("Location", b"/caf\xe9\xff"),
        get("response-cookie-latin1").replies("Set-Cookie", b"n=\xfc; Path=/"),
    ]
}

/// Heads in odd spellings that mean the same as the shape that stands beside them.
fn raws() -> Vec<Shape> {
    let raw = |name: &str, raw: &str| get(name).raw_response(raw);
    vec![
        raw("raw-no-reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok").status(200, ""),
        raw("raw-no-space", "HTTP/1.1 200 OK\r\nX-A:1\r\nContent-Length:2\r\n\r\nok")
            .replies("X-A", "1"),
        raw("raw-white-space", "HTTP/1.1 200 OK\r\nX-A: \t 1 2 \t\r\nContent-Length: 2 \r\n\r\nok")
            .replies("X-A", "1 2"),
        raw(
            "raw-length-twice",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        ),
        raw("raw-length-list", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok").to(V::One),
        raw("raw-length-case", "HTTP/1.1 200 OK\r\nCONTENT-LENGTH: 2\r\n\r\nok"),
        raw("raw-length-zeros", "HTTP/1.1 200 OK\r\nContent-Length: 0002\r\n\r\nok")
            .from(V::One)
            .to(V::One),
        raw("raw-obs-fold", "HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok")
            .to(V::One)
            .refused("refused-obs-fold", 502),
    ]
}
