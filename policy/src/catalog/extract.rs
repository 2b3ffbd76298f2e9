//! Where a signature reads its values from: query, header, body, or one item of a batch.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde_json::Value;
use smallvec::SmallVec;

use super::body::{Body, Reading, push_scalars};
use super::graphql::Kind;
use super::text;
use super::{BODY_BYTES_MAX, RequestView};

/// A request with what was read of it so far.
pub(super) struct Seen<'v, 'a> {
    pub request: &'v RequestView<'a>,
    body: OnceCell<Body<'a>>,
}

impl<'v, 'a> Seen<'v, 'a> {
    pub(super) fn new(request: &'v RequestView<'a>) -> Self {
        Self { request, body: OnceCell::new() }
    }

    /// A request whose body was read as part of another's.
    pub(super) fn with_json(request: &'v RequestView<'a>, body: Option<&Value>) -> Self {
        let body = body.map_or(Body::Nothing, |value| Body::Json(value.clone()));
        Self { request, body: OnceCell::from(body) }
    }

    pub(super) fn body(&self) -> &Body<'a> {
        self.body.get_or_init(|| Body::of(self.request))
    }

    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        (self.request.header)(name)
    }
}

/// One item of a request that carries several.
#[derive(Clone, Copy)]
pub(super) enum Item<'i> {
    None,
    Json(&'i Value),
    Text(&'i str),
    Field(Kind, &'i str),
}

/// `header:NAME`, `query:NAME`, `body:NAME`, `body:/pointer`, `xml:TAG`, `file`, `item:/pointer`,
/// `field`, `kind`; the first three take `#/pointer` where the value is JSON.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Header(Box<str>, Option<Pointer>),
    Query(Box<str>, Option<Pointer>),
    Field(Box<str>, Option<Pointer>),
    Json(Pointer),
    Element(Box<str>),
    /// The file's name: of a multipart part, or of Content-Disposition on a plain body.
    File,
    Item(Pointer),
    /// A GraphQL root field's name.
    ItemField,
    /// `query`, `mutation` or `subscription`.
    ItemKind,
}

impl Source {
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        let (place, rest) = source.split_once(':').unwrap_or((source, ""));
        let (name, pointer) = match rest.split_once('#') {
            Some((name, pointer)) => (name, Some(Pointer::parse(pointer)?)),
            None => (rest, None),
        };
        let bare = matches!(place, "file" | "item" | "field" | "kind");
        if name.is_empty() != bare && place != "item" {
            return Err(format!("`{source}` is not a place to read from"));
        }
        Ok(match place {
            "header" if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                return Err(format!("`{source}`: header names are lower-case"));
            }
            "header" => Self::Header(name.into(), pointer),
            "query" => Self::Query(name.into(), pointer),
            "body" if name.starts_with('/') => Self::Json(Pointer::parse(name)?),
            "body" => Self::Field(name.into(), pointer),
            "xml" => Self::Element(name.into()),
            "file" => Self::File,
            "item" => Self::Item(Pointer::parse(name)?),
            "field" => Self::ItemField,
            "kind" => Self::ItemKind,
            _ => return Err(format!("`{source}` is not a place to read from")),
        })
    }

    /// Whether it reads an item of a batch rather than the request.
    pub(super) fn is_of_item(&self) -> bool {
        matches!(self, Self::Item(_) | Self::ItemField | Self::ItemKind)
    }

    pub(super) fn read<'a>(&self, seen: &Seen<'_, 'a>, item: Item<'_>) -> Reading<'a> {
        match self {
            Self::Header(name, pointer) => {
                through(seen.header(name).map(Cow::Borrowed), pointer.as_ref())
            }
            Self::Query(name, pointer) => {
                through(text::pair(seen.request.query, name), pointer.as_ref())
            }
            Self::Field(name, pointer) => {
                let reading = seen.body().field(name);
                match pointer {
                    Some(_) if !reading.undecided => {
                        through(reading.values.into_iter().next(), pointer.as_ref())
                    }
                    _ => reading,
                }
            }
            Self::Json(pointer) => json(seen.body(), pointer),
            Self::Element(tag) => seen.body().elements(tag),
            Self::File => file_name(seen),
            Self::Item(pointer) => of_item(item, pointer),
            Self::ItemField => Reading::one(match item {
                Item::Field(_, name) => Some(Cow::Owned(name.to_owned())),
                _ => None,
            }),
            Self::ItemKind => Reading::one(match item {
                Item::Field(kind, _) => Some(Cow::Borrowed(kind.name())),
                _ => None,
            }),
        }
    }
}

