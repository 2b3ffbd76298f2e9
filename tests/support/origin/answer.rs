//! What an origin answers: the built-in paths, and answers made by hand.
//!
//! | path | answer |
//! |---|---|
//! | `/hello`, anything else | `hello from <authority>` |
//! | `/page` | a small HTML page |
//! | `/echo` | JSON: method, target, authority, version, fields as received, trailers, body length and SHA-256 |
//! | `/mirror` | the request body |
//! | `/status/N` | status N, empty |
//! | `/bytes/N` | N bytes with a length |
//! | `/chunked/N` | N bytes without one |
//! | `/upload` | JSON `{"bytes": …, "sha256": …}`; the body is counted, never kept |
//! | `/trailers` | `grpc-status: 0` and `x-checksum: abc` after the body |
//! | `/hints` | 103 with a `link`, then 200 |
//! | `/slow/MS` | waits, then answers |
//! | `/stall` | half a body, then nothing |
//! | `/reset` | half a body, then the connection (h1) or stream (h2) is cut |
//! | `/sse/N/MS` | N server-sent events, MS apart |
//! | `/ws` | WebSocket echo |
//! | `/set-cookie` | two `set-cookie` fields |

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::Seen;

/// An answer to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Informational responses that go first: status and fields.
    pub early: Vec<(u16, Vec<(String, String)>)>,
    /// Waited before anything is sent.
    pub after: Duration,
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<Piece>,
    /// Announce `content-length`.
    pub sized: bool,
    pub trailers: Vec<(String, String)>,
    pub end: End,
    /// HTTP/1.1 only: these bytes instead of everything above, then close.
    pub raw: Option<Bytes>,
}

/// A piece of a body.
#[derive(Clone, Debug)]
pub enum Piece {
    Bytes(Bytes),
    /// That many bytes of a fixed pattern.
    Fill(u64),
    Wait(Duration),
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Proper,
    /// Never.
    Stall,
    /// With a cut in the middle.
    Reset,
}

impl Answer {
    /// 200 with this body.
    #[must_use]
    pub fn text(body: &str) -> Self {
        Self::of(200, "text/plain", Bytes::copy_from_slice(body.as_bytes()))
    }

    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::of(status, "text/plain", Bytes::new()) }
    }

    #[must_use]
    pub fn of(status: u16, content_type: &str, body: Bytes) -> Self {
        Self {
            early: Vec::new(),
            after: Duration::ZERO,
            status,
            fields: vec![("content-type".to_owned(), content_type.to_owned())],
            body: vec![Piece::Bytes(body)],
            sized: true,
            trailers: Vec::new(),
            end: End::Proper,
            raw: None,
        }
    }

    /// These very bytes on an HTTP/1.1 connection, which is closed then.
    #[must_use]
    pub fn raw(bytes: &[u8]) -> Self {
        Self { raw: Some(Bytes::copy_from_slice(bytes)), ..Self::status(200) }
    }

    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.sized = false;
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Bytes in the body.
    #[must_use]
    pub fn length(&self) -> u64 {
        let of = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Fill(count) => *count,
            Piece::Wait(_) => 0,
        };
        self.body.iter().map(of).sum()
    }
}

/// Largest slice of [`Piece::Fill`] written at once.
pub(super) const FILL_BYTES: usize = 64 * 1024;

/// The pattern of [`Piece::Fill`]: not one repeated byte, so that a shifted body is seen.
pub(super) fn fill() -> Bytes {
    (0..FILL_BYTES).map(|i| (i % 251) as u8).collect::<Vec<u8>>().into()
}

/// `body` is what was kept of the request's body (at most 1 MiB).
pub(super) fn built_in(seen: &Seen, body: &[u8]) -> Answer {
    let path = seen.target.split('?').next().unwrap_or_default();
    let mut parts = path.trim_start_matches('/').split('/');
    let first = parts.next().unwrap_or_default();
    let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).unwrap_or(0);
    let text = |body: &str| Answer::text(body);
    match first {
        "page" => Answer::of(200, "text/html", Bytes::from_static(PAGE)),
        "echo" => Answer::of(200, "application/json", echo(seen).into()),
        "mirror" => Answer::of(200, "application/octet-stream", Bytes::copy_from_slice(body)),
        "status" => Answer::status(u16::try_from(number()).unwrap_or(500)),
        "bytes" => Answer { body: vec![Piece::Fill(number())], ..binary() },
        "chunked" => Answer { body: vec![Piece::Fill(number())], sized: false, ..binary() },
        "upload" => {
            let counted = json!({"bytes": seen.body_bytes, "sha256": seen.body_sha256});
            Answer::of(200, "application/json", counted.to_string().into())
        }
        "trailers" => text("body\n").trailer("grpc-status", "0").trailer("x-checksum", "abc"),
        "hints" => {
            let link = ("link".to_owned(), "</style.css>; rel=preload".to_owned());
            Answer { early: vec![(103, vec![link])], ..text("hinted\n") }
        }
        "slow" => Answer { after: Duration::from_millis(number()), ..text("slow\n") },
        "stall" => Answer { end: End::Stall, sized: false, ..text("half") },
        "reset" => Answer { end: End::Reset, sized: false, ..text("half") },
        "sse" => events(number(), number()),
        "set-cookie" => text("two\n").field("set-cookie", "a=1").field("set-cookie", "b=2"),
        _ => text(&format!("hello from {}\n", seen.authority)),
    }
}

const PAGE: &[u8] =
    b"<!doctype html><html lang=en><title>Origin</title><body><h1>Origin page</h1></body></html>\n";

fn binary() -> Answer {
    Answer::of(200, "application/octet-stream", Bytes::new())
}

fn events(count: u64, apart_ms: u64) -> Answer {
    let mut body = Vec::new();
    for i in 0..count {
        body.push(Piece::Bytes(format!("data: {i}\n\n").into()));
        body.push(Piece::Wait(Duration::from_millis(apart_ms)));
    }
    Answer { body, sized: false, ..Answer::of(200, "text/event-stream", Bytes::new()) }
}

fn echo(seen: &Seen) -> String {
    json!({
        "method": seen.method,
        "target": seen.target,
        "authority": seen.authority,
        "version": seen.version,
        "fields": seen.fields,
        "trailers": seen.trailers,
        "body_bytes": seen.body_bytes,
        "body_sha256": seen.body_sha256,
    })
    .to_string()
}
