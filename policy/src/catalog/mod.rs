//! Which app, which instance and which activity a request is: apps as data.
//!
//! ```text
//! host ──► domains ──► Site (known before decryption)
//! host + path ──► domains ──► app ──► its signatures, in file order ──► Classification
//!                                └── none fits ──► universal rules
//! response head ──► response() ──► download, login_failed
//! ```

mod body;
mod builtin;
mod classify;
mod compile;
mod domains;
mod extract;
mod file;
mod glob;
mod graphql;
pub mod names;
mod path;
mod response;
mod signature;
mod text;
mod universal;

#[cfg(test)]
mod coverage;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use smallvec::SmallVec;

pub use response::ResponseView;

/// Operations of one exchange that are told apart; what lies beyond is marked by
/// [`Classification::cut`]. An event carries no more.
pub const OPERATIONS_MAX: usize = 64;

/// Bytes of a body that signatures look at. JSON, form fields and multipart heads of the requests
/// that matter are far smaller, and parsing cost stays below a millisecond.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// The method under which signatures read what a client sends on an open WebSocket: each message is a
/// request of its own to the URL that was opened, with the message as its body.
pub const MESSAGE: &str = "MESSAGE";

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
    /// One of [`names::ACTIVITIES`], such as `upload`.
    pub activity: &'static str,
    pub object: Option<Cow<'a, str>>,
    pub object_type: Option<Cow<'a, str>>,
    pub from_user: Option<Cow<'a, str>>,
    pub to_user: Option<Cow<'a, str>>,
}

impl Operation<'_> {
    /// The same operation, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> Operation<'static> {
        let own = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Operation {
            activity: self.activity,
            object: own(self.object),
            object_type: own(self.object_type),
            from_user: own(self.from_user),
            to_user: own(self.to_user),
        }
    }
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

impl Site<'_> {
    /// A host nobody described.
    pub const UNKNOWN: Site<'static> =
        Site { app: None, categories: &["unknown"], tags: &[], risk: None, pinned: false };
}

/// What a whole request says.
#[derive(Clone, Debug)]
pub struct Classification<'c, 'a> {
    pub site: Site<'c>,
    /// The instance's own id as the request shows it (tenant host label, workspace, domain).
    pub instance: Option<Cow<'a, str>>,
    /// At least one; the generic `browse` where nothing better is known. At most
    /// [`OPERATIONS_MAX`].
    pub operations: SmallVec<[Operation<'a>; 1]>,
    /// A body signature could still change the result: ask again with the body, if a rule cares.
    /// Still true once the whole body was shown: it is larger than [`BODY_BYTES_MAX`] or cannot be
    /// read, so activity, object and users cannot be had.
    pub wants_body: bool,
    /// There were more operations than [`OPERATIONS_MAX`]: the rest is not named here.
    pub cut: bool,
}

/// One app of the catalog.
#[derive(Clone, Copy, Debug)]
pub struct App<'c> {
    /// Catalog id, such as `google-drive`.
    pub id: &'c str,
    /// The product's name as people write it.
    pub name: &'c str,
    pub site: Site<'c>,
}

/// What is wrong with a catalog file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// The app or the position it concerns.
    pub place: String,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}: {}", self.file, self.place, self.what)
    }
}

impl std::error::Error for Problem {}

/// Every app, ready to be asked. Immutable; share one behind an `Arc`.
#[derive(Debug)]
pub struct Catalog {
    apps: Vec<signature::AppEntry>,
    ids: HashMap<Box<str>, usize>,
    domains: domains::Domains,
}

impl Catalog {
    /// The catalog that comes with the program. Parses it: once per process is enough.
    ///
    /// # Errors
    /// Every problem of every file; none in a released build, which the tests see to.
    pub fn builtin() -> Result<Self, Vec<Problem>> {
        Self::from_files(builtin::FILES)
    }

    /// A catalog of other files: `(name, YAML)` each, of the built-in ones' form.
    ///
    /// # Errors
    /// Every problem of every file.
    pub fn from_files(files: &[(&str, &str)]) -> Result<Self, Vec<Problem>> {
        compile::catalog(files)
    }

    /// What the host alone says; the longest known suffix wins.
    #[must_use]
    pub fn site(&self, host: &str) -> Site<'_> {
        self.domains
            .by_host(host)
            .and_then(|index| self.apps.get(index))
            .map_or(Site::UNKNOWN, |app| app.site())
    }

    /// What the host alone says, where no path can say otherwise: good enough to decide before a
    /// request is seen. `None` for hosts that several apps share by their paths.
    #[must_use]
    pub fn settled_site(&self, host: &str) -> Option<Site<'_>> {
        let app = self.domains.settled(host)?.and_then(|index| self.apps.get(index));
        Some(app.map_or(Site::UNKNOWN, |app| app.site()))
    }

    /// Whether signatures read the messages of a WebSocket to this host and path, each a request of the
    /// method [`MESSAGE`].
    #[must_use]
    pub fn reads_messages(&self, host: &str, path: &str) -> bool {
        let header = |_: &str| None;
        let opened =
            RequestView { method: MESSAGE, host, path, query: "", header: &header, body: None };
        let app = self.domains.by_request(host, path).and_then(|index| self.apps.get(index));
        app.is_some_and(|app| app.reads_messages(&opened))
    }

    /// App, instance and operations of a request. Total; time linear in the request.
    #[must_use]
    pub fn classify<'a>(&self, request: &RequestView<'a>) -> Classification<'_, 'a> {
        classify::request(self, request)
    }

    /// What the response's head adds to an activity seen in the request: `download` for what
    /// arrives as a file, `login_failed` for a refused login. `None` where nothing changes.
    #[must_use]
    pub fn classify_response<'a>(
        &self,
        activity: &str,
        response: &ResponseView<'a>,
    ) -> Option<Operation<'a>> {
        response::refine(activity, response)
    }

    /// An app by its id.
    #[must_use]
    pub fn app(&self, id: &str) -> Option<App<'_>> {
        self.ids.get(id).and_then(|&place| self.apps.get(place)).map(signature::AppEntry::app)
    }

    /// All apps, in the order of the files.
    pub fn apps(&self) -> impl Iterator<Item = App<'_>> {
        self.apps.iter().map(signature::AppEntry::app)
    }

    /// All app ids, as rules may name them.
    pub fn app_ids(&self) -> impl Iterator<Item = &str> {
        self.apps.iter().map(|app| &*app.id)
    }

    /// All category names, as rules may name them.
    #[must_use]
    pub fn categories(&self) -> &'static [&'static str] {
        names::CATEGORIES
    }
}
