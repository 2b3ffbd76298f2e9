//! Facts of the file that an exchange carries: of the request's body, or of the response's.

use std::borrow::Cow;

use policy::catalog::Classification;
use policy::fact::{Fact, Facts, Key, Unobtainable, Value};
use smallvec::SmallVec;

use super::exchange::{BodyFacts, Subject};
use super::file_type;
use super::held::{Held, Searched};
use crate::event::Inspection;

/// Whose body carries the content that rules ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    Request,
    /// Of a request without a body, and of a download.
    Response,
}

/// What is known of the file.
pub(super) struct Files<'f> {
    content_type: Option<&'f str>,
    names: SmallVec<[&'f str; 4]>,
    types: SmallVec<[&'f str; 2]>,
    size: Option<u64>,
    /// Profiles that a search found, or why there was none.
    profiles: Option<Result<SmallVec<[&'f str; 2]>, Unobtainable>>,
    inspection: Inspection,
}

/// Gathers it.
pub(super) fn files<'f>(
    subject: &'f Subject<'_>,
    told: &'f Classification<'_, '_>,
    carries: Carries,
) -> Files<'f> {
    match (carries, &subject.response) {
        (Carries::Response, Some(response)) => {
            let object = told.operations.first().filter(|it| it.activity == "download");
            let names: SmallVec<_> =
                object.and_then(|it| it.object.as_deref()).into_iter().collect();
            let types = file_type::by_name(names.first().copied(), response.view.content_type);
            Files {
                content_type: response.view.content_type,
                names,
                types,
                size: response.bytes,
                profiles: None,
                inspection: Inspection::None,
            }
        }
        _ => {
            let content_type = subject.request.fields.text("content-type");
            let held = match subject.body {
                BodyFacts::Held(held) => Some(held),
                BodyFacts::Settled(settled) => Some(&settled.held),
                _ => None,
            };
            let mut names: SmallVec<[&str; 4]> = SmallVec::new();
            let mut types = SmallVec::new();
            if let Some(held) = held {
                names.extend(held.file_names.iter().map(String::as_str));
                if names.is_empty() {
                    names.extend(uploaded(told));
                }
                types = file_type::all(held.file_type.as_deref(), &names, content_type);
            }
            Files {
                content_type,
                names,
                types,
                size: held.and_then(|it| it.file_size),
                profiles: held.and_then(|held| held.searched.as_ref()).map(profiles),
                inspection: held.map_or(Inspection::None, Held::inspection),
            }
        }
    }
}

/// Each profile once: its hits stand together.
fn profiles(
    searched: &Result<Searched, Unobtainable>,
) -> Result<SmallVec<[&str; 2]>, Unobtainable> {
    let searched = searched.as_ref().map_err(|why| *why)?;
    let mut profiles: SmallVec<_> = searched.hits.iter().map(|hit| &*hit.profile).collect();
    profiles.dedup();
    Ok(profiles)
}

/// The name that the app gives to what a plain body uploads: its object's last part.
fn uploaded<'f>(told: &'f Classification<'_, '_>) -> Option<&'f str> {
    let upload = told.operations.first().filter(|it| it.activity == "upload")?;
    let object: &Cow<'_, str> = upload.object.as_ref()?;
    object.rsplit(['/', '\\']).next().filter(|name| !name.is_empty())
}

impl Files<'_> {
    pub(super) fn set<'s>(
        &'s self,
        facts: &mut Facts<'s>,
        subject: &Subject<'_>,
        carries: Carries,
    ) {
        // What has none of its own before its response is known has it then.
        let absent = match (carries, subject.body) {
            (Carries::Response, _) | (_, BodyFacts::Held(_) | BodyFacts::Settled(_)) => {
                Fact::Inapplicable
            }
            (_, BodyFacts::None | BodyFacts::Unread | BodyFacts::Passed) => Fact::Deferred,
            (_, BodyFacts::Unobtainable(why)) => Fact::Unobtainable(why),
        };
        let text = |value: Option<&'s str>| value.map_or(absent, |it| Fact::Known(Value::Text(it)));
        let texts = |values: &'s [&'s str]| {
            if values.is_empty() { absent } else { Fact::Known(Value::Texts(values)) }
        };
        let of_request = matches!(subject.body, BodyFacts::None) && carries == Carries::Request;
        let content_type = if of_request { None } else { self.content_type };
        facts.set(Key::ContentType, text(content_type));
        facts.set(Key::FileName, texts(&self.names));
        facts.set(Key::FileType, texts(&self.types));
        let searched = match &self.profiles {
            Some(Ok(profiles)) => Fact::Known(Value::Texts(profiles)),
            Some(Err(why)) => Fact::Unobtainable(*why),
            None => absent,
        };
        facts.set(Key::Dlp, searched);
        // A response is not looked into, so nothing more comes once the request has gone.
        let inspection = match subject.body {
            BodyFacts::Unread => Fact::Deferred,
            _ => Fact::Known(Value::Text(self.inspection.as_str())),
        };
        facts.set(Key::Inspection, inspection);
        facts.set(Key::FileSize, self.size.map_or(absent, |it| Fact::Known(Value::Number(it))));
    }
}
