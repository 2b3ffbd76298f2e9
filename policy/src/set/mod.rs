//! For each match key, which rules each value makes true: the bit sets a verdict ANDs together.

mod bits;
mod interval;
mod text;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::tz::TimeZone;
use smallvec::SmallVec;

use crate::fact::{Key, KeyKind, Value};
use crate::pattern::{Folded, Pattern, fold, without_scheme};
use crate::rule::{Condition, Want};
use crate::window;

pub(crate) use bits::{Bits, Cursor};

use bits::Growing;
use interval::Intervals;
use text::Texts;

/// Rules in one word of a bit set.
pub(crate) const WORD: usize = 64;

/// A distinct value of a key: a place in [`KeyIndex::sets`].
pub(crate) type ValueId = u32;

/// The values that a fact matched. Most facts match one or two; a fact that matches more than
/// these many distinct values costs one allocation.
pub(crate) type Matched = SmallVec<[ValueId; 32]>;

/// The rules that want one value, and those that want it not.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    pub(crate) wanted: Bits,
    pub(crate) refused: Bits,
}

/// One key over all rules.
#[derive(Debug)]
pub(crate) struct KeyIndex {
    pub(crate) key: Key,
    /// Rules with a condition on this key. Dense: one bit for every rule.
    pub(crate) uses: Box<[u64]>,
    /// Those of them that are negated.
    pub(crate) negated: Box<[u64]>,
    sets: Box<[Sets]>,
    matcher: Matcher,
}

/// Both ends, included, and the value that they bound.
type NumberSpan = (u128, u128, ValueId);

/// Finds the values that a fact matches.
#[derive(Debug)]
enum Matcher {
    Text(Texts),
    /// Patterns that hold a scheme, and patterns that do not.
    Url {
        whole: Texts,
        bare: Texts,
    },
    Number(Intervals),
    Address {
        v4: Intervals,
        v6: Intervals,
    },
    Time(Vec<(TimeZone, Intervals)>),
}

impl KeyIndex {
    /// The conditions must be on `key` and come in the order of the rules.
    pub(crate) fn new<'r>(
        key: Key,
        words: usize,
        conditions: impl Iterator<Item = (usize, &'r Condition)>,
    ) -> Self {
        let mut building = Building::default();
        let (mut uses, mut negated) = (vec![0; words], vec![0; words]);
        for (rule, condition) in conditions {
            set_bit(&mut uses, rule);
            if condition.negated {
                set_bit(&mut negated, rule);
            }
            for test in &condition.tests {
                building.add(&test.want, rule, condition.negated);
            }
        }
        let finish = |(wanted, refused): (Growing, Growing)| Sets {
            wanted: wanted.finish(words),
            refused: refused.finish(words),
        };
        let sets = building.sets.into_iter().map(finish).collect();
        let matcher = matcher(key.kind(), building.values);
        Self { key, uses: uses.into(), negated: negated.into(), sets, matcher }
    }

    /// How many rules use this key.
    pub(crate) fn weight(&self) -> u32 {
        self.uses.iter().map(|word| word.count_ones()).sum()
    }

    pub(crate) fn sets(&self, value: ValueId) -> Option<&Sets> {
        self.sets.get(usize::try_from(value).ok()?)
    }

    /// The distinct values that match this fact; it must be of the key's kind.
    pub(crate) fn find(&self, value: Value<'_>, buffer: &mut Folded, matched: &mut Matched) {
        match (&self.matcher, value) {
            (Matcher::Text(texts), Value::Text(text)) => texts.find(fold(text, buffer), matched),
            (Matcher::Text(texts), Value::Texts(many)) => {
                many.iter().for_each(|text| texts.find(fold(text, buffer), matched));
            }
            (Matcher::Url { whole, bare }, Value::Text(text)) => {
                find_url(whole, bare, fold(text, buffer), matched);
            }
            (Matcher::Url { whole, bare }, Value::Texts(many)) => {
                many.iter().for_each(|text| find_url(whole, bare, fold(text, buffer), matched));
            }
            (Matcher::Number(spans), Value::Number(number)) => {
                spans.find(u128::from(number), matched);
            }
            (Matcher::Address { v4, v6 }, Value::Address(address)) => {
                match address.to_canonical() {
                    IpAddr::V4(address) => v4.find(u128::from(address.to_bits()), matched),
                    IpAddr::V6(address) => v6.find(address.to_bits(), matched),
                }
            }
            (Matcher::Time(zones), Value::Moment(moment)) => {
                for (zone, spans) in zones {
                    if let Some(now) = window::second_of_week(zone, moment) {
                        spans.find(u128::from(now), matched);
                    }
                }
            }
            _ => {}
        }
    }
}

fn find_url(whole: &Texts, bare: &Texts, url: &[u8], matched: &mut Matched) {
    whole.find(url, matched);
    bare.find(without_scheme(url), matched);
}

/// Adds a value unless it is there: one text may match a pattern in many places.
pub(crate) fn note(matched: &mut Matched, value: ValueId) {
    if !matched.contains(&value) {
        matched.push(value);
    }
}

