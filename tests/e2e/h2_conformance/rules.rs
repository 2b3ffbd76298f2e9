//! The rules, one line each: section, what it says, what is sent, what must come of it.

use super::{Kit, head};
use crate::differential::shape::pair;
use crate::differential::wire2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, encode, frame,
};

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const PADDED: u8 = 8;
const PRIORITY_FLAG: u8 = 32;

const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;
const CALM: u32 = 11;

/// What a rule wants.
#[derive(Debug)]
pub enum Expect {
    /// GOAWAY with one of these codes, or the end of the connection.
    Connection(&'static [u32]),
    /// RST_STREAM with one of these codes, or as above.
    Stream(&'static [u32]),
    /// RST_STREAM PROTOCOL_ERROR, or a 4xx: nothing of it is forwarded.
    Malformed,
    /// The connection goes on: a ping behind it is answered.
    Ignored,
    /// The ping of the rule itself is answered.
    Pong,
    /// A response on this stream, to its end.
    Answered(u32),
    /// That many acknowledgements of SETTINGS.
    SettingsAcked(usize),
    /// Exactly that many bytes of DATA on this stream.
    Bytes(u32, usize),
    /// The first frame is SETTINGS.
    SettingsFirst,
    /// A stream too many.
    Refused(&'static [u32]),
}

/// One rule.
pub struct Rule {
    pub section: &'static str,
    pub says: &'static str,
    pub send: fn(&Kit) -> Vec<u8>,
    pub expect: Expect,
    /// Without preface and SETTINGS before it.
    pub bare: bool,
    /// Behind a whole exchange on stream 1.
    pub after_answer: bool,
}

const fn rule(
    section: &'static str,
    says: &'static str,
    expect: Expect,
    send: fn(&Kit) -> Vec<u8>,
) -> Rule {
    Rule { section, says, send, expect, bare: false, after_answer: false }
}

impl Rule {
    fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    fn after_answer(mut self) -> Self {
        self.after_answer = true;
        self
    }
}

pub fn all() -> Vec<Rule> {
    let mut all = starting();
    all.extend(framing());
    all.extend(states());
    all.extend(frames());
    all.extend(settings());
    all.extend(windows());
    all.extend(continuations());
    all.extend(messages());
    all.extend(pseudo());
    all.extend(compression());
    all
}

fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn window(id: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, id, &increment.to_be_bytes())
}

/// HEADERS with another block, to its end.
fn raw(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, block)
}

/// A GET's block with `more` behind it.
fn block_and(kit: &Kit, more: &[u8]) -> Vec<u8> {
    raw(&[&kit.block("GET")[..], more].concat())
}

/// The first half of a request's head, and the rest.
fn halves(kit: &Kit) -> (Vec<u8>, Vec<u8>) {
    let block = kit.block("GET");
    let (first, rest) = block.split_at(block.len() / 2);
    (first.to_vec(), rest.to_vec())
}

fn post_with_length(kit: &Kit, length: &str) -> Vec<u8> {
    let mut fields = kit.request("POST");
    fields.push(pair("content-length", length));
    frame(HEADERS, END_HEADERS, 1, &encode(&fields))
}

fn ping(payload: &[u8]) -> Vec<u8> {
    frame(PING, 0, 0, payload)
}

fn starting() -> Vec<Rule> {
    use Expect::{Answered, Connection, SettingsFirst};
    vec![
        rule("3.4", "the server's preface is SETTINGS", SettingsFirst, |_| Vec::new()),
        rule("3.4", "a wrong preface ends the connection", Connection(&[PROTOCOL]), |_| {
            b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec()
        })
        .bare(),
        rule("3.4", "what follows the preface must be SETTINGS", Connection(&[PROTOCOL]), |_| {
            join(&[PREFACE.to_vec(), ping(b"12345678")])
        })
        .bare(),
        rule("3.4", "a request may follow without waiting", Answered(1), |kit| {
            join(&[PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[]), kit.get(1)])
        })
        .bare(),
    ]
}

