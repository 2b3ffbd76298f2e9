//! Sets of rules, one bit each: sparse while few words have a bit, dense beyond.

use super::WORD;

/// Of this many words at most one has a bit in a sparse set; denser ones are read without a search, and
/// take at most four times the memory written out.
const SPARSE: usize = 8;

/// A set of rules that is read at rising words.
#[derive(Debug)]
pub(crate) enum Bits {
    Sparse(Box<[Entry]>),
    /// All words; and of each 64 of them, which have a bit.
    Dense {
        words: Box<[u64]>,
        blocks: Box<[u64]>,
    },
}

/// A word that has a bit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    word: u32,
    bits: u64,
}

impl Default for Bits {
    fn default() -> Self {
        Self::Sparse(Box::default())
    }
}

impl Bits {
    /// Marks the words that have a bit, 64 to a block.
    pub(crate) fn mark(&self, blocks: &mut [u64]) {
        match self {
            Self::Sparse(entries) => {
                for entry in entries {
                    let word = entry.word as usize;
                    if let Some(block) = blocks.get_mut(word / WORD) {
                        *block |= 1 << (word % WORD);
                    }
                }
            }
            Self::Dense { blocks: own, .. } => {
                blocks.iter_mut().zip(own).for_each(|(all, one)| *all |= one);
            }
        }
    }

    pub(crate) fn cursor(&self) -> Cursor<'_> {
        match self {
            Self::Sparse(entries) => Cursor::Sparse(entries),
            Self::Dense { words, .. } => Cursor::Dense(words),
        }
    }
}

/// How far a set has been read.
#[derive(Clone, Copy)]
pub(crate) enum Cursor<'b> {
    Sparse(&'b [Entry]),
    Dense(&'b [u64]),
}

impl Cursor<'_> {
    /// The bits of this word, where words are asked for in rising order.
    pub(crate) fn read(&mut self, word: usize) -> u64 {
        match self {
            Self::Dense(words) => words.get(word).copied().unwrap_or(0),
            Self::Sparse(entries) => {
                while let Some((first, rest)) = entries.split_first() {
                    let at = first.word as usize;
                    if at >= word {
                        return if at == word { first.bits } else { 0 };
                    }
                    *entries = rest;
                }
                0
            }
        }
    }
}

/// A set while rules are added in order.
#[derive(Default)]
pub(super) struct Growing(Vec<Entry>);

impl Growing {
    pub(super) fn add(&mut self, rule: usize) {
        let word = u32::try_from(rule / WORD).unwrap_or(u32::MAX);
        let bits = 1 << (rule % WORD);
        match self.0.last_mut() {
            Some(entry) if entry.word == word => entry.bits |= bits,
            _ => self.0.push(Entry { word, bits }),
        }
    }

    /// `words` is how many words all rules fill.
    pub(super) fn finish(self, words: usize) -> Bits {
        let sparse = Bits::Sparse(self.0.into());
        let Bits::Sparse(entries) = &sparse else { return sparse };
        if entries.len() * SPARSE <= words {
            return sparse;
        }
        let mut all = vec![0; words];
        for entry in entries {
            if let Some(word) = all.get_mut(entry.word as usize) {
                *word = entry.bits;
            }
        }
        let mut blocks = vec![0; words.div_ceil(WORD)];
        sparse.mark(&mut blocks);
        Bits::Dense { words: all.into(), blocks: blocks.into() }
    }
}
