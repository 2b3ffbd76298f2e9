//! Every example of every catalog file, and what must not be taken for an app.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use super::file::{RawActivity, RawApp, RawExample};
use super::{Catalog, Classification, Operation, RequestView, builtin, compile, text};

/// A request as an example writes it.
pub(super) struct Request {
    method: String,
    host: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Option<String>,
}

impl Request {
    /// `METHOD https://host/path?query`
    pub(super) fn parse(line: &str) -> Self {
        let (method, url) = line.split_once(' ').unwrap();
        let rest = url.strip_prefix("https://").unwrap();
        let (target, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = target.split_once('/').unwrap_or((target, ""));
        Self {
            method: method.to_owned(),
            host: host.to_owned(),
            path: format!("/{}", text::decode(path, false)),
            query: query.to_owned(),
            headers: BTreeMap::new(),
            body: None,
        }
    }

    pub(super) fn with(mut self, media: Option<&str>, body: Option<&str>) -> Self {
        if let Some(media) = media {
            self.headers.insert("content-type".to_owned(), media.to_owned());
        }
        self.body = body.map(str::to_owned);
        self
    }

    pub(super) fn set_header(&mut self, name: &str, value: &str) {
        self.headers.insert(name.to_owned(), value.to_owned());
    }

    pub(super) fn set_target(&mut self, method: &str, host: &str, path: &str, query: &str) {
        self.method = method.to_owned();
        self.host = host.to_owned();
        self.path = path.to_owned();
        self.query = query.to_owned();
    }

    pub(super) fn classify<R>(
        &self,
        catalog: &Catalog,
        see: impl FnOnce(Classification<'_, '_>) -> R,
    ) -> R {
        let header = |name: &str| self.headers.get(name).map(String::as_str);
        see(catalog.classify(&RequestView {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            header: &header,
            body: self.body.as_deref().map(str::as_bytes),
        }))
    }
}

fn each_app(mut see: impl FnMut(&str, &RawApp)) {
    for (file, yaml) in builtin::FILES {
        let raw = compile::parse(yaml).unwrap_or_else(|what| panic!("{file}: {what}"));
        for app in &raw.apps {
            see(file, app);
        }
    }
}

pub(super) fn builtin_catalog() -> Catalog {
    Catalog::builtin().unwrap_or_else(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    })
}

#[test]
fn every_example_is_taken_for_what_it_is() {
    let catalog = builtin_catalog();
    let mut wrong = Vec::new();
    let mut count = 0;
    each_app(|file, app| {
        for activity in &app.activities {
            for example in &activity.examples {
                count += 1;
                if let Err(what) = check(&catalog, app, activity, example) {
                    wrong.push(format!("{file}: {}: {}\n    {what}", app.id, example.request));
                }
            }
        }
    });
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_request_an_app_disowns_is_not_labelled_with_it() {
    let catalog = builtin_catalog();
    each_app(|_, app| {
        for line in &app.never {
            Request::parse(line).classify(&catalog, |told| {
                assert_ne!(told.site.app, Some(app.id.as_str()), "{line}");
            });
        }
    });
}

#[test]
fn a_body_changes_nothing_that_was_not_announced() {
    let catalog = builtin_catalog();
    each_app(|_, app| {
        for example in app.activities.iter().flat_map(|activity| &activity.examples) {
            let mut request = request_of(example);
            if request.body.is_none() {
                continue;
            }
            let with = request.classify(&catalog, own);
            request.body = None;
            let announced = request.classify(&catalog, |told| told.wants_body);
            let without = request.classify(&catalog, own);
            assert!(announced || with == without, "{}: {with:?} {without:?}", example.request);
        }
    });
}

fn own(told: Classification<'_, '_>) -> (Option<String>, Vec<Operation<'static>>) {
    let instance = told.instance.map(|instance| instance.into_owned());
    (instance, told.operations.into_iter().map(Operation::into_owned).collect())
}

fn request_of(example: &RawExample) -> Request {
    let mut request =
        Request::parse(&example.request).with(example.media.as_deref(), example.body.as_deref());
    request.headers.extend(example.headers.clone());
    request
}

fn check(
    catalog: &Catalog,
    app: &RawApp,
    activity: &RawActivity,
    example: &RawExample,
) -> Result<(), String> {
    request_of(example).classify(catalog, |told| {
        let wanted_app = example.app.as_deref().unwrap_or(&app.id);
        same("app", Some(wanted_app), told.site.app)?;
        same("instance", example.instance.as_deref(), told.instance.as_deref())?;
        if told.wants_body && example.body.is_some() {
            return Err("still wants the body".to_owned());
        }
        if !example.operations.is_empty() {
            let found: Vec<String> = told.operations.iter().map(line).collect();
            if found != example.operations {
                return Err(format!("operations: wanted {:?}, got {found:?}", example.operations));
            }
            return Ok(());
        }
        let [operation] = told.operations.as_slice() else {
            return Err(format!("several operations: {:?}", told.operations));
        };
        let wanted_activity = example.activity.as_deref().unwrap_or(&activity.activity);
        same("activity", Some(wanted_activity), Some(operation.activity))?;
        same("object", example.object.as_deref(), operation.object.as_deref())?;
        same("from_user", example.from_user.as_deref(), operation.from_user.as_deref())?;
        same("to_user", example.to_user.as_deref(), operation.to_user.as_deref())?;
        if example.object_type.is_some() {
            let found = operation.object_type.as_deref();
            same("object_type", example.object_type.as_deref(), found)?;
        }
        Ok(())
    })
}

/// `activity object` or `activity object > to_user`.
fn line(operation: &Operation<'_>) -> String {
    let mut line = operation.activity.to_owned();
    if let Some(object) = &operation.object {
        line = format!("{line} {object}");
    }
    if let Some(to_user) = &operation.to_user {
        line = format!("{line} > {to_user}");
    }
    line
}

fn same(what: &str, wanted: Option<&str>, got: Option<&str>) -> Result<(), String> {
    if wanted == got {
        return Ok(());
    }
    Err(format!("{what}: wanted {wanted:?}, got {got:?}"))
}
