//! What may differ between direct and through the gateway, each with its reason. docs/standards.md
//! holds the same table.

use super::seen::{End, Seen, Told};
use super::shape::{Ends, Framing, Pairs, Shape, V};

/// Who looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The origin, at a request.
    Origin,
    /// The client, at a response.
    Client,
}

/// Where a difference was found.
pub struct Place<'a> {
    pub shape: &'a Shape,
    pub client: V,
    pub origin: V,
    pub view: View,
}

impl Place<'_> {
    /// A leg of HTTP/2, whose fields have no case and no order across names.
    fn two(&self) -> bool {
        self.client == V::Two || self.origin == V::Two
    }

    fn at(&self, view: View) -> bool {
        self.view == view
    }
}

/// One accepted difference.
pub struct Accepted {
    pub name: &'static str,
    pub what: &'static str,
    pub reason: &'static str,
    /// Takes the difference out of both, where it may be.
    pub level: fn(&Place<'_>, &mut Seen, &mut Seen),
}

/// In this order they are tried.
pub const ACCEPTED: &[Accepted] = &[
    Accepted {
        name: "lower-case",
        what: "field names are in lower case where either side speaks HTTP/2",
        reason: "HTTP/2 has no other (RFC 9113 section 8.2.1)",
        level: |place, direct, through| {
            if place.two() {
                each(direct, lower);
                each(through, lower);
            }
        },
    },
    Accepted {
        name: "grouped",
        what: "fields of one name stand together, at the first one's place, where either side \
               speaks HTTP/2; their own order is kept",
        reason: "the `h2` crate keeps fields by name; order across names means nothing (RFC 9110 \
                 section 5.3)",
        level: |place, direct, through| {
            if place.two() {
                each(direct, group);
                each(through, group);
            }
        },
    },
    Accepted {
        name: "cookie-crumbs",
        what: "several `cookie` fields of an HTTP/2 request become one",
        reason: "rules and HTTP/1.1 origins need one (RFC 9113 section 8.2.3)",
        level: |place, direct, through| {
            if place.client == V::Two && place.at(View::Origin) {
                crumbs(&mut direct.fields);
                crumbs(&mut through.fields);
            }
        },
    },
    Accepted {
        name: "reason-phrase",
        what: "a response of an HTTP/2 origin has the registered reason phrase on HTTP/1.1",
        reason: "HTTP/2 carries none (RFC 9113 section 8.3.2)",
        level: |place, direct, through| {
            if place.at(View::Client) && place.client == V::One && place.origin == V::Two {
                direct.text.clear();
                through.text.clear();
                for (_, reason, _) in direct.interim.iter_mut().chain(&mut through.interim) {
                    reason.clear();
                }
            }
        },
    },
    Accepted {
        name: "own-version",
        what: "HTTP/1.0 messages go on as HTTP/1.1",
        reason: "each hop says its own version (RFC 9110 section 2.5)",
        level: |_, direct, through| {
            if direct.version == "HTTP/1.0" && through.version == "HTTP/1.1" {
                direct.version.clone_from(&through.version);
            }
        },
    },
    Accepted {
        name: "close-delimited",
        what: "a response that ends with its connection is chunked on HTTP/1.1, and ends with its \
               stream on HTTP/2",
        reason: "the client's connection stays open, and a cut shows as one (RFC 9112 section 8)",
        level: |place, direct, through| {
            let empty = direct.body.is_empty() && through.body.is_empty();
            let told = (direct.told, through.told);
            let closes = place.shape.response.framing == Framing::Close;
            if place.at(View::Client)
                && (told == (Told::Close, Told::Chunked)
                    || (closes && empty && told == (Told::Nothing, Told::Open)))
            {
                direct.told = through.told;
            }
        },
    },
    Accepted {
        name: "absolute-form",
        what: "an absolute-form target goes on in origin form, with `Host` set from it",
        reason: "the target's authority is the one that counts (RFC 9112 section 3.2.2)",
        level: |place, direct, through| {
            let Some((_, rest)) = direct.text.split_once("://") else { return };
            if place.at(View::Origin) && !through.text.contains("://") {
                let at = rest.find(['/', '?']).unwrap_or(rest.len());
                let path = &rest[at..];
                direct.text =
                    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            }
        },
    },
    Accepted {
        name: "chunk-extensions",
        what: "chunk extensions are dropped, and chunks are cut anew",
        reason: "they belong to one connection (RFC 9112 section 7.1.1)",
        level: |_, direct, through| {
            if through.extensions.is_empty() {
                direct.extensions.clear();
            }
        },
    },
    Accepted {
        name: "coding-without-body",
        what: "`Transfer-Encoding` of a response without a body (HEAD, 304) is dropped",
        reason: "it frames nothing (RFC 9112 section 6.1)",
        level: |place, direct, through| {
            if place.at(View::Client)
                && direct.body.is_empty()
                && (direct.told, through.told) == (Told::Chunked, Told::Nothing)
            {
                direct.told = through.told;
            }
        },
    },
    Accepted {
        name: "empty-has-length",
        what: "a message that HTTP/2 ended with its head, or HTTP/1.1 with the connection, has \
               `Content-Length: 0` on HTTP/1.1 where the method or status may have content",
        reason: "HTTP/1.1 needs a word about it (RFC 9110 section 8.6)",
        level: |_, direct, through| {
            let zero = |seen: &Seen| seen.field("content-length").as_deref() == Some("0");
            if direct.body.is_empty()
                && matches!(direct.told, Told::Nothing | Told::Close | Told::Chunked)
                && direct.trailers.is_empty()
                && through.told == Told::Sized
                && zero(through)
            {
                direct.told = through.told;
                through.fields.retain(|(name, _)| !name.eq_ignore_ascii_case(b"content-length"));
            }
        },
    },
    Accepted {
        name: "one-length",
        what: "equal `Content-Length` values of a response become one",
        reason: "a second reading must not be possible (RFC 9110 section 8.6)",
        level: |place, direct, through| {
            let lengths = |seen: &Seen| {
                seen.fields
                    .iter()
                    .filter(|(it, _)| it.eq_ignore_ascii_case(b"content-length"))
                    .count()
            };
            let listed = direct.field("content-length").is_some_and(|it| it.contains(','));
            if place.at(View::Client) && (lengths(direct) > 1 || listed) && lengths(through) == 1 {
                for seen in [direct, through] {
                    seen.fields.retain(|(name, _)| !name.eq_ignore_ascii_case(b"content-length"));
                }
            }
        },
    },
    Accepted {
        name: "protected-options",
        what: "`Connection` cannot list framing, routing, identity or what policy judges by: such \
               fields go on",
        reason: "the origin must get the request that was judged (CASES H1-24)",
        level: |_, direct, through| {
            let listed = |name: &[u8]| name.eq_ignore_ascii_case(b"cookie");
            if !direct.fields.iter().any(|(name, _)| listed(name)) {
                through.fields.retain(|(name, _)| !listed(name));
            }
        },
    },
    Accepted {
        name: "own-answer",
        what: "where the origin fails before its response head, the client gets the gateway's 502",
        reason: "a page says more than a cut connection (RFC 9110 section 15.6.3)",
        level: |place, direct, through| {
            let raw = place.shape.response.raw.as_deref();
            let headless = raw.is_some_and(|raw| !raw.windows(4).any(|it| it == b"\r\n\r\n"));
            let cut = place.shape.response.ends == Ends::Cut;
            if place.at(View::Client) && headless && cut && through.what == "502" {
                *direct = through.clone();
            }
        },
    },
    Accepted {
        name: "expectation",
        what: "`Expect: 100-continue` does not go on to HTTP/2 origins; the gateway answers it with \
               100 itself, and the body goes on until the origin stops it",
        reason: "many HTTP/2 servers never answer it, and HTTP/1.1 clients may wait for ever; \
                 RST_STREAM stops a body as well (RFC 9113 section 8.1)",
        level: |place, direct, through| {
            if place.origin != V::Two || !place.shape.expects() {
                return;
            }
            if place.at(View::Client) {
                for seen in [direct, through] {
                    seen.interim.retain(|(status, ..)| *status != 100);
                }
                return;
            }
            direct.fields.retain(|(name, _)| !name.eq_ignore_ascii_case(b"expect"));
            if matches!(direct.end, End::Reset(_)) && direct.body.is_empty() {
                (direct.end, direct.body) = (through.end, through.body.clone());
            }
        },
    },
    Accepted {
        name: "reset-code",
        what: "a response that is cut in its body ends in a cut connection on HTTP/1.1, and in \
               RST_STREAM on HTTP/2: with the origin's reason, else INTERNAL_ERROR",
        reason: "each version has one way to say it (RFC 9112 section 8, RFC 9113 section 8.1)",
        level: |_, direct, through| {
            let broken = |end: End| matches!(end, End::Cut | End::Reset(_));
            if broken(direct.end) && broken(through.end) {
                direct.end = through.end;
                // How much had arrived when it was cut is not the gateway's to say.
                if direct.body.starts_with(&through.body) {
                    direct.body.clone_from(&through.body);
                }
            }
        },
    },
    Accepted {
        name: "reset-overtakes",
        what: "an HTTP/2 client may get RST_STREAM without what was queued before it, the response \
               head included",
        reason: "the `h2` crate drops a reset stream's queue; a receiver may do so too (RFC 9113 \
                 section 5.4.2)",
        level: |place, direct, through| {
            let reset = |seen: &Seen| matches!(seen.end, End::Reset(_));
            let headless = through.what.is_empty();
            if place.at(View::Client)
                && place.client == V::Two
                && reset(through)
                && headless
                && reset(direct)
            {
                *direct = through.clone();
            }
        },
    },
];

/// What the gateway answers itself: the shape names its row.
pub const REFUSED: &[(&str, &str, &str)] = &[
    (
        "refused-trace",
        "TRACE is answered with 405",
        "it reflects cookies to scripts (RFC 9110 section 9.3.8)",
    ),
    (
        "refused-obs-fold",
        "a folded field line is answered with 400, one of a response with 502",
        "RFC 9112 section 5.2; folds hide fields from one of two readers (CASES H1-08)",
    ),
    (
        "refused-characters",
        "a target with a character that no URI has and the `h2` crate refuses (`<`, `>`, `` ` ``, in the query also `\"`) does not reach an HTTP/2 origin: 502",
        "RFC 3986 section 2; HTTP/1.1 origins get it as it is",
    ),
];

/// Every row of the table: name, what, reason.
pub fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let accepted = ACCEPTED.iter().map(|it| (it.name, it.what, it.reason));
    accepted.chain(REFUSED.iter().copied())
}

