//! Frames that no polite client sends, by hand.

use gateway_proto::h2::{PREFACE, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// More of anything than a budget allows.
const FLOOD: u32 = 20_000;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length.get(1..).unwrap().to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `GET http://a.test/`, with `more` fields as literals.
fn get(more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = bytes::BytesMut::from(&b"\x82\x86\x84\x01\x06a.test"[..]);
    for (name, value) in more {
        gateway_proto::h2::hpack::encode_field(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block.to_vec()
}

fn open(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &get(&[]))
}

/// What the gateway said: its frames (kind, stream, payload) and how it ended, if it did.
struct Answer {
    frames: Vec<(u8, u32, Vec<u8>)>,
    ending: Option<Ending>,
    requests: usize,
}

impl Answer {
    fn code_of(&self, kind: u8, stream: u32, at: usize) -> Option<Code> {
        let found = self.frames.iter().find(|(k, s, _)| (*k, *s) == (kind, stream))?;
        let code = found.2.get(at..at + 4)?;
        Some(Code(u32::from_be_bytes(code.try_into().unwrap())))
    }

    fn goaway(&self) -> Option<Code> {
        self.code_of(GOAWAY, 0, 4)
    }

    fn reset(&self, stream: u32) -> Option<Code> {
        self.code_of(RST_STREAM, stream, 0)
    }
}

/// Sends preface, SETTINGS and `bytes`, then ends; nothing is answered by the gateway's side.
async fn send(bytes: Vec<u8>) -> Answer {
    let start = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    send_raw([start, bytes].concat()).await
}

async fn send_raw(bytes: Vec<u8>) -> Answer {
    let (near, far) = tokio::io::duplex(PIPE);
    let served = serve_on(far, Settings::default());
    let (mut from, mut to) = tokio::io::split(near);
    let mut incoming = served.incoming;
    let requests = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(request) = incoming.next().await {
            held.push(request);
        }
        held.len()
    });
    tokio::spawn(async move {
        // The gateway may close before it has read all.
        drop(to.write_all(&bytes).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(to.shutdown().await);
    });
    let mut said = Vec::new();
    soon(from.read_to_end(&mut said)).await.unwrap();
    let ending = soon(served.driver).await.unwrap();
    let mut frames = Vec::new();
    let mut rest = said.as_slice();
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let [l0, l1, l2, kind, _, s @ ..] = *head;
        let (payload, after) = after.split_at(u32::from_be_bytes([0, l0, l1, l2]) as usize);
        frames.push((kind, u32::from_be_bytes(s), payload.to_vec()));
        rest = after;
    }
    let ending = Some(ending).filter(|ending| *ending != Ending::ClientClosed);
    Answer { frames, ending, requests: requests.await.unwrap() }
}

async fn assert_flood(what: &str, bytes: Vec<u8>) -> Answer {
    let answer = send(bytes).await;
    assert_eq!(answer.goaway(), Some(Code::ENHANCE_YOUR_CALM), "{what}");
    assert_eq!(answer.ending.map(|ending| ending.label()), Some("http2_flood"), "{what}");
    answer
}

fn many(make: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..FLOOD).flat_map(make).collect()
}