fn framing() -> Vec<Rule> {
    use Expect::{Answered, Connection, Ignored, Pong, Stream};
    vec![
        rule("4.1", "frames of unknown type are passed over", Ignored, |_| {
            frame(0xee, 0, 0, b"whatever")
        }),
        rule("4.1", "flags that mean nothing are passed over", Pong, |_| {
            frame(PING, 0x16, 0, b"survived")
        }),
        rule("4.1", "the reserved bit is passed over", Pong, |_| {
            frame(PING, 0, 0x8000_0000, b"survived")
        }),
        rule("4.2", "DATA of 2^14 bytes is taken", Answered(1), |kit| {
            join(&[kit.post(1), frame(DATA, END_STREAM, 1, &[0; 16_384])])
        }),
        rule("4.2", "DATA above SETTINGS_MAX_FRAME_SIZE", Stream(&[SIZE]), |kit| {
            join(&[kit.post(1), frame(DATA, END_STREAM, 1, &[0; 16_385])])
        }),
        rule("4.2", "HEADERS above SETTINGS_MAX_FRAME_SIZE", Connection(&[SIZE]), |kit| {
            let mut fields = kit.request("GET");
            fields.push(pair("x-long", "v".repeat(17_000)));
            head(1, &fields)
        }),
        rule("4.2", "an unknown frame above SETTINGS_MAX_FRAME_SIZE", Connection(&[SIZE]), |_| {
            frame(0xee, 0, 0, &[0; 16_385])
        }),
        rule("4.3", "a block that does not decompress", Connection(&[COMPRESSION]), |_| {
            raw(&[0x40])
        }),
        rule("4.3", "a frame of another type inside a block", Connection(&[PROTOCOL]), |kit| {
            join(&[
                frame(HEADERS, END_STREAM, 1, &halves(kit).0),
                frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
                frame(CONTINUATION, END_HEADERS, 1, &halves(kit).1),
            ])
        }),
        rule("4.3", "a frame of another stream inside a block", Connection(&[PROTOCOL]), |kit| {
            join(&[frame(HEADERS, END_STREAM, 1, &halves(kit).0), kit.get(3)])
        }),
        rule("5.5", "extension frames are passed over on a stream", Answered(1), |kit| {
            join(&[kit.post(1), frame(0xf0, 0, 1, b"ext"), frame(DATA, END_STREAM, 1, b"")])
        }),
        rule("5.5", "extension frames inside a block", Connection(&[PROTOCOL]), |kit| {
            join(&[
                frame(HEADERS, END_STREAM, 1, &halves(kit).0),
                frame(0xf0, 0, 0, b"ext"),
                frame(CONTINUATION, END_HEADERS, 1, &halves(kit).1),
            ])
        }),
    ]
}

