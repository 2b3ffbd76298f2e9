//! The questions: what is sent, and how it must be answered (RFC 9114, RFC 9204).

use h3i::actions::h3::{Action, send_headers_frame, send_headers_frame_literal};
use h3i::quiche::h3::Header;

/// The first stream that a client opens for a request.
pub const REQUEST: u64 = 0;
/// Its first three of its own.
const SIDES: [u64; 3] = [2, 6, 10];
/// Their types.
const CONTROL: u64 = 0;
const ENCODER: u64 = 2;
const DECODER: u64 = 3;

/// Codes of RFC 9114 section 8.1 and RFC 9204 section 6.
const STREAM_CREATION_ERROR: u64 = 0x103;
const CLOSED_CRITICAL_STREAM: u64 = 0x104;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const ID_ERROR: u64 = 0x108;
const SETTINGS_ERROR: u64 = 0x109;
const MISSING_SETTINGS: u64 = 0x10a;
const MESSAGE_ERROR: u64 = 0x10e;
const DECOMPRESSION_FAILED: u64 = 0x200;
const ENCODER_STREAM_ERROR: u64 = 0x201;
const DECODER_STREAM_ERROR: u64 = 0x202;

/// Which of the gateway's servers is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Of CONNECT alone, to clients that show a token.
    Tunnel,
    /// Of a host inside.
    Inside,
}

/// How a question ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// The request's stream is reset with this code.
    Reset(u64),
    /// The connection is closed with this code.
    Closed(u64),
}

pub struct Question {
    pub name: &'static str,
    pub actions: Vec<Action>,
    pub answer: Answer,
}

pub fn questions(server: Server, authority: &str) -> Vec<Question> {
    let mut all = heads(authority);
    all.extend(frames());
    all.extend(sides());
    all.extend(match server {
        Server::Tunnel => tunnels(authority),
        Server::Inside => exchanges(authority),
    });
    all
}

fn bytes(stream_id: u64, bytes: &[u8], fin_stream: bool) -> Action {
    Action::StreamBytes { stream_id, fin_stream, bytes: bytes.to_vec() }
}

/// A control stream with SETTINGS that say nothing.
fn control(more: &[u8], ends: bool) -> Vec<Action> {
    let [stream, ..] = SIDES;
    vec![
        Action::OpenUniStream { stream_id: stream, fin_stream: false, stream_type: CONTROL },
        bytes(stream, &[&[4, 0][..], more].concat(), ends),
    ]
}

fn question(name: &'static str, mut more: Vec<Action>, answer: Answer) -> Question {
    let mut actions = control(&[], false);
    actions.append(&mut more);
    Question { name, actions, answer }
}

type Fields<'a> = Vec<(&'a str, &'a str)>;

fn get(authority: &str) -> Fields<'_> {
    vec![(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", "/hello")]
}

fn headers(fields: &[(&str, &str)]) -> Vec<Header> {
    fields.iter().map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes())).collect()
}

/// Heads that are malformed (RFC 9114 sections 4.1.2 to 4.4).
fn heads(authority: &str) -> Vec<Question> {
    let good: Fields<'_> = get(authority);
    let without = |name: &str| good.iter().copied().filter(|it| it.0 != name).collect::<Fields>();
    let instead = |name: &str, value| {
        let other = |(one, was)| (one, if one == name { value } else { was });
        good.iter().copied().map(other).collect::<Fields>()
    };
    let with = |name: &'static str, value: &'static str| [&good[..], &[(name, value)]].concat();
    let [method, scheme, host, path] = good[..] else { return Vec::new() };
    [
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no authority", without(":authority")),
        ("no path", without(":path")),
        ("an empty method", instead(":method", "")),
        ("an empty scheme", instead(":scheme", "")),
        ("an empty authority", instead(":authority", "")),
        ("an empty path", instead(":path", "")),
        ("a method twice", with(":method", "GET")),
        ("a path twice", with(":path", "/hello")),
        ("a pseudo-header of responses", with(":status", "200")),
        ("a pseudo-header unknown", with(":$method", "GET")),
        ("a pseudo-header behind a field", vec![method, scheme, host, ("accept", "*/*"), path]),
        ("a name in upper case", with("Accept", "*/*")),
        ("a connection field", with("connection", "close")),
        ("keep-alive", with("keep-alive", "5")),
        ("transfer-encoding", with("transfer-encoding", "chunked")),
        ("upgrade", with("upgrade", "h2c")),
        ("te other than trailers", with("te", "gzip")),
        ("a line break in a value", with("accept", "a\r\nb: c")),
        ("a length that is no number", with("content-length", "5x")),
        ("another host", with("host", "other.test")),
        ("CONNECT with a path", vec![(":method", "CONNECT"), host, path]),
    ]
    .into_iter()
    .map(|(name, fields)| {
        let sent = send_headers_frame_literal(REQUEST, true, headers(&fields));
        question(name, vec![sent], Answer::Reset(MESSAGE_ERROR))
    })
    .collect()
}

