//! Request lines: methods, targets, versions, forms.

use crate::differential::shape::Framing::{Chunked, None as Empty, Sized};
use crate::differential::shape::{Shape, V, ask, bytes, get};

/// Methods of the registry and beyond, with what their names promise not to matter here.
const METHODS: [&str; 32] = [
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
    "ACL",
    "BIND",
    "MERGE",
    "MKACTIVITY",
    "VERSION-CONTROL",
    "PURGE",
    "LINK",
    "UNLINK",
    "QUERY",
    "NOTIFY",
    "SUBSCRIBE",
    "M-SEARCH",
    "BASELINE-CONTROL",
    "get",
    "Brew",
    "X!#$%&'*+-.^_`|~",
    "MKREDIRECTREF",
];

/// Methods that may well have a body.
const WITH_BODY: [&str; 10] =
    ["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS", "PROPFIND", "REPORT", "QUERY", "SEARCH"];

/// Odd but legal targets.
const TARGETS: &[(&str, &str)] = &[
    ("root", "/"),
    ("query-empty", "/?"),
    ("query-only", "/?a=1&b=2"),
    ("query-flag", "/path?flag"),
    ("query-question", "/path?a?b??c"),
    ("query-slashes", "/path?next=/a/../b//c"),
    ("query-url", "/go?to=https://other.test/x?y=1%26z=2"),
    ("query-semicolons", "/path?a=1;b=2;c"),
    ("query-plus", "/path?q=a+b%20c"),
    ("query-brackets", "/path?filter[a][]=1&filter[b]=%5B%5D"),
    ("query-braces", "/path?json={a:1}|^"),
    ("query-equals", "/path?=&==&a==b"),
    ("query-encoded-hash", "/path?a=%23b"),
    ("query-nul", "/path?a=%00"),
    ("query-crlf", "/path?a=%0d%0aX:%20y"),
    ("double-slash", "//"),
    ("double-slash-inside", "/a//b///c"),
    ("double-slash-host", "//other.test/path"),
    ("dot-segments", "/a/./b/../c"),
    ("dot-dot-root", "/../../etc/passwd"),
    ("dot-end", "/a/.."),
    ("encoded-dots", "/a/%2e%2e/b/%2E/c"),
    ("encoded-slash", "/a%2Fb%2fc"),
    ("encoded-backslash", "/a%5Cb"),
    ("encoded-percent", "/100%25"),
    ("encoded-double", "/a%252Fb"),
    ("encoded-unreserved", "/%7Euser/%41%62c"),
    ("encoded-lower", "/%e2%82%ac"),
    ("encoded-upper", "/%E2%82%AC"),
    ("encoded-latin1", "/caf%E9"),
    ("encoded-nul", "/a%00b"),
    ("encoded-space", "/a%20b%20"),
    ("encoded-question", "/a%3Fb?c"),
    ("bad-percent", "/100%"),
    ("bad-percent-hex", "/%zz/%a"),
    ("parameters", "/a;v=1/b;w=2,3"),
    ("parameters-alone", "/;"),
    ("session", "/index.jsp;jsessionid=ABC123?x=1"),
    ("colon", "/a:b:c"),
    ("at", "/@user@host/x"),
    ("sub-delims", "/!$&'()*+,;=:@-._~"),
    ("comma", "/a,b"),
    ("star", "/*"),
    ("bar", "/a|b"),
    ("brackets", "/[a]/b"),
    ("backslash", "/a\\b"),
    ("caret", "/a^b"),
    ("braces", "/{id}"),
    ("quotes-single", "/it's"),
    ("trailing-slash", "/dir/"),
    ("looks-absolute", "/http://other.test/"),
    ("looks-port", "/:8080/"),
    ("grpc", "/package.Service/Method"),
    ("webdav", "/remote.php/dav/files/user/a%20b.txt"),
    ("data-url", "/image?src=data:image/png;base64,iVBORw0KGgo="),
];

pub fn shapes() -> Vec<Shape> {
    let mut all = Vec::new();
    for method in METHODS {
        all.push(ask(format!("method-{method}"), method, "/"));
    }
    for method in WITH_BODY {
        let body = || vec![bytes("content")];
        all.push(ask(format!("sized-{method}"), method, "/").sends(Sized, body()));
        all.push(ask(format!("chunked-{method}"), method, "/").sends(Chunked, body()));
        all.push(ask(format!("length-zero-{method}"), method, "/").sends(Sized, vec![]));
    }
    all.push(ask("method-HEAD", "HEAD", "/"));
    all.push(ask("method-TRACE", "TRACE", "/").refused("refused-trace", 405));
    for (name, target) in TARGETS {
        all.push(ask(format!("target-{name}"), "GET", target));
    }
    for length in [1_000, 4_096, 8_192, 16_000] {
        let path = format!("/{}", "p".repeat(length));
        all.push(ask(format!("target-path-{length}"), "GET", path));
        let query = format!("/?{}", "q=1&".repeat(length / 4));
        all.push(ask(format!("target-query-{length}"), "GET", query));
    }
    all.push(ask("target-many-segments", "GET", "/a".repeat(500)));
    all.push(ask("options-star", "OPTIONS", "*").replies("Allow", "GET, HEAD, OPTIONS"));
    all.push(ask("options-path", "OPTIONS", "/").bare(204, "No Content"));
    all.extend(outside_the_grammar());
    all.extend(forms());
    all
}

