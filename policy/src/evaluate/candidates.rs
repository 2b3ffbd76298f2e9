//! Which words of rules are worth a look: in a large policy most hold no rule that any known fact
//! could fulfil.

use smallvec::SmallVec;

use crate::fact::{Key, KeySet};
use crate::rule::Condition;
use crate::set::{Bits, WORD};

/// Groups told apart; rules want few combinations of keys. Those of further ones are always looked
/// at.
const GROUPS_MAX: usize = 256;

/// One bit for each word: 1,024 words, which are 65,536 rules, before this takes an allocation.
type Words = SmallVec<[u64; 16]>;

/// Rules by the keys that they want a value of. A `not` wants none: it holds where nothing matches.
#[derive(Debug)]
pub(super) struct Groups(Box<[Group]>);

#[derive(Debug)]
struct Group {
    wants: KeySet,
    words: Box<[u64]>,
}

impl Groups {
    /// The conditions of each rule, in order; `words` is how many words they fill.
    pub(super) fn new<'r>(rules: impl Iterator<Item = &'r [Condition]>, words: usize) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (rule, conditions) in rules.enumerate() {
            let wants: KeySet =
                conditions.iter().filter(|it| !it.negated).map(|it| it.key).collect();
            let known = groups.iter().position(|group| group.wants == wants);
            let full = groups.len() >= GROUPS_MAX;
            let wants = if known.is_none() && full { KeySet::EMPTY } else { wants };
            let place = groups.iter().position(|group| group.wants == wants).unwrap_or_else(|| {
                groups.push(Group { wants, words: vec![0; words.div_ceil(WORD)].into() });
                groups.len() - 1
            });
            if let Some(group) = groups.get_mut(place) {
                set(&mut group.words, rule / WORD);
            }
        }
        Self(groups.into())
    }
}

/// Words to look at, in order.
pub(super) struct Candidates {
    /// Blocks of 64 words that the policy fills.
    blocks: usize,
    /// The known keys, each with its place in `touched`.
    places: SmallVec<[Key; Key::COUNT]>,
    keys: KeySet,
    /// For each known key in turn: the words with a rule that wants a value it matched.
    touched: SmallVec<[u64; 128]>,
    words: Words,
    /// The block that the next word is looked for in.
    block: usize,
}

impl Candidates {
    /// None yet, of a policy that fills so many words.
    pub(super) fn new(words: usize) -> Self {
        Self {
            blocks: words.div_ceil(WORD),
            places: SmallVec::new(),
            keys: KeySet::EMPTY,
            touched: SmallVec::new(),
            words: Words::new(),
            block: 0,
        }
    }

    /// This key is known; the values it matched follow.
    pub(super) fn known(&mut self, key: Key) {
        self.places.push(key);
        self.keys.insert(key);
        self.touched.resize(self.touched.len() + self.blocks, 0);
    }

    /// The key named last matched a value that these rules want.
    pub(super) fn matched(&mut self, rules: &Bits) {
        let begin = self.touched.len().saturating_sub(self.blocks);
        if let Some(touched) = self.touched.get_mut(begin..) {
            rules.mark(touched);
        }
    }

    /// Chooses the words: of each group those where every known key that it wants matched.
    pub(super) fn choose(&mut self, groups: &Groups) {
        self.words.resize(self.blocks, 0);
        for group in &groups.0 {
            let wants = group.wants.and(self.keys);
            for (block, (all, one)) in self.words.iter_mut().zip(&group.words).enumerate() {
                let mut left = *one;
                for (place, key) in self.places.iter().enumerate() {
                    if wants.contains(*key) {
                        let touched = self.touched.get(place * self.blocks + block);
                        left &= touched.copied().unwrap_or(u64::MAX);
                    }
                }
                *all |= left;
            }
        }
    }

    /// The next word, once.
    pub(super) fn next_word(&mut self) -> Option<usize> {
        loop {
            let bits = self.words.get_mut(self.block)?;
            if *bits == 0 {
                self.block += 1;
                continue;
            }
            let word = self.block * WORD + bits.trailing_zeros() as usize;
            *bits &= *bits - 1;
            return Some(word);
        }
    }
}

fn set(words: &mut [u64], word: usize) {
    if let Some(block) = words.get_mut(word / WORD) {
        *block |= 1 << (word % WORD);
    }
}