fn states() -> Vec<Rule> {
    use Expect::{Answered, Connection, Ignored, Refused, Stream};
    vec![
        rule("5.1", "DATA on an idle stream", Connection(&[PROTOCOL, CLOSED]), |_| {
            frame(DATA, END_STREAM, 1, b"test")
        }),
        rule("5.1", "RST_STREAM on an idle stream", Connection(&[PROTOCOL]), |_| {
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])
        }),
        rule("5.1", "WINDOW_UPDATE on an idle stream", Connection(&[PROTOCOL]), |_| window(1, 100)),
        rule("5.1", "CONTINUATION on an idle stream", Connection(&[PROTOCOL]), |kit| {
            frame(CONTINUATION, END_HEADERS, 1, &kit.block("GET"))
        }),
        rule("5.1", "DATA on a half-closed stream", Stream(&[CLOSED, PROTOCOL]), |kit| {
            join(&[kit.get(1), frame(DATA, END_STREAM, 1, b"test")])
        }),
        rule("5.1", "HEADERS on a half-closed stream", Stream(&[CLOSED, PROTOCOL]), |kit| {
            join(&[kit.get(1), kit.get(1)])
        }),
        rule(
            "5.1",
            "CONTINUATION on a half-closed stream",
            Connection(&[PROTOCOL, CLOSED]),
            |kit| join(&[kit.get(1), frame(CONTINUATION, END_HEADERS, 1, &kit.block("GET"))]),
        ),
        rule("5.1", "DATA behind RST_STREAM", Stream(&[CLOSED, PROTOCOL]), |kit| {
            join(&[
                kit.post(1),
                frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
                frame(DATA, END_STREAM, 1, b"test"),
            ])
        }),
        rule("5.1", "HEADERS behind RST_STREAM", Stream(&[CLOSED, PROTOCOL]), |kit| {
            join(&[kit.post(1), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), kit.get(1)])
        }),
        rule("5.1", "CONTINUATION behind RST_STREAM", Connection(&[PROTOCOL, CLOSED]), |kit| {
            join(&[
                kit.post(1),
                frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
                frame(CONTINUATION, END_HEADERS, 1, &kit.block("GET")),
            ])
        }),
        rule("5.1", "DATA on a closed stream", Connection(&[CLOSED, PROTOCOL]), |_| {
            frame(DATA, END_STREAM, 1, b"test")
        })
        .after_answer()
        .or_stream(),
        rule("5.1", "HEADERS on a closed stream", Connection(&[CLOSED, PROTOCOL]), |kit| {
            kit.get(1)
        })
        .after_answer()
        .or_stream(),
        rule("5.1", "CONTINUATION on a closed stream", Connection(&[PROTOCOL, CLOSED]), |kit| {
            frame(CONTINUATION, END_HEADERS, 1, &kit.block("GET"))
        })
        .after_answer(),
        rule("5.1", "WINDOW_UPDATE on a closed stream is passed over", Ignored, |_| window(1, 100))
            .after_answer(),
        rule("5.1", "RST_STREAM on a closed stream is passed over", Ignored, |_| {
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 0])
        })
        .after_answer(),
        rule("5.1", "PRIORITY on a closed stream is passed over", Ignored, |_| {
            frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])
        })
        .after_answer(),
        rule("5.1", "PRIORITY on an idle stream is passed over", Ignored, |_| {
            frame(PRIORITY, 0, 7, &[0, 0, 0, 0, 1])
        }),
        rule("5.1.1", "an even stream number", Connection(&[PROTOCOL]), |kit| kit.get(2)),
        rule(
            "5.1.1",
            "a stream number below an earlier one",
            Connection(&[PROTOCOL, CLOSED]),
            |kit| join(&[kit.get(5), kit.get(3)]),
        ),
        rule("5.1.1", "stream numbers may leave gaps", Answered(101), |kit| kit.get(101)),
        rule(
            "5.1.2",
            "more streams than were allowed",
            Refused(&[REFUSED, PROTOCOL, CALM]),
            |kit| (0..1_100_u32).flat_map(|at| kit.post(2 * at + 1)).collect(),
        ),
        rule(
            "5.4.1",
            "behind a connection error nothing is served",
            Connection(&[PROTOCOL]),
            |kit| join(&[frame(RST_STREAM, 0, 0, &[0, 0, 0, 0]), kit.get(1)]),
        ),
    ]
}

impl Rule {
    /// RFC 9113 lets a closed stream answer with either kind of error.
    fn or_stream(mut self) -> Self {
        if let Expect::Connection(codes) = self.expect {
            self.expect = Expect::Stream(codes);
        }
        self
    }
}

