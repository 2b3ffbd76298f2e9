//! Who speaks when, and how it ends: expectations, early answers, cuts, switches of protocol.

use crate::differential::shape::Framing::{Chunked, None as Empty, Sized};
use crate::differential::shape::Progress::{Data, End, Head};
use crate::differential::shape::{Framing, Piece, Shape, V, ask, bytes, get, post};

pub fn shapes() -> Vec<Shape> {
    let mut all = expectations();
    all.extend(overlaps());
    all.extend(cuts());
    all.extend(sockets());
    all.extend(sequences());
    all
}

fn expectations() -> Vec<Shape> {
    let wait = |name: &str| post(name, Sized, "waited for").waits();
    vec![
        wait("expect-accepted"),
        post("expect-accepted-chunked", Chunked, "waited for").waits(),
        wait("expect-accepted-hints").interim(103, "Early Hints", &[("Link", "</a>; rel=preload")]),
        wait("expect-refused-417").answers_at(Head).status(417, "Expectation Failed"),
        wait("expect-refused-401")
            .answers_at(Head)
            .status(401, "Unauthorized")
            .replies("WWW-Authenticate", "Basic realm=x"),
        wait("expect-refused-413").answers_at(Head).status(413, "Content Too Large"),
        wait("expect-answered-200").answers_at(Head),
        wait("expect-answered-chunked").answers_at(Head).gives(Chunked, vec![bytes("no need")]),
        ask("expect-large", "PUT", "/").sends(Sized, vec![Piece::Fill(300_000)]).waits(),
        // A client that does not wait, which may be.
        post("expect-not-waited", Sized, "at once").field("Expect", "100-continue"),
        post("expect-case", Sized, "at once").field("Expect", "100-Continue"),
        get("expect-without-body").field("Expect", "100-continue"),
    ]
}

fn overlaps() -> Vec<Shape> {
    let early = |name: &str| post(name, Chunked, "first").answers_at(Head);
    vec![
        // The whole answer comes before the upload ends.
        early("answer-first")
            .sends(Chunked, vec![bytes("first"), Piece::Await(End), bytes("last")]),
        early("answer-first-sized")
            .sends(Sized, vec![bytes("first"), Piece::Await(End), bytes("last")]),
        early("answer-first-large")
            .sends(Sized, vec![Piece::Fill(100_000), Piece::Await(End), Piece::Fill(100_000)]),
        early("answer-first-error")
            .status(500, "Internal Server Error")
            .sends(Sized, vec![bytes("first"), Piece::Await(End), bytes("last")]),
        // The head comes early, the body only when the upload has ended.
        early("head-first")
            .sends(Chunked, vec![Piece::Await(Head), bytes("upload")])
            .gives(Chunked, vec![Piece::Await(End), bytes("done")]),
        early("head-first-sized")
            .sends(Sized, vec![Piece::Await(Head), Piece::Fill(70_000)])
            .gives(Sized, vec![Piece::Await(End), bytes("done")]),
        // Both talk in turns, as bidirectional streams do.
        early("turns")
            .sends(Chunked, vec![bytes("one"), Piece::Await(Data), bytes("two")])
            .gives(Chunked, vec![Piece::Await(Data), bytes("ONE"), Piece::Await(End), bytes("TWO")])
            .gives_trailer("grpc-status", "0"),
        early("turns-large")
            .sends(Chunked, vec![Piece::Fill(70_000), Piece::Await(Data), Piece::Fill(70_000)])
            .gives(
                Chunked,
                vec![
                    Piece::Await(Data),
                    Piece::Fill(70_000),
                    Piece::Await(End),
                    Piece::Fill(70_000),
                ],
            ),
        post("upload-first", Chunked, "all of it").answers_at(End),
        early("hints-before-upload")
            .interim(103, "Early Hints", &[("Link", "</a>; rel=preload")])
            .sends(Chunked, vec![Piece::Await(Head), bytes("late")])
            .gives(Chunked, vec![bytes("x"), Piece::Await(End)]),
    ]
}

fn cuts() -> Vec<Shape> {
    vec![
        get("cut-before-body").gives(Sized, vec![bytes("")]).announces(100).breaks(),
        get("cut-sized").gives(Sized, vec![bytes("half")]).announces(100).breaks(),
        get("cut-sized-large").gives(Sized, vec![Piece::Fill(100_000)]).announces(200_000).breaks(),
        get("cut-chunked").gives(Chunked, vec![bytes("half")]).breaks(),
        get("cut-chunked-large").gives(Chunked, vec![Piece::Fill(100_000)]).breaks(),
        get("cut-chunked-empty").gives(Chunked, vec![]).breaks(),
        get("cut-in-chunk")
            .gives(Chunked, vec![bytes("half")])
            .breaks()
            .raw_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf"),
        get("cut-in-chunk-size")
            .gives(Chunked, vec![bytes("half")])
            .breaks()
            .raw_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n1"),
        get("cut-in-trailers").gives(Chunked, vec![bytes("half")]).breaks().raw_response(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX-A: 1\r\n",
        ),
        get("cut-in-head").to(V::One).breaks().raw_response("HTTP/1.1 200 OK\r\nContent-"),
        get("cut-before-head").to(V::One).breaks().raw_response(""),
        ask("cut-before-head-post", "POST", "/")
            .sends(Sized, vec![bytes("x")])
            .to(V::One)
            .breaks()
            .raw_response(""),
        gives_up("upload-cut-sized", Sized, bytes("half")),
        gives_up("upload-cut-chunked", Chunked, bytes("half")),
        gives_up("upload-cut-large", Chunked, Piece::Fill(100_000)),
    ]
}

