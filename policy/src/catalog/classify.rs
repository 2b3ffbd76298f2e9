//! The classifier: an app's signatures in file order, then the universal rules.

use std::borrow::Cow;

use serde_json::Value;
use smallvec::{SmallVec, smallvec};

use super::extract::{Item, Seen, Source};
use super::glob::{Captures, Slot};
use super::graphql;
use super::signature::{AppEntry, Each, Holds, Methods, Signature, methods_of};
use super::text;
use super::universal;
use super::{Catalog, Classification, OPERATIONS_MAX, Operation, RequestView, Site};

/// Requests inside a request are taken apart once: no origin nests them further.
const NESTING_MAX: usize = 1;

pub(super) fn request<'c, 'a>(
    catalog: &'c Catalog,
    request: &RequestView<'a>,
) -> Classification<'c, 'a> {
    let seen = Seen::new(request);
    judge(catalog, &seen, 0)
}

fn judge<'c, 'a>(
    catalog: &'c Catalog,
    seen: &Seen<'_, 'a>,
    nesting: usize,
) -> Classification<'c, 'a> {
    let app = catalog
        .domains
        .by_request(seen.request.host, seen.request.path)
        .and_then(|index| catalog.apps.get(index));
    let mut told = Told::new(catalog, nesting);
    if let Some(app) = app {
        told.site = app.site();
        told.app(app, seen);
    }
    if told.operations.is_empty() {
        let (operation, undecided) = universal::operation(seen);
        told.operations.push(operation);
        told.undecided |= undecided;
    }
    if told.instance.is_none()
        && let Some(app) = app
    {
        for signal in &app.signals {
            let (instance, undecided) = signal.read(seen);
            told.undecided |= undecided;
            if instance.is_some() {
                told.instance = instance;
                break;
            }
        }
    }
    told.finish()
}

/// What was found so far.
struct Told<'c, 'a> {
    catalog: &'c Catalog,
    nesting: usize,
    site: Site<'c>,
    instance: Option<Cow<'a, str>>,
    operations: SmallVec<[Operation<'a>; 1]>,
    undecided: bool,
    cut: bool,
}

impl<'c, 'a> Told<'c, 'a> {
    fn new(catalog: &'c Catalog, nesting: usize) -> Self {
        Self {
            catalog,
            nesting,
            site: Site::UNKNOWN,
            instance: None,
            operations: SmallVec::new(),
            undecided: false,
            cut: false,
        }
    }

    fn finish(self) -> Classification<'c, 'a> {
        Classification {
            site: self.site,
            instance: self.instance,
            operations: self.operations,
            wants_body: self.undecided,
            cut: self.cut,
        }
    }

    /// The first signature that fits tells the operations.
    fn app(&mut self, app: &AppEntry, seen: &Seen<'_, 'a>) {
        let methods = methods_of(seen);
        for signature in &app.signatures {
            let Some(mut captures) = signature.place(methods, seen.request) else { continue };
            match signature.holds(seen, None, &mut captures) {
                Holds::No => continue,
                Holds::Undecided => {
                    self.undecided = true;
                    continue;
                }
                Holds::Yes => {}
            }
            match &signature.each {
                None => self.operation(signature, seen, Item::None, captures),
                Some(each) => self.batch(app, methods, each, signature, seen, captures),
            }
            if !self.operations.is_empty() {
                return;
            }
        }
    }

    /// One operation, or one for each of the people it addresses.
    fn operation(
        &mut self,
        signature: &Signature,
        seen: &Seen<'_, 'a>,
        item: Item<'_>,
        mut captures: Captures<'a>,
    ) {
        let object = self.value(&signature.object, seen, item, captures.take(Slot::Object));
        let from_user = self.value(&signature.from_user, seen, item, captures.take(Slot::FromUser));
        let instance = captures.take(Slot::Instance);
        if self.instance.is_none() {
            self.instance = self.value(&signature.instance, seen, item, instance);
        }
        let operation = Operation {
            activity: signature.activity,
            object,
            object_type: signature.object_type.map(Cow::Borrowed),
            from_user,
            to_user: captures.take(Slot::ToUser),
        };
        if operation.to_user.is_some() {
            return self.push(operation);
        }
        let mut addressed = false;
        for source in &signature.to_user {
            let reading = source.read(seen, item);
            self.undecided |= reading.undecided;
            for to_user in reading.values.iter().flat_map(people) {
                addressed = true;
                self.push(Operation { to_user: Some(to_user), ..operation.clone() });
            }
        }
        if !addressed {
            self.push(operation);
        }
    }

    fn push(&mut self, operation: Operation<'a>) {
        if self.operations.len() < OPERATIONS_MAX {
            self.operations.push(operation);
        } else {
            self.cut = true;
        }
    }

