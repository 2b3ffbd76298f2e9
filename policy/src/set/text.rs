//! Which of many text patterns match a text, in time that grows with the text alone.

use std::collections::BTreeMap;

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

/// Patterns bound to one end, found by one look-up for each length that occurs and may fit.
#[derive(Debug, Default)]
struct Ends {
    /// The shortest first.
    lengths: Vec<(usize, Edges)>,
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
        for (length, edges) in self.prefixes.up_to(text.len()) {
            let start = text.get(..*length).filter(|start| edges.may_hold(before_end(start)));
            let value = start.and_then(|start| self.prefixes.values.get(start));
            value.into_iter().for_each(|&value| note(matched, value));
        }
        for (length, edges) in self.suffixes.up_to(text.len()) {
            let end = text.get(text.len() - length..).filter(|end| edges.may_hold(at_begin(end)));
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
                Form::Prefix => {
                    texts.prefixes.values.insert(text, value);
                }
                Form::Suffix => {
                    texts.suffixes.values.insert(text, value);
                }
                Form::Contains if text.is_empty() => texts.everything = Some(value),
                Form::Contains => inner.push((text, value)),
            }
        }
        texts.prefixes.finish(before_end);
        texts.suffixes.finish(at_begin);
        texts.inner = Inner::new(inner);
        texts
    }
}

impl Ends {
    /// Notes the lengths and, of each, the edges that its patterns have.
    fn finish(&mut self, edge: impl Fn(&[u8]) -> u32) {
        let mut edges: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for text in self.values.keys() {
            edges.entry(text.len()).or_default().push(edge(text));
        }
        let of = |(length, edges): (usize, Vec<u32>)| (length, Edges::new(&edges));
        self.lengths = edges.into_iter().map(of).collect();
    }

    /// The lengths that a text of this length can hold.
    fn up_to(&self, length: usize) -> impl Iterator<Item = &(usize, Edges)> {
        self.lengths.iter().take_while(move |(shortest, _)| *shortest <= length)
    }
}

/// Which bytes the patterns of one length have at their free edge: most texts have others there, and
/// need no look-up. The bound edge says less, as many names end alike. A Bloom filter of one hash.
#[derive(Debug)]
struct Edges {
    bits: Box<[u64]>,
    /// How much of a hash is too much for so many bits.
    shift: u32,
}

impl Edges {
    /// Bits for each pattern: one text in 16 is looked up in vain.
    const BITS: usize = 16;

    fn new(edges: &[u32]) -> Self {
        let bits = (edges.len() * Self::BITS).next_power_of_two().max(64);
        let mut all =
            Self { bits: vec![0; bits / 64].into(), shift: u64::BITS - bits.trailing_zeros() };
        for &edge in edges {
            let (word, bit) = all.place(edge);
            if let Some(word) = all.bits.get_mut(word) {
                *word |= bit;
            }
        }
        all
    }

    fn may_hold(&self, edge: u32) -> bool {
        let (word, bit) = self.place(edge);
        self.bits.get(word).is_some_and(|word| word & bit != 0)
    }

    fn place(&self, edge: u32) -> (usize, u64) {
        // The high bits of a product depend on all of its factor.
        let place = u64::from(edge).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift;
        (usize::try_from(place / 64).unwrap_or(0), 1 << (place % 64))
    }
}

/// The first four bytes; fewer only in a text that has no more.
fn at_begin(text: &[u8]) -> u32 {
    text.first_chunk().map_or_else(|| short(text), |four| u32::from_le_bytes(*four))
}

/// The last four bytes; fewer only in a text that has no more.
fn before_end(text: &[u8]) -> u32 {
    text.last_chunk().map_or_else(|| short(text), |four| u32::from_le_bytes(*four))
}

fn short(text: &[u8]) -> u32 {
    text.iter().fold(0, |word, &byte| word << 8 | u32::from(byte))
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
