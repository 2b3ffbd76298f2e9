//! An event as it stands in the log, read field by field.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// A parsed line of the log.
#[derive(Clone, Debug)]
pub struct Event(Map<String, Value>);

impl Event {
    /// `None` where the line is no JSON object.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok().map(Self)
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.as_u64()
    }

    /// When it was written.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.text("time")?.parse().ok()
    }

    /// Whole milliseconds of a duration.
    pub(super) fn millis(&self, name: &str) -> Option<u64> {
        let value = self.get(name)?.as_f64()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast saturates, and no duration is below zero"
        )]
        let whole = value.round() as u64;
        Some(whole)
    }

    /// Bytes of request and response together.
    pub(super) fn traffic(&self) -> Option<Value> {
        let (out, back) = (self.number("request_bytes"), self.number("response_bytes"));
        (out.is_some() || back.is_some()).then(|| (out.unwrap_or(0) + back.unwrap_or(0)).into())
    }

    pub(super) fn is(&self, name: &str, value: &str) -> bool {
        self.text(name) == Some(value)
    }

    /// What one field of the first entry of a list of objects says.
    pub(super) fn first(&self, list: &str, name: &str) -> Option<&Value> {
        self.get(list)?.as_array()?.first()?.get(name)
    }

    /// The texts of a list, or of one field of a list of objects, each once.
    pub(super) fn texts(&self, list: &str, name: Option<&str>) -> Vec<&str> {
        let mut texts = Vec::new();
        for entry in self.get(list).and_then(Value::as_array).into_iter().flatten() {
            let text = name.map_or(Some(entry), |name| entry.get(name)).and_then(Value::as_str);
            texts.extend(text.filter(|text| !texts.contains(text)));
        }
        texts
    }

    /// The URL's parts: scheme, authority, path, query without their marks.
    pub(super) fn url(&self) -> Option<Url<'_>> {
        let (scheme, rest) = self.text("url")?.split_once("://")?;
        let (before, query) = match rest.split_once('?') {
            Some((before, query)) => (before, Some(query)),
            None => (rest, None),
        };
        let end = before.find('/').unwrap_or(before.len());
        let (authority, path) = before.split_at_checked(end)?;
        Some(Url { scheme, authority, path: if path.is_empty() { "/" } else { path }, query })
    }
}

/// An absolute URL in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Url<'u> {
    pub(super) scheme: &'u str,
    pub(super) authority: &'u str,
    pub(super) path: &'u str,
    pub(super) query: Option<&'u str>,
}