#[tokio::test(start_paused = true)]
async fn each_flood_ends_the_tunnel() {
    let open_one = |rest: Vec<u8>| [open(1, 0), rest].concat();
    assert_flood("ping", many(|_| frame(PING, 0, 0, &[0; 8]))).await;
    assert_flood("pong", many(|_| frame(PING, 1, 0, &[0; 8]))).await;
    assert_flood("settings", many(|_| frame(SETTINGS, 0, 0, &[]))).await;
    assert_flood("priority", many(|_| frame(PRIORITY, 0, 5, &[0; 5]))).await;
    assert_flood("unknown", many(|_| frame(0xee, 0, 0, b"x"))).await;
    assert_flood("window", many(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))).await;
    assert_flood("empty", open_one(many(|_| frame(DATA, 0, 1, &[])))).await;
    assert_flood("thin", open_one(many(|_| frame(DATA, 0, 1, b"x")))).await;
    assert_flood("padding", open_one(many(|_| frame(DATA, 8, 1, &[0])))).await;
    assert_flood("continuation", {
        let start = frame(HEADERS, 0, 1, &get(&[]));
        [start, many(|_| frame(CONTINUATION, 0, 1, &[]))].concat()
    })
    .await;
    assert_flood("late reset", {
        let answered = [open(1, END_STREAM), frame(RST_STREAM, 0, 1, &[0; 4])].concat();
        [answered, many(|_| frame(RST_STREAM, 0, 1, &[0; 4]))].concat()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn rapid_resets_end_the_tunnel_and_open_little() {
    let cancel = |n: u32| [open(2 * n + 1, 0), frame(RST_STREAM, 0, 2 * n + 1, &[0; 4])].concat();
    let answer = assert_flood("rapid reset", many(cancel)).await;
    assert!(answer.requests <= 256, "{} requests handed out", answer.requests);
}

#[tokio::test(start_paused = true)]
async fn making_us_reset_counts_as_resetting() {
    let zero_update =
        |n: u32| [open(2 * n + 1, 0), frame(WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4])].concat();
    assert_flood("zero update", many(zero_update)).await;
    let after_end =
        |n: u32| [open(2 * n + 1, END_STREAM), frame(DATA, 0, 2 * n + 1, b"late data")].concat();
    assert_flood("data after end", many(after_end)).await;
    let overflow = |n: u32| {
        let most = 0x7fff_ffff_u32.to_be_bytes();
        [open(2 * n + 1, 0), frame(WINDOW_UPDATE, 0, 2 * n + 1, &most)].concat()
    };
    assert_flood("overflow", many(overflow)).await;
    let malformed = |n: u32| frame(HEADERS, END_HEADERS, 2 * n + 1, &[0x82]);
    assert_flood("malformed", many(malformed)).await;
}

#[tokio::test(start_paused = true)]
async fn connection_violations_have_their_codes() {
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("even id", open(2, 0), Code::PROTOCOL_ERROR),
        ("falling id", [open(5, 0), open(3, 0)].concat(), Code::PROTOCOL_ERROR),
        ("data on idle", frame(DATA, 0, 1, b"x"), Code::PROTOCOL_ERROR),
        ("reset of idle", frame(RST_STREAM, 0, 1, &[0; 4]), Code::PROTOCOL_ERROR),
        ("update of idle", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), Code::PROTOCOL_ERROR),
        ("zero update", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), Code::PROTOCOL_ERROR),
        (
            "overflow",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            Code::FLOW_CONTROL_ERROR,
        ),
        (
            "overflow by settings",
            [
                open(1, 0),
                frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0, 0]),
                frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
            ]
            .concat(),
            Code::FLOW_CONTROL_ERROR,
        ),
        ("bad hpack", frame(HEADERS, END_HEADERS, 1, &[0xff; 20]), Code::COMPRESSION_ERROR),
        (
            "two acks",
            [frame(SETTINGS, 1, 0, &[]), frame(SETTINGS, 1, 0, &[])].concat(),
            Code::PROTOCOL_ERROR,
        ),
        ("large frame", frame(DATA, 0, 1, &[0; 16_385]), Code::FRAME_SIZE_ERROR),
    ];
    for (what, bytes, code) in cases {
        let answer = send(bytes).await;
        assert_eq!(answer.goaway(), Some(code), "{what}");
        assert_eq!(answer.ending.map(|ending| ending.label()), Some("http2_violation"), "{what}");
    }
    let first = [PREFACE, &frame(PING, 0, 0, &[0; 8])].concat();
    assert_eq!(send_raw(first).await.goaway(), Some(Code::PROTOCOL_ERROR), "no SETTINGS first");
    let other = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n".to_vec();
    assert_eq!(send_raw(other).await.goaway(), Some(Code::PROTOCOL_ERROR), "no preface");
}

