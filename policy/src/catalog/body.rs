//! What a held body is made of, read only as far as signatures ask.

use std::borrow::Cow;

use memchr::memmem;
use serde_json::Value;
use smallvec::SmallVec;

use super::text;
use super::{BODY_BYTES_MAX, RequestView};

/// Values of one field that are looked at: duplicates are how a value is hidden from one reader.
const VALUES_MAX: usize = super::OPERATIONS_MAX + 1;

/// Parts of a multipart body that are looked at.
const PARTS_MAX: usize = 256;

/// What was found, and whether more of the body could still change that.
#[derive(Debug, Default)]
pub(super) struct Reading<'a> {
    pub values: SmallVec<[Cow<'a, str>; 1]>,
    pub undecided: bool,
}

impl<'a> Reading<'a> {
    pub(super) fn undecided() -> Self {
        Self { values: SmallVec::new(), undecided: true }
    }

    pub(super) fn one(value: Option<Cow<'a, str>>) -> Self {
        Self { values: value.into_iter().collect(), undecided: false }
    }
}

/// A body by its shape.
#[derive(Debug)]
pub(super) enum Body<'a> {
    /// Not held: what it says is undecided.
    Unknown,
    /// The request has none.
    Nothing,
    /// Larger than the bound, cut, compressed or not what it is called: stays undecided.
    Unreadable,
    Json(Value),
    Form(&'a str),
    Multipart(&'a [u8], Cow<'a, str>),
    Other(&'a [u8]),
}

impl<'a> Body<'a> {
    pub(super) fn of(request: &RequestView<'a>) -> Self {
        let Some(bytes) = request.body else {
            return if may_have_body(request) { Self::Unknown } else { Self::Nothing };
        };
        if is_encoded(request) {
            return Self::Unreadable;
        }
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let media = (request.header)("content-type").unwrap_or_default();
        let kind = text::essence(media);
        if kind.get(..10).is_some_and(|head| head.eq_ignore_ascii_case("multipart/"))
            && let Some(boundary) = text::parameter(media, "boundary")
        {
            return Self::multipart(kind, head_of(bytes), boundary);
        }
        let trimmed = bytes.trim_ascii_start();
        if trimmed.is_empty() {
            return Self::Nothing;
        }
        let called_json = kind.eq_ignore_ascii_case("application/json")
            || text::strip_suffix(kind, "+json").is_some();
        if called_json || matches!(trimmed.first(), Some(b'{' | b'[')) {
            return json(trimmed);
        }
        let form = kind.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        match std::str::from_utf8(bytes) {
            Ok(text) if (form || kind.is_empty()) && is_whole(request, bytes) => Self::Form(text),
            _ if form => Self::Unreadable,
            _ => Self::Other(head_of(bytes)),
        }
    }

    fn multipart(kind: &str, bytes: &'a [u8], boundary: Cow<'a, str>) -> Self {
        // RFC 2387: the first part of a related body describes the others
        if !kind.eq_ignore_ascii_case("multipart/related") {
            return Self::Multipart(bytes, boundary);
        }
        match Parts::new(bytes, &boundary).next() {
            Some(part) if part.whole => json(part.content),
            _ => Self::Unreadable,
        }
    }

    /// A field by name: of a form, of a multipart body, or a top-level member of a JSON object.
    pub(super) fn field(&self, name: &str) -> Reading<'a> {
        match self {
            Self::Unknown | Self::Unreadable => Reading::undecided(),
            Self::Nothing | Self::Other(_) => Reading::default(),
            Self::Json(value) => {
                let mut reading = Reading::default();
                if let Some(member) = value.get(name) {
                    push_scalars(member, &mut reading.values);
                }
                reading
            }
            Self::Form(pairs) => Reading {
                values: pairs.split('&').filter_map(|pair| text::pair(pair, name)).collect(),
                undecided: false,
            },
            Self::Multipart(bytes, boundary) => part_field(bytes, boundary, name),
        }
    }

    /// The first file's name in a multipart body.
    pub(super) fn file_name(&self) -> Reading<'a> {
        let Self::Multipart(bytes, boundary) = self else {
            return match self {
                Self::Unknown | Self::Unreadable => Reading::undecided(),
                _ => Reading::default(),
            };
        };
        let mut parts = Parts::new(bytes, boundary);
        let name = parts
            .by_ref()
            .find_map(|part| part.disposition("filename").filter(|name| !name.is_empty()));
        let undecided = name.is_none() && !parts.closed;
        Reading { values: name.into_iter().collect(), undecided }
    }

    /// The text of every `<tag>` element, whatever its namespace prefix.
    pub(super) fn elements(&self, tag: &str) -> Reading<'a> {
        match self {
            Self::Unknown | Self::Unreadable => Reading::undecided(),
            Self::Other(bytes) => Reading { values: elements(bytes, tag), undecided: false },
            _ => Reading::default(),
        }
    }

    pub(super) fn json(&self) -> Option<&Value> {
        match self {
            Self::Json(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn is_undecided(&self) -> bool {
        matches!(self, Self::Unknown | Self::Unreadable)
    }
}

/// Whether a request whose body is not held can have one at all.
fn may_have_body(request: &RequestView<'_>) -> bool {
    let bodyless = matches!(request.method, "GET" | "HEAD" | "OPTIONS");
    let length = (request.header)("content-length");
    match length {
        Some(length) => length.trim() != "0",
        None => !bodyless || (request.header)("transfer-encoding").is_some(),
    }
}

/// Whether the bytes are compressed: what they say then shows only to who undoes that, and the
/// gateway takes the header off when it does.
fn is_encoded(request: &RequestView<'_>) -> bool {
    (request.header)("content-encoding")
        .is_some_and(|coding| !coding.trim().eq_ignore_ascii_case("identity"))
}

/// Within the bound, and not known to go on.
fn is_whole(request: &RequestView<'_>, bytes: &[u8]) -> bool {
    let length = (request.header)("content-length").and_then(|length| length.trim().parse().ok());
    bytes.len() <= BODY_BYTES_MAX && length.is_none_or(|length: usize| length <= bytes.len())
}

fn head_of(bytes: &[u8]) -> &[u8] {
    bytes.get(..BODY_BYTES_MAX).unwrap_or(bytes)
}

fn json<'a>(bytes: &[u8]) -> Body<'a> {
    if bytes.len() > BODY_BYTES_MAX {
        return Body::Unreadable;
    }
    serde_json::from_slice(bytes).map_or(Body::Unreadable, Body::Json)
}

/// The scalars a JSON value is or lists.
pub(super) fn push_scalars(value: &Value, out: &mut SmallVec<[Cow<'_, str>; 1]>) {
    if out.len() >= VALUES_MAX {
        return;
    }
    match value {
        Value::String(text) => out.push(Cow::Owned(text.clone())),
        Value::Number(number) => out.push(Cow::Owned(number.to_string())),
        Value::Bool(true) => out.push(Cow::Borrowed("true")),
        Value::Bool(false) => out.push(Cow::Borrowed("false")),
        Value::Array(items) => {
            items.iter().filter(|item| !item.is_array()).for_each(|item| push_scalars(item, out))
        }
        Value::Null | Value::Object(_) => {}
    }
}

/// One part of a multipart body (RFC 2046 section 5.1).
pub(super) struct Part<'a> {
    head: &'a str,
    pub content: &'a [u8],
    /// The delimiter after it was seen.
    pub whole: bool,
}

impl<'a> Part<'a> {
    fn disposition(&self, parameter: &str) -> Option<Cow<'a, str>> {
        self.head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("content-disposition").then_some(())?;
            text::parameter(value, parameter)
        })
    }
}