fn frames() -> Vec<Rule> {
    use Expect::{Answered, Connection, Ignored, Pong, Stream};
    vec![
        rule("6.1", "DATA on stream 0", Connection(&[PROTOCOL]), |_| frame(DATA, 0, 0, b"test")),
        rule("6.1", "DATA with padding is taken", Answered(1), |kit| {
            join(&[kit.post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x02hi\0\0")])
        }),
        rule("6.1", "padding longer than its DATA", Connection(&[PROTOCOL]), |kit| {
            join(&[kit.post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x06test")])
        })
        .or_stream(),
        rule("6.1", "padded DATA without a length", Connection(&[PROTOCOL, SIZE]), |kit| {
            join(&[kit.post(1), frame(DATA, END_STREAM | PADDED, 1, b"")])
        })
        .or_stream(),
        rule("6.1", "empty DATA ends a stream", Answered(1), |kit| {
            join(&[kit.post(1), frame(DATA, 0, 1, b""), frame(DATA, END_STREAM, 1, b"")])
        }),
        rule("6.2", "HEADERS on stream 0", Connection(&[PROTOCOL]), |kit| {
            frame(HEADERS, END_HEADERS | END_STREAM, 0, &kit.block("GET"))
        }),
        rule("6.2", "HEADERS with padding are taken", Answered(1), |kit| {
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PADDED,
                1,
                &[&[3][..], &kit.block("GET"), &[0; 3]].concat(),
            )
        }),
        rule("6.2", "HEADERS with a priority are taken", Answered(1), |kit| {
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PRIORITY_FLAG,
                1,
                &[&[0, 0, 0, 0, 200][..], &kit.block("GET")].concat(),
            )
        }),
        rule("6.2", "HEADERS with padding and a priority are taken", Answered(1), |kit| {
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PADDED | PRIORITY_FLAG,
                1,
                &[&[2, 0, 0, 0, 0, 9][..], &kit.block("GET"), &[0; 2]].concat(),
            )
        }),
        rule("6.2", "padding longer than its HEADERS", Connection(&[PROTOCOL]), |kit| {
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PADDED,
                1,
                &[&[255][..], &kit.block("GET")].concat(),
            )
        }),
        rule("6.2", "DATA inside a block", Connection(&[PROTOCOL]), |kit| {
            join(&[frame(HEADERS, 0, 1, &halves(kit).0), frame(DATA, END_STREAM, 1, b"test")])
        }),
        rule("6.3", "PRIORITY on stream 0", Connection(&[PROTOCOL]), |_| {
            frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 1])
        }),
        rule("6.3", "PRIORITY of another length than 5", Stream(&[SIZE]), |_| {
            frame(PRIORITY, 0, 1, &[0, 0, 0, 1])
        }),
        rule("6.4", "RST_STREAM on stream 0", Connection(&[PROTOCOL]), |_| {
            frame(RST_STREAM, 0, 0, &[0, 0, 0, 8])
        }),
        rule("6.4", "RST_STREAM of another length than 4", Connection(&[SIZE]), |kit| {
            join(&[kit.post(1), frame(RST_STREAM, 0, 1, &[0, 0, 8])])
        }),
        rule("6.6", "PUSH_PROMISE of a client", Connection(&[PROTOCOL]), |kit| {
            join(&[
                kit.post(1),
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    &[&[0, 0, 0, 2][..], &kit.block("GET")].concat(),
                ),
            ])
        }),
        rule("6.7", "PING is answered with its bytes", Pong, |_| ping(b"survived")),
        rule("6.7", "an answer to no PING is passed over", Ignored, |_| {
            frame(PING, 1, 0, b"unasked!")
        }),
        rule("6.7", "PING on a stream", Connection(&[PROTOCOL]), |_| {
            frame(PING, 0, 1, b"survived")
        }),
        rule("6.7", "PING shorter than 8", Connection(&[SIZE]), |_| ping(b"short")),
        rule("6.7", "PING longer than 8", Connection(&[SIZE]), |_| ping(b"much too long")),
        rule("6.8", "GOAWAY on a stream", Connection(&[PROTOCOL]), |_| {
            frame(GOAWAY, 0, 1, &[0; 8])
        }),
        rule("6.8", "GOAWAY shorter than 8", Connection(&[SIZE, PROTOCOL]), |_| {
            frame(GOAWAY, 0, 0, &[0; 6])
        }),
        rule("7", "RST_STREAM with an unknown code", Ignored, |kit| {
            join(&[kit.post(1), frame(RST_STREAM, 0, 1, &[0, 0, 0, 0xff])])
        }),
    ]
}

fn settings() -> Vec<Rule> {
    use Expect::{Answered, Connection, Ignored, SettingsAcked};
    vec![
        rule("6.5", "an acknowledgement with a payload", Connection(&[SIZE]), |_| {
            frame(SETTINGS, 1, 0, &[0, 3, 0, 0, 0, 1])
        }),
        rule("6.5", "SETTINGS on a stream", Connection(&[PROTOCOL]), |_| {
            frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 1])
        }),
        rule("6.5", "SETTINGS of a length that is no multiple of 6", Connection(&[SIZE]), |_| {
            frame(SETTINGS, 0, 0, &[0, 3, 0])
        }),
        rule("6.5.2", "ENABLE_PUSH of 2", Connection(&[PROTOCOL]), |_| setting(2, 2)),
        rule("6.5.2", "ENABLE_PUSH of 0 and 1", SettingsAcked(3), |_| {
            join(&[setting(2, 0), setting(2, 1)])
        }),
        rule("6.5.2", "INITIAL_WINDOW_SIZE above 2^31-1", Connection(&[FLOW]), |_| {
            setting(4, 0x8000_0000)
        }),
        rule("6.5.2", "MAX_FRAME_SIZE below 2^14", Connection(&[PROTOCOL]), |_| setting(5, 16_383)),
        rule("6.5.2", "MAX_FRAME_SIZE above 2^24-1", Connection(&[PROTOCOL]), |_| {
            setting(5, 16_777_216)
        }),
        rule("6.5.2", "unknown parameters are passed over", Ignored, |_| setting(0xff, 1)),
        rule("6.5.2", "a table size of 0 is kept to", Answered(1), |kit| {
            join(&[setting(1, 0), kit.get(1)])
        }),
        rule("6.5.3", "SETTINGS are acknowledged", SettingsAcked(2), |_| setting(3, 100)),
        rule("6.5.3", "empty SETTINGS are acknowledged", SettingsAcked(2), |_| {
            frame(SETTINGS, 0, 0, &[])
        }),
        rule("6.5.3", "of one parameter twice the last counts", Expect::Bytes(1, 1), |kit| {
            let both = [&[0, 4, 0, 0, 0, 100][..], &[0, 4, 0, 0, 0, 1]].concat();
            join(&[frame(SETTINGS, 0, 0, &both), kit.get(1)])
        }),
    ]
}

