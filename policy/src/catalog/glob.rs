//! Text patterns with captures: `{name}` and `*` between literals, matched leftmost and linearly.

use std::borrow::Cow;
use std::ops::Range;

use super::text;

/// Longest literal of a pattern: the factor in the time a match may take.
const LITERAL_BYTES_MAX: usize = 128;

/// What a capture of that name stands for. Other names only tell the reader what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Object = 0,
    Instance = 1,
    FromUser = 2,
    ToUser = 3,
}

impl Slot {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "instance" => Self::Instance,
            "from_user" => Self::FromUser,
            "to_user" => Self::ToUser,
            _ => return None,
        })
    }
}

/// Where the slots lie in one text.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges([Option<Range<usize>>; 4]);

impl Ranges {
    pub(super) fn set(&mut self, slot: Option<Slot>, range: Range<usize>) {
        if let Some(place) = slot.and_then(|slot| self.0.get_mut(slot as usize)) {
            *place = Some(range);
        }
    }
}

/// What the slots hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Captures<'a>([Option<Cow<'a, str>>; 4]);

impl<'a> Captures<'a> {
    pub(super) fn take(&mut self, slot: Slot) -> Option<Cow<'a, str>> {
        self.0.get_mut(slot as usize).and_then(Option::take)
    }

    /// Copies what `ranges` names out of `text`; a slot that is filled keeps its value.
    #[expect(clippy::ptr_arg, reason = "a borrowed text gives borrowed parts")]
    pub(super) fn fill(&mut self, text: &Cow<'a, str>, ranges: &Ranges) {
        for (place, range) in self.0.iter_mut().zip(&ranges.0) {
            if let (None, Some(range)) = (&place, range) {
                *place = slice(text, range.clone());
            }
        }
    }
}

fn slice<'a>(text: &Cow<'a, str>, range: Range<usize>) -> Option<Cow<'a, str>> {
    match text {
        Cow::Borrowed(text) => text.get(range).map(Cow::Borrowed),
        Cow::Owned(text) => text.get(range).map(|part| Cow::Owned(part.to_owned())),
    }
}

/// One pattern: a literal head, then holes with the literal that follows each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Glob {
    head: Box<str>,
    holes: Box<[Hole]>,
}

#[derive(Clone, Debug, PartialEq)]
struct Hole {
    slot: Option<Slot>,
    /// A named hole is never empty; `*` may be.
    named: bool,
    until: Box<str>,
}

impl Glob {
    pub(super) fn parse(pattern: &str) -> Result<Self, String> {
        let mut rest = pattern;
        let head = literal(&mut rest)?;
        let mut holes = Vec::new();
        while !rest.is_empty() {
            let (slot, named) = hole(&mut rest)?;
            let until = literal(&mut rest)?;
            if until.is_empty() && !rest.is_empty() {
                return Err(format!("`{pattern}` has two holes side by side"));
            }
            holes.push(Hole { slot, named, until });
        }
        Ok(Self { head, holes: holes.into() })
    }

    pub(super) fn is_literal(&self) -> bool {
        self.holes.is_empty()
    }

    /// Whether the whole of `text` fits. `offset` is added to the ranges of captures.
    pub(super) fn matches(&self, text: &str, offset: usize, ranges: &mut Ranges) -> bool {
        let Some(mut rest) = text::strip_prefix(text, &self.head) else { return false };
        let Some((last, inner)) = self.holes.split_last() else { return rest.is_empty() };
        for hole in inner {
            // a named hole takes at least its first character
            let from = match rest.chars().next() {
                Some(first) if hole.named => first.len_utf8(),
                _ => usize::from(hole.named),
            };
            let Some(found) =
                rest.get(from..).and_then(|tail| text::find_ignore_case(tail, &hole.until))
            else {
                return false;
            };
            let start = text.len() - rest.len() + offset;
            ranges.set(hole.slot, start..start + from + found);
            rest = rest.get(from + found + hole.until.len()..).unwrap_or_default();
        }
        let Some(held) = text::strip_suffix(rest, &last.until) else { return false };
        if last.named && held.is_empty() {
            return false;
        }
        let start = text.len() - rest.len() + offset;
        ranges.set(last.slot, start..start + held.len());
        true
    }
}

fn literal(rest: &mut &str) -> Result<Box<str>, String> {
    let end = rest.find(['{', '*']).unwrap_or(rest.len());
    if end > LITERAL_BYTES_MAX {
        return Err(format!("a literal is longer than {LITERAL_BYTES_MAX} bytes"));
    }
    let (literal, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
    *rest = tail;
    Ok(literal.into())
}

fn hole(rest: &mut &str) -> Result<(Option<Slot>, bool), String> {
    if let Some(tail) = rest.strip_prefix('*') {
        *rest = tail;
        return Ok((None, false));
    }
    let (name, tail) = rest
        .strip_prefix('{')
        .and_then(|inner| inner.split_once('}'))
        .ok_or_else(|| format!("`{rest}` has an unclosed `{{`"))?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
        return Err(format!("`{{{name}}}` is not a capture's name"));
    }
    *rest = tail;
    Ok((Slot::named(name), true))
}
