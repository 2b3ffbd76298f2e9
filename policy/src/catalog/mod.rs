//! Which app, which instance and which activity a request is: apps as data.

use std::borrow::Cow;

use smallvec::SmallVec;

/// What a classifier may look at. Built by the exchange; nothing here is copied.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    pub method: &'a str,
    /// Canonical host: lower-case A-label, no trailing dot, no port.
    pub host: &'a str,
    /// Path with dot segments resolved and percent-decoded once.
    pub path: &'a str,
    /// Raw query without `?`; empty where there is none.
    pub query: &'a str,
    /// First value of a header by lower-case name.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
    /// The request body so far, where it is held; `None` where it is not.
    pub body: Option<&'a [u8]>,
}

/// One thing a request does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation<'a> {
    /// An activity of DESIGN part 4, such as `upload`.
    pub activity: &'static str,
    pub object: Option<Cow<'a, str>>,
    pub object_type: Option<Cow<'a, str>>,
    pub from_user: Option<Cow<'a, str>>,
    pub to_user: Option<Cow<'a, str>>,
}

/// What the host alone says.
#[derive(Clone, Copy, Debug)]
pub struct Site<'c> {
    /// Catalog id (`google-drive`); `None` for an unknown app.
    pub app: Option<&'c str>,
    /// The app's categories; `["unknown"]` where nothing is known.
    pub categories: &'c [&'c str],
    pub tags: &'c [&'c str],
    /// 0 (none) to 100.
    pub risk: Option<u8>,
    /// Clients of this app are known to pin certificates.
    pub pinned: bool,
}

/// What a whole request says.
#[derive(Clone, Debug)]
pub struct Classification<'c, 'a> {
    pub site: Site<'c>,
    /// The instance's own id as the request shows it (tenant host label, workspace, domain).
    pub instance: Option<Cow<'a, str>>,
    /// At least one; the generic `browse` where nothing better is known. At most 64.
    pub operations: SmallVec<[Operation<'a>; 1]>,
    /// A body signature could still change the result: ask again with the body, if a rule cares.
    pub wants_body: bool,
}