fn windows() -> Vec<Rule> {
    use Expect::{Answered, Bytes, Connection, Stream};
    vec![
        rule("6.9", "an increment of 0 on the connection", Connection(&[PROTOCOL]), |_| {
            window(0, 0)
        }),
        rule("6.9", "an increment of 0 on a stream", Stream(&[PROTOCOL]), |kit| {
            join(&[kit.post(1), window(1, 0)])
        }),
        rule("6.9", "WINDOW_UPDATE of another length than 4", Connection(&[SIZE]), |_| {
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])
        }),
        rule("6.9.1", "no byte goes beyond a stream's window", Bytes(1, 1), |kit| {
            join(&[setting(4, 1), kit.get(1)])
        }),
        rule("6.9.1", "a connection's window above 2^31-1", Connection(&[FLOW]), |_| {
            join(&[window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)])
        }),
        rule("6.9.1", "a stream's window above 2^31-1", Stream(&[FLOW]), |kit| {
            join(&[kit.post(1), window(1, 0x7fff_ffff), window(1, 0x7fff_ffff)])
        }),
        rule("6.9.2", "a new initial window holds for open streams", Answered(1), |kit| {
            join(&[setting(4, 0), kit.get(1), setting(4, 1_000)])
        }),
        rule("6.9.2", "a window may be negative for a while", Answered(1), |kit| {
            join(&[setting(4, 3), kit.get(1), setting(4, 2), window(1, 1_000)])
        }),
        rule("6.9.2", "a window that a parameter makes overflow", Connection(&[FLOW]), |kit| {
            join(&[kit.post(1), window(1, 0x7fff_0000), setting(4, 0x7fff_ffff)])
        })
        .or_stream(),
        rule("6.9", "a window opened byte by byte", Answered(1), |kit| {
            let drops: Vec<u8> = (0..100).flat_map(|_| window(1, 1)).collect();
            join(&[setting(4, 0), kit.get(1), drops])
        }),
    ]
}

