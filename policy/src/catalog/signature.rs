//! An app ready to be matched: its site, its instance signals and its activity signatures.

use std::borrow::Cow;

use super::extract::{Item, Pointer, Seen, Source};
use super::glob::{Captures, Glob, Ranges, Slot};
use super::path::PathPattern;
use super::{App, RequestView, Site};

#[derive(Debug)]
pub(super) struct AppEntry {
    pub id: Box<str>,
    pub name: Box<str>,
    pub categories: Box<[&'static str]>,
    pub tags: Box<[&'static str]>,
    pub risk: u8,
    pub pinned: bool,
    pub signals: Box<[Signal]>,
    pub signatures: Box<[Signature]>,
}

impl AppEntry {
    pub(super) fn site(&self) -> Site<'_> {
        Site {
            app: Some(&self.id),
            categories: &self.categories,
            tags: &self.tags,
            risk: Some(self.risk),
            pinned: self.pinned,
        }
    }

    /// Whether some signature reads the messages of a WebSocket that is opened here.
    pub(super) fn reads_messages(&self, request: &RequestView<'_>) -> bool {
        let methods = Methods::one(super::MESSAGE);
        self.signatures.iter().flat_map(|signature| &signature.places).any(|place| {
            place.methods.names(super::MESSAGE)
                && place.matches(methods, request, &mut Captures::default())
        })
    }

    pub(super) fn app(&self) -> App<'_> {
        App { id: &self.id, name: &self.name, site: self.site() }
    }
}

/// Where an app's instance shows.
#[derive(Debug)]
pub(super) struct Signal {
    pub place: Option<Place>,
    pub from: Option<Source>,
    pub like: Option<Glob>,
    pub constant: Option<&'static str>,
    pub except: Box<[Box<str>]>,
}

impl Signal {
    /// The instance, and whether the body could still name it.
    pub(super) fn read<'a>(&self, seen: &Seen<'_, 'a>) -> (Option<Cow<'a, str>>, bool) {
        let mut captures = Captures::default();
        if let Some(place) = &self.place
            && !place.matches(methods_of(seen), seen.request, &mut captures)
        {
            return (None, false);
        }
        if let Some(constant) = self.constant {
            return (Some(Cow::Borrowed(constant)), false);
        }
        let (found, undecided) = match &self.from {
            Some(source) => {
                let reading = source.read(seen, Item::None);
                let found = reading.values.into_iter().next();
                (found.and_then(|found| self.within(found)), reading.undecided)
            }
            None => (captures.take(Slot::Instance), false),
        };
        (found.filter(|found| !self.excepts(found)), undecided)
    }

    fn within<'a>(&self, found: Cow<'a, str>) -> Option<Cow<'a, str>> {
        let Some(like) = &self.like else { return Some(found) };
        let mut ranges = Ranges::default();
        let mut captures = Captures::default();
        if like.matches(&found, 0, &mut ranges) {
            captures.fill(&found, &ranges);
        }
        captures.take(Slot::Instance)
    }

    fn excepts(&self, found: &str) -> bool {
        found.is_empty() || self.except.iter().any(|except| except.eq_ignore_ascii_case(found))
    }
}

/// One kind of request and what it does.
#[derive(Debug)]
pub(super) struct Signature {
    pub places: Box<[Place]>,
    pub conditions: Box<[Condition]>,
    pub each: Option<Each>,
    pub activity: &'static str,
    pub object_type: Option<&'static str>,
    pub object: Box<[Source]>,
    pub instance: Box<[Source]>,
    pub from_user: Box<[Source]>,
    pub to_user: Box<[Source]>,
}

impl Signature {
    /// What the place of the request captures; `None` where it is another place.
    pub(super) fn place<'a>(
        &self,
        methods: Methods,
        request: &RequestView<'a>,
    ) -> Option<Captures<'a>> {
        self.places.iter().find_map(|place| {
            let mut captures = Captures::default();
            place.matches(methods, request, &mut captures).then_some(captures)
        })
    }

    /// Whether the conditions on the request (`item` none) or on one item hold.
    pub(super) fn holds<'a>(
        &self,
        seen: &Seen<'_, 'a>,
        item: Option<Item<'_>>,
        captures: &mut Captures<'a>,
    ) -> Holds {
        let mut all = Holds::Yes;
        let of_item = item.is_some();
        for condition in self.conditions.iter().filter(|one| one.source.is_of_item() == of_item) {
            match condition.holds(seen, item.unwrap_or(Item::None), captures) {
                Holds::No => return Holds::No,
                Holds::Undecided => all = Holds::Undecided,
                Holds::Yes => {}
            }
        }
        all
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    No,
    /// The body would tell.
    Undecided,
}

