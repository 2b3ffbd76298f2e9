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
pub(super) struct Groups {
    all: Box<[Group]>,
    /// Of each group in turn: the words that hold a rule of it.
    words: Box<[u64]>,
    /// For each key: the places of the groups that want a value of it.
    wanting: [Box<[usize]>; Key::COUNT],
    /// For each key: how many groups use it.
    users: [u16; Key::COUNT],
}

#[derive(Debug)]
struct Group {
    /// All that its rules use.
    keys: KeySet,
    wants: KeySet,
    adds: Adds,
}

/// What an undecided rule can add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adds {
    Known {
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
        let blocks = words.div_ceil(WORD);
        let (mut groups, mut words): (Vec<Group>, Vec<u64>) = (Vec::new(), Vec::new());
        let mut places: HashMap<(KeySet, KeySet, Role, bool, bool), usize> = HashMap::new();
        for (rule, (conditions, traits)) in rules.enumerate() {
            let wants: KeySet =
                conditions.iter().filter(|it| !it.negated).map(|it| it.key).collect();
            let keys: KeySet = conditions.iter().map(|it| it.key).collect();
            let (role, lenient) = (traits.role, !traits.only_blocks);
            let before_send = traits.gate <= Gate::RequestBody;
            let place = (wants, keys, role, lenient, before_send);
            let known = places.get(&place).copied();
            let at = known.unwrap_or_else(|| groups.len().min(GROUPS_MAX));
            if known.is_none() && at < GROUPS_MAX {
                places.insert(place, at);
            }
            if at == groups.len() {
                let adds = Adds::Known { role, lenient, before_send };
                words.resize(words.len() + blocks, 0);
                groups.push(if at < GROUPS_MAX {
                    Group { keys, wants, adds }
                } else {
                    let (keys, wants) = (Key::ALL.into_iter().collect(), KeySet::EMPTY);
                    Group { keys, wants, adds: Adds::Anything }
                });
            }
            if let Some(block) = words.get_mut(at * blocks + rule / WORD / WORD) {
                *block |= 1 << (rule / WORD % WORD);
            }
        }
        let with = |takes: &dyn Fn(&Group) -> bool| -> Box<[usize]> {
            let all = groups.iter().enumerate();
            all.filter(|(_, group)| takes(group)).map(|(place, _)| place).collect()
        };
        let wanting = Key::ALL.map(|key| with(&|group| group.wants.contains(key)));
        let users = Key::ALL.map(|key| with(&|group| group.keys.contains(key)).len());
        let users = users.map(|users| u16::try_from(users).unwrap_or(u16::MAX));
        Self { all: groups.into(), words: words.into(), wanting, users }
    }
}

impl Adds {
    /// Whether rules like these, which wait for these facts, have nothing to add to what is noted, and
    /// cannot be certain.
    fn is_exhausted(self, pending: KeySet, deferred: KeySet, noted: &Noted) -> bool {
        let Self::Known { role, lenient, before_send } = self else { return false };
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

/// Words to look at, in order: first keys are told, then words are asked for.
pub(super) struct Candidates<'g> {
    groups: &'g Groups,
    /// Blocks of 64 words that the policy fills.
    blocks: usize,
    /// Of each group in turn: the words where every known key that it wants matched.
    left: SmallVec<[u64; 128]>,
    /// For each key: how many groups use it that have a word left.
    users: [u16; Key::COUNT],
    words: Words,
    /// The block that the next word is looked for in.
    block: usize,
}

impl<'g> Candidates<'g> {
    /// All words of a policy that fills so many of them.
    pub(super) fn new(groups: &'g Groups, words: usize) -> Self {
        let left = SmallVec::from_slice(&groups.words);
        let blocks = words.div_ceil(WORD);
        let words = Words::from_elem(0, blocks);
        Self { groups, blocks, left, users: groups.users, words, block: 0 }
    }

    /// Whether a rule that may still be possible uses this key.
    pub(super) fn needs(&self, key: Key) -> bool {
        self.users.get(key as usize).is_some_and(|&users| users > 0)
    }

    /// This key is known, and rules that want a value it matched are in these sets.
    pub(super) fn known<'b>(&mut self, key: Key, matched: impl Iterator<Item = &'b Bits>) {
        let wanting = self.groups.wanting.get(key as usize).map_or(&[][..], |all| all);
        if wanting.is_empty() {
            return;
        }
        self.words.fill(0);
        matched.for_each(|rules| rules.mark(&mut self.words));
        for &place in wanting {
            let begin = place * self.blocks;
            let left = self.left.get_mut(begin..begin + self.blocks).unwrap_or_default();
            let (mut before, mut after) = (0, 0);
            for (left, words) in left.iter_mut().zip(&self.words) {
                before |= *left;
                *left &= words;
                after |= *left;
            }
            if before != 0 && after == 0 {
                self.lose(place);
            }
        }
    }

    /// No rule of this group is possible.
    fn lose(&mut self, place: usize) {
        let keys = self.groups.all.get(place).map_or(KeySet::EMPTY, |group| group.keys);
        for key in keys.iter() {
            if let Some(users) = self.users.get_mut(key as usize) {
                *users = users.saturating_sub(1);
            }
        }
    }

    /// Chooses the words that any group has left.
    pub(super) fn choose(&mut self) {
        self.words = self.chosen(|_| true);
    }

    /// Leaves out groups that have nothing to add any more.
    pub(super) fn narrow(&mut self, pending: KeySet, deferred: KeySet, noted: &Noted) {
        let left = self.chosen(|group| {
            let (pending, deferred) = (group.keys.and(pending), group.keys.and(deferred));
            !group.adds.is_exhausted(pending, deferred, noted)
        });
        self.words.iter_mut().zip(left).for_each(|(word, left)| *word &= left);
    }

    fn chosen(&self, takes: impl Fn(&Group) -> bool) -> Words {
        let mut words = Words::from_elem(0, self.blocks);
        let mut rest = &*self.left;
        for group in &self.groups.all {
            let Some((left, others)) = rest.split_at_checked(self.blocks) else { break };
            if takes(group) {
                words.iter_mut().zip(left).for_each(|(words, left)| *words |= left);
            }
            rest = others;
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