/// Characters that no URI has: HTTP/1.1 origins get them as they are.
fn outside_the_grammar() -> Vec<Shape> {
    let targets =
        [("less", "/a<b"), ("greater", "/a>b"), ("backtick", "/a`b"), ("quote", "/?q=\"a\"")];
    let mut all = Vec::new();
    for (name, target) in targets {
        let one = |name: String| ask(name, "GET", target).from(V::One);
        all.push(one(format!("target-{name}")).to(V::One));
        let refused = one(format!("target-{name}-http2")).to(V::Two);
        all.push(refused.refused("refused-characters", 502));
    }
    all
}

/// Absolute form, HTTP/1.0, odd spellings of a head that mean the same.
fn forms() -> Vec<Shape> {
    let raw = |name: &str, raw: &str| get(name).raw_request(raw);
    vec![
        raw("absolute", "GET https://{authority}/abs?x=1 HTTP/1.1\r\nHost: {authority}\r\n{mark}\r\n\r\n")
            .targeted("/abs?x=1"),
        raw("absolute-no-path", "GET https://{authority} HTTP/1.1\r\nHost: {authority}\r\n{mark}\r\n\r\n"),
        raw("absolute-query", "GET https://{authority}?x HTTP/1.1\r\nHost: {authority}\r\n{mark}\r\n\r\n")
            .targeted("/?x"),
        raw("absolute-upper-scheme", "GET HTTPS://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n{mark}\r\n\r\n"),
        raw("absolute-post", "POST https://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n{mark}\r\nContent-Length: 2\r\n\r\nhi")
            .method("POST").sends(Sized, vec![bytes("hi")]),
        get("http10-request").http10(),
        ask("http10-post", "POST", "/").sends(Sized, vec![bytes("old")]).http10(),
        get("http10-keep-alive").field("Connection", "keep-alive").http10(),
        ask("http10-head", "HEAD", "/").http10(),
        raw("blank-line-first", "\r\nGET / HTTP/1.1\r\nHost: {authority}\r\n{mark}\r\n\r\n"),
        raw("no-space-after-colon", "GET / HTTP/1.1\r\nHost:{authority}\r\nX-A:1\r\n{mark}\r\n\r\n")
            .field("X-A", "1"),
        raw("white-space-around", "GET / HTTP/1.1\r\nHost: \t {authority} \t\r\nX-A: \t 1 2 \t \r\n{mark}\r\n\r\n")
            .field("X-A", "1 2"),
        raw("host-last", "GET / HTTP/1.1\r\nX-A: 1\r\n{mark}\r\nHost: {authority}\r\n\r\n")
            .field("X-A", "1"),
        raw("host-lower", "GET / HTTP/1.1\r\nhost: {authority}\r\n{mark}\r\n\r\n"),
        raw("host-upper", "GET / HTTP/1.1\r\nHOST: {authority}\r\n{mark}\r\n\r\n"),
        raw("request-obs-fold", "GET / HTTP/1.1\r\nHost: {authority}\r\nX-A: 1\r\n 2\r\n{mark}\r\n\r\n")
            .refused("refused-obs-fold", 400),
        raw("chunk-extensions", "POST / HTTP/1.1\r\nHost: {authority}\r\n{mark}\r\nTransfer-Encoding: chunked\r\n\r\n5;a=1;b=\"x;y\"\r\nhello\r\n0;last\r\n\r\n")
            .method("POST").sends(Chunked, vec![bytes("hello")]),
        raw("chunk-sizes", "POST / HTTP/1.1\r\nHost: {authority}\r\n{mark}\r\nTransfer-Encoding: chunked\r\n\r\n0005\r\nhello\r\nA\r\n0123456789\r\na\r\nabcdefghij\r\n000\r\n\r\n")
            .method("POST").sends(Chunked, vec![bytes("hello0123456789abcdefghij")]),
        raw("length-zeros", "POST / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0005\r\n{mark}\r\n\r\nhello")
            .method("POST").to(V::One).sends(Empty, vec![]),
        get("upgrade-h2c").field("Connection", "Upgrade, HTTP2-Settings").field("Upgrade", "h2c")
            .field("HTTP2-Settings", "AAMAAABkAAQAAP__"),
        get("upgrade-unknown").field("Connection", "upgrade").field("Upgrade", "foo/2, bar"),
        get("upgrade-without-connection").field("Upgrade", "websocket"),
    ]
}

impl Shape {
    /// For raw requests: what the same request is where it is not raw.
    fn targeted(mut self, target: &str) -> Self {
        self.target = target.as_bytes().to_vec();
        self
    }

    fn method(mut self, method: &str) -> Self {
        self.method = method.as_bytes().to_vec();
        self
    }
}
