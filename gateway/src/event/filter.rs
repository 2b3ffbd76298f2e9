//! Which events somebody wants to see.

use std::borrow::Cow;

use jiff::Timestamp;
use policy::Pattern;
use serde::Deserialize;

/// Values of all keys together: what a person lists, not a data set.
const VALUES_MAX: usize = 256;
/// Longest value; no text of an event that is looked at is longer.
const VALUE_BYTES_MAX: usize = 1024;

/// What a filter can look at.
pub const FILTER_KEYS: [&str; 5] = ["type", "state", "action", "user", "app"];

/// Which events are wanted: within a key any value matches, between keys all must. Values are
/// exact or have `*` at either end, without regard to case. The default wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// In the order of [`FILTER_KEYS`].
    keys: [Vec<Pattern>; FILTER_KEYS.len()],
    /// As it stands in events, so that two times compare as text.
    since: Option<String>,
    since_time: Option<Timestamp>,
}

/// Why there is no such filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("events are not filtered by that key")]
    Key,
    #[error("`*` can stand at either end of a value, and no value is empty or longer than 1 KiB")]
    Value,
    #[error("more than {VALUES_MAX} values")]
    Many,
    #[error("`since` is neither RFC 3339 nor seconds since 1970")]
    Since,
}

/// The part of an event that filters look at. What it does not have is empty here.
#[derive(Default, Deserialize)]
struct Seen<'e> {
    #[serde(borrow, default, rename = "type")]
    record_type: Cow<'e, str>,
    #[serde(borrow, default)]
    state: Cow<'e, str>,
    #[serde(borrow, default)]
    action: Cow<'e, str>,
    #[serde(borrow, default)]
    user: Cow<'e, str>,
    #[serde(borrow, default)]
    app: Cow<'e, str>,
    #[serde(borrow, default)]
    time: Cow<'e, str>,
}

impl Filter {
    /// Wants `value` too, under one of [`FILTER_KEYS`].
    ///
    /// # Errors
    /// Where there is no such key, or the value is no pattern.
    pub fn want(&mut self, key: &str, value: &str) -> Result<(), FilterError> {
        let sum: usize = self.keys.iter().map(Vec::len).sum();
        if sum >= VALUES_MAX {
            return Err(FilterError::Many);
        }
        let place = FILTER_KEYS.iter().position(|known| *known == key).ok_or(FilterError::Key)?;
        let fits = value.len() <= VALUE_BYTES_MAX;
        let pattern = Pattern::parse(value).filter(|_| fits).ok_or(FilterError::Value)?;
        if let Some(values) = self.keys.get_mut(place) {
            values.push(pattern);
        }
        Ok(())
    }

    /// Wants nothing that was written before: RFC 3339, or seconds since 1970.
    ///
    /// # Errors
    /// Where the text is neither.
    pub fn since(&mut self, text: &str) -> Result<(), FilterError> {
        let seconds = || Timestamp::from_second(text.parse().ok()?).ok();
        let time: Option<Timestamp> = text.parse().ok();
        let time = time.or_else(seconds).ok_or(FilterError::Since)?;
        self.since_time = Some(time);
        self.since = Some(format!("{time:.6}"));
        Ok(())
    }

    /// The earliest event wanted.
    pub(super) fn since_time(&self) -> Option<Timestamp> {
        self.since_time
    }

    /// Whether every event is wanted, so that none need be looked into.
    #[must_use]
    pub fn wants_all(&self) -> bool {
        self.since.is_none() && self.keys.iter().all(Vec::is_empty)
    }

    /// Whether this line is wanted. One that cannot be read is: it is not the filter's to hide.
    #[must_use]
    pub fn wants(&self, line: &[u8]) -> bool {
        if self.wants_all() {
            return true;
        }
        let Ok(seen) = serde_json::from_slice::<Seen<'_>>(line) else { return true };
        let values = [&seen.record_type, &seen.state, &seen.action, &seen.user, &seen.app];
        self.since.as_deref().is_none_or(|since| &*seen.time >= since)
            && self.keys.iter().zip(values).all(|(patterns, value)| any(patterns, value))
    }
}

fn any(patterns: &[Pattern], value: &str) -> bool {
    if patterns.is_empty() {
        return true;
    }
    // An absent field matches nothing, not even `*`.
    !value.is_empty() && patterns.iter().any(|pattern| pattern.matches(value))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::{Filter, FilterError};

    fn filter(keys: &[(&str, &str)]) -> Filter {
        let mut filter = Filter::default();
        keys.iter().for_each(|(key, value)| filter.want(key, value).unwrap());
        filter
    }

    #[test]
    fn any_value_of_a_key_and_every_key_must_match() {
        let line =
            br#"{"type":"alert","user":"Alice@acme.test","action":"block","app":"b\u006fx"}"#;
        for (wanted, keys) in [
            (true, vec![("type", "flow"), ("type", "alert")]),
            (true, vec![("user", "alice@*"), ("action", "block"), ("app", "box")]),
            (false, vec![("user", "bob@acme.test"), ("action", "block")]),
            (false, vec![("state", "*")]),
        ] {
            assert_eq!(filter(&keys).wants(line), wanted, "{keys:?}");
        }
    }

    #[test]
    fn since_compares_times() {
        let line = br#"{"time":"2026-11-22T13:05:09.123456Z"}"#;
        for (since, wanted) in [
            ("2026-11-22T13:05:09.123456Z", true),
            ("2026-11-22T14:05:09.1+01:00", true),
            ("2026-11-22T13:05:10Z", false),
            ("0", true),
            ("99999999999", false),
        ] {
            let mut filter = Filter::default();
            filter.since(since).unwrap();
            assert_eq!(filter.wants(line), wanted, "{since}");
        }
        assert_eq!(Filter::default().since("yesterday"), Err(FilterError::Since));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let mut filter = Filter::default();
        assert_eq!(filter.want("host", "x"), Err(FilterError::Key));
        assert_eq!(filter.want("app", "a*b"), Err(FilterError::Value));
        assert_eq!(filter.want("app", ""), Err(FilterError::Value));
        let all = (0..257).try_for_each(|number| filter.want("app", &number.to_string()));
        assert_eq!(all, Err(FilterError::Many));
    }

    #[test]
    fn a_line_that_cannot_be_read_is_not_hidden() {
        assert!(filter(&[("type", "alert")]).wants(b"not JSON"));
    }
}
