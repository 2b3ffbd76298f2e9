//! The evaluator in force: 64 rules at a time, over the bit sets of what is known.
//!
//! 1. Each key that some rule uses is put with its like: known (with the values it matched),
//!    pending, deferred, unobtainable.
//! 2. For each word of 64 rules that can hold a possible one, the known keys leave those that are.
//! 3. Of these, those that need no undecided key are certain; the first certain one that decides
//!    ends the evaluation, and what stands above it, undecided, says what to wait for.

use smallvec::SmallVec;

use super::candidates::{Candidates, Groups, Noted};
use super::{Findings, Role, State, Stop, Traits, Undecided, state};
use crate::fact::{Fact, Facts, Gate, Key, KeyKind, KeySet};
use crate::pattern::Folded;
use crate::rule::Condition;
use crate::set::{Cursor, KeyIndex, Matched, Sets, WORD, set_bit};
use crate::verdict::RuleIndex;

/// Times that the words left to look at are narrowed: what undecided rules add is mostly said by the
/// first few of them.
const NARROWINGS_MAX: usize = 8;

/// Rules made ready. Bit `n % 64` of word `n / 64` is rule `n` in every set.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Those that some rule uses. The most used first: they leave the fewest rules possible, and those
    /// may not need the costly ones, which come last.
    keys: Box<[KeyIndex]>,
    words: Box<[Masks]>,
    traits: Box<[Traits]>,
    groups: Groups,
    default_blocks: bool,
}

/// What the 64 rules of a word are.
#[derive(Clone, Copy, Debug, Default)]
struct Masks {
    all: u64,
    alert: u64,
    headers: u64,
    decide: u64,
    over_unobtainable: u64,
    lenient: u64,
    before_send: u64,
}

/// One of a known key's matched values: how far its sets have been read.
struct Cursors<'c> {
    wanted: Cursor<'c>,
    refused: Cursor<'c>,
}