fn continuations() -> Vec<Rule> {
    use Expect::{Answered, Connection};
    vec![
        rule("6.10", "a block in three frames", Answered(1), |kit| {
            let (first, rest) = halves(kit);
            let (second, third) = rest.split_at(5);
            join(&[
                frame(HEADERS, END_STREAM, 1, &first),
                frame(CONTINUATION, 0, 1, second),
                frame(CONTINUATION, END_HEADERS, 1, third),
            ])
        }),
        rule("6.10", "an empty CONTINUATION", Answered(1), |kit| {
            join(&[
                frame(HEADERS, END_STREAM, 1, &kit.block("GET")),
                frame(CONTINUATION, END_HEADERS, 1, b""),
            ])
        }),
        rule("6.10", "HEADERS where CONTINUATION is due", Connection(&[PROTOCOL]), |kit| {
            join(&[
                frame(HEADERS, END_STREAM, 1, &halves(kit).0),
                frame(HEADERS, END_HEADERS, 1, &halves(kit).1),
            ])
        }),
        rule("6.10", "PING where CONTINUATION is due", Connection(&[PROTOCOL]), |kit| {
            join(&[frame(HEADERS, END_STREAM, 1, &halves(kit).0), ping(b"12345678")])
        }),
        rule("6.10", "SETTINGS where CONTINUATION is due", Connection(&[PROTOCOL]), |kit| {
            join(&[frame(HEADERS, END_STREAM, 1, &halves(kit).0), setting(3, 1)])
        }),
        rule("6.10", "CONTINUATION on stream 0", Connection(&[PROTOCOL]), |kit| {
            join(&[
                frame(HEADERS, END_STREAM, 1, &halves(kit).0),
                frame(CONTINUATION, END_HEADERS, 0, &halves(kit).1),
            ])
        }),
        rule("6.10", "CONTINUATION of another stream", Connection(&[PROTOCOL]), |kit| {
            join(&[
                frame(HEADERS, END_STREAM, 1, &halves(kit).0),
                frame(CONTINUATION, END_HEADERS, 3, &halves(kit).1),
            ])
        }),
        rule("6.10", "CONTINUATION behind a whole block", Connection(&[PROTOCOL]), |kit| {
            join(&[kit.post(1), frame(CONTINUATION, END_HEADERS, 1, &kit.block("GET"))])
        }),
        rule(
            "6.10",
            "CONTINUATION behind a whole continued block",
            Connection(&[PROTOCOL]),
            |kit| {
                join(&[
                    frame(HEADERS, 0, 1, &halves(kit).0),
                    frame(CONTINUATION, END_HEADERS, 1, &halves(kit).1),
                    frame(CONTINUATION, END_HEADERS, 1, b""),
                ])
            },
        ),
        rule("6.10", "CONTINUATION behind DATA", Connection(&[PROTOCOL]), |kit| {
            join(&[
                kit.post(1),
                frame(DATA, 0, 1, b"x"),
                frame(CONTINUATION, END_HEADERS, 1, &kit.block("GET")),
            ])
        }),
    ]
}