/// Methods, host and path of a request.
#[derive(Debug)]
pub(super) struct Place {
    pub methods: Methods,
    /// Any of the app's hosts where absent.
    pub host: Option<Glob>,
    pub path: PathPattern,
}

impl Place {
    pub(super) fn matches<'a>(
        &self,
        methods: Methods,
        request: &RequestView<'a>,
        captures: &mut Captures<'a>,
    ) -> bool {
        if !self.methods.meets(methods) {
            return false;
        }
        let mut in_host = Ranges::default();
        if self.host.as_ref().is_some_and(|host| !host.matches(request.host, 0, &mut in_host)) {
            return false;
        }
        let mut in_path = Ranges::default();
        if !self.path.matches(request.path, &mut in_path) {
            return false;
        }
        captures.fill(&Cow::Borrowed(request.host), &in_host);
        captures.fill(&Cow::Borrowed(request.path), &in_path);
        true
    }
}

/// A value that must fit one of some patterns, or be absent.
#[derive(Debug)]
pub(super) struct Condition {
    pub source: Source,
    /// `None`: must be absent.
    pub patterns: Option<Box<[Glob]>>,
}

impl Condition {
    fn holds<'a>(&self, seen: &Seen<'_, 'a>, item: Item<'_>, captures: &mut Captures<'a>) -> Holds {
        let reading = self.source.read(seen, item);
        let Some(patterns) = &self.patterns else {
            return match (reading.values.is_empty(), reading.undecided) {
                (false, _) => Holds::No,
                (true, true) => Holds::Undecided,
                (true, false) => Holds::Yes,
            };
        };
        for value in &reading.values {
            let mut ranges = Ranges::default();
            if patterns.iter().any(|pattern| pattern.matches(value, 0, &mut ranges)) {
                captures.fill(value, &ranges);
                return Holds::Yes;
            }
        }
        if reading.undecided { Holds::Undecided } else { Holds::No }
    }
}

/// How one request carries several operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Each {
    /// What a pointer finds in the JSON body.
    Json(Pointer),
    /// The elements of one name in an XML body.
    Element(Box<str>),
    /// The root fields of the GraphQL documents in a JSON body.
    Graphql,
    /// Whole requests: `{"requests": [{method, url, body}]}`; they are classified like others.
    Requests,
}

/// A set of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Methods(u32);

/// The methods that signatures tell apart; any other is the bit after the last.
const METHODS: &[&str] = &[
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "MKCOL",
    "MOVE",
    "COPY",
    "PROPFIND",
    "PROPPATCH",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "MERGE",
    super::MESSAGE,
];

impl Methods {
    pub(super) const ANY: Self = Self(u32::MAX);

    pub(super) fn one(method: &str) -> Self {
        let index = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len());
        Self(1 << index)
    }

    pub(super) fn parse(list: &str) -> Result<Self, String> {
        if list == "ANY" {
            return Ok(Self::ANY);
        }
        list.split(',').try_fold(Self(0), |methods, method| {
            METHODS
                .contains(&method)
                .then(|| methods.with(Self::one(method)))
                .ok_or_else(|| format!("`{method}` is not a method that signatures know"))
        })
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it is among those that are named, and not just any.
    fn names(self, method: &str) -> bool {
        self != Self::ANY && self.meets(Self::one(method))
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// The request's method, and the one it asks the origin to take instead: some origins do, some do
/// not, so both count.
pub(super) fn methods_of(seen: &Seen<'_, '_>) -> Methods {
    let own = Methods::one(seen.request.method);
    if seen.request.method != "POST" {
        return own;
    }
    ["x-http-method-override", "x-http-method"]
        .into_iter()
        .filter_map(|name| seen.header(name))
        .filter(|method| matches!(*method, "PUT" | "PATCH" | "DELETE" | "MERGE"))
        .fold(own, |methods, method| methods.with(Methods::one(method)))
}