/// The keys in use, by the state of their facts.
#[derive(Default)]
struct Sorted<'c> {
    /// Each with the end of its cursors, which begin at the end of the one before.
    known: SmallVec<[(&'c KeyIndex, usize); Key::COUNT]>,
    cursors: SmallVec<[Cursors<'c>; 32]>,
    pending: SmallVec<[&'c KeyIndex; Key::COUNT]>,
    deferred: SmallVec<[&'c KeyIndex; Key::COUNT]>,
    unobtainable: SmallVec<[&'c KeyIndex; Key::COUNT]>,
    pending_keys: KeySet,
    deferred_keys: KeySet,
}

/// One word of the evaluation: which rules are possible, and which of these are open.
#[derive(Clone, Copy)]
struct Possible {
    rules: u64,
    pending: u64,
    deferred: u64,
    unobtainable: u64,
}

impl Compiled {
    pub(crate) fn new(rules: &[(&[Condition], Traits)], default_blocks: bool) -> Self {
        let words = rules.len().div_ceil(WORD);
        let mut by_key: Vec<Vec<(usize, &Condition)>> = vec![Vec::new(); Key::COUNT];
        for (rule, (conditions, _)) in rules.iter().enumerate() {
            for condition in *conditions {
                if let Some(uses) = by_key.get_mut(condition.key as usize) {
                    uses.push((rule, condition));
                }
            }
        }
        let mut keys: Vec<KeyIndex> = Key::ALL
            .into_iter()
            .zip(by_key)
            .filter(|(_, uses)| !uses.is_empty())
            .map(|(key, uses)| KeyIndex::new(key, words, uses.into_iter()))
            .collect();
        keys.sort_by_key(|index| (is_costly(index.key), std::cmp::Reverse(index.weight())));
        let traits: Box<[Traits]> = rules.iter().map(|(_, traits)| *traits).collect();
        let groups = Groups::new(rules.iter().copied(), words);
        Self { keys: keys.into(), words: masks(&traits), traits, groups, default_blocks }
    }

    /// Judges the rules in order.
    pub(crate) fn evaluate(&self, gate: Gate, facts: &Facts<'_>) -> Findings {
        let mut sorted = Sorted::default();
        let mut candidates = Candidates::new(&self.groups, self.words.len());
        self.sort(gate, facts, &mut sorted, &mut candidates);
        candidates.choose();
        let mut findings = Findings {
            stop: Stop::Default,
            alerts: SmallVec::new(),
            headers: SmallVec::new(),
            headers_pending: KeySet::EMPTY,
            waits_for: KeySet::EMPTY,
            alerts_wait_for: KeySet::EMPTY,
        };
        let mut undecided = Undecided::default();
        let mut any = false;
        let mut narrowings = 0;
        while let Some(word) = candidates.next_word() {
            let Some(masks) = self.words.get(word) else {
                break;
            };
            let Some(possible) = sorted.possible(word, masks) else {
                continue;
            };
            let open = possible.pending | possible.deferred;
            let certain = possible.rules & !open & masks.decide;
            let above = certain.wrapping_sub(1) & !certain;
            let certain_above = possible.rules & !open & above;
            push_all(&mut findings.alerts, word, certain_above & masks.alert);
            push_all(&mut findings.headers, word, certain_above & masks.headers);
            let open_above = possible.rules & open & above;
            if open_above != 0 {
                let before = noted(&findings, undecided, any);
                let open_deciding = open_above & masks.decide;
                any |= open_deciding != 0;
                let before_send = open_deciding & masks.before_send;
                undecided.before_send |= before_send != 0;
                undecided.lenient |= open_deciding & masks.lenient != 0;
                undecided.lenient_before_send |= before_send & masks.lenient != 0;
                sorted.waits(word, open_above, masks, &mut findings, &mut undecided);
                let after = noted(&findings, undecided, any);
                if after != before && narrowings < NARROWINGS_MAX {
                    narrowings += 1;
                    let (pending, deferred) = (sorted.pending_keys, sorted.deferred_keys);
                    candidates.narrow(pending, deferred, &after);
                }
            }
            if certain != 0 {
                findings.stop = self.stop(word, certain, possible, &sorted, undecided, gate);
                return findings;
            }
        }
        findings.stop = undecided.stop_at_default(self.default_blocks, any);
        findings
    }

    /// Whether these two facts of a key fulfil different conditions.
    pub(crate) fn tells_apart(&self, key: Key, one: Fact<'_>, other: Fact<'_>) -> bool {
        let Some(index) = self.keys.iter().find(|index| index.key == key) else { return false };
        let matched = |fact| {
            let mut matched = Matched::new();
            match state(key, fact, key.gate()) {
                State::Known(value) => index.find(value, &mut Folded::new(), &mut matched),
                State::Inapplicable => {}
                State::Pending | State::Deferred | State::Unobtainable(_) => return None,
            }
            matched.sort_unstable();
            Some(matched)
        };
        match (matched(one), matched(other)) {
            (Some(one), Some(other)) => one != other,
            _ => one != other,
        }
    }

    fn sort<'c>(
        &'c self,
        gate: Gate,
        facts: &Facts<'_>,
        sorted: &mut Sorted<'c>,
        candidates: &mut Candidates<'_>,
    ) {
        let mut matched = Matched::new();
        let mut buffer = Folded::new();
        for index in &self.keys {
            if !candidates.needs(index.key) {
                continue;
            }
            match state(index.key, facts.fact(index.key), gate) {
                State::Known(value) => {
                    matched.clear();
                    index.find(value, &mut buffer, &mut matched);
                    let sets = || matched.iter().filter_map(|&value| index.sets(value));
                    sets().for_each(|sets| sorted.cursors.push(Cursors::of(sets)));
                    sorted.known.push((index, sorted.cursors.len()));
                    candidates.known(index.key, sets().map(|sets| &sets.wanted));
                }
                // As a fact that matches no value: false, and true under `not`.
                State::Inapplicable => {
                    sorted.known.push((index, sorted.cursors.len()));
                    candidates.known(index.key, std::iter::empty());
                }
                State::Pending => {
                    sorted.pending.push(index);
                    sorted.pending_keys.insert(index.key);
                }
                State::Deferred => {
                    sorted.deferred.push(index);
                    sorted.deferred_keys.insert(index.key);
                }
                State::Unobtainable(_) => sorted.unobtainable.push(index),
            }
        }
    }

    fn stop(
        &self,
        word: usize,
        certain: u64,
        possible: Possible,
        sorted: &Sorted<'_>,
        undecided: Undecided,
        gate: Gate,
    ) -> Stop {
        let bit = certain & certain.wrapping_neg();
        let place = word * WORD + bit.trailing_zeros() as usize;
        let Some(&traits) = self.traits.get(place) else {
            return Stop::Default;
        };
        let key = (possible.unobtainable & bit != 0)
            .then(|| {
                let using =
                    sorted.unobtainable.iter().filter(|index| at(&index.uses, word) & bit != 0);
                using.map(|index| index.key).min()
            })
            .flatten();
        undecided.stop(RuleIndex(u32::try_from(place).unwrap_or(u32::MAX)), traits, key, gate)
    }
}

impl<'c> Cursors<'c> {
    fn of(sets: &'c Sets) -> Self {
        Self { wanted: sets.wanted.cursor(), refused: sets.refused.cursor() }
    }
}

impl Sorted<'_> {
    /// The rules of this word that the known facts leave, if any.
    fn possible(&mut self, word: usize, masks: &Masks) -> Option<Possible> {
        let mut rules = masks.all;
        let mut begin = 0;
        for &(index, end) in &self.known {
            let uses = at(&index.uses, word);
            if uses & rules != 0 {
                let cursors = self.cursors.get_mut(begin..end).unwrap_or_default();
                rules &= leaves(index, word, cursors);
                if rules == 0 {
                    return None;
                }
            }
            begin = end;
        }
        let union = |keys: &[&KeyIndex]| keys.iter().fold(0, |set, key| set | at(&key.uses, word));
        let unobtainable = union(&self.unobtainable);
        rules &= !unobtainable | masks.over_unobtainable;
        let (pending, deferred) = (union(&self.pending), union(&self.deferred));
        (rules != 0).then_some(Possible { rules, pending, deferred, unobtainable })
    }

    /// Notes which keys the open rules of this word wait for.
    fn waits(
        &self,
        word: usize,
        open: u64,
        masks: &Masks,
        findings: &mut Findings,
        undecided: &mut Undecided,
    ) {
        let either = self.pending_keys.union(self.deferred_keys);
        // In a large policy most words have nothing new to say.
        let noted = undecided.pending.union(findings.waits_for) == either;
        let deciding = if noted { 0 } else { open & masks.decide };
        let noted = findings.alerts_wait_for == either;
        let alerts = if noted { 0 } else { open & masks.alert };
        let noted = findings.headers_pending == self.pending_keys;
        let headers = if noted { 0 } else { open & masks.headers };
        if deciding | alerts | headers == 0 {
            return;
        }
        for index in &self.pending {
            let uses = at(&index.uses, word);
            insert_if(&mut undecided.pending, uses & deciding, index.key);
            insert_if(&mut findings.alerts_wait_for, uses & alerts, index.key);
            insert_if(&mut findings.headers_pending, uses & headers, index.key);
        }
        for index in &self.deferred {
            let uses = at(&index.uses, word);
            insert_if(&mut findings.waits_for, uses & deciding, index.key);
            insert_if(&mut findings.alerts_wait_for, uses & alerts, index.key);
        }
    }
}

fn noted(findings: &Findings, undecided: Undecided, any: bool) -> Noted {
    Noted {
        any,
        undecided,
        waits_for: findings.waits_for,
        alerts_wait_for: findings.alerts_wait_for,
        headers_pending: findings.headers_pending,
    }
}

/// The rules of this word that a key leaves possible whose fact matched these values.
fn leaves(index: &KeyIndex, word: usize, cursors: &mut [Cursors<'_>]) -> u64 {
    let (mut wanted, mut refused) = (0, 0);
    for cursor in cursors {
        wanted |= cursor.wanted.read(word);
        refused |= cursor.refused.read(word);
    }
    !at(&index.uses, word) | wanted | (at(&index.negated, word) & !refused)
}

/// Whether a key's value takes longer to look up than several others': a clock and a calendar, a long
/// text searched throughout.
fn is_costly(key: Key) -> bool {
    matches!(key.kind(), KeyKind::Time | KeyKind::Url)
}

fn insert_if(keys: &mut KeySet, rules: u64, key: Key) {
    if rules != 0 {
        keys.insert(key);
    }
}

fn push_all(rules: &mut SmallVec<[RuleIndex; 4]>, word: usize, mut bits: u64) {
    while bits != 0 {
        let place = word * WORD + bits.trailing_zeros() as usize;
        rules.push(RuleIndex(u32::try_from(place).unwrap_or(u32::MAX)));
        bits &= bits - 1;
    }
}

fn at(words: &[u64], word: usize) -> u64 {
    words.get(word).copied().unwrap_or(0)
}

fn masks(traits: &[Traits]) -> Box<[Masks]> {
    let words = traits.len().div_ceil(WORD);
    let set = |holds: &dyn Fn(&Traits) -> bool| {
        let mut set = vec![0; words];
        for (rule, _) in traits.iter().enumerate().filter(|(_, traits)| holds(traits)) {
            set_bit(&mut set, rule);
        }
        set
    };
    let all = set(&|_| true);
    let alert = set(&|traits| traits.role == Role::Alert);
    let headers = set(&|traits| traits.role == Role::Headers);
    let decide = set(&|traits| traits.role == Role::Decide);
    let over = set(&|traits| traits.over_unobtainable);
    let lenient = set(&|traits| !traits.only_blocks);
    let before_send = set(&|traits| traits.gate <= Gate::RequestBody);
    (0..words)
        .map(|word| Masks {
            all: at(&all, word),
            alert: at(&alert, word),
            headers: at(&headers, word),
            decide: at(&decide, word),
            over_unobtainable: at(&over, word),
            lenient: at(&lenient, word),
            before_send: at(&before_send, word),
        })
        .collect()
}
