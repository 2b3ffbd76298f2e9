//! What a response's head says, for the response gate: nothing of it has reached the client yet.

use policy::catalog::{Catalog, Operation, ResponseView};
use policy::fact::{Key, KeySet};

use crate::exchange::{Length, Response};

/// The parts of a response that rules look at.
#[derive(Clone, Copy, Debug)]
pub struct ResponseFacts<'a> {
    pub view: ResponseView<'a>,
    /// Of the body; `None` where it is not announced.
    pub bytes: Option<u64>,
}

impl<'a> ResponseFacts<'a> {
    /// `path` is the request's, which names what is fetched where the response does not.
    #[must_use]
    pub fn of(response: &'a Response, path: &'a str) -> Self {
        let bytes = match response.body {
            Length::Exact(bytes) => Some(bytes),
            _ => None,
        };
        let view = ResponseView {
            status: response.status,
            content_type: response.fields.text("content-type"),
            content_disposition: response.fields.text("content-disposition"),
            location: response.fields.text("location"),
            path,
        };
        Self { view, bytes }
    }

    /// The operation as the response shows it, where that is another: a download, a refused login.
    #[must_use]
    pub fn refine(&self, catalog: &Catalog, operation: &Operation<'_>) -> Option<Operation<'a>> {
        catalog.classify_response(operation.activity, &self.view)
    }
}

/// Keys of a policy that only a response can tell. Of a request without a body, what it carries is
/// what its response carries.
#[must_use]
pub fn keys(bodiless: bool) -> KeySet {
    let always = [Key::Threat, Key::Inspection];
    let carried = [Key::ContentType, Key::FileType, Key::FileName, Key::FileSize];
    always.into_iter().chain(carried.into_iter().filter(|_| bodiless)).collect()
}
