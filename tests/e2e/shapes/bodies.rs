//! Bodies both ways: framings, sizes at the edges of windows and buffers, trailers, codings.

use crate::differential::shape::Framing::{Chunked, Close, None as Empty, Sized};
use crate::differential::shape::{Piece, Shape, V, ask, bytes, get, post};

/// One less, exactly and one more than the frames, windows and buffers on the way.
const EDGES: [usize; 16] = [
    1, 8_191, 8_192, 8_193, 16_383, 16_384, 16_385, 32_768, 65_534, 65_535, 65_536, 65_537,
    131_072, 262_144, 524_288, 1_048_577,
];

/// `gzip` of "hello\n", which must not be touched.
const GZIP: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbH\xcd\xc9\xc9\xe7\x02\x00 0:6\x06\x00\x00\x00";

/// Codings, known or not; the body is not what they say and passes all the same.
const CODINGS: [&str; 12] = [
    "gzip",
    "br",
    "zstd",
    "deflate",
    "compress",
    "dcb",
    "dcz",
    "identity",
    "unheard-of",
    "gzip, br",
    "GZIP",
    "",
];

pub fn shapes() -> Vec<Shape> {
    let mut all = Vec::new();
    for edge in EDGES {
        let fill = || vec![Piece::Fill(edge)];
        all.push(ask(format!("upload-{edge}"), "POST", "/").sends(Sized, fill()));
        all.push(ask(format!("upload-chunked-{edge}"), "POST", "/").sends(Chunked, fill()));
        all.push(get(format!("download-{edge}")).gives(Sized, fill()));
        all.push(get(format!("download-chunked-{edge}")).gives(Chunked, fill()));
    }
    for coding in CODINGS {
        let shape = get(format!("coded-{coding}")).replies("Content-Encoding", coding);
        all.push(shape.gives(Sized, vec![bytes(GZIP)]));
        let shape = ask(format!("upload-coded-{coding}"), "PUT", "/");
        all.push(shape.field("Content-Encoding", coding).sends(Chunked, vec![bytes(GZIP)]));
    }
    all.extend(empty());
    all.extend(trailers());
    all.extend(pieces());
    all
}

fn empty() -> Vec<Shape> {
    vec![
        get("empty-sized").gives(Sized, vec![]),
        get("empty-chunked").gives(Chunked, vec![]),
        get("ends-with-head").gives(Close, vec![]).to(V::Two),
        get("empty-close").gives(Close, vec![]).to(V::One),
        ask("upload-none", "POST", "/"),
        ask("upload-zero", "POST", "/").sends(Sized, vec![]),
        ask("upload-chunked-zero", "POST", "/").sends(Chunked, vec![]),
        ask("put-none", "PUT", "/"),
        ask("patch-none", "PATCH", "/").bare(204, "No Content"),
    ]
}

fn trailers() -> Vec<Shape> {
    let hello = || vec![bytes("hello")];
    vec![
        get("trailers")
            .replies("Trailer", "X-Sum")
            .gives(Chunked, hello())
            .gives_trailer("X-Sum", "1"),
        get("trailers-unannounced").gives(Chunked, hello()).gives_trailer("X-Sum", "1"),
        get("trailers-empty-body").gives(Chunked, vec![]).gives_trailer("grpc-status", "0"),
        get("trailers-many")
            .gives(Chunked, hello())
            .gives_trailer("grpc-status", "5")
            .gives_trailer("grpc-message", "not%20found")
            .gives_trailer("X-A", "1")
            .gives_trailer("X-A", "2"),
        get("trailers-binary")
            .gives(Chunked, hello())
            .gives_trailer("grpc-status-details-bin", "CAUSA2Zvbw"),
        get("trailers-latin1").gives(Chunked, hello()).gives_trailer("X-Name", b"caf\xe9"),
        get("trailers-empty-value").gives(Chunked, hello()).gives_trailer("X-Empty", ""),
        get("trailers-large").gives(Chunked, hello()).gives_trailer("X-Big", "t".repeat(8_000)),
        get("trailers-server-timing")
            .gives(Chunked, hello())
            .gives_trailer("Server-Timing", "a;dur=1"),
        get("trailers-on-error")
            .status(500, "Internal Server Error")
            .gives(Chunked, hello())
            .gives_trailer("X-Why", "boom"),
        get("trailers-only")
            .replies("grpc-status", "12")
            .replies("Content-Type", "application/grpc")
            .gives(Sized, vec![]),
        post("upload-trailers", Chunked, "data").sends_trailer("X-Sum", "2"),
        post("upload-trailers-announced", Chunked, "data")
            .field("Trailer", "X-Sum")
            .sends_trailer("X-Sum", "2"),
        ask("upload-trailers-empty-body", "POST", "/")
            .sends(Chunked, vec![])
            .sends_trailer("X-Sum", "3"),
        post("trailers-both", Chunked, "ping")
            .field("TE", "trailers")
            .sends_trailer("X-Up", "u")
            .gives(Chunked, hello())
            .gives_trailer("X-Down", "d"),
        get("trailers-with-length").to(V::Two).gives(Sized, hello()).gives_trailer("X-Sum", "1"),
        ask("upload-trailers-with-length", "POST", "/")
            .from(V::Two)
            .sends(Sized, hello())
            .sends_trailer("X-Sum", "1"),
    ]
}

