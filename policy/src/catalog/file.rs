//! The form of a catalog file, as serde reads it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One file: the apps of one category.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    pub category: String,
    pub apps: Vec<RawApp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApp {
    pub id: String,
    pub name: String,
    /// Further categories, after the file's own.
    #[serde(default)]
    pub also: Vec<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub risk: u8,
    #[serde(default)]
    pub pinned: bool,
    /// `name`, `*.suffix`, `a.*.suffix`, each with or without `/path`.
    pub domains: Vec<String>,
    /// Where the app's interface is documented, or `web-client` where only its client shows it.
    #[serde(default)]
    pub doc: Option<String>,
    #[serde(default)]
    pub instance: Vec<RawSignal>,
    #[serde(default)]
    pub activities: Vec<RawActivity>,
    /// Requests that are not this app's.
    #[cfg_attr(not(test), expect(dead_code, reason = "examples are for the tests"))]
    #[serde(default)]
    pub never: Vec<String>,
}

/// Where the instance shows, when a signature does not say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSignal {
    /// `METHODS host/path` with `{instance}`; any request of the app where absent.
    #[serde(default)]
    pub on: Option<String>,
    #[serde(default)]
    pub from: Option<String>,
    /// What the value must look like, with `{instance}`; the whole of it where absent.
    #[serde(default)]
    pub like: Option<String>,
    /// An instance that the place alone implies: one of [`super::names::INSTANCES`].
    #[serde(default)]
    pub is: Option<String>,
    /// Values that are not instances.
    #[serde(default)]
    pub except: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawActivity {
    pub activity: String,
    /// `METHODS host/path`: what the head must look like; one of several.
    pub on: OneOrMany,
    /// Place to read from → patterns of which one must fit; null: must be absent.
    #[serde(default)]
    pub when: BTreeMap<String, Option<OneOrMany>>,
    /// Where the items of a batch are: `json:/pointer`, `xml:TAG`, `graphql`, `requests`.
    #[serde(default)]
    pub each: Option<String>,
    #[serde(default)]
    pub object: Option<OneOrMany>,
    #[serde(default)]
    pub object_type: Option<String>,
    #[serde(default)]
    pub instance: Option<OneOrMany>,
    #[serde(default)]
    pub from_user: Option<OneOrMany>,
    #[serde(default)]
    pub to_user: Option<OneOrMany>,
    #[serde(default)]
    pub doc: Option<String>,
    pub examples: Vec<RawExample>,
}

/// A request and what it must be taken for.
#[cfg_attr(not(test), expect(dead_code, reason = "examples are for the tests"))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExample {
    /// `METHOD https://host/path?query`
    pub request: String,
    /// Content-Type.
    #[serde(default, rename = "type")]
    pub media: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub body: Option<String>,
    /// Where they differ from the app and activity the example stands under.
    #[serde(default)]
    pub app: Option<String>,
    #[serde(default)]
    pub activity: Option<String>,
    #[serde(default)]
    pub object: Option<String>,
    #[serde(default)]
    pub object_type: Option<String>,
    #[serde(default)]
    pub instance: Option<String>,
    #[serde(default)]
    pub from_user: Option<String>,
    #[serde(default)]
    pub to_user: Option<String>,
    /// `activity object` of each, where there are several.
    #[serde(default)]
    pub operations: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}
