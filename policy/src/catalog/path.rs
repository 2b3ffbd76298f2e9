//! Path patterns: literal and captured segments with at most one `**`, matched without backtracking.

use super::glob::{Glob, Ranges, Slot};
use super::text;

/// A pattern for a decoded path, such as `/repos/{instance}/{repo}/contents/{object**}`.
///
/// Segments before the `**` are matched from the front, those after it from the back, so that
/// each segment is looked at once.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PathPattern {
    front: Box<[Glob]>,
    span: Option<Span>,
    back: Box<[Glob]>,
}

/// `**` or `{name**}`, with the literal that ends its last segment.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    slot: Option<Slot>,
    /// A named span is never empty.
    named: bool,
    suffix: Box<str>,
}

impl PathPattern {
    pub(super) fn parse(pattern: &str) -> Result<Self, String> {
        let body = pattern
            .strip_prefix('/')
            .ok_or_else(|| format!("path `{pattern}` does not begin with `/`"))?;
        let mut front = Vec::new();
        let mut back = Vec::new();
        let mut span = None;
        for segment in body.split('/').filter(|_| !body.is_empty()) {
            if let Some(parsed) = parse_span(segment)? {
                if span.replace(parsed).is_some() {
                    return Err(format!("path `{pattern}` has more than one `**`"));
                }
            } else if span.is_some() {
                back.push(Glob::parse(segment)?);
            } else {
                front.push(Glob::parse(segment)?);
            }
        }
        Ok(Self { front: front.into(), span, back: back.into() })
    }

    /// The same pattern with anything after it, for paths that belong to an app as a whole.
    pub(super) fn into_prefix(mut self) -> Self {
        if self.span.is_none() {
            self.span = Some(Span { slot: None, named: false, suffix: "".into() });
        }
        self
    }

    /// How many segments are fixed: the measure of which of two patterns says more.
    pub(super) fn weight(&self) -> usize {
        let literal = |globs: &[Glob]| globs.iter().filter(|glob| glob.is_literal()).count();
        2 * (literal(&self.front) + literal(&self.back)) + self.front.len() + self.back.len()
    }

    /// Whether the whole path fits. One slash at its end is ignored, unless a span takes it.
    pub(super) fn matches(&self, path: &str, ranges: &mut Ranges) -> bool {
        let Some(body) = path.strip_prefix('/') else { return false };
        let takes_end = self.span.is_some() && self.back.is_empty();
        let body = if takes_end { body } else { body.strip_suffix('/').unwrap_or(body) };
        let mut rest = (!body.is_empty()).then_some(body);
        let mut start = 1;
        for glob in &self.front {
            let Some(current) = rest else { return false };
            let (segment, tail) = match current.split_once('/') {
                Some((segment, tail)) => (segment, Some(tail)),
                None => (current, None),
            };
            if !glob.matches(segment, start, ranges) {
                return false;
            }
            start += segment.len() + 1;
            rest = tail;
        }
        let Some(span) = &self.span else { return rest.is_none() };
        for glob in self.back.iter().rev() {
            let Some(current) = rest else { return false };
            let (head, segment) = match current.rsplit_once('/') {
                Some((head, segment)) => (Some(head), segment),
                None => (None, current),
            };
            let at = start + current.len() - segment.len();
            if !glob.matches(segment, at, ranges) {
                return false;
            }
            rest = head;
        }
        span.takes(rest.unwrap_or_default(), start, ranges)
    }
}

impl Span {
    fn takes(&self, text: &str, start: usize, ranges: &mut Ranges) -> bool {
        let Some(held) = text::strip_suffix(text, &self.suffix) else { return false };
        if self.named && held.is_empty() {
            return false;
        }
        ranges.set(self.slot, start..start + held.len());
        true
    }
}

fn parse_span(segment: &str) -> Result<Option<Span>, String> {
    if let Some(suffix) = segment.strip_prefix("**") {
        return Ok(Some(Span { slot: None, named: false, suffix: plain(suffix)? }));
    }
    let Some((name, suffix)) = segment.strip_prefix('{').and_then(|inner| inner.split_once("**}"))
    else {
        return if segment.contains("**") {
            Err(format!("`**` in `{segment}` does not begin the segment"))
        } else {
            Ok(None)
        };
    };
    Ok(Some(Span { slot: Slot::named(name), named: true, suffix: plain(suffix)? }))
}

fn plain(suffix: &str) -> Result<Box<str>, String> {
    if suffix.contains(['{', '*']) {
        return Err(format!("`{suffix}` after `**` is not literal"));
    }
    Ok(suffix.into())
}