/// Frames of a request that are out of place, or broken.
fn frames() -> Vec<Question> {
    let mut all = Vec::new();
    for (name, frame, code) in [
        ("DATA first", &[0, 1, 7][..], FRAME_UNEXPECTED),
        ("SETTINGS first", &[4, 0], FRAME_UNEXPECTED),
        ("GOAWAY first", &[7, 1, 0], FRAME_UNEXPECTED),
        ("MAX_PUSH_ID first", &[13, 1, 4], FRAME_UNEXPECTED),
        ("CANCEL_PUSH first", &[3, 1, 0], FRAME_UNEXPECTED),
        ("PUSH_PROMISE first", &[5, 1, 0], FRAME_UNEXPECTED),
        ("PRIORITY of HTTP/2 first", &[2, 0], FRAME_UNEXPECTED),
        ("PING of HTTP/2 first", &[6, 0], FRAME_UNEXPECTED),
        ("WINDOW_UPDATE of HTTP/2 first", &[8, 0], FRAME_UNEXPECTED),
        ("a head that is cut off", &[1, 9, 0], FRAME_ERROR),
        ("a head of nonsense", &[1, 3, 1, 1, 1], DECOMPRESSION_FAILED),
        ("an index beyond the static table", &[1, 4, 0, 0, 0xff, 36], DECOMPRESSION_FAILED),
        ("an index of the dynamic table", &[1, 3, 0, 0, 0x80], DECOMPRESSION_FAILED),
    ] {
        all.push(question(name, vec![bytes(REQUEST, frame, true)], Answer::Closed(code)));
    }
    all
}

/// Streams of the client's own: control, encoder, decoder, and what they may not be.
fn sides() -> Vec<Question> {
    let mut all = Vec::new();
    for (name, more, ends, code) in [
        ("SETTINGS twice", &[4, 0][..], false, FRAME_UNEXPECTED),
        ("DATA on control", &[0, 0], false, FRAME_UNEXPECTED),
        ("HEADERS on control", &[1, 0], false, FRAME_UNEXPECTED),
        ("a smaller MAX_PUSH_ID", &[13, 1, 9, 13, 1, 8], false, ID_ERROR),
        ("control that ends", &[], true, CLOSED_CRITICAL_STREAM),
    ] {
        all.push(Question { name, actions: control(more, ends), answer: Answer::Closed(code) });
    }
    let [first, second, third] = SIDES;
    let opened = |stream_id: u64, stream_type: u64, more: &[u8], ends: bool| {
        let open = Action::OpenUniStream { stream_id, fin_stream: false, stream_type };
        vec![open, bytes(stream_id, more, ends)]
    };
    for (name, first_bytes, code) in [
        ("DATA before SETTINGS", &[0, 0][..], MISSING_SETTINGS),
        ("GOAWAY before SETTINGS", &[7, 1, 0], MISSING_SETTINGS),
        ("a setting twice", &[4, 4, 6, 1, 6, 1], SETTINGS_ERROR),
        ("a setting of HTTP/2", &[4, 2, 4, 1], SETTINGS_ERROR),
    ] {
        let actions = opened(first, CONTROL, first_bytes, false);
        all.push(Question { name, actions, answer: Answer::Closed(code) });
    }
    for (name, actions, code) in [
        ("control twice", opened(second, CONTROL, &[4, 0], false), STREAM_CREATION_ERROR),
        ("a push of a client's", opened(second, 1, &[0], false), STREAM_CREATION_ERROR),
        ("an encoder that ends", opened(second, ENCODER, &[0x20], true), CLOSED_CRITICAL_STREAM),
        ("a decoder that ends", opened(third, DECODER, &[0x40], true), CLOSED_CRITICAL_STREAM),
        (
            "a table larger than offered",
            opened(second, ENCODER, &[0x3f, 1], false),
            ENCODER_STREAM_ERROR,
        ),
        ("a count of no inserts", opened(third, DECODER, &[0], false), DECODER_STREAM_ERROR),
    ] {
        all.push(question(name, actions, Answer::Closed(code)));
    }
    all
}