#[tokio::test(start_paused = true)]
async fn stream_violations_reset_their_stream_and_no_other() {
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("data after end", frame(DATA, 0, 1, b"x"), Code::STREAM_CLOSED),
        ("head after end", open(1, END_STREAM), Code::STREAM_CLOSED),
    ];
    for (what, bytes, code) in cases {
        let answer = send([open(1, END_STREAM), bytes, open(3, END_STREAM)].concat()).await;
        assert_eq!((answer.reset(1), answer.reset(3)), (Some(code), None), "{what}");
        assert_eq!(answer.goaway(), None, "{what}");
    }
    let over = (0..5).flat_map(|_| frame(DATA, 0, 1, &[0; 16_384]));
    let length = |value: &str| frame(HEADERS, END_HEADERS, 1, &get(&[("content-length", value)]));
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("over the window", [open(1, 0), over.collect()].concat(), Code::FLOW_CONTROL_ERROR),
        (
            "trailers without end",
            [open(1, 0), frame(HEADERS, END_HEADERS, 1, &[])].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "pseudo-header in trailers",
            [open(1, 0), frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x82])].concat(),
            Code::PROTOCOL_ERROR,
        ),
        ("too long", [length("3"), frame(DATA, 0, 1, b"four")].concat(), Code::PROTOCOL_ERROR),
        (
            "too short",
            [length("30"), frame(DATA, END_STREAM, 1, b"four")].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "depends on itself",
            frame(
                HEADERS,
                END_HEADERS | 0x20,
                1,
                &[&[0, 0, 0, 1, 9], get(&[]).as_slice()].concat(),
            ),
            Code::PROTOCOL_ERROR,
        ),
        (
            "smuggling",
            frame(HEADERS, END_HEADERS, 1, &get(&[("transfer-encoding", "chunked")])),
            Code::PROTOCOL_ERROR,
        ),
    ];
    for (what, bytes, code) in cases {
        let answer = send([bytes, open(3, END_STREAM)].concat()).await;
        assert_eq!((answer.reset(1), answer.reset(3)), (Some(code), None), "{what}");
        assert_eq!(answer.goaway(), None, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_list_too_large_is_answered_431() {
    let value = "v".repeat(15_000);
    let big = get(&[("a", &value), ("b", &value), ("c", &value), ("d", &value), ("e", &value)]);
    let mut frames = bytes::BytesMut::new();
    encode::headers(1, &big, true, &mut frames);
    let answer = send([frames.to_vec(), open(3, END_STREAM)].concat()).await;
    let head = answer.frames.iter().find(|(kind, stream, _)| (*kind, *stream) == (HEADERS, 1));
    assert_eq!(head.unwrap().2, b"\x08\x03431");
    assert_eq!((answer.goaway(), answer.requests), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_too_many_is_refused_and_the_rest_go_on() {
    let streams = (0..1001).flat_map(|n| open(2 * n + 1, 0)).collect();
    let answer = send(streams).await;
    assert_eq!((answer.reset(1999), answer.reset(2001)), (None, Some(Code::REFUSED_STREAM)));
    assert_eq!((answer.goaway(), answer.requests), (None, 1000));
}

#[tokio::test(start_paused = true)]
async fn cancelled_streams_stay_work_until_their_handlers_stop() {
    // Answered at once, so that giving them up costs the peer nothing; the handlers go on.
    let (near, far) = tokio::io::duplex(PIPE);
    let served = serve_on(far, Settings { streams_max: 10, ..Settings::default() });
    let mut incoming = served.incoming;
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(request) = incoming.next().await {
            held.push(request.responder.respond(200, &Fields::new()));
        }
        held.len()
    });
    let (mut from, mut to) = tokio::io::split(near);
    let reader = tokio::spawn(async move {
        let mut said = Vec::new();
        from.read_to_end(&mut said).await.unwrap();
    });
    to.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    for n in 0..100 {
        to.write_all(&open(2 * n + 1, 0)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        to.write_all(&frame(RST_STREAM, 0, 2 * n + 1, &[0; 4])).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    to.shutdown().await.unwrap();
    soon(reader).await.unwrap();
    assert_eq!(soon(held).await.unwrap(), 20);
}
