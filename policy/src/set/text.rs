//! Which of many text patterns match a text, in time that grows with the text alone.

use aho_corasick::automaton::{Automaton, OverlappingState};
use aho_corasick::{Anchored, Input, nfa::contiguous::NFA};
use memchr::memmem::Finder;
use smallvec::SmallVec;

use super::{Matched, TextMap, ValueId, note};
use crate::pattern::{Form, Pattern};

/// Up to here, texts inside a text are searched one after the other; the automaton for more costs
/// some kilobytes, which each of thousands of small tenants would pay.
const FEW: usize = 8;

/// The patterns of one key.
#[derive(Debug, Default)]
pub(super) struct Texts {
    exact: TextMap,
    prefixes: Ends,
    suffixes: Ends,
    inner: Inner,
    /// `*` alone.
    everything: Option<ValueId>,
}

/// Patterns bound to one end, found by one look-up for each length that occurs.
#[derive(Debug, Default)]
struct Ends {
    lengths: Vec<usize>,
    values: TextMap,
}

/// Patterns that may stand anywhere.
#[derive(Debug, Default)]
enum Inner {
    #[default]
    None,
    Few(Vec<(Finder<'static>, ValueId)>),
    Many {
        automaton: Box<NFA>,
        values: Vec<ValueId>,
    },
}

impl Texts {
    /// Finds the patterns that match a text in lower case.
    pub(super) fn find(&self, text: &[u8], matched: &mut Matched) {
        if let Some(&value) = self.exact.get(text) {
            note(matched, value);
        }
        for &length in self.prefixes.lengths.iter().take_while(|&&length| length <= text.len()) {
            let value = text.get(..length).and_then(|start| self.prefixes.values.get(start));
            value.into_iter().for_each(|&value| note(matched, value));
        }
        for &length in self.suffixes.lengths.iter().take_while(|&&length| length <= text.len()) {
            let end = text.get(text.len() - length..);
            let value = end.and_then(|end| self.suffixes.values.get(end));
            value.into_iter().for_each(|&value| note(matched, value));
        }
        self.inner.find(text, matched);
        if let Some(value) = self.everything {
            note(matched, value);
        }
    }
}

impl FromIterator<(ValueId, Pattern)> for Texts {
    fn from_iter<I: IntoIterator<Item = (ValueId, Pattern)>>(patterns: I) -> Self {
        let mut texts = Self::default();
        let mut inner = Vec::new();
        for (value, pattern) in patterns {
            let text = pattern.text.into_bytes().into_boxed_slice();
            match pattern.form {
                Form::Exact => {
                    texts.exact.insert(text, value);
                }
                Form::Prefix => texts.prefixes.add(text, value),
                Form::Suffix => texts.suffixes.add(text, value),
                Form::Contains if text.is_empty() => texts.everything = Some(value),
                Form::Contains => inner.push((text, value)),
            }
        }
        texts.prefixes.lengths.sort_unstable();
        texts.suffixes.lengths.sort_unstable();
        texts.inner = Inner::new(inner);
        texts
    }
}

impl Ends {
    fn add(&mut self, text: Box<[u8]>, value: ValueId) {
        if !self.lengths.contains(&text.len()) {
            self.lengths.push(text.len());
        }
        self.values.insert(text, value);
    }
}

impl Inner {
    fn new(patterns: Vec<(Box<[u8]>, ValueId)>) -> Self {
        if patterns.is_empty() {
            return Self::None;
        }
        if patterns.len() > FEW
            && let Ok(automaton) = NFA::new(patterns.iter().map(|(text, _)| text))
        {
            let values = patterns.into_iter().map(|(_, value)| value).collect();
            return Self::Many { automaton: Box::new(automaton), values };
        }
        let finder = |(text, value): (Box<[u8]>, ValueId)| (Finder::new(&text).into_owned(), value);
        Self::Few(patterns.into_iter().map(finder).collect())
    }

    fn find(&self, text: &[u8], matched: &mut Matched) {
        match self {
            Self::None => {}
            Self::Few(finders) => {
                for (finder, value) in finders {
                    if finder.find(text).is_some() {
                        note(matched, *value);
                    }
                }
            }
            Self::Many { automaton, values } => {
                // A pattern is reported wherever it stands; it counts once.
                let mut seen: SmallVec<[u64; 16]> = SmallVec::from_elem(0, values.len() / 64 + 1);
                let input = Input::new(text).anchored(Anchored::No);
                let mut state = OverlappingState::start();
                while automaton.try_find_overlapping(&input, &mut state).is_ok() {
                    let Some(found) = state.get_match() else {
                        break;
                    };
                    let index = found.pattern().as_usize();
                    let (Some(word), Some(&value)) = (seen.get_mut(index / 64), values.get(index))
                    else {
                        continue;
                    };
                    if *word & 1 << (index % 64) == 0 {
                        *word |= 1 << (index % 64);
                        matched.push(value);
                    }
                }
            }
        }
    }
}