fn messages() -> Vec<Rule> {
    use Expect::{Answered, Malformed};
    let mut all = vec![
        rule("8.1", "trailers end a request", Answered(1), |kit| {
            join(&[kit.post(1), frame(DATA, 0, 1, b"x"), head(1, &vec![pair("x-sum", "1")])])
        }),
        rule("8.1", "a second HEADERS that does not end the stream", Malformed, |kit| {
            join(&[kit.post(1), frame(HEADERS, END_HEADERS, 1, &encode(&vec![pair("x-sum", "1")]))])
        }),
        rule("8.1", "pseudo-header fields in trailers", Malformed, |kit| {
            join(&[kit.post(1), frame(DATA, 0, 1, b"x"), head(1, &vec![pair(":method", "GET")])])
        }),
        rule("8.1.1", "a content-length that one DATA belies", Malformed, |kit| {
            join(&[post_with_length(kit, "1"), frame(DATA, END_STREAM, 1, b"test")])
        }),
        rule("8.1.1", "a content-length that several DATA belie", Malformed, |kit| {
            join(&[
                post_with_length(kit, "1"),
                frame(DATA, 0, 1, b"te"),
                frame(DATA, END_STREAM, 1, b"st"),
            ])
        }),
        rule("8.1.1", "a content-length longer than the body", Malformed, |kit| {
            join(&[post_with_length(kit, "10"), frame(DATA, END_STREAM, 1, b"test")])
        }),
        rule("8.1.1", "a content-length without a body", Malformed, |kit| {
            kit.with(1, &[("content-length", "5")])
        }),
        rule("8.1.1", "two content-lengths that differ", Malformed, |kit| {
            kit.with(1, &[("content-length", "0"), ("content-length", "5")])
        }),
        rule("8.1.1", "a content-length that is no number", Malformed, |kit| {
            kit.with(1, &[("content-length", "+0")])
        }),
        rule("8.1.1", "a true content-length is taken", Answered(1), |kit| {
            join(&[post_with_length(kit, "4"), frame(DATA, END_STREAM, 1, b"test")])
        }),
        rule("8.2.3", "cookie crumbs are taken", Answered(1), |kit| {
            kit.with(1, &[("cookie", "a=1"), ("cookie", "b=2")])
        }),
        rule("8.2.1", "an empty field name", Malformed, |kit| kit.with(1, &[("", "1")])),
    ];
    all.extend([
        rule("8.2.1", "a field name in upper case", Malformed, |kit| {
            kit.with(1, &[("X-Upper", "1")])
        }),
        rule("8.2.1", "a field name with a space", Malformed, |kit| kit.with(1, &[("x bad", "1")])),
        rule("8.2.1", "a field name with a colon inside", Malformed, |kit| {
            kit.with(1, &[("x:bad", "1")])
        }),
        rule("8.2.1", "a field name with NUL", Malformed, |kit| kit.with(1, &[("x\0bad", "1")])),
        rule("8.2.1", "a field name with CR LF", Malformed, |kit| {
            kit.with(1, &[("x\r\nbad", "1")])
        }),
        rule("8.2.1", "a field name with DEL", Malformed, |kit| kit.with(1, &[("x\x7f", "1")])),
        rule("8.2.1", "a field name beyond ASCII", Malformed, |kit| {
            kit.with(1, &[("x-\u{fc}", "1")])
        }),
        rule("8.2.1", "a field value with CR", Malformed, |kit| kit.with(1, &[("x-a", "a\rb")])),
        rule("8.2.1", "a field value with LF", Malformed, |kit| kit.with(1, &[("x-a", "a\nb")])),
        rule("8.2.1", "a field value with NUL", Malformed, |kit| kit.with(1, &[("x-a", "a\0b")])),
        rule("8.2.1", "a field value with CR LF and a field", Malformed, |kit| {
            kit.with(1, &[("x-a", "a\r\nx-b: c")])
        }),
        rule("8.2.1", "a field value beyond ASCII is taken", Answered(1), |kit| {
            kit.with(1, &[("x-a", "f\u{fc}r")])
        }),
        rule("8.2.2", "a connection field", Malformed, |kit| {
            kit.with(1, &[("connection", "keep-alive")])
        }),
        rule("8.2.2", "a keep-alive field", Malformed, |kit| kit.with(1, &[("keep-alive", "1")])),
        rule("8.2.2", "a proxy-connection field", Malformed, |kit| {
            kit.with(1, &[("proxy-connection", "keep-alive")])
        }),
        rule("8.2.2", "a transfer-encoding field", Malformed, |kit| {
            kit.with(1, &[("transfer-encoding", "chunked")])
        }),
        rule("8.2.2", "an upgrade field", Malformed, |kit| kit.with(1, &[("upgrade", "h2c")])),
        rule("8.2.2", "te with anything but trailers", Malformed, |kit| {
            kit.with(1, &[("te", "trailers, deflate")])
        }),
        rule("8.2.2", "te with trailers is taken", Answered(1), |kit| {
            kit.with(1, &[("te", "trailers")])
        }),
    ]);
    all
}

fn pseudo() -> Vec<Rule> {
    use Expect::{Answered, Malformed};
    vec![
        rule("8.3", "an unknown pseudo-header field", Malformed, |kit| {
            kit.with(1, &[(":test", "1")])
        }),
        rule("8.3", "a response's pseudo-header field", Malformed, |kit| {
            kit.with(1, &[(":status", "200")])
        }),
        rule("8.3", "a pseudo-header field behind others", Malformed, |kit| {
            let mut fields = kit.request("GET");
            fields.insert(3, pair("x-first", "1"));
            head(1, &fields)
        }),
        rule("8.3.1", "no :method", Malformed, |kit| kit.but(1, ":method", None)),
        rule("8.3.1", "no :scheme", Malformed, |kit| kit.but(1, ":scheme", None)),
        rule("8.3.1", "no :path", Malformed, |kit| kit.but(1, ":path", None)),
        rule("8.3.1", "an empty :path", Malformed, |kit| kit.but(1, ":path", Some(""))),
        rule("8.3.1", "a :path without its slash", Malformed, |kit| {
            kit.but(1, ":path", Some("hello"))
        }),
        rule("8.3.1", "a :path with a space", Malformed, |kit| {
            kit.but(1, ":path", Some("/hello HTTP/1.1"))
        }),
        rule("8.3.1", "a :method with a space", Malformed, |kit| {
            kit.but(1, ":method", Some("GET /other"))
        }),
        rule("8.3.1", "an empty :method", Malformed, |kit| kit.but(1, ":method", Some(""))),
        rule("8.3.1", "neither :authority nor host", Malformed, |kit| {
            kit.but(1, ":authority", None)
        }),
        rule("8.3.1", "an :authority with userinfo", Malformed, |kit| {
            kit.but(1, ":authority", Some(&format!("user@{}", kit.authority)))
        }),
        rule("8.3.1", "an empty :authority", Malformed, |kit| kit.but(1, ":authority", Some(""))),
        rule("8.3.1", "host that differs from :authority", Malformed, |kit| {
            kit.with(1, &[("host", "other.test")])
        }),
        rule("8.3.1", "host equal to :authority is taken", Answered(1), |kit| {
            kit.with(1, &[("host", &kit.authority)])
        }),
        rule("8.3.1", ":method twice", Malformed, |kit| twice(kit, 0)),
        rule("8.3.1", ":scheme twice", Malformed, |kit| twice(kit, 1)),
        rule("8.3.1", ":authority twice", Malformed, |kit| twice(kit, 2)),
        rule("8.3.1", ":path twice", Malformed, |kit| twice(kit, 3)),
        rule("8.5", "CONNECT with :scheme and :path", Malformed, |kit| {
            kit.but(1, ":method", Some("CONNECT"))
        }),
        rule("8.5", "CONNECT without :authority", Malformed, |_| {
            head(1, &vec![pair(":method", "CONNECT")])
        }),
    ]
}