/// The parts of a multipart body, in order.
pub(super) struct Parts<'a> {
    rest: &'a [u8],
    /// What ends lines: some clients leave out the CR, and some origins take that.
    newline: &'static str,
    delimiter: Vec<u8>,
    seen: usize,
    /// The closing delimiter was reached.
    pub closed: bool,
}

impl<'a> Parts<'a> {
    pub(super) fn new(body: &'a [u8], boundary: &str) -> Self {
        let dash = format!("--{boundary}");
        let start = memmem::find(body, dash.as_bytes()).map_or(body.len(), |at| at + dash.len());
        let rest = body.get(start..).unwrap_or_default();
        let newline = if rest.starts_with(b"\n") { "\n" } else { "\r\n" };
        let delimiter = format!("{newline}{dash}").into_bytes();
        Self { rest, newline, delimiter, seen: 0, closed: false }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        if self.closed || self.rest.starts_with(b"--") {
            self.closed = true;
            return None;
        }
        self.seen += 1;
        let newline = self.newline.as_bytes();
        let line = memmem::find(self.rest, newline)?;
        let body = self.rest.get(line + newline.len()..)?;
        // a part without a head begins with the blank line
        let (head, content) = match body.strip_prefix(newline) {
            Some(content) => (&[][..], content),
            None => {
                let blank = if newline.len() == 1 { &b"\n\n"[..] } else { b"\r\n\r\n" };
                let end = memmem::find(body, blank)?;
                (body.get(..end)?, body.get(end + blank.len()..)?)
            }
        };
        if self.seen > PARTS_MAX {
            return None;
        }
        let end = memmem::find(content, &self.delimiter);
        let whole = end.is_some();
        let held = content.get(..end.unwrap_or(content.len()))?;
        self.rest =
            end.and_then(|end| content.get(end + self.delimiter.len()..)).unwrap_or_default();
        Some(Part { head: std::str::from_utf8(head).unwrap_or_default(), content: held, whole })
    }
}

fn part_field<'a>(bytes: &'a [u8], boundary: &str, name: &str) -> Reading<'a> {
    let mut parts = Parts::new(bytes, boundary);
    let mut reading = Reading::default();
    for part in parts.by_ref() {
        if part.whole && part.disposition("name").is_some_and(|found| found == name) {
            reading.values.push(String::from_utf8_lossy(part.content));
        }
    }
    reading.undecided = reading.values.is_empty() && !parts.closed;
    reading
}

fn elements<'a>(bytes: &'a [u8], tag: &str) -> SmallVec<[Cow<'a, str>; 1]> {
    let mut out = SmallVec::new();
    let open = format!("{tag}>");
    let mut rest = bytes;
    while let Some(at) = memmem::find(rest, open.as_bytes()) {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        let after = after.get(open.len()..).unwrap_or_default();
        if opens_element(before)
            && let Some(end) = memchr::memchr(b'<', after)
        {
            let held = String::from_utf8_lossy(after.get(..end).unwrap_or_default());
            out.push(unescape(held));
        }
        if out.len() >= VALUES_MAX {
            break;
        }
        rest = after;
    }
    out
}

/// Whether what stands before a tag's name is `<` or `<prefix:`.
fn opens_element(before: &[u8]) -> bool {
    match before.last() {
        Some(b'<') => true,
        Some(b':') => {
            // a namespace prefix of any sane length
            let near = before.get(before.len().saturating_sub(64)..).unwrap_or_default();
            near.rsplit(|byte| *byte == b'<')
                .next()
                .is_some_and(|prefix| prefix.len() < near.len() && !prefix.starts_with(b"/"))
        }
        _ => false,
    }
}

fn unescape(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains('&') {
        return text;
    }
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    Cow::Owned(plain.replace("&apos;", "'").replace("&amp;", "&"))
}