fn each(seen: &mut Seen, mut change: impl FnMut(&mut Pairs)) {
    change(&mut seen.fields);
    change(&mut seen.trailers);
    for (_, _, fields) in &mut seen.interim {
        change(fields);
    }
}

fn lower(fields: &mut Pairs) {
    for (name, _) in fields {
        name.make_ascii_lowercase();
    }
}

fn group(fields: &mut Pairs) {
    let mut grouped: Pairs = Vec::with_capacity(fields.len());
    for (name, value) in fields.drain(..) {
        let place = grouped.iter().rposition(|(it, _)| it.eq_ignore_ascii_case(&name));
        let place = place.map_or(grouped.len(), |at| at + 1);
        grouped.insert(place, (name, value));
    }
    *fields = grouped;
}

fn crumbs(fields: &mut Pairs) {
    let is = |(name, _): &&(Vec<u8>, Vec<u8>)| name.eq_ignore_ascii_case(b"cookie");
    let Some(place) = fields.iter().position(|it| is(&it)) else { return };
    let all: Vec<Vec<u8>> = fields.iter().filter(is).map(|(_, value)| value.clone()).collect();
    let name = fields[place].0.clone();
    fields.retain(|it| !is(&it));
    fields.insert(place, (name, all.join(&b"; "[..])));
}
