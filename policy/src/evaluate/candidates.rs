//! Which words of rules are worth a look: in a large policy most hold no rule that any known fact
//! could fulfil.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::{Role, Traits, Undecided};
use crate::fact::{Gate, Key, KeySet};
use crate::rule::Condition;
use crate::set::{Bits, WORD};

/// Groups told apart; rules use few combinations of keys. Those of further ones are always looked
/// at.
const GROUPS_MAX: usize = 256;

/// One bit for each word: 1,024 words, which are 65,536 rules, before this takes an allocation.
type Words = SmallVec<[u64; 16]>;

/// Rules by the keys that they want a value of (a `not` wants none: it holds where nothing matches),
/// and by what they can add to an answer while they are undecided.
#[derive(Debug)]
pub(super) struct Groups(Box<[Group]>);

#[derive(Debug)]
struct Group {
    wants: KeySet,
    adds: Adds,
    words: Box<[u64]>,
}

/// What an undecided rule can add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adds {
    Known {
        keys: KeySet,
        role: Role,
        lenient: bool,
        before_send: bool,
    },
    /// Rules of many kinds.
    Anything,
}

/// What the undecided rules so far have added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) any: bool,
    pub(super) undecided: Undecided,
    pub(super) waits_for: KeySet,
    pub(super) alerts_wait_for: KeySet,
    pub(super) headers_pending: KeySet,
}

impl Groups {
    /// Each rule, in order; `words` is how many words they fill.
    pub(super) fn new<'r>(
        rules: impl Iterator<Item = (&'r [Condition], Traits)>,
        words: usize,
    ) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut places: HashMap<(KeySet, KeySet, Role, bool, bool), usize> = HashMap::new();
        for (rule, (conditions, traits)) in rules.enumerate() {
            let wants: KeySet =
                conditions.iter().filter(|it| !it.negated).map(|it| it.key).collect();
            let keys: KeySet = conditions.iter().map(|it| it.key).collect();
            let (role, lenient) = (traits.role, !traits.only_blocks);
            let before_send = traits.gate <= Gate::RequestBody;
            let place = (wants, keys, role, lenient, before_send);
            let fresh = groups.len();
            let (wants, adds, at) = match places.get(&place) {
                Some(&at) => (wants, Adds::Anything, at),
                None if fresh < GROUPS_MAX => {
                    places.insert(place, fresh);
                    (wants, Adds::Known { keys, role, lenient, before_send }, fresh)
                }
                None => (KeySet::EMPTY, Adds::Anything, GROUPS_MAX),
            };
            if at >= groups.len() {
                groups.push(Group { wants, adds, words: vec![0; words.div_ceil(WORD)].into() });
            }
            if let Some(group) = groups.get_mut(at) {
                set(&mut group.words, rule / WORD);
            }
        }
        Self(groups.into())
    }
}

impl Adds {
    /// Whether rules like these have nothing to add to what is noted, and cannot be certain.
    fn is_exhausted(self, pending: KeySet, deferred: KeySet, noted: &Noted) -> bool {
        let Self::Known { keys, role, lenient, before_send } = self else { return false };
        let (pending, deferred) = (keys.and(pending), keys.and(deferred));
        if pending.is_empty() && deferred.is_empty() {
            return false;
        }
        match role {
            Role::Alert => noted.alerts_wait_for.holds(pending.union(deferred)),
            Role::Headers => noted.headers_pending.holds(pending),
            Role::Decide => {
                let undecided = &noted.undecided;
                noted.any
                    && (undecided.before_send || !before_send)
                    && (undecided.lenient || !lenient)
                    && (undecided.lenient_before_send || !(lenient && before_send))
                    && undecided.pending.holds(pending)
                    && noted.waits_for.holds(deferred)
            }
        }
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
        self.words = self.chosen(groups, |_| true);
    }

    /// Leaves out groups that have nothing to add any more.
    pub(super) fn narrow(
        &mut self,
        groups: &Groups,
        pending: KeySet,
        deferred: KeySet,
        noted: &Noted,
    ) {
        let left = self.chosen(groups, |adds| !adds.is_exhausted(pending, deferred, noted));
        self.words.iter_mut().zip(left).for_each(|(word, left)| *word &= left);
    }

    fn chosen(&self, groups: &Groups, takes: impl Fn(Adds) -> bool) -> Words {
        let mut words = Words::from_elem(0, self.blocks);
        for group in groups.0.iter().filter(|group| takes(group.adds)) {
            let wants = group.wants.and(self.keys);
            for (block, (all, one)) in words.iter_mut().zip(&group.words).enumerate() {
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
        words
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