pub(crate) fn set_bit(words: &mut [u64], rule: usize) {
    if let Some(word) = words.get_mut(rule / WORD) {
        *word |= 1 << (rule % WORD);
    }
}

/// The distinct values of one key while its rules are read.
#[derive(Default)]
struct Building {
    values: Vec<Want>,
    ids: HashMap<String, usize>,
    /// The rules that want each value, and those that refuse it.
    sets: Vec<(Growing, Growing)>,
}

impl Building {
    fn add(&mut self, want: &Want, rule: usize, negated: bool) {
        let id = *self.ids.entry(identity(want)).or_insert(self.values.len());
        if id == self.values.len() {
            self.values.push(want.clone());
            self.sets.push(<(Growing, Growing)>::default());
        }
        if let Some((wanted, refused)) = self.sets.get_mut(id) {
            let set = if negated { refused } else { wanted };
            set.add(rule);
        }
    }
}

/// A text that two wants share only if they match the same values.
fn identity(want: &Want) -> String {
    match want {
        Want::Text(pattern) => format!("{:?} {}", pattern.form, pattern.text),
        Want::Number { low, high } => format!("{low} {high}"),
        Want::Network(network) => network.to_string(),
        Want::Window(window) => {
            let zone = window.zone.iana_name().unwrap_or("UTC");
            format!("{} {} {} {zone}", window.days, window.from, window.to)
        }
    }
}

fn matcher(kind: KeyKind, values: Vec<Want>) -> Matcher {
    let numbered = (0..).zip(values);
    match kind {
        KeyKind::Text => Matcher::Text(numbered.filter_map(pattern).collect()),
        KeyKind::Url => {
            let (whole, bare) = numbered
                .filter_map(pattern)
                .partition::<Vec<_>, _>(|(_, pattern)| pattern.whole_url);
            Matcher::Url { whole: whole.into_iter().collect(), bare: bare.into_iter().collect() }
        }
        KeyKind::Number | KeyKind::Size => {
            Matcher::Number(Intervals::new(numbered.filter_map(|(id, want)| match want {
                Want::Number { low, high } => Some((u128::from(low), u128::from(high), id)),
                Want::Text(_) | Want::Network(_) | Want::Window(_) => None,
            })))
        }
        KeyKind::Address => addresses(numbered),
        KeyKind::Time => times(numbered),
    }
}

fn pattern((id, want): (ValueId, Want)) -> Option<(ValueId, Pattern)> {
    match want {
        Want::Text(pattern) => Some((id, pattern)),
        Want::Number { .. } | Want::Network(_) | Want::Window(_) => None,
    }
}

fn addresses(values: impl Iterator<Item = (ValueId, Want)>) -> Matcher {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (id, want) in values {
        match want {
            Want::Network(IpNet::V4(net)) => v4.push((
                u128::from(net.network().to_bits()),
                u128::from(net.broadcast().to_bits()),
                id,
            )),
            Want::Network(IpNet::V6(net)) => {
                v6.push((net.network().to_bits(), net.broadcast().to_bits(), id));
            }
            Want::Text(_) | Want::Number { .. } | Want::Window(_) => {}
        }
    }
    Matcher::Address { v4: Intervals::new(v4), v6: Intervals::new(v6) }
}

fn times(values: impl Iterator<Item = (ValueId, Want)>) -> Matcher {
    let mut zones: Vec<(TimeZone, Vec<NumberSpan>)> = Vec::new();
    for (id, want) in values {
        let Want::Window(window) = want else {
            continue;
        };
        let spans = window.spans().into_iter();
        let spans = spans.map(|(from, to)| (u128::from(from), u128::from(to) - 1, id));
        match zones.iter_mut().find(|(zone, _)| *zone == window.zone) {
            Some((_, all)) => all.extend(spans),
            None => zones.push((window.zone, spans.collect())),
        }
    }
    let indexed = zones.into_iter().map(|(zone, spans)| (zone, Intervals::new(spans)));
    Matcher::Time(indexed.collect())
}

/// Hashes short texts fast. Only the author of a policy chooses what is stored, so nobody else
/// can make its entries collide.
#[derive(Default)]
pub(crate) struct TextHasher(u64);

pub(crate) type TextMap = HashMap<Box<[u8]>, ValueId, BuildHasherDefault<TextHasher>>;

impl TextHasher {
    fn mix(&mut self, word: u64) {
        // The multiplier of FxHash: odd, with its bits spread out.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for TextHasher {
    fn finish(&self) -> u64 {
        // Multiplication moves entropy upwards; tables take the low bits.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((chunk, tail)) = rest.split_first_chunk() {
            self.mix(u64::from_le_bytes(*chunk));
            rest = tail;
        }
        // What is left over, in one word: some bytes of it twice where that is quicker.
        let word = match (bytes.last_chunk(), rest.first_chunk(), rest.last_chunk()) {
            _ if rest.is_empty() => return,
            (Some(last), ..) => u64::from_le_bytes(*last),
            (None, Some(first), Some(last)) => {
                u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
            }
            _ => rest.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)),
        };
        self.mix(word);
    }

    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }
}