fn of_item<'a>(item: Item<'_>, pointer: &Pointer) -> Reading<'a> {
    match item {
        Item::Json(value) => pointer.scalars(value),
        Item::Text(text) if pointer.is_root() => Reading::one(Some(Cow::Owned(text.to_owned()))),
        Item::Text(_) | Item::Field(..) | Item::None => Reading::default(),
    }
}

fn json<'a>(body: &Body<'a>, pointer: &Pointer) -> Reading<'a> {
    match body.json() {
        Some(value) => pointer.scalars(value),
        None if body.is_undecided() => Reading::undecided(),
        None => Reading::default(),
    }
}

fn file_name<'a>(seen: &Seen<'_, 'a>) -> Reading<'a> {
    let named = seen
        .header("content-disposition")
        .and_then(|header| text::parameter(header, "filename"))
        .filter(|name| !name.is_empty());
    match named {
        Some(name) => Reading::one(Some(name)),
        None => seen.body().file_name(),
    }
}

/// The value itself, or what a pointer finds in the JSON it holds.
fn through<'a>(value: Option<Cow<'a, str>>, pointer: Option<&Pointer>) -> Reading<'a> {
    let Some(pointer) = pointer else { return Reading::one(value) };
    let parsed = value
        .filter(|value| value.len() <= BODY_BYTES_MAX)
        .and_then(|value| serde_json::from_str::<Value>(&value).ok());
    parsed.map_or_else(Reading::default, |parsed| pointer.scalars(&parsed))
}

/// A JSON pointer (RFC 6901) in which `*` stands for every member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer(Box<[Box<str>]>);

impl Pointer {
    pub(super) fn parse(pointer: &str) -> Result<Self, String> {
        if pointer.is_empty() {
            return Ok(Self(Box::default()));
        }
        let body = pointer
            .strip_prefix('/')
            .ok_or_else(|| format!("pointer `{pointer}` does not begin with `/`"))?;
        Ok(Self(body.split('/').map(Into::into).collect()))
    }

    fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Every value it points to, at most one more than there can be operations.
    pub(super) fn find<'j>(&self, value: &'j Value) -> SmallVec<[&'j Value; 4]> {
        let mut level: SmallVec<[&Value; 4]> = SmallVec::from_slice(&[value]);
        for token in &self.0 {
            let mut next = SmallVec::new();
            for value in level {
                step(value, token, &mut next);
            }
            next.truncate(super::OPERATIONS_MAX + 1);
            level = next;
        }
        level
    }

    fn scalars<'a>(&self, value: &Value) -> Reading<'a> {
        let mut values: SmallVec<[Cow<'a, str>; 1]> = SmallVec::new();
        for found in self.find(value) {
            push_scalars(found, &mut values);
        }
        Reading { values, undecided: false }
    }
}

fn step<'j>(value: &'j Value, token: &str, out: &mut SmallVec<[&'j Value; 4]>) {
    match value {
        Value::Array(items) if token == "*" => out.extend(items),
        Value::Array(items) => {
            out.extend(token.parse::<usize>().ok().and_then(|index| items.get(index)));
        }
        Value::Object(members) if token == "*" => out.extend(members.values()),
        Value::Object(members) => out.extend(members.get(token)),
        _ => {}
    }
}