    /// What the pattern captured, else what the first source that has something gives.
    fn value(
        &mut self,
        sources: &[Source],
        seen: &Seen<'_, 'a>,
        item: Item<'_>,
        captured: Option<Cow<'a, str>>,
    ) -> Option<Cow<'a, str>> {
        if captured.is_some() {
            return captured;
        }
        for source in sources {
            let reading = source.read(seen, item);
            self.undecided |= reading.undecided;
            let first = reading.values.into_iter().find(|value| !value.is_empty());
            if first.is_some() {
                return first;
            }
        }
        None
    }

    /// Each item is one operation; an item no signature knows is none.
    fn batch(
        &mut self,
        app: &AppEntry,
        methods: Methods,
        each: &Each,
        signature: &Signature,
        seen: &Seen<'_, 'a>,
        captures: Captures<'a>,
    ) {
        if seen.body().is_undecided() {
            self.undecided = true;
            // GraphQL reads more often than it writes: say nothing until the body is known
            if *each != Each::Graphql && *each != Each::Requests {
                self.operation(signature, seen, Item::None, captures);
            }
            return;
        }
        let root = seen.body().json();
        match each {
            Each::Requests => self.requests(seen, root),
            Each::Json(pointer) => {
                for value in root.map(|root| pointer.find(root)).unwrap_or_default() {
                    self.item(app, methods, each, seen, Item::Json(value));
                }
            }
            Each::Element(tag) => {
                for text in &seen.body().elements(tag).values {
                    self.item(app, methods, each, seen, Item::Text(text));
                }
            }
            Each::Graphql => {
                for document in documents(root) {
                    for (kind, field) in graphql::root_fields(document) {
                        self.item(app, methods, each, seen, Item::Field(kind, field));
                    }
                }
            }
        }
    }

    fn item(
        &mut self,
        app: &AppEntry,
        methods: Methods,
        each: &Each,
        seen: &Seen<'_, 'a>,
        item: Item<'_>,
    ) {
        for signature in app.signatures.iter().filter(|one| one.each.as_ref() == Some(each)) {
            let Some(mut captures) = signature.place(methods, seen.request) else { continue };
            if signature.holds(seen, None, &mut captures) == Holds::Yes
                && signature.holds(seen, Some(item), &mut captures) == Holds::Yes
            {
                return self.operation(signature, seen, item, captures);
            }
        }
    }

    /// Microsoft Graph's JSON batch: each entry is a request to the same host.
    fn requests(&mut self, seen: &Seen<'_, 'a>, root: Option<&Value>) {
        if self.nesting >= NESTING_MAX {
            return;
        }
        let entries = root.and_then(|root| root.get("requests")).and_then(Value::as_array);
        let version = seen.request.path.split('/').nth(1).unwrap_or_default();
        for (index, entry) in entries.into_iter().flatten().enumerate() {
            if self.operations.len() >= OPERATIONS_MAX {
                self.cut = true;
                return;
            }
            let (Some(method), Some(url)) = (
                entry.get("method").and_then(Value::as_str),
                entry.get("url").and_then(Value::as_str),
            ) else {
                continue;
            };
            let url = format!("/{version}/{}", url.trim_start_matches('/'));
            let inner = self.inner(seen, method, &url, entry.get("body"));
            if index == 0 {
                self.site = inner.site;
                self.instance = inner.instance;
            }
            for operation in inner.operations {
                self.push(operation);
            }
        }
    }

    fn inner(
        &self,
        seen: &Seen<'_, 'a>,
        method: &str,
        url: &str,
        body: Option<&Value>,
    ) -> Classification<'c, 'static> {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let path = text::decode(path, false);
        let header = |name: &str| (name == "content-type").then_some("application/json");
        let request = RequestView {
            method: &method.to_ascii_uppercase(),
            host: seen.request.host,
            path: &path,
            query,
            header: &header,
            body: None,
        };
        let inner = Seen::with_json(&request, body);
        let told = judge(self.catalog, &inner, self.nesting + 1);
        Classification {
            site: told.site,
            instance: told.instance.map(|instance| Cow::Owned(instance.into_owned())),
            operations: told.operations.into_iter().map(Operation::into_owned).collect(),
            wants_body: told.wants_body,
            cut: told.cut,
        }
    }
}

/// The addresses in one value: mail clients write several into one.
fn people<'a>(value: &Cow<'a, str>) -> SmallVec<[Cow<'a, str>; 1]> {
    if !value.contains([',', ';']) || !value.contains('@') {
        return smallvec![value.clone()];
    }
    value
        .split([',', ';'])
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .take(OPERATIONS_MAX + 1)
        .map(|one| Cow::Owned(one.to_owned()))
        .collect()
}

/// The GraphQL documents of a body: one, or an array of several.
fn documents(root: Option<&Value>) -> impl Iterator<Item = &str> {
    let many = root.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    root.into_iter()
        .chain(many)
        .take(OPERATIONS_MAX + 1)
        .filter_map(|value| value.get("query").and_then(Value::as_str))
}
