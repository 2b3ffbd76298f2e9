//! Which words of rules are worth a look: in a large policy most hold no rule that any known fact
//! could fulfil.

use smallvec::SmallVec;

use crate::fact::KeySet;
use crate::rule::Condition;
use crate::set::WORD;

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

    /// The words with a rule that wants no value of any of these keys.
    pub(super) fn without(&self, known: KeySet, words: usize) -> Candidates {
        let mut all = Words::from_elem(0, words.div_ceil(WORD));
        for group in self.0.iter().filter(|group| !group.wants.meets(known)) {
            all.iter_mut().zip(&group.words).for_each(|(all, one)| *all |= one);
        }
        Candidates { words: all, block: 0 }
    }
}

/// Words to look at, in order.
pub(super) struct Candidates {
    words: Words,
    /// The block of words that the next one is looked for in.
    block: usize,
}

impl Candidates {
    pub(super) fn add(&mut self, words: impl Iterator<Item = u32>) {
        for word in words {
            set(&mut self.words, word as usize);
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