fn twice(kit: &Kit, at: usize) -> Vec<u8> {
    let mut fields = kit.request("GET");
    fields.insert(at, fields[at].clone());
    head(1, &fields)
}

fn compression() -> Vec<Rule> {
    use Expect::{Answered, Connection};
    vec![
        rule("RFC 7541 2.3.3", "an index beyond the tables", Connection(&[COMPRESSION]), |kit| {
            block_and(kit, &[0xff, 0x00])
        }),
        rule(
            "RFC 7541 2.3.3",
            "a literal whose name's index is beyond the tables",
            Connection(&[COMPRESSION]),
            |kit| block_and(kit, &[0x7f, 0x10, 0x01, b'x']),
        ),
        rule(
            "RFC 7541 4.2",
            "a size update at the end of a block",
            Connection(&[COMPRESSION]),
            |kit| block_and(kit, &[0x20]),
        ),
        rule("RFC 7541 4.2", "a size update at the start is taken", Answered(1), |kit| {
            raw(&[&[0x20][..], &kit.block("GET")].concat())
        }),
        rule(
            "RFC 7541 6.3",
            "a size update above what was announced",
            Connection(&[COMPRESSION]),
            |kit| raw(&[&[0x3f, 0xe1, 0xff, 0x03][..], &kit.block("GET")].concat()),
        ),
        rule("RFC 7541 5.1", "an integer that overflows", Connection(&[COMPRESSION]), |kit| {
            block_and(kit, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f])
        }),
        rule(
            "RFC 7541 5.2",
            "Huffman padding of more than 7 bits",
            Connection(&[COMPRESSION]),
            |kit| block_and(kit, b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
        ),
        rule("RFC 7541 5.2", "Huffman padding of zeros", Connection(&[COMPRESSION]), |kit| {
            block_and(kit, b"\x00\x85\xf2\xb2\x4a\x87\xff\x83\x49\x50\x90")
        }),
        rule(
            "RFC 7541 5.2",
            "Huffman code for the end of a string",
            Connection(&[COMPRESSION]),
            |kit| block_and(kit, b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f"),
        ),
        rule("RFC 7541 5.2", "a string longer than its block", Connection(&[COMPRESSION]), |kit| {
            block_and(kit, b"\x00\x03x-a\x7f\x10")
        }),
        rule("RFC 7541 6.1", "index 0", Connection(&[COMPRESSION]), |kit| block_and(kit, &[0x80])),
        rule("RFC 7541 6.2.1", "fields from the dynamic table", Answered(3), |kit| {
            let first = block_and(kit, b"\x40\x03x-a\x01b");
            let mut block = kit.block("GET");
            block.push(0xbe);
            join(&[first, frame(HEADERS, END_HEADERS | END_STREAM, 3, &block)])
        }),
        rule("RFC 7541 6.2.3", "fields never to be indexed", Answered(1), |kit| {
            block_and(kit, b"\x10\x03x-a\x01b")
        }),
    ]
}