/// Bodies in several writes, which need not arrive as several but must arrive.
fn pieces() -> Vec<Shape> {
    let events = || (0..5).map(|at| bytes(format!("id: {at}\ndata: {at}\n\n"))).collect();
    let bits = |count: usize| (0..count).map(|at| bytes([at as u8])).collect::<Vec<_>>();
    let multipart = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\nx\r\n--b--\r\n";
    vec![
        get("server-sent-events").replies("Content-Type", "text/event-stream")
            .replies("Cache-Control", "no-cache").gives(Chunked, events()),
        get("ndjson").replies("Content-Type", "application/x-ndjson")
            .gives(Chunked, vec![bytes("{\"a\":1}\n"), bytes("{\"b\":2}\n")]),
        get("single-bytes").gives(Chunked, bits(200)),
        ask("upload-single-bytes", "POST", "/").sends(Chunked, bits(200)),
        get("sized-single-bytes").gives(Sized, bits(200)),
        ask("upload-sized-single-bytes", "POST", "/").sends(Sized, bits(200)),
        get("mixed-pieces").gives(Chunked, vec![bytes("a"), Piece::Fill(70_000), bytes("b"), Piece::Fill(9_000)]),
        ask("upload-mixed-pieces", "POST", "/")
            .sends(Sized, vec![bytes("a"), Piece::Fill(70_000), bytes("b"), Piece::Fill(9_000)]),
        post("upload-form", Sized, "a=1&b=%20").field("Content-Type", "application/x-www-form-urlencoded"),
        post("upload-json", Sized, "{\"a\": [1, 2, {\"b\": null}]}").field("Content-Type", "application/json"),
        post("upload-broken-json", Sized, "{\"a\": ").field("Content-Type", "application/json"),
        post("upload-multipart", Sized, multipart).field("Content-Type", "multipart/form-data; boundary=b"),
        post("upload-multipart-chunked", Chunked, multipart).field("Content-Type", "multipart/form-data; boundary=b"),
        post("upload-looks-like-http", Sized, "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
        get("looks-like-http").gives(Sized, vec![bytes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")]),
        get("looks-like-chunks").gives(Chunked, vec![bytes("0\r\n\r\n"), bytes("5\r\nhello\r\n")]),
        get("all-bytes").gives(Sized, vec![bytes((0..=255).collect::<Vec<u8>>())]),
        get("raw-chunk-extensions").gives(Chunked, vec![bytes("hello")])
            .raw_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1;y=\"a;b\"\r\nhello\r\n0;z\r\n\r\n"),
        get("raw-chunk-zeros").gives(Chunked, vec![bytes("hello")])
            .raw_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0000005\r\nhello\r\n00\r\n\r\n"),
        get("raw-chunked-upper").gives(Chunked, vec![bytes("hello")])
            .raw_response("HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        get("close-delimited").gives(Close, vec![Piece::Fill(70_000)]).to(V::One),
        get("close-delimited-http10").gives(Close, vec![bytes("old")]).answers_http10(),
        get("http10-sized").gives(Sized, vec![bytes("old")]).answers_http10(),
        get("http10-to-http10").gives(Close, vec![bytes("old")]).answers_http10().http10(),
        get("http10-chunked-origin").gives(Chunked, vec![bytes("new")]).http10().to(V::One).unframed(),
        get("no-content").bare(204, "No Content"),
        ask("upload-answered-204", "PUT", "/").sends(Sized, vec![bytes("x")]).bare(204, "No Content"),
        ask("delete-none", "DELETE", "/x").gives(Empty, vec![]).status(204, "No Content"),
    ]
}

impl Shape {
    /// An HTTP/1.0 client knows no chunks: direct, this origin does not send it any.
    fn unframed(mut self) -> Self {
        self.response.framing = Close;
        self
    }
}