/// A client that cuts its upload off when the origin has answered in part.
fn gives_up(name: &str, framing: Framing, piece: Piece) -> Shape {
    ask(name, "POST", "/")
        .sends(framing, vec![piece, Piece::Await(Head)])
        .promises(if framing == Sized { 1_000 } else { 0 })
        .gives_up()
        .answers_at(Data)
        .gives(Chunked, vec![bytes("so far"), Piece::Await(End)])
}

fn sockets() -> Vec<Shape> {
    let ask_for = |name: &str| {
        get(name)
            .field("Connection", "Upgrade")
            .field("Upgrade", "websocket")
            .field("Sec-WebSocket-Version", "13")
            .field("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .field("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
            .from(V::One)
            .to(V::One)
    };
    let open = |name: &str| {
        ask_for(name)
            .bare(101, "Switching Protocols")
            .answers_at(Head)
            .replies("Upgrade", "websocket")
            .replies("Connection", "Upgrade")
            .replies("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    };
    vec![
        open("websocket")
            .sends(Empty, vec![Piece::Await(Head), bytes(b"\x81\x85\x00\x00\x00\x00hello")])
            .gives(
                Empty,
                vec![
                    Piece::Await(Data),
                    bytes(b"\x81\x05hello"),
                    Piece::Await(End),
                    bytes(b"\x88\x00"),
                ],
            ),
        open("websocket-server-first")
            .sends(Empty, vec![Piece::Await(Data), bytes(b"\x81\x80\x00\x00\x00\x00")])
            .gives(Empty, vec![bytes(b"\x81\x05hello"), Piece::Await(End)]),
        open("websocket-deflate")
            .replies("Sec-WebSocket-Extensions", "permessage-deflate; server_no_context_takeover")
            .sends(
                Empty,
                vec![
                    Piece::Await(Head),
                    bytes(b"\xc1\x87\x00\x00\x00\x00\xf2H\xcd\xc9\xc9\x07\x00"),
                ],
            )
            .gives(Empty, vec![Piece::Await(End), bytes(b"\xc1\x07\xf2H\xcd\xc9\xc9\x07\x00")]),
        open("websocket-protocol")
            .field("Sec-WebSocket-Protocol", "chat, superchat")
            .replies("Sec-WebSocket-Protocol", "chat")
            .sends(Empty, vec![Piece::Await(Head)])
            .gives(Empty, vec![Piece::Await(End)]),
        open("websocket-large")
            .sends(Empty, vec![Piece::Await(Head), Piece::Fill(200_000)])
            .gives(Empty, vec![Piece::Await(Data), Piece::Fill(200_000), Piece::Await(End)]),
        ask_for("websocket-refused-403").status(403, "Forbidden"),
        ask_for("websocket-refused-426")
            .status(426, "Upgrade Required")
            .replies("Sec-WebSocket-Version", "8, 13"),
        ask_for("websocket-ignored-200"),
        ask_for("websocket-redirected")
            .status(302, "Found")
            .replies("Location", "/x")
            .gives(Sized, vec![]),
        ask_for("websocket-401")
            .status(401, "Unauthorized")
            .replies("WWW-Authenticate", "Negotiate"),
    ]
}

/// Several requests behind each other on one connection: the lanes send them in this order.
fn sequences() -> Vec<Shape> {
    let mut all = Vec::new();
    for at in 0..6 {
        all.push(ask(format!("sequence-{at}-get"), "GET", format!("/{at}")));
        all.push(
            ask(format!("sequence-{at}-head"), "HEAD", format!("/{at}"))
                .gives(Sized, vec![Piece::Fill(50)]),
        );
        all.push(
            post(format!("sequence-{at}-post"), Chunked, "body").gives(Chunked, vec![bytes("x")]),
        );
        all.push(get(format!("sequence-{at}-304")).bare(304, "Not Modified"));
        all.push(ask(format!("sequence-{at}-empty"), "DELETE", "/").gives(Sized, vec![]));
    }
    all
}

impl Shape {
    /// The response announces more than comes.
    fn announces(mut self, length: usize) -> Self {
        self.response.framing = Sized;
        self.response.short = length;
        self
    }

    /// The request announces more than comes.
    fn promises(mut self, length: usize) -> Self {
        self.request.short = length;
        self
    }
}