/// What a tunnel's server says to good requests, and to those without a token.
fn tunnels(authority: &str) -> Vec<Question> {
    let head = |fields: &[(&str, &str)]| vec![send_headers_frame(REQUEST, true, headers(fields))];
    let connect = [(":method", "CONNECT"), (":authority", authority)];
    vec![
        question("CONNECT without a token", head(&connect), Answer::Status(407)),
        question("GET without a token", head(&get(authority)), Answer::Status(407)),
    ]
}

/// What a host's server says to good requests.
fn exchanges(authority: &str) -> Vec<Question> {
    let of = |method: &'static str, path: &'static str| {
        vec![(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
    };
    let sent = |fields: Fields<'_>| vec![send_headers_frame(REQUEST, true, headers(&fields))];
    let mut all = vec![
        question("GET", sent(get(authority)), Answer::Status(200)),
        question("HEAD", sent(of("HEAD", "/hello")), Answer::Status(200)),
        question("DELETE", sent(of("DELETE", "/echo")), Answer::Status(200)),
        question("a method of one's own", sent(of("$GET", "/hello")), Answer::Status(200)),
        question("an error", sent(of("GET", "/status/404")), Answer::Status(404)),
        question("a redirect", sent(of("GET", "/status/302")), Answer::Status(302)),
        question(
            "a scheme that is none",
            sent(vec![
                (":method", "GET"),
                (":scheme", "$fail"),
                (":authority", authority),
                (":path", "/hello"),
            ]),
            Answer::Reset(MESSAGE_ERROR),
        ),
        question(
            "te: trailers",
            sent([get(authority), vec![("te", "trailers")]].concat()),
            Answer::Status(200),
        ),
    ];
    for (name, length, body, answer) in [
        ("a body as long as it says", "5", 5_u8, Answer::Status(200)),
        ("a body longer than it says", "4", 5, Answer::Reset(MESSAGE_ERROR)),
        ("a body shorter than it says", "6", 5, Answer::Reset(MESSAGE_ERROR)),
    ] {
        let fields = [of("POST", "/upload"), vec![("content-length", length)]].concat();
        let head = send_headers_frame(REQUEST, false, headers(&fields));
        let data = [&[0, body][..], &vec![b'b'; body.into()]].concat();
        all.push(question(name, vec![head, bytes(REQUEST, &data, true)], answer));
    }
    let head = send_headers_frame(REQUEST, false, headers(&get(authority)));
    for (name, frame) in [
        ("SETTINGS behind a head", &[4, 0][..]),
        ("CANCEL_PUSH behind a head", &[3, 1, 0]),
        ("PING of HTTP/2 behind a head", &[6, 0]),
    ] {
        let sent = vec![head.clone(), bytes(REQUEST, frame, false)];
        all.push(question(name, sent, Answer::Closed(FRAME_UNEXPECTED)));
    }
    let frame_unknown = vec![
        bytes(REQUEST, &[0x21, 2, 9, 9], false),
        send_headers_frame(REQUEST, true, headers(&get(authority))),
    ];
    all.push(question("a frame of no known type", frame_unknown, Answer::Status(200)));
    all
}
