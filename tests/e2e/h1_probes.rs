//! The HTTP/1.1 probes of the attack catalogue (group H1): hostile requests through an intercepted
//! connection, and hostile answers of origins. Each line carries its case's id.

use std::fmt::Write as _;
use std::time::Duration;

use tests::origin::Answer;
use tests::{Gateway, Http, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A gateway that has not answered or closed by then hangs.
const REACTION_MAX: Duration = Duration::from_secs(15);

/// Sent behind every refused request: a gateway that reads on would ask the origin for it.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n";

/// What must come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// A status of this class or nothing; the connection ends and the origin gets no whole request.
    Refused,
    /// Exactly this status; as above.
    Status(u16),
    /// The origin's own 200.
    Passed,
}

/// Id, what it is, the request, what must come of it. `{host}` stands for the origin's authority.
type Probe = (&'static str, &'static str, String, Want);

/// A POST of `/probe` with these lines and this body.
fn post(lines: &str, body: &str) -> String {
    format!("POST /probe HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n{body}")
}

fn get(lines: &str) -> String {
    format!("GET /probe HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn line(line: &str) -> String {
    format!("{line}\r\nHost: {{host}}\r\n\r\n")
}

fn host(lines: &str) -> String {
    format!("GET /probe HTTP/1.1\r\n{lines}\r\n")
}

fn lengths() -> Vec<Probe> {
    use Want::Status;
    let end = "0\r\n\r\n";
    let te = |value: &str| post(&format!("Transfer-Encoding: {value}\r\n"), end);
    vec![
        (
            "H1-01",
            "length and coding",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", end),
            Status(400),
        ),
        (
            "H1-01",
            "coding and length",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", end),
            Status(400),
        ),
        (
            "H1-01",
            "coding in HTTP/1.0",
            "POST /probe HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .into(),
            Status(400),
        ),
        (
            "H1-02",
            "two lengths",
            post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
            Status(400),
        ),
        (
            "H1-02",
            "two equal lengths",
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            Status(400),
        ),
        ("H1-02", "a list of lengths", post("Content-Length: 5, 5\r\n", "hello"), Status(400)),
        ("H1-02", "a signed length", post("Content-Length: +5\r\n", "hello"), Status(400)),
        ("H1-02", "a negative length", post("Content-Length: -5\r\n", "hello"), Status(400)),
        ("H1-02", "a hexadecimal length", post("Content-Length: 0x5\r\n", "hello"), Status(400)),
        (
            "H1-02",
            "a length with a space inside",
            post("Content-Length: 1 0\r\n", "0123456789"),
            Status(400),
        ),
        ("H1-02", "an empty length", post("Content-Length:\r\n", ""), Status(400)),
        ("H1-02", "a quoted length", post("Content-Length: \"5\"\r\n", "hello"), Status(400)),
        ("H1-04", "xchunked", te("xchunked"), Want::Refused),
        ("H1-04", "a vertical tab before", te("\u{b}chunked"), Want::Refused),
        ("H1-04", "a form feed before", te("\u{c}chunked"), Want::Refused),
        ("H1-04", "a vertical tab behind", te("chunked\u{b}"), Want::Refused),
        ("H1-04", "NUL inside", te("chu\0nked"), Want::Refused),
        ("H1-04", "another case", te("Chunked"), Want::Refused),
        ("H1-04", "chunked twice in one", te("chunked, chunked"), Want::Refused),
        ("H1-04", "chunked with a parameter", te("chunked;q=1"), Want::Refused),
        ("H1-04", "identity", te("identity"), Want::Refused),
        ("H1-04", "chunked not last", te("chunked, identity"), Want::Refused),
        ("H1-04", "another coding before", te("gzip, chunked"), Want::Refused),
        ("H1-04", "quoted", te("\"chunked\""), Want::Refused),
        ("H1-04", "empty", te(""), Want::Refused),
        ("H1-04", "a comma behind", te("chunked,"), Want::Refused),
        (
            "H1-04",
            "two fields",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", end),
            Want::Refused,
        ),
        (
            "H1-04",
            "two fields that differ",
            post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", end),
            Want::Refused,
        ),
        (
            "H1-04",
            "a space before the colon",
            post("Transfer-Encoding : chunked\r\n", end),
            Status(400),
        ),
        (
            "H1-26",
            "a length of 2^64",
            post("Content-Length: 18446744073709551616\r\n", "x"),
            Status(400),
        ),
        (
            "H1-26",
            "a length of 30 digits",
            post("Content-Length: 999999999999999999999999999999\r\n", "x"),
            Status(400),
        ),
    ]
}

fn chunks() -> Vec<Probe> {
    use Want::{Passed, Refused};
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(64 << 10));
    let trailers = format!("0\r\n{}\r\n", "X-T: v\r\n".repeat(10_000));
    vec![
        (
            "H1-05",
            "a size that overflows",
            chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"),
            Refused,
        ),
        ("H1-05", "a size of 65 bits", chunked("1ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "a signed size", chunked("+5\r\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "a negative size", chunked("-5\r\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "a size with 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "a space before the size", chunked(" 5\r\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "a space behind the size", chunked("5 \r\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "no size", chunked("\r\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "an extension alone", chunked(";a=b\r\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "an extension without a name", chunked("5;=x\r\nhello\r\n0\r\n\r\n"), Refused),
        (
            "H1-05",
            "an extension with a control character",
            chunked("5;a=\u{1}\r\nhello\r\n0\r\n\r\n"),
            Refused,
        ),
        ("H1-05", "an extension with a bare LF", chunked("5;a\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "an extension of 64 KiB", chunked(&long), Refused),
        ("H1-05", "a size ended by LF", chunked("5\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "a size ended by CR", chunked("5\rhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "data ended by LF", chunked("5\r\nhello\n0\r\n\r\n"), Refused),
        ("H1-05", "data longer than its size", chunked("4\r\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "letters for a size", chunked("zz\r\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "an underscore in the size", chunked("0_5\r\nhello\r\n0\r\n\r\n"), Refused),
        ("H1-05", "good extensions pass", chunked("5;a=b;c=\"d\"\r\nhello\r\n0\r\n\r\n"), Passed),
        ("H1-06", "trailers without end", chunked(&trailers), Refused),
        ("H1-06", "a folded trailer", chunked("0\r\nX-A: 1\r\n 2\r\n\r\n"), Refused),
        ("H1-06", "a trailer ended by LF", chunked("0\r\nX-A: 1\n\r\n"), Refused),
        ("H1-06", "a trailer without a colon", chunked("0\r\nX-A\r\n\r\n"), Refused),
    ]
}

fn heads() -> Vec<Probe> {
    use Want::{Passed, Status};
    vec![
        ("H1-07", "a line ended by LF", get("X-A: 1\nX-B: 2\r\n"), Status(400)),
        (
            "H1-07",
            "a head of LF alone",
            "GET /probe HTTP/1.1\nHost: {host}\n\n".into(),
            Status(400),
        ),
        ("H1-07", "CR inside a value", get("X-A: 1\rX-B: 2\r\n"), Status(400)),
        ("H1-07", "NUL inside a value", get("X-A: 1\0 2\r\n"), Status(400)),
        ("H1-07", "NUL inside a name", get("X\0A: 1\r\n"), Status(400)),
        ("H1-07", "a control character in a value", get("X-A: \u{1}\r\n"), Status(400)),
        ("H1-07", "DEL in a value", get("X-A: \u{7f}\r\n"), Status(400)),
        ("H1-08", "a fold by space", get("X-A: 1\r\n 2\r\n"), Status(400)),
        ("H1-08", "a fold by tab", get("X-A: 1\r\n\t2\r\n"), Status(400)),
        (
            "H1-08",
            "a fold of the first field",
            "GET /probe HTTP/1.1\r\n X: 1\r\nHost: {host}\r\n\r\n".into(),
            Status(400),
        ),
        (
            "H1-08",
            "a folded coding",
            post("X: a\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            Status(400),
        ),
        ("H1-09", "a space before the colon", get("X-A : 1\r\n"), Status(400)),
        ("H1-09", "a tab before the colon", get("X-A\t: 1\r\n"), Status(400)),
        ("H1-09", "no colon", get("X-A\r\n"), Status(400)),
        ("H1-09", "an empty name", get(": 1\r\n"), Status(400)),
        ("H1-09", "a space in a name", get("X A: 1\r\n"), Status(400)),
        ("H1-09", "a name beyond ASCII", get("X-\u{fc}: 1\r\n"), Status(400)),
        ("H1-09", "an underscore passes", get("X_A: 1\r\nConnection: close\r\n"), Passed),
        ("H1-10", "no Host", host(""), Status(400)),
        ("H1-10", "two Hosts", host("Host: {host}\r\nHost: {host}\r\n"), Status(400)),
        (
            "H1-10",
            "two Hosts that differ",
            host("Host: {host}\r\nhost: other.test\r\n"),
            Status(400),
        ),
        ("H1-10", "a list of Hosts", host("Host: {host}, other.test\r\n"), Status(400)),
        ("H1-10", "Host with userinfo", host("Host: user@{host}\r\n"), Status(400)),
        ("H1-10", "Host with a path", host("Host: {host}/path\r\n"), Status(400)),
        ("H1-10", "an empty Host", host("Host:\r\n"), Status(400)),
        ("H1-10", "Host with a space", host("Host: site.test other.test\r\n"), Status(400)),
        ("H1-10", "Host with a port too large", host("Host: site.test:99999\r\n"), Status(400)),
        (
            "H1-10",
            "another name's Host",
            host("Host: other.test\r\nConnection: close\r\n"),
            Status(421),
        ),
        (
            "H1-10",
            "a target that differs from Host",
            "GET https://other.test/probe HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                .into(),
            Status(421),
        ),
    ]
}

fn lines() -> Vec<Probe> {
    use Want::{Passed, Refused, Status};
    let close = "Connection: close\r\n";
    let many: String = (0..10_000).map(|at| format!("X-{at}: 1\r\n")).collect();
    vec![
        (
            "H1-12",
            "CONNECT inside",
            "CONNECT other.test:443 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".into(),
            Refused,
        ),
        (
            "H1-12",
            "TRACE",
            "TRACE /probe HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".into(),
            Status(405),
        ),
        ("H1-14", "HTTP/0.9", "GET /probe\r\n\r\n".into(), Status(400)),
        ("H1-14", "HTTP/1.2", line("GET /probe HTTP/1.2"), Status(505)),
        ("H1-14", "HTTP/2.0", line("GET /probe HTTP/2.0"), Status(505)),
        ("H1-14", "HTTP/3.0", line("GET /probe HTTP/3.0"), Status(505)),
        ("H1-14", "lower case", line("GET /probe http/1.1"), Status(400)),
        ("H1-14", "a space behind the version", line("GET /probe HTTP/1.1 "), Status(400)),
        ("H1-14", "no minor version", line("GET /probe HTTP/1"), Status(400)),
        ("H1-14", "two digits", line("GET /probe HTTP/1.10"), Status(400)),
        ("H1-14", "two spaces", line("GET  /probe HTTP/1.1"), Status(400)),
        ("H1-14", "a tab for a space", line("GET\t/probe HTTP/1.1"), Status(400)),
        ("H1-14", "a space first", line(" GET /probe HTTP/1.1"), Status(400)),
        ("H1-14", "a space in the target", line("GET /probe /x HTTP/1.1"), Status(400)),
        ("H1-14", "a fragment", line("GET /probe#x HTTP/1.1"), Status(400)),
        ("H1-14", "a target without a slash", line("GET probe HTTP/1.1"), Status(400)),
        ("H1-14", "a star for GET", line("GET * HTTP/1.1"), Status(400)),
        ("H1-14", "a method with a colon", line("G:T /probe HTTP/1.1"), Status(400)),
        ("H1-14", "NUL in the target", line("GET /pro\0be HTTP/1.1"), Status(400)),
        (
            "H1-14",
            "bytes beyond ASCII in the target",
            line("GET /pro\u{fc}be HTTP/1.1"),
            Status(400),
        ),
        (
            "H1-15",
            "h2c is answered as HTTP/1.1",
            get(
                "Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            ),
            Passed,
        ),
        ("H1-15", "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), Refused),
        (
            "H1-17",
            "Expect in another case",
            post("Expect: 100-CONTINUE\r\nContent-Length: 2\r\nConnection: close\r\n", "hi"),
            Passed,
        ),
        (
            "H1-22",
            "a URL of 100 KB",
            line(&format!("GET /{} HTTP/1.1", "u".repeat(100 << 10))),
            Status(414),
        ),
        (
            "H1-22",
            "a method of 100 KB",
            line(&format!("{} / HTTP/1.1", "M".repeat(100 << 10))),
            Refused,
        ),
        (
            "H1-22",
            "a field of 100 KB",
            get(&format!("X-A: {}\r\n", "v".repeat(100 << 10))),
            Status(431),
        ),
        (
            "H1-22",
            "a name of 100 KB",
            get(&format!("{}: 1\r\n", "n".repeat(100 << 10))),
            Status(431),
        ),
        ("H1-22", "10000 fields", get(&many), Status(431)),
        (
            "H1-24",
            "Connection names Authorization",
            get(&format!("Authorization: Bearer t\r\n{close}Connection: authorization\r\n")),
            Passed,
        ),
    ]
}

/// One probe on a connection of its own; what came back.
async fn send(gateway: &Gateway, origin: &Origin, request: &str) -> Option<String> {
    let browser = gateway.browser().http(Http::One);
    let inner = browser.connect(&origin.url("site.test", "/")).await.expect("a connection");
    let (mut stream, _) = inner.into_stream().expect("HTTP/1.1");
    let host = format!("site.test:{}", origin.port());
    let request = request.replace("{host}", &host);
    let answering = async {
        // A gateway that refuses closes while it is still being written to.
        stream.write_all(request.as_bytes()).await.ok();
        stream.flush().await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(REACTION_MAX, answering).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn h1_requests_are_read_in_one_way_or_refused() {
    let origin = Origin::build().alpn(&["http/1.1"]).start().await;
    let gateway = Gateway::start(&origin);
    let probes = [lengths(), chunks(), heads(), lines()].concat();
    let (mut held, mut broken) = (0, String::new());
    for (id, says, request, want) in &probes {
        let before = origin.requests().len();
        let behind = if *want == Want::Passed {
            "GET /end HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        } else {
            SMUGGLED
        };
        let answer = send(&gateway, &origin, &format!("{request}{behind}")).await;
        let status = answer.as_deref().and_then(|it| it.get(9..12)).and_then(|it| it.parse().ok());
        let asked = origin.requests().len() - before;
        let kept = match (want, &answer, status) {
            (_, None, _) => false,
            // An interim response may stand before it.
            (Want::Passed, Some(answer), _) => answer.contains("HTTP/1.1 200 ") && asked > 0,
            (Want::Status(wanted), _, status) => status == Some(*wanted) && asked == 0,
            (Want::Refused, _, None) => asked == 0,
            (Want::Refused, _, Some(status)) => (400..600).contains(&status) && asked == 0,
        };
        if kept {
            held += 1;
        } else {
            let answer = answer.map(|it| it.chars().take(90).collect::<String>());
            writeln!(broken, "{id} {says}: wanted {want:?}, got {answer:?}, origin asked {asked}")
                .expect("text");
        }
    }
    println!("HTTP/1.1 probes: {held} of {}", probes.len());
    assert!(broken.is_empty(), "{held} of {} held; not:\n{broken}", probes.len());
    assert!(origin.last("/smuggled").is_none(), "a request was smuggled");
    let seen = origin.requests();
    let named = seen.iter().filter(|seen| seen.field("authorization").is_some()).count();
    assert_eq!(named, 1, "H1-24: Connection took Authorization away");
    let leaked = |name: &str| seen.iter().any(|seen| seen.field(name).is_some());
    assert!(!leaked("http2-settings") && !leaked("upgrade"), "H1-15: h2c went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn h1_06_trailers_that_frame_or_route_do_not_pass() {
    let origin = Origin::build().alpn(&["http/1.1"]).start().await;
    let gateway = Gateway::start(&origin);
    let trailers =
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\nHost: other.test\r\nX-Kept: 1\r\n";
    let request = format!(
        "POST /probe HTTP/1.1\r\nHost: {{host}}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailers}\r\n"
    );
    let answer = send(&gateway, &origin, &request).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = origin.last("/probe").expect("the request");
    assert_eq!(seen.trailers, [("X-Kept".to_owned(), "1".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn h1_13_a_hundred_pipelined_requests_are_answered_in_order() {
    let origin = Origin::build().alpn(&["http/1.1"]).start().await;
    let gateway = Gateway::start(&origin);
    let mut all = String::new();
    for at in 0..100 {
        let body = format!("GET /smuggled HTTP/1.1\r\nX: {at}\r\n\r\n");
        let last = if at == 99 { "Connection: close\r\n" } else { "" };
        write!(
            all,
            "POST /mirror HTTP/1.1\r\nHost: {{host}}\r\n{last}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("text");
    }
    let answer = send(&gateway, &origin, &all).await.expect("answers");
    let order: Vec<_> = answer.lines().filter_map(|line| line.strip_prefix("X: ")).collect();
    let wanted: Vec<_> = (0..100).map(|at| at.to_string()).collect();
    assert_eq!(order, wanted);
    assert!(origin.last("/smuggled").is_none(), "a body was read as a request");
}

/// Id, path, what the origin sends before it closes, whether the client is answered with 502 (else
/// the response is cut).
const ANSWERS: &[(&str, &str, &[u8], bool)] = &[
    (
        "H1-18",
        "/101",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        true,
    ),
    ("H1-20", "/nothing", b"", true),
    ("H1-20", "/half-line", b"HTTP/1.1 20", true),
    ("H1-20", "/line-only", b"HTTP/1.1 200 OK\r\n", true),
    ("H1-20", "/half-field", b"HTTP/1.1 200 OK\r\nContent-Le", true),
    ("H1-20", "/no-end-of-head", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", true),
    ("H1-20", "/half-length", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false),
    ("H1-20", "/no-length", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", false),
    (
        "H1-20",
        "/half-chunk",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello",
        false,
    ),
    (
        "H1-20",
        "/no-last-chunk",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        false,
    ),
    (
        "H1-20",
        "/half-last-chunk",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        false,
    ),
    (
        "H1-02",
        "/lengths",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        true,
    ),
    (
        "H1-01",
        "/both",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        true,
    ),
    (
        "H1-04",
        "/xchunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        true,
    ),
    ("H1-07", "/nul", b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 0\r\n\r\n", true),
    ("H1-07", "/bare-cr", b"HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 0\r\n\r\n", true),
    ("H1-09", "/space-colon", b"HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length: 0\r\n\r\n", true),
    ("H1-14", "/version", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", true),
    ("H1-14", "/status", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", true),
    ("H1-14", "/status-letters", b"HTTP/1.1 2xx OK\r\nContent-Length: 0\r\n\r\n", true),
];

#[tokio::test(flavor = "multi_thread")]
async fn h1_answers_that_are_cut_or_malformed_never_look_whole() {
    let flood = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(25);
    let large = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "v".repeat(1 << 20));
    let cookies = format!("HTTP/1.1 200 OK\r\n{}\r\n", "Set-Cookie: a=b\r\n".repeat(10_000));
    let mut all: Vec<(&str, &str, Vec<u8>, bool)> =
        ANSWERS.iter().map(|(id, path, raw, whole)| (*id, *path, raw.to_vec(), *whole)).collect();
    all.push(("H1-18", "/flood", flood, true));
    all.push(("H1-23", "/large", large.into_bytes(), true));
    all.push(("H1-23", "/cookies", cookies.into_bytes(), true));
    let mut build = Origin::build().alpn(&["http/1.1"]);
    for (_, path, raw, _) in &all {
        build = build.on(path, Answer::raw(raw));
    }
    let origin = build.start().await;
    let gateway = Gateway::start(&origin);
    let (mut held, mut broken) = (0, String::new());
    for (id, path, _, answered) in &all {
        for http in [Http::One, Http::Two] {
            let outcome = gateway.browser().http(http).get(&origin.url("site.test", path)).await;
            let kept = match &outcome {
                Ok(reply) => *answered && reply.status == 502,
                Err(error) => !answered && error.is_cut(),
            };
            if kept {
                held += 1;
            } else {
                let got = outcome.map(|reply| reply.status).map_err(|error| error.to_string());
                writeln!(broken, "{id} {path} {http:?}: {got:?}").expect("text");
            }
        }
    }
    let asked = all.len() * 2;
    println!("HTTP/1.1 answers: {held} of {asked}");
    assert!(broken.is_empty(), "{held} of {asked} held; not:\n{broken}");
}
